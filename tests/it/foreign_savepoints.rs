//! Savepoints from somebody else: they are data, and say nothing that Floodmark does without asking.
//!
//! Catches a forged number that a command counts to, and code or configuration of a savepoint that runs although the user did
//! not ask for it.

use std::fs;
use std::process::{Command, Stdio};

use crate::job::Job;
use crate::plugins::repository;

/// The savepoint of this name in the fixtures, which are compressed.
fn fixture(job: &Job, name: &str) {
    let packed = repository().join(format!("tests/fixtures/{name}.gz"));
    let unpacked = Command::new("gzip")
        .arg("-dc")
        .stdin(fs::File::open(packed).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(unpacked.status.success());
    job.write(name, unpacked.stdout);
}

#[test]
fn a_forged_id_of_a_chunk_is_damage() {
    let job = Job::with_input("one two two\n");
    let name = "chunk-id-max.savepoint";
    fixture(&job, name);
    let commands: [&[&str]; 6] = [
        &["run", "pipeline.toml", "--from", name],
        &["checkpoint", "list", "--savepoint", name],
        &["checkpoint", "verify", "--savepoint", name],
        &["state", "list", "--count", "--savepoint", name],
        &["state", "dump", "--savepoint", name],
        &[
            "replay",
            "pipeline.toml",
            "--operator",
            "count",
            "--from",
            name,
        ],
    ];
    for arguments in commands {
        let outcome = job.command(arguments);
        assert_eq!(outcome.code, Some(4), "{arguments:?}: {}", outcome.stderr);
        outcome
            .says("savepoint `chunk-id-max.savepoint` cannot be used: it is damaged: ")
            .says("the id of a chunk is out of range");
    }
    assert!(!job.path("out").exists());
}
