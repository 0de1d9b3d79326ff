//! Components that keep lists, maps, values that expire and values of an older version, called as a job calls them, on a real
//! store.
//!
//! Catches a guest that reads what its call must not see, a host that takes what the contract forbids, writes that are lost on
//! the way to the store or applied although the call failed, and a plugin that is not asked to migrate as the contract says.

use std::fs;
use std::sync::Arc;

use floodmark_engine::guest::{GuestEngine, GuestError, Instance, Plugin, StatePart};
use floodmark_engine::runtime::faults::Handling;
use floodmark_engine::runtime::keyed::Dictionary;
use floodmark_engine::runtime::plan::{Node, Operator, Role};
use floodmark_engine::runtime::schema::States;
use floodmark_engine::runtime::task::{OperatorTask, TaskError};
use floodmark_state::stream::{Batch, Column, InputPort, MaxParallelism};
use floodmark_state::{ChunkId, ChunkIds, StateStore, StoreSettings};

use crate::job::Job;
use crate::plugins::plugin;

fn load(name: &str) -> Plugin {
    let engine = GuestEngine::new(None).unwrap();
    engine
        .load("tested", &fs::read(plugin(name)).unwrap())
        .unwrap()
}

fn open(plugin: &Plugin, config: &[(&str, &str)]) -> Result<Instance, GuestError> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    plugin.open("tested", &config.iter().map(owned).collect::<Vec<_>>())
}

/// One task with a store of its own, and a clock.
struct Tested {
    task: OperatorTask,
    keys: Dictionary,
    now_ms: u64,
}

impl Tested {
    fn new(name: &str, config: &[(&str, &str)]) -> Self {
        let plugin = load(name);
        let max_parallelism = MaxParallelism::new(128).unwrap();
        let operator = Operator::new(Arc::new(plugin.clone()), Vec::new());
        let handling = Handling::of("tested", &operator);
        let node = Node::new("tested", Role::Operator(operator));
        let states = States::of(&node, None, false).unwrap();
        let store = StateStore::new(StoreSettings {
            states: states.settings(),
            ..StoreSettings::in_memory(
                max_parallelism,
                max_parallelism.all_groups(),
                ChunkIds::new(ChunkId(0), 0, 1),
            )
        });
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let config: Vec<_> = config.iter().map(owned).collect();
        let again = Arc::new(move || plugin.open("tested", &config));
        Self {
            task: OperatorTask::new(again, states.declared, store, handling).unwrap(),
            keys: Dictionary::default(),
            now_ms: 1,
        }
    }

    /// What is emitted for one batch, as text.
    fn run(&mut self, records: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut batch = Batch::default();
        for (key, value) in records {
            batch.push(key.as_bytes(), value.as_bytes(), 0);
        }
        let keyed = self.keys.keyed(batch);
        let leaving = match self.task.process(InputPort(0), keyed, self.now_ms) {
            Ok(leaving) => leaving,
            Err(TaskError::Guest(error)) => return Err(error.to_string()),
            Err(TaskError::Record { reason, .. }) => {
                return Err(format!("operator `tested` {reason}"));
            }
            Err(error) => panic!("{error:?}"),
        };
        let values = leaving.iter().flat_map(|(_, batch)| batch.values.iter());
        Ok(values
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect())
    }
}

#[test]
fn a_list_keeps_the_last_values() {
    let mut history = Tested::new("history", &[("length", "3")]);
    let mut expected: Vec<String> = Vec::new();
    for round in 0..40 {
        // One batch and another, so that lists are read from the store and from the call.
        let values = [round * 2, round * 2 + 1].map(|value| value.to_string());
        let records = [
            ("k", values[0].as_str()),
            ("other", "x"),
            ("k", values[1].as_str()),
        ];
        let emitted = history.run(&records).unwrap();
        expected.push(values[0].clone());
        let first = expected[expected.len().saturating_sub(3)..].join(",");
        assert!(emitted[0].ends_with(&format!(" {first}")), "{emitted:?}");
        expected.push(values[1].clone());
        let second = expected[expected.len().saturating_sub(3)..].join(",");
        assert!(emitted[2].ends_with(&format!(" {second}")), "{emitted:?}");
    }
}

