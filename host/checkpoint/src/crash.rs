//! Crash points: steps at which a process can be made to die, so that tests can check its recovery.
//!
//! Each step of a checkpoint, commit, recovery, swap, rescale and rollback calls [`point`] with its own [`Point`]. A
//! process is armed once, for one point and the number of times it must be reached; then it kills itself as `kill -9`
//! does: nothing is flushed, dropped or reported. `floodmark crash-test` and the tests of swaps use this to cover all
//! steps, so the points are in the command that users run and not only in a test build. When not armed, a point costs
//! one relaxed load.
//!
//! The process dies, not the machine: data that was not synced is still there. The tests of the checkpoint store cover
//! power failures, with a simulated disk.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use signal_hook::consts::SIGKILL;

/// The variable that arms the process when it starts: `NAME:NTH`, the name of a point and a number from 1. Hidden: a
/// tool for tests.
pub const VARIABLE: &str = "FLOODMARK_CRASH_AT";

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// A step at which a process may die. Names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[doc = $doc])+ $point,)+
        }

        impl Point {
            /// All points, in the order of their steps.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in [`VARIABLE`] and after `--point`, in kebab-case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }

            /// When it is reached, as `crash-test --point list` prints it.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$point => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

points! {
    /// A region has reached its barrier and has not taken its snapshot yet.
    BarrierReached = "barrier-reached",
    /// A region has taken its snapshot and staged its output.
    BarrierPassed = "barrier-passed",
    /// The writer has all snapshots, and no sink has made its parts durable yet.
    WriteBegun = "write-begun",
    /// A sink has made its parts durable.
    SinkPrepared = "sink-prepared",
    /// All sinks have made their parts durable, and the storage has not begun to write.
    StoreBegun = "store-begun",
    /// The store's transaction is complete, but not committed.
    StoreFilled = "store-filled",
    /// The store's transaction is committed, and the mark of a write in progress is not removed yet.
    StoreCommitted = "store-committed",
    /// Chunks and plugins are in the object store, and no record names them yet.
    ObjectsStored = "objects-stored",
    /// The record is in the object store, and no old checkpoint is retired yet.
    ObjectsRecorded = "objects-recorded",
    /// The checkpoint is durable, and none of its output is visible yet.
    CheckpointDurable = "checkpoint-durable",
    /// A sink has made its output visible.
    SinkCommitted = "sink-committed",
    /// A starting job has recovered the output of a sink.
    SinkRecovered = "sink-recovered",
    /// A starting job has imported a savepoint.
    SavepointImported = "savepoint-imported",
    /// A prepared swap was requested.
    SwapAsked = "swap-asked",
    /// Workers have the new instances and have not reached their barrier yet.
    SwapBeforeBarrier = "swap-before-barrier",
    /// A task has taken its snapshot and continues with its new instance.
    SwapAtBarrier = "swap-at-barrier",
    /// The job has all snapshots of a swap's checkpoint.
    SwapCollected = "swap-collected",
    /// The checkpoint of a swap is durable.
    SwapDurable = "swap-durable",
    /// The job has answered the client that requested the swap.
    SwapAnswered = "swap-answered",
    /// A swap has failed its trial, and nothing is reverted yet.
    SwapReverting = "swap-reverting",
    /// Checkpoints after a swap that failed its trial are deleted.
    SwapReverted = "swap-reverted",
    /// A rescale was requested.
    RescaleAsked = "rescale-asked",
    /// The checkpoint of a rescale is durable.
    RescaleDurable = "rescale-durable",
    /// The workers of the old parallelism have ended.
    RescaleJoined = "rescale-joined",
    /// The workers of the new parallelism are running.
    RescaleBegun = "rescale-begun",
    /// A rollback was requested.
    RollbackAsked = "rollback-asked",
    /// The workers have ended, and no checkpoint is deleted yet.
    RollbackJoined = "rollback-joined",
    /// The later checkpoints are deleted, and their output is not taken back yet.
    RollbackDeleted = "rollback-deleted",
    /// The job runs from the checkpoint of the rollback.
    RollbackBegun = "rollback-begun",
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|point| point.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|point| point.name()).collect();
            format!(
                "there is no crash point `{name}`; there are {}",
                names.join(", ")
            )
        })
    }
}

/// The point at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    /// The step to die at.
    pub point: Point,
    /// The number of times that it must be reached, from 1.
    pub nth: u64,
}

impl FromStr for CrashAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let nth = nth.parse().ok().filter(|nth| *nth > 0);
        Ok(Self {
            point: name.parse()?,
            nth: nth.ok_or_else(|| format!("`{text}` does not end with a number from 1"))?,
        })
    }
}

impl std::fmt::Display for CrashAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.point.name(), self.nth)
    }
}

/// Not armed.
const OFF: u32 = u32::MAX;

static ARMED: AtomicU32 = AtomicU32::new(OFF);
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Arms this process. For the start of a process, not for tests within one.
pub fn arm(at: CrashAt) {
    LEFT.store(at.nth, Ordering::Relaxed);
    ARMED.store(at.point as u32, Ordering::Release);
}

/// Marks a step; the process ends here if it was armed for it.
#[inline]
pub fn point(point: Point) {
    if ARMED.load(Ordering::Relaxed) == point as u32 {
        reach();
    }
}

#[cold]
fn reach() {
    // Others may pass the same point at the same moment; one of them is the last.
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = signal_hook::low_level::raise(SIGKILL);
        // Not reached: a process cannot ignore that signal.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    //! Catches a name that two points share, and a variable that is misread so that a test of crashes kills nothing.

    use super::*;

    #[test]
    fn names_are_read_back() {
        for &point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(point));
            let at = CrashAt { point, nth: 12 };
            assert_eq!(at.to_string().parse(), Ok(at));
            assert!(!point.meaning().is_empty());
        }
        assert_eq!(
            "swap-asked".parse(),
            Ok(CrashAt {
                point: Point::SwapAsked,
                nth: 1
            })
        );
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for text in [
            "",
            "write",
            "write-begun:",
            "write-begun:0",
            "write-begun:x",
        ] {
            assert!(text.parse::<CrashAt>().is_err(), "{text}");
        }
        let error = "write".parse::<Point>().unwrap_err();
        assert!(
            error.starts_with("there is no crash point `write`; there are barrier-reached, "),
            "{error}"
        );
    }
}
