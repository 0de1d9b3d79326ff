//! Calls of a plugin outside of the stream: migrating values of older versions, converting values to JSON for tools,
//! and notifications of checkpoints.

use super::bindings::exports::floodmark::engine::state_values::{ColumnResult as WitColumn, Part};
use super::bindings::floodmark::engine::types::ColumnParam;
use super::call::call;
use super::instance::{Instance, shortened};
use super::{AnswerFault, GuestError};
use floodmark_state::stream::Column;

/// The part of a state that values belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatePart {
    /// Values; items of a list.
    Value,
    /// Sub-keys of a map.
    SubKey,
}

impl Instance {
    /// Converts values of an older version of a state to the current version, one for one. Without values, it tests
    /// whether the plugin can migrate that version.
    ///
    /// # Errors
    /// When the plugin cannot migrate them, crashes, or breaks the contract. After a crash the instance must not be
    /// used again.
    pub fn migrate(
        &mut self,
        state: u16,
        from_version: u32,
        values: &Column,
    ) -> Result<Column, GuestError> {
        let exported = &self.exports.state_values;
        let answer = call(&mut self.store, &self.operator, "migrate", |store| {
            exported.call_migrate(store, state, from_version, param(values))
        })?;
        self.one_for_one("migrate", values.len(), answer)
    }

    /// Converts values or sub-keys of a state to JSON, one for one.
    ///
    /// # Errors
    /// As [`Instance::migrate`].
    pub fn to_json(
        &mut self,
        state: u16,
        part: StatePart,
        values: &Column,
    ) -> Result<Column, GuestError> {
        let exported = &self.exports.state_values;
        let answer = call(&mut self.store, &self.operator, "to-json", |store| {
            exported.call_to_json(store, state, part.into(), param(values))
        })?;
        let texts = self.one_for_one("to-json", values.len(), answer)?;
        for text in texts.iter() {
            serde_json::from_slice::<&serde_json::value::RawValue>(text).map_err(|error| {
                GuestError::BadAnswer {
                    operator: self.operator.clone(),
                    call: "to-json",
                    reason: error.into(),
                }
            })?;
        }
        Ok(texts)
    }

    /// Converts JSON back to bytes, one for one.
    ///
    /// # Errors
    /// As [`Instance::migrate`].
    pub fn from_json(
        &mut self,
        state: u16,
        part: StatePart,
        texts: &Column,
    ) -> Result<Column, GuestError> {
        let exported = &self.exports.state_values;
        let answer = call(&mut self.store, &self.operator, "from-json", |store| {
            exported.call_from_json(store, state, part.into(), param(texts))
        })?;
        self.one_for_one("from-json", texts.len(), answer)
    }

    /// Notifies the plugin that a checkpoint is durable.
    ///
    /// # Errors
    /// When it crashes: the instance must not be used again then.
    pub fn completed(&mut self, checkpoint: u64) -> Result<(), GuestError> {
        let listener = &self.exports.listener;
        call(&mut self.store, &self.operator, "completed", |store| {
            listener.call_completed(store, checkpoint)
        })
    }

    /// Notifies the plugin that a checkpoint was aborted.
    ///
    /// # Errors
    /// As [`Instance::completed`].
    pub fn aborted(&mut self, checkpoint: u64) -> Result<(), GuestError> {
        let listener = &self.exports.listener;
        call(&mut self.store, &self.operator, "aborted", |store| {
            listener.call_aborted(store, checkpoint)
        })
    }

    fn one_for_one(
        &mut self,
        call: &'static str,
        asked: usize,
        answer: Result<WitColumn, String>,
    ) -> Result<Column, GuestError> {
        let operator = || self.operator.clone();
        let column = match answer {
            Ok(column) => column,
            Err(reason) => {
                return Err(GuestError::Values {
                    operator: operator(),
                    call,
                    reason: shortened(&reason),
                });
            }
        };
        let bytes = 4 * column.ends.len() + column.bytes.len();
        self.check_returned(call, bytes as u64)?;
        let bad = |reason| GuestError::BadAnswer {
            operator: operator(),
            call,
            reason,
        };
        let column = Column::from_parts(column.ends, column.bytes)
            .map_err(|malformed| bad(AnswerFault::Column(malformed)))?;
        if column.len() != asked {
            return Err(bad(AnswerFault::Count {
                items: column.len(),
                expected: asked,
            }));
        }
        Ok(column)
    }
}

impl From<StatePart> for Part {
    fn from(part: StatePart) -> Self {
        match part {
            StatePart::Value => Self::Value,
            StatePart::SubKey => Self::SubKey,
        }
    }
}

fn param(column: &Column) -> ColumnParam<'_> {
    ColumnParam {
        ends: column.ends(),
        bytes: column.bytes(),
    }
}
