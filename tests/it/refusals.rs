//! Catches bad input that is taken, ends in a panic or in the wrong exit code, is reported without what is wrong and what
//! to do, or harms what was there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::job::{Job, pipeline};
use crate::output::counted_by_tools;
use crate::plugins::plugin;

const TEXT: &str = "one two one\n";

/// A job that is finished, so that there is something to lose.
fn finished() -> Job {
    let job = Job::with_input(TEXT);
    job.run(&[]).succeeded();
    job
}

/// Runs and asserts the refusal, and that output and checkpoints are as they were.
#[track_caller]
fn check(job: &Job, arguments: &[&str], code: i32, says: &[&str]) {
    let before = (output(job), job.checkpoint(&["list"]));
    let mut outcome = job.run(arguments);
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    let errors = outcome.stderr.matches("error: ").count();
    assert_eq!(errors, 1, "{}", outcome.stderr);
    for words in says {
        outcome = outcome.says(words);
    }
    assert_eq!((output(job), job.checkpoint(&["list"])), before);
    job.checkpoint(&["verify"]);
}

/// All that is visible, byte by byte.
fn output(job: &Job) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(job.path("out")).unwrap();
    let files = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        Some((name, fs::read(entry.path()).ok()?))
    });
    files.collect()
}

/// The same for a finished job whose pipeline file is changed: `from` becomes `to`.
#[track_caller]
fn check_file(from: &str, to: &str, code: i32, says: &[&str]) {
    let job = finished();
    let text = pipeline();
    assert!(text.contains(from));
    job.write("pipeline.toml", text.replacen(from, to, 1));
    check(&job, &[], code, says);
}

