//! The folders of parts: a template such as `dt={time:%Y-%m-%d}/k={key}`, and the names that it gives for records.
//!
//! A name never leads out of the sink's folder, whatever a record contains: all bytes but letters, digits and `-_.` are
//! written as `%2F`, and so is a dot at the start, which would hide the folder or mean another one. A name that looks
//! like a part would stand in the way of one, so its first letter is written as `%70`. A name of more than 255 bytes,
//! which no file system takes, ends in `~` and a digest instead; no value gives a `~`. An empty value has the name that
//! Hive uses for it.
//!
//! This module makes no folders.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::format::{Fixed, Item, Numeric, StrftimeItems};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::connector::SinkFormat;
use crate::connector::field::FieldPath;
use floodmark_state::stream::{NO_TIMESTAMP, Timestamp};

/// Longest name of a folder, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a digest in a name that was too long.
const DIGEST_BYTES: usize = 16;
/// Most folders in each other: with a path of the sink's folder, all stay within the 4096 bytes of a path.
const DEPTH_MAX: usize = 8;
/// Longest text between two values, in bytes.
const LITERAL_BYTES_MAX: usize = 100;
/// The name for an empty value.
const EMPTY: &str = "__HIVE_DEFAULT_PARTITION__";

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The folder of a record's part, by its key, its fields and its event time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderTemplate {
    /// For each folder, from the outermost: what its name consists of.
    names: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Key,
    Field(FieldPath),
    Time(FolderTime),
}

/// How the event time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FolderTime {
    items: Vec<Item<'static>>,
    /// Two times within the same multiple of this are written alike.
    period_ms: i64,
    /// Its number among those of the template.
    index: usize,
}

/// The folder of a record, and what can be used for the next record.
#[derive(Debug, Default)]
pub(super) struct FolderText {
    /// The path, relative to the sink's folder.
    pub(super) text: String,
    /// By number of a pattern: its last period, and how that is written.
    times: BTreeMap<usize, (i64, String)>,
}

impl TryFrom<String> for FolderTemplate {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut names: Vec<Vec<Piece>> = vec![Vec::new()];
        let mut times = 0;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let end = rest.find(['{', '}', '/']).unwrap_or(rest.len());
            let (literal, after) = rest.split_at(end);
            let name = names.last_mut().expect("there is one from the beginning");
            if !literal.is_empty() {
                name.push(Piece::Literal(checked(literal, name.is_empty())?));
            }
            rest = match after.as_bytes().first() {
                None => after,
                Some(b'/') => {
                    names.push(Vec::new());
                    &after[1..]
                }
                Some(b'{') => {
                    let (value, after) = after[1..]
                        .split_once('}')
                        .ok_or("a `{` has no `}`; add it after the value")?;
                    name.push(Piece::parse(value, times)?);
                    times += 1;
                    after
                }
                Some(_) => return Err("a `}` has no `{`; add it before the value"),
            };
        }
        if names.iter().any(Vec::is_empty) {
            return Err("a folder has no name; leave out the `/` at that place");
        }
        if names.len() > DEPTH_MAX {
            return Err("there are more than 8 folders in each other; use fewer `/`");
        }
        Ok(Self { names })
    }
}

/// The text around values, if a folder may have it in its name.
fn checked(literal: &str, is_first: bool) -> Result<String, &'static str> {
    if is_first && literal.starts_with('.') {
        return Err("a folder begins with a dot, so it would be hidden; choose another name");
    }
    if is_first && literal.starts_with("part-") {
        return Err("a folder is named like a part of the output; choose another name");
    }
    if literal.len() > LITERAL_BYTES_MAX {
        return Err("a text between two values has more than 100 bytes; shorten it");
    }
    if literal.contains(|char: char| char.is_control() || char == '~') {
        return Err("a name has a control character or a `~` in it; leave it out");
    }
    Ok(literal.to_owned())
}

impl Piece {
    fn parse(value: &str, index: usize) -> Result<Self, &'static str> {
        if value == "key" {
            return Ok(Self::Key);
        }
        match value.split_once(':') {
            Some(("field", path)) if !path.is_empty() => Ok(Self::Field(FieldPath::parse(path)?)),
            Some(("time", pattern)) => Ok(Self::Time(FolderTime::parse(pattern, index)?)),
            _ => Err(
                "a value in braces has to be `{key}`, `{field:PATH}` or `{time:FORMAT}`, such as `{time:%Y-%m-%d}`",
            ),
        }
    }
}