#[test]
fn a_map_of_many_entries_is_read_in_pages() {
    let mut top = Tested::new("top", &[]);
    // More than a page of the guest's, and more than a page of the tree's.
    let names: Vec<String> = (0..5000)
        .map(|number| format!("value-{number:05}"))
        .collect();
    for names in names.chunks(50) {
        let records: Vec<_> = names.iter().map(|name| ("k", name.as_str())).collect();
        top.run(&records[records.len() - 1..]).unwrap();
    }
    let emitted = top
        .run(&[("k", "b"), ("k", "a"), ("k", "b"), ("l", "a")])
        .unwrap();
    assert_eq!(emitted[2..], ["b=2 a=1 value-00049=1", "a=1"]);
    let emitted = top.run(&[("k", "a"), ("k", "a")]).unwrap();
    assert_eq!(emitted, ["a=2 b=2 value-00049=1", "a=3 b=2 value-00049=1"]);
}

#[test]
fn a_value_is_there_for_an_hour() {
    let mut dedupe = Tested::new("dedupe", &[]);
    assert_eq!(dedupe.run(&[("k", "1"), ("k", "2")]).unwrap(), ["1"]);
    dedupe.now_ms += 3_599_999;
    assert!(dedupe.run(&[("k", "3")]).unwrap().is_empty());
    dedupe.now_ms += 3_600_000;
    assert_eq!(dedupe.run(&[("k", "4")]).unwrap(), ["4"]);
}

#[test]
fn a_newer_version_takes_values_over_and_knows_json() {
    let plugin = load("upgrade-v2");
    assert_eq!(plugin.description().states[0].version, 2);
    let mut instance = plugin.unopened("tested").unwrap();
    let none = Column::new();
    assert_eq!(instance.migrate(0, 1, &none).unwrap(), none);
    let refused = instance.migrate(0, 3, &none).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("state `count` is declared in version 2 and says nothing of version 3"),
        "{refused}"
    );
    let old: Column = [[7_u8].as_slice(), &[9]].into_iter().collect();
    let new = instance.migrate(0, 1, &old).unwrap();
    let json = instance.to_json(0, StatePart::Value, &new).unwrap();
    let texts: Vec<_> = json
        .iter()
        .map(|text| str::from_utf8(text).unwrap())
        .collect();
    assert_eq!(
        texts,
        [r#"{"count":7,"longest":""}"#, r#"{"count":9,"longest":""}"#]
    );
    assert_eq!(instance.from_json(0, StatePart::Value, &json).unwrap(), new);
    assert!(instance.from_json(0, StatePart::Value, &old).is_err());
    assert!(instance.to_json(0, StatePart::SubKey, &new).is_err());

    let mut top = load("top").unopened("tested").unwrap();
    let sub_keys: Column = [b"tide".as_slice()].into_iter().collect();
    let json = top.to_json(0, StatePart::SubKey, &sub_keys).unwrap();
    assert_eq!(json.get(0), b"\"tide\"");
    assert_eq!(
        top.from_json(0, StatePart::SubKey, &json).unwrap(),
        sub_keys
    );
}

/// What the host says to a call that does this.
#[track_caller]
fn check(does: &str, expected: &str) {
    let mut tested = Tested::new("overreaches", &[("does", does)]);
    let error = tested.run(&[("k", "")]).unwrap_err().to_string();
    assert!(error.contains("`tested`"), "{error}");
    assert!(error.contains(expected), "{does}: {error}");
}

