//! Catches a module that reaches where it must not, and files that break the rules of the house which a tool can check.

mod prose;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::items::{declared_types, items};
use crate::plugins::repository;

/// What each module of the engine may name of the others, and of which crates below it. Between crates, Cargo.toml holds the
/// line.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("connector", &["checkpoint", "stream"]),
    ("guest", &["checkpoint", "state", "stream"]),
    ("observe", &[]),
    (
        "runtime",
        &[
            "observe",
            "guest",
            "connector",
            "crash",
            "checkpoint",
            "state",
            "stream",
        ],
    ),
    (
        "job",
        &[
            "runtime",
            "guest",
            "connector",
            "crash",
            "checkpoint",
            "state",
            "stream",
        ],
    ),
    ("pipeline", &["connector", "stream"]),
    (
        "edge",
        &[
            "job",
            "runtime",
            "observe",
            "pipeline",
            "guest",
            "connector",
            "crash",
            "checkpoint",
            "state",
            "stream",
        ],
    ),
    (
        "session",
        &[
            "edge",
            "job",
            "runtime",
            "observe",
            "pipeline",
            "guest",
            "connector",
            "crash",
            "checkpoint",
            "state",
            "stream",
            "plugin_build",
        ],
    ),
    (
        "operator",
        &["session", "runtime", "guest", "state", "stream"],
    ),
];

/// Crates below the engine, and what their names stand for in the tables here.
const BELOW: [(&str, &str); 5] = [
    ("floodmark_state::stream", "stream"),
    ("floodmark_state", "state"),
    ("floodmark_checkpoint::crash", "crash"),
    ("floodmark_checkpoint", "checkpoint"),
    ("floodmark_plugin_build", "plugin_build"),
];

/// Of these modules and crates only some names may be used by some modules.
const ONLY: [(&str, &str, &[&str]); 3] = [
    (
        "connector",
        "checkpoint",
        &["CommitPermit", "Split", "Staged"],
    ),
    ("guest", "checkpoint", &["PluginDigest"]),
    ("guest", "state", &["StateKind"]),
];

/// Crates of others, and where alone they are named.
const CRATES: [(&str, &str); 4] = [
    ("wasmtime", "host/engine/src/guest"),
    ("rayon", "host/engine/src/edge"),
    ("redb", "host/checkpoint/src/store"),
    ("object_store", "host/checkpoint/src/object"),
];

const LINES_MAX: usize = 600;

/// So many fields a struct may have.
const FIELDS_MAX: usize = 12;

/// So many lines a function may have, from its first to its last.
const FUNCTION_LINES_MAX: usize = 70;

/// Of 100 names of types in the host, so many may stand in more than one file.
const SHARED_NAMES_PERCENT_MAX: usize = 2;

/// What .gitignore names besides files that begin with a dot.
const GENERATED: [&str; 4] = ["target", "build", "node_modules", "__pycache__"];

/// A source file: its path in the repository, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_below(&self, folder: &str) -> bool {
        let rest = self.path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }

    /// The text without comments.
    fn code(&self) -> String {
        let code = self.text.lines().map(|line| {
            if line.trim_start().starts_with("//") {
                ""
            } else {
                line
            }
        });
        code.collect::<Vec<_>>().join("\n")
    }

    /// Whether it is a file of the host without tests alone.
    fn is_code_of_host(&self) -> bool {
        let is_test = self.path.split('/').any(|part| part.contains("tests"));
        self.is_below_src_of_host() && !is_test
    }

    /// Whether it is below `src` of a crate of the host.
    fn is_below_src_of_host(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.next() == Some("host") && parts.nth(1) == Some("src")
    }

    /// The code of the host that is not a test: what comes before the tests at the end of the file, or nothing in a file of tests.
    fn untested_code(&self) -> Option<String> {
        if !self.is_code_of_host() {
            return None;
        }
        let mut code = self.code();
        if let Some(tests) = code.find("#[cfg(test)]\nmod tests {") {
            code.truncate(tests);
        }
        Some(code)
    }

    /// The module of the engine that it is in.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("host/engine/src/")?;
        let module = rest.split_once('/').map_or(rest, |(module, _)| module);
        let module = module.strip_suffix(".rs").unwrap_or(module);
        MAY_USE
            .iter()
            .map(|(name, _)| *name)
            .find(|name| *name == module)
    }
}

fn sources() -> Vec<Source> {
    files(&["host", "guest-sdk", "plugins", "tests"], &["rs"])
}

