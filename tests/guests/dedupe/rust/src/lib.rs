//! Lets one record of each key through, and the next one only when none came for an hour.

use floodmark_sdk::{Config, Operator, Output, Record, Result, States, Value};

#[derive(Debug, Default, States)]
struct Dedupe {
    #[state(ttl = "1h")]
    seen: Value<()>,
}

#[floodmark_sdk::operator]
impl Operator for Dedupe {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        if self.seen.get().is_none() {
            out.emit(record.value());
        }
        self.seen.set(());
        Ok(())
    }
}

floodmark_sdk::export!(Dedupe);

#[cfg(test)]
mod tests {
    //! Catches a key that is forgotten too early, or never.

    use std::time::Duration;

    use floodmark_sdk::testing::Task;

    use super::*;

    #[test]
    fn a_key_comes_again_after_an_hour_of_silence() -> Result {
        let mut task = Task::new::<Dedupe>();
        assert_eq!(
            task.run([("k", "1"), ("k", "2"), ("l", "3")])?,
            [("k", "1"), ("l", "3")]
        );
        task.pass(Duration::from_secs(3599));
        assert!(task.run([("k", "4")])?.is_empty());
        task.pass(Duration::from_secs(3599));
        assert!(task.run([("k", "5")])?.is_empty());
        task.pass(Duration::from_secs(3600));
        assert_eq!(task.run([("k", "6")])?, [("k", "6")]);
        Ok(())
    }
}
