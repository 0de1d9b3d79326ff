//! Ctrl-C and SIGTERM: the first asks the job to stop with a checkpoint, the second ends the process at once.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::drive::Reports;
use crate::runtime::report::Report;

/// Exit code of a process that was told twice to stop, as a shell gives it for SIGINT.
const EXIT_TOLD_TWICE: i32 = 130;

/// Reports the first signal to the job. `told` is called for each, with its number from 1.
///
/// # Errors
/// When the operating system refuses: signals then end the process as they do by default.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn report_stop(reports: Reports, told: impl Fn(u32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for (number, _) in (1..).zip(signals.forever()) {
            told(number);
            if number > 1 {
                std::process::exit(EXIT_TOLD_TWICE);
            }
            // A job that is over needs no stop.
            let _ = reports.send(Report::StopAsked);
        }
    });
    Ok(())
}
