//! Decides whether a pipeline can take over a checkpoint of another: one that was carried here as a savepoint, or one
//! of the same job before its graph was changed.
//!
//! Nodes are matched by name. A source resumes at the position of the source with its name, so it must be of the same
//! kind; everything else may change, and each change is reported. State is not compared here, since that needs the
//! plugins.

use std::collections::BTreeSet;

use super::identity::{IdentityFields, changed, fields, nodes};

/// Fields of a source that give a position its meaning.
const MEANING: [&str; 4] = ["connector", "keys", "value-bytes", "seed"];

/// The reason why a checkpoint of one pipeline cannot be taken over by another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeoverRefusal {
    /// They have different numbers of key groups.
    #[error("{change}, and the number of key groups is fixed for the life of the state")]
    KeyGroups {
        /// What has changed, as a sentence.
        change: String,
    },
    /// The positions of a source have another meaning.
    #[error(
        "{change}, so the saved position of source `{name}` is no longer valid; set it back, or give the source another name, with which it starts from the beginning"
    )]
    Positions {
        /// What has changed, as a sentence.
        change: String,
        /// The source.
        name: String,
    },
}

/// Returns what has changed, one sentence each.
///
/// # Errors
/// When it cannot be taken over.
pub fn takeover(old: &str, new: &str) -> Result<Vec<String>, TakeoverRefusal> {
    let (old, new) = (fields(old), fields(new));
    let groups = "job.max-parallelism";
    if old.get(groups) != new.get(groups) {
        let change = changed(groups, old.get(groups), new.get(groups));
        return Err(TakeoverRefusal::KeyGroups { change });
    }
    let mut said = Vec::new();
    let (old_nodes, new_nodes) = (nodes(&old), nodes(&new));
    for (section, name) in old_nodes.difference(&new_nodes) {
        match *section {
            "source" => said.push(format!(
                "source `{name}` was removed: its position is forgotten"
            )),
            "sink" => said.push(format!("sink `{name}` was removed: its output ends here")),
            _ => said.push(format!("operator `{name}` was removed")),
        }
    }
    for (section, name) in new_nodes.difference(&old_nodes) {
        match *section {
            "source" => said.push(format!(
                "source `{name}` is new: it starts from the beginning"
            )),
            "sink" => said.push(format!("sink `{name}` is new: its output begins here")),
            _ => said.push(format!("operator `{name}` is new: it starts without state")),
        }
    }
    for (section, name) in old_nodes.intersection(&new_nodes) {
        let prefix = format!("{section}.{name}.");
        for field in differing(&old, &new, &prefix) {
            let sentence = changed(&field, old.get(&field), new.get(&field));
            let fact = &field[prefix.len()..];
            if *section == "source" && MEANING.contains(&fact) {
                return Err(TakeoverRefusal::Positions {
                    change: sentence,
                    name: (*name).to_owned(),
                });
            }
            said.push(sentence);
        }
    }
    let job = "job.name";
    if old.get(job) != new.get(job) {
        said.push(changed(job, old.get(job), new.get(job)));
    }
    Ok(said)
}

/// The fields below `prefix` that differ.
fn differing(old: &IdentityFields, new: &IdentityFields, prefix: &str) -> BTreeSet<String> {
    let names = old.keys().chain(new.keys());
    let of_node = names.filter(|field| field.starts_with(prefix));
    let differ = of_node.filter(|field| old.get(*field) != new.get(*field));
    differ.cloned().collect()
}

#[cfg(test)]
mod tests {
    //! Catches a position that is taken over by a source for which it has another meaning, and a change that is not
    //! reported.

    use super::takeover;

    const OLD: &str = r#"job.max-parallelism = "128"
job.name = "words"
operator.count.from = "split"
operator.split.from = "text"
sink.out.connector = "file"
sink.out.from = "count"
sink.out.path = "out"
source.text.connector = "file"
source.text.format = "lines"
source.text.path = "in.txt"
"#;

    #[track_caller]
    fn check(replacements: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let mut new = OLD.to_owned();
        for (from, to) in replacements {
            assert!(new.contains(from), "{from}");
            new = new.replace(from, to);
        }
        let found = takeover(OLD, &new).map_err(|refusal| refusal.to_string());
        let expected = expected
            .map(|said| said.iter().map(|text| (*text).to_owned()).collect())
            .map_err(str::to_owned);
        assert_eq!(found, expected);
    }

    #[test]
    fn what_changes_is_said() {
        check(&[], Ok(&[]));
        check(
            &[("path = \"in.txt\"", "path = \"../in.txt\"")],
            Ok(&["source `text` read `in.txt`, now reads `../in.txt`"]),
        );
        check(
            &[("operator.split", "operator.cut"), ("\"split\"", "\"cut\"")],
            Ok(&[
                "operator `split` was removed",
                "operator `cut` is new: it starts without state",
                "operator `count` read from `split`, now reads from `cut`",
            ]),
        );
        check(
            &[("source.text.", "source.lines."), ("\"text\"", "\"lines\"")],
            Ok(&[
                "source `text` was removed: its position is forgotten",
                "source `lines` is new: it starts from the beginning",
                "operator `split` read from `text`, now reads from `lines`",
            ]),
        );
        check(
            &[("sink.out.", "sink.there."), ("\"words\"", "\"others\"")],
            Ok(&[
                "sink `out` was removed: its output ends here",
                "sink `there` is new: its output begins here",
                "the job was called `words`, now it is called `others`",
            ]),
        );
    }

    #[test]
    fn what_would_be_wrong_is_refused() {
        check(
            &[("\"128\"", "\"64\"")],
            Err(
                "`job.max-parallelism` was `128`, now is `64`, and the number of key groups is fixed for the life of the state",
            ),
        );
        check(
            &[(
                "source.text.connector = \"file\"",
                "source.text.connector = \"generator\"",
            )],
            Err(
                "`source.text.connector` was `file`, now is `generator`, so the saved position of source `text` is no longer valid; set it back, or give the source another name, with which it starts from the beginning",
            ),
        );
    }
}
