//! Catches a running job that cannot be looked at, numbers that stand still while it works, and one that lets in whom it must
//! not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::job::{self, Job, Running};
use crate::plugins::plugin;

/// A job without an end that takes a checkpoint when it is asked to.
fn endless() -> Job {
    Job::endless("checkpoint.interval = \"off\"")
}

/// The address that a job says it listens on.
fn address(run: &mut Running) -> String {
    run.wait_for("listening on http://");
    let said = run.stderr();
    let (_, rest) = said.split_once("listening on http://").unwrap();
    rest.lines().next().unwrap().to_owned()
}

fn talked(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn got(address: &str, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    talked(TcpStream::connect(address).unwrap(), &request)
}

/// The value of a sample, by its name and labels.
fn sample(metrics: &str, series: &str) -> f64 {
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    line.parse().unwrap()
}

fn status(job: &Job) -> Value {
    let outcome = job.command(&["status", "pipeline.toml", "--json"]);
    serde_json::from_str(&outcome.succeeded().stdout).unwrap()
}

/// Metrics of a job that has begun to count, and again after two checkpoints and more than half a second.
fn metrics_twice(job: &Job, address: &str) -> (String, String) {
    let metrics = || got(address, "/metrics", "");
    let has_begun = |metrics: &String| {
        let mut lines = metrics.lines();
        lines.any(|line| line.starts_with(READ) && !line.ends_with(" 0"))
    };
    let mut looks = std::iter::repeat_with(metrics).take(1000);
    let first = looks.find(has_begun).expect("records were read");
    for named in [&["pipeline.toml"][..], &["--pipeline", "."]] {
        let command = [&["checkpoint", "trigger"], named].concat();
        job.command(&command).succeeded();
    }
    std::thread::sleep(std::time::Duration::from_millis(700));
    (first, metrics())
}

const READ: &str = r#"floodmark_task_records_in_total{job="words",operator="count",task="0"}"#;

#[test]
fn a_plugin_reports_numbers_of_its_own() {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "file", path = "in.txt", follow = true }}
operator.told = {{ plugin = {:?}, from = "text", on-error = "skip" }}
sink.nothing = {{ connector = "discard", from = "told" }}
"#,
            plugin("reports")
        ),
    );
    job.write(
        "in.txt",
        ["a\nbad\nlonger\n".repeat(50), "forged\n".to_owned()].concat(),
    );
    let mut run = job.start(&["--listen", "127.0.0.1:0"]);
    let address = address(&mut run);
    let of = |series: &str| format!("{series}{{job=\"words\",operator=\"told\",task=\"0\"}}");
    let is_done = |metrics: &String| {
        metrics
            .lines()
            .any(|line| line == format!("{} 151", of("floodmark_task_records_in_total")))
            && metrics
                .lines()
                .any(|line| line == format!("{} 50", of("floodmark_task_skipped_records_total")))
    };
    let mut looks = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        got(&address, "/metrics", "")
    });
    let metrics = looks
        .by_ref()
        .take(1000)
        .find(is_done)
        .expect("all was read");
    // Calls that have failed were made again without the record that is to blame, and count once.
    for (series, value) in [
        ("floodmark_plugin_good_records_total", 101.0),
        ("floodmark_plugin_last_length", 6.0),
        ("floodmark_plugin_length_count", 101.0),
        ("floodmark_plugin_length_sum", 50.0 + 51.0 * 6.0),
    ] {
        assert_eq!(sample(&metrics, &of(series)), value, "{series}");
    }
    assert_eq!(
        sample(&metrics, "floodmark_failures_total{job=\"words\"}"),
        0.0
    );
    assert_eq!(
        metrics.matches("floodmark_plugin_").count(),
        metrics
            .matches("floodmark_plugin_good_records_total")
            .count()
            + metrics.matches("floodmark_plugin_l").count()
    );
    run.wait_for("the metric `x{job=\\\"words\\\"} 1\\nfloodmark_failures_total` is left out: ");
    let told = status(&job)["vertices"][1]["plugin-metrics"].clone();
    assert_eq!(told["counters"]["good_records"], 101);
    assert_eq!(told["gauges"]["last_length"]["sum"], 6.0);
    assert_eq!(told["histograms"]["length"]["count"], 101);
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn the_numbers_of_a_running_job_move() {
    let job = endless();
    let mut run = job.start(&["--listen", "127.0.0.1:0", "--parallelism", "2"]);
    let address = address(&mut run);
    run.wait_for("starts from the beginning");
    let (first, second) = metrics_twice(&job, &address);
    for series in [
        READ,
        r#"floodmark_worker_idle_seconds_total{job="words",worker="0"}"#,
        r#"floodmark_task_records_out_total{job="words",operator="counts",task="0"}"#,
        r#"floodmark_task_guest_seconds_total{job="words",operator="count",task="0"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="numbers",task="0",stage="source"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="numbers",task="0",stage="exchange"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="count",task="0",stage="lookup"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="count",task="0",stage="guest"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="count",task="0",stage="apply"}"#,
        r#"floodmark_task_stage_seconds_total{job="words",operator="counts",task="0",stage="sink"}"#,
        r#"floodmark_uptime_seconds{job="words"}"#,
    ] {
        assert!(sample(&second, series) > sample(&first, series), "{series}");
    }
    for (series, least) in [
        (r#"floodmark_checkpoints_completed_total{job="words"}"#, 2.0),
        (
            r#"floodmark_checkpoint_duration_seconds_count{job="words"}"#,
            2.0,
        ),
        (r#"floodmark_last_checkpoint_id{job="words"}"#, 2.0),
        (
            r#"floodmark_last_checkpoint_full_size_bytes{job="words"}"#,
            1.0,
        ),
        (
            r#"floodmark_task_state_entries{job="words",operator="count",task="0"}"#,
            1.0,
        ),
        (
            r#"floodmark_task_calls_total{job="words",operator="count",task="1"}"#,
            1.0,
        ),
        (r#"floodmark_job_state{job="words",state="running"}"#, 1.0),
    ] {
        assert!(sample(&second, series) >= least, "{series}");
    }
    let told = status(&job);
    assert_eq!(told["state"], "RUNNING");
    assert_eq!(told["checkpoints"]["counts"]["completed"], 2);
    let count = &told["vertices"][1];
    assert_eq!(
        (&count["name"], &count["parallelism"]),
        (&"count".into(), &2.into())
    );
    assert_eq!(count["plugin"]["digest"].as_str().unwrap().len(), 64);
    let number = |field: &str| count["metrics"][field].as_f64().unwrap();
    let rate = number("read-records-per-second");
    assert!((1_000.0..100_000.0).contains(&rate), "{rate}");
    let all = number("busy-share") + number("idle-share") + number("backpressured-share");
    assert!((0.99..1.01).contains(&all), "{all}");
    // Each worker is in one stage at a time.
    let vertices = told["vertices"].as_array().unwrap();
    let stages = vertices
        .iter()
        .flat_map(|vertex| vertex["stage-times"].as_object().unwrap());
    let in_stages: f64 = stages.map(|(_, time)| time.as_f64().unwrap()).sum();
    let time = 2.0 * told["duration"].as_f64().unwrap();
    assert!(0.0 < in_stages && in_stages <= time, "{in_stages} {time}");
    let calls = count["calls"].as_object().unwrap();
    let parts = ["guest-time", "copy-time", "host-time"].map(|part| calls[part].as_f64().unwrap());
    let later = status(&job)["vertices"][1]["stage-times"]["guest"].clone();
    assert!(parts.iter().sum::<f64>() <= later.as_f64().unwrap());
    let screen = job.command(&["status", "."]).succeeded().stdout;
    for words in [
        "job `words` is running, since ",
        "\ntime by stage  ",
        "\noperator `count` ",
        "  checkpoint   2 (asked for), ",
    ] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
}

#[test]
fn a_job_can_be_asked_by_its_socket_and_stopped_by_tcp() {
    let job = endless();
    let mut run = job.start(&["--listen", "127.0.0.1:0"]);
    let address = address(&mut run);
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let socket = UnixStream::connect(job.data_dir().join("control.sock")).unwrap();
    let known = talked(socket, "GET /v1/checkpoints HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(known.starts_with("HTTP/1.1 200 OK\r\n"), "{known}");
    assert!(known.contains("\"history\":[{"), "{known}");
    let wish = "{\"savepoint\":\"last\"}";
    let stop = format!(
        "POST /v1/stop HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{wish}",
        wish.len()
    );
    let stopped = talked(TcpStream::connect(&address).unwrap(), &stop);
    assert!(stopped.contains("\"id\":2"), "{stopped}");
    run.wait().succeeded().says("stopped: ");
    assert!(job.data_dir().join("savepoints/last").is_file());

    assert_eq!(status(&job)["state"], "NOT_RUNNING");
    assert_eq!(status(&job)["checkpoint"]["id"], 2);
    let screen = job.command(&["status", "."]).succeeded().stdout;
    let expected = "job `words` is not running\n  newest checkpoint  2, ";
    assert!(screen.starts_with(expected), "{screen}");
}

#[test]
fn a_token_is_needed_where_others_may_call() {
    let job = endless();
    let refused = |arguments: &[&str], words: &str| {
        let outcome = job.run(arguments);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        outcome.says(words);
    };
    refused(&["--listen", "0.0.0.0:0"], "so it needs a token");
    refused(&["--listen", "[::]:0"], "so it needs a token");
    refused(&["--listen", "here"], "is not an address");
    job.write("token", "short\n");
    let token = ["--listen", "127.0.0.1:0", "--listen-token-file", "token"];
    refused(&token, "needs at least 16");
    refused(
        &["--listen", ":0", "--listen-token-file", "none"],
        "cannot use the token of `none`",
    );
    assert!(!job.data_dir().join("checkpoints.redb").exists());

    job.write("token", "0123456789abcdef\n");
    let mut run = job.start(&token);
    let first = address(&mut run);
    assert!(got(&first, "/metrics", "").starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    let right = "authorization: Bearer 0123456789abcdef\r\n";
    assert!(got(&first, "/metrics", right).starts_with("HTTP/1.1 200 OK\r\n"));
    // A port is one job's; the other one changes nothing.
    let other = job.run(&["--listen", &first, "--data-dir", "other"]);
    assert_eq!(other.code, Some(4), "{}", other.stderr);
    other.says("cannot listen on `");
    // The command goes by the socket, which needs none.
    run.wait_for("starts from the beginning");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();

    let mut command = job::command();
    command
        .args(["run", "pipeline.toml", "--listen", "0.0.0.0:0"])
        .env("FLOODMARK_TOKEN", "0123456789abcdef");
    let mut run = job.spawn(command);
    let open = address(&mut run).replace("0.0.0.0", "127.0.0.1");
    assert!(got(&open, "/v1", "").starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    assert!(got(&open, "/v1", right).starts_with("HTTP/1.1 200 OK\r\n"));
    run.wait_for("resumes from checkpoint 1");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
}

#[test]
fn a_job_that_has_never_run_says_so() {
    let job = endless();
    let folder: PathBuf = job.data_dir();
    fs::create_dir_all(&folder).unwrap();
    let screen = job.command(&["status", "."]).succeeded().stdout;
    let expected = format!(
        "no job runs on the data folder `{}`, and it has no checkpoint\n",
        folder.canonicalize().unwrap().display()
    );
    assert_eq!(screen, expected);
}
