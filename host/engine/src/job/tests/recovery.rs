//! Catches a job that resumes, waits, gives up or ends otherwise than its settings say.

use super::*;
use crate::job::phase::StopCause;

#[test]
fn going_back_begins_anew_and_forgets_no_wish() {
    check(
        "10 tick
         11 ack 1 a
         11 drain
         11 ended a
         12 again 2
         13 ack 1 b
         14 ended b
         22 tick
         23 ended a",
        "10 begin 1 Periodic
         11 end input
         12 recover
         12 wait 0 s
         12 start 2
         12 end input
         22 begin 2 Periodic",
    );
    check(
        "10 stop
         11 fail
         11 found 4
         12 closed",
        "10 begin 1 Stop
         11 recover
         11 close
         12 finish Stopped",
    );
}

#[test]
fn output_that_may_be_lost_is_written_again() {
    // Not by another checkpoint, which would name what the disk may not have.
    check(
        "10 tick
         11 ack 1 a
         11 ack 1 b
         12 unsynced 1
         13 again 2
         20 ended a
         20 ended b
         21 ack 2 a
         21 ack 2 b
         22 unsynced 2
         23 again 3",
        "10 begin 1 Periodic
         11 write 1
         12 recover
         13 wait 0 s
         13 start 2
         20 begin 2 Final
         21 write 2
         22 recover
         23 wait 0 s
         23 start 2",
    );
    check(
        "10 stop
         11 ack 1 a
         11 ack 1 b
         12 unsynced 1
         12 found 4
         13 closed",
        "10 begin 1 Stop
         11 write 1
         12 recover
         12 close
         13 finish Stopped",
    );
}

#[test]
fn nothing_begins_or_expires_while_a_job_rests() {
    check(
        "1 ask
         2 fail
         40 ask
         50 drain
         60 again 2
         61 tick",
        "1 begin 1 Asked
         2 recover
         60 wait 0 s
         60 start 2
         60 end input
         60 begin 2 Asked",
    );
}

#[test]
fn a_failure_waits_and_too_many_give_up() {
    let settings = JobSettings {
        checkpoints: settings(),
        fresh: false,
        restart: Strategy::FixedDelay {
            attempts: Some(1),
            delay: Duration::from_secs(5),
        },
        seed: 1,
    };
    check_all(
        settings,
        "1 fail
         2 found 3
         6 tick
         7 tick
         8 started
         9 fail
         9 found 3",
        "1 recover
         2 wait 5 s
         7 start 2
         9 recover
         9 give up
         9 finish Record",
    );
}

/// Catches a job that ends since its storage could not be read for a moment, or that waits for it without end.
#[test]
fn a_storage_that_cannot_be_read_is_looked_at_again() {
    let with = |attempts| JobSettings {
        checkpoints: settings(),
        fresh: false,
        restart: Strategy::FixedDelay {
            attempts: Some(attempts),
            delay: Duration::from_secs(5),
        },
        seed: 1,
    };
    check_all(
        with(2),
        "1 fail
         2 unreadable
         6 tick
         7 tick
         8 found 3
         13 tick
         14 started",
        "1 recover
         2 wait 5 s
         7 recover
         8 wait 5 s
         13 start 2",
    );
    check_all(
        with(1),
        "1 fail
         2 unreadable
         7 tick
         8 unreadable",
        "1 recover
         2 wait 5 s
         7 recover
         8 give up
         8 finish checkpoint store `checkpoints` could not be read or written: the disk is full; check free space and permissions",
    );
    // A stop needs to know where the output belongs, and waits for nothing else.
    check_all(
        with(1),
        "1 fail
         2 unreadable
         3 stop
         4 found 4
         5 closed",
        "1 recover
         2 wait 5 s
         3 recover
         4 close
         5 finish Stopped",
    );
    check_all(
        with(1),
        "1 fail
         2 missing 2",
        "1 recover
         2 finish there is no checkpoint 2; `floodmark checkpoint list` shows those that are there",
    );
}

#[test]
fn a_stop_or_drain_ends_the_delay_of_a_failure() {
    let settings = JobSettings {
        checkpoints: settings(),
        fresh: false,
        restart: Strategy::FixedDelay {
            attempts: None,
            delay: Duration::from_secs(500),
        },
        seed: 1,
    };
    check_all(
        settings,
        "1 fail
         2 found 3
         3 swap
         4 stop
         5 closed",
        "1 recover
         2 wait 500 s
         3 refuse swap: the job waits after a failure
         4 close
         5 finish Stopped",
    );
    check_all(
        settings,
        "1 fail
         2 found 3
         4 drain
         5 started",
        "1 recover
         2 wait 500 s
         4 start 2
         5 end input",
    );
}

#[test]
fn a_retry_ends_the_delay_and_the_next_failure_counts_as_the_first() {
    let settings = JobSettings {
        checkpoints: settings(),
        fresh: false,
        restart: Strategy::FixedDelay {
            attempts: Some(1),
            delay: Duration::from_secs(500),
        },
        seed: 1,
    };
    check_all(
        settings,
        "1 fail
         2 found 3
         3 retry
         4 started
         5 retry
         6 fail
         7 found 3",
        "1 recover
         2 wait 500 s
         3 forget failures
         3 start 2
         5 refuse retry: the job does not wait after a failure
         6 recover
         7 wait 500 s",
    );
}

#[test]
fn what_is_durable_counts_although_a_worker_has_failed_meanwhile() {
    let mut run = Script::new(JobSettings {
        checkpoints: settings(),
        fresh: false,
        restart: Strategy::None,
        seed: 1,
    });
    for line in ["10 stop", "11 ack 1 a", "11 ack 1 b"] {
        run.run(line);
    }
    // The writer is done while the workers end.
    let error = JobError::Defect { what: "a worker" };
    run.job.phase = Phase::Stopping(StopCause::Failed(error));
    run.run("12 written 1");
    run.step(Input::Stopped(Ok(())));
    assert_eq!(
        run.seen.last().map(String::as_str),
        Some("12 finish Stopped")
    );
}

#[test]
fn an_interrupted_plugin_ends_a_job_that_stops() {
    // It does not count as a failure of the job, and no attempt follows.
    check(
        "10 stop
         11 interrupted",
        "10 begin 1 Stop
         11 finish stopped without a last checkpoint: operator `count` was interrupted in `process`, since its calls took more than 1s in all while the job stops; there is no checkpoint yet, so the same command starts from the beginning; `limits.stop-grace` gives them more time",
    );
    // A drain does not wait for it either.
    check(
        "10 fail
         10 found 4
         11 started
         12 drain
         12 interrupted",
        "10 recover
         10 wait 0 s
         10 start 2
         12 end input
         12 finish stopped without a last checkpoint: operator `count` was interrupted in `process`, since its calls took more than 1s in all while the job stops; checkpoint 4 is kept, and the same command resumes from it; `limits.stop-grace` gives them more time",
    );
    check(
        "10 fail
         10 found 4
         11 unstarted",
        "10 recover
         10 wait 0 s
         10 start 2
         11 finish stopped without a last checkpoint: operator `count` was interrupted in `process`, since its calls took more than 1s in all while the job stops; checkpoint 4 is kept, and the same command resumes from it; `limits.stop-grace` gives them more time",
    );
}
