//! Plugins of a running job are replaced: at one moment between two records, or not at all.
//!
//! Catches a record that is handled by the old plugin after the barrier or by the new one before it, state that is lost
//! or counted twice by a swap, a refused swap that changes anything, a crash that leaves plugin and state of different
//! times, and a failure on trial that is not undone.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::job::{self, Job, Outcome, Running};
use crate::plugins::plugin;

/// Points of a swap at which a job is killed.
const POINTS: [&str; 9] = [
    "swap-asked",
    "swap-before-barrier",
    "swap-at-barrier",
    "swap-collected",
    "write-begun",
    "store-filled",
    "store-committed",
    "swap-durable",
    "swap-answered",
];

/// A job on the numbers of a generator, which never ends unless `records` says when.
fn labelled(more: &str) -> Job {
    running("labelled", "label = \"a\"", more)
}

fn running(operator: &str, config: &str, more: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
job.parallelism = 2
checkpoint.interval = "off"
checkpoint.retained = 1000
source.numbers = {{ connector = "generator", keys = 100, value-bytes = 1, {more} }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}

[operator.count]
plugin = {:?}
from = "numbers"
config = {{ {config} }}
"#,
            plugin(operator)
        ),
    );
    job
}

fn endless() -> Job {
    labelled("rate = 100000")
}

fn started(job: &Job) -> Running {
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    run
}

fn relabelled(job: &Job, label: &str, more: &[&str]) -> Outcome {
    let label = format!("label={label}");
    let arguments = ["swap", ".", "count", "same", "--config", &label];
    job.command(&[&arguments, more].concat())
}

fn findings(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.succeeded().stdout).unwrap()
}

/// What is visible: by checkpoint, of each key the labels and counts in order.
fn parts(job: &Job) -> BTreeMap<u64, BTreeMap<String, Vec<(String, u64)>>> {
    let mut parts: BTreeMap<u64, BTreeMap<String, Vec<(String, u64)>>> = BTreeMap::new();
    for part in fs::read_dir(job.path("out")).unwrap() {
        let path = part.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(id) = name.strip_prefix("part-") else {
            continue;
        };
        let keys = parts.entry(id[..8].parse().unwrap()).or_default();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let (key, value) = line.split_once(',').unwrap();
            let (label, count) = value.split_once(' ').unwrap();
            let of_key = keys.entry(key.to_owned()).or_default();
            of_key.push((label.to_owned(), count.parse().unwrap()));
        }
    }
    parts
}

/// Asserts that each key counts from one without a gap, and that after each checkpoint of `swaps` its label is the one
/// that handles records, and before it the one before.
#[track_caller]
fn switches(job: &Job, swaps: &[(u64, &str)]) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (checkpoint, keys) in parts(job) {
        let before = swaps.iter().rev().find(|(swap, _)| *swap < checkpoint);
        let label = before.map_or("a", |(_, label)| label);
        for (key, lines) in keys {
            let count = counts.entry(key.clone()).or_default();
            for (found, line) in lines {
                *count += 1;
                assert_eq!(line, *count, "key {key} in part {checkpoint}");
                assert_eq!(found, label, "key {key} in part {checkpoint}, line {line}");
            }
        }
    }
    assert_eq!(counts.len(), 100);
}

#[test]
fn records_change_hands_exactly_at_the_barrier() {
    let job = endless();
    let run = started(&job);
    let mut swaps = Vec::new();
    let heavy = std::env::var_os("FLOODMARK_HEAVY").is_some();
    for round in 0..if heavy { 100 } else { 12 } {
        let label = ["b", "c"][round % 2];
        let found = findings(relabelled(&job, label, &["--json"]));
        let done = &found["swapped"];
        swaps.push((done["checkpoint"].as_u64().unwrap(), label));
        assert_eq!(done["pauses-us"].as_array().unwrap().len(), 2, "{done}");
        assert_eq!(found["operators"][0]["states"][0]["fate"], "fits");
    }
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded().says("`count` replaced in");
    switches(&job, &swaps);
}

