//! `floodmark build`: compiles a plugin folder to a component, checks it, and prints its size, imports, ports and
//! states.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::CommandError;
use super::building::{UNNAMED, placed};
use super::escape::one_line;
use super::failure::EXIT_PLUGIN;
use super::print::print;
use super::terminal::Terminal;
use floodmark_engine::guest::Plugin;
use floodmark_engine::pipeline::duration;
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number;
use floodmark_plugin_build::Language;
use floodmark_state::StateKind;

/// Builds the plugin in a folder, checks it, and prints its size, imports, ports and states
#[derive(Debug, Args)]
#[command(after_long_help = "\
The manifest names the language: `Cargo.toml` (Rust), `go.mod` (Go), `pyproject.toml` (Python), `package.json` (JavaScript,
TypeScript) or `plugin.toml` (C, C++, Zig). Tools are looked up in their usual places; if one is missing, the error message
has the command that installs it. `floodmark run` builds folders in the same way.

A folder is built if something has changed since its last build; cargo finds that out itself.")]
pub struct BuildArguments {
    /// Folder of the plugin, or a `.wasm` file to check
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Builds also if nothing has changed
    #[arg(long)]
    force: bool,
    /// Also copies the component to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When there is no such plugin, a tool is missing, or the build result is not a plugin.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a build took is said to people, and nothing depends on it"
)]
pub fn build(arguments: &BuildArguments) -> Result<(), CommandError> {
    let terminal = Terminal::new();
    let refused = |reason: String| CommandError::new(EXIT_PLUGIN, reason);
    let began = Instant::now();
    let mut is_new = false;
    let mut report = |line: &str| {
        is_new = true;
        terminal.say(line);
    };
    let folder = &arguments.folder;
    let component = match arguments.force {
        true => floodmark_plugin_build::component_anew(folder, &mut report),
        false => floodmark_plugin_build::component(folder, &mut report),
    };
    let component = component.map_err(|error| refused(error.to_string()))?;
    let took = is_new.then(|| began.elapsed());
    let unreadable = |error: std::io::Error| {
        refused(format!(
            "cannot read the plugin `{}`: {error}",
            component.display()
        ))
    };
    let bytes = std::fs::read(&component).map_err(unreadable)?;
    let guests = Ticking::for_tools()?.keeping(None, &Terminal::new().saying());
    let plugin = guests
        .engine
        .load(UNNAMED, &bytes)
        .map_err(|error| CommandError::from(error).reworded(|message| placed(message, folder)))?;
    let mut text = format!(
        "{}: {}",
        one_line(&component.display().to_string()),
        number::bytes(bytes.len() as u64)
    );
    if let Some(language) = Language::of(folder) {
        text += &format!(", from {language}");
    }
    if let Some(took) = took {
        text += &format!(" in {:.1} s", took.as_secs_f64());
    }
    text += "\n";
    text += &describe(&plugin);
    if let Some(out) = &arguments.out {
        let unwritable = |error| {
            refused(format!(
                "cannot copy the plugin to `{}`: {error}",
                out.display()
            ))
        };
        std::fs::copy(&component, out).map_err(unwritable)?;
        text += &format!("copied to {}\n", one_line(&out.display().to_string()));
    }
    print(&text)
}

fn describe(plugin: &Plugin) -> String {
    let description = plugin.description();
    let names = |names: &[String]| format!("`{}`", names.join("`, `"));
    let mut text = format!(
        "plugin   {} {}, sha256 {}\ninputs   {}\noutputs  {}\n",
        description.name,
        description.version,
        plugin.digest(),
        names(&description.inputs),
        names(&description.outputs),
    );
    for state in &description.states {
        let kind = match state.kind {
            StateKind::Value => "one value per key",
            StateKind::List => "one list per key",
            StateKind::Map => "one map per key",
        };
        text += &format!(
            "state    `{}`: {kind}, version {}",
            state.name, state.version
        );
        if let Some(ttl_ms) = state.ttl_ms {
            let ttl = std::time::Duration::from_millis(ttl_ms);
            text += &format!(", expires {} after its last write", duration::format(ttl));
        }
        text += "\n";
    }
    text += &match plugin.imports() {
        [] => "imports  nothing\n".to_owned(),
        imports => format!("imports  {}\n", imports.join("\n         ")),
    };
    text
}
