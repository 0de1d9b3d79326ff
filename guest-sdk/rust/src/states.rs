//! What `#[derive(States)]` says about an operator, and what a field must be to be a state.
//!
//! The derived code calls these; an operator only names the types of its fields. Nothing here knows what a value is: that
//! is `value`. Other kinds of state join as further types.

use crate::Result;
use crate::columns::{Column, OptionalColumn, StateKind, ValueWrites};

/// The states of an operator: `#[derive(States)]` on its struct.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which states it keeps",
    label = "put `#[derive(floodmark_sdk::States)]` on this struct",
    note = "each field becomes a state; `#[state(skip)]` keeps one out, and a struct without fields keeps none"
)]
pub trait States {
    /// The declared states, in order; position is identity within a call.
    const DECLARATIONS: &'static [Declaration];

    /// Takes over the current values of a call and forgets those of the call before.
    ///
    /// # Errors
    /// A value does not decode; the states are of no use before the next `load`.
    fn load(&mut self, call: &Call<'_>) -> Result;

    /// Turns to the key of the next record.
    fn seek(&mut self, slot: u32);

    /// Hands back what changed since `load`.
    ///
    /// # Errors
    /// A value does not encode; nothing of the call may be applied.
    fn store(&mut self, writes: &mut Writes) -> Result;
}

/// A type that can be a state of an operator.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state",
    label = "neither a state nor skipped",
    note = "to keep a `{Self}` for each key, make the field a `Value<{Self}>`",
    note = "to use the field for configuration or as a cache, put `#[state(skip)]` on it"
)]
pub trait State: sealed::Sealed {
    /// Its kind in the contract.
    const KIND: StateKind;

    /// As [`States::load`], for the state at `index`.
    ///
    /// # Errors
    /// A value does not decode.
    fn load(&mut self, declaration: &Declaration, call: &Call<'_>, index: usize) -> Result;

    /// As [`States::seek`].
    fn seek(&mut self, slot: u32);

    /// As [`States::store`], for the state at `index`.
    ///
    /// # Errors
    /// A value does not encode.
    fn store(&mut self, declaration: &Declaration, writes: &mut Writes, index: usize) -> Result;
}

pub(crate) mod sealed {
    //! The host knows the kinds of state, so there are no others.

    /// A kind of state that the contract has.
    pub trait Sealed {}
}

/// One declared state.
#[derive(Debug)]
pub struct Declaration {
    /// Its identity across versions of the plugin.
    pub name: &'static str,
    /// Its kind.
    pub kind: StateKind,
    /// The version of the encoding of its values.
    pub version: u32,
}

impl Declaration {
    /// The declaration of a field of type `S`.
    #[must_use]
    pub const fn of<S: State>(name: &'static str, version: u32) -> Self {
        Self {
            name,
            kind: S::KIND,
            version,
        }
    }
}

/// The keys of a call and what the host knows about them.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) keys: &'a Column,
    pub(crate) current: &'a [OptionalColumn],
}

/// What a call changes.
#[derive(Debug, Default)]
pub struct Writes {
    pub(crate) values: Vec<ValueWrites>,
}
