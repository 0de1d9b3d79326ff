//! What an instance of a plugin may use. Plain data: each limit is enforced where the thing is used up.

use std::time::Duration;

/// What an instance may use, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance.
    pub memory_bytes: u64,
    /// How long one call may take.
    pub time_per_call: Duration,
    /// Bytes that one call may return.
    pub output_bytes_per_call: u64,
    /// Lines that a task may log in a second.
    pub log_lines_per_second: u32,
    /// Live instances beside those of the tasks.
    pub instances: u32,
    /// Units of fuel of one call; without one, none is counted.
    pub fuel_per_call: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            time_per_call: Duration::from_secs(10),
            output_bytes_per_call: 64 << 20,
            log_lines_per_second: 100,
            instances: 16,
            fuel_per_call: None,
        }
    }
}
