//! Runs a plugin natively, without Wasm: a task whose instance can be killed, with the state beside it.
//!
//! It takes the same path as the component, from the columns of the contract to the columns of the contract, and refuses
//! what a host would refuse. It has no limits, no failures of its own and no checkpoints.
//!
//! ```
//! # use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};
//! # #[derive(Default, States)]
//! # struct Latest { value: Value<String> }
//! # impl Operator for Latest {
//! #     fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
//! #     fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
//! #         if let Some(before) = self.value.get() { out.emit(before); }
//! #         self.value.set(record.text()?.to_owned());
//! #         Ok(())
//! #     }
//! # }
//! use floodmark_sdk::testing::{Given, Task};
//!
//! let mut task = Task::new::<Latest>();
//! assert!(task.run([("tide", "low"), ("wind", "west")])?.is_empty());
//! task.kill(); // What comes next is a fresh instance with the same state.
//! assert_eq!(task.run([Given::from(("tide", "high")).at(7)])?, [("tide", "low")]);
//! assert_eq!(task.value("value", "tide"), Some("high".to_owned()));
//! # Result::<()>::Ok(())
//! ```

mod disposable;

mod host;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::{Description, Plugin, Timestamp};
use crate::encoding::{Encoding, Postcard};
use crate::error::Readable;
use crate::export::{Instance, describe};
use crate::log::{self, Level};
use crate::{Operator, RecordByRecord, Result};

pub use disposable::check_disposable;

/// The values of one state by key.
type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// One task of an operator: an instance, which can be killed, and the state, which stays.
pub struct Task {
    description: Description,
    config: Vec<(String, String)>,
    open: fn() -> Box<dyn host::Call>,
    instance: Option<Box<dyn host::Call>>,
    states: Vec<Values>,
}

impl Task {
    /// A task of an operator without configuration.
    #[must_use]
    pub fn new<O: Operator>() -> Self {
        Self::with_config::<O>(&[])
    }

    /// A task of an operator with these options.
    #[must_use]
    pub fn with_config<O: Operator>(config: &[(&str, &str)]) -> Self {
        Self::of_plugin::<RecordByRecord<O>>(config)
    }

    /// A task of a plugin that handles columns.
    #[must_use]
    pub fn of_plugin<P: Plugin>(config: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let description = describe::<P>("tested", "0.0.0");
        Self {
            config: config.iter().map(owned).collect(),
            open: || Box::new(Instance::<P>::new()),
            instance: None,
            states: vec![Values::new(); description.states.len()],
            description,
        }
    }

    /// Processes one batch of records that came by the first input port, and returns what was emitted, port by port.
    ///
    /// # Errors
    /// The plugin refused its configuration or the batch. State is as it was, and the instance is gone.
    pub fn run(
        &mut self,
        records: impl IntoIterator<Item = impl Into<Given>>,
    ) -> Result<Vec<Emitted>> {
        let input = self.description.inputs[0].clone();
        self.run_on(&input, records)
    }

    /// The same for another input port.
    ///
    /// # Errors
    /// As [`Task::run`].
    ///
    /// # Panics
    /// When there is no such port, or the plugin breaks the contract.
    pub fn run_on(
        &mut self,
        input: &str,
        records: impl IntoIterator<Item = impl Into<Given>>,
    ) -> Result<Vec<Emitted>> {
        let records = records.into_iter().map(Into::into).collect();
        host::call(self, input, records)
    }

    /// Drops the instance, as the host may between any two batches. The next batch meets a fresh one.
    pub fn kill(&mut self) {
        self.instance = None;
    }

    /// What the state keeps for a key, encoded by postcard.
    ///
    /// # Panics
    /// When there is no such state, or its bytes are no such value.
    #[must_use]
    pub fn value<T: Serialize + DeserializeOwned>(
        &self,
        state: &str,
        key: impl AsRef<[u8]>,
    ) -> Option<T> {
        let bytes = self.value_bytes(state, key)?;
        Some(Postcard::decode(bytes).expect("the state is encoded by postcard as this type"))
    }

    /// The bytes that the state keeps for a key.
    ///
    /// # Panics
    /// When there is no such state.
    #[must_use]
    pub fn value_bytes(&self, state: &str, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        let values = &self.states[self.state_index(state)];
        values.get(key.as_ref()).map(Vec::as_slice)
    }

    /// Sets the bytes of a state, such as those that an earlier version of the plugin wrote.
    ///
    /// # Panics
    /// When there is no such state.
    pub fn set_value_bytes(
        &mut self,
        state: &str,
        key: impl Into<Vec<u8>>,
        bytes: impl Into<Vec<u8>>,
    ) {
        let index = self.state_index(state);
        self.states[index].insert(key.into(), bytes.into());
    }

    /// The lines that operators on this thread logged since the last time that somebody asked.
    #[must_use]
    pub fn take_log(&mut self) -> Vec<(Level, String)> {
        log::native::take()
    }

    fn state_index(&self, name: &str) -> usize {
        let states = &self.description.states;
        let index = states.iter().position(|state| state.name == name);
        index.unwrap_or_else(|| panic!("no state `{name}` is declared; there are {states:?}"))
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Task")
            .field("description", &self.description)
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

/// A record that a test hands over: `(key, value)`, and a time if it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    key: Vec<u8>,
    value: Vec<u8>,
    timestamp: Option<Timestamp>,
}

impl Given {
    /// Gives it an event time, in milliseconds since 1970.
    #[must_use]
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<(K, V)> for Given {
    fn from((key, value): (K, V)) -> Self {
        Self {
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            timestamp: None,
        }
    }
}

/// A record that was emitted. It equals `(key, value)`, or all of its fields.
#[derive(Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The output port.
    pub output: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The event time, if it has one.
    pub timestamp: Option<Timestamp>,
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> PartialEq<(K, V)> for Emitted {
    fn eq(&self, (key, value): &(K, V)) -> bool {
        self.key == key.as_ref() && self.value == value.as_ref()
    }
}

impl fmt::Debug for Emitted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = (Readable(&self.key), Readable(&self.value));
        write!(formatter, "{}: `{key}` `{value}`", self.output)?;
        match self.timestamp {
            Some(timestamp) => write!(formatter, " at {timestamp}"),
            None => Ok(()),
        }
    }
}
