//! How long from the start of a process to its first new output, visible and durable, by the size of the state that it
//! restores? And what does a process need that has nothing to do?

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{folder, lines_of_keys, median, plugin, setting};

/// A pipeline file that counts keys of a file, and where its input and output are.
struct Job {
    dir: PathBuf,
    input: PathBuf,
}

impl Job {
    fn new(component: &Path, input: Option<&Path>) -> Self {
        let dir = folder("recovery").join(format!("{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the folder can be made");
        let own = dir.join("input.lines");
        match input {
            Some(input) => drop(fs::copy(input, &own).expect("there is room")),
            None => fs::write(&own, "").expect("there is room"),
        }
        let mut text = String::from("[job]\nname = \"recovery\"\n");
        let _ = writeln!(
            text,
            "[source.text]\nconnector = \"file\"\npath = {own:?}\nkey-separator = \"\\t\""
        );
        let _ = writeln!(
            text,
            "[operator.count]\nplugin = {component:?}\nfrom = \"text\""
        );
        let _ = writeln!(
            text,
            "[sink.counts]\nconnector = \"file\"\nfrom = \"count\"\npath = \"counts\"\nformat = \"csv\""
        );
        fs::write(dir.join("pipeline.toml"), text).expect("there is room");
        Self { dir, input: own }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floodmark"));
        command.arg("run").arg(self.dir.join("pipeline.toml"));
        command.env("FLOODMARK_CACHE_DIR", self.dir.join("cache"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn run(&self) -> Duration {
        let begin = Instant::now();
        let status = self.command().status().expect("the job starts");
        assert!(status.success(), "the job ends well");
        begin.elapsed()
    }

    /// Adds a record, runs the job to its end, and returns how long that took.
    fn one_more(&self) -> Duration {
        let mut lines = fs::OpenOptions::new()
            .append(true)
            .open(&self.input)
            .expect("the input is there");
        std::io::Write::write_all(&mut lines, b"00000001\tone more\n").expect("there is room");
        self.run()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Resident memory, in MiB, of a job that follows an empty file.
#[expect(clippy::disallowed_methods, reason = "a benchmark waits")]
fn idle_memory(job: &Job) -> f64 {
    let mut child = job
        .command()
        .args(["--set", "source.text.follow=true"])
        .spawn()
        .expect("the job starts");
    std::thread::sleep(Duration::from_secs(2));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let _ = child.kill();
    let _ = child.wait();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 3) * 3;
    let component = folder("recovery").join("word_count.wasm");
    fs::write(&component, plugin("word-count")).expect("there is room");
    println!(
        "process start to exit with one new record counted, durable and visible; medians of {rounds}"
    );
    let empty = Job::new(&component, None);
    let first = empty.run();
    let times = (0..rounds)
        .map(|_| empty.one_more().as_secs_f64() * 1e3)
        .collect();
    println!(
        "  no state: {:.0} ms with compiled code at hand, {:.0} ms the first time",
        median(times),
        first.as_secs_f64() * 1e3
    );
    println!(
        "  idle, following an empty file: {:.0} MiB resident",
        idle_memory(&empty)
    );
    for keys in [10_000, 1_000_000, 4_000_000, 10_000_000] {
        let job = Job::new(&component, Some(&lines_of_keys(keys, false)));
        job.run();
        let times = (0..rounds)
            .map(|_| job.one_more().as_secs_f64() * 1e3)
            .collect();
        println!("{keys:>10} keys: {:.0} ms", median(times));
    }
}
