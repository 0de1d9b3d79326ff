//! Catches output that is lost, doubled or visible too early when the process dies at any step, foreign files that are
//! touched, and two writers in one folder. Dying means dropping everything except the folder and the last checkpoint.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::connector::{Recovered, RestoredSink};
use floodmark_checkpoint::{CommitPermit, Staged};
use floodmark_state::stream::{Batch, CheckpointId};

fn sink(folder: &TempDir) -> FileSink {
    let settings: FileSinkSettings = toml::from_str("path = 'out'\nformat = 'csv'").unwrap();
    FileSink::new(&settings, folder.path(), "job", "counts", "data")
}

fn batch(value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.push(b"k", value.as_bytes(), 0);
    batch
}

fn stage(sink: &FileSink, task: u16, checkpoint: u64, value: &str) -> Staged {
    let mut writer = sink.writer(TaskIndex(task)).unwrap();
    writer.write(&batch(value)).unwrap();
    writer.stage(CheckpointId(checkpoint)).unwrap().unwrap()
}

/// Visible files and their content, sorted.
fn visible(folder: &TempDir) -> String {
    let mut files: Vec<_> = fs::read_dir(folder.path().join("out"))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap();
            format!("{}={}", entry.file_name().display(), text.trim_end())
        })
        .collect();
    files.sort();
    files.join(" ")
}

fn staged_files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join("out/.staged")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "owner").collect()
}

/// The data of the sink in a checkpoint.
struct Saved {
    id: u64,
    staged: Vec<Staged>,
    state: Vec<u8>,
}

fn recover(
    committer: &mut dyn SinkCommitter,
    saved: Option<&Saved>,
) -> Result<Recovered, ConnectorError> {
    let permit = CommitPermit::for_test(saved.map_or(0, |saved| saved.id));
    committer.recover(saved.map(|saved| RestoredSink {
        data_folder: "",
        permit: &permit,
        staged: &saved.staged,
        state: &saved.state,
    }))
}

/// A committed checkpoint 1, and all of checkpoint 2 but its commit.
fn two_checkpoints(folder: &TempDir) -> (Box<dyn SinkCommitter>, Saved, Saved) {
    let sink = sink(folder);
    let mut committer = sink.committer().unwrap();
    recover(&mut *committer, None).unwrap();
    let mut save = |id: u64, value: &str, commits: bool| {
        let staged = vec![stage(&sink, 0, id, value), stage(&sink, 1, id, value)];
        let state = committer.prepare(&staged).unwrap();
        if commits {
            let permit = CommitPermit::for_test(id);
            committer.commit(&permit, &staged).unwrap();
        }
        Saved { id, staged, state }
    };
    let first = save(1, "one", true);
    let second = save(2, "two", false);
    (committer, first, second)
}

const FIRST: &str = "part-00000001-000.csv=k,one part-00000001-001.csv=k,one";
const BOTH: &str = "part-00000001-000.csv=k,one part-00000001-001.csv=k,one part-00000002-000.csv=k,two part-00000002-001.csv=k,two";

#[test]
fn a_part_is_seen_after_its_commit_and_not_before() {
    let folder = TempDir::new().unwrap();
    let (mut committer, _, second) = two_checkpoints(&folder);
    let mut writer = sink(&folder).writer(TaskIndex(0)).unwrap();
    assert_eq!(writer.stage(CheckpointId(3)).unwrap(), None);
    assert_eq!(visible(&folder), FIRST);
    let permit = CommitPermit::for_test(2);
    for _ in 0..2 {
        committer.commit(&permit, &second.staged).unwrap();
        assert_eq!(visible(&folder), BOTH);
        let summary = committer.summary().unwrap();
        assert!(summary.starts_with("4 records, 24 bytes in 4 parts"));
    }
}

#[test]
fn dying_at_any_step_ends_as_if_nothing_had_happened() {
    // Whether the second checkpoint became durable, how many of its parts were committed, and what was staged since.
    for durable in [false, true] {
        for committed in 0..=2 {
            let folder = TempDir::new().unwrap();
            let (mut committer, first, second) = two_checkpoints(&folder);
            if durable {
                let permit = CommitPermit::for_test(2);
                let staged = &second.staged[..committed];
                committer.commit(&permit, staged).unwrap();
            }
            let third = stage(&sink(&folder), 0, 3, "three");
            committer.prepare(&[third]).unwrap();
            let mut writer = sink(&folder).writer(TaskIndex(1)).unwrap();
            writer.write(&batch(&"x".repeat(1 << 20))).unwrap();
            drop((committer, writer));

            let saved = if durable { &second } else { &first };
            let expected = if durable { BOTH } else { FIRST };
            let records = if durable { "4 records" } else { "2 records" };
            // The recovery may be interrupted and repeated.
            for round in 0..2 {
                let mut committer = sink(&folder).committer().unwrap();
                let recovered = recover(&mut *committer, Some(saved)).unwrap();
                if round == 0 && durable {
                    assert_eq!((recovered.committed, recovered.aborted), (2 - committed, 2));
                }
                assert_eq!(visible(&folder), expected);
                assert_eq!(staged_files(&folder), [""; 0]);
                assert!(committer.summary().unwrap().starts_with(records));
            }
        }
    }
}

