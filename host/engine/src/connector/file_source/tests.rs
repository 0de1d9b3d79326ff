//! Catches records that are lost, doubled or cut when a file is read in ranges, by several tasks, with restarts at any
//! point, or while it grows; and input errors that are not reported. All tests use the traits and real files; the model
//! is a split at newlines.

use std::fs;
use std::time::Duration;

use floodmark_testing::Random;
use tempfile::TempDir;

use super::split::Watch;
use super::*;
use crate::connector::{ReadLimits, ReadOutcome};
use floodmark_state::stream::{Batch, NO_TIMESTAMP, Timestamp};

pub(super) type Read = (Vec<u8>, Vec<u8>, Timestamp);

fn settings(toml: &str) -> FileSourceSettings {
    toml::from_str(toml).unwrap()
}

pub(super) fn source(folder: &TempDir, toml: &str) -> FileSource {
    FileSource::new(settings(toml), folder.path()).unwrap()
}

pub(super) fn limits(records_max: usize) -> ReadLimits {
    ReadLimits {
        records_max,
        bytes_max: usize::MAX,
    }
}

/// Reads with a random number of tasks and batches, and restarts from the splits at random moments, until all tasks are
/// finished or, with `stops`, a random moment. Returns the splits at the end.
pub(super) fn run(
    source: &FileSource,
    mut restored: Option<Vec<Split>>,
    random: &mut Random,
    stops: bool,
    records: &mut Vec<Read>,
) -> Vec<Split> {
    loop {
        let splits = source.splits(None, restored).unwrap();
        let tasks = 1 + random.index(4);
        let mut readers: Vec<_> = (0..tasks)
            .map(|task| {
                let own = splits.iter().skip(task).step_by(tasks).cloned();
                source.reader(own.collect()).unwrap()
            })
            .collect();
        let mut finished = vec![false; tasks];
        let mut steps = 1 + random.index(30);
        while steps > 0 && finished.contains(&false) {
            steps -= 1;
            let task = random.index(tasks);
            let mut batch = Batch::default();
            let outcome =
                readers[task].read(Duration::ZERO, limits(1 + random.index(9)), &mut batch);
            finished[task] = outcome.unwrap() == ReadOutcome::Finished;
            records.extend(batch.iter().map(|(k, v, t)| (k.to_vec(), v.to_vec(), t)));
        }
        let splits: Vec<_> = readers.iter().flat_map(|reader| reader.splits()).collect();
        if stops || !finished.contains(&false) {
            return splits;
        }
        restored = Some(splits);
    }
}

/// All records of an undisturbed reading by one task.
pub(super) fn read_all(source: &FileSource) -> Result<Vec<Read>, String> {
    let text = |error: ConnectorError| error.to_string();
    let splits = source.splits(None, None).map_err(text)?;
    let mut reader = source.reader(splits).map_err(text)?;
    let mut records = Vec::new();
    loop {
        let mut batch = Batch::default();
        let outcome = reader.read(Duration::ZERO, limits(100), &mut batch);
        let outcome = outcome.map_err(text)?;
        if let ReadOutcome::Bad(bad) = outcome {
            return Err(format!("{}: {}", bad.place, bad.reason));
        }
        records.extend(batch.iter().map(|(k, v, t)| (k.to_vec(), v.to_vec(), t)));
        if outcome == ReadOutcome::Finished {
            let progress = reader.progress();
            assert_eq!(Some(progress.done), progress.total);
            return Ok(records);
        }
    }
}

pub(super) fn model(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().unwrap();
    let strip = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    let mut lines: Vec<_> = lines.into_iter().map(strip).collect();
    if !last.is_empty() {
        lines.push(last.to_vec());
    }
    lines
}

fn sorted_values(records: &[Read]) -> Vec<Vec<u8>> {
    let mut values: Vec<_> = records.iter().map(|record| record.1.clone()).collect();
    values.sort();
    values
}

