//! Reads the section `[restart]`, with its defaults. What a strategy does is decided elsewhere.
//!
//! The fields depend on `strategy`, so each strategy has a struct of its own, and a field of another strategy is
//! reported as such.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::problem::DeserializeFault;
use super::reader::read;
use super::settings::count_or_unlimited;
use super::tree::{TomlNode, Value};
use super::{duration, suggestions};

/// A larger number is probably a mistake.
const MULTIPLIER_MAX: f64 = 1000.0;

/// The section `[restart]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartSettings {
    /// `strategy = "none"`
    None,
    /// `strategy = "fixed-delay"`
    FixedDelay(FixedDelay),
    /// `strategy = "failure-rate"`
    FailureRate(FailureRate),
    /// `strategy = "exponential-delay"`
    ExponentialDelay(ExponentialDelay),
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self::ExponentialDelay(ExponentialDelay::default())
    }
}

/// `strategy = "fixed-delay"`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FixedDelay {
    /// Number of restarts in a row, without a checkpoint with more records in between; `None` for any number.
    #[serde(deserialize_with = "count_or_unlimited")]
    pub attempts: Option<u32>,
    /// The delay before a restart.
    #[serde(deserialize_with = "duration::deserialize_or_zero")]
    pub delay: Duration,
}

impl Default for FixedDelay {
    fn default() -> Self {
        Self {
            attempts: Some(3),
            delay: Duration::from_secs(1),
        }
    }
}

/// `strategy = "failure-rate"`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FailureRate {
    /// Number of failures within `interval` that are tolerated.
    pub max_failures: u32,
    /// The time in which failures are counted.
    #[serde(deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    /// The delay before a restart.
    #[serde(deserialize_with = "duration::deserialize_or_zero")]
    pub delay: Duration,
}

impl Default for FailureRate {
    fn default() -> Self {
        Self {
            max_failures: 3,
            interval: Duration::from_secs(300),
            delay: Duration::from_secs(1),
        }
    }
}

/// `strategy = "exponential-delay"`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ExponentialDelay {
    /// The first delay.
    #[serde(deserialize_with = "duration::deserialize")]
    pub initial_backoff: Duration,
    /// The longest delay.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_backoff: Duration,
    /// The factor by which each delay is longer than the one before.
    #[serde(deserialize_with = "number")]
    pub backoff_multiplier: f64,
    /// Largest random deviation of a delay, as a fraction of it.
    #[serde(deserialize_with = "number")]
    pub jitter_factor: f64,
    /// After this long without a failure, the next one counts as the first.
    #[serde(deserialize_with = "duration::deserialize")]
    pub reset_backoff_threshold: Duration,
    /// Number of restarts in a row; `None` for any number.
    #[serde(deserialize_with = "count_or_unlimited")]
    pub attempts: Option<u32>,
}

impl Default for ExponentialDelay {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(60),
            backoff_multiplier: 2.0,
            jitter_factor: 0.1,
            reset_backoff_threshold: Duration::from_secs(600),
            attempts: Some(10),
        }
    }
}

/// The strategies by name, with their fields.
const STRATEGIES: [(&str, &[&str]); 4] = [
    (
        "exponential-delay",
        &[
            "attempts",
            "backoff-multiplier",
            "initial-backoff",
            "jitter-factor",
            "max-backoff",
            "reset-backoff-threshold",
        ],
    ),
    ("fixed-delay", &["attempts", "delay"]),
    ("failure-rate", &["delay", "interval", "max-failures"]),
    ("none", &[]),
];

/// Other names for them in Apache Flink.
const STRATEGIES_OF_FLINK: [(&str, &str); 9] = [
    ("off", "none"),
    ("disable", "none"),
    ("disabled", "none"),
    ("norestart", "none"),
    ("fixeddelay", "fixed-delay"),
    ("failurerate", "failure-rate"),
    ("exponentialdelay", "exponential-delay"),
    ("exponential", "exponential-delay"),
    ("fallback", "exponential-delay"),
];