#[test]
fn falling_back_takes_later_parts_back_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (mut committer, first, second) = two_checkpoints(&folder);
    let permit = CommitPermit::for_test(2);
    committer.commit(&permit, &second.staged).unwrap();
    drop(committer);
    let foreign = [
        "part-2-0.csv",
        "part-00000002-000.CSV",
        "part-00000009-000.csv.bz2",
        "part-00000009-000-0000.csv",
        "mine",
    ];
    for name in foreign {
        fs::write(folder.path().join("out").join(name), "").unwrap();
        fs::write(folder.path().join("out/.staged").join(name), "").unwrap();
    }
    let mut committer = sink(&folder).committer().unwrap();
    let recovered = recover(&mut *committer, Some(&first)).unwrap();
    assert_eq!((recovered.aborted, recovered.retracted), (0, 2));
    let found = visible(&folder);
    assert!(!found.contains("two") && found.contains("one"));
    assert_eq!(committer.clear().unwrap().retracted, 2);
    for name in foreign {
        assert!(visible(&folder).contains(name));
    }
    assert_eq!(staged_files(&folder).len(), foreign.len());
}

#[test]
fn parts_of_a_failed_checkpoint_come_with_the_next() {
    let folder = TempDir::new().unwrap();
    let (mut committer, _, mut second) = two_checkpoints(&folder);
    let third = stage(&sink(&folder), 0, 3, "three");
    second.state = committer.prepare(std::slice::from_ref(&third)).unwrap();
    second.staged.push(third);
    second.id = 3;
    drop(committer);
    let mut committer = sink(&folder).committer().unwrap();
    let recovered = recover(&mut *committer, Some(&second)).unwrap();
    assert_eq!(recovered.committed, 3);
    assert_eq!(
        visible(&folder),
        format!("{BOTH} part-00000003-000.csv=k,three")
    );
    assert!(committer.summary().unwrap().starts_with("5 records"));
}

#[test]
fn a_reader_may_take_parts_away_but_not_the_staging_folder() {
    let folder = TempDir::new().unwrap();
    let (mut committer, _, second) = two_checkpoints(&folder);
    let permit = CommitPermit::for_test(2);
    committer.commit(&permit, &second.staged).unwrap();
    drop(committer);
    for entry in fs::read_dir(folder.path().join("out")).unwrap() {
        let _ = fs::remove_file(entry.unwrap().path());
    }
    let mut committer = sink(&folder).committer().unwrap();
    recover(&mut *committer, Some(&second)).unwrap();
    committer.commit(&permit, &second.staged).unwrap();
    drop(committer);
    fs::remove_dir_all(folder.path().join("out")).unwrap();
    // It stays refused, also when it is tried again.
    for _ in 0..2 {
        let mut committer = sink(&folder).committer().unwrap();
        let refused = recover(&mut *committer, Some(&second));
        assert!(matches!(refused, Err(ConnectorError::PartGone { .. })));
    }
}

#[test]
fn a_folder_has_one_owner_and_one_committer() {
    let folder = TempDir::new().unwrap();
    let (committer, ..) = two_checkpoints(&folder);
    let in_use = sink(&folder).committer().map(drop);
    assert!(matches!(in_use, Err(ConnectorError::OutputInUse { .. })));
    drop(committer);
    let settings: FileSinkSettings = toml::from_str("path = 'out'").unwrap();
    for (job, node) in [("job", "other"), ("other", "counts")] {
        let other = FileSink::new(&settings, folder.path(), job, node, "data");
        let taken = other.committer().map(drop).unwrap_err();
        assert!(taken.to_string().contains("sink `counts` of job `job`"));
    }
    let mut committer = sink(&folder).committer().unwrap();
    let foreign = recover(&mut *committer, None);
    assert!(matches!(
        foreign,
        Err(ConnectorError::ForeignOutput { parts: 2, .. })
    ));
    assert_eq!(committer.clear().unwrap().retracted, 2);
    recover(&mut *committer, None).unwrap();
}