pub(super) fn message<T, E: ToString>(result: Result<T, E>) -> String {
    result.err().expect("this has to fail").to_string()
}

#[test]
fn any_cut_and_any_restart_gives_the_lines_of_the_file() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let folder = TempDir::new().unwrap();
        let bytes = random.bytes(b"ab\r\n\n\xff\0 ", 120);
        fs::write(folder.path().join("f"), &bytes).unwrap();
        let split_bytes = 1 + random.index(25);
        let source = source(&folder, &format!("path = 'f'\nsplit-bytes = {split_bytes}"));
        let mut records = Vec::new();
        run(&source, None, &mut random, false, &mut records);
        let mut expected = model(&bytes);
        assert_eq!(read_all(&source).unwrap().len(), expected.len());
        expected.sort();
        assert_eq!(sorted_values(&records), expected, "seed {seed}");
    }
}

#[test]
fn what_a_file_grew_by_is_read_once() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let folder = TempDir::new().unwrap();
        let split_bytes = 1 + random.index(12);
        let source = source(&folder, &format!("path = 'f'\nsplit-bytes = {split_bytes}"));
        let (mut file, mut expected, mut records) = (Vec::new(), Vec::new(), Vec::new());
        let mut restored = None;
        for _ in 0..4 {
            let mut more = random.bytes(b"abc\r\n\n", 40);
            // A newline at the start ends a last line that was already read. Anything else is refused.
            let is_unfinished = file.last().is_some_and(|&last| last != b'\n');
            if is_unfinished {
                more.insert(0, b'\n');
            }
            let new = match more.as_slice() {
                [b'\n', new @ ..] | [b'\r', b'\n', new @ ..] if is_unfinished => new,
                new => new,
            };
            expected.extend(model(new));
            file.extend_from_slice(&more);
            fs::write(folder.path().join("f"), &file).unwrap();
            restored = Some(run(&source, restored, &mut random, false, &mut records));
        }
        expected.sort();
        assert_eq!(sorted_values(&records), expected, "seed {seed}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_loses_and_doubles_no_byte() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let folder = TempDir::new().unwrap();
        let split_bytes = 1 + random.index(12);
        let source = source(&folder, &format!("path = 'f'\nsplit-bytes = {split_bytes}"));
        let (mut file, mut records, mut restored) = (Vec::new(), Vec::new(), None);
        for round in 0..8 {
            if file.last().is_some_and(|&last| last != b'\n') {
                file.push(b'\n');
            }
            file.extend(random.bytes(b"abcdefgh\n", 30));
            fs::write(folder.path().join("f"), &file).unwrap();
            let stops = round < 7;
            restored = Some(run(&source, restored, &mut random, stops, &mut records));
        }
        let mut read: Vec<u8> = records.into_iter().flat_map(|record| record.1).collect();
        let mut expected: Vec<u8> = file.into_iter().filter(|&byte| byte != b'\n').collect();
        read.sort_unstable();
        expected.sort_unstable();
        assert_eq!(read, expected, "seed {seed}");
    }
}

#[test]
fn a_line_may_be_longer_than_any_buffer_and_range() {
    let folder = TempDir::new().unwrap();
    let long = vec![b'x'; 10 << 20];
    let bytes = [b"a\n".as_slice(), &long, b"\r\nb\n", &long].concat();
    fs::write(folder.path().join("f"), &bytes).unwrap();
    let source = source(&folder, "path = 'f'\nsplit-bytes = 1_000_000");
    let read = read_all(&source).unwrap();
    let values: Vec<_> = read.iter().map(|record| record.1.as_slice()).collect();
    assert!(values == [b"a".as_slice(), &long, b"b", &long]);
}

