//! Large plugins, which begin with the code of the quick compiler and are optimised while they run.
//!
//! Catches a job that waits for the optimising compiler, output that depends on which compiler has made the code or on when it
//! changed, code that is compiled again though this user has it, and code that is taken from where others may write.
//!
//! The plugins are those of other tests with a module more that nothing uses: it makes them large, and slow to optimise.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use floodmark_engine::guest::{Code, Unoptimised};
use floodmark_state::stream::{Batch, OptionalColumn};
use serde_json::Value;

use crate::engines::Ticking;
use crate::job::{self, Job, Running};
use crate::plugins::plugin;

/// Functions of the module that nothing uses: enough for the optimising compiler to take seconds.
const FUNCTIONS: usize = 2000;

/// A plugin with a module more.
fn with_module(name: &str, module: &str) -> Vec<u8> {
    let module = wat::parse_str(module).unwrap();
    let mut component = fs::read(plugin(name)).unwrap();
    // A section of a core module: its number, its length in LEB128, its bytes.
    component.push(1);
    let mut len = module.len();
    while len >= 0x80 {
        component.push(len as u8 | 0x80);
        len >>= 7;
    }
    component.push(len as u8);
    component.extend(module);
    component
}

/// A module that is slow to optimise.
fn slow(functions: usize) -> String {
    let mut module = "(module".to_owned();
    for function in 0..functions {
        module += "(func (param i64 i64) (result i64)";
        for number in 0..120 {
            let (from, to) = (number % 2, (number + 1) % 2);
            write!(
                module,
                "(local.set {to} (i64.xor (i64.mul (local.get {from}) (i64.const {})) (i64.rotl (local.get {to}) (i64.const {number}))))",
                function + number
            )
            .unwrap();
        }
        module += "(local.get 0))";
    }
    module + ")"
}

/// A job that counts generated records with a large plugin, and keeps compiled code in this folder.
fn job(cache: &Path, source: &str) -> Job {
    let job = Job::new();
    static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| with_module("word-count", &slow(FUNCTIONS)));
    job.write("count.wasm", &*LARGE);
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "100ms"
source.numbers = {{ connector = "generator", keys = 100, {source} }}
operator.count = {{ plugin = "count.wasm", from = "numbers" }}
sink.counts = {{ connector = "discard", from = "count" }}
"#
        ),
    );
    fs::create_dir_all(cache).unwrap();
    job
}

fn start(job: &Job, cache: &Path) -> Running {
    let mut command = job::command();
    command
        .args(["run", "pipeline.toml"])
        .env("FLOODMARK_CACHE_DIR", cache);
    job.spawn(command)
}

/// The status of the operator, once `is_so` holds for it.
fn operator(job: &Job, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..10_000 {
        let outcome = job.command(&["status", "pipeline.toml", "--json"]);
        if outcome.code == Some(0) {
            let status: Value = serde_json::from_str(&outcome.stdout).unwrap();
            let operator = &status["vertices"][1];
            if is_so(operator) {
                return operator.clone();
            }
        }
    }
    panic!("it never came to that");
}

fn code(operator: &Value) -> (&str, bool) {
    let plugin = &operator["plugin"];
    let code = plugin["code"].as_str().unwrap_or_default();
    (code, plugin["optimising"] == true)
}

fn has_counted(operator: &Value) -> bool {
    operator["metrics"]["write-records"].as_u64() > Some(0)
}

/// The records of a job with an end, and their checksum, as the sink says.
fn summary(said: &str) -> String {
    let line = said.lines().find(|line| line.starts_with("sink `counts`"));
    line.unwrap_or_else(|| panic!("no summary:\n{said}"))
        .to_owned()
}

const READY: &str = "operator `count`: optimised code is ready";

