//! How much memory the process may use: that of the machine, or less if its control group has a limit.
//!
//! Read once, when a job starts. The limit on state follows from it, so that state without bound ends in a message and
//! not in a signal of the system. Memory that other processes use is not considered.

use std::fs;
use std::path::Path;

/// Bytes of memory that this process may use at most; `None` if the system does not tell.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    memory(&read)
}

fn memory(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    machine.into_iter().chain(group_limit(read)).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let kib = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The least limit of the control group of the process and of those above it, in version 2 or version 1.
fn group_limit(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let group = group.to_str().unwrap_or_default().trim_end_matches('/');
            let limit = read(&format!("{root}{group}/{file}"));
            // Without a limit there is a word, or a number beyond all machines.
            let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    //! Catches a limit that is not seen, of a group further up or of the other version, and one that is misread.

    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(memory(&read), expected);
    }

    #[test]
    fn the_least_limit_counts() {
        let machine = ("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       1024 kB\n");
        check(&[], None);
        check(&[machine], Some(1 << 20));
        let group = ("/proc/self/cgroup", "0::/jobs/one\n");
        check(&[machine, group], Some(1 << 20));
        let own = ("/sys/fs/cgroup/jobs/one/memory.max", "max\n");
        let above = ("/sys/fs/cgroup/jobs/memory.max", "4096\n");
        check(&[machine, group, own], Some(1 << 20));
        check(&[machine, group, own, above], Some(4096));
        let inside = ("/proc/self/cgroup", "0::/\n");
        let root = ("/sys/fs/cgroup/memory.max", "8192");
        check(&[machine, inside, root], Some(8192));
    }

    #[test]
    fn version_1_has_its_own_folder() {
        let machine = ("/proc/meminfo", "MemTotal: 1024 kB");
        let group = ("/proc/self/cgroup", "3:cpu,cpuacct:/a\n2:memory:/a\n");
        let file = |text| ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", text);
        check(&[machine, group, file("5000")], Some(5000));
        check(
            &[machine, group, file("9223372036854771712")],
            Some(1 << 20),
        );
    }
}
