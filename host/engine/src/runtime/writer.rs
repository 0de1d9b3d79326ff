//! Makes a checkpoint durable, and then its output visible: the commit protocol.
//!
//! ```text
//! 1. each sink:  prepare the staged parts            (fsync)
//! 2. the store:  chunks, plugins, manifest           (one transaction, durable)
//! 3. each sink:  commit, with the permit from step 2 (rename)
//! ```
//!
//! A crash before the end of step 2 leaves the earlier checkpoint, and its sinks remove what was staged after it. A
//! crash after step 2 leaves this checkpoint, whose manifest names the parts, so that the next start commits them: step
//! 3 may be repeated any number of times. If a step fails, the attempt ends, and its data is included in the next one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::JobError;
use super::plan::{Plan, Role};
use super::report::{SinkFailure, WriteOutcome};
use crate::connector::{ConnectorError, Recovered, RestoredSink, SinkCommitter};
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::store::RestoredCheckpoint;
use floodmark_checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStorage, NewCheckpoint, PluginDigest, SinkSnapshot,
    Staged,
};
use floodmark_state::Chunk;
use floodmark_state::stream::CheckpointId;

/// A checkpoint to write. `checkpoint.sinks` is empty: the writer tracks the parts that are not visible yet.
#[derive(Debug)]
pub struct WriteRequest {
    /// The checkpoint without its sinks.
    pub checkpoint: Checkpoint,
    /// The components that it names.
    pub plugins: Vec<(PluginDigest, Arc<[u8]>)>,
    /// Chunks that may not be durable yet.
    pub chunks: Vec<Arc<Chunk>>,
    /// By sink, in the order of the plan: the new parts.
    pub staged: Vec<Vec<Staged>>,
}

/// The store and the committers of a job.
pub struct Writer {
    store: Box<dyn CheckpointStorage>,
    retained: NonZeroU32,
    /// Whether everything that the job was restored from is known to be sound.
    is_proven: Arc<AtomicBool>,
    /// Whether the job may still revert to an earlier checkpoint.
    is_on_trial: Arc<AtomicBool>,
    sinks: Vec<SinkOutput>,
    /// The id of the checkpoint that was written last, or restored.
    newest: Option<CheckpointId>,
}

/// The reason why the output of a job could not be recovered.
pub struct NotBegun {
    /// The error.
    pub error: JobError,
    /// The store, returned unchanged.
    pub store: Box<dyn CheckpointStorage>,
}

impl std::fmt::Debug for NotBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// The output of a sink that is not visible yet.
struct SinkOutput {
    name: String,
    committer: Box<dyn SinkCommitter>,
    state: Vec<u8>,
    unprepared: Vec<Staged>,
    prepared: Vec<Staged>,
}

impl Writer {
    /// Brings the output of a job to the state of its checkpoint, or removes it if `fresh`. Returns what was done, by
    /// sink.
    ///
    /// # Errors
    /// When the output cannot be brought to the state of the checkpoint. The checkpoint is unchanged, and the store is
    /// returned.
    pub fn begin(
        plan: &Plan,
        store: Box<dyn CheckpointStorage>,
        retained: NonZeroU32,
        restored: Option<&RestoredCheckpoint>,
        fresh: bool,
    ) -> Result<(Self, Vec<(String, Recovered)>), NotBegun> {
        let Outputs { sinks, done } = match outputs(plan, restored, fresh) {
            Ok(outputs) => outputs,
            Err(error) => return Err(NotBegun { error, store }),
        };
        let writer = Self {
            store,
            retained,
            is_proven: Arc::new(AtomicBool::new(true)),
            is_on_trial: Arc::default(),
            newest: restored.map(|restored| restored.checkpoint.id),
            sinks,
        };
        Ok((writer, done))
    }

