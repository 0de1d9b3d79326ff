//! The answers of a running job to its clients, and the reports to its observer.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use super::CommandError;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use super::terminal::Terminal;
use floodmark_checkpoint::store::savepoint;
use floodmark_checkpoint::{CheckpointReader, CheckpointStorageSettings};
use floodmark_control::address::{Listen, ListenError};
use floodmark_control::job::{JobSide, SavepointError, Savepoints, routes};
use floodmark_control::migrate::with_migration;
use floodmark_control::swap::with_swap;
use floodmark_control::{Doors, Serving, changes};
use floodmark_engine::edge::drive::Inputs;
use floodmark_engine::edge::rollback::Rollbacks;
use floodmark_engine::observe::{JobState, Observer};
use floodmark_engine::session::watched::{Watched, swapper};
use floodmark_engine::session::what_runs::{LookedAt, Preparing};

/// The variable that may have the token.
const TOKEN_VARIABLE: &str = "FLOODMARK_TOKEN";

/// Where a job can be asked besides its socket.
#[derive(Debug, Default, clap::Args)]
pub struct ListenArguments {
    /// Lets the job be asked over HTTP at this address, too, such as `127.0.0.1:8081`, `:8081` or `[::1]:0`: status,
    /// checkpoints, stop, and metrics for Prometheus. An address that other machines reach needs a token
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// A file with the token that callers over TCP have to show, at least 16 characters; or set `FLOODMARK_TOKEN`
    #[arg(long, value_name = "FILE", requires = "listen")]
    listen_token_file: Option<std::path::PathBuf>,
}

impl ListenArguments {
    /// The door on TCP, if there is to be one.
    ///
    /// # Errors
    /// When it may not or cannot be: nothing has begun yet.
    pub(super) fn door(&self, terminal: &Terminal) -> Result<Doors, CommandError> {
        let mut doors = Doors::default();
        let Some(typed) = &self.listen else {
            return Ok(doors);
        };
        let token = std::env::var(TOKEN_VARIABLE).ok();
        let listen = Listen::new(typed, self.listen_token_file.as_ref(), token);
        let bound = listen.and_then(|listen| doors.on_tcp(&listen));
        let address = bound.map_err(|error| {
            let code = match error {
                ListenError::Bind { .. } => EXIT_DATA,
                _ => EXIT_USAGE,
            };
            CommandError::new(code, error.to_string())
        })?;
        terminal.say(&format!("listening on http://{address}"));
        Ok(doors)
    }
}

/// A job that can be asked.
pub(super) struct Answering {
    serving: Option<Serving>,
    pub(super) observer: Arc<Observer>,
    stopped_with_savepoint: Arc<AtomicBool>,
    looked_at: LookedAt,
}

impl Answering {
    /// From here on the job can be asked.
    pub(super) fn begin(
        mut doors: Doors,
        folder: &Path,
        reader: Arc<dyn CheckpointReader>,
        (inputs, preparing): (Inputs, Preparing),
        watched: &Watched,
        terminal: &Terminal,
    ) -> Self {
        let looked_at: LookedAt = Arc::new(Mutex::new(Some(reader)));
        let swapper = swapper(
            folder,
            &looked_at,
            &inputs,
            &preparing.engine,
            watched.clock,
        );
        let stopped_with_savepoint = Arc::new(AtomicBool::new(false));
        let side = JobSide {
            inputs,
            observer: Arc::clone(&watched.observer),
            clock: watched.clock,
            savepoints: savepoints(&looked_at),
            folder: folder.to_path_buf(),
            stopped_with_savepoint: Arc::clone(&stopped_with_savepoint),
        };
        if let Err(error) = doors.on_socket(folder) {
            terminal.say(&format!(
                "warning: cannot listen on `{}` ({error}): `floodmark stop` and similar commands cannot reach this job",
                folder.join(floodmark_control::FILE_NAME).display()
            ));
        }
        let prepare = preparing.rollbacks(&looked_at);
        let rollbacks = Rollbacks::new(side.inputs.clone(), side.folder.clone(), prepare);
        let routes = changes::with(routes(&side), &side, rollbacks);
        let routes = with_migration(routes, &side);
        let serving = doors.open(with_swap(routes, swapper, folder.to_path_buf()));
        let refused = |error: &std::io::Error| {
            terminal.say(&format!(
                "warning: cannot answer requests ({error}): `floodmark stop` and similar commands cannot reach this job"
            ));
        };
        Self {
            serving: serving.inspect_err(refused).ok(),
            observer: Arc::clone(&watched.observer),
            stopped_with_savepoint,
            looked_at,
        }
    }

    /// Answers the requests that are still open after the job has ended. Returns whether its last checkpoint was copied for
    /// the client that stopped it.
    pub(super) fn finish(self, state: JobState) -> bool {
        self.observer.is_now(state);
        if let Some(serving) = self.serving {
            serving.finish();
        }
        *self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.stopped_with_savepoint
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn savepoints(reader: &LookedAt) -> Savepoints {
    let reader = Arc::clone(reader);
    Arc::new(move |id, to| {
        let reader = reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reader = reader.ok_or(SavepointError::JobOver)?;
        let checkpoint = reader.read(id)?;
        savepoint::create(
            to,
            &*reader,
            &checkpoint,
            CheckpointStorageSettings::default(),
        )?;
        Ok(())
    })
}
