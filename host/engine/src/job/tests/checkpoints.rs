//! Catches a checkpoint that begins twice, completes without a part, or never ends, a job that ends without its last
//! checkpoint, and a job whose state grows because no checkpoint makes room for it.

use super::*;

#[test]
fn periodic_ones_follow_the_interval() {
    check(
        "9 tick
         10 tick
         11 ack 1 a
         11 ack 1 a
         12 ack 1 b
         13 tick
         14 written 1
         19 tick
         20 tick",
        "10 begin 1 Periodic
         12 write 1
         20 begin 2 Periodic",
    );
}

#[test]
fn a_slow_one_is_given_up_and_its_acknowledgements_are_ignored() {
    check(
        "10 tick
         11 ack 1 a
         40 tick
         41 ack 1 b
         42 ack 2 a
         43 ack 2 b
         44 failed 2
         50 tick",
        "10 begin 1 Periodic
         40 abandon 1
         40 begin 2 Periodic
         43 write 2
         50 begin 3 Periodic",
    );
}

#[test]
fn state_that_needs_room_begins_one_early() {
    let never = CheckpointSettings {
        interval: None,
        min_pause: Duration::from_secs(5),
        ..settings()
    };
    check_with(
        never,
        "100 tick
         200 dirty a
         201 ack 1 a
         202 dirty a
         203 dirty b
         204 ack 1 b
         205 written 1
         209 tick
         210 tick
         211 ack 2 a
         211 ack 2 b
         212 written 2
         300 tick",
        "200 begin 1 Periodic
         204 write 1
         210 begin 2 Periodic
         211 write 2",
    );
}

#[test]
fn room_is_made_by_the_next_one_if_one_fails() {
    check_with(
        CheckpointSettings {
            interval: None,
            ..settings()
        },
        "10 dirty a
         11 ack 1 a
         11 ack 1 b
         12 failed 1
         12 tick
         13 tick
         14 dirty b
         43 tick
         44 tick
         45 again 2
         60 tick",
        "10 begin 1 Periodic
         11 write 1
         13 begin 2 Periodic
         43 abandon 2
         44 begin 3 Periodic
         45 recover
         45 wait 0 s
         45 start 2",
    );
}

#[test]
fn the_end_of_input_takes_a_last_one() {
    check(
        "1 ended a
         2 ended b
         3 ack 1 a
         3 ack 1 b
         4 written 1
         100 tick",
        "2 begin 1 Final
         3 write 1
         4 finish Complete",
    );
}

#[test]
fn a_stop_waits_for_the_one_under_way() {
    check(
        "10 tick
         11 stop
         12 ack 1 a
         12 ack 1 b
         13 written 1
         14 ack 2 a
         14 ack 2 b
         15 written 2",
        "10 begin 1 Periodic
         12 write 1
         13 begin 2 Stop
         14 write 2
         15 finish Stopped",
    );
}

#[test]
fn the_last_one_is_tried_again_up_to_a_limit() {
    let mut script = String::from("0 stop\n");
    let mut expected = String::new();
    for attempt in 1..=5 {
        let at = (attempt - 1) * 2;
        script += &format!(
            "{at} tick\n{at} ack {attempt} a\n{at} ack {attempt} b\n{at} failed {attempt}\n"
        );
        expected += &format!("{at} begin {attempt} Stop\n{at} write {attempt}\n");
    }
    check(
        &script,
        &format!("{expected}8 finish WithoutLastCheckpoint"),
    );
}

#[test]
fn a_job_does_not_end_while_its_output_is_not_visible() {
    let mut script = String::from("0 stop\n");
    let mut expected = String::new();
    for attempt in 1..=5 {
        let at = (attempt - 1) * 2;
        script += &format!(
            "{at} tick\n{at} ack {attempt} a\n{at} ack {attempt} b\n{at} invisible {attempt}\n"
        );
        expected += &format!("{at} begin {attempt} Stop\n{at} write {attempt}\n");
    }
    check(&script, &format!("{expected}8 finish NotVisible 5"));
    // It becomes visible with the second attempt. Before the last checkpoint, the next one is soon enough.
    check(
        "10 tick
         11 ack 1 a
         11 ack 1 b
         12 invisible 1
         13 ended a
         13 ended b
         14 ack 2 a
         14 ack 2 b
         15 invisible 2
         16 tick
         17 ack 3 a
         17 ack 3 b
         18 written 3",
        "10 begin 1 Periodic
         11 write 1
         13 begin 2 Final
         14 write 2
         16 begin 3 Final
         17 write 3
         18 finish Complete",
    );
}

#[test]
fn a_pause_is_kept_after_the_end_of_each() {
    let settings = CheckpointSettings {
        min_pause: Duration::from_secs(5),
        ..settings()
    };
    check_with(
        settings,
        "10 tick
         17 ack 1 a
         17 ack 1 b
         18 written 1
         20 tick
         22 tick
         23 tick
         24 ack 2 a
         24 ack 2 b
         32 failed 2
         33 tick
         36 tick
         37 tick",
        "10 begin 1 Periodic
         17 write 1
         23 begin 2 Periodic
         24 write 2
         37 begin 3 Periodic",
    );
}

#[test]
fn one_that_was_asked_for_begins_at_once() {
    let settings = CheckpointSettings {
        interval: None,
        min_pause: Duration::from_secs(5),
        ..settings()
    };
    check_with(
        settings,
        "1 ask
         2 ack 1 a
         2 ack 1 b
         3 written 1
         3 ask
         4 tick",
        "1 begin 1 Asked
         2 write 1
         3 begin 2 Asked",
    );
}

#[test]
fn asks_while_one_is_under_way_share_the_next() {
    check(
        "10 tick
         11 ask
         12 ask
         13 ack 1 a
         13 ack 1 b
         14 ask
         15 written 1
         16 ack 2 a
         16 ack 2 b
         17 written 2
         18 tick
         25 tick",
        "10 begin 1 Periodic
         13 write 1
         15 begin 2 Asked
         16 write 2
         25 begin 3 Periodic",
    );
}

#[test]
fn a_stop_answers_those_who_asked_too() {
    check(
        "10 tick
         11 ask
         11 stop
         12 ack 1 a
         12 ack 1 b
         13 written 1
         14 ack 2 a
         14 ack 2 b
         15 written 2",
        "10 begin 1 Periodic
         12 write 1
         13 begin 2 Stop
         14 write 2
         15 finish Stopped",
    );
}

#[test]
fn a_drain_ends_the_input_first() {
    check(
        "10 tick
         11 drain
         11 drain
         12 ack 1 a
         12 ended a
         12 ack 1 b
         13 written 1
         14 ended b
         15 ack 2 a
         15 ack 2 b
         16 written 2
         17 drain",
        "10 begin 1 Periodic
         11 end input
         12 write 1
         14 begin 2 Final
         15 write 2
         16 finish Complete",
    );
}

#[test]
fn so_many_may_fail_in_a_row_and_no_more() {
    let settings = CheckpointSettings {
        tolerable_failures: Some(1),
        ..settings()
    };
    check_with(
        settings,
        "10 tick
         40 tick
         41 ack 2 a
         41 ack 2 b
         42 written 2
         50 tick
         51 ack 3 a
         51 ack 3 b
         52 failed 3
         60 tick
         61 ask
         62 ack 4 a
         62 ack 4 b
         63 failed 4
         90 tick",
        "10 begin 1 Periodic
         40 abandon 1
         40 begin 2 Periodic
         41 write 2
         50 begin 3 Periodic
         51 write 3
         60 begin 4 Periodic
         62 write 4
         63 finish TooManyFailures 2",
    );
}
