//! Reports a counter, a gauge and a histogram of its values' lengths, and emits nothing. Told `bad` it fails after it has
//! reported; told `forged` it reports under a name that would forge a line of the metrics.

use floodmark_sdk::{Config, Error, Operator, Output, Record, Result, States, metrics};

#[derive(Debug, States)]
struct Reports;

#[floodmark_sdk::operator]
impl Operator for Reports {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(&mut self, record: Record<'_>, _: &mut Output<'_>) -> Result {
        let length = record.value().len() as f64;
        metrics::counter("good-records").add(1);
        metrics::gauge("last_length").set(length);
        metrics::histogram("length").observe(length);
        match record.value() {
            b"bad" => Err(Error::new("this one is bad")),
            b"forged" => {
                metrics::counter("x{job=\"words\"} 1\nfloodmark_failures_total").add(7);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

floodmark_sdk::export!(Reports);

#[cfg(test)]
mod tests {
    //! Catches numbers of a call that has failed.

    use floodmark_sdk::testing::Task;

    use super::*;

    #[test]
    fn what_counts_is_reported() -> Result {
        let mut task = Task::new::<Reports>();
        task.run([("k", "long"), ("k", "x")])?;
        assert!(task.run([("k", "longer"), ("k", "bad")]).is_err());
        let metrics = task.take_metrics();
        assert_eq!(metrics.counters["good-records"], 2);
        assert_eq!(metrics.gauges["last_length"], 1.0);
        assert_eq!(metrics.histograms["length"], [4.0, 1.0]);
        Ok(())
    }
}