impl FolderTime {
    fn parse(text: &str, index: usize) -> Result<Self, &'static str> {
        if text.contains('/') {
            return Err(
                "a `/` within `{time:…}` makes no folder; write `{time:%Y}/{time:%m}` for two of them",
            );
        }
        let items = StrftimeItems::new(text).parse_to_owned();
        match items {
            Ok(items) if !items.is_empty() => Ok(Self {
                period_ms: items.iter().map(period_ms).min().unwrap_or(DAY_MS),
                items,
                index,
            }),
            _ => Err(
                "a `{time:…}` has no format, or one that does not exist; write it as for `date`, such as `%Y-%m-%d`",
            ),
        }
    }

    fn write(&self, time: Timestamp, out: &mut FolderText) -> Result<(), String> {
        if time == NO_TIMESTAMP {
            return Err(
                "it has no event time, which `folders` needs; set `timestamp` in the source, or leave out `{time:…}`"
                    .to_owned(),
            );
        }
        let period = time.div_euclid(self.period_ms);
        let known = out.times.get(&self.index);
        if known.is_none_or(|(known, _)| *known != period) {
            let beyond = || format!("its event time {time} cannot be written as a date");
            let date = DateTime::<Utc>::from_timestamp_millis(time).ok_or_else(beyond)?;
            let mut text = String::new();
            write!(text, "{}", date.format_with_items(self.items.iter())).map_err(|_| beyond())?;
            let mut name = String::new();
            escape(text.as_bytes(), &mut name);
            out.times.insert(self.index, (period, name));
        }
        out.text.push_str(&out.times[&self.index].1);
        Ok(())
    }
}

/// The time within which all times give the same text.
fn period_ms(item: &Item<'_>) -> i64 {
    match item {
        Item::Literal(_) | Item::OwnedLiteral(_) | Item::Space(_) | Item::OwnedSpace(_) => DAY_MS,
        Item::Numeric(numeric, _) => match numeric {
            Numeric::Year
            | Numeric::YearDiv100
            | Numeric::YearMod100
            | Numeric::IsoYear
            | Numeric::IsoYearDiv100
            | Numeric::IsoYearMod100
            | Numeric::Quarter
            | Numeric::Month
            | Numeric::Day
            | Numeric::WeekFromSun
            | Numeric::WeekFromMon
            | Numeric::IsoWeek
            | Numeric::NumDaysFromSun
            | Numeric::WeekdayFromMon
            | Numeric::Ordinal => DAY_MS,
            Numeric::Hour | Numeric::Hour12 => HOUR_MS,
            Numeric::Minute => 60_000,
            _ => 1,
        },
        Item::Fixed(fixed) => match fixed {
            Fixed::ShortMonthName
            | Fixed::LongMonthName
            | Fixed::ShortWeekdayName
            | Fixed::LongWeekdayName => DAY_MS,
            Fixed::LowerAmPm | Fixed::UpperAmPm => HOUR_MS,
            _ => 1,
        },
        Item::Error => 1,
    }
}

impl FolderTemplate {
    /// Finds the folder of a record.
    ///
    /// # Errors
    /// When the record has no event time or field that the template names: the reason, as the end of a sentence that begins
    /// with the record.
    pub(super) fn find(
        &self,
        (key, value, time): (&[u8], &[u8], Timestamp),
        format: SinkFormat,
        out: &mut FolderText,
    ) -> Result<(), String> {
        let unwritable =
            |reason: String| format!("cannot be written as {}: {reason}", format.word());
        out.text.clear();
        for name in &self.names {
            if !out.text.is_empty() {
                out.text.push('/');
            }
            let start = out.text.len();
            for piece in name {
                match piece {
                    Piece::Literal(text) => out.text.push_str(text),
                    Piece::Key => escape(key, &mut out.text),
                    Piece::Field(path) => {
                        let found = field(path, value, &mut out.text);
                        found.map_err(unwritable)?;
                    }
                    Piece::Time(pattern) => pattern.write(time, out).map_err(unwritable)?,
                }
            }
            make_safe(&mut out.text, start);
        }
        Ok(())
    }
}

fn field(path: &FieldPath, value: &[u8], out: &mut String) -> Result<(), String> {
    let wrong = |reason: String| format!("`folders` finds no value in it: {reason}");
    let json = std::str::from_utf8(value).map_err(|error| wrong(error.to_string()))?;
    escape(path.value(json).map_err(wrong)?.as_bytes(), out);
    Ok(())
}

/// Adds a value as a part of a name.
fn escape(value: &[u8], out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    if value.is_empty() {
        out.push_str(EMPTY);
    }
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

/// Makes the name that begins at `start` one that a folder may have, and no other record's folder.
fn make_safe(text: &mut String, start: usize) {
    if text[start..].starts_with('.') {
        text.replace_range(start..=start, "%2E");
    } else if text[start..].starts_with("part-") {
        text.replace_range(start..=start, "%70");
    }
    if text.len() - start > NAME_BYTES_MAX {
        let digest: [u8; 32] = Sha256::digest(&text.as_bytes()[start..]).into();
        let kept = start + NAME_BYTES_MAX - 1 - 2 * DIGEST_BYTES;
        text.truncate(text.floor_char_boundary(kept));
        text.push('~');
        for byte in &digest[..DIGEST_BYTES] {
            write!(text, "{byte:02x}").expect("a string takes any text");
        }
    }
}

/// Whether a path could be one that a template gives: it stays in the folder of the sink.
pub(super) fn is_safe(folder: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.starts_with('.')
            && !name.starts_with("part-")
            && !name.contains(char::is_control)
    };
    folder.split('/').count() <= DEPTH_MAX && folder.split('/').all(is_name)
}

#[cfg(test)]
mod tests {
    //! Catches a value that leads out of the folder, two values that share one, a time that is written as an earlier one,
    //! and a template that cannot be used.

