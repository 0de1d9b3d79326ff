//~ `Counter` does not say which states it keeps
//~ put `#[derive(floodmark_sdk::States)]` on this struct
use floodmark_sdk::{Config, Operator, Output, Record, Result, Value};

#[derive(Default)]
struct Counter {
    count: Value<u64>,
}

impl Operator for Counter {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        out.emit("x");
        Ok(())
    }
}

floodmark_sdk::export!(Counter);
