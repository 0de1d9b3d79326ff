//! A plugin with another version of its state takes over what was kept.
//!
//! Catches values that are lost or counted from zero with a new version, a stream that waits for all of them, a plugin that sees
//! values that it does not know, and times to live that do not come from the pipeline file.

use std::fs;

use crate::job::Job;
use crate::output::counted_by_tools;
use crate::plugins::plugin;

/// The same job with another plugin for `count`.
fn with_plugin(job: &Job, name: &str) -> String {
    let set = format!("operator.count.plugin={}", plugin(name).display());
    assert!(job.path("pipeline.toml").exists());
    set
}

fn append(job: &Job, text: &str) {
    let before = fs::read_to_string(job.path("in.txt")).unwrap();
    job.write("in.txt", before + text);
}

/// All lines of the output, sorted.
pub fn lines(job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    for part in fs::read_dir(job.path("out")).unwrap() {
        let part = part.unwrap().path();
        if part.is_file() && part.extension().is_some() {
            let text = fs::read_to_string(part).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_new_version_goes_on_from_the_values_of_the_old_one() {
    let words: String = (0..3000).map(|word| format!("w{} ", word % 1000)).collect();
    let job = Job::with_input(words + "\n");
    job.run(&[]).succeeded();
    assert_eq!(lines(&job).len(), 3000);

    append(&job, "w7 w7 w2000\n");
    let v2 = with_plugin(&job, "upgrade-v2");
    job.run(&["--set", &v2])
        .succeeded()
        .says("operator `count`: the plugin has changed");
    let after = lines(&job);
    for expected in ["w7,4 ", "w7,5 ", "w2000,1 "] {
        assert!(
            after.iter().any(|line| line.starts_with(expected)),
            "{expected} of {} lines",
            after.len()
        );
    }
    // All are of the new version by now, those that no record has asked for, too.
    let states = job.command(&["state", "list", "--pipeline", ".", "--json", "--count"]);
    let states: serde_json::Value = serde_json::from_str(&states.succeeded().stdout).unwrap();
    let of_v2 = states["states"].as_array().unwrap().iter();
    let keys: Vec<_> = of_v2
        .map(|state| (state["version"].clone(), state["keys"].clone()))
        .filter(|(_, keys)| *keys != 0)
        .collect();
    assert_eq!(keys, [(2.into(), 1001.into())]);

    // The old plugin does not know the new values, and sees none of them.
    let refused = job.run(&[]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused
        .says("state `count` was saved in version 2, and the plugin, which has version 1, does not migrate it")
        .says("operator `count`");
    assert_eq!(lines(&job), after);
}

#[test]
fn the_pipeline_says_how_long_values_live() {
    let job = Job::with_input("a a\n");
    let ttl = ["--set", "operator.count.ttl.count=1ms"];
    job.run(&ttl).succeeded();
    std::thread::sleep(std::time::Duration::from_millis(20));
    append(&job, "a\n");
    job.run(&ttl).succeeded();
    // It was forgotten, so it counts from one again.
    assert_eq!(lines(&job), ["a,1", "a,1", "a,2"]);
    // What was written without a time to live stays when one is switched on.
    let job = Job::with_input("a a\n");
    job.run(&[]).succeeded();
    append(&job, "a\n");
    job.run(&ttl).succeeded();
    assert_eq!(lines(&job), ["a,1", "a,2", "a,3"]);

    let unknown = job.run(&["--set", "operator.count.ttl.coun=1h"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    unknown.says("did you mean `count`?");
}

#[test]
fn state_beyond_its_memory_is_on_disk_and_comes_back() {
    let words = |from: u32| -> String {
        (0..60_000)
            .map(|word| format!("{:060} ", (word + from) % 150_000))
            .collect()
    };
    let job = Job::with_input(words(0) + "\n" + &words(60_000) + "\n" + &words(20_000) + "\n");
    let disk = [
        "--set",
        "state.backend=disk",
        "--set",
        "state.memory=8MiB",
        "--set",
        "checkpoint.interval=50ms",
    ];
    job.run(&disk).succeeded();
    let seen = job.output();
    seen.is_exactly(&counted_by_tools(&fs::read(job.path("in.txt")).unwrap()));
    assert_eq!(seen.records(), 180_000);
    // The job resumes with all state in memory, and then with state on disk again.
    append(&job, &(words(0) + "\n"));
    job.run(&[]).succeeded();
    append(&job, &(words(90_000) + "\n"));
    job.run(&disk).succeeded();
    let seen = job.output();
    seen.is_exactly(&counted_by_tools(&fs::read(job.path("in.txt")).unwrap()));
    assert_eq!(seen.records(), 300_000);
    let left = fs::read_dir(job.data_dir()).unwrap();
    let names: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("scratch")),
        "{names:?}"
    );
}
