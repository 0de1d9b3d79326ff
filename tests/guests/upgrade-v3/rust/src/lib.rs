//! Counts words, and takes over what `upgrade-v2` counted, but not what `word-count` did: its state is of version 3.

use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States, Value};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, States)]
struct UpgradeV3 {
    #[state(version = 3, migrate = of_seen)]
    count: Value<u64>,
}

/// The state of version 2.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    count: u64,
    longest: String,
}

fn of_seen(seen: Seen) -> u64 {
    seen.count
}

#[floodmark_sdk::operator]
impl Operator for UpgradeV3 {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _word: Record<'_>, out: &mut Output<'_>) -> Result {
        let count = self.count.or_default();
        *count += 1;
        out.emit(Decimal(*count));
        Ok(())
    }
}

floodmark_sdk::export!(UpgradeV3);
