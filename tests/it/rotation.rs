//! Catches lines of followed files that are lost or doubled when these are rotated or compressed in any way, while the job
//! runs or is stopped or killed; and input that was replaced or lost without a word.
//!
//! `FLOODMARK_HEAVY=1` rotates for a minute; `FLOODMARK_SEED` repeats the steps of an earlier run, at other moments.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use floodmark_testing::Random;

use crate::job::{Job, Outcome, Running};

/// What no wait for output takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A job that copies the lines of `path` to `out`.
fn copy(path: &str, more: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "[job]\nname = \"words\"\n[source.text]\nconnector = \"file\"\npath = \"{path}\"\n{more}\n\
             [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n"
        ),
    );
    fs::create_dir(job.path("log")).unwrap();
    job
}

fn start(job: &Job) -> Running {
    job.start(&["--parallelism", "2", "--set", "checkpoint.interval=20ms"])
}

/// All lines of the output, sorted. Lines of different files may come in any order.
fn lines(job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(job.path("out")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let is_part = path.extension().is_some_and(|end| end == "txt");
        if let (true, Ok(text)) = (is_part, fs::read_to_string(&path)) {
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Waits until these are the lines of the output.
#[track_caller]
fn wait_for(job: &Job, run: &mut Running, expected: &[String]) {
    let since = Instant::now();
    loop {
        let found = lines(job);
        if found == expected {
            return;
        }
        let is_late = since.elapsed() > DEADLINE || found.len() > expected.len();
        assert!(
            !is_late && !run.has_ended(),
            "{found:?}, not {expected:?}\n{}",
            run.stderr()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stop(run: Running) {
    run.signal("TERM");
    run.wait().succeeded();
}

fn append(job: &Job, name: &str, text: &str) {
    let path = job.path(name);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn rename(job: &Job, from: &str, to: &str) {
    fs::rename(job.path(from), job.path(to)).unwrap();
}

/// Copies a log and truncates it.
fn copy_and_truncate(job: &Job, name: &str, copy: &str) {
    fs::copy(job.path(name), job.path(copy)).unwrap();
    let file = OpenOptions::new().write(true).open(job.path(name)).unwrap();
    file.set_len(0).unwrap();
}

/// Compresses a log as a careful tool does it: under another name first, and the log is deleted last.
fn compress(job: &Job, name: &str, ending: &str) {
    let log = fs::read(job.path(name)).unwrap();
    let bytes = match ending {
        "zst" => zstd::encode_all(&log[..], 1).unwrap(),
        _ => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&log).unwrap();
            encoder.finish().unwrap()
        }
    };
    job.write("log/.compressed", bytes);
    rename(job, "log/.compressed", &format!("{name}.{ending}"));
    fs::remove_file(job.path(name)).unwrap();
}

/// A change of the files, and the lines that it adds.
type Step<'a> = (&'a dyn Fn(&Job), &'a [&'a str]);

/// Takes the steps while the job runs, and while it is stopped between two runs.
#[track_caller]
fn check(path: &str, steps: &[Step]) {
    for is_stopped in [false, true] {
        let job = copy(path, "follow = true");
        let mut expected: Vec<String> = Vec::new();
        let mut run = None;
        for (step, more) in steps {
            step(&job);
            expected.extend(more.iter().map(|&line| line.to_owned()));
            expected.sort();
            let mut running = run.take().unwrap_or_else(|| start(&job));
            wait_for(&job, &mut running, &expected);
            match is_stopped {
                true => stop(running),
                false => run = Some(running),
            }
        }
        if let Some(run) = run {
            stop(run);
        }
        assert_eq!(lines(&job), expected, "stopped: {is_stopped}");
    }
}

#[test]
fn a_log_is_rotated_by_renaming() {
    for path in ["log/app.log*", "log/app.log", "log"] {
        check(
            path,
            &[
                (&|job| append(job, "log/app.log", "1\n"), &["1"]),
                (
                    &|job| {
                        append(job, "log/app.log", "2\n3");
                        rename(job, "log/app.log", "log/app.log.1");
                        append(job, "log/app.log", "a longer line\n");
                    },
                    &["2", "a longer line"],
                ),
                (
                    &|job| {
                        append(job, "log/app.log.1", "0\n");
                        rename(job, "log/app.log.1", "log/app.log.2");
                        rename(job, "log/app.log", "log/app.log.1");
                        append(job, "log/app.log.1", "4\n");
                        append(job, "log/app.log", "5\n");
                    },
                    &["30", "4", "5"],
                ),
            ],
        );
    }
}

#[test]
fn a_log_is_copied_and_truncated() {
    for (path, is_copy_read) in [("log/app.log*", true), ("log/app.log", false)] {
        let unread = match is_copy_read {
            true => "2\n",
            false => "",
        };
        let second: &[&str] = match is_copy_read {
            true => &["2", "3"],
            false => &["3"],
        };
        check(
            path,
            &[
                (
                    &|job| append(job, "log/app.log", "1 with more text\n"),
                    &["1 with more text"],
                ),
                (
                    &|job| {
                        append(job, "log/app.log", unread);
                        copy_and_truncate(job, "log/app.log", "log/app.log.1");
                        append(job, "log/app.log", "3\n");
                    },
                    second,
                ),
                (
                    &|job| {
                        copy_and_truncate(job, "log/app.log", "log/app.log.2");
                        append(job, "log/app.log", "longer than it was\n5\n");
                    },
                    &["longer than it was", "5"],
                ),
            ],
        );
    }
}

#[test]
fn a_log_is_compressed_after_its_rotation() {
    check(
        "log/app.log*",
        &[
            (&|job| append(job, "log/app.log", "1\n"), &["1"]),
            // With lines in it that were not read before.
            (
                &|job| {
                    append(job, "log/app.log", "2\n");
                    rename(job, "log/app.log", "log/app.log.1");
                    compress(job, "log/app.log.1", "gz");
                    append(job, "log/app.log", "3 and more\n");
                },
                &["2", "3 and more"],
            ),
            // A compressed log gets another name, and a copy of a truncated one is compressed.
            (
                &|job| {
                    rename(job, "log/app.log.1.gz", "log/app.log.2.gz");
                    copy_and_truncate(job, "log/app.log", "log/app.log.1");
                    compress(job, "log/app.log.1", "zst");
                    append(job, "log/app.log", "4\n");
                },
                &["4"],
            ),
            // One that is taken for a new file is read after a while.
            (
                &|job| {
                    std::thread::sleep(Duration::from_secs(4));
                    append(job, "log/app.log", "5\n");
                },
                &["5"],
            ),
            // What was read may be deleted.
            (
                &|job| {
                    fs::remove_file(job.path("log/app.log.2.gz")).unwrap();
                    fs::remove_file(job.path("log/app.log.1.zst")).unwrap();
                    append(job, "log/app.log", "6\n");
                },
                &["6"],
            ),
        ],
    );
}

#[test]
fn a_file_is_rewritten_or_deleted_or_replaced() {
    // Truncated, and at once longer than it was.
    check(
        "log/a",
        &[
            (&|job| append(job, "log/a", "1\n2\n"), &["1", "2"]),
            (
                &|job| job.write("log/a", "3, longer\n4\n"),
                &["3, longer", "4"],
            ),
        ],
    );
    // Deleted after it was read; and replaced in one step.
    check(
        "log/*",
        &[
            (&|job| append(job, "log/a", "1\n"), &["1"]),
            (
                &|job| {
                    fs::remove_file(job.path("log/a")).unwrap();
                    append(job, "log/b", "2\n");
                },
                &["2"],
            ),
            (
                &|job| {
                    append(job, "new", "3\n");
                    rename(job, "new", "log/b");
                },
                &["3"],
            ),
            // An editor keeps the beginning.
            (
                &|job| {
                    append(job, "new", "3\n4\n");
                    rename(job, "new", "log/b");
                },
                &["4"],
            ),
        ],
    );
}

#[test]
fn a_link_is_turned_and_a_name_is_not_text() {
    let turn = |job: &Job, to: &str| {
        symlink(to, job.path("log/link")).unwrap();
        rename(job, "log/link", "log/current");
    };
    check(
        "log/current",
        &[
            (
                &|job| {
                    append(job, "a", "1\n");
                    turn(job, "../a");
                },
                &["1"],
            ),
            (&|job| append(job, "a", "2\n"), &["2"]),
            (
                &|job| {
                    append(job, "a", "3\n");
                    append(job, "b", "4 and more\n");
                    turn(job, "../b");
                },
                &["3", "4 and more"],
            ),
            (
                &|job| {
                    append(job, "a", "5\n");
                    append(job, "b", "6\n");
                },
                &["5", "6"],
            ),
        ],
    );
    // A name that is not UTF-8.
    check(
        "log/*",
        &[(
            &|job| {
                let name = OsStr::from_bytes(b"a\xff\xfe.log");
                fs::write(job.path("log").join(name), "1\n").unwrap();
                append(job, "log/b", "2\n");
            },
            &["1", "2"],
        )],
    );
}

#[test]
fn a_job_may_begin_at_the_end() {
    let job = copy("log/*", "follow = true\nread-from = \"end\"");
    append(&job, "log/a", "1\n2\n3");
    let mut run = start(&job);
    // The job has seen the file once it can take a checkpoint.
    let since = Instant::now();
    while job
        .command(&["checkpoint", "trigger", "pipeline.toml"])
        .code
        != Some(0)
    {
        assert!(
            since.elapsed() < DEADLINE && !run.has_ended(),
            "{}",
            run.stderr()
        );
    }
    append(&job, "log/a", "4\n");
    append(&job, "log/b", "5\n");
    wait_for(&job, &mut run, &["34".to_owned(), "5".to_owned()]);
    stop(run);
}

#[track_caller]
fn refused(outcome: Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    words
        .iter()
        .fold(outcome, |outcome, words| outcome.says(words));
}

#[test]
fn what_is_lost_is_said() {
    // The last line was not complete when the file was deleted.
    let job = copy("log/*", "follow = true");
    append(&job, "log/a", "1\nhalf");
    append(&job, "log/b", "2\n");
    let mut run = start(&job);
    wait_for(&job, &mut run, &["1".to_owned(), "2".to_owned()]);
    stop(run);
    fs::remove_file(job.path("log/a")).unwrap();
    refused(
        job.run(&[]),
        &[
            "log/a` no longer exists, but it was read only up to byte 2",
            "`--fresh`",
        ],
    );
    // Another file. That is no bad record.
    let job = copy("log/a", "on-error = \"skip\"");
    append(&job, "log/a", "1\n2\n");
    job.run(&[]).succeeded();
    append(&job, "new", "one\ntwo\n");
    rename(&job, "new", "log/a");
    refused(
        job.run(&[]),
        &[
            "log/a` is not what was read up to byte 4",
            "restore the file, or start over with `--fresh`",
        ],
    );
    // A last line that was continued.
    let job = copy("log/a", "");
    append(&job, "log/a", "1\n2");
    job.run(&[]).succeeded();
    append(&job, "log/a", "3\n");
    refused(
        job.run(&[]),
        &[
            "read as a record up to byte 3",
            "insert a newline at byte 3",
        ],
    );
    assert_eq!(lines(&job), ["1", "2"]);
}

/// Writes lines, each with its number, and rotates the log at random.
struct LogWriter<'a> {
    job: &'a Job,
    random: Random,
    written: u64,
    /// The number of the first line in the log that is written now.
    first: u64,
    /// Rotated files, with the numbers of their lines.
    rotated: Vec<(String, u64, u64)>,
    rotations: u64,
    /// What was done to which file, when, and the numbers of its lines.
    history: Vec<(u128, String, std::ops::Range<u64>)>,
    since: Instant,
}

impl LogWriter<'_> {
    fn append(&mut self) {
        let mut text = String::new();
        for _ in 0..1 + self.random.index(40) {
            let more = "x".repeat(self.random.index(120));
            text += &format!("{:08} {more}\n", self.written);
            self.written += 1;
        }
        append(self.job, "log/app.log", &text);
    }

    fn note(&mut self, what: &str, name: &str, lines: std::ops::Range<u64>) {
        let at = self.since.elapsed().as_millis();
        self.history.push((at, format!("{what} {name}"), lines));
    }

    fn visible(&self) -> BTreeSet<u64> {
        let lines = lines(self.job);
        lines
            .iter()
            .map(|line| line[..8].parse().unwrap())
            .collect()
    }

    fn step(&mut self) {
        let is_empty = self.first == self.written;
        match self.random.index(10) {
            0 if !is_empty => {
                let name = self.rotated_name();
                rename(self.job, "log/app.log", &name);
                self.note("renamed to", &name, self.first..self.written);
                self.first = self.written;
            }
            // A log that is copied before any of it was read is two files with the same content.
            1 if !is_empty && self.visible().contains(&self.first) => {
                let name = self.rotated_name();
                copy_and_truncate(self.job, "log/app.log", &name);
                self.note("copied to", &name, self.first..self.written);
                self.first = self.written;
            }
            2 if !self.rotated.is_empty() => {
                let visible = self.visible();
                let index = self.random.index(self.rotated.len());
                let (name, from, to) = self.rotated[index].clone();
                if (from..to).all(|line| visible.contains(&line)) {
                    fs::remove_file(self.job.path(&name)).unwrap();
                    self.note("removed", &name, from..to);
                    self.rotated.remove(index);
                }
            }
            3 if !self.rotated.is_empty() => self.compress(),
            _ => self.append(),
        }
        std::thread::sleep(Duration::from_millis(self.random.below(40)));
    }

    /// Compresses a rotated file. One of which nothing was read yet would be two files with the same content.
    fn compress(&mut self) {
        let index = self.random.index(self.rotated.len());
        let (name, from, to) = self.rotated[index].clone();
        let is_compressed = name.ends_with(".gz") || name.ends_with(".zst");
        if !is_compressed && self.visible().contains(&from) {
            let ending = ["gz", "zst"][self.random.index(2)];
            compress(self.job, &name, ending);
            self.note("compressed", &name, from..to);
            self.rotated[index].0 = format!("{name}.{ending}");
        }
    }

    fn rotated_name(&mut self) -> String {
        self.rotations += 1;
        let name = format!("log/app.log.{}", self.rotations);
        self.rotated.push((name.clone(), self.first, self.written));
        name
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
fn every_line_is_there_once_however_logs_are_rotated() {
    let is_heavy = std::env::var_os("FLOODMARK_HEAVY").is_some_and(|heavy| heavy == "1");
    let given = std::env::var("FLOODMARK_SEED").ok();
    let seed = given.map_or(u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("FLOODMARK_SEED={seed}");
    let time = Duration::from_secs(if is_heavy { 60 } else { 12 });
    let job = copy("log/app.log*", "follow = true");
    File::create(job.path("log/app.log")).unwrap();
    let is_over = AtomicBool::new(false);
    let since = Instant::now();
    let mut kills = Vec::new();
    let (written, history) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writer = LogWriter {
                job: &job,
                random: Random(seed),
                written: 0,
                first: 0,
                rotated: Vec::new(),
                rotations: 0,
                history: Vec::new(),
                since,
            };
            // If the test fails, nothing tells it that the time is over.
            while !is_over.load(Ordering::Relaxed) && since.elapsed() < 3 * time {
                writer.step();
            }
            writer.append();
            (writer.written, writer.history)
        });
        let mut random = Random(seed ^ 1);
        while since.elapsed() < time {
            let run = start(&job);
            std::thread::sleep(Duration::from_millis(300 + random.below(2500)));
            let outcome = run.kill();
            assert_eq!(outcome.code, None, "{}", outcome.stderr);
            kills.push(since.elapsed().as_millis());
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let expected: Vec<u64> = (0..written).collect();
    let mut run = start(&job);
    let since = Instant::now();
    let numbers = || -> Vec<u64> {
        let lines = lines(&job);
        lines
            .iter()
            .map(|line| line[..8].parse().unwrap())
            .collect()
    };
    while numbers().len() < expected.len() {
        assert!(
            since.elapsed() < DEADLINE && !run.has_ended(),
            "{}",
            run.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    stop(run);
    let found = numbers();
    let mut wrong = Vec::new();
    for line in expected {
        let from = found.partition_point(|known| *known < line);
        let times = found[from..].iter().take_while(|known| **known == line);
        wrong.extend(Some((line, times.count())).filter(|(_, times)| *times != 1));
    }
    let about: Vec<_> = history
        .iter()
        .filter(|(_, _, lines)| wrong.iter().any(|(line, _)| lines.contains(line)))
        .collect();
    assert!(
        wrong.is_empty(),
        "lines and how often they are there: {wrong:?}\n{about:#?}\nkilled at {kills:?}"
    );
}
