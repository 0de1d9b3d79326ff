//! Catches a setting of checkpoints or state that is misread, has another default than documented, or is refused
//! without saying what to write; and Flink's names without an answer.

use std::time::Duration;

use super::super::settings::{
    CheckpointMode, CheckpointSection, CompressionSetting, OnCancel, StateBackendSetting,
    StateSection, StorageSetting, Ttl,
};
use super::{COPY, WORDS, plan, unindented};

fn checkpoint(fields: &str) -> Result<CheckpointSection, String> {
    let plan = plan(&format!("{COPY}[checkpoint]\n{fields}\n"), &[]);
    let plan = plan.map_err(|problems| unindented(&problems.to_string()))?;
    Ok(plan.spec.checkpoint)
}

fn state(fields: &str) -> Result<StateSection, String> {
    let plan = plan(&format!("{COPY}[state]\n{fields}\n"), &[]);
    let plan = plan.map_err(|problems| unindented(&problems.to_string()))?;
    Ok(plan.spec.state)
}

/// One line after `[checkpoint]` and the problem reported for it, without its place and the quoted line.
#[track_caller]
fn refused(section: fn(&str) -> Result<(), String>, line: &str, expected: &str) {
    let said = section(line).unwrap_err();
    let first = said.lines().next().unwrap();
    let (_, message) = first.split_once(": ").unwrap();
    assert_eq!(message, expected, "{line}");
}

fn of_checkpoint(fields: &str) -> Result<(), String> {
    checkpoint(fields).map(|_| ())
}

fn of_state(fields: &str) -> Result<(), String> {
    state(fields).map(|_| ())
}

#[test]
fn defaults_are_those_of_the_readme() {
    let settings = CheckpointSection {
        interval: Some(Duration::from_secs(10)),
        timeout: Duration::from_secs(600),
        min_pause: Duration::ZERO,
        retained: 3,
        tolerable_failures: None,
        mode: CheckpointMode::ExactlyOnce,
        on_cancel: OnCancel::Keep,
        compression: CompressionSetting::Lz4,
        storage: StorageSetting::Redb,
        on_checkpoint: Vec::new(),
    };
    assert_eq!(checkpoint(""), Ok(settings));
    let settings = StateSection {
        backend: StateBackendSetting::Memory,
        memory: None,
    };
    assert_eq!(state(""), Ok(settings));
}

#[test]
fn each_setting_is_read() {
    let settings = checkpoint(
        "interval = 'off'\ntimeout = '1min'\nmin-pause = '5s'\nretained = 7\ntolerable-failures = 2\nmode = 'at-least-once'
         on-cancel = 'delete'\ncompression = 'none'\nstorage = 's3://bucket/jobs/'\non-checkpoint = ['a b', 'http://c']",
    );
    let expected = CheckpointSection {
        interval: None,
        timeout: Duration::from_secs(60),
        min_pause: Duration::from_secs(5),
        retained: 7,
        tolerable_failures: Some(2),
        mode: CheckpointMode::AtLeastOnce,
        on_cancel: OnCancel::Delete,
        compression: CompressionSetting::None,
        storage: StorageSetting::S3("s3://bucket/jobs".to_owned()),
        on_checkpoint: vec!["a b".to_owned(), "http://c".to_owned()],
    };
    assert_eq!(settings, Ok(expected));
    let settings = checkpoint("tolerable-failures = 'unlimited'\nmin-pause = '0s'").unwrap();
    assert_eq!(settings.tolerable_failures, None);
    assert_eq!(settings.min_pause, Duration::ZERO);
    let one = checkpoint("on-checkpoint = 'touch done'").unwrap();
    assert_eq!(one.on_checkpoint, ["touch done"]);
    let folder = checkpoint("storage = 'file:///var//checkpoints/'").unwrap();
    assert_eq!(
        folder.storage,
        StorageSetting::Folder("/var/checkpoints".into())
    );
    let settings = state("backend = 'disk'\nmemory = '1.5GiB'").unwrap();
    assert_eq!(settings.backend, StateBackendSetting::Disk);
    assert_eq!(settings.memory, Some(3 << 29));
}

