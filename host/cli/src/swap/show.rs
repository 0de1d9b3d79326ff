//! Prints the findings and the result of a swap, for people or as JSON.

use std::time::Duration;

use crate::CommandError;
use crate::failure::EXIT_FAILED;
use crate::print::print_json_text;
use crate::table::table;
use floodmark_engine::edge::swap::{
    CompletedSwap, Findings, OperatorComparison, Rehearsed, Shadow, StateCompatibility, StateRow,
};
use floodmark_engine::session::number::{bytes, count, span, things};

/// Characters of a digest that are shown.
const DIGEST_CHARS: usize = 12;

/// Prints to standard output.
///
/// # Errors
/// When it cannot be written.
pub(super) fn print(
    found: &Findings,
    as_json: bool,
    was_stopped: bool,
) -> Result<(), CommandError> {
    if !as_json {
        return crate::print::print(&text(found, was_stopped));
    }
    let json = serde_json::to_string_pretty(found).map_err(|error| {
        CommandError::new(EXIT_FAILED, format!("cannot write the result: {error}"))
    })?;
    print_json_text(&json)
}

fn text(found: &Findings, was_stopped: bool) -> String {
    let mut text = String::new();
    for operator in &found.operators {
        text += &of_operator(operator);
    }
    for shadow in &found.shadows {
        text += &of_shadow(shadow);
    }
    let is_same = found.operators.iter().all(|operator| operator.is_same);
    text += &match &found.swapped {
        Some(done) => of_done(done, was_stopped),
        None if is_same => {
            "nothing to do: the job already has this plugin and configuration\n".to_owned()
        }
        None => "nothing was changed: this was a dry run\n".to_owned(),
    };
    text
}

fn of_operator(found: &OperatorComparison) -> String {
    let short = |digest: &str| digest.chars().take(DIGEST_CHARS).collect::<String>();
    let mut text = format!(
        "operator `{}`: {} ({}) replaces {}; compiled in {}\n",
        found.operator,
        found.name,
        short(&found.plugin),
        short(&found.before),
        micros(found.compiled_us)
    );
    if found.is_same {
        return text;
    }
    let rows: Vec<_> = found.states.iter().map(row).collect();
    if !rows.is_empty() {
        for line in table(&rows).lines() {
            text += &format!("  {line}\n");
        }
    }
    if let Some(rehearsed) = &found.rehearsed {
        text += &format!(
            "  rehearsed on checkpoint {}: {}, in {}\n",
            rehearsed.checkpoint,
            looked_at(rehearsed),
            micros(rehearsed.took_us)
        );
    }
    text
}

/// What a rehearsal looked at.
fn looked_at(rehearsed: &Rehearsed) -> String {
    let Rehearsed {
        migrated,
        values,
        unread_bytes,
        ..
    } = *rehearsed;
    let all = things(values, "value");
    match (values, unread_bytes, rehearsed.is_sample) {
        (0, 0, _) => "no value has to be migrated".to_owned(),
        (_, 0, false) => format!("`migrate` on all of {all}"),
        (_, 0, true) => format!(
            "`migrate` on {} of {all}, a sample; `--rehearse all` tries all",
            count(migrated)
        ),
        (_, left, _) => format!(
            "`migrate` on {} of {all} in the newest state, a sample without {} of older state; `--rehearse all` tries all",
            count(migrated),
            bytes(left)
        ),
    }
}

fn row(state: &StateRow) -> Vec<String> {
    let versions = match (state.saved.first(), state.declared) {
        (Some(saved), Some(declared)) if *saved != declared => format!("{saved} -> {declared}"),
        (Some(version), _) => version.to_string(),
        (None, Some(version)) => version.to_string(),
        (None, None) => String::new(),
    };
    let fate = match state.fate {
        StateCompatibility::Fits => "fits",
        StateCompatibility::Migrates => "migrates",
        StateCompatibility::NotMigrated => "is not migrated",
        StateCompatibility::New => "is new",
        StateCompatibility::Dropped => "is left behind",
        StateCompatibility::OtherKind => "is of a different kind",
    };
    vec![
        format!("state `{}`", state.state),
        state.kind.clone(),
        format!("version {versions}"),
        fate.to_owned(),
    ]
}

fn of_shadow(shadow: &Shadow) -> String {
    let mut text = format!(
        "operator `{}`: {} after checkpoint {} processed by both, {} different\n",
        shadow.operator,
        things(shadow.records, "record"),
        shadow.checkpoint,
        shadow.different
    );
    for difference in &shadow.differences {
        text += &format!("  {difference}\n");
    }
    let more = shadow.different - shadow.differences.len() as u64;
    if more > 0 {
        text += &format!("  and {more} more\n");
    }
    text
}

fn of_done(done: &CompletedSwap, was_stopped: bool) -> String {
    let back = match done.before {
        Some(before) => format!("`floodmark rollback PIPELINE --to {before}` goes back\n"),
        None => String::new(),
    };
    if was_stopped {
        return format!(
            "checkpoint {} names the new plugin: the next run resumes from it\n{back}",
            done.checkpoint
        );
    }
    let trial = done.trial_ms.map_or(String::new(), |ms| {
        format!(
            "on trial for {}: if the job fails within that time, it goes back automatically\n",
            span(Duration::from_millis(ms))
        )
    });
    format!(
        "swapped at checkpoint {}: paused for {}, durable after {}\n{trial}{back}",
        done.checkpoint,
        micros(done.pause_us),
        micros(done.total_us)
    )
}

fn micros(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        _ => span(Duration::from_micros(micros)),
    }
}