    /// A flag that says whether everything that the job was restored from was read and is sound. While it is false, no
    /// checkpoint is retired: new ones name chunks that may be damaged, and an older one may be the only sound one.
    #[must_use]
    pub fn proof(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_proven)
    }

    /// Sets a flag; while it is true, no checkpoint is retired.
    #[must_use]
    pub fn holding(self, is_on_trial: Arc<AtomicBool>) -> Self {
        Self {
            is_on_trial,
            ..self
        }
    }

    fn retained(&self) -> NonZeroU32 {
        let is_on_trial = self.is_on_trial.load(Ordering::Relaxed);
        match self.is_proven.load(Ordering::Relaxed) && !is_on_trial {
            true => self.retained,
            false => NonZeroU32::MAX,
        }
    }

    /// Writes a checkpoint and commits its output.
    pub fn write(&mut self, request: WriteRequest) -> WriteOutcome {
        let WriteRequest {
            mut checkpoint,
            plugins,
            chunks,
            staged,
        } = request;
        let id = checkpoint.id;
        assert!(self.newest < Some(id), "ids of checkpoints only grow");
        self.newest = Some(id);
        for (sink, staged) in self.sinks.iter_mut().zip(staged) {
            sink.unprepared.extend(staged);
        }
        crash::point(Point::WriteBegun);
        let outcome = |durable, not_visible| WriteOutcome {
            checkpoint: id,
            durable,
            not_visible,
        };
        for sink in &mut self.sinks {
            if let Err(error) = sink.prepare() {
                return outcome(Err(sink.failure(error).into()), Vec::new());
            }
            crash::point(Point::SinkPrepared);
            checkpoint.sinks.push(sink.snapshot());
        }
        crash::point(Point::StoreBegun);
        let permit = match self.store.write(&NewCheckpoint {
            checkpoint: &checkpoint,
            chunks: &chunks,
            plugins: &plugins,
            retained: self.retained(),
        }) {
            Ok(permit) => permit,
            Err(error) => return outcome(Err(error.into()), Vec::new()),
        };
        crash::point(Point::CheckpointDurable);
        let mut not_visible = Vec::new();
        for sink in &mut self.sinks {
            match sink.committer.commit(&permit, &sink.prepared) {
                Ok(()) => sink.prepared.clear(),
                Err(error) => not_visible.push(sink.failure(error)),
            }
            crash::point(Point::SinkCommitted);
        }
        outcome(Ok(()), not_visible)
    }

    /// Returns the store. The sinks are no longer used.
    #[must_use]
    pub fn into_store(self) -> Box<dyn CheckpointStorage> {
        self.store
    }

    /// A reader of the checkpoints in the store.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn CheckpointReader> {
        self.store.reader()
    }

    /// A summary by each sink at the end of the job.
    #[must_use]
    pub fn summaries(&self) -> Vec<(String, String)> {
        let summary = |sink: &SinkOutput| Some((sink.name.clone(), sink.committer.summary()?));
        self.sinks.iter().filter_map(summary).collect()
    }
}

/// The sinks of a job, and what was done to recover their output.
struct Outputs {
    sinks: Vec<SinkOutput>,
    done: Vec<(String, Recovered)>,
}

fn outputs(
    plan: &Plan,
    restored: Option<&RestoredCheckpoint>,
    fresh: bool,
) -> Result<Outputs, JobError> {
    let mut outputs = Outputs {
        sinks: Vec::new(),
        done: Vec::new(),
    };
    for node in &plan.nodes {
        if let Role::Sink(sink) = &node.role {
            let connector = |reason| JobError::connector(&node.name, reason);
            let committer = sink.committer().map_err(connector)?;
            let mut output = SinkOutput::new(&node.name, committer);
            let recovered = output.recover(restored, fresh).map_err(connector)?;
            crash::point(Point::SinkRecovered);
            outputs.done.push((node.name.clone(), recovered));
            outputs.sinks.push(output);
        }
    }
    Ok(outputs)
}

impl SinkOutput {
    fn new(name: &str, committer: Box<dyn SinkCommitter>) -> Self {
        Self {
            name: name.to_owned(),
            committer,
            state: Vec::new(),
            unprepared: Vec::new(),
            prepared: Vec::new(),
        }
    }

    fn recover(
        &mut self,
        restored: Option<&RestoredCheckpoint>,
        fresh: bool,
    ) -> Result<Recovered, ConnectorError> {
        let mut done = match fresh {
            true => self.committer.clear()?,
            false => Recovered::default(),
        };
        let snapshot = restored.and_then(|restored| {
            let mut sinks = restored.checkpoint.sinks.iter();
            Some((restored, sinks.find(|sink| sink.name == self.name)?))
        });
        let recovered = match snapshot {
            None if fresh => Recovered::default(),
            // The checkpoint does not have this sink, so it starts now.
            None => self.committer.recover(None)?,
            Some((restored, snapshot)) => {
                self.state.clone_from(&snapshot.state);
                self.committer.recover(Some(RestoredSink {
                    permit: &restored.permit,
                    data_folder: &restored.checkpoint.data_folder,
                    staged: &snapshot.staged,
                    state: &snapshot.state,
                }))?
            }
        };
        done.committed += recovered.committed;
        done.aborted += recovered.aborted;
        done.retracted += recovered.retracted;
        // The user has asked for the removal of what is not there.
        if !fresh {
            done.counted = recovered.counted;
            done.absent = recovered.absent;
        }
        Ok(done)
    }

    fn prepare(&mut self) -> Result<(), ConnectorError> {
        self.state = self.committer.prepare(&self.unprepared)?;
        self.prepared.append(&mut self.unprepared);
        Ok(())
    }

    fn failure(&self, error: ConnectorError) -> SinkFailure {
        SinkFailure {
            sink: self.name.clone(),
            source: Arc::new(error),
        }
    }

    fn snapshot(&self) -> SinkSnapshot {
        SinkSnapshot {
            name: self.name.clone(),
            staged: self.prepared.clone(),
            state: self.state.clone(),
        }
    }
}
