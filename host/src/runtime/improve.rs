//! The change from the code of the quick compiler to optimised code, between two batches of a task.
//!
//! A task asks its instance once a batch, and renews it as after a trap: what it logged and how long its calls took is kept,
//! and the memory of a guest is a cache. Nothing here knows who optimises, or when.

use super::task::OperatorTask;

impl OperatorTask {
    /// Switches to an instance of optimised code, if that is ready by now. If it does not open, the instance that works is
    /// kept: this is not a failure.
    pub(super) fn improve(&mut self) {
        if self.instance.has_better_code() && self.renew().is_err() {
            self.instance.keep_code();
        }
    }

    /// Whether it runs code of the quick compiler, and whether that will be replaced.
    pub(super) fn code(&self) -> (bool, bool) {
        (self.instance.is_quick(), self.instance.awaits_better_code())
    }
}
