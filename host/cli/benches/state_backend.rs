//! What does state on disk cost? Uniform updates of 10 M keys of 100 bytes with the backends `memory` and `disk`, in one
//! run, and how much memory the process holds with the state on disk.
//!
//! Each side is a process of its own, the built command, so that its memory is its own.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{folder, lines_of_keys, plugin, setting};

/// What one backend did.
struct Figures {
    /// Nanoseconds an update.
    update: f64,
    /// Most memory that was resident, in MiB.
    resident: f64,
}

/// Loads the keys in a first run, resumes with the updates in a second run, and measures the second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn run(component: &Path, keys: u64, backend: &str) -> Figures {
    let dir = folder("state-backend").join(format!("{}-{backend}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("input")).expect("the folder can be made");
    let mut text = String::from("[job]\nname = \"state\"\n");
    let _ = writeln!(text, "[state]\nbackend = {backend:?}\nmemory = \"128MiB\"");
    let _ = writeln!(
        text,
        "[source.text]\nconnector = \"file\"\npath = \"input\"\nkey-separator = \"\\t\""
    );
    let _ = writeln!(
        text,
        "[operator.latest]\nplugin = {component:?}\nfrom = \"text\""
    );
    let _ = writeln!(
        text,
        "[sink.lengths]\nconnector = \"discard\"\nfrom = \"latest\""
    );
    fs::write(dir.join("pipeline.toml"), text).expect("there is room");
    let mut resident = 0.0_f64;
    let mut times = Vec::new();
    for uniform in [false, true] {
        let input = lines_of_keys(keys, uniform);
        let linked = dir
            .join("input")
            .join(input.file_name().expect("it is a file"));
        fs::hard_link(&input, linked).expect("one file system holds both");
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_floodmark"))
            .env("FLOODMARK_CACHE_DIR", folder("cache"))
            .arg("run")
            .arg(dir.join("pipeline.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the job starts");
        let status = loop {
            resident = resident.max(resident_mib(child.id()));
            match child.try_wait().expect("the job is a child") {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "the job ends well");
        times.push(begin.elapsed());
    }
    let _ = fs::remove_dir_all(&dir);
    Figures {
        update: times[1].as_secs_f64() * 1e9 / keys as f64,
        resident,
    }
}

/// Most that was ever resident.
fn resident_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let keys = setting("FLOODMARK_BENCH_KEYS", 10_000_000);
    let component = folder("state-backend").join("latest.wasm");
    fs::write(&component, plugin("latest")).expect("there is room");
    let disk = run(&component, keys, "disk");
    let memory = run(&component, keys, "memory");
    let allowed = 128.0 + (keys * 16) as f64 / f64::from(1 << 20) + 150.0;
    println!(
        "{keys} uniform updates of {keys} keys with values of 100 bytes, start and last checkpoint included"
    );
    println!(
        "  memory: {:.0} ns an update, {:.0} MiB resident at most",
        memory.update, memory.resident
    );
    println!(
        "  disk, `state.memory = \"128MiB\"`: {:.0} ns an update ({:.2} x the speed of memory), {:.0} MiB resident at most (allowed: {allowed:.0})",
        disk.update,
        memory.update / disk.update,
        disk.resident
    );
}
