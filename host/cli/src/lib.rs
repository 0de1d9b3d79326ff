//! The command line: one file per command.
//!
//! Results go to standard output, everything else to standard error. Commands only parse arguments and print; the work
//! is done in other modules.

pub mod build;
pub mod check;
pub mod checkpoint;
pub mod compile_plugin;
pub mod crash_test;
pub mod dead_letters;
pub mod job;
pub mod new;
pub mod replay;
pub mod rescale;
pub mod retry;
pub mod rollback;
pub mod run;
pub mod savepoint;
pub mod state;
pub mod status;
pub mod stop;
pub mod swap;
pub mod test;
pub mod vectors;

mod answering;
mod building;
mod escape;
mod failure;
mod hooks;
mod pipeline;
mod place;
mod print;
mod profile;
mod progress;
mod table;
mod terminal;
mod typed;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::CommandError;

use floodmark_checkpoint::crash::{self, CrashAt};
use floodmark_engine::edge::{compile_program, open_files};

const EXIT_CODES: &str = "\
Exit codes:
  0  the job is finished, or was stopped as asked, with a checkpoint
  1  an operator failed, or floodmark itself
  2  the command line or the pipeline file is wrong
  3  a plugin cannot be built, loaded or opened
  4  the data folder or its checkpoints cannot be used
  5  a source or a sink cannot be read or written
  6  `state get`: the key has no value
  7  the job was stopped as asked, but a plugin did not return: without a last checkpoint
  8  `state migrate`: something could not be migrated
130  asked twice to stop, or before the job ran: ended at once, without a checkpoint;
      `swap`: cancelled";

const FIRST_STEPS: &str = "\
First steps:
  floodmark check PIPELINE                     check it, and show what a run would do
  floodmark run PIPELINE                       run it, or resume after a stop or a crash
  floodmark status PIPELINE                    show its state, speed and uptime
  floodmark stop PIPELINE                      stop it with a checkpoint
  floodmark checkpoint list --pipeline FILE    list the checkpoints of a job
  floodmark new --language python NAME         create an operator of your own, in one of five languages
  floodmark test DIR                           run the test vectors of a plugin

A pipeline is a TOML file that names sources, operators and sinks; `plugins/word-count/pipeline.toml` is one.";

/// Runs stream pipelines of sandboxed WebAssembly plugins, exactly once.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = FIRST_STEPS, after_long_help = long_help())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArguments),
    Check(check::CheckArguments),
    Status(status::StatusArguments),
    Stop(stop::StopArguments),
    Retry(retry::RetryArguments),
    Rescale(rescale::RescaleArguments),
    Rollback(rollback::RollbackArguments),
    Swap(swap::SwapArguments),
    Replay(replay::ReplayArguments),
    CrashTest(crash_test::CrashTestArguments),
    New(new::NewArguments),
    Build(build::BuildArguments),
    Test(test::TestArguments),
    #[command(hide = true)]
    CompilePlugin(compile_plugin::CompilePluginArguments),
    /// Copies checkpoints to files that can be moved to other machines
    #[command(subcommand)]
    Savepoint(savepoint::SavepointCommand),
    /// Shows, verifies, compares, deletes and compacts checkpoints and savepoints
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Lists the records that operators could not handle, and replays them
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Shows the state in a checkpoint or savepoint, creates savepoints from rows of state, and migrates state at once
    #[command(subcommand)]
    State(state::StateCommand),
}

const ENVIRONMENT: &str = "\
Environment:
  FLOODMARK_CACHE_DIR  the folder for compiled plugins of all jobs of this user, or `off` to keep none
                       [default: `~/.cache/floodmark`, or `floodmark` in `$XDG_CACHE_HOME`]; 1 GiB at most; may be
                       deleted at any time
  FLOODMARK_PASS_ENV   names of variables, separated by commas, that build tools and hooks get although they may be secret:
                       they do not get `FLOODMARK_TOKEN`, `AWS_*`, `AZURE_*` and `GOOGLE_*` otherwise
  FLOODMARK_TOKEN      the token that requests to `run --listen` must carry";

