//! The operator trait that a user implements, and the record that it processes.

use std::str;

use crate::columns::{Batch, NO_TIMESTAMP, Timestamp};
use crate::error::Readable;
use crate::{Config, Error, Output, Result, States};

/// An operator. [`export!`](crate::export) makes a plugin of it.
///
/// The host may drop an operator between any two batches and open another one, so what must last belongs in a state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operator",
    label = "write `impl floodmark_sdk::Operator for {Self}`",
    note = "an operator is opened with its configuration and then processes one record after the other"
)]
pub trait Operator: States + Sized + 'static {
    /// The names of its input ports; [`Port::named`] finds one of several.
    const INPUTS: &'static [&'static str] = &["in"];

    /// The names of its output ports; [`Port::named`] finds one of several.
    const OUTPUTS: &'static [&'static str] = &["out"];

    /// Which columns of its input it reads, on all ports. [`#[operator]`](macro@crate::operator) sets it from what
    /// [`process`](Operator::process) does; a value written by hand overrides that. A wrong one panics in the first
    /// call that reads an omitted column.
    const READS: Reads = Reads::ALL;

    /// Makes the operator from its configuration.
    ///
    /// # Errors
    /// The configuration is wrong; the job does not start.
    fn open(config: &Config) -> Result<Self>;

    /// Handles one record. States are those of its key.
    ///
    /// # Errors
    /// The job cannot continue; nothing of the batch is applied.
    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result;

    /// Called when a checkpoint is durable: what was processed before it is never processed again. No state can be used
    /// here.
    ///
    /// Best effort: a call may be missed, so this checkpoint also covers all with a smaller number, and a fresh
    /// instance has not been told of any.
    fn checkpoint_completed(&mut self, checkpoint: u64) {
        let _ = checkpoint;
    }

    /// Called when a checkpoint was aborted; a later one includes what it would have included. As
    /// [`Operator::checkpoint_completed`].
    fn checkpoint_aborted(&mut self, checkpoint: u64) {
        let _ = checkpoint;
    }
}

/// A record that is being processed.
///
/// It is a position in the batch, so columns that an operator does not read cost nothing.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) index: usize,
    pub(crate) input: Port,
}

impl<'a> Record<'a> {
    /// Its input port.
    #[inline]
    #[must_use]
    pub fn input(&self) -> Port {
        self.input
    }

    /// Its key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.batch.keys.get(self.batch.slots[self.index] as usize)
    }

    /// Its value.
    ///
    /// # Panics
    /// When the operator's [`READS`](Operator::READS) says that it does not read values.
    #[inline]
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        if self.index >= self.batch.values.len() {
            unread("the value of a record", "values");
        }
        self.batch.values.get(self.index)
    }

    /// The value as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    ///
    /// # Panics
    /// As [`Record::value`].
    pub fn text(&self) -> Result<&'a str> {
        str::from_utf8(self.value()).map_err(|error| {
            Error::from(error).within(format_args!("the value `{}`", Readable(self.value())))
        })
    }

    /// Its event time in milliseconds since 1970-01-01T00:00:00Z, if it has one.
    ///
    /// # Panics
    /// When the operator's [`READS`](Operator::READS) says that it does not read event times.
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        let Some(&timestamp) = self.batch.timestamps.get(self.index) else {
            unread("the event time of a record", "timestamps");
        };
        (timestamp != NO_TIMESTAMP).then_some(timestamp)
    }

    /// Whether this is its event time, as far as that is known.
    #[inline]
    pub(crate) fn has_timestamp(&self, timestamp: Timestamp) -> bool {
        self.batch.timestamps.get(self.index) == Some(&timestamp)
    }
}

/// Ends a call in which an operator reads a column that it declared unread.
#[cold]
pub(crate) fn unread(what: &str, column: &str) -> ! {
    panic!(
        "this operator needs {what}, but its `READS` says that it does not read {column}; set `{column}: true` there, or remove \
         the constant"
    )
}

/// Which columns of its input an operator reads. The host does not copy the others, and if possible does not create
/// them.
///
/// The key of a record is always passed. Emitting a record with the time of the one that is being processed does not
/// count as reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// Whether it reads values: [`Record::value`], [`Record::text`].
    pub values: bool,
    /// Whether it reads event times: [`Record::timestamp`]. Emitting to one port some records with the time of the one
    /// that is being processed and some with another ([`Output::at`]) also reads them.
    pub timestamps: bool,
}

impl Reads {
    /// All columns are read.
    pub const ALL: Self = Self {
        values: true,
        timestamps: true,
    };
}

/// One of an operator's inputs or outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(u16);

impl Port {
    /// The first one, which is the only one of most operators.
    pub const FIRST: Self = Self(0);

    /// The port `name` of those in `names`. In a constant, a name that is not there is an error of the compiler.
    ///
    /// ```
    /// use floodmark_sdk::Port;
    ///
    /// const OUTPUTS: &[&str] = &["words", "rejects"];
    /// const REJECTS: Port = Port::named(OUTPUTS, "rejects");
    /// ```
    ///
    /// # Panics
    /// When the name is not there.
    #[must_use]
    pub const fn named(names: &[&str], name: &str) -> Self {
        let mut index = 0;
        while index < names.len() {
            if is_same(names[index].as_bytes(), name.as_bytes()) {
                return Self(index as u16);
            }
            index += 1;
        }
        panic!("no port has this name; use one of the operator's `INPUTS` or `OUTPUTS`")
    }

    /// The port at a position, as the host numbers them.
    #[must_use]
    pub const fn at(index: u16) -> Self {
        Self(index)
    }

    /// Its position, as the host numbers it.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }
}

pub(crate) const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
