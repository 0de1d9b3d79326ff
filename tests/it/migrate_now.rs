//! `state migrate`: what is left of an earlier version goes at once, also from a job that is never idle.
//!
//! Catches a command that waits for checkpoints that it does not take, that ends before the next version may follow or although
//! values could not be migrated, and a job that does not hurry, or is changed by a client that has ended.

use floodmark_control::migrate::PATH;
use serde_json::{Value, json};

use crate::job::{Job, Outcome};
use crate::swap_careful::{
    append, job, keys_by_version, path_of, started, status, stop, until_visible, wait_until,
    with_plugin,
};

fn migrate(job: &Job, more: &[&str]) -> Outcome {
    job.command(&[&["state", "migrate", "."], more].concat())
}

/// What the command prints with `--json`; asserts its exit code.
#[track_caller]
fn migrated(job: &Job, code: i32) -> Value {
    let outcome = migrate(job, &["--json"]);
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn swap(job: &Job, name: &str) -> Outcome {
    job.command(&["swap", ".", "count", path_of(name)])
}

/// A job that counts words, and beside them records of ten keys without a pause. It takes no checkpoints by itself.
fn busy() -> Job {
    let job = job("");
    let mut text = std::fs::read_to_string(job.path("pipeline.toml")).unwrap();
    for (old, new) in [
        (
            "operator.split",
            "source.numbers = { connector = 'generator', keys = 10 }\noperator.split",
        ),
        ("from = \"split\"", "from = ['split', 'numbers']"),
        ("path = \"out\", format = \"csv\"", ""),
        (
            "sink.counts = { connector = \"file\", from = \"count\",  }",
            "sink.counts = { connector = 'discard', from = 'count' }",
        ),
    ] {
        assert!(text.contains(old), "{old}: {text}");
        text = text.replace(old, new);
    }
    job.write("pipeline.toml", text);
    job
}

#[test]
fn three_versions_follow_each_other_in_a_busy_job() {
    let job = busy();
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    wait_until("the words", || {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        keys_by_version(&job) == [(1, 1011)]
    });
    swap(&job, "upgrade-v2").succeeded();
    // No checkpoint is taken, so the job cannot know that nothing is left.
    let refused = swap(&job, "upgrade-v3");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    refused
        .says("still of version 1")
        .says("`floodmark state migrate` does it now");
    let done = migrated(&job, 0);
    assert_eq!(done["left"], json!([]));
    assert_eq!(done["migrated"][0]["operator"], "count");
    assert_eq!(done["migrated"][0]["state"], "count");
    assert_eq!(done["migrated"][0]["versions"], json!([1]));
    assert!(done["checkpoints"].as_u64().unwrap() > 0, "{done}");
    swap(&job, "upgrade-v3").succeeded();
    let done = migrate(&job, &["--operator", "count"]).succeeded();
    let expected = "operator `count`, state `count`: nothing of version 2 is left\n";
    assert_eq!(done.stdout, expected);
    assert_eq!(keys_by_version(&job), [(3, 1011)]);
    stop(&job, run);
}

#[test]
fn what_cannot_be_migrated_is_told_and_stays() {
    let job = job("on-error = \"skip\"");
    stop(&job, started(&job, 1007));
    let mut run = job.start(&["--set", &with_plugin("picky")]);
    run.wait_for("resumes from checkpoint");
    let outcome = migrate(&job, &[]);
    assert_eq!(outcome.code, Some(8), "{}", outcome.stderr);
    outcome
        .says("operator `count`, state `count`: 1 value of version 1 could not be migrated")
        .says("the first: the plugin cannot migrate the entry of key \"bad\" in state `count`")
        .says("7 is a multiple of seven");
    let left = migrated(&job, 8);
    assert_eq!(left["migrated"], json!([]));
    assert_eq!(left["left"][0]["versions"], json!([1]));
    assert_eq!(left["left"][0]["not-migrated"], 1);
    assert_eq!(keys_by_version(&job), [(1, 1), (2, 1000)]);

    // A better plugin takes the rest, and then a third version follows at once.
    swap(&job, "upgrade-v2").succeeded();
    assert_eq!(migrated(&job, 0)["left"], json!([]));
    swap(&job, "upgrade-v3").succeeded();
    append(&job, "bad\n");
    until_visible(&job, 1008);
    assert!(crate::migration::lines(&job).contains(&"bad,8".to_owned()));
    stop(&job, run);
}

#[test]
fn a_client_that_ends_leaves_the_job_as_it_is() {
    let job = job("on-error = \"skip\"");
    stop(&job, started(&job, 1007));
    let mut run = job.start(&["--set", &with_plugin("picky")]);
    run.wait_for("cannot migrate the entry of key \"bad\"");
    // Workers are told, also if they have nothing to do: they say how much state may be of the first version.
    let ask = || floodmark_control::ask(&job.data_dir(), PATH, Some(&json!({}))).unwrap();
    wait_until("the workers", || {
        let left = &ask()["operators"]["count"]["states"]["count"];
        left["versions"] == json!([1]) && left["bytes"].as_u64().is_some_and(|bytes| bytes > 0)
    });
    let mut client = job.start_command(&["state", "migrate", "."]);
    client.wait_for("migrating operator `count`, state `count`");
    // Like Ctrl-C, which tests in the background may be told to ignore.
    client.signal("TERM");
    assert_eq!(client.wait().code, None);
    append(&job, "w1 w2\n");
    until_visible(&job, 1009);
    assert_eq!(status(&job)["state"], "RUNNING");
    stop(&job, run);
    assert_eq!(keys_by_version(&job), [(1, 1), (2, 1000)]);
    // The refusal for a stopped job counts keys, too.
    let refused = swap(&job, "upgrade-v3");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    refused.says("1 key is still of version 1");
}

#[test]
fn without_earlier_versions_or_a_job_there_is_nothing_to_migrate() {
    let job = job("");
    let run = started(&job, 1007);
    let before = job.checkpoint_ids();
    let nothing = "nothing to migrate: all state is of the newest versions\n";
    let each: [&[&str]; 3] = [&[], &["--operator", "split"], &["--operator", "count"]];
    for more in each {
        assert_eq!(migrate(&job, more).succeeded().stdout, nothing);
    }
    assert_eq!(
        migrated(&job, 0),
        json!({ "migrated": [], "left": [], "checkpoints": 0 })
    );
    assert_eq!(job.checkpoint_ids(), before);
    let unknown = migrate(&job, &["--operator", "coun"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    unknown
        .says("there is no operator `coun` in the job")
        .says("did you mean `count`?");
    stop(&job, run);
    let stopped = migrate(&job, &[]);
    assert_eq!(stopped.code, Some(4), "{}", stopped.stderr);
    stopped
        .says("no job runs on the data folder")
        .says("`floodmark run` starts it");
}