#[test]
fn splits_do_not_depend_on_anything_but_the_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), vec![b'\n'; 100]).unwrap();
    let describe = |toml: &str| {
        let source = source(&folder, toml);
        let splits = source.splits(None, None).unwrap();
        assert_eq!(splits, source.splits(None, None).unwrap());
        splits.iter().map(describe).collect::<Vec<_>>()
    };
    let cut = describe("path = 'f'\nsplit-bytes = 40");
    assert_eq!(cut.len(), 3);
    assert!(cut[1].ends_with("f` at byte 40 of 40 to 80"), "{cut:?}");
    assert!(
        cut[2].ends_with("f` at byte 80 of 80 to its end"),
        "{cut:?}"
    );
    assert_eq!(
        describe("path = 'f'\nformat = 'csv'\nsplit-bytes = 40").len(),
        1
    );
    assert_eq!(
        describe("path = 'f'\nfollow = true\nsplit-bytes = 40").len(),
        1 + usize::from(Watch::COUNT)
    );
}

#[test]
fn a_separator_makes_keys() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), "a::1\n::2::3\n").unwrap();
    let source = source(&folder, "path = 'f'\nkey-separator = '::'");
    let expected =
        [("a", "1"), ("", "2::3")].map(|(key, value)| (key.into(), value.into(), NO_TIMESTAMP));
    assert_eq!(read_all(&source).unwrap(), expected);
    fs::write(folder.path().join("f"), "a::1\nb:2\n").unwrap();
    assert!(message(read_all(&source)).contains("f`, line 2, byte 5: the line has no `::`"));
}

