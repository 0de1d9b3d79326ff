//! Columns that an operator does not read.
//!
//! Catches an operator that gets a column which it says it does not read, one that is not told so when it reads that column
//! after all, and an emission that needs a time which is not there.

use floodmark_sdk::columns::{Plugin, UnreadColumns};
use floodmark_sdk::testing::{Given, Task};
use floodmark_sdk::{
    Config, Decimal, Operator, Output, Reads, Record, RecordByRecord, Result, States, Value,
};

#[derive(Default, States)]
struct Counter {
    count: Value<u64>,
}

#[floodmark_sdk::operator]
impl Operator for Counter {
    const INPUTS: &'static [&'static str] = &["left", "right"];

    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        if record.key() == b"none" {
            return Ok(());
        }
        *self.count.or_default() += 1;
        out.emit(Decimal(*self.count.or_default()));
        Ok(())
    }
}

#[test]
fn what_is_not_read_is_said_of_each_input() {
    assert_eq!(
        Counter::READS,
        Reads {
            values: false,
            timestamps: false
        }
    );
    let of = |unread: Vec<UnreadColumns>| {
        let unread = unread.into_iter();
        let columns = unread.map(|unread| (unread.input, unread.values, unread.timestamps));
        columns.collect::<Vec<_>>()
    };
    let unread = of(RecordByRecord::<Counter>::unread());
    assert_eq!(unread, [(0, true, true), (1, true, true)]);
    assert_eq!(of(RecordByRecord::<Late>::unread()), []);
}

#[test]
fn records_keep_a_time_that_their_operator_does_not_see() -> Result {
    let mut task = Task::new::<Counter>();
    let records = [("a", "1"), ("none", "2"), ("a", "3")];
    let records = (5_i64..).zip(records);
    let emitted = task.run(records.map(|(time, record)| Given::from(record).at(time)))?;
    assert_eq!(emitted, [("a", "1"), ("a", "2")]);
    assert_eq!(emitted[0].timestamp, Some(5));
    assert_eq!(emitted[1].timestamp, Some(7));
    Ok(())
}

/// Emits some records with a time of their own.
#[derive(States)]
struct Late;

#[floodmark_sdk::operator]
impl Operator for Late {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        match record.value() {
            b"late" => out.at(9).emit("late"),
            other => out.emit(other),
        }
        Ok(())
    }
}

#[test]
fn times_are_read_where_only_some_records_have_their_own() -> Result {
    let mut task = Task::new::<Late>();
    let records = ["one", "late", "two"].map(|value| Given::from(("a", value)).at(3));
    let emitted = task.run(records)?;
    let times = emitted.iter().map(|record| record.timestamp);
    assert_eq!(times.collect::<Vec<_>>(), [Some(3), Some(9), Some(3)]);
    Ok(())
}

/// Wrong on purpose: does what a value says that it must not read, or what a key says.
#[derive(States)]
struct Wrong;

impl Operator for Wrong {
    const READS: Reads = Reads {
        values: false,
        timestamps: false,
    };

    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        match record.key() {
            b"value" => out.emit(record.value()),
            b"timestamp" => out.emit(format_args!("{:?}", record.timestamp())),
            b"own" => out.emit(""),
            _ => out.at(5).emit(""),
        }
        Ok(())
    }
}

fn run_wrong(keys: &[&str]) {
    let records = keys.iter().map(|&key| (key, "v"));
    let emitted = Task::new::<Wrong>().run(records).expect("nothing fails");
    assert_eq!(emitted.len(), keys.len());
}

#[test]
fn what_needs_no_time_is_no_mistake() {
    run_wrong(&["own", "own"]);
    run_wrong(&["other", "other"]);
}

#[test]
#[should_panic(
    expected = "this operator needs the value of a record, but its `READS` says that it does not read values; set `values: true` there"
)]
fn a_value_that_is_read_after_all_panics() {
    run_wrong(&["value"]);
}

#[test]
#[should_panic(expected = "set `timestamps: true` there, or remove the constant")]
fn a_time_that_is_read_after_all_panics() {
    run_wrong(&["timestamp"]);
}

#[test]
#[should_panic(expected = "the event time of a record for another one's sake")]
fn a_time_that_has_to_be_written_down_panics() {
    run_wrong(&["own", "other"]);
}

#[test]
#[should_panic(expected = "the event time of a record for another one's sake")]
fn a_time_that_follows_others_panics() {
    run_wrong(&["other", "own"]);
}
