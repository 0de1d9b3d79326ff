//! Catches a restart that does not resume from the newest checkpoint, resumes wrongly after the input or the parallelism
//! has changed, or does not say what it does; and figures about checkpoints that do not match what is stored.

use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::job::Job;
use crate::output::counted_by_tools;
use crate::plugins::repository;
use crate::text::text;

fn append(job: &Job, text: &[u8]) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(job.path("in.txt"))
        .unwrap();
    file.write_all(text).unwrap();
}

#[test]
fn a_finished_job_that_runs_again_does_nothing_and_says_so() {
    let job = Job::with_input("the rain the sun");
    job.run(&[])
        .succeeded()
        .says("job `words` starts from the beginning; checkpoints are written to ")
        .says("finished: 1 record in, 4 records out in ")
        .says("sink `counts`: 4 records, ");
    let seen = job.output();
    job.run(&[])
        .succeeded()
        .says("job `words` resumes from checkpoint 1, ")
        .says("1 record in, 4 records out so far")
        .says("finished: there was nothing new to read");
    assert!(job.output() == seen);
}

#[test]
fn input_that_grew_is_read_on() {
    let job = Job::with_input("to be or");
    job.run(&[]).succeeded();
    // The last line was read without its newline, which comes now.
    append(&job, b"\nnot to be\nthat is\n");
    job.run(&[]).succeeded().says("resumes from checkpoint 1, ");
    append(&job, b"the question to be asked");
    job.run(&[]).succeeded().says("resumes from checkpoint 2, ");
    let all = b"to be or not to be that is the question to be asked";
    job.output().is_exactly(&counted_by_tools(all));
}

#[test]
fn output_that_a_crash_kept_from_sight_is_shown_at_the_next_start() {
    let job = Job::with_input("one two\n");
    job.run(&[]).succeeded();
    append(&job, b"two three\n");
    job.run(&[]).succeeded();
    // As the disk is when the process dies after the checkpoint became durable and before its output was renamed.
    let part = "part-00000002-000.csv";
    let staged = job.path("out/.staged").join(part);
    fs::rename(job.path("out").join(part), staged).unwrap();
    job.run(&[])
        .succeeded()
        .says("resumes from checkpoint 2, ")
        .says("sink `counts`: 1 part made visible");
    let expected = counted_by_tools(b"one two two three");
    job.output().is_exactly(&expected);
}

#[test]
fn fresh_starts_over() {
    let job = Job::with_input("one two\n");
    job.run(&[]).succeeded();
    append(&job, b"two three\n");
    job.run(&[]).succeeded();
    assert_eq!(job.output().parts(), 2);
    job.run(&["--fresh"])
        .succeeded()
        .says("starts from the beginning")
        .says("sink `counts`: 2 parts of earlier runs removed");
    let seen = job.output();
    assert_eq!(seen.parts(), 1);
    seen.is_exactly(&counted_by_tools(b"one two two three"));
    assert_eq!(job.checkpoint_ids().len(), 1);
}

#[test]
fn the_parallelism_may_change() {
    let texts: Vec<Vec<u8>> = (0..4).map(|seed| text(1_000_000, seed)).collect();
    let job = Job::with_input(&texts[0]);
    let arguments = ["--set", "source.text.split-bytes=100000", "--parallelism"];
    job.run(&[&arguments[..], &["1"]].concat()).succeeded();
    for (text, (parallelism, said)) in texts[1..].iter().zip([
        ("4", "parallelism was 1, now is 4"),
        ("2", "parallelism was 4, now is 2"),
        ("3", "parallelism was 2, now is 3"),
    ]) {
        append(&job, b"\n");
        append(&job, text);
        job.run(&[&arguments[..], &[parallelism]].concat())
            .succeeded()
            .says(said);
    }
    let expected = counted_by_tools(&texts.join(&b'\n'));
    job.output().is_exactly(&expected);
}

#[test]
fn so_many_are_kept_as_is_asked() {
    let job = Job::with_input("a");
    for (run, retained, kept) in [
        (1, "3", &[1][..]),
        (2, "3", &[2, 1]),
        (3, "3", &[3, 2, 1]),
        (4, "3", &[4, 3, 2]),
        (5, "2", &[5, 4]),
        (6, "1", &[6]),
        (7, "3", &[7, 6]),
    ] {
        append(&job, format!(" a{run}\n").as_bytes());
        job.run(&["--set", &format!("checkpoint.retained={retained}")])
            .succeeded();
        assert_eq!(job.checkpoint_ids(), kept);
        job.checkpoint(&["verify"]);
    }
}

#[test]
fn the_books_say_what_is_there() {
    let job = Job::with_input("the rain the sun\nthe end\n");
    job.run(&["--parallelism", "2"]).succeeded();
    let listed = job.checkpoint(&["list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    for checkpoint in [
        &listed[0],
        &job.checkpoint(&["show"]),
        &job.checkpoint(&["show", "1"]),
    ] {
        assert_eq!(checkpoint["id"], 1);
        assert_eq!(checkpoint["job"], "words");
        assert_eq!(checkpoint["trigger"], "end of input");
        assert_eq!(checkpoint["parallelism"], 2);
        assert_eq!(checkpoint["records-in"], 2);
        assert_eq!(checkpoint["records-out"], 6);
    }
    let shown = job.checkpoint(&["show"]);
    assert_eq!(
        shown["sources"][0]["splits"][0],
        "`in.txt` at byte 25 of 0 to its end"
    );
    let count = &shown["operators"][1];
    assert_eq!(count["name"], "count");
    assert_eq!(count["states"][0]["name"], "count");
    assert!(count["state-bytes"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(shown["sinks"][0]["name"], "counts");
    let verified = job.checkpoint(&["verify"]);
    assert_eq!(verified["sound"], true);
    assert_eq!(verified["checkpoints"][0]["id"], 1);
    assert_eq!(job.checkpoint(&["verify", "1"])["sound"], true);

    let data_dir = job.data_dir();
    let data_dir = ["--data-dir", data_dir.to_str().unwrap()];
    for (command, words) in [
        ("list", "end of input"),
        ("show", "source `text`"),
        ("verify", "checkpoint 1 is sound"),
    ] {
        let outcome = job.command(&[&["checkpoint", command][..], &data_dir].concat());
        let outcome = outcome.succeeded();
        assert!(outcome.stdout.contains(words), "{}", outcome.stdout);
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn a_plugin_that_is_a_folder_is_built_and_run() {
    let job = Job::with_input("a b a");
    let folder = repository().join("plugins/word-count/rust");
    let set = format!("operator.count.plugin={}", folder.display());
    job.run(&["--set", &set]).succeeded().says("finished: ");
    job.output().is_exactly(&counted_by_tools(b"a b a"));
    let checked = job.command(&["check", "pipeline.toml", "--set", &set]);
    let stdout = checked.succeeded().stdout;
    for words in [
        "operator `count`",
        "plugin  word-count ",
        "from    `split`, output `out`, by key",
        "each record is visible exactly once",
    ] {
        assert!(stdout.contains(words), "{stdout}");
    }
}
