//! Event times of a given form, such as `%d/%b/%Y:%H:%M:%S %z`: the letters of `strftime` that tell a moment.
//!
//! The form is read once, and a time is matched byte by byte, without allocation. It tells all of a moment or is refused:
//! without a year, or with the name of a zone, a time would have to be guessed. A time without an offset is in UTC.

use crate::connector::rfc3339::{days_in_month, days_since_1970, number};
use floodmark_state::stream::Timestamp;

/// The names of months, in English.
const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
/// So many digits of a fraction count at most: nanoseconds.
const FRACTION_DIGITS_MAX: usize = 9;
/// So many digits may seconds since 1970 have: far more than are usual, and no overflow.
const EPOCH_DIGITS_MAX: usize = 12;

/// The form of event times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern {
    text: String,
    steps: Vec<TimeStep>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeStep {
    Literal(u8),
    Year,
    Month,
    MonthName,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    Offset,
    Epoch,
}

/// A moment, as far as it was read.
#[derive(Debug, Clone, Copy)]
struct ReadMoment {
    year: i64,
    month: i64,
    day: i64,
    /// Seconds of the day.
    seconds: i64,
    milliseconds: i64,
    offset_minutes: i64,
    epoch: Option<i64>,
}

impl TimePattern {
    /// Reads a form.
    ///
    /// # Errors
    /// When it has an unknown letter, or does not tell a moment: what is wrong and what to do.
    pub fn new(text: &str) -> Result<Self, String> {
        use TimeStep::{Day, Epoch, Hour, Literal, Minute, Month, MonthName, Second, Year};
        let mut steps = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                let mut bytes = [0; 4];
                steps.extend(char.encode_utf8(&mut bytes).bytes().map(Literal));
                continue;
            }
            match chars.next() {
                Some('Y') => steps.push(Year),
                Some('m') => steps.push(Month),
                Some('b') => steps.push(MonthName),
                Some('d') => steps.push(Day),
                Some('H') => steps.push(Hour),
                Some('M') => steps.push(Minute),
                Some('S') => steps.push(Second),
                Some('f') => steps.push(TimeStep::Fraction),
                Some('z') => steps.push(TimeStep::Offset),
                Some('s') => steps.push(Epoch),
                Some('F') => steps.extend([Year, Literal(b'-'), Month, Literal(b'-'), Day]),
                Some('T') => steps.extend([Hour, Literal(b':'), Minute, Literal(b':'), Second]),
                Some('%') => steps.push(Literal(b'%')),
                other => {
                    let letter = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "has `%{letter}`; known are %Y, %m, %b, %d, %H, %M, %S, %f, %z, %s, %F, %T and %%"
                    ));
                }
            }
        }
        let has = |step| steps.contains(&step);
        let parts = [Year, Month, MonthName, Day, Hour, Minute, Second];
        if has(Epoch) && parts.into_iter().any(has) {
            return Err(
                "has `%s` beside parts of a date or time, of which only one would count; leave out `%s`, or the others"
                    .to_owned(),
            );
        }
        let is_day = has(Year) && (has(Month) || has(MonthName)) && has(Day);
        if !is_day && !has(Epoch) {
            return Err(
                "does not tell a day; it needs %Y, %m or %b, and %d, or %s alone".to_owned(),
            );
        }
        Ok(Self {
            text: text.to_owned(),
            steps,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time that the whole text is.
    pub(super) fn parse(&self, text: &[u8]) -> Option<Timestamp> {
        let (time, rest) = self.parse_start(text)?;
        rest.is_empty().then_some(time)
    }

    /// The first time in a text.
    pub(super) fn find(&self, text: &[u8]) -> Option<Timestamp> {
        let is_epoch = self.steps.first() == Some(&TimeStep::Epoch);
        first_in(text, self.starts_with_number(), |rest| {
            let before = &text[..text.len() - rest.len()];
            match is_epoch && ends_with_sign(before) {
                true => None,
                false => self.parse_start(rest),
            }
        })
    }

    fn starts_with_number(&self) -> bool {
        !matches!(
            self.steps.first(),
            None | Some(TimeStep::Literal(_) | TimeStep::MonthName)
        )
    }

    /// The time at the start of a text, and what follows it.
    fn parse_start<'a>(&self, text: &'a [u8]) -> Option<(Timestamp, &'a [u8])> {
        let mut read = ReadMoment {
            year: 1970,
            month: 1,
            day: 1,
            seconds: 0,
            milliseconds: 0,
            offset_minutes: 0,
            epoch: None,
        };
        let mut rest = text;
        for &step in &self.steps {
            rest = read.take(step, rest)?;
        }
        Some((read.timestamp()?, rest))
    }
}

