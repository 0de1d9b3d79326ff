//! Savepoints of other authors: they are data, and their plugins run only if the user says so.
//!
//! Catches a forged number that a command counts to, and code or configuration of a savepoint that runs although the user did
//! not ask for it.

use std::fs;
use std::path::Path;

use floodmark_checkpoint::store::savepoint;
use floodmark_checkpoint::{Checkpoint, manifest};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkId, StateId};
use redb::{Database, TableDefinition};

use crate::job::{Job, Outcome, command};
use crate::plugins::plugin;

const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");

/// Changes the checkpoint in a savepoint, with right checksums: anyone can compute them.
fn forge(file: &Path, change: impl FnOnce(&mut Checkpoint)) {
    let (_, mut checkpoint) = savepoint::open(file, None).unwrap();
    let before = checkpoint.id.0;
    change(&mut checkpoint);
    let bytes = manifest::encode(&checkpoint);
    let database = Database::open(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(CHECKPOINTS).unwrap();
        table.remove(before).unwrap();
        table.insert(checkpoint.id.0, &bytes[..]).unwrap();
    }
    transaction.commit().unwrap();
}

fn give_chunks_id(checkpoint: &mut Checkpoint, id: u64) {
    let tasks = checkpoint.operators.iter_mut();
    let tasks = tasks.flat_map(|operator| &mut operator.tasks);
    for chunk in tasks.flat_map(|task| &mut task.chunks) {
        chunk.id = ChunkId(id);
    }
}

#[test]
fn forged_numbers_are_damage() {
    let job = Job::with_input("one two two\n");
    job.run(&[]).succeeded();
    let create = ["savepoint", "create", ".", "--to", "sound"];
    job.command(&create).succeeded();
    let forged = job.path("forged");
    type Change = fn(&mut Checkpoint);
    let changes: [(Change, &str); 8] = [
        (
            |made| give_chunks_id(made, u64::MAX),
            "the id of a chunk is out of range",
        ),
        (
            |made| give_chunks_id(made, 1 << 62),
            "an id in it is higher than any that a job reaches",
        ),
        (
            |made| made.id = CheckpointId(u64::MAX),
            "its id is out of range",
        ),
        (
            |made| made.scale.parallelism = 129,
            "its parallelism is out of range",
        ),
        (
            |made| made.created_ms = u64::MAX,
            "its time is out of range",
        ),
        (
            |made| made.records_in = u64::MAX,
            "a number of records is out of range",
        ),
        // The job would write checkpoints from here that it cannot read.
        (
            |made| made.records_in = 1 << 62,
            "a number of records in it is higher than any that a job reaches",
        ),
        (
            |made| made.operators[1].states[0].id = StateId(1 << 14),
            "an id in it is higher than any that a job reaches",
        ),
    ];
    let commands: [&[&str]; 6] = [
        &[
            "run",
            "pipeline.toml",
            "--data-dir",
            "new",
            "--from",
            "forged",
        ],
        &["checkpoint", "list", "--savepoint", "forged"],
        &["checkpoint", "verify", "--savepoint", "forged"],
        &["state", "list", "--count", "--savepoint", "forged"],
        &["state", "dump", "--savepoint", "forged"],
        &[
            "replay",
            "pipeline.toml",
            "--operator",
            "count",
            "--from",
            "forged",
        ],
    ];
    for (change, words) in changes {
        fs::copy(job.path("sound"), &forged).unwrap();
        forge(&forged, change);
        for arguments in commands {
            let outcome = job.command(arguments);
            assert_eq!(outcome.code, Some(4), "{arguments:?}: {}", outcome.stderr);
            outcome
                .says("savepoint `forged` cannot be used: it is damaged: ")
                .says(words);
        }
    }
    assert!(!job.path("new/checkpoints.redb").exists());
}

/// A job whose plugin of `count` was swapped for one that labels its output, and a savepoint of it. The pipeline still names
/// the old one. The input has another record by now.
fn swapped() -> (Job, String) {
    let job = Job::with_input("one two two\n");
    job.run(&[]).succeeded();
    let labelled = plugin("labelled").to_str().unwrap();
    let swap = ["swap", ".", "count", labelled, "--config", "label=foreign"];
    job.command(&swap).succeeded();
    let file = job.path("saved").to_str().unwrap().to_owned();
    let create = ["savepoint", "create", ".", "--to", &file];
    job.command(&create).succeeded();
    job.write("in.txt", "one two two\none\n");
    (job, file)
}

/// The options of a run with another data folder and output.
fn elsewhere(name: &str) -> [String; 4] {
    let sink = format!("sink.counts.path={name}-out");
    [
        "--data-dir".to_owned(),
        name.to_owned(),
        "--set".to_owned(),
        sink,
    ]
}

fn run(job: &Job, name: &str, more: &[&str]) -> Outcome {
    let elsewhere = elsewhere(name);
    let elsewhere: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    job.run(&[&elsewhere[..], more].concat())
}

