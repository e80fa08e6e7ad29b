//! Plain C and C++ programs: a list of sources, one compiler call each, one link.

use std::collections::BTreeMap;

use super::cargo::shell;
use super::environment::{Cross, environment};
use crate::config::Strip;
use crate::model::action::{JobStyle, Mount, ProcessAction, SourceReference};

/// What is compiled.
#[derive(Clone, Debug)]
pub struct C<'a> {
    /// Name of the program.
    pub program: &'a str,
    /// Whether the sources are C++.
    pub cxx: bool,
    /// Sources, relative to the project, sorted.
    pub files: &'a [String],
    /// Compiler flags.
    pub flags: Vec<String>,
    /// Linker flags.
    pub ldflags: &'a [String],
    /// Folders for `-I`, relative to the project.
    pub include: &'a [String],
    /// What is removed from the program.
    pub strip: Strip,
    /// Sources.
    pub sources: SourceReference,
    /// Name of the compiler state.
    pub state: String,
}

/// The action that leaves `bin/<program>`.
pub fn build(cross: &Cross<'_>, c: &C<'_>, mounts: BTreeMap<String, Mount>) -> ProcessAction {
    let environment = environment(cross);
    let name = if c.cxx { "c++" } else { "cc" };
    let compiler = format!("@{{tools}}/bin/{}-{name}", cross.target.gnu_triple);
    let mut commands =
        vec![shell("rm -rf '@{build}/objects' && mkdir -p '@{build}/objects' '@{out}/bin'")];
    let mut objects = Vec::new();
    for (index, file) in c.files.iter().enumerate() {
        let object = format!("@{{build}}/objects/{index}.o");
        let mut command = vec![compiler.clone(), "-O2".into(), "-fPIE".into()];
        if c.strip != Strip::All {
            command.push("-g".into());
        }
        command.extend(c.flags.iter().cloned());
        command.extend(c.include.iter().map(|folder| format!("-I{folder}")));
        command.extend(["-c".into(), file.clone(), "-o".into(), object.clone()]);
        commands.push(command);
        objects.push(object);
    }
    let mut link = vec![compiler, "-pie".into()];
    match c.strip {
        Strip::All => link.push("-s".into()),
        Strip::Debug => link.push("-Wl,--strip-debug".into()),
        Strip::None => {}
    }
    // Flags such as -pthread are for both steps.
    link.extend(c.flags.iter().cloned());
    link.extend(objects);
    link.extend(["-o".into(), format!("@{{out}}/bin/{}", c.program)]);
    link.extend(c.ldflags.iter().cloned());
    commands.push(link);
    ProcessAction {
        commands,
        environment: environment.variables,
        probes: false,
        product: None,
        folder: "@{src}".into(),
        mounts,
        tools: environment.tools,
        sources: Some(c.sources.clone()),
        state: c.state.clone(),
        jobs: JobStyle::Single,
    }
}
