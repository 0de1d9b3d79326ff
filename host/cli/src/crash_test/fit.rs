//! Refuses pipelines that cannot be tested, and overrides their settings so that nothing of the user's is written or
//! called.

use std::path::Path;

use crate::CommandError;
use crate::failure::EXIT_USAGE;
use crate::terminal::Terminal;
use floodmark_engine::connector::SinkFormat;
use floodmark_engine::pipeline::settings::{CheckpointMode, INTERVAL_MIN, StorageSetting};
use floodmark_engine::pipeline::{Spec, duration};

/// Refuses a pipeline whose input has no end, or that promises less than exactly once.
pub(super) fn check(spec: &Spec) -> Result<(), CommandError> {
    let refuse = |path: &[&str], message: &str| {
        let problem = spec.problem(path, message);
        Err(CommandError::new(EXIT_USAGE, problem.to_string()))
    };
    for (name, source) in &spec.sources {
        if source.settings.reads_standard_input() {
            return refuse(
                &["source", name, "connector"],
                &format!(
                    "source `{name}` reads standard input, which a process that is started again does not get again; save the input to a file, and read that"
                ),
            );
        }
        if let Some(endless) = source.settings.endless() {
            let (reason, field, value) = (endless.reason, endless.field, endless.value);
            return refuse(
                &["source", name, field],
                &format!(
                    "source `{name}` {reason}, so there is no complete output to compare; pass `--set source.{name}.{field}={value}`"
                ),
            );
        }
    }
    if spec.checkpoint.mode == CheckpointMode::AtLeastOnce {
        return refuse(
            &["checkpoint", "mode"],
            "the pipeline does not promise exactly-once output; pass `--set checkpoint.mode=exactly-once` to test it in that mode",
        );
    }
    Ok(())
}

/// Settings that override the pipeline's, besides paths, so that nothing of the user's is written or called.
pub(super) fn instead(spec: &Spec, terminal: &Terminal) -> Vec<String> {
    let mut sets = Vec::new();
    // As many checkpoints as possible.
    sets.push(format!(
        "checkpoint.interval={}",
        duration::format(INTERVAL_MIN)
    ));
    sets.push("checkpoint.min-pause=0s".to_owned());
    if !spec.checkpoint.on_checkpoint.is_empty() {
        terminal.say("`checkpoint.on-checkpoint` is not called during the test");
        sets.push("checkpoint.on-checkpoint=[]".to_owned());
    }
    match &spec.checkpoint.storage {
        StorageSetting::Redb | StorageSetting::Folder(_) => {}
        StorageSetting::Memory => {
            terminal.say("checkpoints are kept in a file during the test: those in memory do not survive a crash, and a job without checkpoints starts over");
            sets.push("checkpoint.storage=redb".to_owned());
        }
        StorageSetting::S3(_) => terminal
            .say("checkpoints are kept as objects in a folder during the test, and not in S3"),
    }
    for (name, sink) in &spec.sinks {
        let format = match (sink.settings.writes(), sink.settings.format()) {
            (Some(_), Some(SinkFormat::Csv)) => {
                // Two runs may differ in the number of files, and so in that of headers.
                sets.push(format!("sink.{name}.header=false"));
                continue;
            }
            (Some(_), _) => continue,
            (None, Some(format)) => {
                terminal.say(&format!(
                    "sink `{name}` writes to files during the test: what was printed cannot be taken back, so standard output is at least once"
                ));
                format.word()
            }
            (None, None) => {
                terminal.say(&format!(
                    "sink `{name}` writes to files during the test, so that there is something to compare"
                ));
                "csv"
            }
        };
        sets.push(format!("sink.{name}.connector=file"));
        sets.push(format!("sink.{name}.format={format}"));
    }
    sets
}

/// A path as a value of `--set`.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
