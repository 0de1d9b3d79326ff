//! Catches a half checkpoint, a lost one, and a job that cannot continue, on a real server for S3 that is killed and started
//! again in the middle of checkpoints; and a recovery that needs anything but the bucket.
//!
//! The server is gofakes3, installed with Go into the target folder; a machine without Go skips these tests, and says so.
//! Writers and readers are processes of their own, since credentials come from the environment: this test starts itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use floodmark_checkpoint::object::{ObjectSettings, ObjectStorage, open_reader};
use floodmark_checkpoint::{
    Checkpoint, CheckpointStorage, Compression, Depth, NewCheckpoint, OperatorSnapshot,
    PluginDigest, Scale, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{CheckpointId, KeyGroupRange, MaxParallelism};
use floodmark_state::{Chunk, ChunkId};
use floodmark_testing::from_hex;

const SERVER: &str = "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0";
const URL: &str = "s3://ckpt/jobs/words";
const ROLE: &str = "FLOODMARK_TEST_S3_ROLE";

/// The server's command; none when there is no Go to install it with.
fn server() -> Option<&'static Path> {
    static INSTALLED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_floodmark"))
            .ancestors()
            .nth(2)
            .unwrap();
        let folder = target.join("gofakes3");
        let command = folder.join("gofakes3");
        if command.exists() {
            return Some(command);
        }
        std::fs::create_dir_all(&folder).unwrap();
        let installed = Command::new("go")
            .args(["install", SERVER])
            .env("GOBIN", &folder)
            .status();
        match installed {
            Err(_) => None,
            Ok(status) => {
                assert!(status.success(), "`go install {SERVER}` failed");
                Some(command)
            }
        }
    });
    let command = INSTALLED.as_deref();
    if command.is_none() {
        let mut stderr = std::io::stderr();
        let _ = writeln!(
            stderr,
            "SKIPPED: s3 tests need Go to install gofakes3, and there is no `go`"
        );
    }
    command
}

