//! `floodmark test`: runs the test vectors of a plugin, without a pipeline.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CommandError;
use super::building::{UNNAMED, placed};
use super::escape::one_line;
use super::failure::{EXIT_FAILED, EXIT_PLUGIN, EXIT_USAGE};
use super::print::print;
use super::terminal::Terminal;
use super::terminal::warn;
use crate::vectors::find::{self, VectorFiles};
use crate::vectors::{self, Vectors};
use floodmark_engine::edge::regular_file;
use floodmark_engine::session::limits::Ticking;

/// Runs test vectors of a plugin: records in, expected records out, with kills and checkpoints between
#[derive(Debug, Args)]
#[command(after_long_help = "\
A file of vectors is TOML, and the same for every language:

  config = { length = 3 }               # options of the operator; `limits = { .. }` as in a pipeline

  [[step]]
  records = [[\"k\", \"a\"], [\"k\", \"b\", 1000]]    # [key, value] or [key, value, event time in ms]
  emits = [[\"k\", \"1 a\"], [\"k\", \"2 a,b\", 1000]]

  [[step]]
  kill = true                           # restarts at the last checkpoint; later records are replayed

  [[step]]
  state = { values = { k = [\"a\", \"b\"] } }     # state, key, value as JSON; a list is a list, a map is a table

Each step does one thing: `records` (with `input`, `emits`, `rejects`, `fails`, `fails-by`), `drop-instance`, `checkpoint`,
`kill`, `restart`, `passes = \"1h\"` or `state`. With several output ports, write `emits = { PORT = [..] }`. `rejects` has
`[record, part of the reason]`, records counted from 0; `fails` is a part of the message of a call that fails, and `fails-by`
is \"error\", \"trap\", \"time\", \"memory\" or \"output\". With `refuses = \"text\"` instead of steps, the configuration must be
refused. Bytes that are not text are `{ hex = \"ff00\" }`, values that TOML does not have `{ json = \"null\" }`, and a state
with keys that are not text is a list of `[key, value]`. Anything that a step does not list fails the test: other records
emitted or rejected, and other keys in `state`.

Each file runs several times: as written; record by record; with a fresh instance for each call; and killed and restored
after each step. A plugin that exports `operator-compact` or `operator-packed` is also called through `operator`, which must
give the same results.

Exit codes: 0 all pass, 1 one does not, 2 a file or the command line is wrong, 3 the plugin cannot be built or loaded.")]
pub struct TestArguments {
    /// Folder of the plugin, or a `.wasm` file
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: PathBuf,
    /// A file of vectors, or a folder with some; may be given several times [default: `vectors.toml` and `vectors/` in the
    /// plugin's folder, or in its parent]
    #[arg(long, value_name = "PATH")]
    vectors: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the plugin does not pass, the vectors are missing or invalid, or the plugin cannot be built or loaded.
pub fn test(arguments: &TestArguments) -> Result<(), CommandError> {
    let refused = |reason: String| CommandError::new(EXIT_PLUGIN, reason);
    // Vectors are read first: a mistake in them is reported before the plugin is compiled.
    let files = match arguments.plugin.exists() {
        true => files(arguments)?,
        false => Vec::new(),
    };
    let component = floodmark_plugin_build::component(&arguments.plugin, &mut warn);
    let component = component.map_err(|error| refused(error.to_string()))?;
    let bytes = std::fs::read(&component).map_err(|error| {
        refused(format!(
            "cannot read the plugin `{}`: {error}",
            component.display()
        ))
    })?;
    let fuel = files.iter().any(Vectors::need_fuel);
    let guests = Ticking::for_calls(fuel)?.keeping(None, &Terminal::new().saying());
    let plugin = guests.engine.load(UNNAMED, &bytes);
    let plugin = plugin.map_err(|error| refused(placed(&error.to_string(), &arguments.plugin)))?;
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

/// Reads all files of vectors.
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
        warn(&format!("skipped {}: it has no steps", other.display()));
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
        let name = one_line(&path.display().to_string()).into_owned();
        let text = regular_file::read_text(path, find::BYTES_MAX)
            .map_err(|error| usage(format!("cannot read vectors from `{name}`: {error}")))?;
        Ok(Vectors::parse(&name, &text)?)
    };
    found.files.iter().map(read).collect()
}