/// The files below some folders of the repository whose names have one of these ends, without what was built.
fn files(folders: &[&str], ends: &[&str]) -> Vec<Source> {
    fn collect(folder: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('.') || GENERATED.contains(&name) || path.is_symlink() {
                continue;
            }
            let end = name.rsplit_once('.').map(|(_, end)| end);
            if path.is_dir() {
                collect(&path, ends, found);
            } else if end.is_some_and(|end| ends.contains(&end)) {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for folder in folders {
        collect(&repository().join(folder), ends, &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 100, "{}", paths.len());
    let source = |path: PathBuf| Source {
        path: path
            .strip_prefix(repository())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(source).collect()
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What the code names of other modules and crates, as `checkpoint::Staged`: groups are taken apart.
fn named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for root in [
        "crate",
        "floodmark_state",
        "floodmark_checkpoint",
        "floodmark_plugin_build",
    ] {
        for (at, start) in code.match_indices(&format!("{root}::")) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '$') {
                continue;
            }
            let prefix = if root == "crate" { "" } else { start };
            expand(prefix, &code[at + start.len()..], &mut named);
        }
    }
    named.into_iter().map(|path| short(&path)).collect()
}

/// A path with the name of [`BELOW`] for its crate.
fn short(path: &str) -> String {
    let found = BELOW.iter().find_map(|(long, short)| {
        let rest = path.strip_prefix(long)?;
        rest.starts_with("::").then(|| format!("{short}{rest}"))
    });
    found.unwrap_or_else(|| path.to_owned())
}

/// Takes one path or group apart; returns what comes after it.
fn expand<'a>(prefix: &str, text: &'a str, named: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|char: char| char.is_whitespace() || char == ',');
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None => rest = expand(prefix, rest, named),
            }
        }
    }
    let end = text
        .find(|char: char| !char.is_alphanumeric() && char != '_')
        .unwrap_or(text.len());
    // Something that is not a path: a star, say.
    if end == 0 {
        let mut chars = text.chars();
        chars.next();
        return chars.as_str();
    }
    let path = format!("{prefix}{}", &text[..end]);
    match text[end..].strip_prefix("::") {
        Some(rest) => expand(&format!("{path}::"), rest, named),
        None => {
            named.push(path);
            // What a name is imported as does not matter.
            let rest = &text[end..];
            match rest.strip_prefix(" as ") {
                Some(alias) => {
                    alias.trim_start_matches(|char: char| char.is_alphanumeric() || char == '_')
                }
                None => rest,
            }
        }
    }
}

/// The names that follow `super::`.
fn climbing(code: &str) -> Vec<String> {
    let ends = |char: char| !char.is_alphanumeric() && char != '_';
    let after = code.split("super::").skip(1);
    after
        .map(|rest| rest[..rest.find(ends).unwrap_or(rest.len())].to_owned())
        .collect()
}

#[test]
fn paths_are_taken_apart() {
    let code = "use crate::{a::B, c::{self, d::E as F, G}};\nlet x = crate::h::i(1); $crate::no; use super::j;";
    assert_eq!(named(code), ["a::B", "c::self", "c::d::E", "c::G", "h::i"]);
    let code =
        "use floodmark_state::{StateKind, stream::Batch}; floodmark_checkpoint::crash::at(x);";
    assert_eq!(
        named(code),
        ["state::StateKind", "stream::Batch", "crash::at"]
    );
}

#[test]
fn dependencies_point_one_way() {
    let may_use: BTreeMap<_, _> = MAY_USE.into();
    let mut found = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else {
            continue;
        };
        for path in named(&source.code()) {
            let used = path.split("::").next().unwrap();
            let is_below = BELOW.iter().any(|(_, short)| *short == used);
            let is_module = may_use.contains_key(used) || is_below;
            if is_module && used != module && !may_use[module].contains(&used) {
                found.push(format!("{}: `{module}` names `{path}`", source.path));
            }
            for (user, of, names) in ONLY {
                let rest = path
                    .strip_prefix(of)
                    .and_then(|rest| rest.strip_prefix("::"));
                if user == module && rest.is_some_and(|rest| !names.contains(&rest)) {
                    found.push(format!(
                        "{}: `{module}` may name only {names:?} of `{of}`, not `{path}`",
                        source.path
                    ));
                }
            }
        }
        for path in climbing(&source.code()) {
            let own = format!("host/engine/src/{module}/{path}");
            let is_own = ["", ".rs"].map(|end| format!("{own}{end}"));
            let is_own = is_own.iter().any(|path| repository().join(path).exists());
            let is_used = may_use.contains_key(path.as_str()) && !is_own;
            if is_used && !may_use[module].contains(&path.as_str()) {
                found.push(format!(
                    "{}: `{module}` reaches `{path}` by `super`",
                    source.path
                ));
            }
        }
    }
    none(&found);
}

#[test]
fn some_crates_are_named_in_one_place() {
    let mut found = Vec::new();
    for source in sources() {
        for (name, folder) in CRATES {
            let is_named = source.code().contains(&format!("{name}::"));
            if source.is_below_src_of_host() && is_named && !source.is_below(folder) {
                found.push(format!(
                    "{}: names `{name}`, as only `{folder}` may",
                    source.path
                ));
            }
        }
    }
    none(&found);
}