/// A server on a port of its own, whose bucket survives it.
struct Server {
    command: &'static Path,
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    fn start(command: &'static Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            command,
            folder,
            port,
            child: None,
        };
        server.up();
        server
    }

    fn up(&mut self) {
        let child = Command::new(self.command)
            .args(["-host", &format!("127.0.0.1:{}", self.port)])
            // In one file with transactions: an object that was half written when it died is not there, as in S3.
            .args(["-backend", "bolt", "-initialbucket", "ckpt", "-quiet"])
            .arg("-bolt.db")
            .arg(self.folder.path().join("objects"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Of all objects.
    fn names(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET /ckpt?list-type=2 HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let names = answer.split("<Key>").skip(1);
        names
            .map(|name| name.split("</Key>").next().unwrap().to_owned())
            .collect()
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// This test again, as another process with credentials for the server.
    fn process(&self, role: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "s3::as_another_process",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ALLOW_HTTP", "true")
            .env(
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness prints before and after, also on the first line.
                if let Some((_, said)) = line.split_once("S3: ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Process {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    fn ask(&mut self, question: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{question}").unwrap();
    }

    fn answer(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(100)).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Plugin = (PluginDigest, Arc<[u8]>);

/// A checkpoint whose bytes follow from its id: 24 chunks, of which eight are new, and eight went.
fn checkpoint(id: u64) -> (Checkpoint, Vec<Arc<Chunk>>, Plugin) {
    let chunk = |number: u64| {
        let bytes = (0..60_000_u64).map(|at| (number.wrapping_mul(at | 1) >> 3) as u8);
        Arc::new(Chunk {
            id: ChunkId(number),
            bytes: bytes.collect(),
        })
    };
    let chunks: Vec<_> = (id * 8..id * 8 + 24).map(chunk).collect();
    let task = TaskSnapshot {
        key_groups: KeyGroupRange(0..128),
        chunks: chunks.iter().map(|chunk| Chunk::as_ref(chunk)).collect(),
        collided: Vec::new(),
    };
    // SHA-256 of nothing.
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let plugin = PluginDigest(from_hex(digest).try_into().unwrap());
    let operator = OperatorSnapshot {
        name: "count".into(),
        plugin,
        config: Vec::new(),
        replaces: None,
        states: Vec::new(),
        tasks: vec![task],
    };
    let checkpoint = Checkpoint {
        id: CheckpointId(id),
        created_ms: id,
        trigger: Trigger::Periodic,
        job: "words".into(),
        data_folder: String::new(),
        identity: "words".into(),
        scale: Scale::configured(1, MaxParallelism::DEFAULT),
        records_in: 0,
        records_out: 0,
        sources: Vec::new(),
        operators: vec![operator],
        sinks: Vec::new(),
    };
    (checkpoint, chunks, (plugin, Arc::from([])))
}

#[expect(clippy::print_stdout, reason = "the parent process reads it")]
fn say(line: &str) {
    println!("\nS3: {line}");
}

/// What the other process does; nothing when the tests are run as such.
#[test]
fn as_another_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let settings = ObjectSettings {
        compression: Compression::Lz4,
        give_up_after: Duration::from_secs(if role == "impatient" { 1 } else { 20 }),
    };
    if role == "look" {
        let reader = open_reader(URL, settings).unwrap();
        let report = reader.verify(None).unwrap();
        assert!(report.is_sound(), "{report:?}");
        say(&format!(
            "{:?}",
            report
                .checkpoints
                .iter()
                .map(|found| found.id.0)
                .collect::<Vec<_>>()
        ));
        return;
    }
    let mut storage = ObjectStorage::open(URL, settings).unwrap();
    let recovery = storage.recover(Depth::Thorough, None).unwrap();
    let restored = recovery.restored.map(|restored| {
        let id = restored.checkpoint.id.0;
        let (expected, chunks, _) = checkpoint(id);
        assert_eq!(restored.checkpoint, expected);
        let reader = storage.reader();
        let fits = |chunk: &Arc<Chunk>| reader.chunk(Chunk::as_ref(chunk)).unwrap() == chunk.bytes;
        assert!(chunks.iter().all(fits));
        id
    });
    say(&format!("{} {}", restored.unwrap_or(0), recovery.next_id.0));
    for line in std::io::stdin().lines() {
        let (checkpoint, chunks, plugin) = checkpoint(line.unwrap().parse().unwrap());
        let written = storage.write(&NewCheckpoint {
            checkpoint: &checkpoint,
            chunks: &chunks,
            plugins: &[plugin],
            retained: NonZeroU32::new(2).unwrap(),
        });
        match written {
            Ok(permit) => say(&format!("wrote {}", permit.checkpoint().0)),
            Err(error) => say(&format!("failed: {}", error.to_string().replace('\n', " "))),
        }
    }
}

/// The id that was restored, and the next.
fn begun(process: &Process) -> (u64, u64) {
    let said = process.answer();
    let (restored, next) = said.split_once(' ').unwrap();
    (restored.parse().unwrap(), next.parse().unwrap())
}

#[test]
fn a_server_that_dies_in_the_middle_of_checkpoints() {
    let Some(command) = server() else {
        return;
    };
    let mut server = Server::start(command);
    // One that tries again until the server is back, and one that gives up before.
    for role in ["patient", "impatient"] {
        let mut job = server.process(role);
        let (mut durable, mut id) = begun(&job);
        let rounds = if std::env::var_os("FLOODMARK_HEAVY").is_some() {
            60
        } else {
            8
        };
        let (mut wrote, mut failed) = (0, 0);
        for round in 0..rounds {
            job.ask(&id.to_string());
            // At varied moments of the checkpoint, the last of them after its end.
            std::thread::sleep(Duration::from_millis(round * 67 % 240));
            server.down();
            let down = if role == "patient" { 150 } else { 1600 };
            std::thread::sleep(Duration::from_millis(down));
            server.up();
            let said = job.answer();
            if said == format!("wrote {id}") {
                durable = id;
                wrote += 1;
            } else {
                assert!(
                    said.starts_with("failed: ") && role == "impatient",
                    "{said}"
                );
                failed += 1;
            }
            // In both cases all stored checkpoints are whole, and the newest durable one is among them.
            let seen = server.process("look").answer();
            assert!(seen.contains(&durable.to_string()), "{seen}: {durable}");
            id += 1;
        }
        assert!(
            wrote > 0 && (failed > 0 || role == "patient"),
            "{role}: {wrote} {failed}"
        );
        // With the server up, the job continues.
        job.ask(&id.to_string());
        assert_eq!(job.answer(), format!("wrote {id}"));
        // Another machine has only the bucket. The first one loses the right to write.
        let other = server.process("patient");
        let (restored, next) = begun(&other);
        assert_eq!(restored, id);
        assert!(next > id);
        job.ask(&(id + 1).to_string());
        let said = job.answer();
        assert!(said.contains("was taken over by another process"), "{said}");
    }
    // Nothing is left of checkpoints that failed or were retired.
    let last = server.process("patient");
    let (_, next) = begun(&last);
    let mut last = last;
    for id in [next, next + 1] {
        last.ask(&id.to_string());
        assert_eq!(last.answer(), format!("wrote {id}"));
    }
    let left = server
        .names()
        .iter()
        .filter(|name| name.contains("/chunks/"))
        .count();
    assert_eq!(left, 32, "two checkpoints of 24 chunks share 16");
}

#[test]
fn without_credentials_the_error_names_the_variables() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["s3::as_another_process", "--exact", "--nocapture"])
        .env_clear()
        .env(ROLE, "patient")
        // Nothing listens there: this machine has no service that hands out credentials.
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no credentials were found for it"), "{said}");
    assert!(said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}
