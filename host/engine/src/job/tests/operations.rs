//! Catches two operations at a time, one that is lost or never answered, and a trial that ends otherwise than it should.

use super::*;

#[test]
fn nothing_begins_between_a_rescale_and_the_new_tasks() {
    check(
        "1 ask
         1 rescale
         2 ack 1 a
         2 ack 1 b
         3 written 1
         4 ack 2 a
         4 ack 2 b
         5 written 2
         6 ask
         30 tick
         30 stop
         30 again 3
         31 ack 3 a
         31 written 3",
        "1 begin 1 Asked
         2 write 1
         3 begin 2 Rescale
         4 write 2
         5 recover
         30 start 1
         30 begin 3 Stop
         31 write 3
         31 rescaled 3
         31 finish Stopped",
    );
}

#[test]
fn sources_read_on_after_a_rescale_that_is_not_durable() {
    check(
        "1 rescale
         1 ack 1 a
         1 ack 1 b
         2 failed 1
         3 rescale
         33 tick
         34 tick",
        "1 begin 1 Rescale
         1 write 1
         2 resume
         2 refuse rescale: the job was not rescaled: checkpoint store `checkpoints` could not be read or written: the disk is full
         3 begin 2 Rescale
         33 abandon 2
         33 resume
         33 refuse rescale: the job was not rescaled: not all tasks
         33 begin 3 Periodic",
    );
}

#[test]
fn a_job_that_is_over_is_not_rescaled() {
    check(
        "1 ended a
         1 ended b
         1 rescale
         2 ack 1 a
         2 ack 1 b
         2 written 1",
        "1 begin 1 Final
         2 write 1
         2 refuse rescale: the job was not rescaled: the job is over
         2 finish Complete",
    );
}

#[test]
fn a_swap_waits_for_the_one_under_way_and_goes_before_the_others() {
    check(
        "1 ask
         2 swap
         2 ask
         2 rescale
         2 swap
         3 ack 1 a
         3 ack 1 b
         4 written 1
         5 ack 2 a
         5 ack 2 b
         6 written 2
         7 rescale",
        "1 begin 1 Asked
         2 refuse rescale: another swap is under way
         2 refuse swap: another swap is under way
         3 write 1
         4 begin 2 Swap
         5 write 2
         7 begin 3 Rescale",
    );
}

#[test]
fn a_swap_is_withdrawn_until_its_checkpoint_begins() {
    check(
        "1 ask
         2 swap
         3 withdraw
         4 ack 1 a
         4 ack 1 b
         5 written 1
         6 swap
         7 withdraw",
        "1 begin 1 Asked
         3 refuse swap: the swap was cancelled
         3 withdrawn: true
         4 write 1
         6 begin 2 Swap
         7 withdrawn: false",
    );
}

#[test]
fn a_swap_does_not_happen_at_the_end() {
    check(
        "1 ended a
         1 swap
         2 ack 1 a
         2 ack 1 b
         3 written 1
         4 ended b
         4 swap
         5 ack 2 a
         5 ack 2 b
         6 written 2",
        "1 begin 1 Swap
         2 write 1
         4 begin 2 Final
         5 write 2
         6 refuse swap: nothing was replaced: the job ends
         6 finish Complete",
    );
}

#[test]
fn a_swap_is_forgotten_when_the_job_goes_back() {
    check(
        "1 swap
         2 ack 1 a
         5 again 3
         6 ack 1 b
         7 tick",
        "1 begin 1 Swap
         5 recover
         5 refuse swap: the job has gone back to checkpoint 2 with the old plugin
         5 wait 0 s
         5 start 2",
    );
}

#[test]
fn a_rollback_deletes_resumes_and_settles() {
    check(
        "1 rollback 5
         1 rollback 4
         2 found 5
         3 deleted 6
         4 started
         5 swap
         5 ack 6 a
         5 ack 6 b
         6 written 6",
        "1 recover 5
         1 refuse rollback: the job is already being rolled back
         2 delete after 5
         3 start 2
         4 begin 6 Asked
         5 refuse swap: the job is already being rolled back
         5 write 6
         6 rolled back 6",
    );
}

#[test]
fn a_rollback_to_a_checkpoint_that_is_gone_changes_nothing() {
    check(
        "1 swap
         1 rollback 5
         2 missing 5
         3 found 9
         4 started",
        "1 begin 1 Swap
         1 recover 5
         2 refuse rollback: checkpoint 5 no longer exists; nothing has changed
         2 recover
         3 refuse swap: the job has gone back to checkpoint 9
         3 start 2",
    );
}

#[test]
fn a_rollback_takes_the_place_of_a_rescale() {
    check(
        "1 rescale
         2 rollback 5
         3 found 5
         3 deleted 6",
        "1 begin 1 Rescale
         2 refuse rescale: the job was not rescaled: another operation was requested
         2 recover 5
         3 delete after 5
         3 start 2",
    );
}

#[test]
fn the_checkpoint_that_records_a_rescale_says_so() {
    check(
        "1 rescale
         1 ack 1 a
         1 ack 1 b
         2 written 1
         3 found 1
         4 started",
        "1 begin 1 Rescale
         1 write 1
         2 recover
         3 start 1
         4 begin 2 Rescale",
    );
}

#[test]
fn a_rescale_that_cannot_start_continues_as_before() {
    check(
        "1 rescale
         1 ack 1 a
         1 ack 1 b
         2 written 1
         3 found 1
         4 unable
         5 found 1
         6 started",
        "1 begin 1 Rescale
         1 write 1
         2 recover
         3 start 1
         4 recover
         5 start 2
         6 refuse rescale: the job was not rescaled, and continues with a parallelism of 2",
    );
}

#[test]
fn a_rescale_that_a_failure_interrupts_is_tried_once_more() {
    check(
        "1 rescale
         2 fail
         3 found 4
         4 started",
        "1 begin 1 Rescale
         2 recover
         3 wait 0 s
         3 start 2
         4 begin 5 Rescale",
    );
}

#[test]
fn a_trial_ends_with_time_or_is_undone_by_a_failure() {
    let begin = "1 trial 20
                 1 ack 1 a
                 1 ack 1 b
                 2 written 1
                 3 swap\n";
    let begun = "1 begin 1 Swap
                 1 write 1
                 2 retain all: true
                 3 refuse swap: operator `` is on trial for 20 s more\n";
    check(
        &format!("{begin}22 fail\n22 found 1"),
        &format!(
            "{begun}22 recover
             22 wait 0 s
             22 start 2"
        ),
    );
    check(
        &format!("{begin}9 tick\n9 fail\n9 found 1\n9 deleted 2\n9 started"),
        &format!(
            "{begun}9 retain all: false
             9 undo swap 1
             9 recover 1
             9 delete after 1
             9 start 2
             9 begin 2 Asked"
        ),
    );
    let mut script = begin.to_owned();
    let mut expected = begun.to_owned();
    script += "22 tick\n23 rescale";
    expected += "22 retain all: false\n22 trial passed\n22 begin 2 Periodic";
    check(&script, &expected);
}
