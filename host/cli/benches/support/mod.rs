//! What the benchmarks share: an input file, plugins built once, a job run to its end, and figures side by side.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use floodmark_checkpoint::store::CheckpointStore;
use floodmark_checkpoint::{CheckpointStorage, CheckpointStorageSettings, Depth};
use floodmark_engine::connector::{FileSource, FileSourceSettings, Recovered, Sink};
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::drive::{DriveSettings, Inputs, Kept, Watcher, drive};
use floodmark_engine::edge::failures::FailureLog;
use floodmark_engine::edge::later_output::LaterOutput;
use floodmark_engine::guest::{GuestEngine, Plugin};
use floodmark_engine::job::restart::Strategy;
use floodmark_engine::job::{CheckpointSettings, CompletedCheckpoint, JobSettings, Notice};
use floodmark_engine::observe::WorkerMetrics;
use floodmark_engine::runtime::plan::{
    Edge, Node, NodeIndex, Operator, Plan, Role, Routing, StateBackend, WorkerIndex,
};
use floodmark_engine::runtime::worker::Counters;
use floodmark_state::stream::{InputPort, MaxParallelism, OutputPort};
pub use floodmark_testing::Random;

/// Bytes of the values that benchmarks use.
pub const VALUE_BYTES: usize = 100;

/// A number given by an environment variable, or the default.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A folder for one benchmark, below the build folder, on a real disk.
pub fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    dir
}

/// A file of lines `KEY<tab>VALUE`: keys of 8 digits, uniform over `keys`; values of 100 bytes. Kept from run to run.
pub fn keyed_lines(records: u64, keys: u64) -> PathBuf {
    let path = folder("input").join(format!("{records}-{keys}.lines"));
    let line_bytes = 8 + 1 + VALUE_BYTES as u64 + 1;
    if std::fs::metadata(&path).is_ok_and(|file| file.len() == records * line_bytes) {
        return path;
    }
    let mut random = Random(keys);
    let mut file =
        BufWriter::with_capacity(1 << 20, File::create(&path).expect("the file can be made"));
    let value = "v".repeat(VALUE_BYTES);
    for _ in 0..records {
        writeln!(file, "{:08}\t{value}", random.next() % keys).expect("there is room");
    }
    file.flush().expect("there is room");
    path
}

/// Each key once, in order, or `keys` uniform updates.
pub fn lines_of_keys(keys: u64, uniform: bool) -> PathBuf {
    let name = format!("{keys}-{}.lines", if uniform { "updates" } else { "each" });
    let path = folder("input").join(name);
    let line_bytes = 8 + 1 + VALUE_BYTES as u64 + 1;
    if std::fs::metadata(&path).is_ok_and(|file| file.len() == keys * line_bytes) {
        return path;
    }
    let mut random = Random(keys);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).expect("there is room"));
    let letter = if uniform { "u" } else { "v" };
    let value = letter.repeat(VALUE_BYTES);
    for number in 0..keys {
        let key = if uniform {
            random.next() % keys
        } else {
            number
        };
        writeln!(file, "{key:08}\t{value}").expect("there is room");
    }
    file.flush().expect("there is room");
    path
}

/// Text of about so many bytes, ten words a line: 50,000 words of 2 to 11 letters, the n-th of them 1/n as frequent as the
/// first (Zipf's law). Kept from run to run.
pub fn text(bytes: usize) -> PathBuf {
    let path = folder("input").join(format!("{bytes}.text"));
    if std::fs::metadata(&path).is_ok_and(|file| file.len() >= bytes as u64) {
        return path;
    }
    let mut random = Random(7);
    let words: Vec<Vec<u8>> = (0..50_000)
        .map(|_| {
            let letters = 2 + random.next() % 10;
            let letter = |random: &mut Random| b'a' + (random.next() % 26) as u8;
            (0..letters).map(|_| letter(&mut random)).collect()
        })
        .collect();
    let mut sum = 0.0;
    let reach: Vec<f64> = (1..=words.len())
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let unfinished = path.with_extension("unfinished");
    let mut file =
        BufWriter::with_capacity(1 << 20, File::create(&unfinished).expect("there is room"));
    let mut written = 0;
    let mut place = 0;
    while written < bytes || place > 0 {
        let drawn = random.next() as f64 / u64::MAX as f64 * sum;
        let word = &words[reach
            .partition_point(|&reach| reach < drawn)
            .min(words.len() - 1)];
        place = (place + 1) % 10;
        file.write_all(word).expect("there is room");
        file.write_all(if place == 0 { b"\n" } else { b" " })
            .expect("there is room");
        written += word.len() + 1;
    }
    file.flush().expect("there is room");
    std::fs::rename(unfinished, &path).expect("the folder is ours");
    path
}

/// The component of a plugin that ships.
pub fn plugin(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--target",
            "wasm32-wasip2",
            "--package",
            name,
        ])
        .args(["--target-dir", "target/plugins"])
        .current_dir(&root)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the plugin builds"
    );
    let file = format!(
        "target/plugins/wasm32-wasip2/release/{}.wasm",
        name.replace('-', "_")
    );
    std::fs::read(root.join(file)).expect("the component is there")
}

