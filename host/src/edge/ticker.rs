//! The thread that lets time go by for guests: it ticks their engine, and an engine that nobody ticks stops no call.
//!
//! A late tick makes calls longer, never shorter, so a busy machine ends no call before its time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::guest::{GuestEngine, TICK};

/// Ticks an engine as long as it is there.
pub struct Ticker {
    ending: Arc<Ending>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ending {
    is_over: Mutex<bool>,
    said: Condvar,
}

impl Ticker {
    /// Starts to tick.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    pub fn start(engine: &GuestEngine) -> Self {
        let ending = Arc::new(Ending::default());
        let (engine, heard) = (engine.clone(), Arc::clone(&ending));
        let thread = std::thread::spawn(move || {
            while !heard.is_over_after_a_tick() {
                engine.tick();
            }
        });
        Self {
            ending,
            thread: Some(thread),
        }
    }
}

impl Ending {
    fn is_over_after_a_tick(&self) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .said
            .wait_timeout_while(is_over, TICK, |is_over| !*is_over);
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
