//! Write an operator for Floodmark: what it does with one record, and what it keeps for the key.
//!
//! ```
//! use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States, Value};
//!
//! /// Counts the records of each key.
//! #[derive(Default, States)]
//! struct WordCount {
//!     count: Value<u64>,
//! }
//!
//! #[floodmark_sdk::operator]
//! impl Operator for WordCount {
//!     fn open(_: &Config) -> Result<Self> {
//!         Ok(Self::default())
//!     }
//!
//!     fn process(&mut self, _word: Record<'_>, out: &mut Output<'_>) -> Result {
//!         let count = self.count.or_default();
//!         *count += 1;
//!         out.emit(Decimal(*count));
//!         Ok(())
//!     }
//! }
//!
//! floodmark_sdk::export!(WordCount);
//!
//! // In a test of the plugin:
//! use floodmark_sdk::testing::Task;
//!
//! let mut task = Task::new::<WordCount>();
//! assert_eq!(task.run([("rain", ""), ("sun", ""), ("rain", "")])?, [("rain", "1"), ("sun", "1"), ("rain", "2")]);
//! task.kill();
//! assert_eq!(task.run([("rain", "")])?, [("rain", "3")]);
//! # Result::<()>::Ok(())
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2` from a crate of the type `cdylib`; the `.wasm` file is
//! the plugin.
//!
//! # States
//! | a field of type | keeps for each key |
//! | --- | --- |
//! | [`Value<T>`] | one value |
//! | [`List<T>`] | many values, in the order in which they were appended |
//! | [`Map<K, V>`] | many values by sub-key, in the order of the sub-keys |
//! | [`Reducing<T>`], [`Aggregating<A>`] | what all added values make, such as `Reducing<Max<u64>>` |
//!
//! Attributes set the rest. Values of a state with a time to live expire that long after their last write, and a new
//! version of a plugin migrates the state of an older one, value by value, while the job runs:
//!
//! ```
//! # use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};
//! #[derive(Default, States)]
//! struct Sessions {
//!     #[state(ttl = "30min")]
//!     user: Value<String>,
//!     #[state(version = 2, migrate = with_errors)]
//!     clicks: Value<Clicks>,
//! }
//!
//! #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Clicks { all: u64, errors: u64 }
//!
//! /// Version 1 counted all clicks, and nothing else.
//! fn with_errors(all: u64) -> Clicks {
//!     Clicks { all, errors: 0 }
//! }
//! # impl Operator for Sessions {
//! #     fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
//! #     fn process(&mut self, _: Record<'_>, _: &mut Output<'_>) -> Result { Ok(()) }
//! # }
//! # use floodmark_sdk::testing::Task;
//! # #[derive(Default, States)]
//! # struct Before { #[state(ttl = "30min")] user: Value<String>, clicks: Value<u64> }
//! # impl Operator for Before {
//! #     fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
//! #     fn process(&mut self, _: Record<'_>, _: &mut Output<'_>) -> Result { *self.clicks.or_default() += 1; Ok(()) }
//! # }
//! # let mut before = Task::new::<Before>();
//! # before.run([("ann", "")])?;
//! # let after = before.upgrade::<Sessions>()?;
//! # assert_eq!(after.value("clicks", "ann"), Some(Clicks { all: 1, errors: 0 }));
//! # Result::<()>::Ok(())
//! ```
//!
//! # Unread columns are not copied
//! [`#[floodmark_sdk::operator]`](macro@operator) looks at how `process` uses its record, and tells the host which
//! columns it does not read: the values, the event times, or both. `WordCount` above reads neither, so that the host
//! passes keys alone. The attribute says so only where that is certain: a record named `_`, or one of which `process`
//! itself calls methods and does nothing else. What a record emits has the record's time without reading it.
//!
//! [`READS`](Operator::READS) says the same by hand, for an operator that hands its record to functions of its own:
//!
//! ```
//! # use floodmark_sdk::{Config, Operator, Output, Reads, Record, Result, States};
//! # #[derive(States)]
//! # struct Keys;
//! impl Operator for Keys {
//!     const READS: Reads = Reads { values: false, timestamps: false };
//!     # fn open(_: &Config) -> Result<Self> { Ok(Self) }
//!     # fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result { emit_key(record, out); Ok(()) }
//! }
//!
//! fn emit_key(record: Record<'_>, out: &mut Output<'_>) {
//!     out.emit(record.key());
//! }
//! # assert_eq!(floodmark_sdk::testing::Task::new::<Keys>().run([("a", "1")])?, [("a", "a")]);
//! # Result::<()>::Ok(())
//! ```
//!
//! Reading a column that it leaves out panics with a message, in unit tests as in production.
//!
//! # What to know
//! - A state always means the state of the current record's key. There is no way to reach another key's.
//! - A batch is a transaction. After an error or a panic nothing of it is applied; a panic's message reaches the host.
//! - After a failed batch the host finds the record that caused it. An operator that finds a record to be wrong rejects
//!   it with [`Output::reject`], which does not affect the others of the batch.
//! - The host may drop the operator between any two batches. Fields that are not state are caches.
//! - There is no clock and no randomness, and there must be none: a `HashMap` that is emitted or encoded in its own
//!   order breaks replay. Use a `BTreeMap`.
//!
//! # Log and metrics
//! [`info!`] and similar macros write to the job's log, and [`metrics`] adds numbers of the operator to those of the
//! job: `metrics::counter("late").add(1)`. Tests read both, by `take_log` and `take_metrics` of a
//! [`Task`](testing::Task).
//!
//! The contract passes whole columns, which the API above hides; [`columns`] gives access to them.
#![deny(unsafe_code)]

// The derive macro and `export!` name this crate, also from within its own tests.
extern crate self as floodmark_sdk;

mod operator;

mod value;

mod reducing;

mod list;

mod map;

mod entries;

pub mod encoding;

mod sub_key;

mod output;

mod config;

mod error;

pub mod log;

pub mod metrics;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub mod states;

pub mod columns;

pub mod reads;

mod short;

mod record_by_record;

mod plain;

#[doc(hidden)]
pub mod export;

#[doc(hidden)]
pub mod bindings;

pub use columns::Timestamp;
pub use config::Config;
pub use entries::Entries;
pub use error::{Error, Result};
pub use floodmark_sdk_macros::{States, operator};
pub use list::{Items, List};
pub use map::Map;
pub use operator::{Operator, Port, Reads, Record};
pub use output::{Decimal, Emission, Output, Payload};
pub use record_by_record::RecordByRecord;
pub use reducing::{Aggregate, Aggregating, Max, Min, Reduce, Reducing, Sum};
pub use states::States;
pub use value::Value;
#[doc(hidden)]
pub use wit_bindgen;
