//! Turns values into JSON and back, as the plugin that wrote them says.
//!
//! A plugin that cannot be loaded, or does not know the version of a state, is no obstacle: its values are shown raw.

use super::row::{Bytes, json_of};
use crate::checkpoint::{CheckpointReader, OperatorSnapshot};
use crate::cli::Failure;
use crate::guest::{GuestEngine, Instance};
use crate::stream::Column;

/// The plugin of one operator, or none.
pub(super) struct Decoder {
    instance: Option<Instance>,
}

impl Decoder {
    /// Shows bytes as they are.
    pub(super) fn raw() -> Self {
        Self { instance: None }
    }

    /// The plugin that the checkpoint holds; raw, with a warning, if it cannot be used.
    pub(super) fn of(
        engine: &GuestEngine,
        reader: &dyn CheckpointReader,
        operator: &OperatorSnapshot,
        warn: &mut dyn FnMut(&str),
    ) -> Self {
        let loaded = reader
            .plugin(operator.plugin)
            .map_err(|error| error.to_string())
            .and_then(|component| {
                let plugin = engine.load(&operator.name, &component);
                let started = plugin.and_then(|plugin| plugin.start(&operator.name));
                started.map_err(|error| error.to_string())
            });
        match loaded {
            Ok(instance) => Self {
                instance: Some(instance),
            },
            Err(reason) => {
                warn(&format!("warning: values of `{}` are shown raw: {reason}", operator.name));
                Self::raw()
            }
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.instance.is_none()
    }

    /// Each value as JSON. From the first that the plugin cannot decode on, all are raw.
    pub(super) fn show(
        &mut self,
        state: &str,
        values: Vec<Vec<u8>>,
        warn: &mut dyn FnMut(&str),
    ) -> Vec<String> {
        if let Some(instance) = &mut self.instance {
            let column: Column = values.iter().map(Vec::as_slice).collect();
            match instance.to_json(state, &column).map(checked) {
                Ok(Ok(texts)) => return texts,
                Ok(Err(reason)) => warn(&format!("warning: values are shown raw from here on: {reason}")),
                Err(error) => warn(&format!("warning: values are shown raw from here on: {error}")),
            }
            self.instance = None;
        }
        values.iter().map(|value| json_of(value)).collect()
    }
}

/// What a plugin says is JSON is looked at before it is printed as such.
fn checked(texts: Column) -> Result<Vec<String>, String> {
    let check = |text: &[u8]| {
        let text = std::str::from_utf8(text).map_err(|_| "the plugin's JSON is not UTF-8")?;
        let value: &serde_json::value::RawValue =
            serde_json::from_str(text).map_err(|_| "what the plugin calls JSON is none")?;
        Ok(value.get().replace('\n', " "))
    };
    texts.iter().map(check).collect::<Result<_, &str>>().map_err(str::to_owned)
}

/// The bytes that texts of a row stand for: decoded by `instance`, or raw.
pub(super) fn encode(
    instance: Option<&mut Instance>,
    state: &str,
    texts: &[&str],
) -> Result<Vec<Vec<u8>>, Failure> {
    let usage = |reason: String| Failure::new(crate::cli::failure::EXIT_USAGE, reason);
    let Some(instance) = instance else {
        let raw = |text: &&str| {
            let bytes: Bytes = serde_json::from_str(text)
                .map_err(|_| usage(format!("`{text}` is neither a text nor {{\"hex\": …}}, which raw values are")))?;
            bytes.into_bytes().map_err(usage)
        };
        return texts.iter().map(raw).collect();
    };
    let column: Column = texts.iter().map(|text| text.as_bytes()).collect();
    let values = instance
        .from_json(state, &column)
        .map_err(|error| usage(error.to_string()))?;
    Ok(values.iter().map(<[u8]>::to_vec).collect())
}
