//! Finds and reads the pipeline file.
//!
//! `pipeline` parses the content and opens no files.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::regular_file;
use crate::pipeline::{self, Connectors, PipelineText, Problems, Spec};

/// The name of the pipeline file if a folder is given.
pub const FILE_NAME: &str = "pipeline.toml";
/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// The reason why a pipeline file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineFileError {
    /// The file cannot be read.
    #[error("cannot read the pipeline `{}`: {source}", path.display())]
    Read {
        /// The path as typed.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is larger than a pipeline written by hand.
    #[error("the pipeline `{}` is larger than 1 MiB; is it the right file?", path.display())]
    TooLarge {
        /// The path as typed.
        path: PathBuf,
    },
    /// The file was read, and is invalid.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// A pipeline, and the folder that it is in.
#[derive(Debug, Clone)]
pub struct PipelineFile {
    /// The parsed pipeline.
    pub spec: Spec,
    /// The absolute path of the folder, without symbolic links.
    pub folder: PathBuf,
}

/// Reads the pipeline at `path`: a file, or a folder with a `pipeline.toml`. Only these connectors are known.
///
/// # Errors
/// When it cannot be read, or is not a valid pipeline. Nothing has been changed.
pub fn load(
    path: &Path,
    sets: &[String],
    connectors: &Connectors,
) -> Result<PipelineFile, PipelineFileError> {
    let path = if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path.to_path_buf()
    };
    let unreadable = |source| PipelineFileError::Read {
        path: path.clone(),
        source,
    };
    let text = regular_file::read_text(&path, BYTES_MAX).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => PipelineFileError::TooLarge { path: path.clone() },
        _ => unreadable(error),
    })?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = parent.canonicalize().map_err(unreadable)?;
    let current_dir = std::env::current_dir()
        .and_then(|current| current.canonicalize())
        .map_err(unreadable)?;
    let file = PipelineText {
        name: &path.display().to_string(),
        text: &text,
        default_job_name: &default_job_name(&path, &folder),
        folder: &folder,
    };
    let spec = pipeline::parse(file, sets, &current_dir, connectors)?;
    Ok(PipelineFile { spec, folder })
}

/// The name of the folder for `pipeline.toml`, that of the file for any other.
fn default_job_name(path: &Path, folder: &Path) -> String {
    let named = match path.file_name() {
        Some(name) if name != FILE_NAME => path.file_stem(),
        _ => folder.file_name(),
    };
    named.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    //! Catches a job that gets another name, or other paths, when it is started from another folder.

    use super::*;

    fn load(path: &Path, sets: &[String]) -> Result<PipelineFile, PipelineFileError> {
        super::load(path, sets, &Connectors::built_in())
    }

    const COPY: &str = "source.a = { connector = 'file', path = 'in' }\nsink.z = { connector = 'discard', from = 'a' }\n";

    #[test]
    fn a_folder_and_its_file_are_the_same_pipeline() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("word-count");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(FILE_NAME), COPY).unwrap();
        std::fs::write(folder.join("other.toml"), COPY).unwrap();
        let by_folder = load(&folder, &[]).unwrap();
        let detour = folder.join("../word-count/pipeline.toml");
        let by_file = load(&detour, &[]).unwrap();
        assert_eq!(
            format!("{:?}", by_folder.spec.sources),
            format!("{:?}", by_file.spec.sources)
        );
        assert_eq!(by_folder.folder, by_file.folder);
        assert_eq!(by_folder.spec.name, "word-count");
        assert_eq!(
            load(&folder.join("other.toml"), &[]).unwrap().spec.name,
            "other"
        );
    }

    #[test]
    fn the_first_pipeline_of_a_newcomer_is_sound() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        let plugins = plugins.canonicalize().unwrap();
        let file = load(&plugins.join("word-count"), &[]).unwrap();
        let plugin = |name: &str| file.spec.operators[name].plugin.clone();
        assert_eq!(plugin("split"), plugins.join("word-split/rust"));
        assert_eq!(plugin("count"), plugins.join("word-count/rust"));
        assert_eq!(file.spec.name, "word-count");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = load(&folder.path().join("none.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(missing.contains("none.toml`: No such file"), "{missing}");
        std::fs::write(folder.path().join("bytes.toml"), b"\xff").unwrap();
        let bytes = load(&folder.path().join("bytes.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(bytes.contains("valid UTF-8"), "{bytes}");
        std::fs::write(
            folder.path().join("large.toml"),
            vec![b'\n'; BYTES_MAX as usize + 1],
        )
        .unwrap();
        let large = load(&folder.path().join("large.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(large.contains("larger than 1 MiB"), "{large}");
    }
}
