//! `floodmark stop`: has a running job take a last checkpoint and end, and waits for that.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::job::{JobArguments, absolute, as_text, id_of};
use super::savepoint::can_be_made;
use super::terminal::Terminal;
use crate::edge::data_dir;

/// Stops a running job with a checkpoint, from which the same `run` resumes
#[derive(Debug, Args)]
pub struct StopArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Ends the job as if its input had ended here: nothing that waits for more stays behind
    #[arg(long)]
    drain: bool,
    /// Copies the last checkpoint to this file, which may be carried elsewhere: `run --from FILE` starts from it
    #[arg(long, value_name = "FILE")]
    savepoint: Option<PathBuf>,
}

/// Carries the command out.
///
/// # Errors
/// When no job runs there, or its last checkpoint or the savepoint cannot be made: the message says which.
pub fn stop(arguments: &StopArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let savepoint = arguments.savepoint.as_deref().map(absolute).transpose()?;
    savepoint.as_deref().map_or(Ok(()), can_be_made)?;
    let to = savepoint.as_deref().map(as_text).transpose()?;
    let wish = json!({ "drain": arguments.drain, "savepoint": to });
    let id = id_of(&place.call("/v1/stop", &wish)?);
    // A script may want to start the next run at once.
    data_dir::wait_until_free(&place.data_dir);
    let copied = savepoint.map(|path| format!(", copied to `{}`", path.display()));
    Terminal::new().say(&format!(
        "stopped with checkpoint {id}{}",
        copied.unwrap_or_default()
    ));
    Ok(())
}