fn long_help() -> String {
    format!("{FIRST_STEPS}\n\n{EXIT_CODES}\n\n{ENVIRONMENT}")
}

/// A pipeline, and settings that override its file.
#[derive(Debug, clap::Args)]
pub struct PipelineArguments {
    /// The pipeline file, or a folder with a `pipeline.toml`
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Sets a field of the pipeline file, such as `source.text.path=/var/log/app.log`; may be given several times.
    /// Relative paths start in the current folder; those in the file start in the folder of the file
    #[arg(long = "set", value_name = "path.to.field=value")]
    pub sets: Vec<String>,
    /// Number of tasks of each node, short for `--set job.parallelism=N`
    #[arg(long, value_name = "N", value_parser = typed::tasks)]
    pub parallelism: Option<u16>,
}

impl PipelineArguments {
    /// The settings that override the pipeline file.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        let parallelism = self
            .parallelism
            .map(|tasks| format!("job.parallelism={tasks}"));
        self.sets.iter().cloned().chain(parallelism).collect()
    }
}

/// The program of this process, also if its file was replaced or removed since it started.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Arms the crash point that a crash test set in the environment, if any.
fn arm() -> Result<(), CommandError> {
    let Some(text) = std::env::var_os(crash::VARIABLE) else {
        return Ok(());
    };
    let at = text.to_string_lossy().parse::<CrashAt>();
    let usage = |reason| {
        CommandError::new(
            failure::EXIT_USAGE,
            format!("`{}`: {reason}", crash::VARIABLE),
        )
    };
    crash::arm(at.map_err(usage)?);
    Ok(())
}

/// Prints the help, or the mistake in the arguments; returns the exit code.
fn explain(error: &clap::Error) -> u8 {
    // Arguments may be names of files that a shell found, and the message quotes them. `clap` would print them as they are.
    let are_plain =
        std::env::args_os().all(|argument| escape::is_plain(&argument.to_string_lossy()));
    if are_plain || !error.use_stderr() {
        // A closed pipe is not an error.
        let _ = error.print();
    } else {
        terminal::warn(error.render().to_string().trim_end());
    }
    match error.use_stderr() {
        true => failure::EXIT_USAGE,
        false => 0,
    }
}

/// Runs the command from the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return ExitCode::from(explain(&error)),
    };
    compile_program::use_program(PathBuf::from(OWN_PROGRAM));
    // With the old limit most jobs run as well, and one that does not says which file it cannot open.
    let _ = open_files::raise_limit();
    if let Err(failure) = arm() {
        return failure.report();
    }
    let done = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => building::ending_tools(|| check::check(&arguments)),
        Command::Status(arguments) => status::status(&arguments),
        Command::Stop(arguments) => stop::stop(&arguments),
        Command::Retry(arguments) => retry::retry(&arguments),
        Command::Rescale(arguments) => rescale::rescale(&arguments),
        Command::Rollback(arguments) => rollback::rollback(&arguments),
        Command::Swap(arguments) => swap::swap(&arguments),
        Command::Replay(arguments) => building::ending_tools(|| replay::replay(&arguments)),
        Command::CrashTest(arguments) => crash_test::crash_test(&arguments),
        Command::New(arguments) => new::new(&arguments),
        Command::Build(arguments) => building::ending_tools(|| build::build(&arguments)),
        Command::Test(arguments) => building::ending_tools(|| test::test(&arguments)),
        Command::CompilePlugin(arguments) => return compile_plugin::compile_plugin(&arguments),
        Command::Savepoint(command) => savepoint::savepoint(&command),
        Command::Checkpoint(command) => checkpoint::checkpoint(&command),
        Command::DeadLetters(command) => dead_letters::dead_letters(&command),
        Command::State(command) => state::state(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
