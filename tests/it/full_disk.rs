//! Catches a disk without room that ends a job which could continue, or harms the checkpoint that it had.
//!
//! The room is taken away by a limit on the length of files, which needs no rights and holds for the process alone. The
//! output goes to a sink that counts and keeps no file, so it is the store of checkpoints that meets the limit.

use std::fs;
use std::process::Command;

use crate::job::{self, Job, Outcome, pipeline};

/// A job with a checkpoint, and then with more to read than its store may grow by.
fn job() -> Job {
    let job = Job::new();
    let text = pipeline();
    let (before, _) = text.split_once("[sink.counts]").unwrap();
    let sink = "[sink.counts]\nconnector = 'discard'\nfrom = 'count'\n";
    job.write("pipeline.toml", [before, sink].concat());
    job
}

fn words(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{number:0100}\n")).collect()
}

/// What the sink says of all that it was given.
fn summary(outcome: &Outcome) -> &str {
    let line = outcome.stderr.lines().rev();
    line.into_iter()
        .find(|line| line.starts_with("sink `counts`: "))
        .unwrap_or_else(|| panic!("{}", outcome.stderr))
}

#[test]
fn a_checkpoint_that_finds_no_room_fails_alone() {
    let undisturbed = job();
    undisturbed.write("in.txt", words(0..80_000));
    let undisturbed = undisturbed.run(&[]).succeeded();

    let job = job();
    job.write("in.txt", words(0..10));
    job.run(&[]).succeeded();
    job.write("in.txt", words(0..80_000));
    let store = job.data_dir().join("checkpoints.redb");
    // In units of 512 bytes: a little more than it has.
    let limit = fs::metadata(&store).unwrap().len() / 512 + 64;
    let mut command = Command::new("sh");
    let script = format!(
        "trap '' XFSZ; ulimit -f {limit}; exec \"$0\" run pipeline.toml --set checkpoint.interval=50ms"
    );
    command.args(["-c", &script, env!("CARGO_BIN_EXE_floodmark")]);
    let full = job.spawn(job::keeping_code(command)).wait();
    assert_eq!(full.code, Some(4), "{}", full.stderr);
    // On a slow machine, checkpoints that have nothing new may come first, and find room.
    let kept = job.checkpoint_ids()[0];
    full.says(&format!("warning: checkpoint {} failed: ", kept + 1))
        .says("; the job continues, and ")
        .says(&format!("warning: checkpoint {} failed: ", kept + 2))
        .says("error: the last checkpoint could not be taken (")
        .says(&format!("so output since checkpoint {kept} is not visible; remove the cause and run the same command again"));
    job.checkpoint(&["verify"]);

    let from = format!("resumes from checkpoint {kept}, ");
    let done = job.run(&[]).succeeded().says(&from);
    assert_eq!(summary(&done), summary(&undisturbed));
}
