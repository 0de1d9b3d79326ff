//~ no port has this name
use floodmark_sdk::{Config, Operator, Output, Port, Record, Result, States, Value};

#[derive(Default, States)]
struct Counter {
    count: Value<u64>,
}

const LATE: Port = Port::named(Counter::OUTPUTS, "lat");

impl Operator for Counter {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        out.to(LATE).emit("x");
        Ok(())
    }
}

floodmark_sdk::export!(Counter);
