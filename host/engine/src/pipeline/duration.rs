//! Parses and formats durations such as `200ms`, `10s`, `5min`, `1.5h`.
//!
//! Written here rather than taken from a crate: five units and one number need 40 lines, and the point is the message
//! for a number without a unit. Composed forms such as `1h 30min` are not accepted.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

/// The longest duration: a year, so that sums with a clock never overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shortest duration.
const DURATION_MIN: Duration = Duration::from_millis(1);

const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("sec", 1000),
    ("min", 60_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Parses a duration of 1 ms to [`DURATION_MAX`].
///
/// ```
/// use floodmark_engine::pipeline::duration::parse;
/// assert_eq!(parse("1.5s"), Ok(std::time::Duration::from_millis(1500)));
/// ```
///
/// # Errors
/// When it is not a duration: a sentence for the user.
pub fn parse(text: &str) -> Result<Duration, String> {
    parse_naming(text, DURATION_MIN)
}

/// As [`parse`]; the message about a time that is too short or too long names the shortest one that the caller takes.
fn parse_naming(text: &str, least: Duration) -> Result<Duration, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let Ok(amount) = number.parse::<f64>() else {
        return Err(format!(
            "`{text}` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`"
        ));
    };
    if unit.is_empty() {
        return Err(format!(
            "`{text}` has no unit; write `{text}s` for seconds or `{text}ms` for milliseconds"
        ));
    }
    let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "`{unit}` is not a unit of time; write `ms`, `s`, `min`, `h` or `d`"
        ));
    };
    let ms = amount * *unit_ms as f64;
    if ms < 1.0 || ms > DURATION_MAX.as_millis() as f64 {
        return Err(format!(
            "`{text}` is not between {} and 365d",
            format(least)
        ));
    }
    Ok(Duration::from_millis(ms.round() as u64))
}

/// Formats in the largest unit that gives a whole number.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1000, "s"),
    ]
    .into_iter()
    .find(|(unit_ms, _)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms))
    .map_or_else(
        || format!("{ms}ms"),
        |(unit_ms, unit)| format!("{}{unit}", ms / unit_ms),
    )
}

/// For serde: a duration.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserialize_naming(deserializer, DURATION_MIN)
}

/// As [`deserialize`]; a message names `least` as the shortest time. The caller refuses shorter ones.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize_naming<'de, D: Deserializer<'de>>(
    deserializer: D,
    least: Duration,
) -> Result<Duration, D::Error> {
    let visitor = DurationVisitor { word: None, least };
    match deserializer.deserialize_str(visitor)? {
        Some(duration) => Ok(duration),
        None => Err(D::Error::custom("must be a duration, not `off`")),
    }
}

/// For serde: a duration, or `off` as `None`.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize_or_off<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_str(DurationVisitor {
        word: Some("off"),
        least: DURATION_MIN,
    })
}

/// For serde: a duration, or `0s` for none.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize_or_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let visitor = DurationVisitor {
        word: Some("0s"),
        least: DURATION_MIN,
    };
    Ok(deserializer.deserialize_str(visitor)?.unwrap_or_default())
}

/// Reads a duration, or a word for none.
struct DurationVisitor {
    word: Option<&'static str>,
    /// What messages name as the shortest time.
    least: Duration,
}

impl Visitor<'_> for DurationVisitor {
    type Value = Option<Duration>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word {
            Some(word) => write!(f, "a duration such as `10s`, or `{word}`"),
            None => f.write_str("a duration such as `10s`"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.word == Some(text) {
            return Ok(None);
        }
        let parsed = parse_naming(text, self.least);
        parsed.map(Some).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    //! Catches a wrong unit, and a bad duration that is accepted, or refused without saying how to write it.

    use super::{format, parse};

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("200ms", "200ms"),
            ("10s", "10s"),
            ("10 sec", "10s"),
            ("5min", "5min"),
            ("5m", "5min"),
            ("1h", "1h"),
            ("1.5h", "90min"),
            ("0.5s", "500ms"),
            ("365d", "365d"),
            ("366d", "`366d` is not between 1ms and 365d"),
            ("0s", "`0s` is not between 1ms and 365d"),
            (
                "99999999999999999999999999h",
                "`99999999999999999999999999h` is not between 1ms and 365d",
            ),
            (
                "10",
                "`10` has no unit; write `10s` for seconds or `10ms` for milliseconds",
            ),
            (
                "10 parsecs",
                "`parsecs` is not a unit of time; write `ms`, `s`, `min`, `h` or `d`",
            ),
            (
                "-1s",
                "`-1s` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`",
            ),
            (
                "soon",
                "`soon` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`",
            ),
            (
                "",
                "`` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`",
            ),
        ] {
            let read = parse(text).map_or_else(|error| error, format);
            assert_eq!(read, expected, "{text}");
        }
    }
}
