//! `floodmark state`: shows the state in a checkpoint or savepoint, creates savepoints from rows, and hurries the migration of
//! a running job.
//!
//! Nothing here changes a checkpoint; `load` writes a new savepoint, and only `migrate` needs a running job. The plugin in
//! the checkpoint decodes the values, in the same sandbox as in a job. That of a savepoint, which may be from another user,
//! runs only if the user says so, or has run here before.

pub(super) mod decoder;
mod dump;
mod get;
mod list;
mod load;
mod migrate;
pub(super) mod row;

use clap::{Args, Subcommand};

use self::decoder::Decoder;
use super::CommandError;
use super::escape::one_line;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use super::place::{OpenedCheckpoints, PlaceOrSavepoint, has_run_here};
use super::terminal::warn;
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot};
use floodmark_engine::guest::GuestEngine;
use floodmark_engine::pipeline::suggestions;
use floodmark_engine::runtime::saved::{Saved, SavedState};
use floodmark_state::StateSchema;

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum StateCommand {
    /// Lists the states of each operator, and their sizes
    List(list::List),
    /// Prints the value, list or map of one key in a state
    ///
    /// If the key has no value, the exit code is 6.
    Get(get::Get),
    /// Prints all keys of a state with their values, one per line
    Dump(dump::Dump),
    /// Creates a savepoint from the rows that `dump` prints: to start a job with state, or to repair one
    Load(load::Load),
    /// Migrates what is left of earlier versions of state in a running job, now
    ///
    /// A new version of a plugin migrates what an older one has stored while the job runs, slowly if the job is busy. This
    /// command lets the job do all of it at full speed, between its records, and ends when nothing is left. Ctrl-C ends the
    /// command; the job then returns to its normal pace. If the plugin cannot migrate something, the exit code is 8.
    Migrate(migrate::MigrateArguments),
}

/// Selects a checkpoint, and whether values are decoded.
#[derive(Debug, Args)]
pub struct StateArguments {
    #[command(flatten)]
    place: PlaceOrSavepoint,
    /// The number of the checkpoint [default: the newest one]
    #[arg(long, value_name = "ID", value_parser = crate::typed::checkpoint_id)]
    checkpoint: Option<u64>,
    /// Prints the stored bytes, without decoding them
    #[arg(long)]
    raw: bool,
    /// Runs the plugins of the savepoint, which decode its values. Without this, only plugins run that the job in the current
    /// folder has run, and other values are shown raw
    #[arg(long, requires = "savepoint")]
    take_plugins: bool,
    /// Includes what had expired at the time of the checkpoint, marked as such, as far as it is still stored
    #[arg(long)]
    with_expired: bool,
}

/// What a row says of the age of a key's content.
struct ContentAge {
    /// Whether it, or something in it, had expired.
    has_expired: bool,
    /// When each value was written, if nothing in it has expired and the state has a time to live.
    written_ms: Vec<Option<u64>>,
}

impl ContentAge {
    fn note(self, row: &mut row::Row) {
        row.expired = self.has_expired;
        row.written_ms = self.written_ms;
    }
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint cannot be read, or has no such operator, state or key.
pub fn state(command: &StateCommand) -> Result<(), CommandError> {
    match command {
        StateCommand::List(arguments) => list::list(arguments),
        StateCommand::Get(arguments) => get::get(arguments),
        StateCommand::Dump(arguments) => dump::dump(arguments),
        StateCommand::Load(arguments) => load::load(arguments),
        StateCommand::Migrate(arguments) => migrate::migrate(arguments),
    }
}

impl StateArguments {
    fn open(&self) -> Result<(OpenedCheckpoints, Checkpoint), CommandError> {
        let opened = self.place.open()?;
        let checkpoint = opened.checkpoint(self.checkpoint)?;
        Ok((opened, checkpoint))
    }

    /// The content of a key, and its age.
    fn read(
        &self,
        saved: &mut SavedState,
        state: &StateSchema,
        key: &[u8],
    ) -> Result<Option<(Saved, ContentAge)>, CommandError> {
        let live = saved.read(state.id, key).map_err(unreadable)?;
        if self.with_expired && state.ttl_ms.is_some() {
            let all = saved.read_with_expired(state.id, key).map_err(unreadable)?;
            if all != live {
                let age = ContentAge {
                    has_expired: true,
                    written_ms: Vec::new(),
                };
                return Ok(all.map(|all| (all, age)));
            }
        }
        let Some(live) = live else {
            return Ok(None);
        };
        let age = ContentAge {
            has_expired: false,
            written_ms: saved.written(state.id, key).map_err(unreadable)?,
        };
        Ok(Some((live, age)))
    }

    /// The decoder of an operator's values.
    fn decoder(
        &self,
        engine: &GuestEngine,
        opened: &OpenedCheckpoints,
        operator: &OperatorSnapshot,
    ) -> Decoder {
        if self.raw {
            return Decoder::raw();
        }
        if opened.is_foreign && !self.take_plugins && !has_run_here(operator.plugin) {
            warn(&format!(
                "warning: values of operator `{}` are shown raw: its plugin is the savepoint's, and no job here has run it; pass `--take-plugins` to run it, if you trust its author",
                one_line(&operator.name)
            ));
            return Decoder::raw();
        }
        Decoder::of(engine, &*opened.reader, operator, &mut warn)
    }
}

/// An operator of a checkpoint by name.
fn operator<'a>(
    checkpoint: &'a Checkpoint,
    name: &str,
) -> Result<&'a OperatorSnapshot, CommandError> {
    let found = checkpoint
        .operators
        .iter()
        .find(|operator| operator.name == name);
    found.ok_or_else(|| {
        let names = checkpoint
            .operators
            .iter()
            .map(|operator| operator.name.as_str());
        let hint = suggestions::hint(name, names);
        CommandError::new(
            EXIT_USAGE,
            format!(
                "checkpoint {} has no operator `{name}`{hint}",
                checkpoint.id
            ),
        )
    })
}

/// A state of an operator by name: all its versions, newest last.
fn schemas<'a>(
    operator: &'a OperatorSnapshot,
    name: &str,
) -> Result<Vec<&'a StateSchema>, CommandError> {
    let mut found: Vec<_> = operator
        .states
        .iter()
        .filter(|state| state.name == name)
        .collect();
    found.sort_by_key(|state| state.version);
    if found.is_empty() {
        let names = operator.states.iter().map(|state| state.name.as_str());
        let hint = suggestions::hint(name, names);
        return Err(CommandError::new(
            EXIT_USAGE,
            format!("operator `{}` has no state `{name}`{hint}", operator.name),
        ));
    }
    Ok(found)
}

fn unreadable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(EXIT_DATA, error.to_string())
}
