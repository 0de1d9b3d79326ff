//! Runs a plugin natively, without Wasm: a task whose instance can be killed, with the state beside it.
//!
//! It takes the same path as the component, from the columns of the contract to the columns of the contract, and
//! refuses what a host would refuse. It has no limits, no failures of its own and no checkpoints.
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

mod kept;

#[cfg(test)]
mod compact;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::{Column, Description, Part, Plugin, Timestamp};
use crate::encoding::{Encoding, Postcard, SubKey};
use crate::error::Readable;
use crate::export::describe;
use crate::log::{self, Level};
use crate::{Error, Operator, RecordByRecord, Result, metrics};
use kept::States;

pub use disposable::check_disposable;

/// One task of an operator: an instance, which can be killed, and the state, which stays.
pub struct Task {
    description: Description,
    config: Vec<(String, String)>,
    exports: host::Exports,
    instance: Option<Box<dyn host::Call>>,
    states: Rc<RefCell<States>>,
    rejected: Vec<Rejected>,
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
        let states = Rc::new(RefCell::new(States::new(&description.states)));
        Self {
            config: config.iter().map(owned).collect(),
            exports: host::Exports::of::<P>(),
            instance: None,
            states,
            rejected: Vec::new(),
            description,
        }
    }

    /// The task with another version of its operator, as after a swap. States keep what they have; those of an older
    /// version are migrated.
    ///
    /// # Errors
    /// The other operator does not take a state over, or a value does not migrate.
    pub fn upgrade<O: Operator>(self) -> Result<Self> {
        let mut upgraded = Self::new::<O>();
        upgraded.config = self.config;
        let mut states = self.states.take();
        for (index, declared) in (0_u16..).zip(&upgraded.description.states) {
            let before = &self.description.states;
            let Some(position) = before.iter().position(|state| state.name == declared.name) else {
                continue;
            };
            let name = &declared.name;
            if before[position].kind != declared.kind {
                return Err(Error::new(format!(
                    "state `{name}` is kept as another kind"
                )));
            }
            let mut kept = states.take(position);
            let version = before[position].version;
            if version != declared.version {
                let migrate = |values: &Column| (upgraded.exports.migrate)(index, version, values);
                let within = |error: Error| error.within(format_args!("state `{name}`"));
                migrate(&Column::new()).map_err(within)?;
                kept.rewrite(migrate).map_err(within)?;
            }
            upgraded.states.borrow_mut().put(usize::from(index), kept);
        }
        upgraded.states.borrow_mut().now_ms = states.now_ms;
        Ok(upgraded)
    }

    /// Lets time pass, for states with a time to live.
    pub fn pass(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("tests end in time");
        self.states.borrow_mut().now_ms += ms;
    }

    /// Tells the instance, if there is one, that a checkpoint is durable.
    pub fn complete_checkpoint(&mut self, checkpoint: u64) {
        if let Some(instance) = &self.instance {
            instance.completed(checkpoint);
        }
    }

    /// Tells the instance, if there is one, that a checkpoint was aborted.
    pub fn abort_checkpoint(&mut self, checkpoint: u64) {
        if let Some(instance) = &self.instance {
            instance.aborted(checkpoint);
        }
    }

    /// Processes one batch of records of the first input port, and returns the emitted records, port by port.
    ///
    /// # Errors
    /// The plugin refused its configuration or the batch. The state does not change, and the instance is dropped.
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

    /// The records that the plugin has rejected since the last call of this method, in order.
    #[must_use]
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }

    /// Drops the instance, as the host may between any two batches. The next batch gets a fresh one.
    pub fn kill(&mut self) {
        self.instance = None;
    }

    /// The value of the state for a key, encoded by postcard.
    ///
    /// # Panics
    /// When there is no such state, or its bytes are not such a value.
    #[must_use]
    pub fn value<T: Serialize + DeserializeOwned>(
        &self,
        state: &str,
        key: impl AsRef<[u8]>,
    ) -> Option<T> {
        let bytes = self.value_bytes(state, key)?;
        Some(Postcard::decode(&bytes).expect("the state is encoded by postcard as this type"))
    }

    /// The bytes that the state keeps for a key.
    ///
    /// # Panics
    /// When there is no such state.
    #[must_use]
    pub fn value_bytes(&self, state: &str, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let index = self.state_index(state);
        self.states.borrow().value(index, key.as_ref())
    }

    /// Sets the bytes of a state, such as those that another plugin wrote.
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
        let mut states = self.states.borrow_mut();
        states.set_value(index, key.into(), Some(bytes.into()));
    }

    /// The list that the state keeps for a key, encoded by postcard.
    ///
    /// # Panics
    /// When there is no such state, or its bytes are not such items.
    #[must_use]
    pub fn list<T: Serialize + DeserializeOwned>(
        &self,
        state: &str,
        key: impl AsRef<[u8]>,
    ) -> Vec<T> {
        let index = self.state_index(state);
        let items = self.states.borrow().items(index, key.as_ref());
        let decode = |bytes: Vec<u8>| Postcard::decode(&bytes);
        let items: Result<Vec<T>> = items.into_iter().map(decode).collect();
        items.expect("the state is encoded by postcard as this type")
    }

    /// The map that the state keeps for a key, its values encoded by postcard.
    ///
    /// # Panics
    /// When there is no such state, or its bytes are not such entries.
    #[must_use]
    pub fn map<K: SubKey, V: Serialize + DeserializeOwned>(
        &self,
        state: &str,
        key: impl AsRef<[u8]>,
    ) -> Vec<(K, V)> {
        let index = self.state_index(state);
        let entries = self.states.borrow().entries(index, key.as_ref());
        let decode = |(sub_key, value): (Vec<u8>, Vec<u8>)| {
            Ok((K::from_bytes(&sub_key)?, Postcard::decode(&value)?))
        };
        let entries: Result<Vec<(K, V)>> = entries.into_iter().map(decode).collect();
        entries.expect("the state is encoded by postcard as these types")
    }

    /// A value as tools show it: JSON text.
    ///
    /// # Errors
    /// It cannot be JSON.
    ///
    /// # Panics
    /// When there is no such state.
    pub fn value_json(&self, state: &str, key: impl AsRef<[u8]>) -> Result<Option<String>> {
        let Some(bytes) = self.value_bytes(state, key) else {
            return Ok(None);
        };
        let mut column = Column::new();
        column.push(&bytes);
        let index = u16::try_from(self.state_index(state)).expect("states are few");
        let json = (self.exports.to_json)(index, Part::Value, &column)?;
        Ok(Some(String::from_utf8(json.bytes)?))
    }

    /// Sets a value as tools do: by JSON text.
    ///
    /// # Errors
    /// The text is not a value of the state.
    ///
    /// # Panics
    /// When there is no such state.
    pub fn set_value_json(&mut self, state: &str, key: impl Into<Vec<u8>>, json: &str) -> Result {
        let mut column = Column::new();
        column.push(json.as_bytes());
        let index = u16::try_from(self.state_index(state)).expect("states are few");
        let values = (self.exports.from_json)(index, Part::Value, &column)?;
        self.set_value_bytes(state, key, values.bytes);
        Ok(())
    }

    /// The lines that operators on this thread logged since the last call of this method.
    #[must_use]
    pub fn take_log(&mut self) -> Vec<(Level, String)> {
        log::native::take()
    }

    /// The numbers that operators on this thread reported since the last call of this method.
    #[must_use]
    pub fn take_metrics(&mut self) -> Metrics {
        metrics::native::take()
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

/// Numbers that operators reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// The sum of the added numbers, by counter.
    pub counters: BTreeMap<String, u64>,
    /// The last number that was set, by gauge.
    pub gauges: BTreeMap<String, f64>,
    /// The observed values, in order, by histogram.
    pub histograms: BTreeMap<String, Vec<f64>>,
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

/// A record that the plugin has rejected. It equals `(key, value, reason)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Why.
    pub reason: String,
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> PartialEq<(K, V, &str)> for Rejected {
    fn eq(&self, (key, value, reason): &(K, V, &str)) -> bool {
        self.key == key.as_ref() && self.value == value.as_ref() && self.reason == *reason
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
