//! `floodmark new`: creates the folder of a new plugin, which builds and passes its test without changes.

use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::escape::one_line;
use super::failure::EXIT_USAGE;
use super::print::print;
use floodmark_plugin_build::Language;
use floodmark_plugin_build::new_plugin;

/// Creates the folder of a new plugin, with an operator, its test, and the SDK of its language
#[derive(Debug, Args)]
pub struct NewArguments {
    /// `rust`, `go`, `python`, `typescript` (or `javascript`), `c`
    #[arg(long, short, value_name = "LANG", value_parser = language)]
    language: Language,
    /// The folder to create; its last part becomes the plugin's name
    #[arg(value_name = "NAME")]
    folder: PathBuf,
}

/// Accepted names of languages.
const NAMES: [(&str, Language); 11] = [
    ("rust", Language::Rust),
    ("rs", Language::Rust),
    ("go", Language::Go),
    ("golang", Language::Go),
    ("python", Language::Python),
    ("py", Language::Python),
    ("javascript", Language::JavaScript),
    ("js", Language::JavaScript),
    ("typescript", Language::JavaScript),
    ("ts", Language::JavaScript),
    ("c", Language::C),
];

fn language(typed: &str) -> Result<Language, String> {
    let lower = typed.to_lowercase();
    let known = NAMES.iter().find(|(name, _)| *name == lower);
    if ["c++", "cpp", "zig"].contains(&lower.as_str()) {
        return Err("a plugin in C++ or Zig begins as one in C: `--language c`; its README.md says how to continue".to_owned());
    }
    known.map(|(_, language)| *language).ok_or_else(|| {
        let (names, _): (Vec<_>, Vec<_>) = NAMES.into_iter().unzip();
        format!(
            "there is no SDK for it; there is one for {}. A plugin in any other language is a component that exports `floodmark:engine/operator`",
            names.join(", ")
        )
    })
}

/// Runs the command.
///
/// # Errors
/// When the folder cannot be created; nothing is left behind.
pub fn new(arguments: &NewArguments) -> Result<(), CommandError> {
    let NewArguments { language, folder } = arguments;
    new_plugin::create(*language, folder)
        .map_err(|error| CommandError::new(EXIT_USAGE, error.to_string()))?;
    let test = match language {
        Language::Rust => "cargo test",
        Language::Go => "go test ./...",
        Language::Python => "python3 -m unittest",
        Language::JavaScript => "npm install && npm test",
        Language::C => "make test",
    };
    print(&format!(
        "created `{0}`, a plugin in {language}; next:\n  cd {0}\n  {test:<24} # its test, without WebAssembly\n  {1:<24} # makes the component\n  {2:<24} # runs it as the engine does, on vectors.toml\n",
        one_line(&folder.display().to_string()),
        "floodmark build",
        "floodmark test .",
    ))
}
