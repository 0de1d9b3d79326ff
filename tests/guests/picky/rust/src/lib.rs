//! Counts words as `upgrade-v2` does, with the same bytes of state, but does not take over all that `word-count` counted:
//! it refuses a count that seven divides, and crashes at thirteen.

use floodmark_sdk::{Config, Error, Operator, Output, Record, Result, States, Value};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, States)]
struct Picky {
    #[state(version = 2, migrate = of_count)]
    count: Value<Seen>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    count: u64,
    longest: String,
}

fn of_count(count: u64) -> Result<Seen> {
    assert_ne!(count, 13, "a count of bad luck");
    if count.is_multiple_of(7) {
        return Err(Error::new(format!("{count} is a multiple of seven")));
    }
    Ok(Seen {
        count,
        longest: String::new(),
    })
}

#[floodmark_sdk::operator]
impl Operator for Picky {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _word: Record<'_>, out: &mut Output<'_>) -> Result {
        let seen = self.count.or_default();
        seen.count += 1;
        out.emit(format_args!("{} {}", seen.count, seen.longest));
        Ok(())
    }
}

floodmark_sdk::export!(Picky);
