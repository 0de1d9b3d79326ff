//~ `u64` cannot be emitted
//~ a number becomes text by `Decimal(n)`
use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};

#[derive(Default, States)]
struct Counter {
    count: Value<u64>,
}

impl Operator for Counter {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        out.emit(1_u64);
        Ok(())
    }
}

floodmark_sdk::export!(Counter);
