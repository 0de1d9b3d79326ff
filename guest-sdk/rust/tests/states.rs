//! States as users write them, run by `testing`.
//!
//! Catches a call that does not see what it wrote itself, entries that come in the wrong order or twice where pages
//! meet, values that live too long or too short, migrations that mix up values, and listeners that are never called.

use std::collections::BTreeMap;
use std::time::Duration;

use floodmark_sdk::testing::{Task, check_disposable};
use floodmark_sdk::{
    Aggregate, Aggregating, Config, Error, List, Map, Max, Operator, Output, Record, Reducing,
    Result, States, Sum, Value,
};
use serde::{Deserialize, Serialize};

/// Does to its map and its list what the value of each record says.
#[derive(Default, States)]
struct Commands {
    map: Map<i32, String>,
    list: List<String>,
}

impl Operator for Commands {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let words: Vec<&str> = record.text()?.split(' ').collect();
        match words[..] {
            ["insert", sub_key, value] => self.map.insert(&sub_key.parse()?, value.to_owned()),
            ["remove", sub_key] => self.map.remove(&sub_key.parse::<i32>()?),
            ["append", sub_key, value] => {
                self.map.or_default(&sub_key.parse()?)?.push_str(value);
            }
            ["get", sub_key] => {
                let value = self.map.get(&sub_key.parse::<i32>()?)?;
                out.emit(format_args!("{value:?}"));
            }
            ["clear", "map"] => self.map.clear(),
            ["scan"] => emit_all(self.map.iter(), out)?,
            ["down"] => emit_all(self.map.iter().descending(), out)?,
            ["range", from, to] => {
                emit_all(self.map.range(from.parse::<i32>()?..to.parse()?), out)?
            }
            ["ends"] => out.emit(format_args!(
                "{:?} {:?}",
                self.map.first()?,
                self.map.last()?
            )),
            ["push", item] => self.list.push(item.to_owned()),
            ["replace", item] => self.list.replace([item.to_owned()]),
            ["clear", "list"] => self.list.clear(),
            ["list"] => {
                let items = self.list.to_vec()?;
                assert_eq!(items.is_empty(), self.list.is_empty());
                assert_eq!(items.len() as u64, self.list.len());
                assert_eq!(items.is_empty(), self.list.is_empty());
                out.emit(items.join(","));
            }
            _ => return Err(Error::new("unknown command")),
        }
        Ok(())
    }
}

fn emit_all(entries: impl Iterator<Item = Result<(i32, String)>>, out: &mut Output<'_>) -> Result {
    let entries: Result<Vec<_>> = entries.collect();
    let entries = entries?.into_iter();
    let shown = entries.map(|(sub_key, value)| format!("{sub_key}={value}"));
    out.emit(shown.collect::<Vec<_>>().join(","));
    Ok(())
}

/// The same commands on plain collections.
fn expected(commands: &[String]) -> Vec<String> {
    let (mut map, mut list) = (BTreeMap::<i32, String>::new(), Vec::<&str>::new());
    let mut emitted = Vec::new();
    let shown = |entries: Vec<(&i32, &String)>| {
        let entries = entries
            .into_iter()
            .map(|(sub_key, value)| format!("{sub_key}={value}"));
        entries.collect::<Vec<_>>().join(",")
    };
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |index: usize| words[index].parse::<i32>().expect("commands are sound");
        match words[0] {
            "insert" => drop(map.insert(number(1), words[2].to_owned())),
            "remove" => drop(map.remove(&number(1))),
            "append" => map.entry(number(1)).or_default().push_str(words[2]),
            "get" => emitted.push(format!("{:?}", map.get(&number(1)))),
            "clear" if words[1] == "map" => map.clear(),
            "scan" => emitted.push(shown(map.iter().collect())),
            "down" => emitted.push(shown(map.iter().rev().collect())),
            "range" => emitted.push(shown(
                map.range(number(1)..number(2).max(number(1))).collect(),
            )),
            "ends" => {
                emitted.push(format!(
                    "{:?} {:?}",
                    map.first_key_value(),
                    map.last_key_value()
                ));
            }
            "push" => list.push(&command[5..]),
            "replace" => list = vec![&command[8..]],
            "clear" => list.clear(),
            _ => emitted.push(list.join(",")),
        }
    }
    emitted
}

