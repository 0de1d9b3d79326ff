//! Counts the records of each key as `word-count` does, and emits its configured label before the count, so that output tells
//! which plugin handled a record. With `fail-at = N` it panics at the N-th record of a key.

use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Labelled {
    count: Value<u64>,
    #[state(skip)]
    label: String,
    #[state(skip)]
    fail_at: u64,
}

#[floodmark_sdk::operator]
impl Operator for Labelled {
    fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            label: config.parse_or("label", "none".to_owned())?,
            fail_at: config.parse_or("fail-at", u64::MAX)?,
            ..Self::default()
        })
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        let count = self.count.or_default();
        *count += 1;
        assert!(*count < self.fail_at, "this is as far as it goes");
        out.emit(format_args!("{} {count}", self.label));
        Ok(())
    }
}

floodmark_sdk::export!(Labelled);
