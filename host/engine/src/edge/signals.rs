//! Handles Ctrl-C, SIGTERM and SIGHUP: the first stops the job with a checkpoint, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::clock::Clock;
use super::drive::{Inputs, request};
use crate::job::Request;

/// Exit code after a second signal, the same as of a shell after SIGINT.
const EXIT_TOLD_TWICE: i32 = 130;

/// Signals closer together than this count as one.
const SAME_WISH: Duration = Duration::from_millis(200);

/// Reports the first signal to the job. `told` is called for each signal with its number, from 1.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn report_stop(inputs: Inputs, told: impl Fn(u32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let clock = Clock::start();
        let mut last: Option<Duration> = None;
        let mut number = 0;
        for _ in signals.forever() {
            let now = clock.now();
            // A shell or `timeout` may signal both the process and its group.
            if last.replace(now).is_some_and(|last| now < last + SAME_WISH) {
                continue;
            }
            number += 1;
            told(number);
            if number > 1 {
                std::process::exit(EXIT_TOLD_TWICE);
            }
            let stop = Request::Stop {
                drain: false,
                caller: None,
            };
            request(&inputs, stop);
        }
    });
    Ok(())
}

/// Sets a flag on Ctrl-C, SIGTERM and SIGHUP, for a command that must clean up before it ends.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
pub fn note_stop(flag: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}