/// Commands for one key, from a seed (SplitMix64; Steele, Lea and Flood, 2014).
fn commands(seed: u64, len: usize) -> Vec<String> {
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let command = |number: usize| {
        let sub_key = random(60) as i32 - 30;
        match random(40) {
            0..12 => format!("insert {sub_key} {number}"),
            12..16 => format!("append {sub_key} +"),
            16..20 => format!("remove {sub_key}"),
            20..22 => format!("get {sub_key}"),
            22 if number.is_multiple_of(5) => "clear map".to_owned(),
            22..25 => "scan".to_owned(),
            25..28 => "down".to_owned(),
            28 => format!("range {sub_key} {}", random(60) as i32 - 30),
            29 => "ends".to_owned(),
            30..36 => format!("push {number}"),
            36 if number.is_multiple_of(3) => "clear list".to_owned(),
            37 if number.is_multiple_of(3) => format!("replace {number}"),
            _ => "list".to_owned(),
        }
    };
    (0..len).map(command).collect()
}

#[test]
fn maps_and_lists_are_what_plain_collections_are_however_batches_are_cut() {
    for seed in 0..20 {
        let commands = commands(seed, 300);
        let records = commands.iter().map(|command| ("k", command));
        let emitted = check_disposable::<Commands>(&[], records);
        let emitted: Vec<_> = emitted
            .into_iter()
            .map(|record| String::from_utf8(record.value).unwrap())
            .collect();
        let shown: Vec<_> = expected(&commands);
        // `first_key_value` lends what `first` hands over; both print alike.
        assert_eq!(emitted, shown, "seed {seed}");
    }
}

#[test]
fn keys_have_maps_and_lists_of_their_own() -> Result {
    let mut task = Task::new::<Commands>();
    task.run([
        ("a", "push 1"),
        ("b", "push 2"),
        ("a", "insert 1 x"),
        ("a", "push 3"),
    ])?;
    assert_eq!(
        task.run([("b", "list"), ("a", "list"), ("b", "scan")])?,
        [("b", "2"), ("a", "1,3"), ("b", "")]
    );
    assert_eq!(task.list::<String>("list", "a"), ["1", "3"]);
    assert_eq!(task.map::<i32, String>("map", "a"), [(1, "x".to_owned())]);
    Ok(())
}

/// Counts for an hour, and knows what it has seen for a minute.
#[derive(Default, States)]
struct Forgetting {
    #[state(ttl = "1h")]
    count: Value<u64>,
    #[state(ttl = "1min")]
    seen: Map<String, ()>,
    #[state(ttl = "60s")]
    recent: List<String>,
}

impl Operator for Forgetting {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let value = record.text()?;
        *self.count.or_default() += 1;
        let was_seen = self.seen.contains(value)?;
        self.seen.insert(value, ());
        self.recent.push(value.to_owned());
        let count = self.count.get().copied().unwrap_or_default();
        out.emit(format_args!(
            "{count} {was_seen} {}",
            self.recent.to_vec()?.join("")
        ));
        Ok(())
    }
}

#[test]
fn what_is_over_is_not_there() -> Result {
    let mut task = Task::new::<Forgetting>();
    assert_eq!(task.run([("k", "a")])?, [("k", "1 false a")]);
    task.pass(Duration::from_secs(59));
    assert_eq!(task.run([("k", "b")])?, [("k", "2 false ab")]);
    task.pass(Duration::from_secs(1));
    assert_eq!(task.run([("k", "a")])?, [("k", "3 false ba")]);
    assert_eq!(task.run([("k", "b")])?, [("k", "4 true bab")]);
    task.pass(Duration::from_secs(3600));
    assert_eq!(task.run([("k", "b")])?, [("k", "1 false b")]);
    Ok(())
}

#[derive(Default, Serialize, Deserialize)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Aggregate for Mean {
    type Input = u64;
    type Output = u64;

    fn add(&mut self, input: u64) {
        self.sum += input;
        self.count += 1;
    }

    fn result(&self) -> u64 {
        self.sum / self.count
    }
}

#[derive(Default, States)]
struct Folds {
    sum: Reducing<Sum<u64>>,
    max: Reducing<Max<u64>>,
    mean: Aggregating<Mean>,
}

impl Operator for Folds {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        let number = record.text()?.parse()?;
        let (Sum(sum), Max(max)) = (*self.sum.add(Sum(number)), *self.max.add(Max(number)));
        let mean = self.mean.add(number);
        out.emit(format_args!("{sum} {max} {mean}"));
        Ok(())
    }
}

