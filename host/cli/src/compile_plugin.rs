//! `floodmark compile-plugin`: the process in which another `floodmark` compiles a plugin. It is not for people.

use std::process::ExitCode;

use clap::Args;

use floodmark_engine::edge::compile_child;

/// Compiles a plugin for another process of this command
#[derive(Debug, Args)]
pub struct CompilePluginArguments {
    /// What the other process wants
    #[arg(value_name = "NUMBER")]
    order: Vec<String>,
}

/// Runs the command.
#[must_use]
pub fn compile_plugin(arguments: &CompilePluginArguments) -> ExitCode {
    ExitCode::from(compile_child::serve(&arguments.order))
}
