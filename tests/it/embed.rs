//! Catches a library that does less than the command: an embedded job that is not exactly once over a death, an operation
//! that is not carried out or not refused, and a job that is left running or unsaved when its program drops it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use floodmark_engine::{
    Cause, DataDir, Drain, Engine, Pipeline, RunningJob, StartFrom, SwapOptions,
};
use tempfile::TempDir;

use crate::plugins::plugin;

/// The same component with another digest: a custom section more, which says nothing.
fn other_version(component: &[u8]) -> Vec<u8> {
    [component, &[0, 2, 1, b'b']].concat()
}

/// The program of `host/engine/examples/embed.rs`, which cargo builds with the tests.
fn example() -> PathBuf {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_floodmark"));
    command.with_file_name("examples").join("embed")
}

#[test]
fn a_program_with_connectors_of_its_own_dies_and_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let component = plugin("word-count");
    let other = folder.path().join("other.wasm");
    std::fs::write(&other, other_version(&std::fs::read(component).unwrap())).unwrap();
    let run = || {
        let mut command = Command::new(example());
        command
            .arg(component)
            .arg(&other)
            .arg(folder.path().join("data"));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), format!("{said}{errors}"))
    };
    let (is_well, said) = run();
    assert!(!is_well && said.ends_with("dying\n"), "{said}");
    assert!(said.contains("replaced the plugin"), "{said}");
    let (is_well, said) = run();
    assert!(
        is_well && said.contains("resumes from checkpoint"),
        "{said}"
    );
    assert!(said.contains(": 60000 throws"), "{said}");
}

/// A job that counts what a generator makes, in a data folder of its own.
fn start(folder: &TempDir, from: StartFrom) -> RunningJob {
    let file = folder.path().join("pipeline.toml");
    let text = format!(
        "job = {{ name = \"embedded\", parallelism = 2 }}\nsource.a = {{ connector = \"generator\", rate = 20000 }}\noperator.count = {{ plugin = {:?}, from = \"a\" }}\nsink.z = {{ connector = \"discard\", from = \"count\" }}\n",
        plugin("word-count")
    );
    std::fs::write(&file, text).unwrap();
    let data = DataDir::open(folder.path().join("data")).unwrap();
    let engine = Engine::builder().build();
    let pipeline = Pipeline::from_file(&file).unwrap();
    engine.start(pipeline, data, from).unwrap()
}

#[test]
fn operations_are_carried_out_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = start(&folder, StartFrom::Newest);
    let first = job.checkpoint().unwrap();
    let component = std::fs::read(plugin("word-count")).unwrap();
    let same = job.swap("count", component.clone(), SwapOptions::default());
    assert_eq!(same.unwrap().checkpoint, None, "it runs already");
    let other = other_version(&component);
    let unknown = job.swap("cont", other.clone(), SwapOptions::default());
    let error = unknown.unwrap_err();
    assert!(error.to_string().contains("`cont`"), "{error}");
    let broken = job.swap("count", b"no component".to_vec(), SwapOptions::default());
    assert_eq!(broken.unwrap_err().cause(), Cause::Plugin);
    let swapped = job.swap("count", other, SwapOptions::default()).unwrap();
    assert!(swapped.checkpoint.unwrap() > first);
    let rescaled = job.rescale(3).unwrap();
    assert!(rescaled > swapped.checkpoint.unwrap());
    let error = job.rescale(3).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    assert!(
        job.status().contains("\"parallelism\":3"),
        "{}",
        job.status()
    );
    let error = job.rollback(999).unwrap_err();
    assert!(error.to_string().contains("999"), "{error}");
    let back = job.rollback(rescaled).unwrap();
    assert!(back > rescaled);
    let summary = job.stop(Drain::Yes).unwrap();
    assert!(summary.is_complete && summary.records_in > 0, "{summary:?}");
    assert!(summary.checkpoint.unwrap() > back, "{summary:?}");
}

#[test]
fn a_job_that_is_dropped_has_stopped_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let job = start(&folder, StartFrom::Newest);
    std::thread::sleep(Duration::from_millis(200));
    drop(job);
    // The data folder is free, and what was counted is there.
    let job = start(&folder, StartFrom::Newest);
    let first = job.checkpoint().unwrap();
    assert!(first > 1, "there was a last checkpoint before {first}");
    let stopped = job.stop(Drain::No).unwrap();
    assert!(!stopped.is_complete, "{stopped:?}");
    let fresh = start(&folder, StartFrom::Beginning)
        .stop(Drain::No)
        .unwrap();
    assert!(fresh.records_in <= stopped.records_in + 20_000, "{fresh:?}");
}

#[test]
fn a_pipeline_that_is_wrong_is_refused_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Pipeline::from_file(folder.path().join("none.toml")).unwrap_err();
    assert_eq!(missing.cause(), Cause::Usage);
    let file = folder.path().join("pipeline.toml");
    std::fs::write(
        &file,
        "job.name = 'embedded'\nsource.a = { connector = 'dice' }\nsink.z = { connector = 'discard', from = 'a' }\n",
    )
    .unwrap();
    let data = DataDir::open(folder.path().join("data")).unwrap();
    let pipeline = Pipeline::from_file(&file).unwrap();
    let error = Engine::builder()
        .build()
        .start(pipeline, data, StartFrom::Newest);
    let error = error.unwrap_err();
    assert_eq!(error.cause(), Cause::Usage);
    assert!(
        error
            .to_string()
            .contains("unknown connector `dice`; known here: `file`"),
        "{error}"
    );
}

/// A job whose plugin soon hangs, in a data folder of its own.
fn start_hanging(folder: &TempDir) -> RunningJob {
    let file = folder.path().join("pipeline.toml");
    let text = format!(
        "job.name = \"embedded\"\nlimits.time-per-call = \"10min\"\nsource.a = {{ connector = \"generator\", keys = 10, rate = 20000 }}\noperator.count = {{ plugin = {:?}, from = \"a\", config.hang-at = \"00000007\" }}\nsink.z = {{ connector = \"discard\", from = \"count\" }}\n",
        plugin("misbehaves")
    );
    std::fs::write(&file, text).unwrap();
    let data = DataDir::open(folder.path().join("data")).unwrap();
    let pipeline = Pipeline::from_file(&file).unwrap();
    let engine = Engine::builder().build();
    engine.start(pipeline, data, StartFrom::Newest).unwrap()
}

#[test]
fn a_stop_interrupts_the_plugins_of_its_own_job_only() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [stopped, other] = [start_hanging(&folders[0]), start_hanging(&folders[1])];
    std::thread::sleep(Duration::from_secs(2));
    let error = stopped.stop(Drain::No).unwrap_err();
    assert_eq!(error.cause(), Cause::Interrupted, "{error}");
    // Longer than the grace of its call would be.
    std::thread::sleep(Duration::from_secs(2));
    let status: serde_json::Value = serde_json::from_str(&other.status()).unwrap();
    assert_eq!(status["state"], "RUNNING");
    let error = other.stop(Drain::Yes).unwrap_err();
    assert_eq!(error.cause(), Cause::Interrupted, "{error}");
}
