//! Escapes text for people: characters that a terminal obeys, or that a reader does not see, are shown as Rust writes
//! them, such as `\u{1b}`.
//!
//! Messages quote plugins, files, names of files, records and other jobs, and none of these may move the cursor, hide a
//! line or turn the order of letters around. Only [`super::print`] and [`super::terminal`] write to standard output and
//! standard error, and they escape all that they print, so no command can forget it. A text can be escaped in parts and
//! then again as a whole, since escapes have no character that is escaped. For the same reason a backslash stays as it
//! is: an escape looks the same as a text with these characters.
//!
//! Zero width joiners and non-joiners (U+200C, U+200D) and variation selectors stay: scripts of India and Iran and many
//! emoji need them. Nothing here changes data, such as the output of a job.

use std::borrow::Cow;

/// What stands before the lines of a message after its first one.
const INDENT: &str = "    ";
/// Most characters of a text that is shown in one line although it has several.
const JOINED_CHARS_MAX: usize = 400;

/// Escapes a text that may have several lines.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| char != '\n' && is_hidden(char), as_rust)
}

/// Escapes a text that is a part of a line: line feeds, too.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, as_rust)
}

/// Escapes a text of several lines in one line, without what exceeds [`JOINED_CHARS_MAX`].
pub(super) fn joined(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let all = lines.join(" ");
    let mut shown: String = all.chars().take(JOINED_CHARS_MAX).collect();
    if shown.len() < all.len() {
        shown.push('…');
    }
    one_line(&shown).into_owned()
}

/// Escapes a message. Its lines after the first one are indented: messages quote names, and a name with a line feed in it must
/// not begin a line that looks like another message.
pub(super) fn message(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return lines(text);
    }
    let escaped = lines(text);
    let mut lines = escaped.split('\n');
    let mut message = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        message.push('\n');
        if !line.is_empty() && !line.starts_with("  ") {
            message += INDENT;
        }
        message += line;
    }
    Cow::Owned(message)
}

/// Escapes the strings of a JSON text in JSON's own form, such as `\u009b`, so that it stays the same JSON. JSON itself
/// has no control characters below U+0020 in strings.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |char| char > '~' && is_hidden(char), as_json)
}

/// Whether nothing in a text has to be escaped.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(is_hidden)
}

fn escaped(text: &str, is_meant: fn(char) -> bool, shown: fn(char) -> String) -> Cow<'_, str> {
    if !text.chars().any(is_meant) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_meant(char) {
            true => escaped += &shown(char),
            false => escaped.push(char),
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, marks of direction, separators of lines and paragraphs, and characters that are never visible.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            // The soft hyphen, the Arabic letter mark, and the Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // The zero width space, and marks of direction.
            | '\u{200b}' | '\u{200e}' | '\u{200f}'
            // Separators of lines and paragraphs, embeddings and overrides of direction.
            | '\u{2028}'..='\u{202e}'
            // The word joiner, invisible operators, isolates of direction, and deprecated characters.
            | '\u{2060}'..='\u{206f}'
            // The byte order mark, and marks of annotations.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Controls of shorthand and of music.
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            // Tags, which hide ASCII text.
            | '\u{e0000}'..='\u{e007f}'
        )
}

fn as_rust(char: char) -> String {
    char.escape_default().to_string()
}

fn as_json(char: char) -> String {
    let mut units = [0; 2];
    let units = char.encode_utf16(&mut units);
    units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

#[cfg(test)]
mod tests {
    //! Catches a character that reaches a terminal though it is obeyed or unseen there, real text that becomes
    //! unreadable, and JSON that says something else afterwards.

    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_shown() {
        for (text, expected) in [
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("\0\u{7}\u{8}\t\r\u{7f}", "\\u{0}\\u{7}\\u{8}\\t\\r\\u{7f}"),
            ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
            ("\u{202a}\u{202e}", "\\u{202a}\\u{202e}"),
            ("\u{2066}\u{2069}", "\\u{2066}\\u{2069}"),
            (
                "\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}",
                "\\u{200e}\\u{200f}\\u{61c}\\u{2028}\\u{2029}",
            ),
            (
                "\u{ad}\u{200b}\u{2060}\u{feff}\u{e0041}",
                "\\u{ad}\\u{200b}\\u{2060}\\u{feff}\\u{e0041}",
            ),
        ] {
            assert_eq!(one_line(text), expected);
            assert_eq!(lines(text), expected);
            assert_eq!(lines(expected), expected, "it is escaped once");
            assert!(!is_plain(text) && is_plain(expected));
        }
    }

    #[test]
    fn only_a_text_of_several_lines_has_line_feeds() {
        assert_eq!(lines("one\n  two\r\n"), "one\n  two\\r\n");
        assert_eq!(one_line("one\n  two"), "one\\n  two");
    }

    #[test]
    fn lines_are_joined_within_a_bound() {
        for (text, expected) in [
            ("", ""),
            ("one", "one"),
            ("it said:\n  a\tb\n\n  c\u{1b}\n", "it said: a\\tb c\\u{1b}"),
        ] {
            assert_eq!(joined(text), expected);
        }
        let long = joined(&"é\n".repeat(1000));
        assert_eq!(long.chars().count(), JOINED_CHARS_MAX + 1);
        assert!(long.ends_with("é …") || long.ends_with(" é…"), "{long}");
    }

    #[test]
    fn only_the_first_line_of_a_message_begins_a_line() {
        for (text, expected) in [
            ("one", "one"),
            ("a `b\nerror: c`\r", "a `b\n    error: c`\\r"),
            ("one\n  two\n\n three\n", "one\n  two\n\n     three\n"),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn real_text_stays() {
        for text in [
            "",
            "plain `text`, \"quoted\" \\ 'so'",
            "é e\u{301} ä 語 \u{3000} \u{a0} \u{202f} µs …",
            "क\u{94d}\u{200d}ष می\u{200c}خواهم",
            "\u{1f469}\u{200d}\u{1f4bb} \u{2764}\u{fe0f}",
            "not UTF-8: \u{fffd}",
        ] {
            assert!(matches!(one_line(text), Cow::Borrowed(_)), "{text:?}");
            assert!(is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn json_is_the_same_json() {
        let value =
            serde_json::json!({ "a\u{202e}": ["\u{9b}31m", "\u{e0041}", "\u{1b}\t\n", "é"] });
        for text in [value.to_string(), format!("{value:#}\n")] {
            let shown = json(&text);
            assert!(is_plain(&shown.replace('\n', "")), "{shown:?}");
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(read, value);
        }
        assert_eq!(json("\"\u{e0041}\""), "\"\\udb40\\udc41\"");
    }
}
