//! Catches a failed call of which something is applied, a record that is blamed for another, one that is lost or counts twice
//! while its call is made again in pieces, and dead letters that are not exactly the guilty records.
//!
//! `FLOODMARK_SEED` repeats the batches of an earlier run.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use floodmark_engine::connector::letter::Letter;
use floodmark_engine::guest::{GuestEngine, Plugin};
use floodmark_engine::runtime::faults::{Faults, Handling};
use floodmark_engine::runtime::keyed::{Dictionary, KeyedBatch, Partitioner};
use floodmark_engine::runtime::plan::{Node, OnError, Operator, Role};
use floodmark_engine::runtime::schema::States;
use floodmark_engine::runtime::task::{OperatorTask, TaskError};
use floodmark_state::stream::{
    Batch, InputPort, MaxParallelism, NO_TIMESTAMP, OutputPort, TaskIndex, Unit,
};
use floodmark_state::{ChunkId, ChunkIds, StateStore, StoreSettings};
use floodmark_testing::Random;

use crate::job::Job;
use crate::plugins::plugin;

static FAULTY: LazyLock<Arc<Plugin>> = LazyLock::new(|| {
    let engine = GuestEngine::new(None).unwrap();
    let component = fs::read(plugin("faulty")).unwrap();
    Arc::new(engine.load("tested", &component).unwrap())
});

/// The port for dead letters: the one after that of the plugin.
const LETTERS: OutputPort = OutputPort(1);

/// Tasks of an operator, each with a store of its own.
struct Tested {
    tasks: Vec<OperatorTask>,
    partitioner: Partitioner,
    emitted: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    letters: Vec<Letter>,
}

impl Tested {
    fn new(on_error: OnError, parallelism: u16) -> Self {
        let operator = Operator {
            on_error,
            ..Operator::new(Arc::clone(&FAULTY), Vec::new())
        };
        let handling = Handling::of("tested", &operator);
        let node = Node::new("tested", Role::Operator(operator));
        let max_parallelism = MaxParallelism::DEFAULT;
        let task = |task: TaskIndex| {
            let states = States::of(&node, None, false).unwrap();
            let store = StateStore::new(StoreSettings {
                states: states.settings(),
                ..StoreSettings::in_memory(
                    max_parallelism,
                    max_parallelism.range(task, parallelism),
                    ChunkIds::new(ChunkId(0), u64::from(task.0), u64::from(parallelism)),
                )
            });
            let open = Arc::new(|| FAULTY.open("tested", &[]));
            OperatorTask::new(open, states.declared, store, handling.clone()).unwrap()
        };
        Self {
            tasks: (0..parallelism).map(TaskIndex).map(task).collect(),
            partitioner: Partitioner::new(max_parallelism, parallelism),
            emitted: BTreeMap::new(),
            letters: Vec::new(),
        }
    }

