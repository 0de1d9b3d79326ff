//! Counts words: for the n-th record of a key it emits `n`, from 1 on, as decimal text under the same key.
//!
//! It does not look at values, so it counts anything that has a key.

use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States, Value};

/// How often each word was seen.
#[derive(Debug, Default, States)]
pub struct WordCount {
    count: Value<u64>,
}

#[floodmark_sdk::operator]
impl Operator for WordCount {
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

floodmark_sdk::export!(WordCount);

#[cfg(test)]
mod tests {
    //! Catches counts that start at 0, that mix up words, or that are lost with an instance.

    use floodmark_sdk::testing::{Given, Task, check_disposable};

    use super::*;

    #[test]
    fn each_word_counts_from_one() {
        let words = [
            ("rain", ""),
            ("sun", ""),
            ("rain", "any value"),
            ("rain", ""),
        ];
        let counts = [("rain", "1"), ("sun", "1"), ("rain", "2"), ("rain", "3")];
        assert_eq!(check_disposable::<WordCount>(&[], words), counts);
    }

    #[test]
    fn counting_goes_on_after_an_instance_is_gone() -> Result {
        let mut task = Task::new::<WordCount>();
        task.run([("rain", ""), ("rain", "")])?;
        task.kill();
        assert_eq!(task.run([("rain", "")])?, [("rain", "3")]);
        assert_eq!(task.value("count", "rain"), Some(3_u64));
        Ok(())
    }

    #[test]
    fn a_word_is_any_bytes_and_a_count_has_the_time_of_its_word() -> Result {
        let mut task = Task::new::<WordCount>();
        let emitted = task.run([Given::from((b"\xff\x00", "")).at(7)])?;
        assert_eq!(emitted, [(b"\xff\x00", "1")]);
        assert_eq!(emitted[0].timestamp, Some(7));
        Ok(())
    }
}
