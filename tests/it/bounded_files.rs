//! Files and answers that have no end, or no beginning, and folders that no job has made.
//!
//! Catches a command that waits without end for a pipe or a job, fills the memory from a device, or leaves files of its own in a
//! folder that is not its own; and a note of a job that is ignored because it cannot be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::job::{Job, Outcome, keeping_code};
use crate::plugins::plugin;

const FLOODMARK: &str = env!("CARGO_BIN_EXE_floodmark");

#[track_caller]
fn refused(outcome: Outcome, code: i32, words: &str) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    outcome.says(words);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_token_is_read_from_a_short_file_or_a_pipe() {
    let job = Job::with_input("one\n");
    let run = |file: &str| {
        let listen = ["--listen", "127.0.0.1:0", "--listen-token-file", file];
        job.run(&listen)
    };
    refused(
        run("/dev/zero"),
        2,
        "it is neither a regular file nor a pipe",
    );
    refused(run("."), 2, "it is neither a regular file nor a pipe");
    job.write("long", "x".repeat(5000));
    refused(run("long"), 2, "it has more than 4096 bytes");
    job.write("token", "0123456789abcdef\n");
    run("token").succeeded();
    let mut command = keeping_code(Command::new("sh"));
    let shell = "{ sleep 0.2; echo 0123456789abcdef; } | \"$@\"";
    command.args(["-c", shell, "sh", FLOODMARK, "run", "pipeline.toml"]);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--listen-token-file",
        "/dev/stdin",
    ]);
    job.spawn(command).wait().succeeded();
}

#[test]
fn commands_leave_nothing_in_a_folder_without_a_job() {
    let job = Job::with_input("one\n");
    fs::create_dir(job.path("notes")).unwrap();
    job.write("notes/mine", "text");
    let commands: [&[&str]; 7] = [
        &["checkpoint", "compact", "--data-dir", "notes"],
        &["checkpoint", "delete", "1", "--data-dir", "notes"],
        &[
            "rollback",
            "pipeline.toml",
            "--to",
            "1",
            "--data-dir",
            "notes",
        ],
        &["status", "--data-dir", "notes"],
        &["stop", "--data-dir", "notes"],
        &[
            "savepoint",
            "create",
            "--data-dir",
            "notes",
            "--to",
            "saved",
        ],
        &[
            "swap",
            "pipeline.toml",
            "count",
            plugin("word-count").to_str().unwrap(),
            "--data-dir",
            "notes",
        ],
    ];
    for arguments in commands {
        refused(
            job.command(arguments),
            4,
            "`notes` is not the data folder of a job",
        );
        assert_eq!(names(&job.path("notes")), ["mine"], "{arguments:?}");
    }
}

#[test]
fn a_store_that_is_gone_is_not_made_again_by_a_command() {
    let job = Job::with_input("one\n");
    job.run(&[]).succeeded();
    fs::remove_file(job.data_dir().join("checkpoints.redb")).unwrap();
    let before = names(&job.data_dir());
    let commands: [&[&str]; 3] = [
        &["checkpoint", "compact"],
        &["checkpoint", "delete", "1"],
        &["rollback", "pipeline.toml", "--to", "1"],
    ];
    for arguments in commands {
        refused(
            job.command(arguments),
            4,
            "there is no checkpoint store at `",
        );
        assert_eq!(names(&job.data_dir()), before, "{arguments:?}");
    }
}

#[test]
fn a_linked_or_unreadable_note_is_an_error_in_words() {
    let job = Job::with_input("one\n");
    job.run(&[]).succeeded();
    job.write("elsewhere", "redb\n");
    let storage = job.data_dir().join("storage");
    fs::remove_file(&storage).unwrap();
    symlink(job.path("elsewhere"), &storage).unwrap();
    refused(
        job.command(&["checkpoint", "list"]),
        4,
        "it is a symbolic link",
    );
    fs::remove_file(&storage).unwrap();

    let note = job.data_dir().join("rollback");
    fs::write(&note, "{\"checkpoint\":1,\"named\":{\"cou").unwrap();
    let seen = job.output();
    refused(
        job.run(&[]),
        4,
        "cannot be read, so it is unknown which plugins run",
    );
    assert!(job.output() == seen);
    fs::remove_file(&note).unwrap();
    job.run(&[]).succeeded();
}

#[test]
fn a_job_that_does_not_answer_is_named() {
    let job = Job::with_input("one\n");
    job.run(&[]).succeeded();
    // Something that accepts the call, and never answers.
    let socket = job.data_dir().join("control.sock");
    let _ = fs::remove_file(&socket);
    let _listening = UnixListener::bind(socket).unwrap();
    refused(
        job.command(&["status", "."]),
        4,
        "has not answered for 10 seconds",
    );
}