/// The first time in a text: `parse` gives one at the start of its rest, and what follows it. A number does not begin or end
/// within another one.
pub(super) fn first_in<'a>(
    text: &'a [u8],
    is_number: bool,
    parse: impl Fn(&'a [u8]) -> Option<(Timestamp, &'a [u8])>,
) -> Option<Timestamp> {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let is_within = |at: usize| at > 0 && is_digit(at - 1);
    (0..text.len())
        .filter(|&at| !(is_number && is_within(at)))
        .find_map(|at| {
            let (time, rest) = parse(&text[at..])?;
            let end = text.len() - rest.len();
            (!(is_within(end) && is_digit(end))).then_some(time)
        })
}

/// Whether a number after this text would be negative. In `job-5`, the `-` only separates.
fn ends_with_sign(text: &[u8]) -> bool {
    let Some((b'-', before)) = text.split_last() else {
        return false;
    };
    before
        .last()
        .is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
}

impl ReadMoment {
    /// Reads one step at the start of a text; returns what follows.
    fn take<'a>(&mut self, step: TimeStep, text: &'a [u8]) -> Option<&'a [u8]> {
        let digits = |len: usize, min: i64, max: i64| {
            let (digits, rest) = text.split_at_checked(len)?;
            Some((number(digits, min, max)?, rest))
        };
        let (value, rest) = match step {
            TimeStep::Literal(byte) => return text.strip_prefix(&[byte]),
            TimeStep::Year => digits(4, 0, 9999)?,
            TimeStep::Month => digits(2, 1, 12)?,
            TimeStep::Day => digits(2, 1, 31)?,
            TimeStep::Hour => digits(2, 0, 23)?,
            TimeStep::Minute => digits(2, 0, 59)?,
            TimeStep::Second => digits(2, 0, 60)?,
            TimeStep::MonthName => {
                let (name, rest) = text.split_at_checked(3)?;
                let found = MONTHS
                    .iter()
                    .position(|month| name.eq_ignore_ascii_case(*month))?;
                (found as i64 + 1, rest)
            }
            TimeStep::Fraction => fraction(text)?,
            TimeStep::Offset => offset(text)?,
            TimeStep::Epoch => {
                let len = digits_len(text, EPOCH_DIGITS_MAX)?;
                digits(len, 0, i64::MAX)?
            }
        };
        match step {
            TimeStep::Literal(_) => {}
            TimeStep::Year => self.year = value,
            TimeStep::Month | TimeStep::MonthName => self.month = value,
            TimeStep::Day => self.day = value,
            TimeStep::Hour => self.seconds += value * 3600,
            TimeStep::Minute => self.seconds += value * 60,
            TimeStep::Second => self.seconds += value,
            TimeStep::Fraction => self.milliseconds = value,
            TimeStep::Offset => self.offset_minutes = value,
            TimeStep::Epoch => self.epoch = Some(value),
        }
        Some(rest)
    }

    fn timestamp(self) -> Option<Timestamp> {
        if let Some(epoch) = self.epoch {
            return Some(epoch * 1000 + self.milliseconds);
        }
        if self.day > days_in_month(self.year, self.month) {
            return None;
        }
        let days = days_since_1970(self.year, self.month, self.day);
        let seconds = days * 86_400 + self.seconds - self.offset_minutes * 60;
        Some(seconds * 1000 + self.milliseconds)
    }
}