/// Reads the section; missing fields have their defaults.
pub(super) fn settings(node: &TomlNode) -> Result<RestartSettings, DeserializeFault> {
    let mut node = node.clone();
    let mut strategy = STRATEGIES[0].0;
    if let Value::Table(fields) = &mut node.value {
        if let Some(named) = fields.remove("strategy") {
            let text: String = read(&named).map_err(|fault| fault.within("strategy"))?;
            strategy = known(&text).map_err(|message| {
                DeserializeFault::custom(message)
                    .at(named.place)
                    .within("strategy")
            })?;
        }
        for (field, node) in fields.iter() {
            of_another(strategy, field).map_err(|message| {
                DeserializeFault::custom(message)
                    .at(node.place)
                    .within(field)
            })?;
        }
    }
    let settings = match strategy {
        "none" => read::<Nothing>(&node).map(|Nothing {}| RestartSettings::None),
        "fixed-delay" => read(&node).map(RestartSettings::FixedDelay),
        "failure-rate" => read(&node).map(RestartSettings::FailureRate),
        _ => read(&node).map(RestartSettings::ExponentialDelay),
    };
    settings.map_err(|fault| fault.knowing(&["strategy"]))
}

/// A strategy without fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn known(text: &str) -> Result<&'static str, String> {
    let names = STRATEGIES.map(|(name, _)| name);
    if let Some(name) = names.iter().find(|name| **name == text) {
        return Ok(name);
    }
    let plain = text.to_lowercase();
    let habit = STRATEGIES_OF_FLINK.iter().find(|(old, _)| *old == plain);
    let hint = match habit {
        Some((_, new)) => format!("; it is called `{new}` here"),
        None => suggestions::hint(&plain, names),
    };
    Err(format!("unknown value `{text}`{hint}"))
}

/// Refuses a field that only other strategies have.
fn of_another(strategy: &str, field: &str) -> Result<(), String> {
    let mut others = STRATEGIES
        .iter()
        .filter(|(_, fields)| fields.contains(&field));
    let Some((first, _)) = others.clone().next() else {
        return Ok(());
    };
    if others.any(|(name, _)| *name == strategy) {
        return Ok(());
    }
    Err(format!(
        "belongs to the strategy `{first}`, but the strategy is `{strategy}`; leave it out, or write `strategy = \"{first}\"`"
    ))
}

impl RestartSettings {
    /// Problems with the numbers: the field, and the reason.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        match self {
            Self::None | Self::FixedDelay(_) => {}
            Self::FailureRate(rate) => {
                if rate.max_failures == 0 {
                    let message = "is 0; write 1 or more, or `strategy = \"none\"`";
                    wrong.push(("max-failures", message.to_owned()));
                }
            }
            Self::ExponentialDelay(delay) => {
                if delay.max_backoff < delay.initial_backoff {
                    let message = format!(
                        "is shorter than `initial-backoff`, which is {}",
                        duration::format(delay.initial_backoff)
                    );
                    wrong.push(("max-backoff", message));
                }
                if !(1.0..=MULTIPLIER_MAX).contains(&delay.backoff_multiplier) {
                    let message = format!(
                        "{} is not between 1 and {MULTIPLIER_MAX}",
                        delay.backoff_multiplier
                    );
                    wrong.push(("backoff-multiplier", message));
                }
                if !(0.0..=1.0).contains(&delay.jitter_factor) {
                    let message = format!("{} is not between 0 and 1", delay.jitter_factor);
                    wrong.push(("jitter-factor", message));
                }
            }
        }
        wrong
    }
}

/// A number, integer or not.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct NumberVisitor;

    impl Visitor<'_> for NumberVisitor {
        type Value = f64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a number")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
            Ok(number as f64)
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
            Ok(number)
        }
    }

    deserializer.deserialize_any(NumberVisitor)
}
