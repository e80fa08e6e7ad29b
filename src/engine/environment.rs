//! A command in a target's environment: what compile units see, for a command of the user's
//! that sees the machine as well.

use std::collections::BTreeMap;
use std::fs;

use super::build::Prepared;
use super::execute::{text, write_tool};
use super::report::BuildError;
use super::schedule;
use crate::machine::process::Process;
use crate::model::Finding;
use crate::model::action::Mount;
use crate::plan::environment;
use crate::toolchain::description::{Description, all};

/// Variables that stay the user's.
const OWN: [&str; 5] = ["HOME", "LC_ALL", "PATH", "TMPDIR", "TZ"];

/// The target of that triple or platform, where the project builds for it.
pub fn target(prepared: &Prepared, name: &str) -> Result<&'static Description, BuildError> {
    let named = |target: &&&'static Description| {
        target.triple == name || target.platform.to_string() == name || target.gnu_triple == name
    };
    let found = prepared.facts.targets.iter().find(named).copied();
    found.ok_or_else(|| {
        let known: Vec<&str> =
            prepared.facts.targets.iter().map(|target| target.triple.as_str()).collect();
        let exists = all().iter().any(|target| named(&&target));
        let message = if exists {
            format!("the project does not build for `{name}`")
        } else {
            format!("there is no target `{name}`")
        };
        let finding = Finding::new("unknown-target", message);
        BuildError::Findings(vec![finding.help(format!("known here: {}", known.join(", ")))])
    })
}

impl Prepared {
    /// Makes everything that the environment names, and returns the variables that it sets.
    pub fn environment(
        &self,
        target: &'static Description,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        if self.facts.llvm.packages.is_empty() {
            let finding = Finding::new("no-environment", "nothing of the project is compiled")
                .help("a library with sources, or a binary of Rust, C or cgo, brings compilers");
            return Err(BuildError::Findings(vec![finding]));
        }
        let planned = environment::plan(&self.facts, target);
        // What is mounted is used by whoever asked, after this process.
        let is_whole = |outcome: &schedule::Outcome| {
            let mut whole = true;
            for need in &planned.needs {
                if let Some(record) = outcome.records.get(need) {
                    let plan = &planned.plan;
                    whole &= schedule::prove(&self.engine, plan, *need, record, false)?;
                }
            }
            Ok(whole)
        };
        let reads = |unit: usize| planned.needs.contains(&unit);
        let purpose =
            schedule::Purpose { tell: &schedule::untold, reads: &reads, is_whole: &is_whole };
        let outcome = schedule::run_for(&self.engine, &planned.plan, purpose);
        if outcome.interrupted {
            return Err(BuildError::Interrupted);
        }
        if !outcome.failures.is_empty() {
            return Err(BuildError::Units(outcome.failures));
        }
        let state = self.engine.project_state.join(&planned.action.state);
        let mut places: BTreeMap<String, String> = BTreeMap::new();
        let mut place = |name: &str, path: &std::path::Path| {
            places.insert(format!("@{{{name}}}"), path.to_string_lossy().into_owned());
        };
        for (name, mount) in &planned.action.mounts {
            match mount {
                Mount::Need { need } => {
                    let record = &outcome.records[&planned.needs[*need]];
                    place(name, &self.engine.store.tree_path(&record.output));
                }
                Mount::Machine { name: machine, .. } => {
                    place(name, &planned.plan.machine_folders[machine]);
                }
            }
        }
        place("src", &self.engine.project);
        for name in ["build", "tmp", "tools"] {
            let folder = state.join(name);
            fs::create_dir_all(&folder).map_err(|error| BuildError::Output(text(error)))?;
            place(name, &folder);
        }
        let fill = |template: &str| {
            let start = template.to_owned();
            places.iter().fold(start, |filled, (name, path)| filled.replace(name, path))
        };
        for (path, content) in &planned.action.tools {
            write_tool(&state.join("tools").join(path), &fill(content))
                .map_err(BuildError::Output)?;
        }
        let own = &self.engine.environment.variables;
        let mut variables = BTreeMap::new();
        for (name, value) in &planned.action.environment {
            if !OWN.contains(&name.as_str()) {
                variables.insert(name.clone(), fill(value));
            }
        }
        let path = own.get("PATH").map_or("/usr/bin:/bin", String::as_str);
        variables.insert("PATH".into(), format!("{}:{path}", fill("@{tools}/bin")));
        Ok(variables)
    }

    /// The process of a command in the environment of a target, over the user's own.
    pub fn command(
        &self,
        target: &'static Description,
        command: &[String],
    ) -> Result<Process, BuildError> {
        let mut variables = self.engine.environment.variables.clone();
        variables.extend(self.environment(target)?);
        let (program, arguments) = match command {
            [program, arguments @ ..] => (program, arguments),
            [] => return Err(BuildError::Output("there is no command".into())),
        };
        let place = if program.contains('/') {
            program.into()
        } else {
            let paths = variables.get("PATH").map_or("", String::as_str);
            let folders = paths.split(':').map(|folder| std::path::Path::new(folder).join(program));
            folders.into_iter().find(|path| path.is_file()).ok_or_else(|| {
                BuildError::Output(format!("there is no program `{program}` on PATH"))
            })?
        };
        let mut process = Process::new(place).args(arguments.iter().cloned());
        process.environment = variables;
        Ok(process)
    }
}
