//! Bytes, records and messages for people: shortened, and without control sequences of terminals. All of it may come
//! from a hostile plugin.

use serde_json::Value;

use super::bytes::Record;
use crate::escape;
use floodmark_state::stream::NO_TIMESTAMP;

/// Characters of a value that are shown.
const CHARS_MAX: usize = 100;
/// Characters and lines of a message that are shown.
const MESSAGE_CHARS_MAX: usize = 1500;
const MESSAGE_LINES_MAX: usize = 10;

/// Bytes in the notation of a file, or their beginning.
pub(super) fn bytes(bytes: &[u8]) -> String {
    let (shown, is_cut) = match std::str::from_utf8(bytes) {
        Ok(text) => {
            let shown: String = text.chars().take(CHARS_MAX).collect();
            let is_cut = shown.len() < text.len();
            (format!("\"{}\"", escaped(&shown)), is_cut)
        }
        Err(_) => {
            let part = &bytes[..bytes.len().min(CHARS_MAX / 2)];
            let digits: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let is_cut = part.len() < bytes.len();
            (format!("{{ hex = \"{digits}\" }}"), is_cut)
        }
    };
    match is_cut {
        true => format!("{shown}… ({} bytes)", bytes.len()),
        false => shown,
    }
}

/// A record in the notation of a file.
pub(super) fn record(record: &Record) -> String {
    let (key, value) = (bytes(&record.key), bytes(&record.value));
    match record.timestamp {
        NO_TIMESTAMP => format!("[{key}, {value}]"),
        timestamp => format!("[{key}, {value}, {timestamp}]"),
    }
}

/// A value of a state.
pub(super) fn json(value: &Value) -> String {
    let text = value.to_string();
    let shown: String = text.chars().take(CHARS_MAX).collect();
    let mark = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{mark}", escape::json(&shown))
}

/// A message, on one line or several.
pub(super) fn message(text: &str) -> String {
    let mut shown = String::new();
    for (number, line) in text.lines().enumerate() {
        if number == MESSAGE_LINES_MAX || shown.chars().count() > MESSAGE_CHARS_MAX {
            shown += "\n…";
            break;
        }
        if number > 0 {
            shown.push('\n');
        }
        let line: String = line.chars().take(MESSAGE_CHARS_MAX).collect();
        shown += &escape::one_line(&line);
    }
    shown
}

/// Text between quotes, as in a file.
fn escaped(text: &str) -> String {
    text.chars().map(escaped_char).collect()
}

fn escaped_char(char: char) -> String {
    match char {
        '"' | '\\' => format!("\\{char}"),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        '\'' => char.to_string(),
        // Control characters, and those that change the direction of text or are invisible.
        _ if char.escape_debug().len() > 1 => format!("\\u{:04X}", u32::from(char)),
        _ if ('\u{200b}'..='\u{202f}').contains(&char) => format!("\\u{:04X}", u32::from(char)),
        _ => char.to_string(),
    }
}

#[cfg(test)]
mod tests {
    //! Catches control sequences that a plugin could send to a terminal, and output without end.

    use super::*;

    #[test]
    fn what_is_shown_is_short_and_tame() {
        assert_eq!(bytes(b"rain"), "\"rain\"");
        assert_eq!(bytes(b"a\"\\\n\x1b[31m"), r#""a\"\\\n\u001B[31m""#);
        assert_eq!(bytes("\u{202e}ä".as_bytes()), "\"\\u202Eä\"");
        assert_eq!(bytes(b"\xff\x00"), "{ hex = \"ff00\" }");
        let long = bytes(&[b'x'; 5000]);
        assert!(
            long.len() < 150 && long.ends_with("… (5000 bytes)"),
            "{long}"
        );
        let long = bytes(&[0xff; 5000]);
        assert!(
            long.len() < 150 && long.ends_with("… (5000 bytes)"),
            "{long}"
        );
        assert_eq!(message("one\n\x07two"), "one\n\\u{7}two");
        assert!(message(&"line\n".repeat(100)).lines().count() < 15);
        assert!(message(&"x".repeat(1 << 20)).len() < 2000);
        assert!(json(&Value::String("\u{7}".repeat(1000))).len() < 1000);
    }
}
