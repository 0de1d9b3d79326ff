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
    let (has_succeeded, most) = watch(&mut child);
    let said = fs::read_to_string(stdout).unwrap();
    let faults = fs::read_to_string(stderr).unwrap();
    assert!(has_succeeded, "{said}\n{faults}");
    for test in tests {
        assert!(said.contains(&format!("test {test}")), "{test}: {said}");
    }
    let peak = most.bytes();
    println!("the most memory: {} MiB", peak >> 20);
    let least = hostile::limits().memory_bytes;
    assert!(peak > least, "{peak}: a plugin alone may have more");
    assert!(peak < PEAK_BYTES_MAX, "{peak}: {most:?}");
}

/// Processes that ran at the same time: the command line of each, and the most memory that it ever had.
#[derive(Debug, Default)]
struct Family(Vec<(String, u64)>);

impl Family {
    /// A process and its descendants.
    fn of(root: u32) -> Self {
        let entries = fs::read_dir("/proc").unwrap();
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
        let mut found = vec![(root, command_line(root))];
        let mut looked_at = 0;
        while let Some((of, command)) = found.get(looked_at).cloned() {
            let children = parents.iter().filter(|(_, parent)| *parent == of);
            let children = children.map(|(id, _)| (*id, command_line(*id)));
            // Until a new process has begun its own program, its memory is that of its parent.
            found.extend(children.filter(|(_, its)| *its != command));
            looked_at += 1;
        }
        let with_memory = |(id, command)| Some((command, memory_peak_bytes(id)?));
        Self(found.into_iter().filter_map(with_memory).collect())
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Waits for the end of a process. Returns whether it succeeded, and what it and its descendants were when they had most
/// memory together.
fn watch(child: &mut Child) -> (bool, Family) {
    let mut most = Family::default();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.success(), most);
        }
        let now = Family::of(child.id());
        if now.bytes() > most.bytes() {
            most = now;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The parent of a process: the second word after its name, which is in brackets and may have any character.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The words of its command; empty if it has ended.
fn command_line(process: u32) -> String {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}
