//! The registry of connectors: the names that `connector = "…"` may have, and how the settings of each are read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error};

use super::problem::{DeserializeFault, TextPosition};
use super::reader::read;
use super::suggestions;
use super::tree::TomlNode;
use crate::connector::{
    DiscardSinkSettings, FileSinkSettings, FileSourceSettings, GeneratorSettings, SinkSettings,
    SourceSettings, StdinSettings, StdoutSinkSettings,
};

type Read<T> = Arc<dyn Fn(&TomlNode) -> Result<Arc<T>, DeserializeFault> + Send + Sync>;

/// The connectors that pipelines may use.
#[derive(Clone, Default)]
pub struct Connectors {
    sources: BTreeMap<String, Read<dyn SourceSettings>>,
    sinks: BTreeMap<String, Read<dyn SinkSettings>>,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors")
            .field("sources", &self.sources.keys())
            .field("sinks", &self.sinks.keys())
            .finish()
    }
}

impl Connectors {
    /// The connectors of this engine.
    #[must_use]
    pub fn built_in() -> Self {
        Self::default()
            .with_source::<FileSourceSettings>("file")
            .with_source::<GeneratorSettings>("generator")
            .with_source::<StdinSettings>("stdin")
            .with_sink::<FileSinkSettings>("file")
            .with_sink::<StdoutSinkSettings>("stdout")
            .with_sink::<DiscardSinkSettings>("discard")
    }

    /// Adds a source with this name, replacing an existing one.
    #[must_use]
    pub fn with_source<S: SourceSettings + DeserializeOwned + 'static>(
        mut self,
        name: &str,
    ) -> Self {
        let reader: Read<dyn SourceSettings> = Arc::new(|node| Ok(Arc::new(read::<S>(node)?)));
        self.sources.insert(name.to_owned(), reader);
        self
    }

    /// Adds a sink with this name, replacing an existing one.
    #[must_use]
    pub fn with_sink<S: SinkSettings + DeserializeOwned + 'static>(mut self, name: &str) -> Self {
        let reader: Read<dyn SinkSettings> = Arc::new(|node| Ok(Arc::new(read::<S>(node)?)));
        self.sinks.insert(name.to_owned(), reader);
        self
    }

    /// Reads the settings of a source.
    pub(super) fn source(
        &self,
        name: &str,
        place: TextPosition,
        node: &TomlNode,
    ) -> Result<Arc<dyn SourceSettings>, DeserializeFault> {
        read_as(&self.sources, (name, place), node)
    }

    /// Reads the settings of a sink.
    pub(super) fn sink(
        &self,
        name: &str,
        place: TextPosition,
        node: &TomlNode,
    ) -> Result<Arc<dyn SinkSettings>, DeserializeFault> {
        read_as(&self.sinks, (name, place), node)
    }
}

fn read_as<T: ?Sized>(
    known: &BTreeMap<String, Read<T>>,
    (name, place): (&str, TextPosition),
    node: &TomlNode,
) -> Result<Arc<T>, DeserializeFault> {
    match known.get(name) {
        Some(read) => read(node),
        None => {
            let hint = suggestions::hint(name, known.keys().map(String::as_str));
            let fault = DeserializeFault::custom(format!("unknown connector `{name}`{hint}"));
            Err(fault.within("connector").at(place))
        }
    }
}
