//! Where the engine touches the machine: clock, threads, signals, and the data folder.
//!
//! Nothing is decided here; what is outside gets time and wake-ups as values.

pub mod clock;
pub mod drive;
pub mod signals;
