//! Catches input that is lost because a source is asked too late, and input that is read as something that it is not: a
//! rollback behind which standard input cannot be read again, quotes within fields of CSV, letters that have only the start
//! of a record, and bytes behind the end of compressed data.

use std::fs;
use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::job::{Job, Running, command};

/// What no wait of a test takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// A job that copies standard input, with what each line of `settings` says of its source, and takes checkpoints when it is
/// told to.
fn stdin(settings: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "[job]\nname = \"words\"\n[checkpoint]\ninterval = \"off\"\nretained = 1000\n\
             [source.text]\nconnector = \"stdin\"\n{settings}\n\
             [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n"
        ),
    );
    job
}

fn start(job: &Job, input: Stdio) -> Running {
    let mut command = command();
    command.args(["run", "pipeline.toml"]);
    job.spawn_with(command, input)
}

/// All lines of the output, sorted.
fn output(job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    for part in fs::read_dir(job.path("out")).into_iter().flatten() {
        let part = part.unwrap().path();
        if part.is_file() {
            let text = fs::read_to_string(part).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Writes a line, and waits until a checkpoint has all lines. Returns its id.
#[track_caller]
fn saved(job: &Job, input: &mut ChildStdin, line: &str, all: &[&str]) -> String {
    input.write_all(line.as_bytes()).unwrap();
    let since = Instant::now();
    loop {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        let there = output(job);
        if there == all {
            return job.checkpoint_ids()[0].to_string();
        }
        assert!(since.elapsed() < DEADLINE, "{there:?}");
    }
}

#[test]
fn a_rollback_that_standard_input_cannot_follow_deletes_nothing() {
    let job = stdin("replay-bytes = 1");
    let mut run = start(&job, Stdio::piped());
    let mut input = run.input();
    run.wait_for("starts from the beginning");
    let first = saved(&job, &mut input, "1\n", &["1"]);
    let second = saved(&job, &mut input, "2\n", &["1", "2"]);
    saved(&job, &mut input, "3\n", &["1", "2", "3"]);
    let before = job.checkpoint_ids();
    let refused = job.command(&["rollback", ".", "--to", &first]);
    assert!(refused.code.is_some_and(|code| code > 0), "{refused:?}");
    refused
        .says("source `text`: ")
        .says("but only what follows byte 4 is kept in memory");
    assert_eq!(job.checkpoint_ids(), before);
    assert_eq!(output(&job), ["1", "2", "3"]);
    // What follows is in memory.
    job.command(&["rollback", ".", "--to", &second]).succeeded();
    drop(input);
    run.wait().succeeded();
    assert_eq!(output(&job), ["1", "2", "3"]);

    // A job that does not run takes what standard input gives next.
    let back = job.command(&["rollback", ".", "--to", &first]).succeeded();
    let words = format!("what it had read after checkpoint {first} is not read again");
    assert!(back.stdout.contains(&words), "{}", back.stdout);
    let mut run = start(&job, Stdio::piped());
    run.input().write_all(b"4\n").unwrap();
    run.wait().succeeded();
    assert_eq!(output(&job), ["1", "4"]);
}
