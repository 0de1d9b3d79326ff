//! The place where a task keeps its state: our own store in a job, or a store of the program that calls one operator.
//!
//! A task calls these methods between the calls of its guest, in this order: reads for a call, and if the call
//! succeeded its writes, then those of migration, then [`KeyedState::settle`]. During a call the guest may read lists
//! and maps.

use super::collections::KeyedCollections;
use super::schema::DeclaredState;
use floodmark_state::stream::OptionalColumn;
use floodmark_state::{Keys, Lookup, StateId};

/// The keyed state of one task: values here, lists and maps in [`KeyedCollections`].
///
/// - Each version of a state has its own id. A stored value keeps the id under which it was written: a read returns it
///   as it is, and the task migrates it. Lists and maps are asked for by the newest id alone, and are returned in that
///   version.
/// - For each key at most one version counts. A write or a removal in the newest version ends all earlier ones.
/// - A read sees all writes before it. After a failed write, the content is unknown.
pub trait KeyedState: KeyedCollections {
    /// Replaces the content of `lookup`: for each of `keys`, in their order, the value and the id of the version that
    /// wrote it, which is `state.id` or one of `state.earlier`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &mut Lookup,
    ) -> Result<(), Self::Error>;

    /// Writes under `state.id`. `values` has an item for each of `slots`, which are indexes of `keys` and differ: `None`
    /// removes the value. `lookup` is that of these keys, and no write of the state was between.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &Lookup,
        slots: &[u32],
        values: &OptionalColumn,
    ) -> Result<(), Self::Error>;

    /// Some of the values, lists and maps that still are of an earlier version. The task migrates them, so each is
    /// returned once; one that the plugin cannot migrate stays as it is. Called after successful calls, and while there
    /// are no records, until the answer is `None`, for none left; an empty answer is none for now. A place that leaves
    /// them until they are read always answers `None`.
    ///
    /// # Errors
    /// When they cannot be read.
    fn stale_values(&mut self, now_ms: u64) -> Result<Option<Vec<StaleValue>>, Self::Error>;

    /// Bytes that the state takes, with what is not compacted yet, to compare with the limit on state. Called before the
    /// writes of each call, so it must be cheap. A place that does not count answers 0, and has no limit.
    fn size_bytes(&self) -> u64;

    /// A successful call and all its writes are over: the place for upkeep, such as compaction.
    ///
    /// # Errors
    /// When the state cannot be used any more.
    fn settle(&mut self, now_ms: u64) -> Result<(), Self::Error>;
}

/// A value, list or map that an earlier version of its state wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleValue {
    /// The newest id of the state.
    pub state: StateId,
    /// The key.
    pub key: Vec<u8>,
}
