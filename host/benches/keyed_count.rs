//! How fast does a job count by key, against a plain native loop? Both read the same file in the same run, in turn; the
//! ratio is what counts.

mod support;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodmark::connector::DiscardSink;
use support::{count_plan, keyed_lines, load, median, run, setting};

/// Reads lines, cuts them at the tab, and counts keys: what anybody would write without an engine.
#[expect(
    clippy::disallowed_types,
    reason = "this is the loop to compare with, as people write it"
)]
fn native(input: &Path) -> u64 {
    let mut counts: std::collections::HashMap<Box<[u8]>, u64> = std::collections::HashMap::new();
    let mut file = std::fs::File::open(input).expect("the input is there");
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    let mut checksum = 0u64;
    loop {
        let read = file.read(&mut buffer[filled..]).expect("the input reads");
        filled += read;
        let mut begin = 0;
        while let Some(end) = memchr::memchr(b'\n', &buffer[begin..filled]) {
            let line = &buffer[begin..begin + end];
            let tab = memchr::memchr(b'\t', line).expect("each line has a tab");
            let key = &line[..tab];
            let count = match counts.get_mut(key) {
                Some(count) => count,
                None => counts.entry(key.into()).or_default(),
            };
            *count += 1;
            checksum = checksum.wrapping_add(*count);
            begin += end + 1;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
        if read == 0 {
            return checksum;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let records = setting("FLOODMARK_BENCH_RECORDS", 10_000_000);
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 3);
    let plugin = load("word-count");
    println!(
        "keyed count, {records} records of 8 B key and 100 B value, p = 1; ns a record, medians of {rounds} rounds"
    );
    for keys in [1_000_000, 10_000] {
        let input = keyed_lines(records, keys);
        let plan = count_plan(&input, &plugin, Arc::new(DiscardSink), 1);
        let per_record = |time: Duration| time.as_secs_f64() * 1e9 / records as f64;
        let (mut loops, mut off, mut on) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stalls, mut taken) = (Vec::new(), 0);
        for _ in 0..rounds {
            loops.push(per_record(timed(|| {
                std::hint::black_box(native(&input));
            })));
            off.push(per_record(run(&plan, None).0));
            let (time, told) = run(&plan, Some(Duration::from_secs(1)));
            on.push(per_record(time));
            taken += told.checkpoints.len();
            stalls.extend(
                told.checkpoints
                    .iter()
                    .map(|checkpoint| checkpoint.stall.as_secs_f64() * 1e3),
            );
        }
        let ratios = |figures: &[f64]| {
            median(
                loops
                    .iter()
                    .zip(figures)
                    .map(|(native, ours)| native / ours)
                    .collect(),
            )
        };
        println!(
            "{keys:>9} keys: native loop {:.0}; without checkpoints {:.0} ({:.2} x the loop's speed); one a second {:.0} ({:.2} x), {taken} checkpoints, longest stall {:.1} ms",
            median(loops.clone()),
            median(off.clone()),
            ratios(&off),
            median(on.clone()),
            ratios(&on),
            stalls.iter().copied().fold(0.0, f64::max),
        );
    }
}