    fn run(&mut self, batch: &Batch) -> Result<(), TaskError> {
        let mut shares: Vec<(TaskIndex, KeyedBatch)> = Vec::new();
        self.partitioner
            .push(batch, |task, keyed| shares.push((task, keyed)));
        self.partitioner
            .flush(|task, keyed| shares.push((task, keyed)));
        for (task, keyed) in shares {
            let task = &mut self.tasks[usize::from(task.0)];
            for (port, batch) in task.process(InputPort(0), keyed, 1)? {
                for (key, value, _) in batch.iter() {
                    match port {
                        LETTERS => {
                            let text = str::from_utf8(value).unwrap();
                            self.letters.push(Letter::from_json(text).unwrap());
                        }
                        _ => {
                            let of_key = self.emitted.entry(key.to_vec()).or_default();
                            of_key.push(value.to_vec());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn faults(&self) -> Faults {
        let mut sum = Faults::default();
        for task in &self.tasks {
            let faults = task.faults();
            sum.traps += faults.traps;
            sum.retries += faults.retries;
            sum.rejections += faults.rejections;
            sum.skipped += faults.skipped;
            sum.dead_letters += faults.dead_letters;
        }
        sum
    }

    /// The state: what a record of each key finds there.
    fn state(&mut self, keys: u64) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
        self.emitted.clear();
        let mut batch = Batch::default();
        for key in 0..keys {
            batch.push(key.to_string().as_bytes(), b"show", NO_TIMESTAMP);
        }
        self.run(&batch).unwrap();
        std::mem::take(&mut self.emitted)
    }
}

const KEYS: u64 = 20;
const FAULTS: [&str; 4] = ["panic", "fail", "break", "reject"];

/// Random batches, with about one guilty record in `one_in`.
fn batches(random: &mut Random, one_in: u64) -> Vec<Batch> {
    let mut number = 0;
    let mut batches = Vec::new();
    for _ in 0..12 {
        let mut batch = Batch::default();
        let records = 1 + random.below(400);
        for _ in 0..records {
            let word = match random.below(one_in) {
                0 => FAULTS[random.below(4) as usize],
                _ => "good",
            };
            number += 1;
            let value = format!("{word}-{number}");
            let key = random.below(KEYS).to_string();
            batch.push(key.as_bytes(), value.as_bytes(), number);
        }
        let span = (number as u64 - records, number as u64);
        let split = "split 0".into();
        batch
            .origin
            .read(&split, Unit::Records, span, records as usize);
        batch.origin.of_source(&"numbers".into());
        batches.push(batch);
    }
    batches
}

fn is_guilty(value: &[u8]) -> bool {
    !value.starts_with(b"good")
}

fn without_guilty(batch: &Batch) -> Batch {
    let mut good = Batch::default();
    for (key, value, timestamp) in batch.iter() {
        if !is_guilty(value) {
            good.push(key, value, timestamp);
        }
    }
    good
}

/// A letter of a record, as far as its own fields go.
fn what(letter: &Letter) -> (i64, &[u8], &[u8]) {
    (letter.timestamp, &letter.key, &letter.value)
}

#[test]
fn guilty_records_leave_the_others_alone() {
    let seed = std::env::var("FLOODMARK_SEED").map_or(5, |seed| seed.parse().unwrap());
    for (parallelism, one_in, seed) in [
        (1, 100, seed),
        (2, 100, seed + 1),
        (1, 2, seed + 2),
        (2, 7, seed + 3),
    ] {
        let batches = batches(&mut Random(seed), one_in);
        let mut expected = Tested::new(OnError::Fail, parallelism);
        let mut skipping = Tested::new(OnError::Skip, parallelism);
        let mut setting_aside = Tested::new(OnError::DeadLetter, parallelism);
        let mut guilty = Vec::new();
        for batch in &batches {
            expected.run(&without_guilty(batch)).unwrap();
            skipping.run(batch).unwrap();
            setting_aside.run(batch).unwrap();
            let of_batch = batch.iter().filter(|(_, value, _)| is_guilty(value));
            guilty.extend(of_batch.map(|(key, value, time)| (time, key, value)));
        }
        assert!(guilty.len() > 5);
        let context = format!("FLOODMARK_SEED={seed}");
        assert_eq!(skipping.emitted, expected.emitted, "{context}");
        assert_eq!(setting_aside.emitted, expected.emitted, "{context}");
        let mut letters: Vec<_> = setting_aside.letters.iter().collect();
        // With several tasks only the order of each is kept.
        letters.sort_by_key(|letter| letter.timestamp);
        let set_aside: Vec<_> = letters.iter().map(|letter| what(letter)).collect();
        assert_eq!(set_aside, guilty, "{context}");
        assert!(letters.iter().all(|letter| says_why(letter)), "{letters:?}");
        assert!(skipping.letters.is_empty());
        let (skipped, aside) = (skipping.faults(), setting_aside.faults());
        assert_eq!(skipped.skipped, guilty.len() as u64);
        assert_eq!(aside.dead_letters, guilty.len() as u64);
        assert_eq!(
            (skipped.traps, skipped.rejections),
            (aside.traps, aside.rejections)
        );
        let state = expected.state(KEYS);
        assert_eq!(skipping.state(KEYS), state, "{context}");
        assert_eq!(setting_aside.state(KEYS), state, "{context}");
    }
}

fn says_why(letter: &Letter) -> bool {
    let reason = match letter.value.split(|&byte| byte == b'-').next().unwrap() {
        b"panic" => "crashed in `process`: ",
        b"fail" => "failed in `process`: a record with the key ",
        b"break" => {
            "broke the contract in what it returned from `process`: an emission from record 4294967295, but the call has "
        }
        _ => "rejected the record: as the record asks: `reject-",
    };
    letter.reason.starts_with(reason)
        && letter.operator == "tested"
        && letter.plugin == FAULTY.digest().to_string()
        && letter.input == "in"
        && letter
            .position
            .starts_with("source `numbers`: split 0, numbers ")
}

#[test]
fn a_failure_names_the_record_and_applies_nothing_of_it() {
    for word in FAULTS {
        let mut tested = Tested::new(OnError::Fail, 1);
        let mut batch = Batch::default();
        for number in 0..1000 {
            let word = if number == 777 { word } else { "good" };
            batch.push(b"k", word.as_bytes(), NO_TIMESTAMP);
        }
        batch
            .origin
            .read(&"`a.txt`".into(), Unit::Bytes, (5, 5005), 1000);
        batch.origin.of_source(&"text".into());
        // As on the way of one worker, where the records stay together.
        let keyed = Dictionary::default().keyed(batch);
        let processed = tested.tasks[0].process(InputPort(0), keyed, 1);
        let Err(TaskError::Record { position, reason }) = processed else {
            panic!("`{word}` passes");
        };
        assert_eq!(
            position,
            "source `text`: `a.txt`, bytes 5 to 5005, record 778 of these"
        );
        assert!(
            reason.contains(if word == "reject" {
                "rejected"
            } else {
                "`process`"
            }),
            "{reason}"
        );
    }
}

#[test]
fn warnings_are_bounded() {
    let mut tested = Tested::new(OnError::Skip, 1);
    let mut batch = Batch::default();
    for number in 0..300 {
        batch.push(b"k", format!("reject-{number}").as_bytes(), NO_TIMESTAMP);
    }
    tested.run(&batch).unwrap();
    assert_eq!(tested.tasks[0].take_log().len(), 5);
    assert_eq!(tested.faults().rejections, 300);
    assert_eq!(tested.faults().traps, 0);
}

/// Numbers by a plugin that panics at some words; its dead letters go to `letters`.
fn job(on_error: &str) -> Job {
    let job = Job::new();
    let plugin = plugin("faulty");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "file", path = "in.txt", key-separator = " " }}
operator.count = {{ plugin = {plugin:?}, from = "text", on-error = "{on_error}" }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
sink.letters = {{ connector = "file", from = "count.dead-letters", path = "letters", format = "jsonl" }}
"#
        ),
    );
    job
}

/// Lines of a key and a value, of which about one in `one_in` is guilty.
fn input(records: u64, one_in: u64) -> (String, Vec<(String, String)>) {
    let mut random = Random(records);
    let (mut text, mut guilty) = (String::new(), Vec::new());
    for number in 0..records {
        let word = match random.below(one_in) {
            0 => FAULTS[random.below(4) as usize],
            _ => "good",
        };
        let (key, value) = (format!("k{}", number % 100), format!("{word}-{number}"));
        text += &format!("{key} {value}\n");
        if word != "good" {
            guilty.push((key, value));
        }
    }
    guilty.sort();
    (text, guilty)
}

/// The keys and values of all letters, as `dead-letters list` tells them.
fn listed(job: &Job) -> Vec<(String, String)> {
    let listed = job.command(&["dead-letters", "list", "pipeline.toml", "--json"]);
    let mut letters: Vec<_> = listed
        .succeeded()
        .stdout
        .lines()
        .map(|line| {
            let letter = Letter::from_json(line).unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(letter.key), text(letter.value))
        })
        .collect();
    letters.sort();
    letters
}

/// All records of the counts, without their order.
fn counts(job: &Job) -> Vec<String> {
    let mut records = Vec::new();
    for part in fs::read_dir(job.path("out")).unwrap() {
        let part = part.unwrap().path();
        if part.is_file() {
            let text = fs::read_to_string(part).unwrap();
            records.extend(text.lines().map(str::to_owned));
        }
    }
    records.sort();
    records
}

#[test]
fn dead_letters_are_exactly_once_whenever_the_process_dies() {
    let (text, guilty) = input(60_000, 500);
    let undisturbed = job("skip");
    undisturbed.write("in.txt", &text);
    undisturbed.run(&[]).succeeded();
    let expected = counts(&undisturbed);
    assert_eq!(expected.len(), 60_000 - guilty.len());

    let job = job("dead-letter");
    job.write("in.txt", &text);
    let arguments = ["--parallelism", "2", "--set", "checkpoint.interval=20ms"];
    for kill in 0..6 {
        let mut running = job.start(&arguments);
        if !running.has_ended() {
            std::thread::sleep(Duration::from_millis(60 + 40 * kill));
        }
        running.kill();
    }
    job.run(&arguments).succeeded();
    assert_eq!(listed(&job), guilty);
    assert_eq!(counts(&job), expected);
    let table = job.command(&[
        "dead-letters",
        "list",
        "pipeline.toml",
        "--operator",
        "count",
    ]);
    let table = table.succeeded().stdout;
    assert!(table.contains("source `text`: `in.txt`, bytes "), "{table}");
    assert_eq!(table.lines().count(), 1 + guilty.len());
}

#[test]
fn a_job_that_fails_at_a_record_names_it_and_goes_on_when_the_plugin_is_mended() {
    let job = job("fail");
    job.write("in.txt", "a good-1\na good-2\nb good-3\n");
    job.run(&[]).succeeded();
    job.write(
        "in.txt",
        "a good-1\na good-2\nb good-3\nb good-4\na panic-5\na good-6\n",
    );
    let failed = job.run(&["--set", "restart.strategy=none"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    failed
        .says("operator `count` crashed in `process`: ")
        .says("the record: source `text`: `in.txt`, bytes 27 to 55, record 2 of these")
        .says("operator.count.on-error");
    assert_eq!(counts(&job), ["a,1 good-1", "a,2 good-2", "b,1 good-3"]);
    // To mend it and to set the record aside are two ways to continue; the second one adds a sink.
    job.run(&["--set", "operator.count.config.mended=true"])
        .succeeded();
    let all = [
        "a,1 good-1",
        "a,2 good-2",
        "a,3 panic-5",
        "a,4 good-6",
        "b,1 good-3",
        "b,2 good-4",
    ];
    assert_eq!(counts(&job), all);
    assert!(listed(&job).is_empty());
}

#[test]
fn dead_letters_want_a_reader() {
    let job = job("dead-letter");
    job.write("in.txt", "a good\n");
    let text = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    let (without, _) = text.split_once("sink.letters").unwrap();
    job.write("pipeline.toml", without);
    let refused = job.run(&[]);
    assert_eq!(refused.code, Some(2));
    refused.says("nothing reads `count.dead-letters`").says(
        "\n    [sink.count-letters]\n    connector = \"file\"\n    from = \"count.dead-letters\"\n    path = \"dead-letters/count\"\n    format = \"jsonl\"\n",
    );
    // What it says to add is enough, also for a job that has run without.
    job.run(&["--set", "operator.count.on-error=skip"])
        .succeeded();
    job.write("in.txt", "a good\nb reject-1\n");
    let added = "[sink.count-letters]\nconnector = \"file\"\nfrom = \"count.dead-letters\"\npath = \"dead-letters/count\"\nformat = \"jsonl\"\n";
    job.write("pipeline.toml", format!("{without}\n{added}"));
    job.run(&[]).succeeded().says("resumes from checkpoint 1, ");
    assert_eq!(listed(&job), [("b".to_owned(), "reject-1".to_owned())]);
}
