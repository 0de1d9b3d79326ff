//! Ends the processes that this process has started, and those that they have started in turn, such as the compilers of a
//! build tool.
//!
//! They are found by their parents in `/proc`, so that it does not matter which module started them and in which process
//! group. A process whose parent has ended before is not found.

use std::fs;

/// Sends SIGTERM to all descendants. Does not wait for their end.
pub(super) fn end() {
    for id in descendants(&parents(), std::process::id()) {
        let Ok(id) = i32::try_from(id) else {
            continue;
        };
        #[expect(unsafe_code, reason = "the standard library has no signals")]
        // SAFETY: the call touches no memory. A process that has ended meanwhile is not there, which is what is wanted.
        unsafe {
            libc::kill(id, libc::SIGTERM);
        }
    }
}

/// All processes, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let with_parent = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, parent(&stat)?))
    };
    ids.filter_map(with_parent).collect()
}

/// The parent in a line of `/proc/ID/stat`: the second word after the name, which is in brackets and may have any
/// character.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The descendants of a process, parents first.
fn descendants(parents: &[(u32, u32)], of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        let children = parents.iter().filter(|(_, its)| *its == parent);
        let children: Vec<u32> = children.map(|(id, _)| *id).collect();
        for child in children {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        looked_at += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    //! Catches a signal to a process of another job, and a compiler that outlives its build tool.

    use super::*;

    #[test]
    fn only_descendants_are_found() {
        let parents = [
            (1, 0),
            (5, 1),
            (9, 5),
            (7, 9),
            (8, 5),
            (6, 1),
            (3, 6),
            (0, 0),
        ];
        assert_eq!(descendants(&parents, 5), [9, 8, 7]);
        assert!(descendants(&parents, 3).is_empty());
    }

    #[test]
    fn a_name_may_have_any_character() {
        assert_eq!(parent("12 (a) S 1 (b) c) R 34 12 12 0"), Some(34));
        assert_eq!(parent("12 (a"), None);
    }
}
