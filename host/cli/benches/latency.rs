//! How long is it from an append to a followed file until the output has the record, and what do idle files cost? The
//! whole command reads a file that grows, counts by key and writes to standard output; each key is a number that
//! occurs once, so each line of output names the append that it answers. For the second question it follows a folder of
//! files that do not change.
//!
//! `FLOODMARK_BENCH_OLD=FILE` names another build of the command, which is measured in turn with this one.

mod support;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::{folder, plugin, setting};

/// A running job, which ends with this value.
struct FollowingJob {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl FollowingJob {
    /// Starts `build` on the files of `path`.
    fn start(build: &Path, at: &Path, path: &Path, parallelism: u64) -> Self {
        let component = at.join("count.wasm");
        std::fs::write(&component, plugin("word-count")).expect("there is room");
        let pipeline = at.join("pipeline.toml");
        let text = format!(
            "[source.lines]\nconnector = \"file\"\npath = {path:?}\nkey-separator = \"\\t\"\nfollow = true\n\
             [operator.count]\nplugin = {component:?}\nfrom = \"lines\"\n\
             [sink.out]\nconnector = \"stdout\"\nfrom = \"count\"\nformat = \"csv\"\n"
        );
        std::fs::write(&pipeline, text).expect("there is room");
        let mut child = Command::new(build)
            .arg("run")
            .arg(&pipeline)
            .arg("--data-dir")
            .arg(at.join("data"))
            .args(["--set", &format!("job.parallelism={parallelism}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(at.join("log")).expect("there is room"))
            .spawn()
            .expect("the command starts");
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    /// Seconds of processor time that the process has used.
    fn processor_time(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("the job runs");
        let after_name = stat.rsplit(") ").next().expect("there is a last part");
        let ticks = after_name.split(' ').skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|text| text.parse::<f64>().ok()).sum();
        ticks / 100.0
    }
}

impl Drop for FollowingJob {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An empty folder.
fn fresh(name: &str) -> PathBuf {
    let at = folder("latency").join(name);
    let _ = std::fs::remove_dir_all(&at);
    std::fs::create_dir_all(&at).expect("the folder can be made");
    at
}

/// The number that a line of output begins with.
fn number(line: &str) -> Option<usize> {
    line.split(',').next()?.trim_matches('"').parse().ok()
}

/// Milliseconds from append to output, sorted, of `rate` lines a second for so many seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the output is read on a thread of its own while lines are appended in real time"
)]
fn latencies(build: &Path, rate: u64, seconds: u64, parallelism: u64) -> Vec<f64> {
    let at = fresh("append");
    let path = at.join("lines");
    let mut file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.as_mut().expect("the file can be made");
    file.write_all(b"0\tready\n").expect("there is room");
    let mut job = FollowingJob::start(build, &at, &path, parallelism);
    let stdout = job.stdout.take().expect("it is piped");
    let (sender, seen) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in stdout.lines() {
            let Some(number) = line.ok().as_deref().and_then(number) else {
                break;
            };
            if sender.send((number, Instant::now())).is_err() {
                break;
            }
        }
    });
    seen.recv().expect("the job answers the first line");
    // The job's first look at the file, and its first checkpoint, are over.
    std::thread::sleep(Duration::from_secs(2));
    let count = (rate * seconds) as usize;
    // One append has the lines of a millisecond.
    let at_once = (rate / 1000).max(1) as usize;
    let begun = Instant::now();
    let mut appended = Vec::with_capacity(count + 1);
    appended.push(begun);
    while appended.len() <= count {
        let due = begun + Duration::from_secs_f64((appended.len() - 1) as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let lines: String = (0..at_once)
            .map(|n| format!("{}\tvalue\n", appended.len() + n))
            .collect();
        appended.extend(std::iter::repeat_n(Instant::now(), at_once));
        file.write_all(lines.as_bytes()).expect("there is room");
    }
    let mut waits = Vec::with_capacity(count);
    while waits.len() < count {
        let (number, at) = seen
            .recv_timeout(Duration::from_secs(30))
            .expect("every line is answered");
        waits.push((at - appended[number]).as_secs_f64() * 1e3);
    }
    drop((job, seen));
    reading.join().expect("the reader ends with the job");
    waits.sort_by(f64::total_cmp);
    waits
}

/// The share of a core that a job uses which follows so many files that do not change.
#[expect(clippy::disallowed_methods, reason = "the job is watched in real time")]
fn idle_share(build: &Path, files: u64, seconds: u64) -> f64 {
    let at = fresh("idle");
    let input = at.join("input");
    std::fs::create_dir_all(&input).expect("the folder can be made");
    for number in 0..files {
        let path = input.join(format!("{number:06}.log"));
        std::fs::write(path, format!("{number}\tvalue\n")).expect("there is room");
    }
    let mut job = FollowingJob::start(build, &at, &input, 1);
    let stdout = job.stdout.take().expect("it is piped");
    let read = stdout.lines().take(files as usize).count() as u64;
    assert_eq!(read, files, "the job reads every file");
    std::thread::sleep(Duration::from_secs(3));
    let (begun, used) = (Instant::now(), job.processor_time());
    std::thread::sleep(Duration::from_secs(seconds));
    (job.processor_time() - used) / begun.elapsed().as_secs_f64()
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let seconds = setting("FLOODMARK_BENCH_SECONDS", 10);
    let files = setting("FLOODMARK_BENCH_FILES", 20_000);
    let mut builds = vec![("this build", PathBuf::from(env!("CARGO_BIN_EXE_floodmark")))];
    if let Some(old) = std::env::var_os("FLOODMARK_BENCH_OLD") {
        builds.insert(0, ("old build", PathBuf::from(old)));
    }
    println!("append to output, ms            p50      p99    p99.9      max");
    for rate in [1000, 20_000] {
        for parallelism in [1, 2] {
            for (name, build) in &builds {
                let waits = latencies(build, rate, seconds, parallelism);
                println!(
                    "{name:10} {rate:6}/s p={parallelism}  {:9.2}{:9.2}{:9.2}{:9.2}",
                    at(&waits, 0.5),
                    at(&waits, 0.99),
                    at(&waits, 0.999),
                    at(&waits, 1.0),
                );
            }
        }
    }
    println!("{files} idle files, share of a core");
    for (name, build) in &builds {
        println!(
            "{name:10} {:9.2} %",
            100.0 * idle_share(build, files, 2 * seconds)
        );
    }
}
