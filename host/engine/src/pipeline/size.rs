//! Parses and formats sizes such as `512B`, `64KiB`, `256MiB`, `1.5GiB`.
//!
//! Binary units only: a user who writes `MB` is asked which one is meant, since guessing would be wrong by 5 %.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};

/// The largest size.
pub const SIZE_MAX: u64 = 1 << 50;

const UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Parses a size of 1 byte to [`SIZE_MAX`].
///
/// ```
/// use floodmark_engine::pipeline::size::parse;
/// assert_eq!(parse("256MiB"), Ok(256 << 20));
/// ```
///
/// # Errors
/// When it is not a size: a sentence for the user.
pub fn parse(text: &str) -> Result<u64, String> {
    parse_within(text, (1, SIZE_MAX))
}

/// As [`parse`], for sizes from a least to a most one.
///
/// # Errors
/// Those of [`parse`]; the message has both bounds.
pub fn parse_within(text: &str, (least, most): (u64, u64)) -> Result<u64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let Ok(amount) = number.parse::<f64>() else {
        return Err(format!(
            "`{text}` is not a size; write one such as `64MiB` or `2GiB`"
        ));
    };
    if unit.is_empty() {
        return Err(format!(
            "`{text}` has no unit; write `{text}B` for bytes or `{text}MiB` for mebibytes"
        ));
    }
    let known = UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let Some((_, unit_bytes)) = known else {
        return Err(format!(
            "`{unit}` is not a unit of size; write `B`, `KiB`, `MiB`, `GiB` or `TiB`"
        ));
    };
    let bytes = amount * *unit_bytes as f64;
    if bytes < least as f64 || bytes > most as f64 {
        return Err(format!(
            "`{text}` is not between {} and {}",
            format(least),
            format(most)
        ));
    }
    Ok(bytes.round() as u64)
}

/// Formats in the largest unit that gives a whole number.
#[must_use]
pub fn format(bytes: u64) -> String {
    let mut units = UNITS.iter().rev();
    let (name, unit) = units
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / unit)
}

/// For serde: a size.
///
/// # Errors
/// Those of [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserialize_within(deserializer, (1, SIZE_MAX))
}

/// As [`deserialize`], for sizes from a least to a most one.
///
/// # Errors
/// Those of [`parse_within`].
pub fn deserialize_within<'de, D: Deserializer<'de>>(
    deserializer: D,
    bounds: (u64, u64),
) -> Result<u64, D::Error> {
    struct SizeVisitor((u64, u64));

    impl Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as `256MiB`")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            parse_within(text, self.0).map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
            self.visit_str(&number.to_string())
        }
    }

    deserializer.deserialize_str(SizeVisitor(bounds))
}

#[cfg(test)]
mod tests {
    //! Catches a wrong unit, and a bad size that is accepted, or refused without saying how to write it.

    use super::{format, parse};

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1B", "1B"),
            ("64KiB", "64KiB"),
            ("256MiB", "256MiB"),
            ("256 mib", "256MiB"),
            ("1.5GiB", "1536MiB"),
            ("2048KiB", "2MiB"),
            ("1025B", "1025B"),
            ("1TiB", "1TiB"),
            (
                "5",
                "`5` has no unit; write `5B` for bytes or `5MiB` for mebibytes",
            ),
            (
                "5MB",
                "`MB` is not a unit of size; write `B`, `KiB`, `MiB`, `GiB` or `TiB`",
            ),
            ("0MiB", "`0MiB` is not between 1B and 1024TiB"),
            (
                "99999999999999999999GiB",
                "`99999999999999999999GiB` is not between 1B and 1024TiB",
            ),
            (
                "-1MiB",
                "`-1MiB` is not a size; write one such as `64MiB` or `2GiB`",
            ),
            ("", "`` is not a size; write one such as `64MiB` or `2GiB`"),
        ] {
            let read = parse(text).map_or_else(|error| error, format);
            assert_eq!(read, expected, "{text}");
        }
    }
}
