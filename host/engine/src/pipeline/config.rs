//! Reads the `config` of an operator: text, numbers and booleans, which the plugin gets as text.
//!
//! The value of a `--set` is kept as typed: `1.50` does not become `1.5`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// Reads text, numbers and booleans as text.
///
/// # Errors
/// When a value is a list, a table or a date.
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Setting(String);

    impl<'de> Deserialize<'de> for Setting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_str(SettingVisitor).map(Setting)
        }
    }

    struct SettingVisitor;

    impl Visitor<'_> for SettingVisitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text, a number, `true` or `false`")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<String, E> {
            Ok(format!("{number:?}"))
        }

        fn visit_bool<E: Error>(self, truth: bool) -> Result<String, E> {
            Ok(truth.to_string())
        }
    }

    let settings = BTreeMap::<String, Setting>::deserialize(deserializer)?;
    Ok(settings
        .into_iter()
        .map(|(key, setting)| (key, setting.0))
        .collect())
}
