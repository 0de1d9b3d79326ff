//! `floodmark rescale`: has a running job go on with another number of tasks per node, in the same process.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::job::JobArguments;
use super::print::{print, print_json};
use super::progress::micros;

/// Changes the parallelism of a running job at a checkpoint, without a restart of its process
///
/// The number stays as long as the pipeline file says the same `parallelism` as now: a later `run` resumes with it.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub struct RescaleArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Tasks per node from now on, 1 to `max-parallelism`
    #[arg(value_name = "N", required = true)]
    parallelism: u16,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
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
        "parallelism was {}, now is {}; records stood still for {}; checkpoint {}\n",
        done["from"],
        done["to"],
        micros(pause),
        done["checkpoint"]
    ))
}
