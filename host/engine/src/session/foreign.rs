//! Compares the plugins and configurations of a savepoint with those of the pipeline that starts from it.
//!
//! A savepoint may be from another user. Its plugins are code that this user did not choose, and run only if the user
//! says so; otherwise the pipeline's run, and a savepoint that has others is refused. Checkpoints in a data folder are
//! the job's own: `what_runs` decides about those, and nothing is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::EngineError;
use super::what_runs::{operators, saved_of, short};
use crate::runtime::plan::{Operator, Plan};
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot};

/// Number of fields of a configuration that a message names, and of characters of each.
const FIELDS_MAX: usize = 5;
const FIELD_CHARACTERS_MAX: usize = 64;

/// Refuses a savepoint with a plugin or configuration that the pipeline does not name; `except` names an operator whose
/// plugin the user replaces anyway.
///
/// # Errors
/// When there is one: the message names each operator, and what differs.
pub fn refuse(
    plan: &Plan,
    checkpoint: &Checkpoint,
    except: Option<&str>,
) -> Result<(), EngineError> {
    let compared = operators(plan).filter(|(name, _)| Some(*name) != except);
    let differing: Vec<_> = compared
        .filter_map(|(name, named)| difference(name, named, saved_of(checkpoint, name)?))
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => Err(EngineError::data(format!(
            "the savepoint has other plugins or configurations than the pipeline names: {}; pass `--take-plugins` to run those of the savepoint, if you trust its author, or name the same ones in the pipeline; in the job that was started, `floodmark swap` replaces them",
            differing.join("; ")
        ))),
    }
}

/// Notes in the checkpoint of a savepoint which choice of the pipeline each plugin replaces, so that the job also runs it
/// after a crash. Operators that the pipeline does not have are removed: nothing of them runs.
pub fn adopt(plan: &Plan, checkpoint: &mut Checkpoint) {
    let named = |name: &str| operators(plan).find(|(known, _)| *known == name);
    checkpoint
        .operators
        .retain(|saved| named(&saved.name).is_some());
    for saved in &mut checkpoint.operators {
        let choice = named(&saved.name).map(|(_, operator)| operator.choice());
        saved.replaces = choice.filter(|choice| *choice != saved.choice());
    }
}

/// A sentence about what differs, if anything does.
fn difference(name: &str, named: &Operator, saved: &OperatorSnapshot) -> Option<String> {
    let (has, expected) = (saved.choice(), named.choice());
    let mut differs = Vec::new();
    if has.plugin != expected.plugin {
        differs.push(format!("{} and not {}", short(&has), short(&expected)));
    }
    if has.config != expected.config {
        let fields = fields(&has.config, &expected.config);
        differs.push(format!("another configuration ({fields})"));
    }
    (!differs.is_empty()).then(|| format!("operator `{name}` has {}", differs.join(", and ")))
}

/// The names of fields that differ. They are the savepoint's, so each stays on its line and has a limit.
fn fields(one: &[(String, String)], other: &[(String, String)]) -> String {
    let map = |config: &[(String, String)]| -> BTreeMap<String, String> {
        config.iter().cloned().collect()
    };
    let (one, other) = (map(one), map(other));
    let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name));
    let differ: Vec<_> = differ
        .map(|name| {
            let short = name.chars().take(FIELD_CHARACTERS_MAX);
            let shown: String = short.flat_map(char::escape_debug).collect();
            format!("`{shown}`")
        })
        .collect();
    match differ.len() {
        0 => "in the order of its fields".to_owned(),
        all if all > FIELDS_MAX => {
            let more = all - FIELDS_MAX;
            format!("{} and {more} more", differ[..FIELDS_MAX].join(", "))
        }
        _ => differ.join(", "),
    }
}

#[cfg(test)]
mod tests {
    //! Catches a difference that is not named, and names from a savepoint that forge a line of a message.

    use super::fields;

    fn config(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        fields.iter().map(owned).collect()
    }

    #[track_caller]
    fn check(one: &[(&str, &str)], other: &[(&str, &str)], expected: &str) {
        assert_eq!(fields(&config(one), &config(other)), expected);
    }

    #[test]
    fn fields_that_differ_are_named() {
        check(&[("a", "1"), ("b", "2")], &[("a", "1")], "`b`");
        check(
            &[("a", "1"), ("b", "2")],
            &[("a", "2"), ("c", "")],
            "`a`, `b`, `c`",
        );
        check(
            &[("a", "1"), ("a", "2")],
            &[("a", "2")],
            "in the order of its fields",
        );
        check(&[("a\nerror: b", "1")], &[], "`a\\nerror: b`");
        let many = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, ""));
        check(&many, &[], "`a`, `b`, `c`, `d`, `e` and 2 more");
    }
}
