//! Parses event times in RFC 3339, such as `2026-02-03T04:05:06.789Z` or `2026-02-03 04:05:06+01:00`.
//!
//! Digits after the millisecond are dropped. A leap second counts as the second after it, as POSIX time does.

use floodmark_state::stream::Timestamp;

/// Milliseconds since 1970-01-01T00:00:00Z, or `None` if the text is not RFC 3339.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    let (time, rest) = parse_start(text)?;
    rest.is_empty().then_some(time)
}

/// The time at the start of a text, and what follows it.
pub(super) fn parse_start(text: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let shape = date_time[4] == b'-'
        && date_time[7] == b'-'
        && matches!(date_time[10], b'T' | b't' | b' ')
        && date_time[13] == b':'
        && date_time[16] == b':';
    if !shape {
        return None;
    }
    let year = number(&date_time[0..4], 0, 9999)?;
    let month = number(&date_time[5..7], 1, 12)?;
    let day = number(&date_time[8..10], 1, days_in_month(year, month))?;
    let hour = number(&date_time[11..13], 0, 23)?;
    let minute = number(&date_time[14..16], 0, 59)?;
    let second = number(&date_time[17..19], 0, 60)?;
    let (milliseconds, zone) = fraction(rest)?;
    let (offset, rest) = offset(zone)?;
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some(((minutes * 60 + second) * 1000 + milliseconds, rest))
}

/// A number of digits alone, within bounds.
pub(super) fn number(digits: &[u8], min: i64, max: i64) -> Option<i64> {
    let mut value = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    (min..=max).contains(&value).then_some(value)
}

/// The milliseconds of an optional fraction, and the rest after it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let milliseconds = (0..3).fold(0, |value, at| {
        let digit = if at < digits { rest[at] - b'0' } else { 0 };
        value * 10 + i64::from(digit)
    });
    Some((milliseconds, &rest[digits..]))
}

/// Minutes that the zone is ahead of UTC, and what follows it.
fn offset(zone: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, rest) = match zone {
        [b'Z' | b'z', rest @ ..] => return Some((0, rest)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (zone, rest) = rest.split_at_checked(5)?;
    if zone[2] != b':' {
        return None;
    }
    let minutes = number(&zone[..2], 0, 23)? * 60 + number(&zone[3..], 0, 59)?;
    Some((sign * minutes, rest))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

pub(super) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Leap days before this year, counted from the year 1; the year 0 is a leap year before them.
    let leap_days = |year: i64| {
        let before = year - 1;
        before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400)
    };
    let years = (year - 1970) * 365 + leap_days(year) - leap_days(1970);
    let months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    //! Catches a leap day, offset or fraction that moves event time.

    #[test]
    fn known_times() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(super::parse(text.as_bytes()), expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2000-02-29T12:00:00Z", Some(951_825_600_000));
        check("2026-11-22T18:54:12+01:00", Some(1_795_370_052_000));
        check("1985-04-12t23:20:50.52z", Some(482_196_050_520));
        check("1996-12-19 16:39:57-08:00", Some(851_042_397_000));
        check("1990-12-31T23:59:60Z", Some(662_688_000_000));
        check("0000-01-01T00:00:00Z", Some(-62_167_219_200_000));
        check("2026-01-01T00:00:00.1239Z", Some(1_767_225_600_123));
        for wrong in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00Zx",
            "+026-01-01T00:00:00Z",
        ] {
            check(wrong, None);
        }
    }
}
