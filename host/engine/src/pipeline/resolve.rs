//! Makes relative paths absolute: those in the file start from the pipeline's folder, those after `--set` from the
//! current folder.
//!
//! This is done in the tree, before settings are read, because only the tree knows where a path was typed. It opens
//! nothing: the reader of a path finds out whether it exists.

use std::path::{Component, Path};

use super::problem::{Document, Problem, TextPosition};
use super::tree::{TomlNode, TomlTable, Value};

/// The fields with paths, in every node of a section.
const PATH_FIELDS: &[(&str, &str)] =
    &[("source", "path"), ("sink", "path"), ("operator", "plugin")];

/// Makes the paths of all nodes absolute.
pub(super) fn paths(
    root: &mut TomlTable,
    document: &Document,
    folder: &Path,
    current_dir: &Path,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (section, field) in PATH_FIELDS {
        let Some(TomlNode {
            value: Value::Table(nodes),
            ..
        }) = root.get_mut(*section)
        else {
            continue;
        };
        for (name, node) in nodes {
            let Value::Table(fields) = &mut node.value else {
                continue;
            };
            let Some(path) = fields.get_mut(*field) else {
                continue;
            };
            let base = match path.place {
                TextPosition::Line(_) => folder,
                TextPosition::Set(_) => current_dir,
            };
            // A value that is not text is reported when the settings are read.
            let Some(typed) = path.text() else { continue };
            match absolute(base, typed) {
                Ok(absolute) => {
                    path.value = Value::Text(absolute);
                    path.typed = None;
                }
                Err(message) => problems.push(document.problem(&[section, name, field], message)),
            }
        }
    }
    problems
}

/// `typed` relative to `base`, which must be absolute and without symbolic links, so that a leading `..` is its parent
/// folder: a file then has the same path wherever a job is started.
fn absolute(base: &Path, typed: &str) -> Result<String, String> {
    if typed.is_empty() {
        return Err("is empty; write a path".to_owned());
    }
    if typed == "~" || typed.starts_with("~/") {
        return Err("only shells expand `~`; write the whole path".to_owned());
    }
    let mut base = base.to_path_buf();
    let mut rest = Path::new(typed).components();
    let mut ahead = rest.clone();
    while let Some(Component::ParentDir | Component::CurDir) = ahead.next() {
        if rest.next() == Some(Component::ParentDir) {
            base.pop();
        }
    }
    let base = base.to_str().ok_or_else(|| {
        format!(
            "`{}` is not UTF-8; move to a folder that is",
            base.display()
        )
    })?;
    // The folder is taken literally, even if its name looks like a pattern.
    let base = if has_wildcard(typed) && has_wildcard(base) {
        glob::Pattern::escape(base)
    } else {
        base.to_owned()
    };
    let path = Path::new(&base).join(rest.as_path());
    let text = path.to_str().expect("both parts are UTF-8");
    // For a path of only dots, nothing is left to join but a slash.
    let trimmed = text.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
