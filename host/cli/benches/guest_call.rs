//! What does a call into a plugin cost a record? The whole call is measured: keys, values, times and state into the guest,
//! `word-count` at work, emissions and state out of it, and the check of what came out.

mod support;

use std::time::Instant;

use floodmark_state::stream::{Batch, OptionalColumn};
use support::{VALUE_BYTES, load, median};

/// A batch of as many keys as records, with a value of 100 bytes each, and the state of keys that were seen before.
fn batch(records: usize) -> (Batch, OptionalColumn) {
    let mut batch = Batch::default();
    let mut state = OptionalColumn::new();
    let value = [b'v'; VALUE_BYTES];
    for record in 0..records {
        batch.push(format!("{record:08}").as_bytes(), &value, record as i64);
        // The number 300 in postcard.
        state.push(Some(&[0xac, 0x02]));
    }
    (batch, state)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn main() {
    let plugin = load("word-count");
    let mut instance = plugin.open("count", &[]).expect("the plugin opens");
    println!(
        "one call of `word-count`, keys of 8 B, values of {VALUE_BYTES} B, state of 2 B; medians"
    );
    for records in [1, 16, 128, 1024, 4096] {
        let (batch, state) = batch(records);
        let calls = (400_000 / records).clamp(200, 20_000);
        let mut figures = Vec::with_capacity(calls);
        for _ in 0..calls {
            let begin = Instant::now();
            let output = instance
                .process(0, &batch, &[&state], None)
                .expect("the plugin counts");
            figures.push(begin.elapsed().as_secs_f64() * 1e9 / records as f64);
            assert_eq!(
                output
                    .emissions
                    .iter()
                    .map(|emission| emission.values.len())
                    .sum::<usize>(),
                records
            );
        }
        println!(
            "{records:>6} records a call: {:>7.1} ns a record",
            median(figures)
        );
    }
}
