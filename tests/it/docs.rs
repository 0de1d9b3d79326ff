//! Catches a command, option, exit code or field that the documents do not name, a link that leads nowhere, documents that grow
//! beyond what one reads, and a format that changes without its description.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::job::{Job, command};
use crate::plugins::repository;
use crate::text::has_word;

#[track_caller]
fn read(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a document has a name; hyphens are parts of names.
fn names(text: &str, name: &str) -> bool {
    has_word(text, name, '-')
}

fn help(words: &[&str]) -> String {
    let output = command().args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines below a heading of the help, to the next empty line.
fn section<'a>(help: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let lines = help.lines().skip_while(move |line| *line != heading);
    lines.skip(1).take_while(|line| !line.is_empty())
}

/// Every command, as its words, with its help.
fn commands() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut next = vec![Vec::new()];
    while let Some(words) = next.pop() {
        let words: Vec<String> = words;
        let help = help(&words.iter().map(String::as_str).collect::<Vec<_>>());
        for line in section(&help, "Commands:") {
            // A line that continues a description is indented further.
            let name = line.strip_prefix("  ").unwrap_or_default();
            let name = name.split(' ').next().unwrap_or_default();
            if !name.is_empty() && name != "help" {
                next.push([&words[..], &[name.to_owned()]].concat());
            }
        }
        found.push((words, help));
    }
    found
}

#[test]
fn every_command_and_option_is_described() {
    let document = read("host/docs/commands.md");
    let mut missing = BTreeSet::new();
    let commands = commands();
    assert!(commands.len() > 20, "the help lists few commands");
    for (words, help) in commands {
        let words = words.join(" ");
        if !names(&document, &words) {
            missing.insert(format!("`{words}`"));
        }
        for line in help.lines() {
            let line = line.trim_start();
            let long = match line.split_once(", ") {
                Some((short, long)) if short.len() == 2 && short.starts_with('-') => long,
                _ => line,
            };
            let Some(option) = long.strip_prefix("--") else {
                continue;
            };
            let end = option.find(|char: char| !char.is_ascii_lowercase() && char != '-');
            let option = format!("--{}", &option[..end.unwrap_or(option.len())]);
            if !names(&document, &option) {
                missing.insert(format!("`{words} {option}`"));
            }
        }
    }
    assert!(missing.is_empty(), "commands.md lacks {missing:#?}");
}

#[test]
fn every_exit_code_is_described() {
    let document = read("host/docs/commands.md");
    let help = help(&[]);
    let codes = section(&help, "Exit codes:");
    let codes: Vec<_> = codes
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(codes.contains(&"130"), "{codes:?}");
    for code in codes {
        assert!(names(&document, code), "commands.md lacks exit code {code}");
    }
}

/// The fields that a table of the pipeline file may have, from the refusal of one that it may not have.
fn fields_of(job: &Job, table: &str) -> Vec<String> {
    let set = format!("{table}.zzz=1");
    let outcome = job.command(&["check", "pipeline.toml", "--set", &set]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    let known = outcome.stderr.split_once("known here: ");
    let (_, known) = known.unwrap_or_else(|| panic!("{table}: {}", outcome.stderr));
    let known = known.lines().next().unwrap_or_default().split('`');
    known.skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_field_is_described() {
    let pipeline = read("host/docs/pipeline.md");
    let connectors = read("host/docs/connectors.md");
    let with = |source: &str, sink: &str| {
        let job = Job::with_input("one\n");
        let operator = r#"operator.o = { plugin = "o.wasm", from = "in" }"#;
        let text = format!("source.in = {source}\n{operator}\nsink.out = {sink}\n");
        job.write("pipeline.toml", text);
        job
    };
    let job = with(
        r#"{ connector = "file", path = "in.txt" }"#,
        r#"{ connector = "file", from = "o", path = "out" }"#,
    );
    let other = with(
        r#"{ connector = "generator", records = 1, keys = 1 }"#,
        r#"{ connector = "stdout", from = "o" }"#,
    );
    let third = with(
        r#"{ connector = "stdin" }"#,
        r#"{ connector = "stdout", from = "o" }"#,
    );
    let mut missing = Vec::new();
    let mut count = 0;
    let mut check = |document: &str, job: &Job, table: &str| {
        for field in fields_of(job, table) {
            count += 1;
            if !names(document, &field) {
                missing.push(format!("{table}.{field}"));
            }
        }
    };
    for table in [
        "job",
        "checkpoint",
        "state",
        "limits",
        "restart",
        "operator.o",
    ] {
        check(&pipeline, &job, table);
    }
    for table in ["source.in", "sink.out"] {
        check(&connectors, &job, table);
        check(&connectors, &other, table);
    }
    check(&connectors, &third, "source.in");
    assert!(count > 40, "{count}");
    assert!(missing.is_empty(), "no document has {missing:#?}");
}

/// The targets of links in a document, without those to other hosts.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
}

/// A heading as the anchor that web pages make of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        _ => char.is_alphanumeric().then_some(char),
    });
    kept.collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    let folders = ["", "host/docs", "host/cli/benches", "guest-sdk"];
    for folder in folders {
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "md") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for link in links(&text) {
                let (file, place) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => path.clone(),
                    _ => path.parent().unwrap_or(Path::new("")).join(file),
                };
                let is_there = target.exists()
                    && (place.is_empty() || {
                        let text = fs::read_to_string(&target).unwrap();
                        let mut headings = text.lines().filter(|line| line.starts_with('#'));
                        headings.any(|heading| anchor(heading) == place)
                    });
                if !is_there {
                    dead.push(format!("{}: {link}", path.display()));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn documents_stay_short() {
    for (path, lines_max) in [
        ("README.md", 180),
        ("ARCHITECTURE.md", 250),
        ("CONTRIBUTING.md", 150),
        ("SECURITY.md", 100),
    ] {
        let lines = read(path).lines().count();
        assert!(lines <= lines_max, "{path} has {lines} lines");
    }
}

/// The format document names the golden bytes that it describes, so that a change of these leads to a look at it.
#[test]
fn the_format_document_is_of_the_golden_bytes() {
    let golden = "tests/fixtures/manifest-v1.hex";
    let line = format!(
        "`{golden}` has the XXH3-64 `{:016x}`",
        xxh3_64(read(golden).as_bytes())
    );
    let document = read("host/docs/checkpoint-format.md");
    assert!(
        document.contains(&line),
        "read the document again, bring it up to date, and write: {line}"
    );
}
