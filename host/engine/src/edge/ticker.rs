//! Advances an engine's epoch and triggers its profiler, on threads of their own.
//!
//! Without a running [`Ticker`], the time limits of calls are not enforced. A second ticker samples guests more often,
//! if their engine takes samples. A late tick lets a call run longer, never shorter, so a busy machine does not end a
//! call before its limit.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::guest::{GuestEngine, SAMPLE, TICK};

/// Ticks an engine at an interval until it is dropped.
pub struct Ticker {
    ending: Arc<StopSignal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct StopSignal {
    is_over: Mutex<bool>,
    said: Condvar,
}

impl Ticker {
    /// Starts ticking.
    #[must_use]
    pub fn start(engine: &GuestEngine) -> Self {
        Self::every(TICK, engine, GuestEngine::tick)
    }

    /// Starts sampling; `None` if the engine takes no samples.
    #[must_use]
    pub fn sampling(engine: &GuestEngine) -> Option<Self> {
        engine.samples()?;
        Some(Self::every(SAMPLE, engine, GuestEngine::sample))
    }

    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    fn every(interval: Duration, engine: &GuestEngine, call: fn(&GuestEngine)) -> Self {
        let ending = Arc::new(StopSignal::default());
        let (engine, heard) = (engine.clone(), Arc::clone(&ending));
        let thread = std::thread::spawn(move || {
            while !heard.is_over_after(interval) {
                call(&engine);
            }
        });
        Self {
            ending,
            thread: Some(thread),
        }
    }
}

impl StopSignal {
    fn is_over_after(&self, interval: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .said
            .wait_timeout_while(is_over, interval, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self
            .ending
            .is_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.ending.said.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
