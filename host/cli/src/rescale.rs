//! `floodmark rescale`: changes the number of tasks per node of a running job, in the same process.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::job::JobArguments;
use super::print::{print, print_json};
use super::progress::micros;
use super::typed::tasks;

/// Changes the parallelism of a running job at a checkpoint, without restarting its process
///
/// A later `run` keeps this number until `parallelism` in the pipeline file changes.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct RescaleArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Number of tasks per node, from 1 to `max-parallelism`
    #[arg(value_name = "N", required = true, value_parser = tasks)]
    parallelism: u16,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When no job runs there, or it was not rescaled: it then continues as before, unless the message says otherwise.
pub fn rescale(arguments: &RescaleArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let wish = json!({ "parallelism": arguments.parallelism });
    let done = place.call("/v1/rescale", &wish)?;
    if arguments.json {
        return print_json(&done);
    }
    let pause = Duration::from_micros(done["pause-us"].as_u64().unwrap_or_default());
    print(&format!(
        "rescaled from parallelism {} to {}; records paused for {}; checkpoint {}\n",
        done["from"],
        done["to"],
        micros(pause),
        done["checkpoint"]
    ))
}
