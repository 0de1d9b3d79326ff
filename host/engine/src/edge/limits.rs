//! Converts the limits in a pipeline file to those of a guest.

use crate::guest::Limits;
use crate::pipeline::limits::LimitSettings;

/// The given limits, with defaults for the others.
#[must_use]
pub fn limits(typed: LimitSettings) -> Limits {
    let default = Limits::default();
    Limits {
        memory_bytes: typed.memory.unwrap_or(default.memory_bytes),
        time_per_call: typed.time_per_call.unwrap_or(default.time_per_call),
        stop_grace: typed.stop_grace.unwrap_or(default.stop_grace),
        output_bytes_per_call: typed
            .output_per_call
            .unwrap_or(default.output_bytes_per_call),
        state_bytes: typed.state.map(|state| state.0.unwrap_or(u64::MAX)),
        log_lines_per_second: typed
            .log_lines_per_second
            .unwrap_or(default.log_lines_per_second),
        instances: typed.instances.unwrap_or(default.instances),
        compile_time: typed.compile_time.unwrap_or(default.compile_time),
        compile_memory_bytes: typed.compile_memory.unwrap_or(default.compile_memory_bytes),
        fuel_per_call: match typed.fuel_per_call {
            Some(fuel) => fuel.0,
            None => default.fuel_per_call,
        },
    }
}