#[test]
fn a_new_version_takes_the_state_over_on_the_fly() {
    let job = running("word-count", "", "rate = 20000");
    let run = started(&job);
    // The first checkpoint may have come before the first record.
    std::thread::sleep(Duration::from_millis(500));
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let newer = plugin("upgrade-v2").to_str().unwrap();
    let shadow = job.command(&["swap", ".", "count", newer, "--shadow", "50", "--dry-run"]);
    let shadow = shadow.succeeded().stdout;
    for expected in [
        "state `count`  value  version 1 -> 2  migrates",
        "50 records after checkpoint 2 processed by both, 50 different",
        "record 1 (key \"",
        "nothing was changed",
    ] {
        assert!(shadow.contains(expected), "{expected}\n{shadow}");
    }
    let found = findings(job.command(&["swap", ".", "count", newer, "--json"]));
    assert_eq!(found["operators"][0]["states"][0]["fate"], "migrates");
    assert!(found["operators"][0]["rehearsed"]["migrated"].as_u64() >= Some(1));
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    // The other way round there is no way.
    let older = plugin("word-count").to_str().unwrap();
    let back = job.command(&["swap", ".", "count", older]);
    assert_eq!(back.code, Some(3), "{}", back.stderr);
    back.says("state `count` is saved in version 2");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut parts: Vec<_> = fs::read_dir(job.path("out"))
        .unwrap()
        .map(|part| part.unwrap().path())
        .filter(|path| path.extension().is_some())
        .collect();
    parts.sort();
    for part in parts {
        let name = part.file_name().unwrap().to_str().unwrap();
        let id: u64 = name["part-".len()..][..8].parse().unwrap();
        for line in fs::read_to_string(&part).unwrap().lines() {
            let (key, value) = line.split_once(',').unwrap();
            let count = counts.entry(key.to_owned()).or_default();
            *count += 1;
            let expected = match id > swap {
                true => value.starts_with(&format!("{count} ")),
                false => value == count.to_string(),
            };
            assert!(expected, "{line} in {name}, count {count}, swap {swap}");
        }
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let job = endless();
    let run = started(&job);
    job.write("empty.wasm", "");
    job.write("text.wasm", "this is not a component");
    let file = |name: &str| plugin(name).to_str().unwrap().to_owned();
    let here = |name: &str| job.path(name).to_str().unwrap().to_owned();
    for (arguments, code, words) in [
        (vec!["count".to_owned(), here("empty.wasm")], 3, "is empty"),
        (
            vec!["count".to_owned(), here("text.wasm")],
            3,
            "does not begin with the magic number of WebAssembly",
        ),
        (
            vec!["coun".to_owned(), file("labelled")],
            2,
            "there is no operator `coun` in the job; did you mean `count`?",
        ),
        (
            vec!["count".to_owned(), file("word-split")],
            3,
            "it does not declare the saved state `count`",
        ),
        (
            vec!["count".to_owned(), file("traps-in-describe")],
            3,
            "`describe`",
        ),
        (
            vec![
                "count".to_owned(),
                "same".to_owned(),
                "count".to_owned(),
                "same".to_owned(),
            ],
            2,
            "named twice",
        ),
        (
            vec![
                "count".to_owned(),
                "same".to_owned(),
                "--config".to_owned(),
                "fail-at=many".to_owned(),
            ],
            3,
            "fail-at",
        ),
    ] {
        let mut command = vec!["swap", "."];
        command.extend(arguments.iter().map(String::as_str));
        let refused = job.command(&command);
        assert_eq!(refused.code, Some(code), "{command:?}: {}", refused.stderr);
        refused.says(words);
    }
    let same = relabelled(&job, "a", &[]).succeeded();
    assert!(same.stdout.contains("nothing to do"), "{}", same.stdout);
    let dry = relabelled(&job, "b", &["--dry-run"]).succeeded();
    assert!(dry.stdout.contains("nothing was changed"), "{}", dry.stdout);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    assert_eq!(job.checkpoint_ids(), [2, 1]);
    switches(&job, &[]);
}

#[test]
fn a_failure_on_trial_brings_the_old_plugin_back() {
    let job = endless();
    let mut run = started(&job);
    let fails = ["--config", "fail-at=3000", "--trial", "60s", "--json"];
    let found = findings(relabelled(&job, "b", &fails));
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    run.wait_for("failed its trial");
    run.wait_for(&format!("goes back to checkpoint {swap}"));
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    switches(&job, &[]);
}

#[test]
fn nothing_is_swapped_while_another_is_on_trial() {
    let job = endless();
    let run = started(&job);
    let found = findings(relabelled(&job, "b", &["--trial", "10min", "--json"]));
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    let again = relabelled(&job, "c", &[]);
    assert_eq!(again.code, Some(4), "{}", again.stderr);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    switches(&job, &[(swap, "b")]);
}

#[test]
fn two_swaps_at_once_are_one_after_the_other_or_refused() {
    let job = endless();
    let run = started(&job);
    let start = |label: &str| {
        let label = format!("label={label}");
        job.start_command(&["swap", ".", "count", "same", "--config", &label, "--json"])
    };
    let (first, second) = (start("b"), start("c"));
    let outcomes = [first.wait(), second.wait()];
    let mut swaps = Vec::new();
    for (outcome, label) in outcomes.into_iter().zip(["b", "c"]) {
        match outcome.code {
            Some(0) => {
                let found = findings(outcome);
                swaps.push((found["swapped"]["checkpoint"].as_u64().unwrap(), label));
            }
            Some(4) => assert!(outcome.stderr.contains("try again"), "{}", outcome.stderr),
            code => panic!("{code:?}: {}", outcome.stderr),
        }
    }
    assert!(!swaps.is_empty());
    swaps.sort_unstable();
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    switches(&job, &swaps);
}

#[test]
fn a_crash_comes_back_with_plugin_and_state_of_one_time() {
    for point in POINTS {
        let job = labelled("rate = 100000");
        let mut command = job::command();
        // The first checkpoint is not that of the swap.
        let nth = if point.starts_with("swap") { 1 } else { 2 };
        command
            .args(["run", "pipeline.toml"])
            .env("FLOODMARK_CRASH_AT", format!("{point}:{nth}"));
        let mut run = job.spawn(command);
        run.wait_for("starts from the beginning");
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        // Whether it got an answer depends on the point.
        relabelled(&job, "b", &[]);
        let killed = run.wait();
        assert_eq!(killed.code, None, "{point}: {}", killed.stderr);
        let listed = job.checkpoint(&["list"]);
        let newest = &listed.as_array().unwrap()[0];
        let is_swapped = newest["trigger"] == "swap";
        let is_late = ["store-committed", "swap-durable", "swap-answered"].contains(&point);
        assert_eq!(is_swapped, is_late, "{point}: {newest}");
        let swap = newest["id"].as_u64().unwrap();
        let mut run = job.start(&[]);
        run.wait_for("resumes from checkpoint");
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        job.command(&["stop", "."]).succeeded();
        run.wait().succeeded();
        match is_swapped {
            true => switches(&job, &[(swap, "b")]),
            false => switches(&job, &[]),
        }
    }
}

#[test]
fn a_stopped_job_goes_on_with_the_new_plugin() {
    let job = endless();
    let run = started(&job);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    let found = findings(relabelled(&job, "b", &["--json"]));
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    assert_eq!(found["swapped"]["before"], swap - 1);
    let mut run = job.start(&[]);
    run.wait_for("resumes from checkpoint");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    switches(&job, &[(swap, "b")]);
}

#[test]
fn a_swap_near_the_end_of_input_happens_or_does_not() {
    let job = labelled("records = 300000, rate = 200000");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let mut swaps = Vec::new();
    for round in 0.. {
        let label = ["b", "c"][round % 2];
        let outcome = relabelled(&job, label, &["--json"]);
        // Once the job is over, the stopped one is asked.
        if outcome.code != Some(0) || run.has_ended() {
            break;
        }
        let found = findings(outcome);
        swaps.push((found["swapped"]["checkpoint"].as_u64().unwrap(), label));
    }
    run.wait().succeeded();
    switches(&job, &swaps);
    let counts = parts(&job);
    let lines = counts.values().flat_map(BTreeMap::values);
    assert_eq!(lines.map(Vec::len).sum::<usize>(), 300_000);
}

#[test]
fn several_operators_change_at_one_barrier() {
    let job = endless();
    let text = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    let second = format!(
        "\n[operator.second]\nplugin = {:?}\nfrom = \"count\"\nconfig = {{ label = \"a\" }}\n",
        plugin("labelled")
    );
    let text = text.replace("from = \"count\", path", "from = \"second\", path");
    job.write("pipeline.toml", text + &second);
    let run = started(&job);
    let both = [
        "swap",
        ".",
        "count",
        "same",
        "second",
        "same",
        "--config",
        "second.label=b",
        "--config",
        "count.label=b",
        "--json",
    ];
    let found = findings(job.command(&both));
    assert_eq!(found["operators"].as_array().unwrap().len(), 2);
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded().says("`second` replaced in");
    switches(&job, &[(swap, "b")]);
}

#[test]
fn lists_and_maps_go_on_under_another_plugin() {
    let job = running("history", "length = 2", "rate = 20000");
    let run = started(&job);
    let swap = [
        "swap", ".", "count", "same", "--config", "length=4", "--json",
    ];
    let found = findings(job.command(&swap));
    assert_eq!(found["operators"][0]["states"][0]["kind"], "list");
    let swap = found["swapped"]["checkpoint"].as_u64().unwrap();
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    let mut after = 0;
    for part in fs::read_dir(job.path("out")).unwrap() {
        let path = part.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(id) = name.strip_prefix("part-") else {
            continue;
        };
        let is_after = id[..8].parse::<u64>().unwrap() > swap;
        for line in fs::read_to_string(&path).unwrap().lines() {
            let value = line.split_once(',').unwrap().1.trim_start_matches('"');
            let items: usize = value.split(' ').next().unwrap().parse().unwrap();
            assert!(items <= if is_after { 4 } else { 2 }, "{line} in {name}");
            after += usize::from(is_after && items == 4);
        }
    }
    assert!(after > 0, "the earlier lists continue");
}