    use super::*;

    fn template(text: &str) -> FolderTemplate {
        FolderTemplate::try_from(text.to_owned()).unwrap()
    }

    fn found(text: &str, key: &[u8], value: &str, time: Timestamp) -> Result<String, String> {
        let mut out = FolderText::default();
        let record = (key, value.as_bytes(), time);
        let found = template(text).find(record, SinkFormat::Jsonl, &mut out);
        found?;
        assert!(is_safe(&out.text), "{}", out.text);
        Ok(out.text)
    }

    #[test]
    fn folders_follow_from_records() {
        let value = r#"{"a":{"b":"x y"},"n":1.5}"#;
        for (text, expected) in [
            ("k={key}", "k=a%2Fb"),
            ("{key}/{field:a.b}", "a%2Fb/x%20y"),
            ("v{field:n}-{key}", "v1.5-a%2Fb"),
            ("dt={time:%Y-%m-%d}", "dt=1970-01-02"),
            ("{time:%Y}/{time:%H:%M}", "1970/01%3A00"),
            ("fixed", "fixed"),
        ] {
            let time = DAY_MS + HOUR_MS + 59_999;
            assert_eq!(found(text, b"a/b", value, time).as_deref(), Ok(expected));
        }
        let missing = found("{field:c}", b"", value, 0).unwrap_err();
        assert!(missing.contains("there is no field `c`"), "{missing}");
        let missing = found("{time:%Y}", b"", value, NO_TIMESTAMP).unwrap_err();
        assert!(missing.contains("has no event time"), "{missing}");
        let beyond = found("{time:%Y}", b"", value, i64::MAX).unwrap_err();
        assert!(beyond.contains("cannot be written as a date"), "{beyond}");
    }

    #[test]
    fn hostile_keys_stay_inside_and_apart() {
        let long = [b'x'; 1000];
        let longer = [b'x'; 1001];
        let keys: [&[u8]; 16] = [
            b"",
            b".",
            b"..",
            b"../x",
            b"/",
            b"\0",
            b"\n",
            b"%",
            b"%2F",
            b"~",
            b".staged",
            b"part-1",
            b"\xff\xfe",
            "é".as_bytes(),
            &long,
            &longer,
        ];
        for text in ["{key}", "k={key}", "a/{key}/b"] {
            let mut names = std::collections::BTreeSet::new();
            for key in keys {
                let name = found(text, key, "", 0).unwrap();
                assert!(name.len() <= NAME_BYTES_MAX + 4, "{name}");
                assert!(names.insert(name), "{key:?}");
            }
        }
        assert_eq!(found("{key}", b"", "", 0).unwrap(), EMPTY);
        assert_eq!(found("{key}", b"..", "", 0).unwrap(), "%2E.");
        assert_eq!(found("{key}", b"part-1", "", 0).unwrap(), "%70art-1");
        assert_eq!(found("{key}", &long, "", 0).unwrap().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn a_time_is_written_as_what_it_is() {
        for (pattern, step) in [
            ("%Y-%m-%d", DAY_MS),
            ("%j", DAY_MS),
            ("%H", HOUR_MS),
            ("%I%p", HOUR_MS),
            ("%H%M", 60_000),
            ("%T", 1000),
            ("%s", 1000),
            ("%3f", 1),
            ("%c", 1000),
        ] {
            let template = template(&format!("{{time:{pattern}}}"));
            let mut out = FolderText::default();
            let mut before = String::new();
            for time in [-step, 0, step, 2 * step] {
                let record: (&[u8], &[u8], Timestamp) = (b"", b"", time);
                template.find(record, SinkFormat::Lines, &mut out).unwrap();
                assert_ne!(out.text, before, "{pattern} {time}");
                before.clone_from(&out.text);
                if step > 1 {
                    let record: (&[u8], &[u8], Timestamp) = (b"", b"", time + step - 1);
                    template.find(record, SinkFormat::Lines, &mut out).unwrap();
                    assert_eq!(out.text, before, "{pattern} {time}");
                }
            }
        }
    }

    #[test]
    fn templates_that_cannot_be_are_refused() {
        for (text, expected) in [
            ("", "a folder has no name"),
            ("/a", "a folder has no name"),
            ("a//b", "a folder has no name"),
            ("a/", "a folder has no name"),
            (".a", "begins with a dot"),
            ("a/..", "begins with a dot"),
            ("part-{key}", "named like a part"),
            ("a{key", "has no `}`"),
            ("a}", "has no `{`"),
            ("{value}", "has to be `{key}`"),
            ("{field:}", "has to be `{key}`"),
            ("{field:\"a}", "not a JSON text"),
            ("{time:}", "has no format"),
            ("{time:%Q}", "has no format"),
            ("{time:%Y/%m}", "makes no folder"),
            ("a\nb", "a control character"),
            ("a/a/a/a/a/a/a/a/a", "more than 8 folders"),
        ] {
            let reason = FolderTemplate::try_from(text.to_owned()).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
        assert!(FolderTemplate::try_from("x".repeat(101)).is_err());
    }
}
