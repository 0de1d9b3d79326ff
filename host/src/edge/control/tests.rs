//! Catches a request that reaches the job though it is none, a client that holds the job or others up, a socket that others
//! may use, and one that cannot be reached in a deep folder.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, mpsc};

use super::changes::Rollbacks;
use super::*;
use crate::runtime::report::Report;

fn started(folder: &Path) -> (Listening, mpsc::Receiver<Report>) {
    let (reports, inbox) = mpsc::channel();
    let savepoints: Savepoints = Arc::new(|id, path| match path.ends_with("bad") {
        true => Err("the disk is full".to_owned()),
        false => std::fs::write(path, id.to_string()).map_err(|error| error.to_string()),
    });
    (
        listen(folder, reports, savepoints, rollbacks).unwrap(),
        inbox,
    )
}

/// A job that has its `id`-th checkpoint for whoever asks, and none for whoever stops it.
#[expect(clippy::disallowed_methods, reason = "the other side of a socket")]
fn answering(inbox: mpsc::Receiver<Report>, id: u64) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        for report in inbox {
            match report {
                Report::CheckpointAsked(asker) => {
                    heard.push("checkpoint".to_owned());
                    asker.answer(Ok(CheckpointId(id)));
                }
                Report::StopAsked { drain, asker } => {
                    heard.push(format!("stop, drain {drain}"));
                    drop(asker);
                    return heard;
                }
                other => panic!("{other:?}"),
            }
        }
        heard
    })
}

fn stop(drain: bool) -> Request {
    Request::Stop {
        drain,
        savepoint: None,
    }
}

fn checkpoint(savepoint: Option<PathBuf>) -> Request {
    Request::Checkpoint { savepoint }
}

/// What is answered to these bytes; nothing if the connection is closed.
fn said(folder: &Path, bytes: &[u8]) -> String {
    let mut stream = reach(folder, |path| UnixStream::connect(path)).unwrap();
    // One that is dropped already takes no more bytes.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn requests_reach_the_job_and_answers_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (listening, inbox) = started(folder.path());
    let job = answering(inbox, 7);
    let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        said(folder.path(), b"{\"do\":\"checkpoint\"}\n"),
        "{\"checkpoint\":7}\n"
    );
    let to = folder.path().join("savepoint");
    let id = ask(folder.path(), &checkpoint(Some(to.clone()))).unwrap();
    assert_eq!(id, CheckpointId(7));
    assert_eq!(std::fs::read_to_string(to).unwrap(), "7");
    for (savepoint, expected) in [
        (
            folder.path().join("bad"),
            "checkpoint 7 is there, but not the savepoint: the disk is full",
        ),
        (
            PathBuf::from("x"),
            "the path of a savepoint has to be absolute",
        ),
    ] {
        let refused = ask(folder.path(), &checkpoint(Some(savepoint)));
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
    let ended = ask(folder.path(), &stop(true)).unwrap_err().to_string();
    assert!(ended.starts_with("the job ended before"), "{ended}");
    assert!(!listening.finish());
    let heard = job.join().unwrap();
    assert_eq!(
        heard,
        ["checkpoint", "checkpoint", "checkpoint", "stop, drain true"]
    );
    let nobody = ask(folder.path(), &stop(false)).unwrap_err();
    assert!(matches!(nobody, AskError::NotRunning { .. }), "{nobody}");
}

#[test]
fn what_is_no_request_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_listening, inbox) = started(folder.path());
    let mut hostile: Vec<Vec<u8>> = [
        "",
        "\n",
        "{}\n",
        "[]\n",
        "{\"do\":\"explode\"}\n",
        "{\"do\":\"stop\",\"now\":true}\n",
        "{\"do\":\"stop\",\"drain\":7}\n",
        "{\"do\":\"stop\"",
        "{\"do\":\"checkpoint\"}{\"do\":\"checkpoint\"}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    hostile.push(vec![b'['; 4000]);
    hostile.push([vec![b'['; 4000], b"\n".to_vec()].concat());
    hostile.push(vec![0xff; 1 << 20]);
    for bytes in hostile {
        let answer = said(folder.path(), &bytes);
        let is_refusal = answer.starts_with("{\"error\":\"this is no request: ");
        assert!(is_refusal || answer.is_empty(), "{answer}");
    }
    assert!(inbox.try_recv().is_err());
}

#[test]
fn those_who_say_nothing_hold_nobody_up_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let (listening, inbox) = started(folder.path());
    let connect = || reach(folder.path(), |path| UnixStream::connect(path)).unwrap();
    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    // Eight wait to be heard, the others were closed.
    let unheard = ask(folder.path(), &checkpoint(None)).unwrap_err();
    assert!(
        matches!(unheard, AskError::Silent { .. } | AskError::Io { .. }),
        "{unheard}"
    );
    assert!(inbox.try_recv().is_err());
    drop(silent);
    let job = answering(inbox, 3);
    // The places of those who left are free in a moment.
    let id = (0..1000).find_map(|_| ask(folder.path(), &checkpoint(None)).ok());
    assert_eq!(id, Some(CheckpointId(3)));
    assert!(!listening.finish());
    drop(job);
}

#[test]
fn a_deep_folder_and_a_socket_that_was_left_behind() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("d".repeat(150));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(FILE_NAME), "left behind").unwrap();
    let (_listening, inbox) = started(&folder);
    let _job = answering(inbox, 9);
    assert_eq!(ask(&folder, &checkpoint(None)).unwrap(), CheckpointId(9));
}
