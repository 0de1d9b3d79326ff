//! Catches records that are lost, doubled or in another folder when a task writes many parts for a checkpoint, a part
//! that is left after its checkpoint is given up, and a file, folder or link of a user that is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::connector::{Recovered, RestoredSink};
use floodmark_checkpoint::{CommitPermit, Staged};
use floodmark_state::stream::{Batch, NO_TIMESTAMP};

fn sink(folder: &TempDir, settings: &str) -> FileSink {
    let settings: FileSinkSettings =
        toml::from_str(&format!("path = 'out'\nformat = 'csv'\n{settings}")).unwrap();
    FileSink::new(&settings, folder.path(), "job", "counts", "data")
}

fn batch<'a>(records: impl IntoIterator<Item = (&'a str, &'a str)>) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in records {
        batch.push(key.as_bytes(), value.as_bytes(), 0);
    }
    batch
}

/// The visible files below a folder by their paths, decoded.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    fn add(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if name == ".staged" {
                continue;
            }
            if path.is_dir() {
                add(root, &path, files);
            } else {
                let mut text = String::new();
                read_part(&path).unwrap().read_to_string(&mut text).unwrap();
                files.insert(name, text);
            }
        }
    }
    let mut files = BTreeMap::new();
    add(folder, folder, &mut files);
    files
}

fn out(folder: &TempDir) -> BTreeMap<String, String> {
    tree(&folder.path().join("out"))
}

#[track_caller]
fn is(files: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    let found: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    assert_eq!(found, expected);
}

fn recover(
    committer: &mut dyn SinkCommitter,
    id: u64,
    staged: &[Staged],
    state: &[u8],
) -> Result<Recovered, ConnectorError> {
    let permit = CommitPermit::for_test(id);
    committer.recover(Some(RestoredSink {
        data_folder: "",
        permit: &permit,
        staged,
        state,
    }))
}

/// Writes and commits the records as checkpoint 1.
fn commit(sink: &FileSink, batches: &[Batch]) {
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let mut writer = sink.writer(TaskIndex(1)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let staged = [writer.stage(CheckpointId(1)).unwrap().unwrap()];
    committer.prepare(&staged).unwrap();
    committer
        .commit(&CommitPermit::for_test(1), &staged)
        .unwrap();
}

#[test]
fn a_part_ends_at_a_limit() {
    for (settings, expected) in [
        ("roll-records = 2", ["k,a\nk,b\n", "k,c\nk,d\n", "k,e\n"]),
        ("roll-bytes = 5", ["k,a\nk,b\n", "k,c\nk,d\n", "k,e\n"]),
        (
            "roll-records = 2\nheader = true",
            [
                "key,value\nk,a\nk,b\n",
                "key,value\nk,c\nk,d\n",
                "key,value\nk,e\n",
            ],
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let batches = [
            batch([("k", "a"), ("k", "b"), ("k", "c")]),
            batch([("k", "d"), ("k", "e")]),
        ];
        commit(&sink(&folder, settings), &batches);
        is(
            &out(&folder),
            &[
                ("part-00000001-001-0001.csv", expected[0]),
                ("part-00000001-001-0002.csv", expected[1]),
                ("part-00000001-001-0003.csv", expected[2]),
            ],
        );
    }
}

#[test]
fn the_last_part_that_a_task_may_write_takes_the_rest() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "roll-records = 1");
    sink.committer().unwrap().recover(None).unwrap();
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    let records = (0..part::PARTS_MAX + 2).map(|_| ("k", "v"));
    writer.write(&batch(records)).unwrap();
    let staged = writer.stage(CheckpointId(1)).unwrap().unwrap();
    let parts = part::Part::decode(&staged).unwrap();
    let records: Vec<u64> = parts.iter().map(|part| part.size.records).collect();
    assert_eq!(records[9_998..], [3]);
    assert!(records[..9_998].iter().all(|records| *records == 1));
    let last = parts[9_998].name.file_name();
    assert_eq!(last, "part-00000001-000-9999.csv");
}

#[test]
fn too_many_folders_are_refused() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "folders = '{key}'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    let keys: Vec<String> = (0..=part::PARTS_MAX).map(|key| key.to_string()).collect();
    let records = keys.iter().map(|key| (key.as_str(), "v"));
    let refused = writer.write(&batch(records)).unwrap_err();
    assert!(
        matches!(refused, ConnectorError::TooManyParts { .. }),
        "{refused}"
    );
}

