//! Lines for the job's log.
//!
//! The host adds operator and task, cuts long lines and bounds the rate, so no operator needs a limit of its own.
//! Natively there is no host: lines wait on their thread until `testing` asks for them.

pub use crate::bindings::floodmark::engine::log::Level;

/// Writes one line to the job's log.
pub fn line(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::floodmark::engine::log::line(level, message);
    #[cfg(not(target_family = "wasm"))]
    native::keep(level, message);
}

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native {
    //! Where lines wait when there is no host.

    use std::cell::RefCell;

    use super::Level;

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn keep(level: Level, message: &str) {
        LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
    }

    pub(crate) fn take() -> Vec<(Level, String)> {
        LINES.take()
    }
}

/// Writes a line at level `trace`, for details of every step, formatted like `println!`.
#[macro_export]
macro_rules! trace {
    ($($arguments:tt)+) => { $crate::log::line($crate::log::Level::Trace, &::std::format!($($arguments)+)) };
}

/// Writes a line at level `debug`, for finding mistakes, formatted like `println!`.
#[macro_export]
macro_rules! debug {
    ($($arguments:tt)+) => { $crate::log::line($crate::log::Level::Debug, &::std::format!($($arguments)+)) };
}

/// Writes a line at level `info`, formatted like `println!`.
#[macro_export]
macro_rules! info {
    ($($arguments:tt)+) => { $crate::log::line($crate::log::Level::Info, &::std::format!($($arguments)+)) };
}

/// Writes a line at level `warn`, about something that may need attention, formatted like `println!`.
#[macro_export]
macro_rules! warn {
    ($($arguments:tt)+) => { $crate::log::line($crate::log::Level::Warn, &::std::format!($($arguments)+)) };
}

/// Writes a line at level `error`, about a failure, formatted like `println!`.
#[macro_export]
macro_rules! error {
    ($($arguments:tt)+) => { $crate::log::line($crate::log::Level::Error, &::std::format!($($arguments)+)) };
}
