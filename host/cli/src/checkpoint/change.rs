//! `floodmark checkpoint delete` and `compact`: change stored checkpoints of a job that does not run.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::CommandError;
use crate::failure::{EXIT_DATA, EXIT_USAGE};
use crate::place::PlaceArguments;
use crate::print::{print, print_json};
use floodmark_engine::edge::later_output::LaterOutput;
use floodmark_engine::session::number::{bytes, things};
use floodmark_state::stream::CheckpointId;

/// Deletes checkpoints of a job that does not run
///
/// Data that other checkpoints need is kept. New checkpoints reuse the space; `compact` returns it to the file system.
/// Without any checkpoint, the job starts from the beginning.
#[derive(Debug, Args)]
pub struct Delete {
    /// The numbers of the checkpoints
    #[arg(value_name = "ID", required = true, value_parser = crate::typed::checkpoint_id)]
    ids: Vec<u64>,
    /// Also deletes the newest one: the job then resumes from an older one, or starts from the beginning
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    place: PlaceArguments,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Shrinks the storage file: returns the space of deleted checkpoints to the file system; the job must not run
#[derive(Debug, Args)]
pub struct Compact {
    #[command(flatten)]
    place: PlaceArguments,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn delete(arguments: &Delete) -> Result<(), CommandError> {
    let (held, mut storage) = arguments.place.hold()?;
    let listed = storage.reader().list()?;
    let ids: BTreeSet<_> = arguments.ids.iter().copied().map(CheckpointId).collect();
    if let Some(missing) = ids
        .iter()
        .find(|id| listed.iter().all(|(listed, _)| listed != *id))
    {
        return Err(CommandError::new(
            EXIT_DATA,
            format!(
                "there is no checkpoint {missing}, so none was deleted; `floodmark checkpoint list` shows those that are there"
            ),
        ));
    }
    if let Some((newest, _)) = listed.first()
        && ids.contains(newest)
    {
        if !arguments.newest {
            return Err(CommandError::new(
                EXIT_USAGE,
                format!(
                    "checkpoint {newest} is the newest, from which the job resumes, so none was deleted; pass `--newest` to delete it anyway"
                ),
            ));
        }
        if let Some((kept, _)) = listed.iter().find(|(id, _)| !ids.contains(id)) {
            LaterOutput::of(held.path()).note(*kept)?;
        }
    }
    let ids: Vec<_> = ids.into_iter().collect();
    storage.delete(&ids)?;
    let left = listed.len() - ids.len();
    if arguments.json {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        return print_json(&json!({ "deleted": ids, "left": left }));
    }
    print(&format!(
        "{} deleted, {} left\n",
        things(ids.len() as u64, "checkpoint"),
        left
    ))
}

pub(super) fn compact(arguments: &Compact) -> Result<(), CommandError> {
    let (_held, mut store) = arguments.place.hold_file()?;
    let (before, after) = store.compact()?;
    if arguments.json {
        return print_json(&json!({ "bytes-before": before, "bytes-after": after }));
    }
    print(&format!("{} before, {} now\n", bytes(before), bytes(after)))
}
