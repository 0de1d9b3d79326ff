//! Catches memory that a hostile or faulty plugin leaves behind in the process that ran it, or that all of them need together.
//!
//! The tests of these plugins run once more, one after the other in one process, which is this program. Counted are that
//! process and all that it has started and that still run, such as jobs and compilers, each with the most memory that it
//! ever had.
//!
//! `FLOODMARK_HEAVY=1` takes every test of these modules, and not only the one with most plugins.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::hostile;
use crate::job::{CACHE_VARIABLE, memory_peak_bytes};

/// What all of it together stays under.
const PEAK_BYTES_MAX: u64 = 1 << 30;
/// How long the processes are left alone between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The modules with plugins that are hostile, crash, hang, or cost too much.
const MODULES: &[&str] = &["hostile::", "misbehaving::", "hanging::", "costs::"];
/// The test that uses each hostile plugin.
const EACH_ONCE: &[&str] = &["hostile::each_hostile_plugin_ends_as_is_written"];

#[test]
#[expect(clippy::print_stdout, reason = "the figure is what one wants to know")]
fn all_hostile_plugins_need_little_memory_in_one_process() {
    let is_heavy = std::env::var_os("FLOODMARK_HEAVY").is_some_and(|heavy| heavy == "1");
    let tests = if is_heavy { MODULES } else { EACH_ONCE };
    let folder = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--test-threads=1")
        .args(tests)
        .env(CACHE_VARIABLE, folder.path().join("cache"))
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let (has_succeeded, peak) = watch(&mut child);
    let said = fs::read_to_string(stdout).unwrap();
    let faults = fs::read_to_string(stderr).unwrap();
    assert!(has_succeeded, "{said}\n{faults}");
    for test in tests {
        assert!(said.contains(&format!("test {test}")), "{test}: {said}");
    }
    println!("the most memory: {} MiB", peak >> 20);
    let least = hostile::limits().memory_bytes;
    assert!(peak > least, "{peak}: a plugin alone may have more");
    assert!(peak < PEAK_BYTES_MAX, "{peak}");
}

/// Waits for the end of a process. Returns whether it succeeded, and the most memory that was seen of it and its descendants
/// together.
fn watch(child: &mut Child) -> (bool, u64) {
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.success(), peak);
        }
        peak = peak.max(family_bytes(child.id()));
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The sum of the most memory that each of a process and its descendants ever had.
fn family_bytes(root: u32) -> u64 {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut family = vec![root];
    let mut sum = memory_peak_bytes(root).unwrap_or(0);
    while let Some(of) = family.pop() {
        let children = parents.iter().filter(|(_, parent)| *parent == of);
        for (id, _) in children {
            family.push(*id);
            // Until a new process has begun its own program, its memory is that of its parent.
            if command_line(*id) != command_line(of) {
                sum += memory_peak_bytes(*id).unwrap_or(0);
            }
        }
    }
    sum
}

/// The parent of a process: the second word after its name, which is in brackets and may have any character.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn command_line(process: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{process}/cmdline")).ok()
}
