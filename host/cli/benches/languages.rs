//! What does a plugin cost by the language that it is written in? The same `word-count` in each: size of the component, time
//! to compile it, to load it compiled, to start an instance, a record in batches of 1024, and to get over a trap; and from the start of
//! `floodmark run` to the first record of the output, in a fresh data folder, when compiled code is kept and when it is not.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use floodmark_engine::guest::{GuestEngine, Instance, Plugin};
use floodmark_plugin_build::Language;
use floodmark_state::stream::{Batch, OptionalColumn};
use support::{VALUE_BYTES, folder, median};

const RECORDS: usize = 1024;
/// Rounds of a language are spread over the run, so that a noisy minute does not hit one alone.
const ROUNDS: usize = 5;

/// A batch of keys that were seen before, with values of 100 bytes, and their counts.
fn batch() -> (Batch, OptionalColumn) {
    let mut batch = Batch::default();
    let mut state = OptionalColumn::new();
    for record in 0..RECORDS {
        batch.push(
            format!("{record:08}").as_bytes(),
            &[b'v'; VALUE_BYTES],
            record as i64,
        );
        // The number 300 in postcard.
        state.push(Some(&[0xac, 0x02]));
    }
    (batch, state)
}

/// From the start of a job with one record to its output, in ms: without compiled code, and with.
fn first_record(language: Language, component: &[u8]) -> [f64; 2] {
    let dir = folder("first-record").join(language.name());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the folder can be made");
    fs::write(dir.join("count.wasm"), component).expect("there is room");
    fs::write(dir.join("in.txt"), "word\n").expect("there is room");
    let pipeline = r#"
job.name = "first"
source.text = { connector = "file", path = "in.txt", follow = true }
operator.count = { plugin = "count.wasm", from = "text" }
sink.counts = { connector = "stdout", from = "count" }
"#;
    fs::write(dir.join("pipeline.toml"), pipeline).expect("there is room");
    let run = |keeps_cache: bool, until_optimised: bool| {
        if !keeps_cache {
            let _ = fs::remove_dir_all(dir.join("cache"));
        }
        let _ = fs::remove_dir_all(dir.join(".floodmark"));
        let begin = now();
        let mut job = Command::new(env!("CARGO_BIN_EXE_floodmark"))
            .args(["run", "pipeline.toml"])
            .current_dir(&dir)
            .env("FLOODMARK_CACHE_DIR", dir.join("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the job starts");
        let mut first = [0; 1];
        let out = job.stdout.as_mut().expect("it is a pipe");
        out.read_exact(&mut first).expect("a record comes");
        let took = begin.elapsed().as_secs_f64() * 1e3;
        if until_optimised {
            let said = BufReader::new(job.stderr.take().expect("it is a pipe"));
            let mut lines = said.lines().map_while(Result::ok);
            lines.any(|line| line.ends_with("optimised code is ready"));
        }
        job.kill().expect("it runs");
        job.wait().expect("it ends");
        took
    };
    let fresh = (0..ROUNDS).map(|_| run(false, false)).collect();
    run(true, component.len() >= 512 << 10);
    let kept = (0..ROUNDS).map(|_| run(true, false)).collect();
    [median(fresh), median(kept)]
}

/// A language, and what was measured of it.
struct Measured {
    language: Language,
    bytes: Vec<u8>,
    plugin: Plugin,
    crashes: Plugin,
    compile_ms: f64,
    load_ms: Vec<f64>,
    start_us: Vec<f64>,
    record_ns: Vec<f64>,
    recover_us: Vec<f64>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn component(folder: &str, language: Language) -> Vec<u8> {
    let folder = repository().join(folder).join(language.name());
    let built = floodmark_plugin_build::component(&folder, &mut |_| ());
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    fs::read(built).expect("the component is there")
}

fn measured(language: Language) -> Measured {
    let bytes = component("plugins/word-count", language);
    let fresh = GuestEngine::new(None).expect("this machine runs WebAssembly");
    let begin = now();
    let plugin = fresh.load("count", &bytes).expect("it is a plugin");
    let compile_ms = begin.elapsed().as_secs_f64() * 1e3;
    let crashes = component("tests/guests/misbehaves", language);
    let crashes = fresh.load("crashes", &crashes).expect("it is a plugin");
    Measured {
        language,
        bytes,
        plugin,
        crashes,
        compile_ms,
        load_ms: Vec::new(),
        start_us: Vec::new(),
        record_ns: Vec::new(),
        recover_us: Vec::new(),
    }
}

fn count(instance: &mut Instance, batch: &Batch, state: &OptionalColumn) {
    let output = instance.process(0, batch, &[state], None);
    let output = output.expect("the plugin counts");
    let emitted = output
        .emissions
        .iter()
        .map(|emission| emission.values.len());
    assert_eq!(emitted.sum::<usize>(), RECORDS);
}

/// From a trap to the answer of a fresh instance.
fn recover(plugin: &Plugin) -> f64 {
    let mut trap = Batch::default();
    trap.push(b"key", b"trap", 0);
    let mut good = Batch::default();
    good.push(b"key", b"good", 0);
    let mut absent = OptionalColumn::new();
    absent.push(None);
    let states = vec![&absent; plugin.description().states.len()];
    let mut instance = plugin.open("crashes", &[]).expect("the plugin opens");
    instance.process(0, &good, &states, None).expect("good");
    let begin = now();
    let crashed = instance.process(0, &trap, &states, None);
    crashed.expect_err("the plugin crashes");
    drop(instance);
    let mut instance = plugin.open("crashes", &[]).expect("the plugin opens");
    instance.process(0, &good, &states, None).expect("good");
    begin.elapsed().as_secs_f64() * 1e6
}

fn round(of: &mut Measured, cache: &Path) {
    let engine = GuestEngine::new(Some(cache.to_path_buf())).expect("this machine can");
    engine.load("count", &of.bytes).expect("it is a plugin");
    let begin = now();
    engine.load("count", &of.bytes).expect("it is a plugin");
    of.load_ms.push(begin.elapsed().as_secs_f64() * 1e3);
    for _ in 0..20 {
        let begin = now();
        drop(of.plugin.open("count", &[]).expect("the plugin opens"));
        of.start_us.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let (batch, state) = batch();
    let mut instance = of.plugin.open("count", &[]).expect("the plugin opens");
    count(&mut instance, &batch, &state);
    for _ in 0..100 {
        let begin = now();
        count(&mut instance, &batch, &state);
        let took = begin.elapsed().as_secs_f64() * 1e9;
        of.record_ns.push(took / RECORDS as f64);
    }
    for _ in 0..10 {
        of.recover_us.push(recover(&of.crashes));
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let cache = folder("languages");
    let has_tools = |language: &Language| {
        let folder = repository()
            .join("plugins/word-count")
            .join(language.name());
        let found = language.find_tools(&folder);
        if let Err(missing) = &found {
            println!("skipped: {missing}");
        }
        found.is_ok()
    };
    let languages = Language::ALL.into_iter().filter(has_tools);
    let mut all: Vec<_> = languages.map(measured).collect();
    for _ in 0..ROUNDS {
        for language in &mut all {
            round(language, &cache);
        }
    }
    println!("`word-count`, batches of {RECORDS}, keys of 8 B, values of {VALUE_BYTES} B; medians");
    println!(
        "language    size KiB  compile ms  load ms  start us  trap to next answer us  ns a record  to Rust"
    );
    let first = |of: &Measured| first_record(of.language, &of.bytes);
    let first: Vec<_> = all.iter().map(first).collect();
    let rust = all.first().map(|rust| median(rust.record_ns.clone()));
    let names: Vec<_> = all.iter().map(|of| of.language.name()).collect();
    for of in all {
        let record = median(of.record_ns);
        println!(
            "{:<11} {:>8.0} {:>11.0} {:>8.1} {:>9.0} {:>23.0} {:>12.0} {:>8.1}",
            of.language.name(),
            of.bytes.len() as f64 / 1024.0,
            of.compile_ms,
            median(of.load_ms),
            median(of.start_us),
            median(of.recover_us),
            record,
            record / rust.unwrap_or(record),
        );
    }
    println!("from the start of a job with one record to its output, ms");
    println!("language    fresh  with kept code");
    for (name, [fresh, kept]) in names.into_iter().zip(first) {
        println!("{name:<11} {fresh:>5.0} {kept:>15.0}");
    }
}
