//! The options that a pipeline gives an operator.
//!
//! They arrive as text. Each look-up names the option in its error, and an option that was not looked up is refused
//! after `open`, so a misspelt one never counts as a default.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use crate::{Error, Result};

/// The options of one operator, by name.
#[derive(Debug, Default)]
pub struct Config {
    options: Vec<(String, String)>,
    known: RefCell<Vec<String>>,
}

impl Config {
    /// Options as the host hands them over.
    #[must_use]
    pub const fn new(options: Vec<(String, String)>) -> Self {
        Self {
            options,
            known: RefCell::new(Vec::new()),
        }
    }

    /// The option `name`, if it is set.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        let mut known = self.known.borrow_mut();
        if !known.iter().any(|option| option == name) {
            known.push(name.to_owned());
        }
        let (_, value) = self.options.iter().find(|(option, _)| option == name)?;
        Some(value)
    }

    /// The option `name`.
    ///
    /// # Errors
    /// It is not set.
    pub fn get(&self, name: &str) -> Result<&str> {
        self.find(name)
            .ok_or_else(|| Error::new(format!("option `{name}` is missing; set it")))
    }

    /// The option `name` as a number, a truth value or any other type that parses from text.
    ///
    /// # Errors
    /// It is not set, or does not read as a `T`.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T> {
        parse(name, self.get(name)?)
    }

    /// The same with a value for when the option is not set.
    ///
    /// # Errors
    /// It does not read as a `T`.
    pub fn parse_or<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T> {
        self.find(name)
            .map_or(Ok(default), |text| parse(name, text))
    }

    /// Refuses options that were never looked up.
    pub(crate) fn refuse_unknown(&self) -> Result {
        let known = self.known.borrow();
        let is_unknown = |(name, _): &&(String, String)| !known.contains(name);
        let Some((name, _)) = self.options.iter().find(is_unknown) else {
            return Ok(());
        };
        Err(Error::new(match known.as_slice() {
            [] => format!("unknown option `{name}`; this operator has none"),
            known => format!(
                "unknown option `{name}`; this operator knows `{}`",
                known.join("`, `")
            ),
        }))
    }
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|error| Error::new(format!("option `{name}` is `{text}`: {error}")))
}

#[cfg(test)]
mod tests {
    //! Catches a misspelt option that is taken for a default, and an error that does not name the option.

    use super::*;

    fn check(options: &[(&str, &str)], expected: Result<u32, &str>) {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let config = Config::new(options.iter().map(owned).collect());
        let opened = || -> Result<u32> {
            let sum = config.parse::<u32>("first")? + config.parse_or("second", 5)?;
            config.refuse_unknown()?;
            Ok(sum)
        };
        let opened = opened().map_err(Error::into_message);
        assert_eq!(opened.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn options_are_read_and_checked() {
        check(&[("first", "1")], Ok(6));
        check(&[("second", "3"), ("first", "1")], Ok(4));
        check(&[], Err("option `first` is missing; set it"));
        check(
            &[("first", "1x")],
            Err("option `first` is `1x`: invalid digit found in string"),
        );
        check(
            &[("first", "1"), ("secund", "3")],
            Err("unknown option `secund`; this operator knows `first`, `second`"),
        );
    }

    #[test]
    fn an_operator_without_options_says_so() {
        let config = Config::new(vec![("max".to_owned(), "1".to_owned())]);
        assert_eq!(
            config.refuse_unknown().unwrap_err().into_message(),
            "unknown option `max`; this operator has none"
        );
    }
}