pub fn load(name: &str) -> Plugin {
    let engine = GuestEngine::new(None).expect("this machine runs WebAssembly");
    engine.load(name, &plugin(name)).expect("the plugin is one")
}

/// File → count by key → sink.
pub fn count_plan(input: &Path, plugin: &Plugin, sink: Arc<dyn Sink>, parallelism: u16) -> Plan {
    let source = file_source(&format!("path = {input:?}\nkey-separator = \"\\t\""));
    let nodes = vec![
        node("text", Role::Source(source)),
        operator("count", plugin),
        node("counts", Role::Sink(sink)),
    ];
    let edges = vec![edge(0, 1, Routing::ByKey), edge(1, 2, Routing::Forward)];
    plan(nodes, edges, parallelism)
}

/// File → split into words → count by key → sink.
pub fn words_plan(
    input: &Path,
    [split, count]: [&Plugin; 2],
    sink: Arc<dyn Sink>,
    parallelism: u16,
) -> Plan {
    let nodes = vec![
        node(
            "text",
            Role::Source(file_source(&format!("path = {input:?}"))),
        ),
        operator("split", split),
        operator("count", count),
        node("counts", Role::Sink(sink)),
    ];
    let edges = vec![
        edge(0, 1, Routing::Forward),
        edge(1, 2, Routing::ByKey),
        edge(2, 3, Routing::Forward),
    ];
    plan(nodes, edges, parallelism)
}

fn file_source(settings: &str) -> Arc<FileSource> {
    let settings: FileSourceSettings = toml::from_str(settings).expect("the settings are right");
    Arc::new(FileSource::new(settings, Path::new("/")).expect("the settings are right"))
}

fn node(name: &str, role: Role) -> Node {
    Node::new(name, role)
}

fn operator(name: &str, plugin: &Plugin) -> Node {
    let operator = Operator::new(Arc::new(plugin.clone()), Vec::new());
    node(name, Role::Operator(operator))
}

fn edge(from: usize, to: usize, routing: Routing) -> Edge {
    Edge {
        from: NodeIndex(from),
        output: OutputPort(0),
        to: NodeIndex(to),
        input: InputPort(0),
        routing,
    }
}

fn plan(nodes: Vec<Node>, edges: Vec<Edge>, parallelism: u16) -> Plan {
    Plan {
        data_folder: String::new(),
        backend: StateBackend::Memory,
        job: "bench".to_owned(),
        identity: "bench".to_owned(),
        parallelism,
        configured_parallelism: parallelism,
        max_parallelism: MaxParallelism::DEFAULT,
        mode: Default::default(),
        allow_dropped_state: false,
        nodes,
        edges,
    }
}

/// What a job told while it ran.
#[derive(Debug, Default)]
pub struct Told {
    pub checkpoints: Vec<CompletedCheckpoint>,
    pub first_record: Option<Duration>,
}

impl Watcher for Told {
    fn begun(&mut self, _: &[(String, Recovered)]) {}

    fn notice(&mut self, _: Duration, notice: Notice) {
        match notice {
            Notice::Completed(checkpoint) => self.checkpoints.push(checkpoint),
            Notice::Begun { .. } | Notice::Log { .. } => {}
            failed => panic!("{failed:?}"),
        }
    }

    fn watch(&mut self, _: Duration, _: &[Arc<Counters>]) {}

    fn planned(&mut self, _: &Plan, _: bool) {}

    fn observed(&self, _: WorkerIndex) -> Arc<WorkerMetrics> {
        Arc::new(WorkerMetrics::new(4))
    }
}

/// Runs a job to its end in a new store; returns how long it took, the last checkpoint included.
pub fn run(plan: &Plan, interval: Option<Duration>) -> (Duration, Told) {
    let store = folder("store").join(format!("{}.redb", std::process::id()));
    let _ = std::fs::remove_file(&store);
    let ended = run_in(plan, interval, &store);
    let _ = std::fs::remove_file(&store);
    ended
}

/// Like [`run`], in a store that may hold checkpoints: the job resumes from the newest one.
pub fn run_in(plan: &Plan, interval: Option<Duration>, path: &Path) -> (Duration, Told) {
    let clock = Clock::start();
    let mut store =
        CheckpointStore::open(path, CheckpointStorageSettings::default()).expect("the store opens");
    let recovery = store
        .recover(Depth::Quick, None)
        .expect("its checkpoints are sound");
    let settings = DriveSettings {
        job: JobSettings {
            checkpoints: CheckpointSettings {
                interval,
                ..CheckpointSettings::every(Duration::MAX)
            },
            fresh: false,
            restart: Strategy::None,
            seed: 0,
        },
        retained: NonZeroU32::new(3).expect("not zero"),
    };
    let mut told = Told::default();
    drive(
        Arc::new(plan.clone()),
        Kept {
            store: Box::new(store),
            recovery,
            failures: FailureLog::default(),
            later_output: LaterOutput::default(),
        },
        settings,
        clock,
        Inputs::channel(),
        &mut told,
    )
    .expect("the job ends well");
    (clock.now(), told)
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