#[test]
fn dead_letters_give_the_records_that_they_are_about() {
    let folder = TempDir::new().unwrap();
    let letter = |key: &str, value: &str, time: &str| {
        let rest = r#""operator":"o","plugin":"","reason":"no","position":"","input":"in""#;
        format!(r#"{{{rest},"key":{key},"value":{value},"timestamp":{time},"more":1}}"#) + "\n"
    };
    let text = letter("\"k\"", r#"{"base64":"/w=="}"#, "null") + &letter("\"\"", "\"v\"", "7");
    fs::write(folder.path().join("f"), text).unwrap();
    let source = source(
        &folder,
        "path = 'f'\nformat = 'dead-letters'\nsplit-bytes = 20",
    );
    let expected = [
        (b"k".to_vec(), vec![255], NO_TIMESTAMP),
        (Vec::new(), b"v".to_vec(), 7),
    ];
    assert_eq!(read_all(&source).unwrap(), expected);
}

#[test]
fn json_lines_give_keys_and_times_and_stay_as_they_are() {
    let folder = TempDir::new().unwrap();
    let check = |lines: &str, toml: &str| {
        fs::write(folder.path().join("f"), lines).unwrap();
        read_all(&source(
            &folder,
            &format!("path = 'f'\nformat = 'jsonl'\n{toml}"),
        ))
    };
    let read = check(
        "\u{feff}{\"u\":{\"id\":\"\\u00e9\"},\"t\":5}\r\n\n  \n{ \"t\": \"1970-01-01T00:00:01Z\", \"u\": {\"id\": 1.50}}",
        "key = 'u.id'\ntimestamp = 't'",
    );
    let read = read.unwrap();
    assert_eq!(read[0].0, "é".as_bytes());
    assert_eq!(read[0].1, b"{\"u\":{\"id\":\"\\u00e9\"},\"t\":5}");
    assert_eq!((read[0].2, read[1].2), (5, 1000));
    assert_eq!(read[1].0, b"1.50");
    assert_eq!(check("1\n\"x\"", "").unwrap().len(), 2);
    for (lines, toml, expected) in [
        ("1\n{\"a\":}", "", "byte 2: the line is not valid JSON"),
        ("1 2", "", "not valid JSON"),
        ("\"\u{1}\"", "", "not valid JSON"),
        ("{}", "key = 'a'", "there is no field `a`"),
        ("{\"a\":1}", "key = 'a.b'", "there is no field `a.b`"),
        ("{\"a\":[1]}", "key = 'a'", "object or an array"),
        ("{\"a\":1} x", "key = 'a'", "not valid JSON"),
        (
            "{\"a\":1.5}",
            "timestamp = 'a'",
            "`1.5` is not an event time",
        ),
    ] {
        let found = message(check(lines, toml));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn rows_become_objects_wherever_reading_starts_anew() {
    let folder = TempDir::new().unwrap();
    let mut file = "\u{feff}id,\"te\"\"xt\",at\r\n".to_owned();
    let mut expected = Vec::new();
    for row in 0..40_i64 {
        let end = ["\n", "\r\n", "\n\n", "\r\n\r\n"][row as usize % 4];
        file += &format!("k{row},\"a, \"\"b\"\"\n{row}\",{row}{end}");
        let value = format!(r#"{{"id":"k{row}","te\"xt":"a, \"b\"\n{row}","at":"{row}"}}"#);
        expected.push((format!("k{row}").into_bytes(), value.into_bytes(), row));
    }
    file += "\u{feff}x,y,7";
    let value = "{\"id\":\"\u{feff}x\",\"te\\\"xt\":\"y\",\"at\":\"7\"}";
    expected.push(("\u{feff}x".into(), value.into(), 7));
    fs::write(folder.path().join("f"), &file).unwrap();
    let source = source(
        &folder,
        "path = 'f'\nformat = 'csv'\nkey = 'id'\ntimestamp = 'at'",
    );
    assert_eq!(read_all(&source).unwrap(), expected);
    for seed in 0..50 {
        let mut records = Vec::new();
        let splits = run(&source, None, &mut Random(seed), false, &mut records);
        assert_eq!(records, expected, "seed {seed}");
        if seed == 0 {
            fs::write(folder.path().join("g"), "").unwrap();
            assert!(source.splits(None, Some(splits)).is_ok());
        }
    }
}

#[test]
fn wrong_rows_are_named() {
    let folder = TempDir::new().unwrap();
    let check = |file: &[u8], toml: &str| {
        fs::write(folder.path().join("f"), file).unwrap();
        read_all(&source(
            &folder,
            &format!("path = 'f'\nformat = 'csv'\n{toml}"),
        ))
    };
    assert_eq!(check(b"", "").unwrap(), []);
    assert_eq!(check(b"a,b", "").unwrap(), []);
    assert_eq!(check(b"a,b\n\"\",\"\"", "").unwrap().len(), 1);
    for (file, toml, expected) in [
        (
            b"a,b\n1,2\n3\n".as_slice(),
            "",
            "line 3, byte 8: the row has 1 field, but there are 2 columns",
        ),
        (b"a\n\"x", "", "byte 2: the row starts a quoted field"),
        (b"a\n\"", "", "byte 2: the row starts a quoted field"),
        (b"a,a\n", "", "two columns are called `a`"),
        (b"a,b\n", "key = 'c'", "no column `c`; there are `a`, `b`"),
        (b"a\n\xff\n", "", "field 1 is not UTF-8"),
        (
            b"a\nnever\n",
            "timestamp = 'a'",
            "`never` is not an event time",
        ),
    ] {
        let found = message(check(file, toml));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_path_is_a_file_a_folder_or_a_pattern() {
    let outer = TempDir::new().unwrap();
    // The folder of the pipeline may look like a pattern itself.
    let base = outer.path().join("[a]*");
    fs::create_dir_all(base.join("in/deep/.git")).unwrap();
    for (name, text) in [
        ("in/b.txt", "b"),
        ("in/a.txt", "a"),
        ("in/a.log", "log"),
        ("in/.hidden.txt", "no"),
        ("in/deep/c.txt", "c"),
        ("in/deep/.git/d.txt", "no"),
        ("in/[x].txt", "x"),
    ] {
        fs::write(base.join(name), text).unwrap();
    }
    let check = |path: &str| {
        let source = FileSource::new(settings(&format!("path = '{path}'")), &base).unwrap();
        read_all(&source).map(|read| {
            let values = read
                .into_iter()
                .map(|record| String::from_utf8(record.1).unwrap());
            values.collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(check("in/a.txt").unwrap(), "a");
    assert_eq!(check("in").unwrap(), "x log a b c");
    assert_eq!(check("in/*.txt").unwrap(), "x a b");
    assert_eq!(check("in/**/*.txt").unwrap(), "x a b c");
    assert_eq!(check("in/[x].txt").unwrap(), "x");
    assert_eq!(check(base.join("in/b.txt").to_str().unwrap()).unwrap(), "b");
    for path in ["nothing", "in/*.nothing", "in/deep/.git/e"] {
        assert!(message(check(path)).contains("matches no file"));
    }
    assert!(message(check("/dev/null")).contains("not a regular file"));
    fs::create_dir(base.join("empty")).unwrap();
    assert!(message(check("empty")).contains("matches no file"));
}

#[test]
fn input_that_is_not_what_it_was_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, "one\ntwo\n").unwrap();
    let lines = source(&folder, "path = 'f'\nsplit-bytes = 4");
    let read = run(&lines, None, &mut Random(1), false, &mut Vec::new());
    assert!(lines.splits(None, Some(read.clone())).is_ok());
    let jsonl = source(&folder, "path = 'f'\nformat = 'jsonl'");
    let found = message(jsonl.splits(None, Some(read.clone())));
    assert!(found.contains("`format` was `lines`"), "{found}");
    fs::write(&path, "one\n").unwrap();
    let found = message(lines.splits(None, Some(read.clone())));
    assert!(found.contains("ends at byte 4, but"), "{found}");
    fs::write(&path, "one\ntwo, and more\n").unwrap();
    let found = message(lines.splits(None, Some(read.clone())));
    assert!(
        found.contains("f` is not what was read up to byte 8"),
        "{found}"
    );
    // It was read to its end.
    fs::remove_file(&path).unwrap();
    assert_eq!(lines.splits(None, Some(read)).unwrap(), []);
    fs::write(&path, "one\ntwo\n").unwrap();
    let begun = lines.splits(None, None).unwrap();
    fs::remove_file(&path).unwrap();
    let found = message(lines.splits(None, Some(begun)));
    assert!(found.contains("no longer exists, but"), "{found}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let check = |toml: &str| message(FileSource::new(settings(toml), Path::new("")).map(drop));
    assert!(check("path = 'f'\nkey = 'a'").contains("invalid `key`"));
    assert!(check("path = 'f'\ntimestamp = 'a'").contains("`timestamp`"));
    assert!(check("path = 'f'\nkey-separator = ''").contains("it is empty"));
    assert!(check("path = 'f'\nformat = 'csv'\nkey-separator = ','").contains("set `key` instead"));
    assert!(check("path = 'f'\nformat = 'dead-letters'\nkey = 'a'").contains("leave it out"));
    assert!(toml::from_str::<FileSourceSettings>("path = 'f'\nsplit_bytes = 3").is_err());
    assert!(toml::from_str::<FileSourceSettings>("path = 'f'\nsplit-bytes = 0").is_err());
}

#[test]
fn followed_files_grow_and_new_ones_have_one_reader() {
    let folder = TempDir::new().unwrap();
    let write =
        |name: &str, text: &str| fs::write(folder.path().join("in").join(name), text).unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let source = source(&folder, "path = 'in'\nfollow = true");
    let mut now = Duration::ZERO;
    let mut restored = None;
    let mut records = Vec::new();
    let mut expected = Vec::new();
    for round in 0..3 {
        let splits = source.splits(None, restored).unwrap();
        let mut readers: Vec<_> = (0..3)
            .map(|task| source.reader(splits.iter().skip(task).step_by(3).cloned().collect()))
            .map(Result::unwrap)
            .collect();
        let mut read = |expected: &[String]| {
            for reader in &mut readers {
                // Several rounds: new files are found after a round, and read in the next.
                for _ in 0..3 {
                    let mut batch = Batch::default();
                    while reader.read(now, limits(2), &mut batch).unwrap() == ReadOutcome::More {}
                    let outcome = reader.read(now, limits(2), &mut batch).unwrap();
                    let ReadOutcome::Idle { until } = outcome else {
                        panic!("{outcome:?}");
                    };
                    assert!(until > now);
                    now = until;
                    let values = batch
                        .iter()
                        .map(|it| String::from_utf8(it.1.to_vec()).unwrap());
                    records.extend(values);
                }
            }
            records.sort();
            assert_eq!(records, expected, "round {round}");
        };
        read(&expected);
        for file in 0..10 {
            write(&format!("{round}-{file}"), "unfinished");
        }
        read(&expected);
        for file in 0..10 {
            write(&format!("{round}-{file}"), "unfinished no more\nrest");
            expected.push("unfinished no more".to_owned());
        }
        expected.sort();
        read(&expected);
        if round > 0 {
            write(
                &format!("{}-0", round - 1),
                "unfinished no more\nrest comes\n",
            );
            expected.push("rest comes".to_owned());
            expected.sort();
            read(&expected);
        }
        let splits: Vec<_> = readers.iter().flat_map(|reader| reader.splits()).collect();
        assert_eq!(splits.len(), 16 + (round + 1) * 10);
        restored = Some(splits);
    }
    // Truncated: it is read from its beginning.
    write("0-0", "new\n");
    let splits = source.splits(None, restored).unwrap();
    let mut reader = source.reader(splits).unwrap();
    let mut batch = Batch::default();
    while reader.read(now, limits(9), &mut batch).unwrap() == ReadOutcome::More {}
    assert_eq!(batch.values.iter().collect::<Vec<_>>(), [b"new"]);
}

#[test]
fn a_followed_csv_file_waits_for_whole_rows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    let source = source(&folder, "path = 'f'\nformat = 'csv'\nfollow = true");
    fs::write(&path, "a,").unwrap();
    let mut reader = source.reader(source.splits(None, None).unwrap()).unwrap();
    let mut values = Vec::new();
    for (step, (text, expected)) in [
        ("a,", 0),
        ("a,b\n1,", 0),
        ("a,b\n1,\"x\n", 0),
        ("a,b\n1,\"x\ny\"\n2,2\n3", 2),
        ("a,b\n1,\"x\ny\"\n2,2\n3,3\n", 3),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&path, text).unwrap();
        let mut batch = Batch::default();
        let outcome = reader.read(Duration::from_secs(step as u64), limits(9), &mut batch);
        assert!(matches!(outcome.unwrap(), ReadOutcome::Idle { .. }));
        values.extend(batch.values.iter().map(<[u8]>::to_vec));
        assert_eq!(values.len(), expected, "{text:?}");
    }
    assert_eq!(values[0], br#"{"a":"1","b":"x\ny"}"#);
    assert_eq!(values[2], br#"{"a":"3","b":"3"}"#);
}

#[test]
fn hostile_splits_never_panic() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), "one\ntwo\n3").unwrap();
    for toml in [
        "path = 'f'\nsplit-bytes = 3",
        "path = 'f'\nformat = 'csv'",
        "path = '.'\nfollow = true",
    ] {
        let source = source(&folder, toml);
        for whole in source.splits(None, None).unwrap() {
            for len in 0..whole.0.len() {
                assert!(source.reader(vec![Split(whole.0[..len].to_vec())]).is_err());
            }
            for at in 0..whole.0.len() {
                for byte in [0, 1, 2, 3, 5, 127, 128, 255] {
                    let mut bytes = whole.0.clone();
                    bytes[at] = byte;
                    let split = Split(bytes);
                    assert!(!describe(&split).is_empty());
                    let splits = source.splits(None, Some(vec![split.clone()]));
                    for splits in splits.into_iter().chain([vec![split]]) {
                        let Ok(mut reader) = source.reader(splits) else {
                            continue;
                        };
                        let read = reader.read(Duration::ZERO, limits(9), &mut Batch::default());
                        drop(read);
                        reader.splits();
                        reader.progress();
                    }
                }
            }
        }
    }
}
