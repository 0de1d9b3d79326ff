//! `floodmark test`: holds a plugin to its test vectors, without a pipeline.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CommandError;
use super::failure::{EXIT_FAILED, EXIT_PLUGIN, EXIT_USAGE};
use super::print::print;
use super::terminal::Terminal;
use super::terminal::warn;
use crate::edge::plugin_build;
use crate::engine::limits::Ticking;
use crate::vectors::find::{self, VectorFiles};
use crate::vectors::{self, Vectors};

/// Runs a plugin on test vectors: records in, expected records out, kills and checkpoints between
#[derive(Debug, Args)]
#[command(after_long_help = "\
A file of vectors is TOML, and the same for every language:

  config = { length = 3 }               # options of the operator; `limits = { .. }` as in a pipeline

  [[step]]
  records = [[\"k\", \"a\"], [\"k\", \"b\", 1000]]    # [key, value] or [key, value, event time in ms]
  emits = [[\"k\", \"1 a\"], [\"k\", \"2 a,b\", 1000]]

  [[step]]
  kill = true                           # back to the last checkpoint; the records since then come again

  [[step]]
  state = { values = { k = [\"a\", \"b\"] } }     # state, key, value as JSON; a list is a list, a map is a table

Steps do one thing each: `records` (with `input`, `emits`, `rejects`, `fails`, `fails-by`), `drop-instance`, `checkpoint`,
`kill`, `restart`, `passes = \"1h\"` or `state`. Of several output ports write `emits = { PORT = [..] }`. `rejects` has
`[record, part of the reason]`, records counted from 0; `fails` is a part of the message of a call that fails, and `fails-by`
is \"error\", \"trap\", \"time\", \"memory\" or \"output\". With `refuses = \"text\"` instead of steps the configuration has to be
refused. Bytes that are no text are `{ hex = \"ff00\" }`, values that TOML does not have `{ json = \"null\" }`, and keys of a
state that are no text stand in a list of `[key, value]`. What is left out is expected not to happen: records that `emits`
does not name, records that are rejected, and keys that `state` does not name.

Each file is run as written; record by record; with a fresh instance for each call; and killed and restored after each step.
A plugin that exports `operator-compact` or `operator-packed` is also called through `operator`, which has to answer the same.

Exit codes: 0 all pass, 1 one does not, 2 a file or the command line is wrong, 3 the plugin cannot be built or loaded.")]
pub struct TestArguments {
    /// The folder of a plugin, or a `.wasm` file
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: PathBuf,
    /// A file of vectors, or a folder with some; may be given several times [default: `vectors.toml` and `vectors/` in the
    /// plugin's folder, or in its parent]
    #[arg(long, value_name = "PATH")]
    vectors: Vec<PathBuf>,
}

/// Carries the command out.
///
/// # Errors
/// When the plugin does not pass, there are no vectors or wrong ones, or the plugin cannot be built or loaded.
pub fn test(arguments: &TestArguments) -> Result<(), CommandError> {
    let refused = |reason: String| CommandError::new(EXIT_PLUGIN, reason);
    // A typo in a file costs no compile time.
    let files = match arguments.plugin.exists() {
        true => files(arguments)?,
        false => Vec::new(),
    };
    let component = plugin_build::component(&arguments.plugin, &mut warn);
    let component = component.map_err(|error| refused(error.to_string()))?;
    let bytes = std::fs::read(&component).map_err(|error| {
        refused(format!(
            "cannot read the plugin `{}`: {error}",
            component.display()
        ))
    })?;
    let fuel = files.iter().any(Vectors::need_fuel);
    let guests = Ticking::for_calls(fuel)?.keeping(None, &Terminal::new().saying());
    let plugin = guests.engine.load("plugin", &bytes);
    let plugin = plugin.map_err(|error| refused(error.to_string()))?;
    let mut failed = 0;
    for file in &files {
        let report = vectors::run(&plugin, file)?;
        failed += usize::from(!report.passed());
        print(&format!("{report}\n"))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(CommandError::new(
            EXIT_FAILED,
            format!(
                "the plugin does not pass {failed} of {} {}",
                files.len(),
                if files.len() == 1 { "file" } else { "files" }
            ),
        )),
    }
}

/// All vectors, read.
fn files(arguments: &TestArguments) -> Result<Vec<Vectors>, CommandError> {
    let usage = |message: String| CommandError::new(EXIT_USAGE, message);
    let mut found = VectorFiles::default();
    let mut add = |path: &Path, more: std::io::Result<VectorFiles>| -> Result<(), CommandError> {
        let more = more.map_err(|error| {
            let path = path.display();
            usage(format!("cannot read vectors from `{path}`: {error}"))
        })?;
        found.files.extend(more.files);
        found.others.extend(more.others);
        Ok(())
    };
    for path in &arguments.vectors {
        add(path, find::at(path))?;
    }
    if arguments.vectors.is_empty() {
        add(&arguments.plugin, find::of_plugin(&arguments.plugin))?;
    }
    for other in &found.others {
        warn(&format!("passed over {}: it has no steps", other.display()));
    }
    if found.files.is_empty() {
        return Err(usage(match arguments.vectors.is_empty() {
            true => format!(
                "there are no vectors: neither `vectors.toml` nor files in `vectors/`, in the folder of `{}` or its parent; write one, or name it with `--vectors`",
                arguments.plugin.display()
            ),
            false => "there are no files with steps where `--vectors` says".to_owned(),
        }));
    }
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| usage(format!("cannot read vectors from `{name}`: {error}")))?;
        Ok(Vectors::parse(&name, &text)?)
    };
    found.files.iter().map(read).collect()
}
