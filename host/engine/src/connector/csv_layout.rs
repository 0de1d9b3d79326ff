//! The two bytes that give a CSV file its shape: the delimiter between fields, and the quote around them.
//!
//! Both are one ASCII character: such a byte is never a part of another character of UTF-8. Here they are read from
//! settings and checked. Files are parsed by the file source, and written by `record_format`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::ConnectorError;
use super::settings::fact;

/// One ASCII character, as a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvCharacter(u8);

impl<'de> Deserialize<'de> for CsvCharacter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CharacterVisitor;

        impl Visitor<'_> for CharacterVisitor {
            type Value = CsvCharacter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "one ASCII character in quotes, such as `;` or `\\t`, that is no letter or digit, and does not end a line",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CsvCharacter, E> {
                match text.as_bytes() {
                    // On a command line, `\t` is two characters.
                    b"\\t" => Ok(CsvCharacter(b'\t')),
                    &[byte] if may_be_one(byte) => Ok(CsvCharacter(byte)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_str(CharacterVisitor)
    }
}

/// Whether a byte may separate or enclose fields: a letter, a digit or NUL is data, or a mistake.
fn may_be_one(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && !matches!(byte, b'\0' | b'\n' | b'\r')
}

/// The delimiter and the quote of a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CsvLayout {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

impl Default for CsvLayout {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
        }
    }
}

impl CsvLayout {
    /// The default with these settings.
    pub(super) fn new(delimiter: Option<CsvCharacter>, quote: Option<CsvCharacter>) -> Self {
        let default = Self::default();
        Self {
            delimiter: delimiter.map_or(default.delimiter, |character| character.0),
            quote: quote.map_or(default.quote, |character| character.0),
        }
    }

    /// Checks that the two differ.
    pub(super) fn check(self) -> Result<(), ConnectorError> {
        if self.delimiter != self.quote {
            return Ok(());
        }
        Err(ConnectorError::Setting {
            setting: "quote",
            reason: "it is also the delimiter; set `quote` or `delimiter` to another character",
        })
    }

    /// What an identity has of it: what is not the default.
    pub(super) fn facts(self) -> Vec<(String, String)> {
        let default = Self::default();
        let all = [
            ("delimiter", self.delimiter, default.delimiter),
            ("quote", self.quote, default.quote),
        ];
        let differing = all.into_iter().filter(|(_, byte, default)| byte != default);
        differing
            .map(|(field, byte, _)| fact(field, char::from(byte)))
            .collect()
    }
}

/// Refuses the first field that was given although it is for `csv` alone.
pub(super) fn refuse_given(given: &[(&'static str, bool)]) -> Result<(), ConnectorError> {
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some(&(setting, _)) => Err(ConnectorError::Setting {
            setting,
            reason: "it is for `format = \"csv\"`; leave it out, or set that format",
        }),
    }
}

#[cfg(test)]
mod tests {
    //! Catches a character that is misread, one that a parser cannot use, and an identity that changes although the
    //! settings are the default.

    use super::*;

    #[derive(Deserialize)]
    struct Settings {
        delimiter: CsvCharacter,
    }

    fn read(text: &str) -> Result<u8, String> {
        let settings = toml::from_str::<Settings>(&format!("delimiter = {text}"));
        settings
            .map(|settings| settings.delimiter.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_character_is_one_ascii_byte() {
        assert_eq!(read("';'"), Ok(b';'));
        assert_eq!(read("\"\\t\""), Ok(b'\t'));
        assert_eq!(read("'\\t'"), Ok(b'\t'));
        assert_eq!(read("\"'\""), Ok(b'\''));
        for wrong in [
            "''", "';;'", "'é'", "\"\\n\"", "\"\\r\"", "'a'", "'Z'", "'0'",
        ] {
            let message = read(wrong).unwrap_err();
            assert!(message.contains("one ASCII character"), "{message}");
        }
        assert!(!may_be_one(0));
    }

    #[test]
    fn only_what_differs_is_in_an_identity() {
        assert_eq!(CsvLayout::default().facts(), []);
        let comma = Some(CsvCharacter(b','));
        assert_eq!(CsvLayout::new(comma, None).facts(), []);
        let layout = CsvLayout::new(Some(CsvCharacter(b'\t')), Some(CsvCharacter(b'\'')));
        assert_eq!(
            layout.facts(),
            [fact("delimiter", "\t"), fact("quote", "'")]
        );
        assert!(layout.check().is_ok());
        let same = CsvLayout::new(None, comma).check().unwrap_err();
        assert!(same.to_string().contains("invalid `quote`"), "{same}");
    }
}
