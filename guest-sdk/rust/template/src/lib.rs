//! Counts the records of each key: for the n-th one it emits `n`.

use floodmark_sdk::{Config, Decimal, Operator, Output, Record, Result, States, Value, metrics};

/// What is kept for each key. Add fields of other states here: `List`, `Map`, `Reducing`, `Aggregating`.
#[derive(Debug, Default, States)]
struct Counter {
    count: Value<u64>,
}

#[floodmark_sdk::operator]
impl Operator for Counter {
    fn open(_config: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _record: Record<'_>, out: &mut Output<'_>) -> Result {
        let count = self.count.or_default();
        *count += 1;
        if *count == 1 {
            metrics::counter("keys").add(1);
        }
        out.emit(Decimal(*count));
        Ok(())
    }
}

floodmark_sdk::export!(Counter);

#[cfg(test)]
mod tests {
    use floodmark_sdk::testing::Task;

    use super::*;

    #[test]
    fn each_key_counts_from_one() -> Result {
        let mut task = Task::new::<Counter>();
        let counts = [("rain", "1"), ("sun", "1"), ("rain", "2")];
        assert_eq!(task.run([("rain", ""), ("sun", ""), ("rain", "")])?, counts);
        // The host may drop an instance at any time: its states stay.
        task.kill();
        assert_eq!(task.run([("rain", "")])?, [("rain", "3")]);
        assert_eq!(task.value("count", "rain"), Some(3_u64));
        Ok(())
    }
}
