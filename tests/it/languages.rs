//! Every language that there is an SDK for: the same plugins, held to the same vectors, by the built command.
//!
//! Catches an SDK whose states, ports, rejections or failures differ from the others', a project that `new` makes and that does
//! not build or pass, state that another language cannot take over, and output that a crash or a swap changes.
//!
//! A language whose tools are not on the machine is skipped, and standard error says so by name; with
//! `FLOODMARK_LANGUAGES=all`, as `.ci/run` sets it, that is a failure.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

use floodmark_plugin_build::Language;

use crate::job::{self, Job};
use crate::plugins::repository;
use crate::text::text;

/// The folders of the cases; below each is a folder a language.
const CASES: [&str; 7] = [
    "plugins/word-count",
    "tests/guests/dedupe",
    "tests/guests/top",
    "tests/guests/history",
    "tests/guests/enrich",
    "tests/guests/router",
    "tests/guests/misbehaves",
];

/// Whether plugins of a language can be built here.
pub fn is_available(language: Language) -> bool {
    let folder = repository().join(CASES[0]).join(language.name());
    let Err(missing) = language.find_tools(&folder) else {
        return true;
    };
    let all = std::env::var_os("FLOODMARK_LANGUAGES").is_some_and(|which| which == "all");
    assert!(!all, "{missing}");
    // Not `eprintln`, which is kept back when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {language}: {missing}");
    false
}

