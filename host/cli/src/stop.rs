//! `floodmark stop`: stops a running job with a last checkpoint, and waits until it has ended.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::job::{JobArguments, absolute, as_text, id_of};
use super::print::print_json;
use super::savepoint::can_be_made;
use super::terminal::Terminal;
use floodmark_engine::edge::data_dir;

/// Stops a running job with a checkpoint, from which the same `run` resumes
#[derive(Debug, Args)]
pub struct StopArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Ends the job as if its input ended here: operators emit everything that waits for more input
    #[arg(long)]
    drain: bool,
    /// Also copies the last checkpoint to this file, from which `run --from FILE` starts
    #[arg(long, value_name = "FILE")]
    savepoint: Option<PathBuf>,
    /// Prints JSON, once the job has ended
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When no job runs there, or the last checkpoint or the savepoint fails: the message says which.
pub fn stop(arguments: &StopArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let savepoint = arguments.savepoint.as_deref().map(absolute).transpose()?;
    savepoint.as_deref().map_or(Ok(()), can_be_made)?;
    let to = savepoint.as_deref().map(as_text).transpose()?;
    let wish = json!({ "drain": arguments.drain, "savepoint": to });
    let holder = data_dir::holder_of(&place.data_dir);
    let done = place.call("/v1/stop", &wish)?;
    // A script can start the next run as soon as this command returns.
    data_dir::wait_until_free(&place.data_dir, holder);
    if arguments.json {
        return print_json(&done);
    }
    let copied = savepoint.map(|path| format!(", copied to `{}`", path.display()));
    Terminal::new().say(&format!(
        "stopped with checkpoint {}{}",
        id_of(&done),
        copied.unwrap_or_default()
    ));
    Ok(())
}