#[test]
fn what_the_contract_forbids_is_refused() {
    check("read a slot", "it read slot 1 of a call with 1 keys");
    check(
        "read a state",
        "it read state 7, but the number of declared states is 3",
    );
    check(
        "read a kind",
        "it read state 1 as a map, but declares it as a list",
    );
    check(
        "read a long sub-key",
        "it read a sub-key of 65537 bytes, but at most 65536 are allowed",
    );
    check(
        "read by one slot too many",
        "it read a map with 2 slots, but 1 sub-keys",
    );
    check(
        "write a kind",
        "state 2 is written as a list, but declared as a map",
    );
    check("write a slot", "slot 1, but the call has 1 keys");
    check("clear twice", "two writes of state 1 to slot 0");
    check(
        "write a sub-key twice",
        "two writes of state 2 to one sub-key of slot 0",
    );
    check(
        "write a long sub-key",
        "a sub-key of 65537 bytes in state 2",
    );
    check(
        "write without a sub-key",
        "a change of a map has 2 slots, 1 sub-keys and 2 values",
    );

    let plugin = load("overreaches");
    let error = open(&plugin, &[("does", "read in open")])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("crashed in `open`: it read state 1 outside of `process`"),
        "{error}"
    );

    let mut instance = open(&plugin, &[("does", "")]).unwrap();
    let error = instance
        .migrate(0, 1, &Column::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("broke the contract in what it returned from `migrate`: 1 items for 0"),
        "{error}"
    );
    let one: Column = [b"".as_slice()].into_iter().collect();
    let error = instance
        .to_json(0, StatePart::Value, &one)
        .unwrap_err()
        .to_string();
    assert!(error.contains("a text is not JSON"), "{error}");
    let error = instance.completed(1).unwrap_err().to_string();
    assert!(
        error.contains("crashed in `completed`: it read state 1 outside"),
        "{error}"
    );
}

#[test]
fn the_state_is_back_after_a_crash_and_as_it_was() {
    let mut tested = Tested::new("overreaches", &[("does", "read a slot")]);
    tested.run(&[("k", "")]).unwrap_err();
    assert!(tested.task.store_mut().is_empty());
    let mut tested = Tested::new("overreaches", &[("does", "nothing wrong")]);
    tested.run(&[("k", "")]).unwrap();
    assert_eq!(tested.task.store_mut().len(), 2, "a list and a map");
}

#[test]
fn tools_leave_out_what_has_expired() {
    let job = Job::with_input("a a\n");
    let ttl = ["--set", "operator.count.ttl.count=2s"];
    job.run(&ttl).succeeded();
    std::thread::sleep(std::time::Duration::from_millis(2200));
    job.write("in.txt", "a a\nb\n");
    job.run(&ttl).succeeded();

    let got = job.command(&["state", "get", "count", "count", "a"]);
    assert_eq!(got.code, Some(6), "{}", got.stderr);
    let dump = job.command(&["state", "dump"]).succeeded().stdout;
    let row = r#"{"operator":"count","state":"count","key":"b","value":1,"written-ms":["#;
    assert!(dump.starts_with(row), "{dump}");
    assert_eq!(dump.lines().count(), 1, "{dump}");
    let list = ["state", "list", "--count", "--json"];
    let listed = job.command(&list).succeeded().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["states"][0]["keys"], 1, "{listed}");
    assert_eq!(listed["states"][0]["expired-keys"], serde_json::Value::Null);

    // Compaction may have dropped it by now.
    let all = job.command(&["state", "dump", "--with-expired"]);
    for line in all.succeeded().stdout.lines() {
        let expired = line.contains(r#""key":"a""#);
        assert_eq!(line.contains(r#""expired":true"#), expired, "{line}");
    }
    // What is loaded is as old as it was, and what has expired is not loaded.
    let expired = r#"{"operator":"count","state":"count","key":"c","value":1,"expired":true}"#;
    job.write("rows", format!("{dump}{expired}\n"));
    let longer = ["--set", "operator.count.ttl.count=1h"];
    let load = ["state", "load", ".", "rows", "--to", "loaded"];
    job.command(&[&load[..], &longer].concat())
        .succeeded()
        .says("1 row of entries that had expired was left out");
    let loaded = ["state", "dump", "--savepoint", "loaded"];
    assert_eq!(job.command(&loaded).succeeded().stdout, dump);

    job.write(
        "rows",
        dump.replace("\"written-ms\":[", "\"written-ms\":[1,"),
    );
    let refused = job.command(&["state", "load", ".", "rows", "--to", "never"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    refused.says("`written-ms` has 2 times, and the row 1 values");
}