#[test]
fn records_flow_before_the_code_is_optimised_and_go_on_after_it() {
    let cache = tempfile::tempdir().unwrap();
    let endless = job(cache.path(), "rate = 5000");
    let mut run = start(&endless, cache.path());
    let early = operator(&endless, has_counted);
    assert_eq!(code(&early), ("quick", true));
    assert!(!run.stderr().contains(READY));
    let text = endless.command(&["status", "pipeline.toml"]).succeeded();
    assert!(
        text.stdout.contains("\n  code   quick, optimising\n"),
        "{}",
        text.stdout
    );
    run.wait_for(READY);
    let late = operator(&endless, |operator| code(operator) == ("optimised", false));
    let calls = |operator: &Value| operator["calls"]["count"].as_u64();
    assert!(calls(&late) > calls(&early), "calls before it still count");
    run.signal("TERM");
    run.wait().succeeded();

    // Another job of this user has that code.
    let other = job(cache.path(), "rate = 5000");
    let run = start(&other, cache.path());
    let early = operator(&other, has_counted);
    assert_eq!(code(&early), ("optimised", false));
    assert!(!run.stderr().contains("compiling"), "{}", run.stderr());
    assert!(!other.data_dir().join("compiled").exists());
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn a_job_that_ends_before_its_code_is_optimised_keeps_what_it_has() {
    let cache = tempfile::tempdir().unwrap();
    let source = "records = 10";
    let first = start(&job(cache.path(), source), cache.path()).wait();
    first.succeeded().says("compiling the plugin of `count`");
    let second = start(&job(cache.path(), source), cache.path()).wait();
    let said = second.succeeded().stderr;
    assert!(!said.contains("compiling"), "{said}");
}

/// What a job with these records says at its end, its plugin being small.
fn undisturbed(cache: &Path) -> String {
    let plain = job(cache, "records = 100000");
    plain.write("count.wasm", fs::read(plugin("word-count")).unwrap());
    summary(&start(&plain, cache).wait().succeeded().stderr)
}

/// A job with the same records, at a rate at which no run ends before it should.
fn slow_job(cache: &Path) -> Job {
    job(cache, "records = 100000, rate = 500")
}

/// Runs a job to its end, and returns what it says.
fn rest(job: &Job, cache: &Path) -> String {
    let pipeline = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    job.write("pipeline.toml", pipeline.replace(", rate = 500", ""));
    summary(&start(job, cache).wait().succeeded().stderr)
}

#[test]
fn the_change_of_code_leaves_no_trace_in_the_output() {
    let cache = tempfile::tempdir().unwrap();
    let changing = slow_job(cache.path());
    let mut run = start(&changing, cache.path());
    operator(&changing, |operator| {
        has_counted(operator) && code(operator) == ("quick", true)
    });
    run.wait_for(READY);
    operator(&changing, |operator| code(operator) == ("optimised", false));
    run.signal("TERM");
    run.wait().succeeded();
    assert_eq!(rest(&changing, cache.path()), undisturbed(cache.path()));
}

#[test]
fn a_killed_job_goes_on_with_either_code() {
    let cache = tempfile::tempdir().unwrap();
    let killed = slow_job(cache.path());
    // Before it.
    let mut run = start(&killed, cache.path());
    run.wait_for("checkpoint 1 completed");
    let said = run.kill().stderr;
    assert!(!said.contains(READY), "{said}");
    // After it. It may have been ready, though the job has died before it could say so.
    fs::remove_dir_all(cache.path().join("compiled")).unwrap();
    let mut run = start(&killed, cache.path());
    run.wait_for(READY);
    operator(&killed, |operator| code(operator) == ("optimised", false));
    run.kill();
    assert_eq!(rest(&killed, cache.path()), undisturbed(cache.path()));
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    let open = cache.path().join("compiled");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let job = job(cache.path(), "records = 10");
    job.write("count.wasm", fs::read(plugin("word-count")).unwrap());
    let run = start(&job, cache.path()).wait().succeeded();
    run.says("compiled code cannot be kept in `")
        .says("other users may write to it");
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    assert!(job.data_dir().join("compiled/key").exists());
}

/// An engine whose plugins all begin with quick code, and those that wait to be optimised.
fn quick_engine() -> (Ticking, Arc<Mutex<Vec<Unoptimised>>>) {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&waiting);
    let hand_over = move |plugin| taken.lock().unwrap().push(plugin);
    (Ticking::handing_over(Arc::new(hand_over)), waiting)
}

#[test]
fn a_component_that_the_quick_compiler_refuses_is_optimised_at_once() {
    let (guests, waiting) = quick_engine();
    let tail_call = "(module (func $f (return_call $f)))";
    let component = with_module("word-count", tail_call);
    let plugin = guests.engine.load("count", &component).unwrap();
    assert_eq!(plugin.code(), Code::Optimised);
    assert!(waiting.lock().unwrap().is_empty());
}

#[test]
fn both_codes_return_the_same() {
    let (guests, waiting) = quick_engine();
    let component = fs::read(plugin("word-count")).unwrap();
    let plugin = guests.engine.load("count", &component).unwrap();
    let mut batch = Batch::default();
    let mut state = OptionalColumn::new();
    for record in 0..1000_u32 {
        batch.push(&record.to_be_bytes(), b"value", i64::from(record));
        state.push((record % 3 > 0).then_some(&[(record % 128) as u8][..]));
    }
    let process = || {
        let mut instance = plugin.open("count", &[]).unwrap();
        let output = instance.process(0, &batch, &[&state], None).unwrap();
        (instance, format!("{output:?}"))
    };
    let (quick, one) = process();
    assert!(quick.is_quick() && !quick.has_better_code());
    let unoptimised = waiting.lock().unwrap().pop().unwrap();
    assert!(unoptimised.optimise().unwrap());
    assert!(quick.has_better_code());
    let (optimised, other) = process();
    assert!(!optimised.is_quick() && !optimised.has_better_code());
    assert_eq!(one, other);

    // One that is gone is not compiled.
    drop(guests.engine.load("count", &component).unwrap());
    let unoptimised = waiting.lock().unwrap().pop().unwrap();
    assert!(!unoptimised.optimise().unwrap());
}
