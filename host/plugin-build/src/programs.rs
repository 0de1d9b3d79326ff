//! Recognises the programs of build tools without starting them.
//!
//! All files that a search for the tools could find are hashed, with what shows that one was replaced: if nothing of that
//! changed, the search would find the same programs as before. A program that only chooses another one by a setting somewhere
//! else, such as a shim of `pyenv`, is not recognised, and neither is a module that Python runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Tools;

/// Folders with tools of a project, in its folder or above.
const OF_PROJECT: [&str; 2] = [".venv/bin", "node_modules/.bin"];
/// Variables that decide which parts a tool uses.
const VARIABLES: [&str; 4] = ["GOROOT", "NODE_PATH", "VIRTUAL_ENV", "WASI_SDK_PATH"];
/// A part of the names of folders and programs that choose another program.
const SHIM: &str = "shim";

/// The programs with these names that a search can find from a folder, as a digest. `None` if there is none, or one that is
/// not recognised.
pub(super) fn found(names: &[&str], folder: &Path) -> Option<String> {
    let folder = std::path::absolute(folder).ok()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_project = folder
        .ancestors()
        .flat_map(|folder| OF_PROJECT.map(|own| folder.join(own)));
    let of_wasi = std::env::var_os("WASI_SDK_PATH").map(|sdk| PathBuf::from(sdk).join("bin"));
    let folders: Vec<PathBuf> = of_project
        .chain(of_wasi)
        .chain(std::env::split_paths(&path))
        .collect();
    found_in(names, &folders)
}

fn found_in(names: &[&str], folders: &[PathBuf]) -> Option<String> {
    let mut digest = Sha256::new();
    let mut put = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    for variable in VARIABLES {
        let value = std::env::var_os(variable).unwrap_or_default();
        put(value.as_encoded_bytes());
    }
    let is_shim = |path: &Path| path.to_string_lossy().contains(SHIM);
    let mut is_any = false;
    for path in folders
        .iter()
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
    {
        let Ok(file) = path.metadata() else {
            continue;
        };
        let real = path.canonicalize().ok()?;
        if is_shim(&path) || is_shim(&real) {
            return None;
        }
        put(path.as_os_str().as_encoded_bytes());
        put(real.as_os_str().as_encoded_bytes());
        put(&file.ino().to_le_bytes());
        put(&file.len().to_le_bytes());
        // Installers set the time of modification, but not this one.
        put(&file.ctime().to_le_bytes());
        put(&file.ctime_nsec().to_le_bytes());
        is_any = true;
    }
    is_any.then(|| super::hex(digest.finalize()))
}

/// Whether tools are only programs of these names.
pub(super) fn are_of(names: &[&str], tools: &Tools) -> bool {
    tools.command.iter().all(|program| {
        let name = program.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(&name))
    })
}

#[cfg(test)]
mod tests {
    //! Catches a tool that was replaced and not noticed, and one that only seems to be the same.

    use std::fs;

    use super::*;

    #[test]
    fn what_was_replaced_is_another_program() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let folders = ["own", "shared"].map(|name| root.join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let names = ["tool"];
        let look = || found_in(&names, &folders);
        assert_eq!(look(), None);
        fs::write(root.join("shared/tool"), "1").unwrap();
        let first = look();
        assert!(first.is_some());
        assert_eq!(look(), first);
        fs::write(root.join("shared/other"), "1").unwrap();
        assert_eq!(look(), first);
        // Another file of the same size and time.
        let time = fs::metadata(root.join("shared/tool")).unwrap();
        let time = time.modified().unwrap();
        fs::write(root.join("shared/new"), "2").unwrap();
        let new = fs::File::options()
            .write(true)
            .open(root.join("shared/new"));
        new.unwrap().set_modified(time).unwrap();
        fs::rename(root.join("shared/new"), root.join("shared/tool")).unwrap();
        let second = look();
        assert_ne!(second, first);
        // One that comes first.
        fs::write(root.join("own/tool"), "1").unwrap();
        assert_ne!(look(), second);
        fs::create_dir(root.join("shims")).unwrap();
        fs::write(root.join("shims/tool"), "1").unwrap();
        fs::remove_file(root.join("own/tool")).unwrap();
        assert_eq!(look(), second);
        std::os::unix::fs::symlink(root.join("shims/tool"), root.join("own/tool")).unwrap();
        assert_eq!(look(), None);
    }

    #[test]
    fn a_module_of_python_is_not_a_program() {
        let check = |command: &[&str], expected: bool| {
            let tools = Tools {
                command: command.iter().map(PathBuf::from).collect(),
                version: String::new(),
            };
            let names = ["zig", "clang"];
            assert_eq!(are_of(&names, &tools), expected, "{command:?}");
        };
        check(&["zig"], true);
        check(&["/opt/wasi/bin/clang"], true);
        check(&["/opt/zig", "clang"], true);
        check(&["python3", "-m", "ziglang"], false);
        check(&["/opt/zig-1"], false);
    }
}
