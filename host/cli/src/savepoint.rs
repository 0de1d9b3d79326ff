//! `floodmark savepoint`: copies a checkpoint to a file of its own, which can be moved to other machines.
//!
//! A running job takes the checkpoint and copies it itself: only the job has checkpoints that are kept in memory, and
//! it can already reach all others. This command copies only checkpoints that are given by number, and those of stopped
//! jobs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::CommandError;
use super::failure::EXIT_DATA;
use super::job::{JobArguments, JobLocation, absolute, as_text};
use super::terminal::Terminal;
use floodmark_checkpoint::CheckpointStorageSettings;
use floodmark_checkpoint::store::savepoint;
use floodmark_control::AskError;
use floodmark_engine::session::storage;
use floodmark_state::stream::CheckpointId;

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum SavepointCommand {
    /// Copies a checkpoint to a file, from which `run --from FILE` starts; a running job takes a new checkpoint for it
    Create(CreateArguments),
}

/// The checkpoint to copy, and the file.
#[derive(Debug, Args)]
pub struct CreateArguments {
    #[command(flatten)]
    job: JobArguments,
    /// The number of the checkpoint to copy [default: a new one of a running job, the newest one of a stopped job]
    #[arg(long, value_name = "ID", value_parser = super::typed::checkpoint_id)]
    from_checkpoint: Option<u64>,
    /// The file to create
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When there is no such checkpoint, or the file cannot be created: no file is left behind.
pub fn savepoint(command: &SavepointCommand) -> Result<(), CommandError> {
    let SavepointCommand::Create(arguments) = command;
    let place = arguments.job.place()?;
    let to = absolute(&arguments.to)?;
    can_be_made(&to)?;
    let id = match arguments.from_checkpoint {
        Some(id) => copy(&place, Some(CheckpointId(id)), &to)?,
        None => match place.take_checkpoint(Some(as_text(&to)?)) {
            Err(AskError::NotRunning { .. }) => copy(&place, None, &to)?,
            taken => CheckpointId(taken?),
        },
    };
    Terminal::new().say(&format!(
        "checkpoint {id} is copied to `{}`; `floodmark run PIPELINE --from FILE` starts from that file",
        to.display()
    ));
    Ok(())
}

/// Refuses an impossible path before a checkpoint is taken for it, or a job is stopped.
pub(super) fn can_be_made(to: &std::path::Path) -> Result<(), CommandError> {
    let refuse = |message: String| Err(CommandError::new(EXIT_DATA, message));
    if to.exists() {
        return refuse(format!(
            "`{}` already exists; give the savepoint another name, or delete that file first",
            to.display()
        ));
    }
    match to.parent() {
        Some(folder) if !folder.is_dir() => refuse(format!(
            "there is no folder `{}` for the savepoint; make it first",
            folder.display()
        )),
        _ => Ok(()),
    }
}

/// Copies the given checkpoint, or the newest one that can be read.
fn copy(
    place: &JobLocation,
    id: Option<CheckpointId>,
    to: &std::path::Path,
) -> Result<CheckpointId, CommandError> {
    let reader = storage::reader(&place.storage, &place.data_dir)?;
    let checkpoint = match id {
        Some(id) => reader.read(id)?,
        None => {
            let mut listed = reader.list()?.into_iter();
            let newest = listed.find_map(|(_, found)| found.ok());
            newest.ok_or_else(|| {
                let message = format!(
                    "there is no checkpoint in the data folder `{}`",
                    place.data_dir.display()
                );
                CommandError::new(EXIT_DATA, message)
            })?
        }
    };
    savepoint::create(
        to,
        &*reader,
        &checkpoint,
        CheckpointStorageSettings::default(),
    )?;
    Ok(checkpoint.id)
}
