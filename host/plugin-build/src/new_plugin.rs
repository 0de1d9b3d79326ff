//! Creates the folder of a new plugin: a small operator with its test, and a copy of the SDK of its language.
//!
//! The SDKs are part of the command, so that a project gets the one for the contract that the command builds for, and
//! needs no network for it. The user owns the copy from then on. The folder is written beside its final place and
//! renamed, so it appears as a whole or not at all.

mod files;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use self::files::{SDKS, TemplateFile};
use crate::{Language, contract};

/// Longest name of a plugin, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The reason why no plugin was created. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewPluginError {
    /// The name is not valid.
    #[error(
        "`{name}` cannot be the name of a plugin; use 1 to {NAME_CHARS_MAX} characters of `a-z`, `0-9` and `-`, beginning with a letter"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// The path exists already.
    #[error("`{}` exists already; name a folder that does not", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("cannot make the folder `{}`: {source}", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Creates a plugin in `folder`, which must not exist yet. The last part of the path is the plugin's name.
///
/// # Errors
/// When it cannot be created; nothing is left behind.
pub fn create(language: Language, folder: &Path) -> Result<(), NewPluginError> {
    let name = match folder.components().next_back() {
        Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    if !is_name(&name) {
        return Err(NewPluginError::Name { name });
    }
    if folder.symlink_metadata().is_ok() {
        return Err(NewPluginError::Exists {
            path: folder.to_path_buf(),
        });
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    let unfinished = parent.join(format!(".{name}.{}.unfinished", std::process::id()));
    let made = fill(language, &name, &unfinished).and_then(|()| fs::rename(&unfinished, folder));
    made.map_err(|source| {
        let _ = fs::remove_dir_all(&unfinished);
        NewPluginError::Unwritable {
            path: folder.to_path_buf(),
            source,
        }
    })
}

fn is_name(name: &str) -> bool {
    let allowed = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(allowed)
}

fn fill(language: Language, name: &str, folder: &Path) -> io::Result<()> {
    let sdk = SDKS.iter().find(|sdk| sdk.language == language);
    let sdk = sdk.expect("there is an SDK for each language");
    let snake = name.replace('-', "_");
    let named = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{name_snake}}", &snake)
    };
    for TemplateFile { path, bytes } in sdk.template {
        let text = String::from_utf8_lossy(bytes);
        let path = named(path);
        // A file named `.gitignore` would also take effect in this repository.
        let path = if path == "gitignore" {
            ".gitignore"
        } else {
            &path
        };
        write(&folder.join(path), named(&text).as_bytes())?;
    }
    let copy = folder.join(sdk.folder);
    for TemplateFile { path, bytes } in sdk.files {
        write(&copy.join(path), bytes)?;
    }
    if language == Language::Rust {
        for (file, text) in contract::FILES {
            write(&copy.join("wit").join(file), text.as_bytes())?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    //! Catches an SDK whose copy lacks a file, a template that keeps a placeholder, and a folder that is written over.

    use std::collections::BTreeSet;

    use super::*;

    fn files_below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_made =
                ["node_modules", "build", "target", "__pycache__"].contains(&name.as_str());
            if is_made || name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().unwrap().is_symlink() {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => files_below(&entry.path(), &format!("{path}/"), found),
                false => drop(found.insert(path)),
            }
        }
    }

    /// Whether a file of an SDK is only for development of the SDK, not for plugins that use it.
    fn is_inner(path: &str) -> bool {
        path.starts_with("tests/")
            || path.starts_with("test/")
            || path.starts_with("template/")
            || path.ends_with("_test.go")
            || path == "Makefile"
    }

    #[test]
    fn nothing_of_an_sdk_is_forgotten() {
        for sdk in SDKS {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk");
            let root = root.join(sdk.language.name());
            let mut there = BTreeSet::new();
            files_below(&root.join(sdk.source), "", &mut there);
            there.retain(|path| !is_inner(path));
            let listed = sdk.files.iter().map(|file| file.path.to_owned());
            assert_eq!(listed.collect::<BTreeSet<_>>(), there, "{}", sdk.language);
            let mut there = BTreeSet::new();
            files_below(&root.join("template"), "", &mut there);
            let listed = sdk.template.iter().map(|file| file.path.to_owned());
            assert_eq!(listed.collect::<BTreeSet<_>>(), there, "{}", sdk.language);
        }
    }

    #[test]
    fn a_new_folder_is_whole_and_bears_its_name() {
        for language in Language::ALL {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("my-first");
            create(language, &folder).unwrap();
            assert_eq!(Language::of(&folder), Some(language));
            let mut files = BTreeSet::new();
            files_below(&folder, "", &mut files);
            for file in &files {
                let bytes = fs::read(folder.join(file)).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("{{name"), "{language}: {file}");
                assert!(!file.contains("{{"), "{language}: {file}");
            }
            assert!(folder.join(".gitignore").is_file(), "{language}");
            assert!(files.contains("README.md"), "{language}");
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_is_there_stays() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("mine");
        fs::create_dir(&folder).unwrap();
        let refused = create(Language::C, &folder).unwrap_err();
        assert!(matches!(refused, NewPluginError::Exists { .. }));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        for name in ["Mine", "1st", "a b", "..", "", &"a".repeat(65)] {
            let refused = create(Language::C, &parent.path().join(name)).unwrap_err();
            assert!(matches!(refused, NewPluginError::Name { .. }), "{name}");
        }
        let refused = create(Language::C, &parent.path().join("none/mine")).map(drop);
        assert_eq!(refused.is_ok(), parent.path().join("none/mine").is_dir());
    }
}
