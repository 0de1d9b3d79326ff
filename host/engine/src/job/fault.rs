//! Deliberate faults, which the simulator has to find. They are compiled only with the feature `deliberate-faults`, for that
//! test; else [`is_armed`] is `false` at compile time.

/// A deliberate mistake in the life of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A rescale takes over the state of the tasks before.
    RescaleKeepsMemory,
    /// A rollback leaves later checkpoints.
    RollbackKeepsLater,
    /// Checkpoints are retired during a trial.
    TrialRetires,
    /// A restart does not wait.
    RestartAtOnce,
    /// Failures of earlier processes do not count.
    GiveUpForgets,
}

#[cfg(feature = "deliberate-faults")]
mod armed {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static ARMED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Arms a fault for the jobs of this thread, or none.
    pub fn arm(fault: Option<Fault>) {
        ARMED.set(fault);
    }

    pub(crate) fn is_armed(fault: Fault) -> bool {
        ARMED.get() == Some(fault)
    }
}

#[cfg(feature = "deliberate-faults")]
pub use armed::arm;
#[cfg(feature = "deliberate-faults")]
pub(super) use armed::is_armed;

#[cfg(not(feature = "deliberate-faults"))]
pub(super) const fn is_armed(_: Fault) -> bool {
    false
}
