//! Switches a task from the quick compiler's code to optimised code, between two batches.
//!
//! A task asks its instance once per batch, and replaces it as after a trap: its log and its call times are kept, and
//! the memory of a guest is only a cache. This module is independent of when and how plugins are optimised.

use super::keyed_state::KeyedState;
use super::task::OperatorTask;

impl<S: KeyedState> OperatorTask<S> {
    /// Switches to an instance of optimised code, if one is ready. If it does not open, the working instance is kept:
    /// this is not a failure.
    pub(super) fn improve(&mut self) {
        if self.plugin.instance.has_better_code() && self.renew().is_err() {
            self.plugin.instance.keep_code();
        }
    }

    /// Whether the task runs code of the quick compiler, and whether that will be replaced.
    pub(super) fn code(&self) -> (bool, bool) {
        let instance = &self.plugin.instance;
        (instance.is_quick(), instance.awaits_better_code())
    }
}