#[test]
fn runs_with_other_data_folders_do_not_touch_each_others_output() {
    let folder = TempDir::new().unwrap();
    let (committer, _, second) = two_checkpoints(&folder);
    drop(committer);
    let settings: FileSinkSettings = toml::from_str("path = 'out'\nformat = 'csv'").unwrap();
    let other = FileSink::new(&settings, folder.path(), "job", "counts", "other data");
    let seen = visible(&folder);
    let mut committer = other.committer().unwrap();
    for restored in [None, Some(&second)] {
        let refused = recover(&mut *committer, restored);
        assert!(matches!(refused, Err(ConnectorError::OtherRun { .. })));
    }
    assert_eq!(visible(&folder), seen, "nothing was touched");
    // With the user's consent it takes the folder over, and the first run is refused from then on.
    assert_eq!(committer.clear().unwrap().retracted, 2);
    drop(committer);
    let mut committer = sink(&folder).committer().unwrap();
    let refused = recover(&mut *committer, Some(&second));
    assert!(matches!(refused, Err(ConnectorError::OtherRun { .. })));
    recover(&mut *committer, None).unwrap();
}

#[test]
fn files_that_only_look_like_parts_are_not_removed() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("part-00000901-000.csv"), "mine").unwrap();
    let mut committer = sink(&folder).committer().unwrap();
    let refused = committer.clear();
    assert!(matches!(
        refused,
        Err(ConnectorError::UnmarkedOutput { parts: 1, .. })
    ));
    assert!(out.join("part-00000901-000.csv").exists());
}

#[test]
fn a_staged_part_of_another_length_is_not_shown() {
    let folder = TempDir::new().unwrap();
    let (committer, _, second) = two_checkpoints(&folder);
    drop(committer);
    let out = folder.path().join("out");
    let name = staged_files(&folder).remove(0);
    fs::write(out.join(".staged").join(&name), "cut").unwrap();
    let mut committer = sink(&folder).committer().unwrap();
    let refused = recover(&mut *committer, Some(&second));
    assert!(matches!(
        refused,
        Err(ConnectorError::PartDamaged { len: 3, .. })
    ));
    assert!(!out.join(name).exists());
}

#[test]
fn a_failed_commit_can_be_tried_again() {
    let folder = TempDir::new().unwrap();
    let (mut committer, _, second) = two_checkpoints(&folder);
    // A folder in the place of the second part: the rename fails.
    let obstacle = folder.path().join("out/part-00000002-001.csv");
    fs::create_dir_all(obstacle.join("x")).unwrap();
    let permit = CommitPermit::for_test(2);
    assert!(committer.commit(&permit, &second.staged).is_err());
    fs::remove_dir_all(obstacle).unwrap();
    committer.commit(&permit, &second.staged).unwrap();
    assert_eq!(visible(&folder), BOTH);
    assert!(committer.summary().unwrap().starts_with("4 records"));
}

#[test]
fn what_cannot_be_written_or_read_is_an_error() {
    let folder = TempDir::new().unwrap();
    let (mut committer, _, second) = two_checkpoints(&folder);
    for len in 0..second.staged[0].0.len() {
        let part = Staged(second.staged[0].0[..len].to_vec());
        assert!(committer.prepare(&[part]).is_err());
    }
    let forged = Staged(second.staged[0].0.iter().map(|byte| byte ^ 0x40).collect());
    assert!(committer.prepare(&[forged]).is_err());
    // A part that became shorter after it was staged must fail the checkpoint, and all later ones.
    let third = stage(&sink(&folder), 0, 3, "three");
    fs::write(folder.path().join("out/.staged/part-00000003-000.csv"), "k").unwrap();
    assert!(committer.prepare(&[third]).is_err());
    assert!(committer.prepare(&[]).is_err());
    drop(committer);
    fs::remove_dir_all(folder.path().join("out")).unwrap();
    let mut writer = sink(&folder).writer(TaskIndex(0)).unwrap();
    writer.write(&batch("x")).unwrap();
    assert!(writer.stage(CheckpointId(1)).is_err());
    fs::write(folder.path().join("out"), "a file").unwrap();
    assert!(sink(&folder).committer().is_err());
}

#[test]
fn a_file_that_cannot_be_opened_is_no_failed_sync() {
    let folder = TempDir::new().unwrap();
    let (mut committer, ..) = two_checkpoints(&folder);
    let third = [stage(&sink(&folder), 0, 3, "three")];
    let staged = folder.path().join("out/.staged");
    let part = staged.join("part-00000003-000.csv");
    fs::rename(&part, staged.join("aside")).unwrap();
    let failed = committer.prepare(&third).unwrap_err();
    assert!(!failed.is_failed_sync(), "{failed}");
    fs::rename(staged.join("aside"), &part).unwrap();
    committer.prepare(&third).unwrap();

    let fourth = [stage(&sink(&folder), 0, 4, "four")];
    let part = staged.join("part-00000004-000.csv");
    fs::rename(&part, staged.join("aside")).unwrap();
    // A device cannot be synced.
    symlink("/dev/null", &part).unwrap();
    let failed = committer.prepare(&fourth).unwrap_err();
    assert!(failed.is_failed_sync(), "{failed}");
    // What is there now may not be on the disk.
    fs::rename(staged.join("aside"), &part).unwrap();
    let failed = committer.prepare(&fourth).unwrap_err();
    assert!(failed.is_failed_sync(), "{failed}");
}