/// The lines that a run elsewhere wrote.
fn lines(job: &Job, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for part in fs::read_dir(job.path(&format!("{name}-out"))).unwrap() {
        let part = part.unwrap().path();
        if part.extension().is_some() && part.is_file() {
            let text = fs::read_to_string(part).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

#[test]
fn plugins_of_a_savepoint_run_only_if_the_user_says_so() {
    let (job, file) = swapped();
    let refused = run(&job, "first", &["--from", &file]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused
        .says("operator `count` has plugin ")
        .says(", and another configuration (`label`); pass `--take-plugins` to run those of the savepoint");
    assert!(!job.path("first/checkpoints.redb").exists());

    run(&job, "first", &["--from", &file, "--take-plugins"])
        .succeeded()
        .says("operator `count`: continues with plugin ");
    assert_eq!(lines(&job, "first"), ["one,foreign 2"]);
    // Its own checkpoints are trusted from then on.
    job.write("in.txt", "one two two\none\none\n");
    run(&job, "first", &[]).succeeded();
    assert_eq!(lines(&job, "first"), ["one,foreign 2", "one,foreign 3"]);

    // A pipeline that names the same plugin and configuration needs no option.
    let same = format!("operator.count.plugin={}", plugin("labelled").display());
    let label = "operator.count.config.label=foreign";
    run(
        &job,
        "second",
        &["--from", &file, "--set", &same, "--set", label],
    )
    .succeeded();
    assert_eq!(lines(&job, "second"), ["one,foreign 2", "one,foreign 3"]);
    let refused = run(&job, "third", &["--from", &file, "--set", &same]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused.says("operator `count` has another configuration (`label`); pass");

    let checkpoint = job.run(&["--from", "1", "--take-plugins"]);
    assert_eq!(checkpoint.code, Some(2), "{}", checkpoint.stderr);
    checkpoint.says("`--take-plugins` is for savepoint files");
}

/// Catches a start that is refused, and leaves the savepoint where the next run resumes from it, or has forgotten checkpoints.
#[test]
fn a_start_with_plugins_that_do_not_fit_changes_nothing() {
    let job = Job::with_input("one two two\n");
    let lines = |operator: &str| {
        format!(
            "job.name = \"words\"\n\
            source.text = {{ connector = \"file\", path = \"in.txt\" }}\n\
            operator.count = {{ plugin = {:?}, from = \"text\" }}\n\
            sink.counts = {{ connector = \"file\", from = \"count\", path = \"out\", format = \"csv\" }}\n",
            plugin(operator)
        )
    };
    job.write("pipeline.toml", lines("word-split"));
    job.run(&[]).succeeded();
    let create = ["savepoint", "create", ".", "--to", "saved"];
    job.command(&create).succeeded();
    job.write("pipeline.toml", lines("word-count"));
    run(&job, "first", &[]).succeeded();
    let from = ["--from", "saved", "--take-plugins"];
    let words = "than the plugin that the pipeline names, so it does not fit the graph";
    let refused = run(&job, "second", &from).says(words);
    assert_eq!(refused.code, Some(3));
    assert!(!job.path("second").exists());
    run(&job, "first", &[&from[..], &["--fresh"]].concat()).says(words);
    let kept = job.command(&["checkpoint", "list", "--data-dir", "first", "--json"]);
    assert!(kept.succeeded().stdout.contains("\"id\""));
}

#[test]
fn plugins_that_were_taken_run_after_a_crash_too() {
    let (job, file) = swapped();
    let mut command = command();
    command
        .args(["run", "pipeline.toml", "--from", &file, "--take-plugins"])
        .args(elsewhere("first"))
        .env("FLOODMARK_CRASH_AT", "savepoint-imported:1");
    assert_eq!(job.spawn(command).wait().code, None);
    run(&job, "first", &[]).succeeded();
    assert_eq!(lines(&job, "first"), ["one,foreign 2"]);
}

#[test]
fn values_of_a_savepoint_are_decoded_by_plugins_that_have_run_here() {
    let (job, file) = swapped();
    let dump = ["state", "dump", "count", "count", "--savepoint", &file];
    let row = "{\"operator\":\"count\",\"state\":\"count\",\"key\":\"one\",\"value\":1}\n";
    assert!(job.command(&dump).succeeded().stdout.starts_with(row));

    let stranger = Job::new();
    let raw = stranger.command(&dump).succeeded();
    assert!(raw.stdout.contains(",\"raw\":true}"), "{}", raw.stdout);
    raw.says("shown raw: its plugin is the savepoint's, and no job here has run it; pass `--take-plugins`");
    let taken = stranger.command(&[&dump[..], &["--take-plugins"]].concat());
    let taken = taken.succeeded();
    assert!(taken.stdout.starts_with(row), "{}", taken.stdout);
}

#[test]
fn a_replay_from_a_savepoint_runs_its_plugins_only_if_the_user_says_so() {
    let (job, file) = swapped();
    let replay = [
        "replay",
        "pipeline.toml",
        "--operator",
        "count",
        "--from",
        &file,
    ];
    let refused = job.command(&replay);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused
        .says("operator `count` has plugin ")
        .says("`--take-plugins`");
    let taken = job.command(&[&replay[..], &["--take-plugins"]].concat());
    let taken = taken.succeeded();
    assert!(taken.stdout.contains("foreign 2"), "{}", taken.stdout);
    // The plugin that the user names takes the place of the savepoint's.
    let other = plugin("word-count").to_str().unwrap();
    let replaced = job.command(&[&replay[..], &["--plugin", other]].concat());
    let replaced = replaced.succeeded();
    assert!(!replaced.stdout.contains("foreign"), "{}", replaced.stdout);
}