/// Runs a command to its end, and says all of it when it fails.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    );
    assert!(status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

fn floodmark(folder: &Path) -> Command {
    let mut command = job::command();
    command.current_dir(folder);
    command
}

fn check_cases(language: Language) {
    if !is_available(language) {
        return;
    }
    for case in CASES {
        let folder = repository().join(case).join(language.name());
        let said = succeed(floodmark(&folder).args(["test", "."]));
        assert!(said.contains("ok"), "{language}: {case}: {said}");
    }
}

#[test]
fn every_event_time_goes_through_or_is_refused() {
    for language in Language::ALL {
        if !is_available(language) {
            continue;
        }
        let mut test = floodmark(&counter(language));
        test.args(["test", ".", "--vectors", "../extreme-times.toml"]);
        if language == Language::JavaScript {
            let said = String::from_utf8(test.output().unwrap().stdout).unwrap();
            assert!(said.contains("beyond 2^53 ms"), "{said}");
        } else {
            succeed(&mut test);
        }
    }
}

#[test]
fn rust_plugins_pass_the_vectors() {
    check_cases(Language::Rust);
}

#[test]
fn go_plugins_pass_the_vectors() {
    check_cases(Language::Go);
}

#[test]
fn python_plugins_pass_the_vectors() {
    check_cases(Language::Python);
}

#[test]
fn typescript_plugins_pass_the_vectors() {
    check_cases(Language::JavaScript);
}

#[test]
fn c_plugins_pass_the_vectors() {
    check_cases(Language::C);
}

/// The command that runs a project's own test, without WebAssembly.
fn native_test(language: Language, folder: &Path) -> Command {
    let words: &[&str] = match language {
        Language::Rust => &["cargo", "test", "--quiet"],
        Language::Go => &["go", "test", "./..."],
        Language::Python => &["python3", "-m", "unittest", "--quiet"],
        Language::JavaScript => &["npm", "test", "--silent"],
        Language::C => &["make", "--silent", "test"],
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(folder);
    if language == Language::Rust {
        // Crates are compiled once for all runs of the tests.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-rust");
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

fn check_new(language: Language) {
    if !is_available(language) {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("my-counter");
    succeed(floodmark(parent.path()).args(["new", "--language", language.name(), "my-counter"]));
    succeed(&mut native_test(language, &folder));
    let mut test = floodmark(&folder);
    test.args(["test", "."]);
    if language == Language::Rust {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-rust");
        test.env("CARGO_TARGET_DIR", target);
    }
    let said = succeed(&mut test);
    assert!(said.contains("ok"), "{said}");
}

#[test]
fn a_new_rust_project_passes_at_once() {
    check_new(Language::Rust);
}

#[test]
fn a_new_go_project_passes_at_once() {
    check_new(Language::Go);
}

#[test]
fn a_new_python_project_passes_at_once() {
    check_new(Language::Python);
}

#[test]
fn a_new_typescript_project_passes_at_once() {
    check_new(Language::JavaScript);
}

#[test]
fn a_new_c_project_passes_at_once() {
    check_new(Language::C);
}

/// Those of Rust are tested by cargo.
#[test]
fn the_sdks_pass_their_own_tests() {
    for language in [
        Language::Go,
        Language::Python,
        Language::JavaScript,
        Language::C,
    ] {
        if is_available(language) {
            let folder = repository().join("guest-sdk").join(language.name());
            match language {
                Language::C => succeed(Command::new("make").current_dir(folder.join("tests"))),
                _ => succeed(&mut native_test(language, &folder)),
            };
        }
    }
}

/// A pipeline that counts the words of `in.txt` by the plugin in a folder.
fn pipeline(count: &Path) -> String {
    let split = crate::plugins::plugin("word-split");
    format!(
        "[job]\nname = \"words\"\n[checkpoint]\ninterval = \"50ms\"\n\
         [source.text]\nconnector = \"file\"\npath = \"in.txt\"\n\
         [operator.split]\nplugin = {split:?}\nfrom = \"text\"\n\
         [operator.count]\nplugin = {count:?}\nfrom = \"split\"\n\
         [sink.out]\nconnector = \"file\"\nfrom = \"count\"\npath = \"out\"\nformat = \"csv\"\n"
    )
}

/// Every word with each of its counts, as often as it was written.
fn written(job: &Job) -> BTreeMap<String, u64> {
    let mut lines = BTreeMap::new();
    for part in fs::read_dir(job.path("out")).unwrap() {
        let path = part.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            for line in fs::read_to_string(path).unwrap().lines() {
                *lines.entry(line.to_owned()).or_default() += 1;
            }
        }
    }
    lines
}

/// What is to be written of a text: each word with 1, 2, … once.
fn expected(text: &str) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for word in text.split_ascii_whitespace() {
        let count = counts.entry(word).or_default();
        *count += 1;
        lines.insert(format!("{word},{count}"), 1);
    }
    lines
}

fn words(bytes: usize, seed: u64) -> String {
    let plain = String::from_utf8(text(bytes, seed)).unwrap();
    // Nothing that CSV would quote.
    plain.replace(['"', ','], "")
}

fn counter(language: Language) -> PathBuf {
    repository()
        .join("plugins/word-count")
        .join(language.name())
}

#[test]
fn a_killed_job_goes_on_exactly_in_each_language() {
    let input = words(3_000_000, 7);
    let expected = expected(&input);
    for language in Language::ALL {
        if !is_available(language) {
            continue;
        }
        let job = Job::new();
        job.write("pipeline.toml", pipeline(&counter(language)));
        job.write("in.txt", &input);
        for kill in 0..3 {
            let mut running = job.start(&[]);
            running.wait_for("completed");
            sleep(Duration::from_millis(7 * kill));
            running.kill();
        }
        job.run(&[]).succeeded();
        assert!(written(&job) == expected, "{language}");
    }
}

#[test]
fn one_language_takes_over_the_state_of_another() {
    let job = Job::new();
    let mut input = String::new();
    let languages: Vec<_> = Language::ALL
        .into_iter()
        .filter(|language| is_available(*language))
        .collect();
    for (turn, language) in languages.iter().chain(&languages[..1]).enumerate() {
        input += &words(3_000, turn as u64);
        input.push('\n');
        job.write("in.txt", &input);
        job.write("pipeline.toml", pipeline(&counter(*language)));
        job.run(&[]).succeeded();
        assert!(written(&job) == expected(&input), "{language}");
    }
}

/// Waits until so many lines were written.
fn wait_for_lines(job: &Job, lines: usize) {
    for _ in 0..1200 {
        if job.path("out").is_dir() && written(job).len() >= lines {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{} of {lines} lines", written(job).len());
}

#[test]
fn a_running_job_is_handed_from_language_to_language() {
    let job = Job::new();
    let follow = pipeline(&counter(Language::Rust))
        .replace("path = \"in.txt\"", "path = \"in.txt\"\nfollow = true");
    job.write("pipeline.toml", follow);
    let mut input = words(3_000, 1) + "\n";
    job.write("in.txt", &input);
    let running = job.start(&[]);
    wait_for_lines(&job, expected(&input).len());
    for (turn, language) in Language::ALL.into_iter().enumerate().rev() {
        if !is_available(language) {
            continue;
        }
        let to = counter(language);
        let swap = job.command(&["swap", "pipeline.toml", "count", to.to_str().unwrap()]);
        swap.succeeded();
        input += &(words(3_000, turn as u64) + "\n");
        job.write("in.txt", &input);
        wait_for_lines(&job, expected(&input).len());
    }
    job.command(&["stop", "pipeline.toml"]).succeeded();
    running.wait().succeeded();
    assert!(written(&job) == expected(&input));
}

#[test]
fn three_languages_work_in_one_job() {
    let wanted = [
        Language::Rust,
        Language::Python,
        Language::Go,
        Language::JavaScript,
    ];
    if !wanted.into_iter().all(is_available) {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut run = floodmark(repository());
    run.args(["run", "plugins/word-count/languages.toml", "--data-dir"]);
    run.arg(out.path().join("data"));
    for sink in ["go", "python", "typescript"] {
        let path = out.path().join(sink);
        run.arg("--set")
            .arg(format!("sink.{sink}.path={}", path.display()));
    }
    succeed(&mut run);
    let read = |sink: &str| {
        let mut parts: Vec<_> = fs::read_dir(out.path().join(sink))
            .unwrap()
            .map(|part| part.unwrap().path())
            .collect();
        parts.retain(|part| part.extension().is_some_and(|extension| extension == "csv"));
        parts.sort();
        parts
            .iter()
            .map(|part| fs::read_to_string(part).unwrap())
            .collect::<String>()
    };
    let counted = read("go");
    assert!(counted.lines().count() > 1000);
    assert!(read("python") == counted && read("typescript") == counted);
}
