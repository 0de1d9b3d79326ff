//! Runs a pipeline repeatedly, makes it die at each crash point, and checks that its output equals that of two undisturbed
//! runs.
//!
//! ```text
//! plain run ─▶ expected        for each point: run, dies ─▶ run, dies as it recovers ─▶ run, dies later ─▶ … ─▶ run to the end
//! plain run ─▶ the same?                                                                           its output: as expected?
//! ```
//!
//! Every run is a process of its own, and every round has a folder of its own. The caller decides which pipelines can be
//! tested: this module is independent of what the user's pipeline does.

mod lines;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::lines::{OutputDifference, RunOutput};
pub use self::process::{Round, RunEnded, Subject};
use floodmark_checkpoint::crash::{CrashAt, Point};
use floodmark_engine::edge::clock::Clock;

/// Least time limit of a run, and its limit as a multiple of the time of an undisturbed run.
const AT_MOST: Duration = Duration::from_secs(60);
const AT_MOST_TIMES: u32 = 20;

/// The results of the undisturbed runs.
#[derive(Debug)]
pub struct ReferenceRuns {
    /// The folder of the first run, whose output is the expected output.
    pub folder: PathBuf,
    /// The lines that the first run wrote.
    pub output: RunOutput,
    /// Whether the second run wrote the same lines in the same order.
    pub is_in_order: bool,
    /// The time that the longer run took.
    pub took: Duration,
    /// The larger number of checkpoints that a run took.
    pub checkpoints: u64,
}

/// The reason why there is no expected output.
#[derive(Debug)]
pub enum Undecided {
    /// An undisturbed run failed.
    Failed(String),
    /// Two undisturbed runs wrote different lines.
    NotDeterministic(Vec<OutputDifference>),
    /// The user interrupted the test.
    Interrupted,
}

/// The result of testing one crash point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointTested {
    /// The crash point.
    pub point: Point,
    /// Number of runs that died at the point.
    pub kills: u32,
    /// Number of runs that died during recovery afterwards.
    pub kills_recovering: u32,
    /// The comparison of the output.
    pub verdict: Verdict,
}

/// The result of comparing the output with the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same lines, each as often as expected.
    ExactlyOnce,
    /// The same lines in another order, although undisturbed runs agree on the order.
    OtherOrder,
    /// No run reached the point, so it was not tested.
    NotReached,
    /// Lines are missing, or there are too many.
    Differs(Vec<OutputDifference>),
    /// A run after a kill failed: the reason.
    Failed(String),
    /// The user interrupted the test.
    Interrupted,
}

impl Subject {
    /// Runs the pipeline twice without a crash.
    ///
    /// # Errors
    /// When files cannot be created or read, or no process can be started.
    pub fn expect(&self, folder: &Path) -> io::Result<Result<ReferenceRuns, Undecided>> {
        let mut outputs = Vec::new();
        let mut took = Duration::ZERO;
        let mut checkpoints = 0;
        let folders = ["plain-1", "plain-2"].map(|name| folder.join(name));
        let first = folders[0].join("data/compiled");
        for (folder, compiled) in folders.iter().zip([None, Some(first.as_path())]) {
            let undisturbed = Self {
                asked: None,
                ..self.clone()
            };
            let mut round = Round::new(&undisturbed, folder.clone(), compiled)?;
            let clock = Clock::start();
            match round.run(None, Duration::MAX)? {
                RunEnded::Finished => {}
                RunEnded::Interrupted => return Ok(Err(Undecided::Interrupted)),
                RunEnded::Killed => unreachable!("an undisturbed run is not armed"),
                RunEnded::Failed(reason) => return Ok(Err(Undecided::Failed(reason))),
            }
            took = took.max(clock.now());
            checkpoints = checkpoints.max(round.checkpoints()?);
            outputs.push(RunOutput::read(folder, &self.sinks)?);
        }
        let [first, second] = [&outputs[0], &outputs[1]];
        let differences = first.differences(second, (&folders[0], &folders[1]))?;
        if !differences.is_empty() {
            return Ok(Err(Undecided::NotDeterministic(differences)));
        }
        let is_in_order = second.is_in_order_of(first);
        let [folder, _] = folders;
        Ok(Ok(ReferenceRuns {
            folder,
            output: outputs.swap_remove(0),
            is_in_order,
            took,
            checkpoints,
        }))
    }

    /// Kills the job at a point up to `kills` times: the first time it gets there, then spread over its life, and after
    /// every second kill again during recovery. Then the job runs to its end, and its output is compared; the order
    /// only if `with_order`.
    ///
    /// # Errors
    /// As [`Subject::expect`].
    pub fn test(
        &self,
        folder: &Path,
        expected: &ReferenceRuns,
        point: Point,
        kills: u32,
        with_order: bool,
    ) -> io::Result<PointTested> {
        let compiled = expected.folder.join("data/compiled");
        let mut round = Round::new(self, folder.join(point.name()), Some(&compiled))?;
        let at_most = AT_MOST + expected.took.saturating_mul(AT_MOST_TIMES);
        let mut tested = PointTested {
            point,
            kills: 0,
            kills_recovering: 0,
            verdict: Verdict::NotReached,
        };
        // Later kills wait for checkpoints, so that the job makes progress and dies in each part of its life.
        let later = (expected.checkpoints / (u64::from(kills) + 1)).max(1);
        let mut dies_recovering = false;
        loop {
            let at = match (dies_recovering, tested.kills < kills) {
                (true, _) => Some((Point::SinkRecovered, 1)),
                (false, true) if tested.kills == 0 => Some((point, 1)),
                (false, true) => Some((point, later)),
                (false, false) => None,
            };
            let at = at.map(|(point, nth)| CrashAt { point, nth });
            match round.run(at, at_most)? {
                RunEnded::Killed if dies_recovering => {
                    tested.kills_recovering += 1;
                    dies_recovering = false;
                }
                RunEnded::Killed => {
                    tested.kills += 1;
                    dies_recovering = tested.kills % 2 == 1;
                }
                RunEnded::Finished => break,
                RunEnded::Interrupted => {
                    tested.verdict = Verdict::Interrupted;
                    return Ok(tested);
                }
                RunEnded::Failed(reason) => {
                    tested.verdict = Verdict::Failed(reason);
                    return Ok(tested);
                }
            }
        }
        let output = RunOutput::read(round.folder(), &self.sinks)?;
        let folders = (expected.folder.as_path(), round.folder());
        let differences = expected.output.differences(&output, folders)?;
        tested.verdict = match (differences.is_empty(), tested.kills) {
            (false, _) => Verdict::Differs(differences),
            (true, 0) => Verdict::NotReached,
            _ if with_order && !output.is_in_order_of(&expected.output) => Verdict::OtherOrder,
            _ => Verdict::ExactlyOnce,
        };
        Ok(tested)
    }
}
