//! Counts words as `word-count` does, and takes over what that one counted: its state is of version 2, and also keeps
//! the longest value that came with a word.

use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, States)]
struct UpgradeV2 {
    #[state(version = 2, migrate = of_count)]
    count: Value<Seen>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    count: u64,
    longest: String,
}

fn of_count(count: u64) -> Seen {
    Seen {
        count,
        longest: String::new(),
    }
}

#[floodmark_sdk::operator]
impl Operator for UpgradeV2 {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, word: Record<'_>, out: &mut Output<'_>) -> Result {
        let seen = self.count.or_default();
        seen.count += 1;
        if word.text()?.len() > seen.longest.len() {
            word.text()?.clone_into(&mut seen.longest);
        }
        out.emit(format_args!("{} {}", seen.count, seen.longest));
        Ok(())
    }
}

floodmark_sdk::export!(UpgradeV2);

#[cfg(test)]
mod tests {
    //! Catches counts that start over with the new version.

    use floodmark_sdk::Decimal;
    use floodmark_sdk::testing::Task;

    use super::*;

    #[derive(Default, States)]
    struct WordCount {
        count: Value<u64>,
    }

    impl Operator for WordCount {
        fn open(_: &Config) -> Result<Self> {
            Ok(Self::default())
        }

        fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
            let count = self.count.or_default();
            *count += 1;
            out.emit(Decimal(*count));
            Ok(())
        }
    }

    #[test]
    fn counting_goes_on() -> Result {
        let mut task = Task::new::<WordCount>();
        task.run([("rain", ""), ("rain", "")])?;
        let mut task = task.upgrade::<UpgradeV2>()?;
        assert_eq!(
            task.value_json("count", "rain")?,
            Some(r#"{"count":2,"longest":""}"#.to_owned())
        );
        assert_eq!(task.run([("rain", "heavy")])?, [("rain", "3 heavy")]);
        Ok(())
    }
}
