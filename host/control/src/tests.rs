//! Catches an invalid or forbidden call that reaches the job, a client that blocks the job or other clients, a page of
//! another site that is accepted, a socket that other users can open, one that cannot be reached in a deep folder, and a client
//! that is taken for another.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::address::Listen;
use super::job::{JobSide, SavepointError, Savepoints};
use super::*;
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::drive::Inputs;
use floodmark_engine::job::{Input, Request};
use floodmark_engine::observe::Observer;
use floodmark_state::stream::CheckpointId;

const TOKEN: &str = "0123456789abcdef";

/// A job that does not run: requests stay in the inbox.
struct Started {
    folder: TempDir,
    address: SocketAddr,
    inbox: Option<mpsc::Receiver<Input>>,
    stopped_with_savepoint: Arc<AtomicBool>,
    serving: Option<Serving>,
}

fn started(token: Option<&str>) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let listen = Listen::new("127.0.0.1:0", None, token.map(str::to_owned)).unwrap();
    started_in(folder, listen, "")
}

fn started_in(folder: TempDir, listen: Listen, below: &str) -> Started {
    let (inputs, inbox) = Inputs::channel();
    let savepoints: Savepoints = Arc::new(|id, path| match path.ends_with("bad") {
        true => Err(SavepointError::JobOver),
        false => {
            std::fs::write(path, id.to_string()).unwrap();
            Ok(())
        }
    });
    let stopped_with_savepoint = Arc::new(AtomicBool::new(false));
    let at = folder.path().join(below);
    let side = JobSide {
        inputs,
        observer: Arc::new(Observer::new("words", 1, 128, Vec::new(), 0)),
        clock: Clock::start(),
        savepoints,
        folder: at.clone(),
        stopped_with_savepoint: Arc::clone(&stopped_with_savepoint),
    };
    let mut doors = Doors::default();
    let address = doors.on_tcp(&listen).unwrap();
    doors.on_socket(&at).unwrap();
    Started {
        folder,
        address,
        inbox: Some(inbox),
        stopped_with_savepoint,
        serving: Some(doors.open(job::routes(&side)).unwrap()),
    }
}

impl Started {
    /// A job that answers each request with its `id`-th checkpoint, and ends without an answer when it is drained.
    #[expect(clippy::disallowed_methods, reason = "the other side of a connection")]
    fn answering(&mut self, id: u64) -> JoinHandle<Vec<String>> {
        let inbox = self.inbox.take().unwrap();
        std::thread::spawn(move || {
            let mut heard = Vec::new();
            for input in inbox {
                match input {
                    Input::Request(Request::Checkpoint(caller)) => {
                        heard.push("checkpoint".to_owned());
                        caller.answer(Ok(CheckpointId(id)));
                    }
                    Input::Request(Request::Stop { drain, caller }) => {
                        heard.push(format!("stop, drain {drain}"));
                        if drain {
                            return heard;
                        }
                        caller.unwrap().answer(Ok(CheckpointId(id)));
                    }
                    other => panic!("{other:?}"),
                }
            }
            heard
        })
    }

    fn has_heard_nothing(&self) {
        assert!(self.inbox.as_ref().unwrap().try_recv().is_err());
    }

    fn ask(&self, path: &str, body: Option<Value>) -> Result<Value, AskError> {
        ask(self.folder.path(), path, body.as_ref())
    }

    /// The answer on TCP to exactly these bytes; empty if the connection is closed.
    fn said(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // The server may answer, and stop reading, before all bytes are sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// Asserts that this is refused, with JSON.
    #[track_caller]
    fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16, code: &str) {
        let answer = self.said(bytes.as_ref());
        let sent = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(200)]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{sent}\n{answer}"
        );
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], code, "{sent}\n{answer}");
        assert!(body["error"]["message"].is_string());
    }
}

fn post(path: &str, body: &str) -> String {
    with("POST", path, "content-type: application/json\r\n", body)
}