/// Else text of a plugin or a file could reach a terminal that was not escaped.
#[test]
fn the_command_prints_where_text_is_escaped() {
    let places = ["host/cli/src/print.rs", "host/cli/src/terminal.rs"];
    let mut found = Vec::new();
    for source in sources() {
        let code = source.untested_code().unwrap_or_default();
        // Clap's question where a message belongs.
        let code = code.replace("use_stderr()", "");
        let prints = code.contains("stdout()") || code.contains("stderr()");
        let may = places.contains(&source.path.as_str());
        if source.is_below("host/cli/src") && prints && !may {
            found.push(format!(
                "{}: prints by itself; use `print` or `terminal`",
                source.path
            ));
        }
    }
    none(&found);
}

#[test]
fn files_begin_with_what_they_are_for_and_end_in_time() {
    let mut found = Vec::new();
    for source in sources() {
        // What users write wrongly has no head.
        let is_sample = source.path.starts_with("guest-sdk/rust/tests/wrong/");
        if !source.text.starts_with("//! ") && !is_sample {
            found.push(format!("{}: does not begin with `//!`", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            found.push(format!(
                "{}: has {lines} lines, more than {LINES_MAX}",
                source.path
            ));
        }
    }
    none(&found);
}

#[test]
fn files_have_names_that_say_something() {
    let mut found = Vec::new();
    for source in sources() {
        let is_empty_word = |part: &str| {
            let part = part.strip_suffix(".rs").unwrap_or(part);
            [
                "utils", "util", "common", "helpers", "types", "core", "manager",
            ]
            .contains(&part)
        };
        if source.path.split('/').any(is_empty_word) {
            found.push(source.path);
        }
    }
    none(&found);
}

/// Else a reader who meets a name in a signature cannot tell which type it is.
#[test]
fn type_names_stand_once() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        if source.is_code_of_host() {
            for name in declared_types(&source.code()) {
                let files = files.entry(name.to_owned()).or_default();
                files.push(source.path.clone());
            }
        }
    }
    let shared = files.iter().filter(|(_, files)| files.len() > 1);
    let mut found: Vec<_> = shared
        .map(|(name, files)| format!("`{name}` stands in {}", files.join(", ")))
        .collect();
    let allowed = files.len() * SHARED_NAMES_PERCENT_MAX / 100;
    assert!(allowed > 0, "{}", files.len());
    if found.len() <= allowed {
        return;
    }
    found.push(format!(
        "{} of {} names of types stand in more than one file; at most {SHARED_NAMES_PERCENT_MAX} % may, so {allowed}",
        found.len(),
        files.len()
    ));
    none(&found);
}

/// Else a reader has to find out which of its fields belong together.
#[test]
fn structs_are_small() {
    let mut found = Vec::new();
    let mut count = 0;
    for source in sources() {
        let code = source.untested_code().unwrap_or_default();
        for item in items(&code, "struct") {
            count += 1;
            let (name, fields) = (item.name, item.fields());
            if fields > FIELDS_MAX {
                found.push(format!(
                    "{}: `{name}` has {fields} fields, more than {FIELDS_MAX}: group those that belong together",
                    source.path
                ));
            }
        }
    }
    assert!(count > 100, "{count}");
    none(&found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    let mut count = 0;
    for source in sources() {
        let code = source.untested_code().unwrap_or_default();
        for item in items(&code, "fn") {
            count += 1;
            let (name, lines) = (item.name, item.lines.len());
            if lines > FUNCTION_LINES_MAX {
                found.push(format!(
                    "{}: `{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}",
                    source.path
                ));
            }
        }
    }
    assert!(count > 1000, "{count}");
    none(&found);
}

#[test]
fn nothing_is_put_off_or_silenced() {
    // In two halves, so that this file has none of them.
    let words = [
        ("todo", "!"),
        ("unimplemented", "!"),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("#[ign", "ore"),
        ("#[al", "low("),
        ("#![al", "low("),
    ]
    .map(|(one, other)| [one, other].concat());
    let mut found = Vec::new();
    // A file that several benchmarks take in, each to use a part of it.
    let is_shared = |source: &Source| source.is_below("host/cli/benches/support");
    for source in sources().into_iter().filter(|source| !is_shared(source)) {
        for (number, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    none(&found);
}

#[test]
fn every_crash_point_is_reached_somewhere() {
    let sources = sources();
    // Points are named elsewhere to be looked at.
    let tools = ["host/checkpoint/src/crash.rs", "host/cli/src/crash_test"];
    let is_tool = |source: &Source| tools.iter().any(|tool| source.path.starts_with(tool));
    let code: Vec<_> = sources
        .iter()
        .filter(|source| source.is_below_src_of_host() && !is_tool(source))
        .map(Source::code)
        .collect();
    let mut found = Vec::new();
    for point in floodmark_checkpoint::crash::Point::ALL {
        let name = format!("Point::{point:?}");
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
        let count = |code: &String| code.split(&name).skip(1).filter(|rest| ends(rest)).count();
        if code.iter().map(count).sum::<usize>() == 0 {
            found.push(format!("`{name}` stands nowhere"));
        }
    }
    none(&found);
}
