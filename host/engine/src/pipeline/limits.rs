//! Reads the section `[limits]` and the tables `[operator.NAME.limits]`.
//!
//! A limit that is not given is `None`: the code that enforces it has the default. Values with which no plugin could
//! start, or that limit nothing, are refused here.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::{duration, size};

/// Smallest memory limit in bytes: one page of WebAssembly.
const MEMORY_MIN: u64 = 64 << 10;
/// Largest memory limit in bytes: what a 32-bit plugin can address.
const MEMORY_MAX: u64 = 1 << 32;
/// Shortest time limit, and shortest grace: time is measured in steps of this.
const TIME_MIN: Duration = Duration::from_millis(10);
/// Smallest output limit in bytes: less has no room for one record.
const OUTPUT_MIN: u64 = 1 << 10;
/// Largest output limit of one call, in bytes.
const OUTPUT_MAX: u64 = 2 << 30;
/// Smallest limit on state in bytes.
const STATE_MIN: u64 = 64 << 10;
/// Shortest time limit for compiling: the system counts it in seconds.
const COMPILE_TIME_MIN: Duration = Duration::from_secs(1);
/// Smallest memory limit for compiling in bytes: the compiler itself takes a part of it.
const COMPILE_MEMORY_MIN: u64 = 128 << 20;
/// Largest number of spare instances of one operator.
const INSTANCES_MAX: u32 = 1024;

/// Limits as typed. A table of an operator takes precedence over the section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Bytes of linear memory of an instance.
    #[serde(deserialize_with = "memory")]
    pub memory: Option<u64>,
    /// Longest time of a call.
    #[serde(deserialize_with = "time")]
    pub time_per_call: Option<Duration>,
    /// Time that is left for a call once the job was asked to stop.
    #[serde(deserialize_with = "time")]
    pub stop_grace: Option<Duration>,
    /// Bytes that a call may return.
    #[serde(deserialize_with = "output")]
    pub output_per_call: Option<u64>,
    /// Bytes of state of one task.
    pub state: Option<StateLimit>,
    /// Lines that an operator may log per second.
    pub log_lines_per_second: Option<u32>,
    /// Number of spare instances of an operator.
    #[serde(deserialize_with = "instances")]
    pub instances: Option<u32>,
    /// Units of fuel that a call may use.
    pub fuel_per_call: Option<Fuel>,
    /// Longest time for compiling the plugin.
    #[serde(deserialize_with = "compile_time")]
    pub compile_time: Option<Duration>,
    /// Bytes of memory for compiling the plugin.
    #[serde(deserialize_with = "compile_memory")]
    pub compile_memory: Option<u64>,
}

impl LimitSettings {
    /// These limits, with those of `general` where none is given.
    #[must_use]
    pub fn over(self, general: Self) -> Self {
        Self {
            memory: self.memory.or(general.memory),
            time_per_call: self.time_per_call.or(general.time_per_call),
            stop_grace: self.stop_grace.or(general.stop_grace),
            output_per_call: self.output_per_call.or(general.output_per_call),
            state: self.state.or(general.state),
            log_lines_per_second: self.log_lines_per_second.or(general.log_lines_per_second),
            instances: self.instances.or(general.instances),
            fuel_per_call: self.fuel_per_call.or(general.fuel_per_call),
            compile_time: self.compile_time.or(general.compile_time),
            compile_memory: self.compile_memory.or(general.compile_memory),
        }
    }
}

/// Units of fuel for a call, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuel(
    /// At least one; `None` if fuel is off.
    pub Option<u64>,
);

impl<'de> Deserialize<'de> for Fuel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FuelVisitor;

        impl Visitor<'_> for FuelVisitor {
            type Value = Fuel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 1 or more, or `off`")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Fuel, E> {
                match u64::try_from(number) {
                    Ok(units @ 1..) => Ok(Fuel(Some(units))),
                    _ => Err(E::invalid_type(
                        serde::de::Unexpected::Signed(number),
                        &self,
                    )),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Fuel, E> {
                match text {
                    "off" => Ok(Fuel(None)),
                    _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(FuelVisitor)
    }
}

/// Bytes of state of a task, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateLimit(
    /// `None` if there is no limit.
    pub Option<u64>,
);

impl<'de> Deserialize<'de> for StateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StateLimitVisitor;

        impl Visitor<'_> for StateLimitVisitor {
            type Value = StateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `8GiB`, or `off`")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<StateLimit, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StateLimit, E> {
                if text == "off" {
                    return Ok(StateLimit(None));
                }
                let bytes = size::parse_within(text, (STATE_MIN, size::SIZE_MAX));
                Ok(StateLimit(Some(bytes.map_err(E::custom)?)))
            }
        }

        deserializer.deserialize_any(StateLimitVisitor)
    }
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::deserialize_within(deserializer, (MEMORY_MIN, MEMORY_MAX)).map(Some)
}

fn output<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::deserialize_within(deserializer, (OUTPUT_MIN, OUTPUT_MAX)).map(Some)
}

fn compile_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::deserialize_within(deserializer, (COMPILE_MEMORY_MIN, size::SIZE_MAX)).map(Some)
}

fn compile_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let time = duration::deserialize_naming(deserializer, COMPILE_TIME_MIN)?;
    match time >= COMPILE_TIME_MIN {
        true => Ok(Some(time)),
        false => Err(D::Error::custom(format!(
            "is shorter than {}, the resolution of the measurement",
            duration::format(COMPILE_TIME_MIN)
        ))),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let time = duration::deserialize_naming(deserializer, TIME_MIN)?;
    match time >= TIME_MIN {
        true => Ok(Some(time)),
        false => Err(D::Error::custom(format!(
            "is shorter than {}, the resolution of the measurement",
            duration::format(TIME_MIN)
        ))),
    }
}

fn instances<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let instances = u32::deserialize(deserializer)?;
    match (1..=INSTANCES_MAX).contains(&instances) {
        true => Ok(Some(instances)),
        false => Err(D::Error::custom(format!(
            "{instances} is not between 1 and {INSTANCES_MAX}; one spare is needed after a plugin has crashed"
        ))),
    }
}
