//! The plan of what a command needs that is to run in a target's environment.

use super::facts::{Facts, Setting};
use super::graph::Plan;
use super::images::Planner;
use crate::model::action::{JobStyle, ProcessAction};
use crate::recipe::cargo::rust_tools;
use crate::recipe::environment::environment;
use crate::toolchain::description::Description;

/// An environment that is still a plan.
pub struct PlannedEnvironment {
    /// What makes its folders.
    pub plan: Plan,
    /// Variables, tools and mounts; no commands.
    pub action: ProcessAction,
    /// Units whose outputs are mounted, as the action's mounts name them.
    pub needs: Vec<usize>,
}

/// The environment of `target` with every library of the project.
pub fn plan(facts: &Facts, target: &'static Description) -> PlannedEnvironment {
    let mut planner = Planner::new(facts);
    let libraries: Vec<String> = facts.project.libraries.keys().cloned().collect();
    let tools: Vec<String> = facts.build_systems.keys().cloned().collect();
    let mut mounts = planner.compile_mounts(&Setting { target, suite: None }, &libraries, &tools);
    let rust = facts.rust.is_some().then(|| planner.mount_rust(&mut mounts, target));
    let names: Vec<String> = mounts.mounts.keys().cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cross = facts.cross(target, &names);
    let mut environment = environment(&cross);
    if let Some(rustup) = rust {
        rust_tools(&cross, rustup, &mut environment.tools);
        environment.variables.insert("RUSTC".into(), "@{tools}/bin/rustc".into());
    }
    let variables = &mut environment.variables;
    variables.insert("CARGO_BUILD_TARGET".into(), target.triple.clone());
    if let Some(runner) = &facts.overrides(target).runner {
        let upper = target.triple.replace('-', "_").to_uppercase();
        let runner = match runner.as_str() {
            "qemu-user" => &target.emulator,
            runner => runner,
        };
        if runner != "native" {
            variables.insert(format!("CARGO_TARGET_{upper}_RUNNER"), runner.to_owned());
        }
    }
    let action = ProcessAction {
        commands: Vec::new(),
        environment: environment.variables,
        folder: ".".into(),
        mounts: mounts.mounts,
        tools: environment.tools,
        sources: None,
        state: format!("env-{}", target.platform.slug()),
        jobs: JobStyle::Single,
        probes: false,
        product: None,
    };
    PlannedEnvironment { plan: planner.plan, action, needs: mounts.needs }
}
