//! `floodmark retry`: ends the delay of a job that waits after a failure, once its cause was removed by hand.
//!
//! The job decides: one that does not wait refuses. The command does not wait until the job runs again; `status` shows it.

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::escape::message;
use super::job::JobArguments;
use super::print::{print, print_json};

/// Makes a job that waits after a failure restart now, and counts its attempts from 1 again
///
/// Use it after you have removed the cause of the failure: `floodmark status` shows it, and how long the job waits.
#[derive(Debug, Args)]
pub struct RetryArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When no job runs there, or it does not wait: nothing has changed then.
pub fn retry(arguments: &RetryArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let done = place.call("/v1/retry", &json!({}))?;
    if arguments.json {
        return print_json(&done);
    }
    let from = match done["checkpoint"].as_u64() {
        Some(id) => format!("from checkpoint {id}"),
        None => "from the beginning".to_owned(),
    };
    let reason = message(done["reason"].as_str().unwrap_or_default());
    print(&format!(
        "the job restarts now, {from}; it had failed: {reason}\n"
    ))
}
