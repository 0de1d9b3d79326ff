//! What relative paths are relative to: the pipeline's folder in the file, the current folder after `--set`.
//!
//! Happens in the tree, before settings are read, because only the tree knows where a path was typed. Opens nothing: whether
//! a path leads anywhere is for its reader to find out.

use std::path::{Component, Path};

use super::problem::{Document, Problem, TextPosition};
use super::tree::{TomlNode, TomlTable, Value};

/// The fields that hold a path, in every node of a section.
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
            // What is not text is reported when the settings are read.
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

/// `typed` from `base`, which must be absolute and free of links, so that `..` at the beginning is its parent folder: the
/// same file then has the same path from wherever a job is started.
fn absolute(base: &Path, typed: &str) -> Result<String, String> {
    if typed.is_empty() {
        return Err("is empty; write a path".to_owned());
    }
    if typed == "~" || typed.starts_with("~/") {
        return Err("`~` is known to shells only; write the whole path".to_owned());
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
    // The folder is meant as it is, even where its name would be a pattern.
    let base = if has_wildcard(typed) && has_wildcard(base) {
        glob::Pattern::escape(base)
    } else {
        base.to_owned()
    };
    let path = Path::new(&base).join(rest.as_path());
    let text = path.to_str().expect("both parts are UTF-8");
    // A path of dots only leaves nothing to join but a slash.
    let trimmed = text.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
