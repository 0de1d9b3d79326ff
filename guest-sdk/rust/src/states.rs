//! The traits behind `#[derive(States)]`: what it implements for an operator, and what a field needs to be a state.
//!
//! The derived code calls these; an operator only names the types of its fields. Nothing here knows what a value is:
//! that is `value`, `list` and `map`.

use crate::columns::{Column, ListWrites, MapWrites, OptionalColumn, Part, StateKind, ValueWrites};
use crate::encoding::Encoding;
use crate::{Error, Result};

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

    /// Rewrites values of an older version of a state, one for one.
    ///
    /// # Errors
    /// The state does not migrate that version, or a value is not of that version.
    fn migrate(state: u16, from_version: u32, values: &Column) -> Result<Column>;

    /// Values or sub-keys of a state as JSON, one for one.
    ///
    /// # Errors
    /// A value does not decode, or cannot be JSON.
    fn to_json(state: u16, part: Part, values: &Column) -> Result<Column>;

    /// The inverse.
    ///
    /// # Errors
    /// A text is not a value of the state.
    fn from_json(state: u16, part: Part, texts: &Column) -> Result<Column>;
}

/// A type that can be a state of an operator.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state",
    label = "neither a state nor skipped",
    note = "to keep a `{Self}` for each key, make the field a `Value<{Self}>`",
    note = "to keep many of them for each key, make it a `List<{Self}>`, or a `Map<K, {Self}>`",
    note = "to use the field for configuration or as a cache, put `#[state(skip)]` on it"
)]
pub trait State: sealed::Sealed {
    /// Its kind in the contract.
    const KIND: StateKind;

    /// What it keeps: a value, the items of a list, the values of a map.
    type Item;

    /// How that is written.
    type Encoding: Encoding<Self::Item>;

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

    /// Appends the JSON text of a sub-key.
    ///
    /// # Errors
    /// It is not a sub-key of the state, or the state has no sub-keys.
    fn sub_key_to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        let _ = (bytes, json);
        Err(Error::new("this state has no sub-keys"))
    }

    /// The inverse.
    ///
    /// # Errors
    /// The text is not a sub-key, or the state has none.
    fn sub_key_from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        let _ = (json, bytes);
        Err(Error::new("this state has no sub-keys"))
    }
}

/// What a migration may return: the value, or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "a migration of this state returns `{Self}` instead of `{T}`",
    label = "this function returns another type than the state keeps",
    note = "a migration is a function from what the state kept before to what it keeps now: `fn(Old) -> {T}`, or `fn(Old) -> Result<{T}>`"
)]
pub trait Migrated<T> {
    /// The value.
    ///
    /// # Errors
    /// The old value cannot be taken over.
    fn into_result(self) -> Result<T>;
}

impl<T> Migrated<T> for T {
    fn into_result(self) -> Result<T> {
        Ok(self)
    }
}

impl<T> Migrated<T> for Result<T> {
    fn into_result(self) -> Self {
        self
    }
}

pub(crate) mod sealed {
    //! The host knows the kinds of state, so there are no others.

    /// A kind of state that the contract has.
    pub trait Sealed {}
}

/// One declared state.
#[derive(Debug)]
pub struct Declaration {
    /// Identifies the state across versions of the plugin.
    pub name: &'static str,
    /// Its kind.
    pub kind: StateKind,
    /// The version of the encoding of its values.
    pub version: u32,
    /// How long after its last write a value expires; `None` if it does not expire.
    pub ttl_ms: Option<u64>,
}

impl Declaration {
    /// The declaration of a field of type `S`.
    #[must_use]
    pub const fn of<S: State>(name: &'static str, version: u32, ttl_ms: Option<u64>) -> Self {
        Self {
            name,
            kind: S::KIND,
            version,
            ttl_ms,
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
    pub(crate) lists: Vec<ListWrites>,
    pub(crate) maps: Vec<MapWrites>,
}

/// Rewrites what a state `S` kept as `Old`.
///
/// # Errors
/// A value is not an `Old`, or cannot be taken over.
pub fn migrate<S: State, Old, New: Migrated<S::Item>>(
    upgrade: impl Fn(Old) -> New,
    values: &Column,
) -> Result<Column>
where
    S::Encoding: Encoding<Old>,
{
    each(values, |bytes, migrated| {
        let old = <S::Encoding as Encoding<Old>>::decode(bytes)?;
        <S::Encoding as Encoding<S::Item>>::encode(&upgrade(old).into_result()?, migrated)
    })
}

/// Values or sub-keys of a state `S` as JSON.
///
/// # Errors
/// As [`States::to_json`].
pub fn to_json<S: State>(part: Part, values: &Column) -> Result<Column> {
    match part {
        Part::Value => each(values, <S::Encoding as Encoding<S::Item>>::to_json),
        Part::SubKey => each(values, S::sub_key_to_json),
    }
}

/// The inverse.
///
/// # Errors
/// As [`States::from_json`].
pub fn from_json<S: State>(part: Part, texts: &Column) -> Result<Column> {
    match part {
        Part::Value => each(texts, <S::Encoding as Encoding<S::Item>>::from_json),
        Part::SubKey => each(texts, S::sub_key_from_json),
    }
}

fn each(items: &Column, write: impl Fn(&[u8], &mut Vec<u8>) -> Result) -> Result<Column> {
    let mut written = Column::new();
    for (index, item) in items.iter().enumerate() {
        write(item, &mut written.bytes)
            .map_err(|error| error.within(format_args!("item {index}")))?;
        written.end_item();
    }
    Ok(written)
}

/// What a state says to a version that it does not take over.
#[doc(hidden)]
#[cold]
#[must_use]
pub fn no_migration(declared: &[Declaration], state: u16, from_version: u32) -> Error {
    match declared.get(usize::from(state)) {
        Some(Declaration { name, version, .. }) => Error::new(format!(
            "state `{name}` is declared in version {version} and says nothing of version {from_version}; add \
             `migrate({from_version} = function)` to its `#[state(..)]`, or run the plugin that wrote it"
        )),
        None => no_state(state),
    }
}

/// What a plugin says of a state that it does not have.
#[doc(hidden)]
#[cold]
#[must_use]
pub fn no_state(state: u16) -> Error {
    Error::new(format!("there is no state {state}"))
}