/// The number of digits at the start of a text; `None` if there are none, or more than `max`.
fn digits_len(text: &[u8], max: usize) -> Option<usize> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=max).contains(&len).then_some(len)
}

/// The milliseconds of a fraction, without what separates it from the seconds.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let len = digits_len(text, FRACTION_DIGITS_MAX)?;
    let (digits, rest) = text.split_at(len);
    let digit = |at: usize| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
    Some((digit(0) * 100 + digit(1) * 10 + digit(2), rest))
}

/// The minutes that a zone is ahead of UTC: `Z`, `+01:00` or `+0100`.
fn offset(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, rest) = match text {
        [b'Z' | b'z', rest @ ..] => return Some((0, rest)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = rest.split_at_checked(2)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    let (minutes, rest) = rest.split_at_checked(2)?;
    let minutes = number(hours, 0, 23)? * 60 + number(minutes, 0, 59)?;
    Some((sign * minutes, rest))
}

#[cfg(test)]
mod tests {
    //! Catches a time that is read as another moment, or found where there is none.

    use super::*;

    fn pattern(text: &str) -> TimePattern {
        TimePattern::new(text).unwrap()
    }

    #[test]
    fn known_times() {
        let check = |form: &str, text: &str, expected: Option<i64>| {
            let found = pattern(form).parse(text.as_bytes());
            assert_eq!(found, expected, "{form} {text}");
        };
        let log = "%Y-%m-%d %H:%M:%S,%f";
        check(log, "1970-01-01 00:00:01,5", Some(1500));
        check(log, "2000-02-29 12:00:00,000", Some(951_825_600_000));
        check(log, "2026-02-29 12:00:00,000", None);
        check(log, "2000-02-29 12:00:00,000 ", None);
        check(log, "2000-02-29 24:00:00,000", None);
        check("%F %T", "2000-02-29 12:00:00", Some(951_825_600_000));
        let apache = "[%d/%b/%Y:%H:%M:%S %z]";
        check(
            apache,
            "[29/Feb/2000:13:30:00 +0130]",
            Some(951_825_600_000),
        );
        check(apache, "[29/feb/2000:12:00:00 Z]", Some(951_825_600_000));
        check(apache, "[29/Foo/2000:12:00:00 Z]", None);
        check("%F %z", "1970-01-02 -01:00", Some(90_000_000));
        check("%s.%f", "951825600.123456", Some(951_825_600_123));
        check("%s", "1234567890123", None);
        check("%d%%%m%%%Y", "01%01%1970", Some(0));
    }

    #[test]
    fn the_first_time_in_a_text_is_found() {
        let check = |form: &str, text: &str, expected: Option<i64>| {
            let found = pattern(form).find(text.as_bytes());
            assert_eq!(found, expected, "{form} {text}");
        };
        check("%F", "at 1970-01-02, not 1970-01-03", Some(86_400_000));
        check("%F", "at 11970-01-02", None);
        check("%F", "at x1970-01-02x", Some(86_400_000));
        check("[%F", "1970-01-03 [1970-01-02", Some(86_400_000));
        check("%F", "1970-01-0", None);
        check("%F", "1970-01-023", None);
        check("%F", "1970-01-023 1970-01-03", Some(172_800_000));
        check("%F %z", "1970-01-02 -01:000", None);
        check("%s", "-5", None);
        check("%s", "at=-5 7", Some(7000));
        check("%s", "job-5 7", Some(5000));
        check("%F", "", None);
    }

    #[test]
    fn a_form_that_tells_no_moment_is_refused() {
        for (form, expected) in [
            ("%H:%M", "does not tell a day"),
            ("%b %d %T", "does not tell a day"),
            ("%Y-%q", "has `%q`"),
            ("%F %", "has `%`"),
            ("%F %s", "has `%s` beside parts"),
            ("%s %H", "has `%s` beside parts"),
        ] {
            let error = TimePattern::new(form).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