#[test]
fn few_files_are_open_and_each_folder_gets_its_records() {
    let long = "x".repeat(300 << 10);
    let keys = ["a", "b", "c", "d"];
    // Each record is longer than a buffer, so it opens a file, and closes another.
    let batches: Vec<Batch> = (0..3)
        .map(|_| batch(keys.map(|key| (key, long.as_str()))))
        .collect();
    let expected: BTreeMap<String, String> = keys
        .iter()
        .map(|key| (format!("k={key}"), format!("{key},{long}\n").repeat(3)))
        .collect();
    for (compression, files) in [("none", 4), ("gzip", 12), ("zstd", 12)] {
        let folder = TempDir::new().unwrap();
        let settings =
            format!("folders = 'k={{key}}'\nopen-files = 2\ncompression = '{compression}'");
        commit(&sink(&folder, &settings), &batches);
        let found = out(&folder);
        assert_eq!(found.len(), files, "{compression}");
        let mut by_folder: BTreeMap<String, String> = BTreeMap::new();
        for (name, text) in found {
            let (folder, _) = name.split_once('/').unwrap();
            by_folder
                .entry(folder.to_owned())
                .or_default()
                .push_str(&text);
        }
        assert!(by_folder == expected, "{compression}");
    }
}

#[test]
fn a_record_without_a_folder_is_refused_and_adds_nothing() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "folders = '{time:%Y}'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    let mut batch = Batch::default();
    batch.push(b"k", b"v", NO_TIMESTAMP);
    let unwritable = writer.write(&batch).unwrap();
    assert_eq!((unwritable.len(), unwritable[0].record), (1, 0));
    let reason = &unwritable[0].reason;
    assert!(reason.starts_with("cannot be written as csv: it has no event time"));
    assert_eq!(writer.stage(CheckpointId(1)).unwrap(), None);
}

#[test]
fn dying_at_any_step_leaves_no_part_and_no_folder() {
    for (committed, durable) in [(0, false), (0, true), (1, true), (2, true)] {
        let folder = TempDir::new().unwrap();
        let sink = sink(&folder, "folders = 'a/{key}'");
        let mut committer = sink.committer().unwrap();
        committer.recover(None).unwrap();
        let mut save = |id: u64, key: &str, commits: usize| {
            let mut staged = Vec::new();
            for task in [0, 1] {
                let mut writer = sink.writer(TaskIndex(task)).unwrap();
                writer.write(&batch([(key, "v")])).unwrap();
                staged.extend(writer.stage(CheckpointId(id)).unwrap());
            }
            let state = committer.prepare(&staged).unwrap();
            let permit = CommitPermit::for_test(id);
            committer.commit(&permit, &staged[..commits]).unwrap();
            (id, staged, state)
        };
        let first = save(1, "one", 2);
        let second = save(2, "two", committed);
        drop(committer);
        // A part that a user has moved into a folder of their own.
        let theirs = folder.path().join("out/theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("part-00000009-000.csv"), "").unwrap();
        // The recovery may be interrupted and repeated, with other folders too.
        for settings in ["folders = 'a/{key}'", "folders = 'b{key}'", ""] {
            let sink = self::sink(&folder, settings);
            let mut committer = sink.committer().unwrap();
            let (id, staged, state) = if durable { &second } else { &first };
            recover(&mut *committer, *id, staged, state).unwrap();
            let mut expected = vec![
                ("a/one/part-00000001-000-0001.csv", "one,v\n"),
                ("a/one/part-00000001-001-0001.csv", "one,v\n"),
            ];
            if durable {
                expected.push(("a/two/part-00000002-000-0001.csv", "two,v\n"));
                expected.push(("a/two/part-00000002-001-0001.csv", "two,v\n"));
            }
            expected.push(("theirs/part-00000009-000.csv", ""));
            is(&out(&folder), &expected);
        }
        // Back to the first checkpoint, and then to nothing.
        let mut committer = sink.committer().unwrap();
        let (id, staged, state) = &first;
        let recovered = recover(&mut *committer, *id, staged, state).unwrap();
        assert_eq!(recovered.retracted, if durable { 2 } else { 0 });
        assert!(!folder.path().join("out/a/two").exists());
        assert_eq!(committed_of(&folder), 2);
        committer.clear().unwrap();
        is(&out(&folder), &[("theirs/part-00000009-000.csv", "")]);
        assert!(!folder.path().join("out/a").exists());
    }
}

fn committed_of(folder: &TempDir) -> usize {
    committed(&folder.path().join("out")).unwrap().len()
}

#[test]
fn a_reader_may_take_folders_away() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "folders = '{key}'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    writer.write(&batch([("a", "v"), ("b", "v")])).unwrap();
    let staged = [writer.stage(CheckpointId(1)).unwrap().unwrap()];
    let state = committer.prepare(&staged).unwrap();
    let permit = CommitPermit::for_test(1);
    committer.commit(&permit, &staged).unwrap();
    fs::remove_dir_all(folder.path().join("out/a")).unwrap();
    committer.commit(&permit, &staged).unwrap();
    drop(committer);
    let mut committer = sink.committer().unwrap();
    recover(&mut *committer, 1, &staged, &state).unwrap();
    is(&out(&folder), &[("b/part-00000001-000-0002.csv", "b,v\n")]);
    // The folder is made again for the next part.
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    writer.write(&batch([("a", "w")])).unwrap();
    let staged = [writer.stage(CheckpointId(2)).unwrap().unwrap()];
    committer.prepare(&staged).unwrap();
    committer
        .commit(&CommitPermit::for_test(2), &staged)
        .unwrap();
    assert_eq!(out(&folder)["a/part-00000002-000-0001.csv"], "a,w\n");
}

