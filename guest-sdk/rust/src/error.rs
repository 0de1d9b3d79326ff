//! Why an operator cannot continue.
//!
//! The contract carries a sentence for people, so an error is one. It does not keep its cause: the host, on the other
//! side of the boundary, could not downcast it.

use std::error::Error as StdError;
use std::fmt;

/// The result of a fallible function of an operator; `Result` alone is success without a value.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A sentence for people: why the batch, or the configuration, cannot be handled.
///
/// `?` turns every error type of the standard library and of other crates into it, with all its causes. The host
/// applies nothing of a call that returns one.
pub struct Error(String);

impl Error {
    /// An error that says `message`: lower case, without a full stop, what is wrong and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The same error with what was being done in front of it.
    #[must_use]
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self(format!("{context}: {}", self.0))
    }

    /// The sentence.
    #[must_use]
    pub fn into_message(self) -> String {
        self.0
    }
}

impl<E: StdError> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self(message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Bytes for a message: text as it is, anything else escaped, long values cut.
pub(crate) struct Readable<'a>(pub(crate) &'a [u8]);

const READABLE_BYTES_MAX: usize = 80;

impl fmt::Display for Readable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(READABLE_BYTES_MAX)];
        for chunk in cut.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() {
                    write!(formatter, "{}", char.escape_default())?;
                } else {
                    write!(formatter, "{char}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        if cut.len() < self.0.len() {
            write!(formatter, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Catches causes that get lost on the way to the host, and keys that break the line of a message.

    use super::*;

    #[test]
    fn an_error_of_another_crate_keeps_its_causes() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("cannot read the limit")
            }
        }
        impl StdError for Outer {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(
            error.within("open").into_message(),
            "open: cannot read the limit: invalid digit found in string"
        );
    }

    #[test]
    fn bytes_are_readable_and_stay_on_their_line() {
        assert_eq!(Readable(b"a\nb\xff").to_string(), "a\\nb\\xff");
        assert_eq!(
            Readable(&[b'a'; 100]).to_string(),
            format!("{}… (100 bytes)", "a".repeat(80))
        );
    }
}
