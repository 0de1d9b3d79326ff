//! Counts, in a map of each key, how often each value came, and emits the three most frequent ones with their counts.

use std::cmp::Reverse;

use floodmark_sdk::{Config, Map, Operator, Output, Record, Result, States};

const TOP: usize = 3;

#[derive(Debug, Default, States)]
struct Top {
    counts: Map<String, u64>,
}

#[floodmark_sdk::operator]
impl Operator for Top {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        *self.counts.or_default(record.text()?)? += 1;
        let mut counts = self.counts.iter().collect::<Result<Vec<_>>>()?;
        // Stable, so equal counts stay in the order of their values.
        counts.sort_by_key(|&(_, count)| Reverse(count));
        let top = counts.iter().take(TOP);
        let top: Vec<String> = top
            .map(|(value, count)| format!("{value}={count}"))
            .collect();
        out.emit(top.join(" "));
        Ok(())
    }
}

floodmark_sdk::export!(Top);

#[cfg(test)]
mod tests {
    //! Catches counts of one call that are not seen by the next, or seen twice.

    use floodmark_sdk::testing::check_disposable;

    use super::*;

    #[test]
    fn the_most_frequent_values_come_first() {
        let values = ["d", "a", "b", "b", "c", "c", "c"];
        let emitted = check_disposable::<Top>(&[], values.map(|value| ("k", value)));
        assert_eq!(emitted[1], ("k", "a=1 d=1"));
        assert_eq!(emitted[6], ("k", "c=3 b=2 a=1"));
    }
}
