//! Catches damage of stored checkpoints that is not noticed, is not told, or costs more than it must.

use std::fs;

use crate::job::Job;
use crate::output::counted_by_tools;

const TEXT: [&str; 3] = ["one two two\n", "two three\n", "three four one\n"];

/// A job with three checkpoints.
fn job() -> Job {
    let job = Job::new();
    let mut text = String::new();
    for more in TEXT {
        text += more;
        job.write("in.txt", &text);
        job.run(&[]).succeeded();
    }
    assert_eq!(job.checkpoint_ids(), [3, 2, 1]);
    job
}

/// Flips a byte in each copy of the manifests of these checkpoints, wherever they are in the store's file.
fn damage(job: &Job, ids: &[u8]) {
    // The beginning of a manifest, its version, and the checkpoint's id.
    const MAGIC: &[u8] = b"FLMK-MAN\x01\x00";
    let path = job.data_dir().join("checkpoints.redb");
    let mut bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 64)
        .filter(|&at| bytes[at..].starts_with(MAGIC) && ids.contains(&bytes[at + MAGIC.len()]))
        .collect();
    assert!(starts.len() >= ids.len(), "{starts:?}");
    for start in starts {
        bytes[start + MAGIC.len() + 20] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
}

fn expected() -> crate::output::Counts {
    counted_by_tools(TEXT.concat().as_bytes())
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let job = job();
    damage(&job, &[3]);
    let data_dir = job.data_dir();
    let verify = [
        "checkpoint",
        "verify",
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    let verified = job.command(&verify);
    assert_eq!(verified.code, Some(4));
    assert!(
        verified.stdout.contains("checkpoint 3 is damaged: "),
        "{}",
        verified.stdout
    );
    assert!(
        verified.stdout.contains("checkpoint 2 is sound"),
        "{}",
        verified.stdout
    );
    verified.says("`floodmark run` resumes from the newest checkpoint that is sound");

    job.run(&[])
        .succeeded()
        .says("warning: checkpoint 3 is damaged and skipped: ")
        .says("resumes from checkpoint 2, ")
        .says("sink `counts`: 1 part of later checkpoints taken back");
    job.output().is_exactly(&expected());
    // The number of the damaged one is not given again.
    assert_eq!(job.checkpoint_ids()[0], 4);
    job.checkpoint(&["verify"]);
}

#[test]
fn two_of_three_may_be_damaged() {
    let job = job();
    damage(&job, &[3, 2]);
    job.run(&[])
        .succeeded()
        .says("warning: checkpoint 3 is damaged")
        .says("warning: checkpoint 2 is damaged")
        .says("resumes from checkpoint 1, ");
    job.output().is_exactly(&expected());
}

#[test]
fn with_all_damaged_nothing_is_touched_until_the_user_starts_over() {
    let job = job();
    damage(&job, &[3, 2, 1]);
    let seen = job.output();
    for _ in 0..2 {
        let outcome = job.run(&[]);
        assert_eq!(outcome.code, Some(4));
        outcome
            .says("error: no checkpoint in `")
            .says("checkpoint 3: ")
            .says("checkpoint 1: ")
            .says("start over with `--fresh`");
        assert!(job.output() == seen);
    }
    job.run(&["--fresh"])
        .succeeded()
        .says("starts from the beginning");
    job.output().is_exactly(&expected());
}

#[test]
fn a_store_that_is_none_is_not_written_over() {
    let job = job();
    let seen = job.output();
    for content in [&b"something else"[..], &[0; 8192], b""] {
        let path = job.data_dir().join("checkpoints.redb");
        fs::write(&path, content).unwrap();
        let outcome = job.run(&[]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
        outcome
            .says("` is not a checkpoint store: ")
            .says("; restore it from a copy, move it away, or use another data folder");
        assert_eq!(fs::read(&path).unwrap(), content);
        assert!(job.output() == seen);
    }
    job.run(&["--fresh"]).succeeded();
    job.output().is_exactly(&expected());
}
