//! Counts the records of each key and keeps their values, and fails as a value says: `panic…`, `fail…` and `break…` (an
//! output that the contract forbids) fail the call, `reject…` rejects the record, `show` emits all values of the key. Each does half of its work first, so that
//! what is applied of a failed call shows. With `mended = true` it does none of it.

use floodmark_sdk::columns::{
    Batch, Column, Description, OptionalColumn, Output, Plugin, Selection,
};
use floodmark_sdk::{
    Config, Error, List, Operator, Port, Record, RecordByRecord, Result, States, Value,
};

#[derive(Debug, Default, States)]
struct Faulty {
    count: Value<u64>,
    values: List<String>,
    #[state(skip)]
    mended: bool,
}

#[floodmark_sdk::operator]
impl Operator for Faulty {
    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            mended: config.parse_or("mended", false)?,
            ..Self::default()
        })
    }

    fn process(&mut self, record: Record<'_>, out: &mut floodmark_sdk::Output<'_>) -> Result {
        let text = record.text()?;
        if text.starts_with("reject") && !self.mended {
            out.reject(format_args!("as the record asks: `{text}`"));
            return Ok(());
        }
        let count = self.count.or_default();
        *count += 1;
        out.emit(format_args!("{count} {text}"));
        self.values.push(text.to_owned());
        if text == "show" {
            out.emit(self.values.to_vec()?.join(","));
        }
        if self.mended {
            return Ok(());
        }
        match text {
            text if text.starts_with("panic") => panic!("cannot stand this"),
            text if text.starts_with("fail") => Err(Error::new("this is too much")),
            _ => Ok(()),
        }
    }
}

/// The operator, with an output that the contract forbids where a value asks for it.
struct Breaking {
    inner: RecordByRecord<Faulty>,
    mended: bool,
}

impl Plugin for Breaking {
    fn describe() -> Description {
        RecordByRecord::<Faulty>::describe()
    }

    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            mended: config.parse_or("mended", false)?,
            inner: RecordByRecord::open(config)?,
        })
    }

    fn process(
        &mut self,
        input: Port,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output> {
        let is_meant = |value: &[u8]| value.starts_with(b"break");
        let breaks = !self.mended && records.values.iter().any(is_meant);
        let mut output = self.inner.process(input, records, states)?;
        if breaks && let Some(emission) = output.emissions.first_mut() {
            let emitted = emission.values.as_ref().map_or(0, Column::len);
            emission.records = Selection::Listed(vec![u32::MAX; emitted]);
        }
        Ok(output)
    }

    fn migrate(state: u16, from_version: u32, values: &Column) -> Result<Column> {
        RecordByRecord::<Faulty>::migrate(state, from_version, values)
    }
}

floodmark_sdk::export_plugin!(Breaking);
