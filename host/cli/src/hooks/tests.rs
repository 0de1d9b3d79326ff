//! Catches a listener that blocks the job or another listener, is not notified, is notified twice, or fills the log; a
//! command that has ended and is reported as killed; child processes left behind, and passwords in the log.
#![expect(
    clippy::disallowed_methods,
    reason = "listeners are real processes, in real time"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Instant;

use super::*;

const SHORT: TimeLimits = TimeLimits {
    command: Duration::from_millis(300),
    request: Duration::from_millis(300),
    stop: Duration::from_millis(200),
};

fn event(checkpoint: u64) -> CheckpointEvent {
    CheckpointEvent {
        event: CheckpointOutcome::Completed,
        job: "a \"job\"".to_owned(),
        checkpoint,
        created_ms: 1000,
        trigger: "periodic".to_owned(),
        state_bytes: 12,
        duration_ms: 34,
        reason: None,
    }
}

const TOLD: &str = r#"{"event":"completed","job":"a \"job\"","checkpoint":7,"created-ms":1000,"trigger":"periodic","state-bytes":12,"duration-ms":34}"#;

type Warnings = Arc<Mutex<Vec<String>>>;

fn start(limits: TimeLimits, hooks: &[&str], folder: &Path) -> (Hooks, Warnings) {
    let warnings = Warnings::default();
    let told = Arc::clone(&warnings);
    let hooks = hooks.iter().map(|text| Hook::parse(text)).collect();
    let warn = move |line| told.lock().unwrap().push(line);
    (
        Hooks::start_within(limits, hooks, folder.to_owned(), warn),
        warnings,
    )
}

#[test]
fn texts_are_commands_or_addresses() {
    assert_eq!(Hook::parse("echo x"), Hook::Command("echo x".into()));
    assert_eq!(Hook::parse("HTTPS://a/b"), Hook::Url("HTTPS://a/b".into()));
    assert_eq!(Hook::parse("httpd"), Hook::Command("httpd".into()));
    for (url, shown) in [
        ("http://user:secret@host:1/a?b#c", "http://host:1/a?b#c"),
        ("https://token@host", "https://host"),
        ("https://a:b@c@host/x@y", "https://host/x@y"),
        ("HTTP://host/a@b", "HTTP://host/a@b"),
        ("http://a:\"b c'@host", "http://host"),
        (
            "curl -d @- 'https://a:b@host/x@y' ftp://c@d && mail e@f",
            "curl -d @- 'https://host/x@y' ftp://d && mail e@f",
        ),
    ] {
        assert_eq!(Hook::parse(url).to_string(), shown);
    }
}

#[test]
fn a_command_reads_each_event_in_the_folder_of_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let (hooks, warnings) = start(LIMITS, &["cat >> told"], folder.path());
    let failed = CheckpointEvent {
        event: CheckpointOutcome::Failed,
        reason: Some("disk full".to_owned()),
        ..event(8)
    };
    hooks.tell(event(7));
    hooks.tell(failed);
    drop(hooks);
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    let failed = TOLD.replace("completed", "failed").replace(":7,", ":8,");
    let failed = failed.replace("34}", "34,\"reason\":\"disk full\"}");
    assert_eq!(told, format!("{TOLD}\n{failed}\n"));
    assert!(warnings.lock().unwrap().is_empty());
}

#[test]
fn failures_are_told_once_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (hooks, warnings) = start(LIMITS, &["exit 3", "true"], folder.path());
    for id in 1..=5 {
        hooks.tell(event(id));
    }
    drop(hooks);
    let warnings = warnings.lock().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("`exit 3` of checkpoint 1: it ended with exit status: 3"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("of 5 checkpoints"), "{warnings:?}");
}

#[test]
fn a_hanging_command_does_not_delay_the_job_and_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let line = "sleep 2 && touch survived & sleep 60";
    let (hooks, warnings) = start(SHORT, &[line], folder.path());
    let begin = Instant::now();
    for id in 0..1000 {
        hooks.tell(event(id));
    }
    assert!(
        begin.elapsed() < Duration::from_millis(200),
        "telling waits"
    );
    std::thread::sleep(Duration::from_millis(500));
    drop(hooks);
    assert!(begin.elapsed() < Duration::from_secs(2), "stopping waits");
    let warnings = warnings.lock().unwrap();
    assert!(
        warnings[0].contains("it was killed after 0.3 s"),
        "{warnings:?}"
    );
    let lost = warnings.last().unwrap();
    assert!(lost.contains("were not reported"), "{warnings:?}");
    std::thread::sleep(Duration::from_millis(2100).saturating_sub(begin.elapsed()));
    assert!(!folder.path().join("survived").exists());
}

