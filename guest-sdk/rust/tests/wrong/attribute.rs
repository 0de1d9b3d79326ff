//~ `#[floodmark_sdk::operator]` belongs on `impl Operator for ..`
//~ `#[floodmark_sdk::operator]` takes no arguments
use floodmark_sdk::{Config, Operator, Output, Record, Result, States};

#[floodmark_sdk::operator]
#[derive(States)]
struct Counter {}

#[floodmark_sdk::operator(values)]
impl Operator for Counter {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self {})
    }

    fn process(&mut self, _: Record<'_>, _: &mut Output<'_>) -> Result {
        Ok(())
    }
}

floodmark_sdk::export!(Counter);
