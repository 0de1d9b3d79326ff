// Nothing is wrong with this one: it shows that the others fail for their own reasons.
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
        out.emit("x");
        Ok(())
    }
}

floodmark_sdk::export!(Counter);
