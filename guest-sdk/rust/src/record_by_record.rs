//! Runs an operator that sees records as a plugin that sees batches.
//!
//! One pass over the columns: keys and values are borrowed from the batch, states wait in flat vectors that are reused, and
//! emissions go straight to the columns that leave. Nothing is allocated for a single record.

use crate::columns::{
    Batch, Column, Description, OptionalColumn, Output as Columns, Part, Plugin, Rejection,
    StateDeclaration, UnreadColumns,
};
use crate::error::Readable;
use crate::output::Emitted;
use crate::states::{Call, Writes};
use crate::{Config, Error, Operator, Output, Port, Reads, Record, Result};

/// An operator as a plugin.
#[derive(Debug)]
pub struct RecordByRecord<O>(O);

impl<O: Operator> Plugin for RecordByRecord<O> {
    fn describe() -> Description {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let states = O::DECLARATIONS.iter().map(|state| StateDeclaration {
            name: state.name.to_owned(),
            kind: state.kind,
            version: state.version,
            ttl_ms: state.ttl_ms,
        });
        Description {
            // `export!` fills in both from the plugin's crate.
            name: String::new(),
            version: String::new(),
            states: states.collect(),
            inputs: owned(O::INPUTS),
            outputs: owned(O::OUTPUTS),
        }
    }

    fn unread() -> Vec<UnreadColumns> {
        let unread = |input| UnreadColumns {
            input,
            values: !O::READS.values,
            timestamps: !O::READS.timestamps,
        };
        let inputs = (0_u16..).zip(O::INPUTS).map(|(input, _)| unread(input));
        match O::READS {
            Reads::ALL => Vec::new(),
            _ => inputs.collect(),
        }
    }

    fn open(config: &Config) -> Result<Self> {
        let operator = O::open(config)?;
        config.refuse_unknown()?;
        Ok(Self(operator))
    }

    fn process(
        &mut self,
        input: Port,
        mut records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Columns> {
        let Self(operator) = self;
        // A host may hand over more than it has to; a plugin must not behave differently for that.
        if !O::READS.values {
            records.values = Column::new();
        }
        if !O::READS.timestamps {
            records.timestamps = Vec::new();
        }
        operator.load(&Call {
            keys: &records.keys,
            current: &states,
        })?;
        // The contract's buffers leave with the call, so there is nothing to keep but the cells of the states.
        drop(states);
        let mut ports: Vec<Emitted> = O::OUTPUTS.iter().map(|_| Emitted::default()).collect();
        let rejections = run(operator, input, &records, &mut ports)?;
        let mut writes = Writes::default();
        operator.store(&mut writes)?;
        Ok(Columns {
            emissions: (0..)
                .zip(ports)
                .filter_map(|(port, emitted)| emitted.into_columns(port, records.slots.len()))
                .collect(),
            values: writes.values,
            lists: writes.lists,
            maps: writes.maps,
            rejections,
        })
    }

    fn migrate(state: u16, from_version: u32, values: &Column) -> Result<Column> {
        O::migrate(state, from_version, values)
    }

    fn to_json(state: u16, part: Part, values: &Column) -> Result<Column> {
        O::to_json(state, part, values)
    }

    fn from_json(state: u16, part: Part, texts: &Column) -> Result<Column> {
        O::from_json(state, part, texts)
    }

    fn checkpoint_completed(&mut self, checkpoint: u64) {
        self.0.checkpoint_completed(checkpoint);
    }

    fn checkpoint_aborted(&mut self, checkpoint: u64) {
        self.0.checkpoint_aborted(checkpoint);
    }
}

fn run<O: Operator>(
    operator: &mut O,
    input: Port,
    records: &Batch,
    ports: &mut [Emitted],
) -> Result<Vec<Rejection>> {
    let len = records.slots.len();
    let is_whole = |items: usize, is_read: bool| items == if is_read { len } else { 0 };
    assert!(
        is_whole(records.values.len(), O::READS.values)
            && is_whole(records.timestamps.len(), O::READS.timestamps),
        "the host hands over one slot, value and timestamp for each record"
    );
    let mut rejections = Vec::new();
    for (index, &slot) in records.slots.iter().enumerate() {
        let record = Record {
            batch: records,
            index,
            input,
        };
        operator.seek(slot);
        operator
            .process(
                record,
                &mut Output {
                    ports,
                    rejections: &mut rejections,
                    record,
                },
            )
            .map_err(|error| at_record(error, record))?;
    }
    Ok(rejections)
}

#[cold]
fn at_record(error: Error, record: Record<'_>) -> Error {
    error.within(format_args!(
        "a record with the key `{}`",
        Readable(record.key())
    ))
}
