//! How fast does a job count by key, against a plain native loop? Both read the same file in the same run, in turn; the
//! ratio is what counts.
//!
//! The loops are what one would write without an engine, with care: one thread, `hashbrown` with its fast hash. That for
//! records owns its keys; that for words borrows them from the text, which it reads into memory first.

mod support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodmark_engine::connector::DiscardSink;
use floodmark_engine::runtime::plan::Plan;
use hashbrown::HashMap;
use support::{count_plan, keyed_lines, load, median, run, setting, text, words_plan};

/// Reads lines, cuts them at the tab, and counts keys.
fn count_keys(input: &Path) -> u64 {
    let mut counts: HashMap<Box<[u8]>, u64> = HashMap::new();
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

/// Reads a text, cuts it at white space, and counts words.
fn count_words(input: &Path) -> u64 {
    let text = std::fs::read(input).expect("the input reads");
    let mut counts: HashMap<&[u8], u64> = HashMap::new();
    let mut checksum = 0u64;
    for word in text.split(u8::is_ascii_whitespace) {
        if word.is_empty() {
            continue;
        }
        let count = counts.entry(word).or_default();
        *count += 1;
        checksum = checksum.wrapping_add(*count);
    }
    checksum
}

/// One thing to count.
struct Case {
    name: &'static str,
    input: PathBuf,
    records: u64,
    native: fn(&Path) -> u64,
    /// At parallelism 1 and 2.
    plans: [Plan; 2],
}

fn cases(records: u64) -> Vec<Case> {
    let count = load("word-count");
    let split = load("word-split");
    let keyed = |name, keys| {
        let input = keyed_lines(records, keys);
        let plan = |parallelism| count_plan(&input, &count, Arc::new(DiscardSink), parallelism);
        Case {
            name,
            plans: [plan(1), plan(2)],
            input,
            records,
            native: count_keys,
        }
    };
    let input = text(20 * records as usize);
    let plugins = [&split, &count];
    let plan = |parallelism| words_plan(&input, plugins, Arc::new(DiscardSink), parallelism);
    let words = Case {
        name: "words",
        plans: [plan(1), plan(2)],
        records: words_of(&input),
        input,
        native: count_words,
    };
    vec![
        keyed("1 M keys", 1_000_000),
        keyed("10 k keys", 10_000),
        words,
    ]
}

fn words_of(input: &Path) -> u64 {
    let text = std::fs::read(input).expect("the input reads");
    let is_end = |byte: &&u8| byte.is_ascii_whitespace();
    text.iter().filter(is_end).count() as u64
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// A figure of each round.
#[derive(Default)]
struct Figures {
    native: Vec<f64>,
    unsaved: Vec<f64>,
    saved: Vec<f64>,
    saved_by_two: Vec<f64>,
}

impl Figures {
    fn round(&mut self, case: &Case) -> f64 {
        let per_record = |time: Duration| time.as_secs_f64() * 1e9 / case.records as f64;
        let second = Some(Duration::from_secs(1));
        let native = timed(|| {
            std::hint::black_box((case.native)(&case.input));
        });
        self.native.push(per_record(native));
        self.unsaved.push(per_record(run(&case.plans[0], None).0));
        let (time, told) = run(&case.plans[0], second);
        self.saved.push(per_record(time));
        self.saved_by_two
            .push(per_record(run(&case.plans[1], second).0));
        let stalls = told.checkpoints.iter();
        let stalls = stalls.map(|checkpoint| checkpoint.stall.as_secs_f64() * 1e3);
        stalls.fold(0.0, f64::max)
    }
}

/// How many times as fast the second is, round by round.
fn speed(first: &[f64], second: &[f64]) -> f64 {
    let ratios = first.iter().zip(second);
    median(ratios.map(|(first, second)| first / second).collect())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let records = setting("FLOODMARK_BENCH_RECORDS", 10_000_000);
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 3);
    println!(
        "counting {records} records of 8 B key and 100 B value, and the words of a text; ns a record, medians of {rounds} rounds; `x` is times the loop's speed"
    );
    for case in cases(records) {
        let mut figures = Figures::default();
        let mut stall: f64 = 0.0;
        for _ in 0..rounds {
            stall = stall.max(figures.round(&case));
        }
        let Figures {
            native,
            unsaved,
            saved,
            saved_by_two,
        } = &figures;
        println!(
            "{:>9}: native loop {:.0}; without checkpoints {:.0} ({:.2} x); one a second {:.0} ({:.2} x), longest stall {stall:.1} ms; at parallelism 2 {:.0} ({:.2} x that at 1)",
            case.name,
            median(native.clone()),
            median(unsaved.clone()),
            speed(native, unsaved),
            median(saved.clone()),
            speed(native, saved),
            median(saved_by_two.clone()),
            speed(saved, saved_by_two),
        );
    }
}
