//! Reads the event time of a record from the text of a field.
//!
//! Numbers count from 1970 in one unit. Without a stated unit they are milliseconds, and a number that would be a
//! strange time in milliseconds but a usual one in another unit is refused: it would silently be a time in January 1970,
//! or thousands of years ahead. A refusal depends on the record alone, so it is the same whenever the record is read.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::time_pattern::{TimePattern, first_in};
use crate::connector::field::FieldPath;
use crate::connector::rfc3339;
use floodmark_state::stream::{NO_TIMESTAMP, Timestamp};

/// The unit of event times that are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TimestampUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// The only form that event times may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Text such as `2026-02-03T04:05:06Z`.
    Rfc3339,
    /// Text of a form with letters of `strftime`.
    Pattern(TimePattern),
}

impl<'de> Deserialize<'de> for TimestampFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FormatVisitor;

        impl Visitor<'_> for FormatVisitor {
            type Value = TimestampFormat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`rfc3339`, or a form such as `%Y-%m-%d %H:%M:%S`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TimestampFormat, E> {
                match text {
                    "rfc3339" => Ok(TimestampFormat::Rfc3339),
                    form if form.contains('%') => TimePattern::new(form)
                        .map(TimestampFormat::Pattern)
                        .map_err(E::custom),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_str(FormatVisitor)
    }
}

impl TimestampFormat {
    /// The first event time in a line.
    ///
    /// # Errors
    /// When there is none: the reason, for the user.
    pub(super) fn find(&self, line: &[u8]) -> Result<Timestamp, String> {
        let (found, form) = match self {
            Self::Pattern(pattern) => (pattern.find(line), pattern.text()),
            Self::Rfc3339 => (first_in(line, true, rfc3339::parse_start), "rfc3339"),
        };
        found.ok_or_else(|| {
            format!(
                "the line has no event time of the form `{form}`; correct it, or set another `timestamp-format`"
            )
        })
    }
}

/// The field with the event time, and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeField {
    pub(super) field: FieldPath,
    /// `None` for milliseconds that are checked.
    pub(super) unit: Option<TimestampUnit>,
    /// `None` for numbers and RFC 3339 alike.
    pub(super) format: Option<TimestampFormat>,
}

impl TimestampUnit {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Seconds => ("s", "seconds"),
            Self::Milliseconds => ("ms", "milliseconds"),
            Self::Microseconds => ("us", "microseconds"),
            Self::Nanoseconds => ("ns", "nanoseconds"),
        }
    }

    /// The unit in which a number is a time from 2001 to 2286, if that is not milliseconds; nanoseconds end in 2262.
    fn likely(number: i64) -> Option<Self> {
        const SECONDS: Range<i64> = 1_000_000_000..10_000_000_000;
        if SECONDS.contains(&number) {
            Some(Self::Seconds)
        } else if SECONDS.contains(&(number / 1_000_000)) {
            Some(Self::Microseconds)
        } else if SECONDS.contains(&(number / 1_000_000_000)) {
            Some(Self::Nanoseconds)
        } else {
            None
        }
    }
}

impl TimeField {
    /// The event time in the text of the field.
    ///
    /// # Errors
    /// When it is not an event time: the reason, for the user.
    pub(super) fn parse(&self, text: &[u8]) -> Result<Timestamp, String> {
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let time = match (number, &self.format) {
            (Some(number), None) => self.milliseconds(number)?,
            (_, Some(TimestampFormat::Pattern(pattern))) => pattern.parse(text),
            _ => rfc3339::parse(text),
        };
        time.ok_or_else(|| {
            let text = text[..text.len().min(64)].escape_ascii();
            let (_, unit) = self.unit.unwrap_or(TimestampUnit::Milliseconds).words();
            match &self.format {
                None => format!(
                    "`{text}` is not an event time; write {unit} since 1970 as an integer or RFC 3339, or set `timestamp-format` to the form that it has"
                ),
                Some(TimestampFormat::Pattern(pattern)) => format!(
                    "`{text}` is not an event time of the form `{}`; correct it, or set another `timestamp-format`",
                    pattern.text()
                ),
                Some(TimestampFormat::Rfc3339) => format!(
                    "`{text}` is not an event time in RFC 3339; write one such as `2026-02-03T04:05:06Z`, or leave out `timestamp-format`"
                ),
            }
        })
    }

    /// `None` if there is no such time.
    fn milliseconds(&self, number: i64) -> Result<Option<Timestamp>, String> {
        let time = match self.unit {
            None => match TimestampUnit::likely(number) {
                None => Some(number),
                Some(unit) => {
                    let (word, name) = unit.words();
                    return Err(format!(
                        "the event time {number} looks like {name}, and is read as milliseconds; set `timestamp-unit = \"{word}\"`, or `timestamp-unit = \"ms\"` if it is in milliseconds"
                    ));
                }
            },
            Some(TimestampUnit::Seconds) => number.checked_mul(1000),
            Some(TimestampUnit::Milliseconds) => Some(number),
            Some(TimestampUnit::Microseconds) => Some(number.div_euclid(1000)),
            Some(TimestampUnit::Nanoseconds) => Some(number.div_euclid(1_000_000)),
        };
        Ok(time.filter(|&time| time != NO_TIMESTAMP))
    }
}

#[cfg(test)]
mod tests {
    //! Catches seconds that silently become times in 1970, and a unit that is converted wrongly.

    use super::*;

    fn field(unit: Option<TimestampUnit>, format: Option<TimestampFormat>) -> TimeField {
        TimeField {
            field: FieldPath::column("t"),
            unit,
            format,
        }
    }

    #[test]
    fn numbers_have_the_unit_that_was_set() {
        use TimestampUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (unit, text, expected) in [
            (None, "5", 5),
            (None, "-5", -5),
            (None, "1770000000000", 1_770_000_000_000),
            (None, "1970-01-01T00:00:01Z", 1000),
            (Some(Milliseconds), "1770000000", 1_770_000_000),
            (Some(Seconds), "1770000000", 1_770_000_000_000),
            (Some(Seconds), "1970-01-01T00:00:01Z", 1000),
            (Some(Microseconds), "1770000000000999", 1_770_000_000_000),
            (Some(Microseconds), "-1", -1),
            (Some(Nanoseconds), "1770000000000999999", 1_770_000_000_000),
        ] {
            let found = field(unit, None).parse(text.as_bytes());
            assert_eq!(found, Ok(expected), "{unit:?} {text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let rfc3339 = || Some(TimestampFormat::Rfc3339);
        let seconds = Some(TimestampUnit::Seconds);
        for (unit, format, text, expected) in [
            (None, None, "1770000000", "set `timestamp-unit = \"s\"`"),
            (
                None,
                None,
                "1770000000000000",
                "set `timestamp-unit = \"us\"`",
            ),
            (
                None,
                None,
                "1770000000000000000",
                "set `timestamp-unit = \"ns\"`",
            ),
            (
                None,
                None,
                "1.5",
                "`1.5` is not an event time; write milliseconds",
            ),
            (
                seconds,
                None,
                "1.5",
                "`1.5` is not an event time; write seconds",
            ),
            (
                None,
                None,
                "2026-11-30 02:22:02",
                "or set `timestamp-format`",
            ),
            (seconds, None, "9223372036854775807", "is not an event time"),
            (None, None, "-9223372036854775808", "is not an event time"),
            (None, rfc3339(), "5", "`5` is not an event time in RFC 3339"),
        ] {
            let reason = field(unit, format).parse(text.as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        let text = field(None, rfc3339()).parse(b"1970-01-01T00:00:01Z");
        assert_eq!(text, Ok(1000));
    }
}