#[test]
fn values_are_folded_into_one() {
    let numbers = [("k", "4"), ("k", "8"), ("l", "1"), ("k", "3")];
    let folded = [
        ("k", "4 4 4"),
        ("k", "12 8 6"),
        ("l", "1 1 1"),
        ("k", "15 8 5"),
    ];
    assert_eq!(check_disposable::<Folds>(&[], numbers), folded);
}

/// Keeps a number, then a text, then both; a word that is not a number never migrates.
macro_rules! version {
    ($name:ident, $ty:ty, $(#[$state:meta])? $record:ident, $value:expr) => {
        #[derive(Default, States)]
        struct $name {
            $(#[$state])?
            kept: Value<$ty>,
            items: List<u8>,
        }

        impl Operator for $name {
            fn open(_: &Config) -> Result<Self> {
                Ok(Self::default())
            }

            fn process(&mut self, $record: Record<'_>, _: &mut Output<'_>) -> Result {
                self.kept.set($value);
                self.items.push(7);
                Ok(())
            }
        }
    };
}

version!(First, u64, record, record.text()?.parse()?);
version!(
    Second,
    String,
    #[state(version = 2, migrate = as_text)]
    record,
    record.text()?.to_owned()
);
version!(
    Third,
    (u64, String),
    #[state(version = 3, migrate(1 = both_of_number, 2 = both_of_text))]
    record,
    (1, record.text()?.to_owned())
);

fn as_text(number: u64) -> String {
    number.to_string()
}

fn both_of_number(number: u64) -> (u64, String) {
    (number, as_text(number))
}

fn both_of_text(text: String) -> Result<(u64, String)> {
    Ok((text.parse()?, text))
}

#[test]
fn values_are_migrated_from_each_version_that_is_named() -> Result {
    let filled = || -> Result<Task> {
        let mut task = Task::new::<First>();
        task.run([("a", "1"), ("b", "2")])?;
        Ok(task)
    };
    let second = filled()?.upgrade::<Second>()?;
    assert_eq!(second.value("kept", "b"), Some("2".to_owned()));
    assert_eq!(second.list::<u8>("items", "b"), [7]);
    for third in [filled()?.upgrade::<Third>()?, second.upgrade::<Third>()?] {
        assert_eq!(third.value("kept", "a"), Some((1_u64, "1".to_owned())));
        let error = third.upgrade::<First>().unwrap_err().into_message();
        assert!(
            error.starts_with(
                "state `kept`: state `kept` is declared in version 1 and says nothing of version 3"
            ),
            "{error}"
        );
    }
    let mut second = Task::new::<Second>();
    second.run([("a", "word")])?;
    let error = second.upgrade::<Third>().unwrap_err().into_message();
    assert_eq!(error, "state `kept`: item 0: invalid digit found in string");
    Ok(())
}

#[test]
fn values_are_json_for_tools() -> Result {
    let mut task = Task::new::<Third>();
    task.run([("a", "x")])?;
    assert_eq!(task.value_json("kept", "a")?, Some("[1,\"x\"]".to_owned()));
    task.set_value_json("kept", "b", "[2, \"y\"]")?;
    assert_eq!(task.value("kept", "b"), Some((2_u64, "y".to_owned())));
    assert!(task.set_value_json("kept", "b", "[2]").is_err());
    Ok(())
}

/// Emits how many checkpoints it was told of.
#[derive(Default, States)]
struct Listens {
    #[state(skip)]
    heard: (u64, u64),
}

impl Operator for Listens {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, _: Record<'_>, out: &mut Output<'_>) -> Result {
        out.emit(format_args!("{:?}", self.heard));
        Ok(())
    }

    fn checkpoint_completed(&mut self, checkpoint: u64) {
        self.heard.0 = checkpoint;
    }

    fn checkpoint_aborted(&mut self, checkpoint: u64) {
        self.heard.1 = checkpoint;
    }
}

#[test]
fn operators_hear_of_checkpoints() -> Result {
    let mut task = Task::new::<Listens>();
    task.complete_checkpoint(1);
    assert_eq!(task.run([("k", "")])?, [("k", "(0, 0)")]);
    task.complete_checkpoint(7);
    task.abort_checkpoint(8);
    assert_eq!(task.run([("k", "")])?, [("k", "(7, 8)")]);
    Ok(())
}
