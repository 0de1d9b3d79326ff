//! Files that only their user may use, and folders that another user could have prepared.
//!
//! Catches state that other users can read, with any umask; a job that writes through a link, or in a folder, that another
//! user made for it; and a command that waits for a pipe, or reads a device without end.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::job::{Job, Outcome, keeping_code};
use crate::plugins::{plugin, repository};

const FLOODMARK: &str = env!("CARGO_BIN_EXE_floodmark");

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder and everything below it.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Runs `floodmark` from a shell, after other commands of the shell.
fn after(job: &Job, shell: &str, arguments: &[&str]) -> Outcome {
    let mut command = keeping_code(Command::new("sh"));
    command
        .args(["-c", &format!("{shell}; exec \"$@\""), "sh", FLOODMARK])
        .args(arguments);
    job.spawn(command).wait()
}

/// That the data folder is refused, and nothing in it is changed.
#[track_caller]
fn check_refused(job: &Job, folder: &Path, words: &str) {
    let before = below(folder);
    let path = folder.to_str().unwrap();
    let outcome = job.run(&["--data-dir", path]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.says(words);
    assert_eq!(below(folder), before);
    assert!(!job.path("out").exists(), "nothing was written");
}

#[test]
fn files_are_private_with_any_umask() {
    let job = Job::with_input("one two two\n");
    let storage = format!("checkpoint.storage=file://{}", job.path("store").display());
    let runs: [&[&str]; 2] = [
        &["run", "pipeline.toml"],
        &[
            "run",
            "pipeline.toml",
            "--data-dir",
            "a/b",
            "--set",
            "sink.counts.path=other",
            "--set",
            &storage,
        ],
    ];
    for arguments in runs {
        after(&job, "umask 000", arguments).succeeded();
    }
    let create = ["savepoint", "create", "pipeline.toml", "--to", "saved"];
    after(&job, "umask 000", &create).succeeded();
    let folders = [job.path(".floodmark"), job.path("a")];
    for path in folders.iter().flat_map(|folder| below(folder)) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    assert!(job.data_dir().join("checkpoints.redb").is_file());
    assert_eq!(mode(&job.path("saved")), 0o600);
    for folder in [
        "store",
        "store/checkpoints",
        "store/chunks",
        "store/plugins",
    ] {
        assert_eq!(mode(&job.path(folder)), 0o700, "{folder}");
    }
    let objects: Vec<_> = below(&job.path("store"))
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    assert!(objects.len() > 2, "{objects:?}");
    for path in objects {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    // The output is for others, too.
    assert_eq!(mode(&job.path("out")), 0o777);
}

#[test]
fn a_folder_that_exists_keeps_its_mode() {
    let job = Job::with_input("one\n");
    for mode_before in [0o755, 0o750] {
        let folder = job.path(&format!("data-{mode_before:o}"));
        fs::create_dir(&folder).unwrap();
        set_mode(&folder, mode_before);
        fs::write(folder.join("notes"), "of the user").unwrap();
        set_mode(&folder.join("notes"), 0o644);
        let path = folder.to_str().unwrap();
        let out = format!("sink.counts.path=out-{mode_before:o}");
        job.run(&["--data-dir", path, "--set", &out]).succeeded();
        assert_eq!(mode(&folder), mode_before);
        assert_eq!(mode(&folder.join("notes")), 0o644);
        assert_eq!(mode(&folder.join("checkpoints.redb")), 0o600);
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let job = Job::with_input("one\n");
    let folder = job.path("data");
    fs::create_dir(&folder).unwrap();
    for mode in [0o777, 0o1777, 0o702] {
        set_mode(&folder, mode);
        check_refused(&job, &folder, "other users may write to the data folder `");
    }
    set_mode(&folder, 0o777);
    // A folder in it is the user's.
    let inner = folder.join("job");
    job.run(&["--data-dir", inner.to_str().unwrap()])
        .succeeded();
    assert_eq!(mode(&inner), 0o700);
}

#[test]
fn a_storage_that_others_may_write_to_is_refused() {
    let job = Job::with_input("one\n");
    let store = job.path("store");
    let storage = format!("checkpoint.storage=file://{}", store.display());
    let run = || job.run(&["--set", &storage]);
    run().succeeded();
    let before = below(&store);
    for path in [
        store.clone(),
        store.join("checkpoints"),
        store.join("chunks"),
    ] {
        let mode_before = mode(&path);
        for wrong in [0o777, 0o1777, 0o702] {
            set_mode(&path, wrong);
            let outcome = run();
            assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
            outcome.says(&format!("other users may write to `{}`", path.display()));
            assert_eq!(below(&store), before);
        }
        set_mode(&path, mode_before);
    }
    fs::rename(store.join("plugins"), job.path("elsewhere")).unwrap();
    symlink(job.path("elsewhere"), store.join("plugins")).unwrap();
    run().says("plugins` is a symbolic link");
    fs::remove_file(store.join("plugins")).unwrap();
    fs::rename(job.path("elsewhere"), store.join("plugins")).unwrap();
    // The folder itself may be reached through a link.
    let (other, link) = (job.path("other-store"), job.path("link"));
    fs::create_dir(&other).unwrap();
    set_mode(&other, 0o755);
    symlink(&other, &link).unwrap();
    let storage = format!("checkpoint.storage=file://{}", link.display());
    let out = "sink.counts.path=other-out";
    job.run(&["--data-dir", "other", "--set", &storage, "--set", out])
        .succeeded();
    assert_eq!(mode(&other), 0o755);
}

#[test]
fn links_in_a_folder_are_refused_and_a_link_to_it_is_not() {
    let job = Job::with_input("one\n");
    let folder = job.path("data");
    fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o700);
    job.write("precious", "untouched");
    for name in ["lock", "id", "storage", "checkpoints.redb", "replay.lock"] {
        symlink(job.path("precious"), folder.join(name)).unwrap();
        check_refused(&job, &folder, &format!("{name}` is a symbolic link"));
        fs::remove_file(folder.join(name)).unwrap();
    }
    assert_eq!(fs::read(job.path("precious")).unwrap(), b"untouched");
    let link = job.path("link");
    symlink(&folder, &link).unwrap();
    job.run(&["--data-dir", link.to_str().unwrap()]).succeeded();
    assert!(folder.join("checkpoints.redb").is_file());
}

/// Only root can make a folder of another user, or run a command as one.
#[test]
fn a_folder_of_another_user_is_refused_unless_root_runs_the_job() {
    let job = Job::with_input("one\n");
    let folder = job.path("data");
    fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o755);
    if fs::metadata(&folder).unwrap().uid() != 0 {
        return;
    }
    std::os::unix::fs::chown(&folder, Some(12_345), Some(12_345)).unwrap();
    // The command and the job where another user can reach them.
    let command = job.path("floodmark");
    // By another process: a file that this one has open for writing cannot be run.
    let copied = Command::new("cp").arg(FLOODMARK).arg(&command).status();
    assert!(copied.unwrap().success());
    set_mode(&job.path(""), 0o755);
    let mut other = Command::new(&command);
    other
        .args(["checkpoint", "compact", "--data-dir", "data"])
        .uid(12_346)
        .gid(12_346);
    let outcome = job.spawn(other).wait();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.says("the data folder `data` belongs to another user (user id 12345)");
    assert_eq!(below(&folder), std::slice::from_ref(&folder));
    job.run(&["--data-dir", "data"]).succeeded();
}

/// Readers copy what they read: another user could have made a folder with a known name in `/tmp`.
#[test]
fn documents_name_no_folder_that_others_can_make_first() {
    let documents = fs::read_dir(repository().join("host/docs")).unwrap();
    let documents = documents.map(|entry| entry.unwrap().path());
    for path in documents.chain([repository().join("README.md")]) {
        if path.extension().is_some_and(|end| end == "md") {
            let text = fs::read_to_string(&path).unwrap();
            // Its name is fixed by `perf`.
            let text = text.replace("/tmp/perf-PID.map", "");
            assert!(!text.contains("/tmp/"), "{}", path.display());
        }
    }
}

#[test]
fn pipes_and_devices_are_refused_where_files_are_read() {
    let job = Job::with_input("one\n");
    let made = Command::new("mkfifo").arg(job.path("pipe")).status();
    assert!(made.unwrap().success());
    let count = plugin("word-count");
    let count = count.to_str().unwrap();
    for path in ["pipe", "/dev/zero"] {
        let cases: [(&[&str], i32, &str); 5] = [
            (&["run", path], 2, "cannot read the pipeline `"),
            (
                &["test", count, "--vectors", path],
                2,
                "cannot read vectors from `",
            ),
            (
                &["state", "load", "pipeline.toml", path, "--to", "saved"],
                2,
                "cannot read the rows `",
            ),
            (
                &["run", "pipeline.toml", "--from", path],
                4,
                "` cannot be used: it is not one: ",
            ),
            (
                &["checkpoint", "list", "--savepoint", path],
                4,
                "` cannot be used: it is not one: ",
            ),
        ];
        for (arguments, code, words) in cases {
            let outcome = job.command(arguments);
            assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
            outcome.says(words).says("it is not a regular file");
        }
    }
    assert!(!job.path("saved").exists());
}

/// Catches a command that waits for the other end of a pipe in the place of a file that a job has written.
#[test]
fn pipes_in_the_folders_of_a_job_are_not_waited_for() {
    let job = Job::with_input("one\n");
    job.run(&[]).succeeded();
    let place_pipe = |name: &str| {
        let path = job.path(name);
        let _ = fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    };
    place_pipe(".floodmark/words/failures");
    job.run(&[]).succeeded();
    for (name, code) in [
        (".floodmark/words/rollback", 4),
        ("out/.staged/folders", 5),
        ("out/.staged/taken-back", 5),
        ("out/.staged/owner", 5),
    ] {
        let path = place_pipe(name);
        let outcome = job.run(&[]);
        assert_eq!(outcome.code, Some(code), "{name}: {}", outcome.stderr);
        outcome.says("it is not a regular file");
        if !name.ends_with("owner") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let job = Job::endless("checkpoint.interval = \"100ms\"");
    let mut command = keeping_code(Command::new("sh"));
    let shell = "ulimit -Sn 64 && exec \"$@\"";
    command.args(["-c", shell, "sh", FLOODMARK, "run", "pipeline.toml"]);
    let mut running = job.spawn(command);
    let lock = job.data_dir().join("lock");
    let process = loop {
        let process = fs::read_to_string(&lock).unwrap_or_default();
        if process.ends_with('\n') {
            break process.trim_end().to_owned();
        }
        assert!(!running.has_ended(), "{}", running.stderr());
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = files.unwrap().split_whitespace().skip(3);
    let (soft, hard) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(soft, hard);
}

#[test]
fn a_cache_that_another_user_could_have_made_is_not_used() {
    let job = Job::with_input("one\n");
    let cache = job.path("cache");
    let aside = job.path("aside");
    fs::create_dir(&cache).unwrap();
    fs::create_dir(&aside).unwrap();
    set_mode(&aside, 0o700);
    symlink(&aside, cache.join("compiled")).unwrap();
    let mut command = Command::new(FLOODMARK);
    command
        .args(["run", "pipeline.toml"])
        .env("FLOODMARK_CACHE_DIR", &cache);
    let outcome = job.spawn(command).wait().succeeded();
    outcome
        .says("compiled code cannot be kept in `")
        .says("it is a symbolic link");
    assert_eq!(below(&aside), std::slice::from_ref(&aside));
    assert!(job.data_dir().join("compiled/key").is_file());
}