/// A request for TCP with additional headers.
fn with(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn calls_reach_the_job_and_answers_come_back() {
    let mut started = started(None);
    let job = started.answering(7);
    let folder = started.folder.path().to_owned();
    let mode = std::fs::metadata(folder.join(FILE_NAME)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    let taken = started.ask("/v1/checkpoints", Some(json!({}))).unwrap();
    let expected = json!({ "id": 7, "status": "COMPLETED", "savepoint": null });
    assert_eq!(taken, expected);
    let by_tcp = started.said(post("/v1/checkpoints", "").as_bytes());
    assert!(by_tcp.ends_with(&expected.to_string()), "{by_tcp}");

    let to = folder.join("savepoint");
    let wish = json!({ "savepoint": to });
    started.ask("/v1/checkpoints", Some(wish)).unwrap();
    assert_eq!(std::fs::read_to_string(to).unwrap(), "7");
    // Over TCP a client gives a name, and the job chooses the folder.
    let named = started.said(post("/v1/stop", r#"{"savepoint":"a.b-1"}"#).as_bytes());
    assert!(named.starts_with("HTTP/1.1 200 OK\r\n"), "{named}");
    let kept = std::fs::read_to_string(folder.join("savepoints/a.b-1"));
    assert_eq!(kept.unwrap(), "7");
    assert!(started.stopped_with_savepoint.load(Ordering::Relaxed));

    let wish = json!({ "savepoint": folder.join("bad") });
    let refused = started.ask("/v1/checkpoints", Some(wish)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "checkpoint 7 was taken, but the savepoint was not written: the job is over"
    );
    let ended = started.ask("/v1/stop", Some(json!({ "drain": true })));
    let ended = ended.unwrap_err().to_string();
    assert!(ended.starts_with("the job ended before"), "{ended}");
    started.serving.take().unwrap().finish();
    let checkpoint = "checkpoint".to_owned();
    let mut expected = vec![checkpoint; 3];
    expected.extend(["stop, drain false", "checkpoint", "stop, drain true"].map(str::to_owned));
    assert_eq!(job.join().unwrap(), expected);
    let error = started.ask("/v1/status", None).unwrap_err();
    assert!(matches!(error, AskError::NotRunning { .. }), "{error}");
}

#[test]
fn a_client_sees_the_job() {
    let started = started(None);
    assert_eq!(started.ask("/v1/status", None).unwrap()["name"], "words");
    let known = started.ask("/v1/checkpoints", None).unwrap();
    assert_eq!(known["counts"]["completed"], 0);
    let there = started.ask("/v1", None).unwrap();
    assert_eq!(there["routes"][0]["path"], "/v1/status");
    let metrics = started.said(with("GET", "/metrics", "", "").as_bytes());
    assert!(metrics.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(metrics.contains("\n# TYPE floodmark_uptime_seconds gauge\n"));
    let head = started.said(with("HEAD", "/metrics", "", "").as_bytes());
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn what_is_no_call_changes_nothing_and_is_answered() {
    let started = started(None);
    let bad = |bytes: &str| started.refuses(bytes, 400, "no-http");
    bad("\r\n\r\nhello\r\n\r\n");
    bad("GET / HTTP/9.9\r\n\r\n");
    bad("GET /v1/status HTTP/1.1\r\nhost: localhost\r\n");
    bad("POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n");
    bad(
        "POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    );
    bad("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}");
    bad("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(started.said(b""), "");

    let long = "x".repeat(20_000);
    started.refuses(
        with("GET", "/v1", &format!("a: {long}\r\n"), ""),
        431,
        "too-large",
    );
    started.refuses(
        with("GET", "/v1", &"a: b\r\n".repeat(100), ""),
        431,
        "too-large",
    );
    started.refuses(vec![b'A'; 1 << 20], 431, "too-large");

    started.refuses(post("/v1/stop", &" ".repeat(70_000)), 413, "too-large");
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let chunked = format!("POST /v1/stop HTTP/1.1\r\nhost: localhost\r\n{chunked}\r\n");
    started.refuses(format!("{chunked}{}", chunk.repeat(5)), 413, "too-large");
    started.refuses(format!("{chunked}4000\r\nhalf"), 400, "bad-request");
    let half = post("/v1/stop", "{}").replace("length: 2", "length: 20");
    started.refuses(half, 400, "bad-request");
    for body in [
        "[]",
        "7",
        "{",
        "{}{}",
        "{\"now\":true}",
        "{\"drain\":7}",
        "{\"drain\":true,\"drain\":true}",
        &"[".repeat(4000),
        "\u{0}",
    ] {
        started.refuses(post("/v1/stop", body), 400, "bad-request");
    }
    started.has_heard_nothing();
}

#[test]
fn there_is_nothing_but_what_there_is() {
    let started = started(None);
    for path in [
        "/",
        "/v1/",
        "/v1/stop/",
        "/v1/explode",
        "/V1/STATUS",
        "/v1/../etc/passwd",
        "/v1/%2e%2e/stop",
        "//v1/stop",
        "*",
    ] {
        started.refuses(post(path, "{}"), 404, "unknown-route");
    }
    started.refuses(with("GET", "/v1/stop", "", ""), 405, "wrong-method");
    started.refuses(
        with("DELETE", "/v1/checkpoints", "", ""),
        405,
        "wrong-method",
    );
    started.refuses(with("OPTIONS", "/v1/stop", "", ""), 405, "wrong-method");
    started.refuses(post("/metrics", "{}"), 405, "wrong-method");
    let answer = started.said(post("/nothing", "{}").as_bytes());
    assert!(answer.contains("POST /v1/stop"), "{answer}");
    for savepoint in [
        "../x",
        "/tmp/x",
        "a/b",
        "..",
        ".x",
        "",
        "a\\u0000b",
        &"x".repeat(129),
    ] {
        let wish = format!("{{\"savepoint\":\"{savepoint}\"}}");
        started.refuses(post("/v1/checkpoints", &wish), 400, "bad-savepoint");
    }
    // Clients of the socket may give a path, but not one that depends on where the job was started.
    let relative = started.ask("/v1/stop", Some(json!({ "savepoint": "a/b" })));
    let relative = relative.unwrap_err().to_string();
    assert!(relative.contains("an absolute path"), "{relative}");
    started.has_heard_nothing();
}

#[test]
fn pages_of_other_sites_are_not_let_in() {
    let mut started = started(None);
    let send = |headers: &str| {
        let content = "content-type: application/json\r\ncontent-length: 2\r\n";
        format!("POST /v1/checkpoints HTTP/1.1\r\n{headers}{content}\r\n{{}}")
    };
    let port = started.address.port();
    for (headers, status) in [
        // A host name whose owner resolves it to this machine.
        ("host: example.org\r\n".to_owned(), 403),
        (format!("host: example.org:{port}\r\n"), 403),
        ("host: localhost.example.org\r\n".to_owned(), 403),
        ("host: 127.0.0.1.example.org\r\n".to_owned(), 403),
        ("host: \r\n".to_owned(), 403),
        (String::new(), 400),
        ("host: localhost\r\nhost: localhost\r\n".to_owned(), 400),
        (
            "host: localhost\r\norigin: https://example.org\r\n".to_owned(),
            403,
        ),
        (
            "host: localhost:1\r\norigin: http://localhost:2\r\n".to_owned(),
            403,
        ),
        ("host: localhost\r\norigin: null\r\n".to_owned(), 403),
        (
            "host: localhost\r\nsec-fetch-site: cross-site\r\n".to_owned(),
            403,
        ),
        (
            "host: localhost\r\nsec-fetch-site: same-site\r\n".to_owned(),
            403,
        ),
    ] {
        let code = if status == 400 {
            "bad-request"
        } else {
            "foreign-site"
        };
        started.refuses(send(&headers), status, code);
    }
    let elsewhere = post("http://example.org/v1/checkpoints", "{}");
    started.refuses(elsewhere, 403, "foreign-site");
    // A web form can send these without asking for permission first.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
    ] {
        let kind = format!("content-type: {kind}\r\n");
        started.refuses(
            with("POST", "/v1/stop", &kind, "{}"),
            415,
            "wrong-content-type",
        );
    }
    started.refuses(
        with("POST", "/v1/stop", "", "{}"),
        415,
        "wrong-content-type",
    );
    started.has_heard_nothing();

    let job = started.answering(1);
    for headers in [
        format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n"),
        format!("host: [::1]:{port}\r\nsec-fetch-site: same-origin\r\n"),
        "host: 127.0.0.1\r\n".to_owned(),
    ] {
        let answer = started.said(send(&headers).as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{headers}{answer}"
        );
    }
    drop(started.serving);
    drop(job);
}

#[test]
fn who_does_not_know_the_token_is_not_let_in_by_tcp() {
    let mut started = started(Some(TOKEN));
    let send = |token: &str| with("GET", "/v1/status", token, "");
    started.refuses(send(""), 401, "no-token");
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcde",
        "Bearer 0123456789abcdef0",
        "Basic 0123456789abcdef",
        "0123456789abcdef",
    ] {
        let header = format!("authorization: {wrong}\r\n");
        started.refuses(send(&header), 401, "wrong-token");
    }
    let twice = format!("authorization: Bearer x\r\nauthorization: Bearer {TOKEN}\r\n");
    started.refuses(send(&twice), 401, "no-token");
    started.refuses(post("/v1/stop", "{}"), 401, "no-token");
    started.refuses(with("GET", "/nothing", "", ""), 401, "no-token");
    started.has_heard_nothing();
    let header = format!("host: job.example.org\r\nauthorization: bearer  {TOKEN}\r\n\r\n");
    let right = started.said(format!("GET /v1/status HTTP/1.1\r\n{header}").as_bytes());
    assert!(right.starts_with("HTTP/1.1 200 OK\r\n"), "{right}");
    // The file's mode says who may use the socket.
    started.ask("/v1/status", None).unwrap();
    started.serving.take().unwrap().finish();
}

#[test]
fn silent_clients_do_not_block_others() {
    let started = started(None);
    let silent: Vec<_> = (0..32)
        .map(|_| TcpStream::connect(started.address).unwrap())
        .collect();
    let begun = Clock::start();
    started.refuses(with("GET", "/v1/status", "", ""), 503, "busy");
    // The socket has limits of its own.
    started.ask("/v1/status", None).unwrap();
    let mut more: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(started.address).unwrap())
        .collect();
    drop(silent);
    // The places of clients that left are free in a moment.
    let answer = std::iter::repeat_with(|| started.said(with("GET", "/v1", "", "").as_bytes()));
    let answer = answer
        .take(1000)
        .find(|answer| answer.starts_with("HTTP/1.1 200"));
    assert!(answer.is_some());
    assert!(begun.now() < std::time::Duration::from_secs(4));
    more.clear();
    started.has_heard_nothing();
}

#[test]
fn those_who_are_slow_are_told_in_the_end() {
    let started = started(None);
    let send = |bytes: &str| {
        let mut stream = TcpStream::connect(started.address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let body = post("/v1/stop", "{}").replace("length: 2", "length: 20");
    // At once, since each waits for the limit.
    let slow = [send(""), send("GET /v1/sta"), send(&body)];
    for (mut stream, code) in slow.into_iter().zip(["too-slow"; 3]) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        assert!(answer.contains(code), "{answer}");
    }
    started.has_heard_nothing();
}

#[test]
fn those_who_go_away_leave_nothing_behind_and_a_stop_is_always_heard() {
    let started = started(None);
    let inbox = started.inbox.as_ref().unwrap();
    let asked = |count: usize| -> Vec<Input> {
        (0..count)
            .map(|_| {
                inbox
                    .recv_timeout(std::time::Duration::from_secs(5))
                    .unwrap()
            })
            .collect()
    };
    let send = |path: &str| {
        let mut stream = TcpStream::connect(started.address).unwrap();
        stream.write_all(post(path, "{}").as_bytes()).unwrap();
        stream
    };
    let waiting: Vec<_> = (0..16).map(|_| send("/v1/checkpoints")).collect();
    let requests = asked(16);
    started.refuses(post("/v1/checkpoints", "{}"), 503, "busy");
    drop(waiting);
    let mut stopping = send("/v1/stop");
    let stop = asked(1).pop().unwrap();
    for request in requests {
        let Input::Request(Request::Checkpoint(caller)) = request else {
            panic!("{request:?}");
        };
        caller.answer(Ok(CheckpointId(4)));
    }
    let Input::Request(Request::Stop { caller, .. }) = stop else {
        panic!("{stop:?}");
    };
    caller.unwrap().answer(Ok(CheckpointId(5)));
    let mut answer = String::new();
    stopping.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"id\":5"), "{answer}");
    started.serving.unwrap().finish();
}

#[test]
fn a_client_that_goes_is_known_by_the_number_of_its_call() {
    let (begun, numbers) = mpsc::channel();
    let (left, gone) = mpsc::channel();
    // Both calls wait until the test is over.
    let over = Arc::new(Barrier::new(3));
    let waiting = Arc::clone(&over);
    let route = routes::Route {
        method: routes::Method::Post,
        path: "/v1/wait",
        about: "waits",
        pace: routes::HandlerPace::Waits,
        gone: Some(Arc::new(move |number| left.send(number).unwrap())),
        handler: Arc::new(move |call| {
            begun.send(call.number).unwrap();
            waiting.wait();
            Ok(routes::HttpReply::Json(json!({})))
        }),
    };
    let folder = tempfile::tempdir().unwrap();
    let mut doors = Doors::default();
    doors.on_socket(folder.path()).unwrap();
    let serving = doors.open(routes::Routes::default().with(route)).unwrap();
    let call = || {
        let mut stream = UnixStream::connect(folder.path().join(FILE_NAME)).unwrap();
        stream.write_all(post("/v1/wait", "{}").as_bytes()).unwrap();
        (stream, numbers.recv().unwrap())
    };
    let (mut stays, first) = call();
    let (goes, second) = call();
    assert_ne!(first, second);
    drop(goes);
    assert_eq!(gone.recv(), Ok(second));
    over.wait();
    let mut answer = String::new();
    stays.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(gone.try_recv().is_err());
    serving.finish();
}

#[test]
fn a_deep_folder_and_a_socket_that_was_left_behind() {
    let outer = tempfile::tempdir().unwrap();
    let below = "d".repeat(150);
    let folder = outer.path().join(&below);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(FILE_NAME), "left behind").unwrap();
    let listen = Listen::new(":0", None, None).unwrap();
    let _started = started_in(outer, listen, &below);
    assert_eq!(ask(&folder, "/v1/status", None).unwrap()["name"], "words");
    let mut plain = reach(&folder, FILE_NAME, |path| UnixStream::connect(path)).unwrap();
    plain
        .write_all(b"GET /v1 HTTP/1.1\r\nhost: any\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Catches a command that waits without end for a job which takes no calls, since it is suspended.
#[test]
fn a_job_that_takes_no_calls_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let _listening = {
        let _entered = runtime.enter();
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        socket.listen(0).unwrap()
    };
    let _waiting = UnixStream::connect(&path).unwrap();
    let error = ask(folder.path(), "/v1/status", None).unwrap_err();
    assert!(matches!(error, AskError::Slow { .. }), "{error}");
    let words = "has not answered for 5 seconds; its process may be suspended";
    assert!(error.to_string().contains(words), "{error}");
}