#[test]
fn a_hanging_listener_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    // Nothing that hangs is ended before the job ends.
    let limits = TimeLimits {
        stop: Duration::from_millis(200),
        command: Duration::from_secs(600),
        request: Duration::from_secs(600),
    };
    let (hooks, warnings) = start(limits, &["sleep 600", &url, "cat >> told"], folder.path());
    let begin = Instant::now();
    hooks.tell(event(7));
    hooks.tell(event(8));
    let expected = format!("{TOLD}\n{}\n", TOLD.replace(":7,", ":8,"));
    let told = || std::fs::read_to_string(folder.path().join("told")).unwrap_or_default();
    while told() != expected {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", told());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(hooks);
    let warnings = warnings.lock().unwrap();
    let is_of_last = |line: &&String| line.contains("cat >> told");
    assert_eq!(warnings.iter().find(is_of_last), None, "{warnings:?}");
    let ended = warnings
        .iter()
        .any(|line| line.contains("`sleep 600` of checkpoint 7: it was killed when the job ended"));
    assert!(ended, "{warnings:?}");
}

#[test]
fn a_command_that_has_ended_is_not_reported_as_killed() {
    let check = |line: &str, expected: Result<(), &str>| {
        let mut child = Command::new("sh")
            .args(["-c", line])
            .process_group(0)
            .spawn()
            .unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        // It has ended, and this process does not know yet.
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let end = killed(&mut child, "it was killed".to_owned());
        assert_eq!(end, expected.map_err(str::to_owned), "{line}");
    };
    check("true", Ok(()));
    check("exit 3", Err("it ended with exit status: 3"));
}

#[test]
fn a_command_does_not_get_the_token() {
    // Variables of a process can only be set when it starts.
    let program = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let asked = |passed: &str| {
        let told = folder.path().join("told");
        let status = Command::new(&program)
            .args(["--exact", "hooks::tests::environment_of_a_command"])
            .env("FLOODMARK_TEST_HOOK", &told)
            .env("FLOODMARK_TOKEN", "0123456789abcdef")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("FLOODMARK_PASS_ENV", passed)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read_to_string(told).unwrap()
    };
    assert_eq!(asked(""), "-\n");
    assert_eq!(asked("AWS_SECRET_ACCESS_KEY"), "-secret\n");
}

/// Is run by the test above, in a process of its own.
#[test]
fn environment_of_a_command() {
    let Some(told) = std::env::var_os("FLOODMARK_TEST_HOOK") else {
        return;
    };
    let told = Path::new(&told);
    let line = "echo \"$FLOODMARK_TOKEN-$AWS_SECRET_ACCESS_KEY\" > told";
    let (hooks, warnings) = start(LIMITS, &[line], told.parent().unwrap());
    hooks.tell(event(7));
    drop(hooks);
    assert!(warnings.lock().unwrap().is_empty());
}

#[test]
fn a_full_queue_drops_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let (hooks, warnings) = start(LIMITS, &["sleep 0.3; cat >> told"], folder.path());
    hooks.tell(event(0));
    std::thread::sleep(Duration::from_millis(100));
    for id in 1..=QUEUED_MAX as u64 + 5 {
        hooks.tell(event(id));
    }
    let queue = &hooks.deliveries[0].queue;
    let state = queue.state();
    assert_eq!((state.events.len(), state.dropped), (QUEUED_MAX, 5));
    assert_eq!(state.events[0].checkpoint, 6);
    drop(state);
    queue.state().events.clear();
    drop(hooks);
    assert!(warnings.lock().unwrap()[0].contains("5 of them"));
}

/// Answers requests on loopback, one at a time, and sends what was posted to the receiver.
fn listen(status: &'static str) -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let (sender, posted) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap() == 0 {
                    return;
                }
            }
            let lower = head.to_ascii_lowercase();
            let len = lower.split("content-length: ").nth(1).unwrap();
            let len: usize = len.lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; len];
            reader.read_exact(&mut body).unwrap();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
            let _ = sender.send((lower, String::from_utf8(body).unwrap()));
        }
    });
    (url, posted)
}

#[test]
fn an_address_is_posted_each_event() {
    let (url, posted) = listen("204 No Content");
    let (hooks, warnings) = start(LIMITS, &[&url], Path::new("."));
    hooks.tell(event(7));
    drop(hooks);
    let (head, body) = posted.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(head.starts_with("post /hook?a=b http/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, format!("{TOLD}\n"));
    assert!(warnings.lock().unwrap().is_empty(), "{warnings:?}");
}

#[test]
fn an_address_that_refuses_or_is_not_there_is_told() {
    let (url, _posted) = listen("500 Internal Server Error");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let (hooks, warnings) = start(LIMITS, &[&url, &refusing, "http://"], Path::new("."));
    hooks.tell(event(7));
    drop(hooks);
    let mut warnings = warnings.lock().unwrap();
    warnings.sort_by_key(|line| line.contains("it answered with 500"));
    let last = warnings.pop().unwrap();
    assert!(last.contains("it answered with 500"), "{last}");
    assert!(
        warnings.iter().any(|line| line.contains(&refusing)),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn an_address_that_never_answers_does_not_delay_the_job() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let begin = Instant::now();
    let (hooks, warnings) = start(SHORT, &[&url], Path::new("."));
    for id in 0..10 {
        hooks.tell(event(id));
    }
    drop(hooks);
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(!warnings.lock().unwrap().is_empty());
}
