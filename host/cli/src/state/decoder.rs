//! Converts values to JSON and back, with the plugin that wrote them.
//!
//! If the plugin cannot be loaded, or no longer declares a state in its version, values are shown raw.

use std::collections::BTreeSet;

use super::row::{Bytes, Shown, json_of};
use crate::escape::one_line;
use floodmark_checkpoint::{CheckpointReader, OperatorSnapshot};
use floodmark_engine::guest::{GuestEngine, GuestError, Instance, Plugin, StatePart};
use floodmark_engine::runtime::saved::Saved;
use floodmark_state::StateSchema;
use floodmark_state::stream::Column;

/// The plugin of one operator, or none.
pub(crate) struct Decoder {
    plugin: Option<(Plugin, Instance)>,
    /// States, with versions, that the plugin does not declare.
    unknown: BTreeSet<(String, u32)>,
}

impl Decoder {
    /// A decoder without a plugin: shows bytes as they are.
    pub(crate) fn raw() -> Self {
        Self {
            plugin: None,
            unknown: BTreeSet::new(),
        }
    }

    /// A decoder with a plugin that is already loaded.
    pub(crate) fn with(plugin: Plugin, operator: &str) -> Result<Self, GuestError> {
        let instance = plugin.start(operator)?;
        Ok(Self {
            plugin: Some((plugin, instance)),
            unknown: BTreeSet::new(),
        })
    }

    /// A decoder with the plugin that the checkpoint holds; raw, with a warning, if it cannot be used.
    pub(super) fn of(
        engine: &GuestEngine,
        reader: &dyn CheckpointReader,
        operator: &OperatorSnapshot,
        warn: &mut dyn FnMut(&str),
    ) -> Self {
        let component = reader
            .plugin(operator.plugin)
            .map_err(|error| error.to_string());
        let started = component.and_then(|component| {
            let plugin = engine.load(&operator.name, &component);
            let started = plugin.and_then(|plugin| Ok((plugin.start(&operator.name)?, plugin)));
            started.map_err(|error| error.to_string())
        });
        match started {
            Ok((instance, plugin)) => Self {
                plugin: Some((plugin, instance)),
                unknown: BTreeSet::new(),
            },
            Err(reason) => {
                warn(&format!(
                    "warning: values of operator `{}` are shown raw: {reason}",
                    operator.name
                ));
                Self::raw()
            }
        }
    }

    /// Whether values of a state are shown raw.
    pub(super) fn is_raw(&self, schema: &StateSchema) -> bool {
        let is_unknown = || {
            let mut unknown = self.unknown.iter();
            unknown.any(|(name, version)| (name, *version) == (&schema.name, schema.version))
        };
        self.plugin.is_none() || is_unknown()
    }

    /// Decodes the values of several keys with one call of the plugin. If the plugin cannot decode them, these and all
    /// later values are raw; if it does not declare the state in this version, only the values of this version are.
    pub(crate) fn show_all(
        &mut self,
        schema: &StateSchema,
        found: &[Saved],
        warn: &mut dyn FnMut(&str),
    ) -> Vec<Shown> {
        let values: Column = found
            .iter()
            .flat_map(Saved::values)
            .map(Vec::as_slice)
            .collect();
        let sub_keys: Column = found
            .iter()
            .flat_map(Saved::sub_keys)
            .map(Vec::as_slice)
            .collect();
        let mut texts = self
            .decode(schema, StatePart::Value, &values, warn)
            .into_iter();
        let mut keys = self
            .decode(schema, StatePart::SubKey, &sub_keys, warn)
            .into_iter();
        if self.is_raw(schema) {
            // The values may have been decoded before the sub-keys could not be.
            texts = raw(&values).into_iter();
        }
        let shown = found
            .iter()
            .map(|saved| Shown::of(saved, &mut texts, &mut keys));
        shown.collect()
    }

    fn decode(
        &mut self,
        schema: &StateSchema,
        part: StatePart,
        bytes: &Column,
        warn: &mut dyn FnMut(&str),
    ) -> Vec<String> {
        if bytes.is_empty() {
            return Vec::new();
        }
        if self.is_raw(schema) {
            return raw(bytes);
        }
        let Some((plugin, instance)) = &mut self.plugin else {
            return raw(bytes);
        };
        let mut states = plugin.description().states.iter().zip(0..);
        let index = states
            .find(|(state, _)| (&state.name, state.version) == (&schema.name, schema.version));
        let Some((_, index)) = index else {
            let (name, version) = (&schema.name, schema.version);
            warn(&format!(
                "warning: values of version {version} of state `{}` are shown raw: the plugin does not know this version",
                one_line(name)
            ));
            self.unknown.insert((name.clone(), version));
            return raw(bytes);
        };
        match instance.to_json(index, part, bytes) {
            // The plugin may return JSON on several lines; a row is one line.
            Ok(texts) => texts
                .iter()
                .map(|text| String::from_utf8_lossy(text).replace(['\n', '\r', '\t'], " "))
                .collect(),
            Err(reason) => {
                warn(&format!(
                    "warning: state `{}`: values are shown raw from here on: {reason}",
                    one_line(&schema.name)
                ));
                self.plugin = None;
                raw(bytes)
            }
        }
    }
}

fn raw(bytes: &Column) -> Vec<String> {
    bytes.iter().map(json_of).collect()
}

/// Converts the texts of a row to bytes: with `instance`, or raw.
pub(super) fn encode(
    instance: Option<&mut Instance>,
    state: u16,
    part: StatePart,
    texts: &[&str],
) -> Result<Vec<Vec<u8>>, String> {
    let Some(instance) = instance else {
        let raw = |text: &&str| {
            let bytes: Bytes = serde_json::from_str(text).map_err(|_| {
                format!("`{text}` is neither text nor {{\"hex\": …}}, the two forms of raw values")
            })?;
            bytes.into_bytes()
        };
        return texts.iter().map(raw).collect();
    };
    let column: Column = texts.iter().map(|text| text.as_bytes()).collect();
    let values = instance
        .from_json(state, part, &column)
        .map_err(|error| error.to_string())?;
    Ok(values.iter().map(<[u8]>::to_vec).collect())
}
