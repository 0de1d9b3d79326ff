//! Finds the files of vectors for a plugin.

use std::io;
use std::path::{Path, PathBuf};

use floodmark_engine::edge::regular_file;
use floodmark_engine::pipeline::toml_file::TomlFile;

/// Largest file of vectors, in bytes: it is read as a whole.
pub const BYTES_MAX: u64 = 64 << 20;

/// Files that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VectorFiles {
    /// Files with vectors, sorted.
    pub files: Vec<PathBuf>,
    /// TOML files without vectors.
    pub others: Vec<PathBuf>,
}

/// The vectors of a plugin: `vectors.toml` and the files of the folder `vectors`, beside the component or in the
/// plugin's folder; if there are none, in its parent, so that a plugin in several languages needs only one copy.
///
/// # Errors
/// When a folder cannot be read.
pub fn of_plugin(plugin: &Path) -> io::Result<VectorFiles> {
    let own = match plugin.is_dir() {
        true => Some(plugin),
        // The parent of a bare name is the current folder.
        false => plugin
            .parent()
            .map(|parent| match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            }),
    };
    let Some(own) = own else {
        return Ok(VectorFiles::default());
    };
    // The name `.` has no parent.
    let absolute = own.canonicalize()?;
    let parent = match own.parent() {
        Some(parent) if own.file_name().is_some() => Some(parent.to_path_buf()),
        _ => absolute.parent().map(Path::to_path_buf),
    };
    for folder in [Some(own.to_path_buf()), parent].into_iter().flatten() {
        let mut found = VectorFiles::default();
        let file = folder.join("vectors.toml");
        if file.is_file() {
            found.files.push(file);
        }
        let more = folder.join("vectors");
        if more.is_dir() {
            let more = in_folder(&more)?;
            found.files.extend(more.files);
            found.others.extend(more.others);
        }
        if found != VectorFiles::default() {
            return Ok(found);
        }
    }
    Ok(VectorFiles::default())
}

/// The vectors at a path: a file, or all files of a folder that end in `.toml` and have steps.
///
/// # Errors
/// When there is no such file or folder.
pub fn at(path: &Path) -> io::Result<VectorFiles> {
    if path.metadata()?.is_dir() {
        return in_folder(path);
    }
    Ok(VectorFiles {
        files: vec![path.to_path_buf()],
        others: Vec::new(),
    })
}

fn in_folder(folder: &Path) -> io::Result<VectorFiles> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_toml = path
            .extension()
            .is_some_and(|extension| extension == "toml");
        if is_toml && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let (files, others) = paths.into_iter().partition(|path| has_vectors(path));
    Ok(VectorFiles { files, others })
}

/// Whether a file has vectors. `true` for a file that cannot be read, so that it is reported and not skipped.
fn has_vectors(path: &Path) -> bool {
    let Ok(text) = regular_file::read_text(path, BYTES_MAX) else {
        return true;
    };
    match TomlFile::parse("", &text) {
        Ok(file) => file.has("step") || file.has("refuses"),
        Err(_) => true,
    }
}
