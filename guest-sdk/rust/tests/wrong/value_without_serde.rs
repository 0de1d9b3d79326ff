//~ a state cannot keep `Count` with the encoding `Postcard`
//~ `Value<T>` needs `serde::Serialize` and `serde::Deserialize` on `T`: derive both
//~ to use a `Count` for configuration or as a cache instead, make the field a `Count` with `#[state(skip)]` on it
use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};

#[derive(Default)]
struct Count(u64);

#[derive(Default, States)]
struct Counter {
    count: Value<Count>,
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