/// Recovers a sink whose data folder has the id `data` from a checkpoint that was taken in `data`, the folder of [`sink`].
fn carried(
    folder: &TempDir,
    saved: &Saved,
) -> Result<(Box<dyn SinkCommitter>, Recovered), ConnectorError> {
    let settings: FileSinkSettings = toml::from_str("path = 'out'\nformat = 'csv'").unwrap();
    let sink = FileSink::new(&settings, folder.path(), "job", "counts", "other data");
    let permit = CommitPermit::for_test(saved.id);
    let mut committer = sink.committer()?;
    let recovered = committer.recover(Some(RestoredSink {
        data_folder: "data",
        permit: &permit,
        staged: &saved.staged,
        state: &saved.state,
    }))?;
    Ok((committer, recovered))
}

#[test]
fn a_savepoint_takes_the_output_over_that_it_belongs_to() {
    let folder = TempDir::new().unwrap();
    let (mut committer, first, second) = two_checkpoints(&folder);
    let permit = CommitPermit::for_test(2);
    committer.commit(&permit, &second.staged).unwrap();
    drop(committer);
    // Output after the savepoint is taken back, and twice has the same effect as once.
    let (taken, recovered) = carried(&folder, &first).unwrap();
    assert_eq!(recovered.retracted, 2);
    assert_eq!(visible(&folder), FIRST);
    drop(taken);
    carried(&folder, &first).unwrap();
    assert_eq!(visible(&folder), FIRST);
    // The run that it was taken from has lost the folder.
    let mut committer = sink(&folder).committer().unwrap();
    let refused = recover(&mut *committer, Some(&second));
    assert!(matches!(refused, Err(ConnectorError::OtherRun { .. })));
}

#[test]
fn a_savepoint_whose_output_was_taken_back_is_refused() {
    let folder = TempDir::new().unwrap();
    let (mut committer, first, second) = two_checkpoints(&folder);
    committer
        .commit(&CommitPermit::for_test(2), &second.staged)
        .unwrap();
    drop(committer);
    let mut committer = sink(&folder).committer().unwrap();
    let recovered = recover(&mut *committer, Some(&first)).unwrap();
    assert_eq!((recovered.counted, recovered.absent), (2, 0));
    let third = [stage(&sink(&folder), 0, 3, "three")];
    committer.prepare(&third).unwrap();
    let permit = CommitPermit::for_test(3);
    committer.commit(&permit, &third).unwrap();
    drop(committer);
    let seen = visible(&folder);
    let refused = carried(&folder, &second).err();
    assert!(matches!(refused, Some(ConnectorError::OutputTakenBack(_))));
    assert_eq!(visible(&folder), seen, "nothing was touched");
    // The checkpoint to which the job returned is as good as before.
    carried(&folder, &first).unwrap();
    assert_eq!(visible(&folder), FIRST);
}

#[test]
fn a_savepoint_begins_in_an_empty_folder_and_in_no_other() {
    let source = TempDir::new().unwrap();
    let (_committer, first, second) = two_checkpoints(&source);
    for saved in [&first, &second] {
        let folder = TempDir::new().unwrap();
        let (committer, recovered) = carried(&folder, saved).unwrap();
        assert_eq!(recovered, Recovered::default());
        assert_eq!(visible(&folder), "");
        let summary = committer.summary().unwrap();
        let records = format!("{} records", 2 * saved.id);
        assert!(summary.starts_with(&records), "{summary}");
    }
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out/part-00000001-000.csv"), "k,one").unwrap();
    let refused = carried(&folder, &first).err();
    assert!(matches!(
        refused,
        Some(ConnectorError::UnmarkedOutput { parts: 1, .. })
    ));
    // Output of a third run cannot be taken over.
    let folder = TempDir::new().unwrap();
    let settings: FileSinkSettings = toml::from_str("path = 'out'\nformat = 'csv'").unwrap();
    let third = FileSink::new(&settings, folder.path(), "job", "counts", "third");
    let mut committer = third.committer().unwrap();
    recover(&mut *committer, None).unwrap();
    let staged = [stage(&third, 0, 1, "third")];
    committer.prepare(&staged).unwrap();
    committer
        .commit(&CommitPermit::for_test(1), &staged)
        .unwrap();
    drop(committer);
    let refused = carried(&folder, &first).err();
    assert!(matches!(refused, Some(ConnectorError::OtherRun { .. })));
    assert_eq!(visible(&folder), "part-00000001-000.csv=k,third");
}
