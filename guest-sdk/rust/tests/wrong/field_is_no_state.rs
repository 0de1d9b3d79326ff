//~ `u64` is not a state
//~ to keep a `u64` for each key, make the field a `Value<u64>`
//~ to use the field for configuration or as a cache, put `#[state(skip)]` on it
use floodmark_sdk::{Config, Operator, Output, Record, Result, States};

#[derive(Default, States)]
struct Counter {
    count: u64,
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