/// Writes and prepares a record of this key as checkpoint `id`. Returns what the checkpoint has of the sink.
fn prepare(
    sink: &FileSink,
    committer: &mut dyn SinkCommitter,
    id: u64,
    key: &str,
) -> (Vec<Staged>, Vec<u8>) {
    let mut writer = sink.writer(TaskIndex(0)).unwrap();
    writer.write(&batch([(key, "v")])).unwrap();
    let staged = vec![writer.stage(CheckpointId(id)).unwrap().unwrap()];
    let state = committer.prepare(&staged).unwrap();
    (staged, state)
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "folders = '{key}/x'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let (staged, state) = prepare(&sink, &mut *committer, 1, "a");
    let (link, other) = (folder.path().join("out/a"), folder.path().join("other"));
    fs::create_dir_all(other.join("x")).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let refused = committer.commit(&CommitPermit::for_test(1), &staged);
    assert!(matches!(refused, Err(ConnectorError::LinkedFolder { path }) if path == link));
    drop(committer);
    let mut committer = sink.committer().unwrap();
    let refused = recover(&mut *committer, 1, &staged, &state);
    assert!(matches!(refused, Err(ConnectorError::LinkedFolder { .. })));
    is(&tree(&other), &[]);
    fs::remove_file(&link).unwrap();
    recover(&mut *committer, 1, &staged, &state).unwrap();
    is(
        &out(&folder),
        &[("a/x/part-00000001-000-0001.csv", "a,v\n")],
    );
    // A reader moves the folder away, and leaves a link. What is there is not the sink's any more.
    fs::remove_dir_all(&other).unwrap();
    fs::rename(&link, &other).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert_eq!(committer.clear().unwrap().retracted, 0);
    is(&tree(&other), &[("x/part-00000001-000-0001.csv", "a,v\n")]);
}

#[test]
fn a_file_of_a_user_is_not_replaced_and_not_removed() {
    let folder = TempDir::new().unwrap();
    let sink = sink(&folder, "folders = '{key}'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    // In a folder that the sink has not made, and then in one that it has made.
    for id in [1, 2] {
        let (staged, state) = prepare(&sink, &mut *committer, id, "a");
        let name = format!("a/part-0000000{id}-000-0001.csv");
        let theirs = folder.path().join("out").join(&name);
        fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "theirs").unwrap();
        let is_refused = |done: Result<(), ConnectorError>| {
            assert!(matches!(done, Err(ConnectorError::ForeignPart { path }) if path == theirs));
            assert_eq!(out(&folder)[&name], "theirs");
        };
        let permit = CommitPermit::for_test(id);
        is_refused(committer.commit(&permit, &staged));
        drop(committer);
        committer = sink.committer().unwrap();
        is_refused(recover(&mut *committer, id, &staged, &state).map(|_| ()));
        fs::remove_file(&theirs).unwrap();
        recover(&mut *committer, id, &staged, &state).unwrap();
        assert_eq!(out(&folder)[&name], "a,v\n");
        // Again, as after a crash.
        committer.commit(&permit, &staged).unwrap();
        recover(&mut *committer, id, &staged, &state).unwrap();
        assert_eq!(out(&folder)[&name], "a,v\n");
    }
    // A folder that the sink has not made is not cleared.
    let theirs = folder.path().join("out/b/part-00000009-000-0001.csv");
    fs::create_dir(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    let (staged, _) = prepare(&sink, &mut *committer, 3, "b");
    let refused = committer.commit(&CommitPermit::for_test(3), &staged);
    assert!(matches!(refused, Err(ConnectorError::ForeignPart { path }) if path == theirs));
    committer.clear().unwrap();
    is(&out(&folder), &[("b/part-00000009-000-0001.csv", "theirs")]);
}

#[test]
fn a_folder_of_another_sink_is_not_written_to() {
    let folder = TempDir::new().unwrap();
    let settings: FileSinkSettings = toml::from_str("path = 'out/x'\nformat = 'csv'").unwrap();
    let inner = FileSink::new(&settings, folder.path(), "other", "inner", "other data");
    inner.committer().unwrap().recover(None).unwrap();
    let sink = sink(&folder, "folders = '{key}'");
    let mut committer = sink.committer().unwrap();
    committer.recover(None).unwrap();
    let (staged, _) = prepare(&sink, &mut *committer, 1, "x");
    let refused = committer.commit(&CommitPermit::for_test(1), &staged);
    let refused = refused.unwrap_err().to_string();
    let words = "out/x` is the output of sink `inner` of job `other`";
    assert!(refused.contains(words), "{refused}");
    let there = fs::read_dir(folder.path().join("out/x")).unwrap();
    assert_eq!(there.count(), 1, "only the staging folder");
}
