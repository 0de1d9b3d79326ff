//! Recognises settings by their names in Apache Flink, and tells the user the name here.
//!
//! Only whole paths, such as `state.checkpoints.dir`; single words are in `words`.

use super::problem::{Document, Problem};
use super::tree::{TomlNode, TomlTable, Value};

/// A path in Flink, and the setting to use instead.
const SETTINGS: [(&str, &str); 30] = [
    ("execution.checkpointing.dir", "`checkpoint.storage`"),
    (
        "execution.checkpointing.externalized-checkpoint-retention",
        "`checkpoint.on-cancel`",
    ),
    (
        "execution.checkpointing.incremental",
        "nothing: checkpoints are always incremental",
    ),
    ("execution.checkpointing.interval", "`checkpoint.interval`"),
    (
        "execution.checkpointing.max-concurrent-checkpoints",
        "nothing: there is one at a time",
    ),
    (
        "execution.checkpointing.min-pause",
        "`checkpoint.min-pause`",
    ),
    ("execution.checkpointing.mode", "`checkpoint.mode`"),
    (
        "execution.checkpointing.num-retained",
        "`checkpoint.retained`",
    ),
    ("execution.checkpointing.storage", "`checkpoint.storage`"),
    ("execution.checkpointing.timeout", "`checkpoint.timeout`"),
    (
        "execution.checkpointing.tolerable-failed-checkpoints",
        "`checkpoint.tolerable-failures`",
    ),
    (
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        "`restart.attempts`",
    ),
    (
        "restart-strategy.exponential-delay.backoff-multiplier",
        "`restart.backoff-multiplier`",
    ),
    (
        "restart-strategy.exponential-delay.initial-backoff",
        "`restart.initial-backoff`",
    ),
    (
        "restart-strategy.exponential-delay.jitter-factor",
        "`restart.jitter-factor`",
    ),
    (
        "restart-strategy.exponential-delay.max-backoff",
        "`restart.max-backoff`",
    ),
    (
        "restart-strategy.exponential-delay.reset-backoff-threshold",
        "`restart.reset-backoff-threshold`",
    ),
    ("restart-strategy.failure-rate.delay", "`restart.delay`"),
    (
        "restart-strategy.failure-rate.failure-rate-interval",
        "`restart.interval`",
    ),
    (
        "restart-strategy.failure-rate.max-failures-per-interval",
        "`restart.max-failures`",
    ),
    (
        "restart-strategy.fixed-delay.attempts",
        "`restart.attempts`",
    ),
    ("restart-strategy.fixed-delay.delay", "`restart.delay`"),
    ("restart-strategy.type", "`restart.strategy`"),
    ("restart-strategy", "`restart.strategy`"),
    (
        "state.backend.incremental",
        "nothing: checkpoints are always incremental",
    ),
    ("state.backend.type", "`state.backend`"),
    ("state.checkpoint-storage", "`checkpoint.storage`"),
    ("state.checkpoints.dir", "`checkpoint.storage`"),
    ("state.checkpoints.num-retained", "`checkpoint.retained`"),
    (
        "state.savepoints.dir",
        "`floodmark savepoint create --to FILE`",
    ),
];

/// Removes Flink's settings from the tree, with a problem for each.
pub(super) fn take(root: &mut TomlTable, document: &Document) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, instead) in SETTINGS {
        let path: Vec<&str> = path.split('.').collect();
        if remove(root, &path) {
            let message = format!("is a setting of Apache Flink; write {instead}");
            let message = match instead.strip_prefix("nothing: ") {
                Some(why) => format!("is a setting of Apache Flink, and not needed here: {why}"),
                None => message,
            };
            problems.push(document.problem(&path, message));
        }
    }
    problems
}

/// Removes the value at `path`, and tables that become empty.
fn remove(table: &mut TomlTable, path: &[&str]) -> bool {
    let (first, rest) = match path {
        [] => return false,
        [last] => return table.remove(*last).is_some(),
        [first, rest @ ..] => (*first, rest),
    };
    let Some(TomlNode {
        value: Value::Table(inner),
        ..
    }) = table.get_mut(first)
    else {
        return false;
    };
    let removed = remove(inner, rest);
    if removed && inner.is_empty() {
        table.remove(first);
    }
    removed
}
