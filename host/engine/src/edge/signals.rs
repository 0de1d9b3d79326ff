//! Handles Ctrl-C, SIGTERM and SIGHUP: the first stops the job with a checkpoint, the second ends the process at once. Before
//! the job runs there is nothing to take a checkpoint of, so the first ends the process, and the build tools that it runs.
//!
//! A process can be ended at any moment without damage, as by SIGKILL: that is what checkpoints are for. So nothing here
//! waits for files to be closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::clock::Clock;
use super::descendants;
use super::drive::{Inputs, request};
use crate::job::Request;

const SIGNALS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// Exit code after a signal that ends the process at once, the same as of a shell after SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// Signals that come this soon after the first one count as that one.
const SAME_WISH: Duration = Duration::from_millis(200);

/// Longest time from the first signal until a job runs that is being restored; else the process ends.
const BEGINS_WITHIN: Duration = Duration::from_millis(900);
/// How often the state of the start is looked at within that time.
const LOOK: Duration = Duration::from_millis(10);

/// How far a process has come on its way to running a job. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StartStage {
    is_prepared: Arc<AtomicBool>,
    has_begun: Arc<AtomicBool>,
    /// Set by the first signal, before all else.
    is_told: Arc<AtomicBool>,
}

impl StartStage {
    /// Plugins are built and compiled. The job is being restored, and can soon take a checkpoint.
    pub fn prepared(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
    }

    /// The job runs.
    pub fn begun(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Call this before a failure to prepare is reported. A signal that has ended a build tool ends this process too, and
    /// until it has done so, this waits: that the tool failed is not what its user has to know.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing runs here that could wait instead"
    )]
    pub fn wait_if_told(&self) {
        if self.is_told.load(Ordering::Relaxed) && !self.is_prepared.load(Ordering::Relaxed) {
            std::thread::sleep(BEGINS_WITHIN);
        }
    }

    /// Waits until the job runs; returns whether it soon does. `first` is the time of the first signal.
    #[expect(clippy::disallowed_methods, reason = "this thread only waits")]
    fn begins_in_time(&self, signals: &mut Signals, clock: Clock, first: Duration) -> bool {
        while !self.has_begun.load(Ordering::Relaxed) {
            let waited = clock.now().saturating_sub(first);
            let is_told_again = signals.pending().count() > 0 && waited >= SAME_WISH;
            if is_told_again || waited >= BEGINS_WITHIN {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

/// What a signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalEffect {
    /// The job stops with a checkpoint.
    Stops,
    /// The process ends, before the job ran.
    EndsBefore,
    /// The process ends at once, since it is the second signal.
    Ends,
}

/// Reports the first signal to the job, or ends the process. `told` is called before each of that.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn report_stop(
    inputs: Inputs,
    stage: &StartStage,
    told: impl Fn(SignalEffect) + Send + 'static,
) -> io::Result<()> {
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::clone(&stage.is_told))?;
    }
    let mut signals = Signals::new(SIGNALS)?;
    let stage = stage.clone();
    std::thread::spawn(move || {
        let clock = Clock::start();
        if signals.forever().next().is_none() {
            return;
        }
        let first = clock.now();
        let is_prepared = stage.is_prepared.load(Ordering::Relaxed);
        if is_prepared {
            told(SignalEffect::Stops);
            let stop = Request::Stop {
                drain: false,
                caller: None,
            };
            request(&inputs, stop);
        }
        if !is_prepared || !stage.begins_in_time(&mut signals, clock, first) {
            told(SignalEffect::EndsBefore);
            descendants::end();
            std::process::exit(EXIT_AT_ONCE);
        }
        for _ in signals.forever() {
            // A shell or `timeout` may signal both the process and its group.
            if clock.now() >= first + SAME_WISH {
                told(SignalEffect::Ends);
                std::process::exit(EXIT_AT_ONCE);
            }
        }
    });
    Ok(())
}

/// Calls `told` at the first signal, on a thread of its own: it may wait for a job. The second signal ends the process.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn on_stop(told: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(SIGNALS)?;
    std::thread::spawn(move || {
        let clock = Clock::start();
        if signals.forever().next().is_none() {
            return;
        }
        let first = clock.now();
        std::thread::spawn(told);
        for _ in signals.forever() {
            // A shell or `timeout` may signal both the process and its group.
            if clock.now() >= first + SAME_WISH {
                std::process::exit(EXIT_AT_ONCE);
            }
        }
    });
    Ok(())
}

/// Ends the process, and the build tools that it runs, on Ctrl-C, SIGTERM and SIGHUP: for a command that changes nothing else.
///
/// # Errors
/// When the operating system refuses: signals then end the process alone, as they do by default.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn end_with_descendants(stage: &StartStage) -> io::Result<()> {
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::clone(&stage.is_told))?;
    }
    let mut signals = Signals::new(SIGNALS)?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            descendants::end();
            std::process::exit(EXIT_AT_ONCE);
        }
    });
    Ok(())
}

/// Sets a flag on Ctrl-C, SIGTERM and SIGHUP, for a command that must clean up before it ends.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
pub fn note_stop(flag: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}