#[test]
fn what_cannot_be_is_refused() {
    for (line, expected) in [
        (
            "min-pause = 'off'",
            "checkpoint.min-pause: `off` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`",
        ),
        (
            "tolerable-failures = -1",
            "checkpoint.tolerable-failures: must be a whole number, 0 or more, or `unlimited`, not the number -1",
        ),
        (
            "mode = 'atleastonce'",
            "checkpoint.mode: unknown value `atleastonce`; did you mean `at-least-once`?",
        ),
        (
            "mode = 'EXACTLY_ONCE'",
            "checkpoint.mode: unknown value `EXACTLY_ONCE`; did you mean `exactly-once`?",
        ),
        (
            "storage = 'rocksdb'",
            "checkpoint.storage: unknown value `rocksdb`; it is called `redb` here",
        ),
        (
            "storage = 'FsStateBackend'",
            "checkpoint.storage: unknown value `FsStateBackend`; it is called `file:///PATH` here",
        ),
        (
            "storage = 'filesystem'",
            "checkpoint.storage: unknown value `filesystem`; it is called `file:///PATH` here",
        ),
        (
            "storage = 'jobmanager'",
            "checkpoint.storage: unknown value `jobmanager`; it is called `memory` here",
        ),
        (
            "storage = 'gs://bucket'",
            "checkpoint.storage: unknown value `gs://bucket`; known here: `redb`, `memory`, `file:///PATH`, `s3://BUCKET/PREFIX`",
        ),
        (
            "storage = 'file://host/path'",
            "checkpoint.storage: `file://host/path` names no folder; write an absolute path after `file://`, such as `file:///var/checkpoints`",
        ),
        (
            "storage = 's3:///x'",
            "checkpoint.storage: `s3:///x` names no bucket; write `s3://BUCKET/PREFIX`",
        ),
        (
            "on-checkpoint = ''",
            "checkpoint.on-checkpoint: is empty; write a command or an address",
        ),
        (
            "on-checkpoint = 'ftp://x'",
            "checkpoint.on-checkpoint: an address `ftp://…` is not one of HTTP with a host; write one such as `http://HOST/PATH`, or a command",
        ),
        (
            "on-checkpoint = 'http://'",
            "checkpoint.on-checkpoint: an address `http://…` is not one of HTTP with a host; write one such as `http://HOST/PATH`, or a command",
        ),
        (
            "on-checkpoint = 7",
            "checkpoint.on-checkpoint: must be a command or an address, or a list of them, not the number 7",
        ),
        (
            "compression = 'snappy'",
            "checkpoint.compression: unknown value `snappy`; known here: `lz4`, `none`",
        ),
        (
            "on-cancel = 'remove'",
            "checkpoint.on-cancel: unknown value `remove`; known here: `keep`, `delete`",
        ),
    ] {
        refused(of_checkpoint, line, expected);
    }
    for (line, expected) in [
        (
            "backend = 'RocksDBStateBackend'",
            "state.backend: unknown value `RocksDBStateBackend`; it is called `disk` here",
        ),
        (
            "backend = 'hashmap'",
            "state.backend: unknown value `hashmap`; it is called `memory` here",
        ),
        (
            "backend = 'MemoryStateBackend'",
            "state.backend: unknown value `MemoryStateBackend`; it is called `memory` here",
        ),
        (
            "backend = 'redb'",
            "state.backend: unknown value `redb`; did you mean `disk`?",
        ),
        (
            "memory = '256MB'",
            "state.memory: `MB` is not a unit of size; write `B`, `KiB`, `MiB`, `GiB` or `TiB`",
        ),
        (
            "memory = 256",
            "state.memory: `256` has no unit; write `256B` for bytes or `256MiB` for mebibytes",
        ),
        (
            "backend = 'disk'\nmemory = '1MiB'",
            "state.memory: is less than 8MiB; write a larger one",
        ),
    ] {
        refused(of_state, line, expected);
    }
}

#[test]
fn settings_of_flink_are_answered() {
    for (line, expected) in [
        (
            "state.checkpoints.dir = 's3://x'",
            "state.checkpoints.dir: is a setting of Apache Flink; write `checkpoint.storage`",
        ),
        (
            "execution.checkpointing.interval = '10s'",
            "execution.checkpointing.interval: is a setting of Apache Flink; write `checkpoint.interval`",
        ),
        (
            "state.backend.incremental = true",
            "state.backend.incremental: is a setting of Apache Flink, and not needed here: checkpoints are always incremental",
        ),
    ] {
        let said = plan(&format!("{COPY}{line}"), &[]).unwrap_err().to_string();
        assert_eq!(
            unindented(&said),
            format!("pipeline.toml:3: {expected}\n3 | {line}")
        );
    }
}

#[test]
fn expiry_is_of_states_that_there_are() {
    let text = format!("{WORDS}[operator.count.ttl]\ncount = '1h'\n");
    let spec = plan(&text, &[]).unwrap().spec;
    let expected = Ttl(Some(Duration::from_secs(3600)));
    assert_eq!(spec.operators["count"].ttl["count"], expected);
    let off = plan(WORDS, &["operator.count.ttl.count=off"]).unwrap().spec;
    assert_eq!(off.operators["count"].ttl["count"], Ttl(None));

    let text = format!("{WORDS}[operator.count.ttl]\ncuont = '1h'\n");
    let said = plan(&text, &[]).unwrap_err().to_string();
    assert!(
        said.contains(
            "operator.count.ttl.cuont: the plugin has no state `cuont`; did you mean `count`?"
        ),
        "{said}"
    );
    let text = format!("{WORDS}[operator.count.ttl]\ncount = 'never'\n");
    let said = plan(&text, &[]).unwrap_err().to_string();
    assert!(
        said.contains("operator.count.ttl.count: `never` is not a duration"),
        "{said}"
    );
}
