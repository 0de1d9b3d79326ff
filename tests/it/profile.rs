//! Catches a profile that lacks what it is looked at for, that changes what a job does, or that is lost when the job does not
//! end by itself.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::job::Job;
use crate::plugins::plugin;

/// Words for a good part of a second.
fn words() -> String {
    let line = |number: u32| format!("the word {number} and the words {} of it\n", number % 97);
    (0..60_000).map(line).collect()
}

/// A job without an end.
fn endless() -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "job.name = \"words\"\nsource.numbers = {{ connector = \"generator\" }}\noperator.count = {{ plugin = {:?}, from = \"numbers\" }}\nsink.nothing = {{ connector = \"discard\", from = \"count\" }}\n",
            plugin("word-count")
        ),
    );
    job
}

/// Collapsed stacks: nanoseconds by the names from the outermost on.
fn stacks(job: &Job, file: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(job.path(file)).unwrap();
    let line = |line: &str| {
        let (stack, nanos) = line.rsplit_once(' ').unwrap();
        (stack.to_owned(), nanos.parse().unwrap())
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn check_stacks(stacks: &BTreeMap<String, u64>, begins: &[&str]) {
    for begin in begins {
        let found = stacks
            .iter()
            .any(|(stack, &nanos)| stack.starts_with(begin) && nanos > 0);
        assert!(found, "no {begin} in {stacks:#?}");
    }
}

#[test]
fn a_profile_names_operators_stages_and_functions() {
    let job = Job::with_input(words());
    job.run(&[]).succeeded();
    let expected = job.output().counts();
    for file in ["a.folded", "a.svg", "a.json"] {
        let run = ["--fresh", "--parallelism", "2", "--profile", file];
        let outcome = job
            .run(&run)
            .succeeded()
            .says(&format!("profile: `{file}`, with "));
        assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
        assert!(job.output().counts() == expected, "{file}");
    }
    let stacks = stacks(&job, "a.folded");
    check_stacks(
        &stacks,
        &[
            "words;text;source",
            "words;text;exchange",
            "words;split;exchange",
            "words;split;guest;[copy]",
            "words;split;guest;floodmark:engine/operator-compact@0.1.0#process;",
            "words;count;lookup",
            "words;count;guest;floodmark:engine/operator-compact@0.1.0#process;",
            "words;count;apply",
            "words;counts;sink",
        ],
    );
    for (operator, function) in [
        ("split", "word_split::WordSplit"),
        ("count", "word_count::WordCount"),
    ] {
        let is_it =
            |stack: &String| stack.contains(&format!(";{operator};")) && stack.contains(function);
        assert!(stacks.keys().any(is_it), "{function} in {stacks:#?}");
    }
    let svg = fs::read_to_string(job.path("a.svg")).unwrap();
    for shown in [
        "<title>split: ",
        "<title>lookup: ",
        "<title>floodmark:engine/operator-compact@0.1.0#process: ",
    ] {
        assert!(svg.contains(shown), "{shown}");
    }
    let json: Value = serde_json::from_slice(&fs::read(job.path("a.json")).unwrap()).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    for name in ["count", "apply"] {
        let is_it = |node: &Value| node["callFrame"]["functionName"] == name;
        assert!(nodes.iter().any(is_it), "{name}");
    }
    let names = fs::read_dir(job.path(".")).unwrap();
    let is_left = |name: &String| name.starts_with(".a.");
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.find(is_left), None, "an unfinished file is left");
}

#[test]
fn a_file_that_cannot_be_written_ends_the_command_before_the_job_begins() {
    let job = Job::with_input("a\n");
    job.write("taken.svg/file", "");
    for (file, says) in [
        (
            "none/a.svg",
            "`--profile none/a.svg`: cannot write this file: ",
        ),
        (
            "taken.svg",
            "`--profile taken.svg`: cannot write this file: ",
        ),
        (
            "a.txt",
            "`--profile a.txt`: the extension of the file selects ",
        ),
        (
            "perf.",
            "`--profile perf.`: the extension of the file selects ",
        ),
    ] {
        let outcome = job.run(&["--profile", file]).says(says);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    }
    assert!(!job.path("out").exists());
}

#[test]
fn a_job_that_is_stopped_leaves_its_profile() {
    let job = endless();
    let mut run = job.start(&["--profile", "a.folded"]);
    run.wait_for("starts from the beginning");
    let is_counting = || {
        let status = job.command(&["status", ".", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        status["vertices"][1]["calls"]["guest-time"].as_u64() > Some(50)
    };
    let mut looks = std::iter::repeat_with(is_counting).take(1000);
    assert!(looks.any(|is_counting| is_counting));
    run.signal("INT");
    run.wait().succeeded().says("profile: `a.folded`");
    let begins = [
        "words;numbers;source",
        "words;count;guest;floodmark:engine/operator-compact@0.1.0#process;",
        "words;[engine]",
    ];
    check_stacks(&stacks(&job, "a.folded"), &begins);
}

#[test]
fn a_job_that_fails_leaves_its_profile() {
    let job = Job::with_input([&words(), "bad\n"].concat());
    let plugin = format!("operator.count.plugin={}", plugin("misbehaves").display());
    let run = [
        "--set",
        &plugin,
        "--set",
        "operator.count.config.panic-at=bad",
        "--set",
        "restart.strategy=none",
        "--profile",
        "a.folded",
    ];
    let outcome = job
        .run(&run)
        .says("profile: `a.folded`")
        .says("cannot stand this word");
    assert_eq!(outcome.code, Some(1));
    check_stacks(
        &stacks(&job, "a.folded"),
        &["words;text;source", "words;count;guest;"],
    );
}

#[test]
fn perf_finds_the_names_of_functions() {
    let job = endless();
    let mut run = job.start(&["--profile", "perf"]);
    run.wait_for("`perf record -g -p ");
    let said = run.stderr();
    let (_, rest) = said.split_once("`/tmp/perf-").unwrap();
    let map = format!("/tmp/perf-{}", rest.split('`').next().unwrap());
    run.signal("TERM");
    run.wait().succeeded();
    let names = fs::read_to_string(&map).unwrap();
    let _ = fs::remove_file(&map);
    assert!(names.contains("floodmark_sdk"), "{}", names.len());
}