#[test]
fn the_words_of_the_codes_are_in_the_help() {
    let help = Job::new().command(&["--help"]).succeeded().stdout;
    for line in [
        "0  the job is finished, or was stopped as asked, with a checkpoint",
        "1  an operator failed, or floodmark itself",
        "2  the command line or the pipeline file is wrong",
        "3  a plugin cannot be built, loaded or opened",
        "4  the data folder or its checkpoints cannot be used",
        "5  a source or a sink cannot be read or written",
        "130  asked twice to stop",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn input_that_is_not_there() {
    // It was read to its end.
    let job = finished();
    let before = output(&job);
    fs::remove_file(job.path("in.txt")).unwrap();
    job.run(&[]).succeeded();
    symlink("nowhere", job.path("in.txt")).unwrap();
    job.run(&[]).succeeded();
    assert_eq!(output(&job), before);

    let job = Job::new();
    let outcome = job.run(&[]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    outcome
        .says("error: `text`: `")
        .says("/in.txt` matches no file; create one there, or point `path` elsewhere");
}

#[test]
fn input_that_cannot_be_read() {
    let job = finished();
    fs::remove_file(job.path("in.txt")).unwrap();
    symlink("in.txt", job.path("in.txt")).unwrap();
    check(&job, &[], 5, &["`text`: cannot read `", "/in.txt`: "]);
}

#[test]
fn input_that_became_shorter() {
    let job = finished();
    job.write("in.txt", "one");
    let says = [
        "error: `text`: `",
        "/in.txt` ends at byte 3, but it was read up to byte 12 before the checkpoint",
        "restore the file, or start over with `--fresh`",
    ];
    check(&job, &[], 5, &says);
    job.write("in.txt", TEXT);
    job.run(&[]).succeeded();
    job.output().is_exactly(&counted_by_tools(TEXT.as_bytes()));
}

#[test]
fn a_pipeline_file_that_is_wrong() {
    check_file(
        "[job]",
        "[job",
        2,
        &["pipeline.toml:2: not TOML: unclosed table", "2 | [job"],
    );
    check_file(
        "path = \"in.txt\"",
        "pth = \"in.txt\"",
        2,
        &["source.text.pth: unknown field; did you mean `path`?"],
    );
    check_file(
        "[sink.counts]",
        "[sinc.counts]",
        2,
        &["sinc: unknown section; did you mean `sink`?"],
    );
    check_file(
        "name = \"words\"",
        "name = 7",
        2,
        &["job.name: must be text in quotes, not the number 7"],
    );
    check_file(
        "from = \"split\"",
        "from = \"splt\"",
        2,
        &["operator.count.from: there is no node `splt`; did you mean `split`?"],
    );
    check_file(
        "from = \"text\"",
        "from = [\"text\", \"split\"]",
        2,
        &["operator.split.from: forms a cycle: `split` -> `split`"],
    );
    check_file(
        "from = \"count\"",
        "from = \"count.all\"",
        2,
        &["sink.counts.from: ", "`out`"],
    );
    check_file(
        "format = \"csv\"",
        "format = \"xml\"",
        2,
        &["sink.counts.format: unknown value `xml`"],
    );
}

#[test]
fn a_command_that_is_wrong() {
    let job = finished();
    check(
        &job,
        &["--set", "source.text.pth=x"],
        2,
        &["--set source.text.pth=x: unknown field; did you mean `path`?"],
    );
    check(
        &job,
        &["--set", "checkpoint.interval=7"],
        2,
        &["checkpoint.interval", "`7` has no unit"],
    );
    check(
        &job,
        &["--parallelism", "0"],
        2,
        &["job.parallelism", "0 is not between 1 and 128"],
    );
    check(
        &job,
        &["--paralelism", "2"],
        2,
        &["'--paralelism'", "--parallelism"],
    );
    for (arguments, words) in [
        (
            &["run", "nowhere.toml"][..],
            "cannot read the pipeline `nowhere.toml`",
        ),
        (
            &["run", "out"],
            "cannot read the pipeline `out/pipeline.toml`",
        ),
        (&["walk"], "unrecognized subcommand 'walk'"),
    ] {
        let outcome = job.command(arguments);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        outcome.says(words);
    }
}

#[test]
fn a_plugin_that_is_none() {
    let job = finished();
    job.write("empty.wasm", "");
    job.write("text.wasm", "(component)");
    job.write("module.wasm", b"\0asm\x01\0\0\0");
    job.write("component.wasm", b"\0asm\x0d\0\x01\0");
    job.write("garbage.wasm", b"\0asm\x0d\0\x01\0 and so on");
    let component = fs::read(plugin("word-count")).unwrap();
    job.write("half.wasm", &component[..component.len() / 2]);
    let no_component = "the plugin is not a WebAssembly component (";
    for (file, says) in [
        ("nowhere.wasm", "there is no plugin `"),
        ("/dev/zero", "the plugin `/dev/zero` is not a regular file"),
        (
            "empty.wasm",
            "the plugin is not a WebAssembly component (the file is empty); build it for `wasm32-wasip2`",
        ),
        ("text.wasm", no_component),
        (
            "module.wasm",
            "the plugin is not a WebAssembly component (it is a core module)",
        ),
        ("garbage.wasm", no_component),
        ("half.wasm", no_component),
        (
            "component.wasm",
            "the plugin does not export `floodmark:engine/operator@0.1.0`; export an operator with the floodmark SDK",
        ),
        ("out", "has no `Cargo.toml`"),
    ] {
        let set = format!("operator.count.plugin={file}");
        check(&job, &["--set", &set], 3, &["operator.count.plugin", says]);
    }
}

#[test]
fn a_plugin_of_another_version() {
    let job = finished();
    let mut component = fs::read(plugin("word-count")).unwrap();
    replace(
        &mut component,
        b"floodmark:engine/operator@0.1.0",
        b"floodmark:engine/operator@0.2.0",
    );
    job.write("other.wasm", component);
    check(
        &job,
        &["--set", "operator.count.plugin=other.wasm"],
        3,
        &[
            "operator `count`: the plugin exports `floodmark:engine/operator@0.2.0`, and this floodmark runs `floodmark:engine/operator@0.1.0`",
            "rebuild it with the SDK of this version",
        ],
    );
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let places: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(from))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

#[test]
fn a_plugin_that_traps_in_describe() {
    let job = finished();
    let set = format!(
        "operator.count.plugin={}",
        plugin("traps-in-describe").display()
    );
    check(
        &job,
        &["--set", &set],
        3,
        &[
            "operator `count` crashed in `describe`: ",
            "no words for it",
        ],
    );
}

#[test]
fn a_plugin_that_does_not_build() {
    let job = finished();
    job.write(
        "broken/Cargo.toml",
        "[package]\nname = \"broken\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    );
    job.write("broken/lib.rs", "compile_error!(\"meant\");\n");
    let outcome = job.run(&["--set", "operator.count.plugin=broken"]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    outcome
        .says("error: meant")
        .says("building the plugin `")
        .says("the compiler's messages are above");
}

#[test]
fn a_data_folder_that_another_process_holds() {
    let job = finished();
    let mut text = pipeline();
    text = text.replace(
        "connector = \"file\"\npath = \"in.txt\"",
        "connector = \"generator\"\nkeys = 5\nrate = 100",
    );
    text = text.replace("path = \"out\"", "path = \"other\"");
    job.write("endless.toml", text.replace("\"words\"", "\"endless\""));
    let mut holder = job.start_command(&["run", "endless.toml", "--data-dir", "held"]);
    holder.wait_for("starts from the beginning");
    check(
        &job,
        &["--data-dir", "held"],
        4,
        &[
            "error: the data folder `held` is in use by process ",
            "; stop it first, or use another `--data-dir`",
        ],
    );
    // A command that only reads works while a job holds the folder.
    let listed = job.command(&["checkpoint", "list", "--data-dir", "held"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let deleted = job.command(&["checkpoint", "delete", "1", "--data-dir", "held"]);
    assert_eq!(deleted.code, Some(4));
    deleted.says("is in use by process ");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!holder.has_ended(), "{}", holder.stderr());
    holder.kill();
    // Nothing is left that holds the folder.
    let listed = job.command(&["checkpoint", "list", "--data-dir", "held"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
}

#[test]
fn a_data_folder_of_another_pipeline() {
    let job = finished();
    job.write("other.txt", "other words");
    let says = [
        "holds checkpoints of another pipeline: source `text` read `in.txt`, now reads `",
        "other.txt`; use another `--data-dir`, or `--fresh`",
    ];
    check(&job, &["--set", "source.text.path=other.txt"], 4, &says);
    check_file(
        "name = \"words\"",
        "name = \"other\"\nmax-parallelism = 64",
        5,
        &["is the output of sink `counts` of job `words`"],
    );
    let job = finished();
    check(
        &job,
        &["--set", "job.max-parallelism=64"],
        4,
        &["holds checkpoints of another pipeline"],
    );
}

#[test]
fn a_data_folder_that_cannot_be() {
    let job = finished();
    check(
        &job,
        &["--data-dir", "in.txt/data"],
        4,
        &["error: cannot create the data folder `in.txt", "`: "],
    );
    for command in ["list", "show", "verify"] {
        let outcome = job.command(&["checkpoint", command, "--data-dir", "nowhere"]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
        outcome.says("error: there is no data folder `nowhere`");
        assert!(!job.path("nowhere").exists());
    }
    let data_dir = job.data_dir();
    let outcome = job.command(&["checkpoint", "show", "99", "--data-dir", path(&data_dir)]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.says(
        "error: there is no checkpoint 99; `floodmark checkpoint list` shows those that are there",
    );
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn output_that_cannot_be() {
    let job = finished();
    job.write("file", "");
    let new = ["--data-dir", "new", "--set"];
    check(
        &job,
        &[&new[..], &["sink.counts.path=file/below"]].concat(),
        5,
        &["`counts`: cannot create folder `"],
    );
    check(
        &job,
        &["--data-dir", "newer"],
        5,
        &[
            "`counts`: `",
            "/out` holds the output of a run of this job with another data folder",
            "run with `--fresh`",
        ],
    );
}
