//! Catches records that are lost or doubled when the process is killed at any moment, and output that is visible before its
//! checkpoint is durable.
//!
//! `FLOODMARK_HEAVY=1` takes 50 MB of text and 20 kills; `FLOODMARK_SEED` repeats the moments of an earlier run.

use std::time::{Duration, Instant};

use floodmark_testing::Random;

use crate::job::{Job, Outcome};
use crate::output::{Seen, counted_by_tools};
use crate::text::text;

struct Measure {
    text_bytes: usize,
    interval_ms: u64,
    kills: u64,
}

impl Measure {
    fn new() -> Self {
        if std::env::var_os("FLOODMARK_HEAVY").is_some_and(|heavy| heavy == "1") {
            Self {
                text_bytes: 50_000_000,
                interval_ms: 200,
                kills: 20,
            }
        } else {
            Self {
                text_bytes: 30_000_000,
                interval_ms: 50,
                kills: 6,
            }
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("FLOODMARK_SEED").ok();
    given.map_or_else(
        || {
            let now = std::time::SystemTime::now();
            let since = now.duration_since(std::time::UNIX_EPOCH);
            since.unwrap().as_nanos() as u64
        },
        |seed| seed.parse().unwrap(),
    )
}

#[test]
#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
fn every_record_is_there_once_whenever_the_process_dies() {
    let measure = Measure::new();
    let seed = seed();
    println!("FLOODMARK_SEED={seed}");
    let interval = format!("checkpoint.interval={}ms", measure.interval_ms);
    let arguments = ["--parallelism", "2", "--set", &interval];
    let text = text(measure.text_bytes, 7);

    let undisturbed = Job::with_input(&text);
    let begun = Instant::now();
    undisturbed.run(&arguments).succeeded();
    let duration = begun.elapsed();
    let expected = undisturbed.output();
    let counts = counted_by_tools(&text);
    expected.is_exactly(&counts);

    let job = Job::with_input(&text);
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    let killed = kill_until_it_ends(
        &job,
        &arguments,
        &measure,
        &mut Random(seed),
        duration,
        lines,
    );
    println!(
        "{} kills, {} of them came back from a checkpoint, in {:?}, undisturbed {duration:?}",
        killed.kills,
        killed.resumed,
        begun.elapsed()
    );
    killed.seen.is_exactly(&counts);
    assert!(killed.seen.is_same_as(&expected));
    assert!(killed.seen.is_same_as(&job.output()));
    assert!(killed.kills * 3 >= measure.kills * 2, "{}", killed.kills);
    // On a busy machine some kills come before the first checkpoint.
    assert!(killed.resumed * 3 >= killed.kills, "{}", killed.resumed);
    job.checkpoint(&["verify"]);
}

struct Killed {
    /// Times that the process was killed while it ran.
    kills: u64,
    /// Runs that went on from a checkpoint.
    resumed: u64,
    /// All that was ever visible.
    seen: Seen,
}

/// Runs the same command again and again. The moments are spread over the time that the undisturbed run took: a run that
/// is ahead of its share is killed before it can get on.
fn kill_until_it_ends(
    job: &Job,
    arguments: &[&str],
    measure: &Measure,
    random: &mut Random,
    duration: Duration,
    lines: u64,
) -> Killed {
    let mut killed = Killed {
        kills: 0,
        resumed: 0,
        seen: Seen::default(),
    };
    let duration_ms = duration.as_millis() as u64;
    let mut lines_done = 0;
    loop {
        let left_ms = duration_ms * (lines - lines_done.min(lines)) / lines;
        let is_ahead = lines_done * (measure.kills + 2) > lines * (killed.kills + 1);
        let has_nothing_yet = killed.resumed == 0 && killed.kills >= measure.kills / 2;
        let within_ms = if is_ahead || has_nothing_yet {
            measure.interval_ms / 2
        } else {
            measure.interval_ms * 5
        };
        let moment = random.below(within_ms.min(left_ms * 3 / 4).max(1));
        let mut run = job.start(arguments);
        if has_nothing_yet {
            // The other half of the kills is to have something to come back to.
            run.wait_for(" completed: ");
        }
        let started = Instant::now();
        let is_to_die = killed.kills < measure.kills;
        let lasts = Duration::from_millis(moment);
        while !run.has_ended() {
            if is_to_die && started.elapsed() >= lasts {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            killed.seen.notice(&job.path("out"));
        }
        let has_ended = run.has_ended();
        let outcome = if has_ended {
            run.wait().succeeded()
        } else {
            run.kill()
        };
        killed.seen.look(&job.path("out"));
        if let Some(done) = resumed_at(&outcome) {
            killed.resumed += 1;
            lines_done = done;
        }
        if has_ended {
            return killed;
        }
        killed.kills += 1;
    }
}

/// How many records had been read at the checkpoint that a run went on from.
fn resumed_at(outcome: &Outcome) -> Option<u64> {
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.contains("resumes from checkpoint"))?;
    let (before, _) = line.split_once(" records in")?;
    let (_, records) = before.rsplit_once(' ')?;
    Some(records.replace(',', "").parse().unwrap())
}
