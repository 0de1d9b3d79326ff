//! Catches records that are lost, doubled or in the wrong folder when a file sink writes many files, a name that leads out
//! of its folder, files that other tools cannot decode, output that is trusted although it could not be synced, files of
//! others that are replaced, and a job that ends as if all was well while its output is not visible.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::job::{Job, Outcome, keeping_code};

/// A job that copies `in.txt` to the sink `out`: lines of the two tables, without their connectors.
fn copy(source: &str, sink: &str, input: impl AsRef<[u8]>) -> Job {
    let job = Job::with_input(input);
    let pipeline = format!(
        "[job]\nname = \"words\"\n[source.text]\nconnector = \"file\"\npath = \"in.txt\"\n{source}\n\
         [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n{sink}\n"
    );
    job.write("pipeline.toml", pipeline);
    job
}

/// The bytes of all visible files, by folder and then by name.
type Found = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

fn found(out: &Path) -> Found {
    let mut found = Found::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(out.join(&folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let inner = match folder.as_str() {
                "" => name.clone(),
                _ => format!("{folder}/{name}"),
            };
            if inner == ".staged" {
                continue;
            }
            if path.is_dir() {
                folders.push(inner);
            } else {
                let files = found.entry(folder.clone()).or_default();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The lines of files, sorted.
fn lines<'a>(files: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files {
        let text = str::from_utf8(file).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    lines
}

/// Kills some runs once they have completed a checkpoint, and lets the next one end.
fn killed(job: &Job, arguments: &[&str], kills: usize) -> Outcome {
    for _ in 0..kills {
        let mut run = job.start(arguments);
        while !run.has_ended() && !run.stderr().contains(" completed: ") {
            sleep(Duration::from_millis(2));
        }
        run.kill();
    }
    job.run(arguments).succeeded()
}

#[test]
fn files_end_at_a_limit_and_have_each_record_once() {
    let mut input = String::new();
    for number in 0..150_000 {
        writeln!(input, "{number:0100}").unwrap();
    }
    let sink = "roll-records = 1000\nroll-bytes = 1000000";
    let job = copy("split-bytes = 1000000", sink, &input);
    let arguments = ["--parallelism", "2", "--set", "checkpoint.interval=50ms"];
    killed(&job, &arguments, 4);
    let expected: Vec<&str> = input.lines().collect();
    let check = || {
        let files = found(&job.path("out")).remove("").unwrap();
        assert!(files.keys().any(|name| name.ends_with("-0002.txt")));
        for (name, file) in &files {
            let count = file.iter().filter(|&&byte| byte == b'\n').count();
            assert!((1..=1000).contains(&count), "{name}: {count}");
        }
        assert!(lines(files.values()) == expected);
    };
    check();
    // Back to the oldest checkpoint: later files are taken back, and written again.
    let ids = job.checkpoint_ids();
    let oldest = ids.last().unwrap().to_string();
    job.command(&["rollback", ".", "--to", &oldest]).succeeded();
    job.run(&arguments).succeeded();
    check();
}

/// Keys that could name another folder, or none.
fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "",
        ".",
        "..",
        "../x",
        "/",
        "/tmp",
        "\0",
        "a/../../b",
        ".staged",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.extend(["%2F", "~", "é", "part-00000001-000.txt", "\n"].map(str::to_owned));
    keys.extend(["k".repeat(300), "k".repeat(301), "/".repeat(100)]);
    keys.extend((0..20).map(|number| format!("key-{number}")));
    keys
}

#[test]
fn folders_have_the_records_of_their_keys() {
    let keys = hostile_keys();
    let mut input = String::new();
    let mut expected: BTreeMap<(String, usize), Vec<String>> = BTreeMap::new();
    for number in 0..120_000 {
        let (key, day) = (&keys[number % keys.len()], number / 40_000);
        let time = day as i64 * 86_400_000 + number as i64;
        let line = json!({"k": key, "t": time, "in": {"n": number % 2}, "number": number});
        writeln!(input, "{line}").unwrap();
        let of_key = expected.entry((key.clone(), day)).or_default();
        of_key.push(line.to_string());
    }
    let source = "format = \"jsonl\"\nkey = \"k\"\ntimestamp = \"t\"\ntimestamp-unit = \"ms\"";
    let sink = "format = \"jsonl\"\nfolders = \"{key}/dt={time:%Y-%m-%d}/n={field:in.n}\"";
    let job = copy(source, sink, &input);
    let before: BTreeSet<_> = names(job.path("."));
    killed(&job, &["--set", "checkpoint.interval=50ms"], 4);

    let mut by_key: BTreeMap<(String, usize), Vec<String>> = BTreeMap::new();
    let mut key_of: BTreeMap<String, String> = BTreeMap::new();
    for (folder, files) in found(&job.path("out")) {
        let parts: Vec<&str> = folder.split('/').collect();
        let [outer, day, n] = parts[..] else {
            panic!("{folder}");
        };
        for line in lines(files.values()) {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            let key = record["k"].as_str().unwrap().to_owned();
            let number = record["number"].as_u64().unwrap() as usize;
            assert_eq!(n, format!("n={}", number % 2));
            assert_eq!(day, format!("dt=1970-01-{:02}", 1 + number / 40_000));
            let owner = key_of.entry(outer.to_owned()).or_insert(key.clone());
            assert_eq!(*owner, key, "two keys share the folder {outer}");
            by_key.entry((key, number / 40_000)).or_default().push(line);
        }
    }
    for lines in expected.values_mut().chain(by_key.values_mut()) {
        lines.sort_unstable();
    }
    assert!(by_key == expected);
    assert_eq!(key_of.len(), keys.len());
    assert_eq!(key_of["__HIVE_DEFAULT_PARTITION__"], "");
    assert_eq!(key_of["%2E.%2Fx"], "../x");
    let mut after = names(job.path("."));
    after.retain(|name| !before.contains(name));
    let new = [".floodmark", "out"].map(str::to_owned);
    assert_eq!(after, BTreeSet::from(new));
}

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn folders_may_change_between_two_runs() {
    let job = copy("key-separator = \"=\"", "folders = \"{key}\"", "a=1\nb=2\n");
    // The user has made this one, and no other.
    fs::create_dir_all(job.path("out/b")).unwrap();
    job.run(&[]).succeeded();
    fs::write(job.path("in.txt"), "a=1\nb=2\na=3\n").unwrap();
    let other = [
        "--set",
        "sink.out.folders=\"k={key}\"",
        "--set",
        "sink.out.compression=gzip",
    ];
    job.run(&other).succeeded();
    let folders: Vec<String> = found(&job.path("out")).into_keys().collect();
    assert_eq!(folders, ["a", "b", "k=a"]);
    // Everything is found again to be removed.
    job.run(&["--fresh", "--set", "sink.out.folders=again"])
        .succeeded();
    let found = found(&job.path("out"));
    assert_eq!(lines(found["again"].values()), ["1", "2", "3"]);
    assert_eq!(found.len(), 1, "{:?}", found.keys());
    assert!(!job.path("out/k=a").exists());
    assert!(job.path("out/b").is_dir());
}

#[test]
fn a_thousand_folders_need_few_open_files() {
    let filler = "x".repeat(1500);
    let mut input = String::new();
    for number in 0..20_000 {
        writeln!(input, "{:03}={number} {filler}", number % 1000).unwrap();
    }
    let sink = "folders = \"{key}\"\nopen-files = 16";
    let job = copy("key-separator = \"=\"", sink, &input);
    let mut command = Command::new("sh");
    let script = "ulimit -n 200; exec \"$0\" run pipeline.toml --parallelism 1";
    command.args(["-c", script, env!("CARGO_BIN_EXE_floodmark")]);
    job.spawn(keeping_code(command)).wait().succeeded();
    let found = found(&job.path("out"));
    assert_eq!(found.len(), 1000);
    for (folder, files) in found {
        assert_eq!(files.len(), 1, "{folder}");
        let count = lines(files.values()).len();
        assert_eq!(count, 20, "{folder}");
    }
}

#[test]
fn compressed_files_are_decoded_by_others() {
    let mut input = String::new();
    for number in 0..100_000 {
        writeln!(input, "{number:050}").unwrap();
    }
    let expected: Vec<&str> = input.lines().collect();
    for (compression, ending) in [("gzip", ".txt.gz"), ("zstd", ".txt.zst")] {
        let sink = format!("compression = \"{compression}\"\nroll-records = 30000");
        let job = copy("", &sink, &input);
        killed(&job, &["--set", "checkpoint.interval=50ms"], 2);
        let files = found(&job.path("out")).remove("").unwrap();
        let mut decoded = Vec::new();
        for (name, file) in &files {
            assert!(name.ends_with(ending), "{name}");
            decoded.push(decode(compression, file));
        }
        assert!(lines(&decoded) == expected, "{compression}");
    }
}

/// Decodes one member or frame, which has to be the whole file.
fn decode(compression: &str, file: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    if compression == "zstd" {
        return zstd::stream::decode_all(file).unwrap();
    }
    let mut decoder = flate2::bufread::GzDecoder::new(file);
    decoder.read_to_end(&mut decoded).unwrap();
    assert!(decoder.into_inner().is_empty(), "there is a second member");
    decoded
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (sink, words) in [
        (
            "folders = \"../{key}\"",
            "sink.out.folders: a folder begins with a dot",
        ),
        (
            "folders = \"{keys}\"",
            "sink.out.folders: a value in braces has to be",
        ),
        ("folders = \"{time:%Y/%m}\"", "makes no folder"),
        (
            "compression = \"gz\"",
            "sink.out.compression: unknown value `gz`",
        ),
        ("roll-bytes = 0", "sink.out.roll-bytes"),
        ("roll-records = \"many\"", "sink.out.roll-records"),
    ] {
        let outcome = copy("", sink, "a\n").run(&[]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        outcome.says(words);
    }
    let outcome = copy("", "open-files = 3", "a\n").run(&[]);
    assert_ne!(outcome.code, Some(0));
    outcome.says("leave it out, or set `folders`");
    let outcome = copy("", "folders = \"{time:%Y}\"", "a\n");
    let outcome = outcome.run(&["--set", "restart.strategy=none"]);
    assert_ne!(outcome.code, Some(0));
    outcome.says("it has no event time, which `folders` needs");
}

#[test]
fn output_that_cannot_be_synced_is_written_again() {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        r#"
job.name = "words"
source.numbers = { connector = "generator", keys = 10, rate = 20000 }
sink.out = { connector = "file", from = "numbers", path = "out", format = "csv" }
"#,
    );
    let arguments = ["--parallelism", "1", "--set", "checkpoint.interval=500ms"];
    let more = [
        "--set",
        "restart.strategy=fixed-delay",
        "--set",
        "restart.delay=10ms",
    ];
    let mut run = job.start(&[&arguments[..], &more[..]].concat());
    run.wait_for(" completed: ");
    // A device in the place of the file that is being written: it cannot be synced.
    let staged = job.path("out/.staged");
    symlink("/dev/null", staged.join("device")).unwrap();
    for _ in 0..30_000 {
        if staged.join("open-000").exists() {
            fs::rename(staged.join("device"), staged.join("open-000")).unwrap();
            break;
        }
        sleep(Duration::from_millis(2));
    }
    run.wait_for("cannot sync `");
    run.wait_for("resumes from checkpoint ");
    // Checkpoints complete again.
    let completed = |text: &str| text.matches(" completed: ").count();
    let before = completed(&run.stderr());
    let is_later = (0..30_000).any(|_| {
        sleep(Duration::from_millis(2));
        completed(&run.stderr()) > before
    });
    assert!(is_later, "{}", run.stderr());
    run.signal("TERM");
    let outcome = run.wait().succeeded();
    let files = found(&job.path("out")).remove("").unwrap();
    let written = lines(files.values());
    let distinct: BTreeSet<&String> = written.iter().collect();
    assert_eq!(distinct.len(), written.len(), "a record is there twice");
    outcome.says(&format!("{} records, ", written.len()));
}

#[test]
fn files_in_the_order_of_their_names_have_the_records_in_their_order() {
    let input: String = (0..25).map(|number| format!("{number}\n")).collect();
    let job = copy("", "roll-records = 2", &input);
    job.run(&["--parallelism", "1"]).succeeded();
    let files = found(&job.path("out")).remove("").unwrap();
    assert_eq!(files.len(), 13);
    let written: Vec<u8> = files.into_values().flatten().collect();
    assert_eq!(String::from_utf8(written).unwrap(), input);
    // A task that writes one file has no number in its name.
    let job = copy("", "", &input);
    job.run(&["--parallelism", "1"]).succeeded();
    assert!(job.path("out/part-00000001-000.txt").exists());
}

#[test]
fn sinks_in_one_folder_are_refused() {
    for (path, words) in [
        ("out/x", "sink.inner.path: is in the folder of sink `out`"),
        ("out", "sink.out.path: is the folder of sink `inner`"),
    ] {
        let sink =
            format!("[sink.inner]\nconnector = \"file\"\nfrom = \"text\"\npath = \"{path}\"");
        let job = copy("", &sink, "a\n");
        for outcome in [job.run(&[]), job.command(&["check", "pipeline.toml"])] {
            assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
            outcome.says(words);
        }
        assert!(!job.path("out").exists());
    }
}

#[test]
fn a_folder_of_another_job_is_not_written_to() {
    let job = copy("", "", "a\nb\n");
    let other = ["--set", "job.name=other", "--set", "sink.out.path=out/x"];
    job.run(&other).succeeded();
    let before = found(&job.path("out"));
    let outcome = job.run(&["--set", "sink.out.folders=x"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    outcome.says("out/x` is the output of sink `out` of job `other`");
    assert!(found(&job.path("out")) == before);
}

/// Each has something in the way of the output, which the job must neither follow nor replace.
#[test]
fn a_job_whose_output_is_not_visible_fails_and_the_next_run_shows_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = "day/x/part-00000001-000-0001.txt";
    for (in_the_way, words) in [
        ("day", "cannot create folder `"),
        ("day/x", "` is a symbolic link"),
        (theirs, "` is named like output of this sink"),
    ] {
        let job = copy("", "folders = \"day/x\"", "a\nb\n");
        let place = job.path("out").join(in_the_way);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if in_the_way == "day/x" {
            symlink(elsewhere.path(), &place).unwrap();
        } else {
            fs::write(&place, "theirs").unwrap();
        }
        let outcome = job.run(&[]);
        assert_eq!(outcome.code, Some(5), "{in_the_way}: {}", outcome.stderr);
        let outcome = outcome.says(words);
        outcome.says("is durable but not all visible");
        match in_the_way {
            "day/x" => assert_eq!(names(elsewhere.path()), BTreeSet::new()),
            _ => assert_eq!(fs::read(&place).unwrap(), b"theirs"),
        }
        fs::rename(&place, job.path("moved")).unwrap();
        job.run(&[]).succeeded();
        let files = found(&job.path("out")).remove("day/x").unwrap();
        assert_eq!(lines(files.values()), ["a", "b"], "{in_the_way}");
    }
}

#[test]
fn output_becomes_visible_if_the_cause_goes_before_the_job_has_ended() {
    let job = copy("", "folders = \"day\"", "a\n");
    job.write("out/day", "theirs");
    let mut run = job.start(&[]);
    run.wait_for("not visible yet");
    fs::rename(job.path("out/day"), job.path("moved")).unwrap();
    run.wait().succeeded();
    let files = found(&job.path("out")).remove("day").unwrap();
    assert_eq!(lines(files.values()), ["a"]);
}
