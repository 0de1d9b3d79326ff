//! Single operators whose state a program keeps, as another engine would: here in maps of the standard library.
//!
//! Catches state that is read or written under a wrong key or version, or stays in the engine; a blame, a limit or a
//! migration that is other than in a job; a sweep that holds records up for many calls that hang; and a state of the program
//! that fails without the program hearing of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::time::Duration;

use floodmark_engine::operator::state::{
    CollectionPlace, Column, DeclaredState, KeyedCollections, Keys, ListPage, Lookup, MapPage,
    OptionalColumn, PageLimits, StaleValue, StateId, StateKind, SubKeyRange,
};
use floodmark_engine::operator::{
    Batch, EmbeddedTask, EngineSettings, InputPort, KeyedState, Limits, LoadedPlugin, OnError,
    OperatorSettings, OutputPort, Plugins, TaskError,
};

use crate::hanging::of_version;
use crate::hostile::assembled;
use crate::job::Job;
use crate::migration::lines;
use crate::plugins::plugin;

/// The id of a version of a state, and a key.
type Address = (StateId, Vec<u8>);

/// All state of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct InMaps {
    values: BTreeMap<Address, Vec<u8>>,
    lists: BTreeMap<Address, Vec<Vec<u8>>>,
    maps: BTreeMap<Address, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// What is answered once as values of earlier versions.
    stale: Vec<StaleValue>,
    /// Calls that were over.
    settled: usize,
    is_broken: bool,
}

/// The disk is on fire.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk is on fire")]
struct OnFire;

impl InMaps {
    fn check(&self) -> Result<(), OnFire> {
        if self.is_broken { Err(OnFire) } else { Ok(()) }
    }
}

fn address(place: CollectionPlace<'_>) -> Address {
    (place.state, place.key.to_vec())
}

impl KeyedState for InMaps {
    fn read(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        _now_ms: u64,
        lookup: &mut Lookup,
    ) -> Result<(), OnFire> {
        self.check()?;
        lookup.clear();
        let versions = || std::iter::once(state.id).chain(state.earlier.iter().map(|(id, _)| *id));
        for key in keys.keys.iter() {
            let mut found = versions()
                .filter_map(|id| Some((id, self.values.get(&(id, key.to_vec()))?.as_slice())));
            match found.next() {
                Some((id, value)) => lookup.push(Some(value), id),
                None => lookup.push(None, state.id),
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        _now_ms: u64,
        _lookup: &Lookup,
        slots: &[u32],
        values: &OptionalColumn,
    ) -> Result<(), OnFire> {
        for (&slot, value) in slots.iter().zip(values.iter()) {
            let key = keys.keys.get(slot as usize);
            for (earlier, _) in &state.earlier {
                self.values.remove(&(*earlier, key.to_vec()));
            }
            let address = (state.id, key.to_vec());
            match value {
                Some(value) => self.values.insert(address, value.to_vec()),
                None => self.values.remove(&address),
            };
        }
        Ok(())
    }

    fn stale_values(&mut self, _now_ms: u64) -> Result<Option<Vec<StaleValue>>, OnFire> {
        let stale = std::mem::take(&mut self.stale);
        Ok((!stale.is_empty()).then_some(stale))
    }

    fn size_bytes(&self) -> u64 {
        let values = self.values.iter();
        let values = values.map(|((_, key), value)| key.len() + value.len());
        values.sum::<usize>() as u64
    }

    fn settle(&mut self, _now_ms: u64) -> Result<(), OnFire> {
        self.settled += 1;
        Ok(())
    }
}

impl KeyedCollections for InMaps {
    type Error = OnFire;

    fn map_get(
        &mut self,
        place: CollectionPlace<'_>,
        sub_key: &[u8],
    ) -> Result<Option<Vec<u8>>, OnFire> {
        self.check()?;
        let map = self.maps.get(&address(place));
        Ok(map.and_then(|map| map.get(sub_key).cloned()))
    }

    fn map_scan(
        &mut self,
        place: CollectionPlace<'_>,
        range: SubKeyRange<'_>,
        page: PageLimits,
    ) -> Result<MapPage, OnFire> {
        self.check()?;
        let mut found = MapPage::default();
        let Some(map) = self.maps.get(&address(place)) else {
            return Ok(found);
        };
        let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries: Vec<_> = map
            .range::<[u8], _>((Bound::Included(range.start), end))
            .collect();
        if range.descending {
            entries.reverse();
        }
        for (sub_key, value) in entries {
            let bytes = found.sub_keys.bytes().len() + found.values.bytes().len();
            if page.is_full(found.values.len(), bytes) {
                found.more = true;
                break;
            }
            found.sub_keys.push(sub_key);
            found.values.push(value);
        }
        Ok(found)
    }

    fn map_write(
        &mut self,
        place: CollectionPlace<'_>,
        writes: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), OnFire> {
        let map = self.maps.entry(address(place)).or_default();
        for (sub_key, value) in writes {
            match value {
                Some(value) => map.insert(sub_key.to_vec(), value.to_vec()),
                None => map.remove(*sub_key),
            };
        }
        Ok(())
    }

    fn list_read(
        &mut self,
        place: CollectionPlace<'_>,
        start: u64,
        page: PageLimits,
    ) -> Result<ListPage, OnFire> {
        self.check()?;
        let mut found = ListPage::default();
        let list = self.lists.get(&address(place));
        let items = list.into_iter().flatten().zip(0..);
        for (item, position) in items.skip_while(|(_, position)| *position < start) {
            if page.is_full(found.values.len(), found.values.bytes().len()) {
                found.next = Some(position);
                break;
            }
            found.values.push(item);
        }
        Ok(found)
    }

    fn list_len(&mut self, place: CollectionPlace<'_>) -> Result<u64, OnFire> {
        self.check()?;
        let list = self.lists.get(&address(place));
        Ok(list.map_or(0, |list| list.len() as u64))
    }

    fn migrate(&mut self, _place: CollectionPlace<'_>) -> Result<Option<String>, OnFire> {
        Ok(None)
    }

    fn list_append(&mut self, place: CollectionPlace<'_>, items: &[&[u8]]) -> Result<(), OnFire> {
        let list = self.lists.entry(address(place)).or_default();
        list.extend(items.iter().map(|item| item.to_vec()));
        Ok(())
    }

    fn clear(&mut self, place: CollectionPlace<'_>) -> Result<(), OnFire> {
        self.lists.remove(&address(place));
        self.maps.remove(&address(place));
        Ok(())
    }
}

fn load(name: &str, limits: Limits) -> LoadedPlugin {
    let component = fs::read(plugin(name)).unwrap();
    let plugins = Plugins::new(EngineSettings::default()).unwrap();
    plugins.load("tested", &component, limits).unwrap()
}

fn with(option: &str, value: &str) -> OperatorSettings {
    OperatorSettings {
        config: vec![(option.to_owned(), value.to_owned())],
        ..OperatorSettings::default()
    }
}

/// Processes records of a key and a value each; what leaves is its port, key and value.
fn run(
    task: &mut EmbeddedTask<InMaps>,
    records: &[(&str, &str)],
) -> Result<Vec<(OutputPort, String, String)>, TaskError<OnFire>> {
    let mut batch = Batch::default();
    for (key, value) in records {
        batch.push(key.as_bytes(), value.as_bytes(), 0);
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut leaving = Vec::new();
    for (port, batch) in task.process(InputPort(0), batch, 1)? {
        let records = batch.iter();
        leaving.extend(records.map(|(key, value, _)| (port, text(key), text(value))));
    }
    Ok(leaving)
}

/// The values that leave.
#[track_caller]
fn values(task: &mut EmbeddedTask<InMaps>, records: &[(&str, &str)]) -> Vec<String> {
    let leaving = run(task, records).unwrap();
    leaving.into_iter().map(|(_, _, value)| value).collect()
}

#[test]
fn counts_are_those_of_a_job_over_drops_and_reopens() {
    let words: Vec<_> = (0..12_000)
        .map(|number: u32| format!("w{}", number.wrapping_mul(2_654_435_761) % 700))
        .collect();
    let job = Job::with_input(words.join(" ") + "\n");
    job.run(&[]).succeeded();

    let count = load("word-count", Limits::default());
    let mut kept = (InMaps::default(), Vec::new());
    let mut rest = words.as_slice();
    let mut counted = Vec::new();
    // The last batch is larger than a call.
    for size in [1, 7, 100, 1000, rest.len() - 1108] {
        let (batch, after) = rest.split_at(size);
        rest = after;
        let (state, written) = kept;
        let settings = OperatorSettings {
            written,
            ..OperatorSettings::default()
        };
        let mut task = count.open(settings, state).unwrap();
        for batch in [&batch[..size / 2], &batch[size / 2..]] {
            let records: Vec<_> = batch.iter().map(|word| (word.as_str(), "")).collect();
            let leaving = run(&mut task, &records).unwrap();
            counted.extend(leaving.into_iter().map(|(port, word, count)| {
                assert_eq!(port, OutputPort(0));
                format!("{word},{count}")
            }));
        }
        let schemas = task.schemas().to_vec();
        kept = (task.into_state(), schemas);
    }
    counted.sort();
    assert_eq!(counted, lines(&job));
    assert_eq!(kept.0.values.len(), 700);
    // One call each for the ten halves, less the empty one, and two more for the halves above 4096 records.
    assert_eq!(kept.0.settled, 11);

    let mut task = count
        .open(OperatorSettings::default(), InMaps::default())
        .unwrap();
    let large = "x".repeat(100_000);
    run(&mut task, &[("k", large.as_str()); 10]).unwrap();
    // Calls are of about 128 KiB.
    assert_eq!(task.into_state().settled, 5);
}

#[test]
fn lists_and_maps_are_read_and_written_where_the_program_keeps_them() {
    let history = load("history", Limits::default());
    let states = &history.description().states;
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].kind, StateKind::List);
    let mut task = history
        .open(with("length", "3"), InMaps::default())
        .unwrap();
    let mut expected: Vec<String> = Vec::new();
    for round in 0..20 {
        let two = [round * 2, round * 2 + 1].map(|value| value.to_string());
        let records = [("k", two[0].as_str()), ("other", "x"), ("k", &two[1])];
        let emitted = values(&mut task, &records);
        for (value, emitted) in two.iter().zip([&emitted[0], &emitted[2]]) {
            expected.push(value.clone());
            let last = &expected[expected.len().saturating_sub(3)..];
            assert_eq!(*emitted, format!("{} {}", last.len(), last.join(",")));
        }
    }
    let state = task.into_state();
    assert_eq!(state.lists.len(), 2, "{state:?}");
    assert!(state.values.is_empty() && state.maps.is_empty());

    let mut top = load("top", Limits::default())
        .open(OperatorSettings::default(), InMaps::default())
        .unwrap();
    // More than a page of the guest's.
    let names: Vec<_> = (0..1500).map(|number| format!("v{number:04}")).collect();
    let records: Vec<_> = names.iter().map(|name| ("k", name.as_str())).collect();
    run(&mut top, &records[..records.len() / 2]).unwrap();
    run(&mut top, &records[records.len() / 2..]).unwrap();
    let emitted = values(&mut top, &[("k", "v1499"), ("l", "a"), ("k", "v0007")]);
    assert_eq!(
        emitted,
        ["v1499=2 v0000=1 v0001=1", "a=1", "v0007=2 v1499=2 v0000=1"]
    );
    assert_eq!(top.into_state().maps.len(), 2);
}

#[test]
fn a_record_that_traps_is_found_and_the_others_count() {
    let plugin = load("misbehaves", Limits::default());
    let words = ["a", "bad", "a", "b", "bad", "a"].map(|word| (word, ""));
    let expected = [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")];
    for on_error in [OnError::DeadLetter, OnError::Skip] {
        let settings = OperatorSettings {
            on_error,
            ..with("panic-at", "bad")
        };
        let mut task = plugin.open(settings, InMaps::default()).unwrap();
        let leaving = run(&mut task, &words).unwrap();
        let (letters, counts): (Vec<_>, Vec<_>) = leaving
            .iter()
            .partition(|(port, _, _)| *port == task.dead_letters());
        let counts: Vec<_> = counts
            .iter()
            .map(|(_, word, count)| (word.as_str(), count.as_str()))
            .collect();
        assert_eq!(counts, expected);
        let set_aside = if on_error == OnError::Skip { 0 } else { 2 };
        assert_eq!(letters.len(), set_aside);
        for (_, key, letter) in letters {
            assert_eq!(key, "bad");
            assert!(letter.contains("cannot stand this word"), "{letter}");
        }
        let faults = task.faults();
        assert_eq!(faults.dead_letters + faults.skipped, 2);
        let log = task.take_log();
        let warning = log.iter().find(|line| line.message.contains("a record is"));
        assert!(warning.is_some(), "{log:?}");
        assert_eq!(task.into_state().values.len(), 2);
    }
    let mut task = plugin
        .open(with("panic-at", "bad"), InMaps::default())
        .unwrap();
    let error = run(&mut task, &words).unwrap_err();
    assert!(matches!(error, TaskError::Record { .. }), "{error}");
    assert!(
        error.to_string().contains("cannot stand this word"),
        "{error}"
    );
}

#[test]
fn limits_hold_and_outlive_what_loaded_the_plugin() {
    let limits = Limits {
        time_per_call: Duration::from_millis(300),
        ..Limits::default()
    };
    let settings = OperatorSettings {
        on_error: OnError::DeadLetter,
        ..with("hang-at", "slow")
    };
    let mut task = load("misbehaves", limits)
        .open(settings, InMaps::default())
        .unwrap();
    let leaving = run(&mut task, &[("a", ""), ("slow", ""), ("a", "")]).unwrap();
    let keys: Vec<_> = leaving.iter().map(|(_, key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "slow", "a"]);
    assert!(
        leaving[1].2.contains("limits.time-per-call"),
        "{}",
        leaving[1].2
    );
}

#[test]
fn values_of_an_older_version_are_migrated_when_they_are_read_and_when_they_are_named() {
    let mut old = load("word-count", Limits::default())
        .open(OperatorSettings::default(), InMaps::default())
        .unwrap();
    run(
        &mut old,
        &["rain", "rain", "sun", "wind"].map(|word| (word, "")),
    )
    .unwrap();
    let written = old.schemas().to_vec();
    let state = old.into_state();
    let of = |written: &Vec<_>| OperatorSettings {
        written: written.clone(),
        ..OperatorSettings::default()
    };

    let plugin = load("upgrade-v2", Limits::default());
    let mut new = plugin.open(of(&written), state).unwrap();
    let (newest, earlier) = (new.states()[0].id, new.states()[0].earlier.clone());
    assert_eq!(earlier, [(written[0].id, 1)]);
    // What the program itself may ask for, such as items of lists.
    let one: Column = [new.state_mut().values[&(earlier[0].0, b"sun".to_vec())].as_slice()]
        .into_iter()
        .collect();
    let migrated = new.migrate(0, 1, &one).unwrap();
    new.migrate(0, 9, &one).unwrap_err();
    new.state_mut().stale = vec![StaleValue {
        state: newest,
        key: b"sun".to_vec(),
    }];
    assert_eq!(values(&mut new, &[("rain", "heavy")]), ["3 heavy"]);
    let versions = |state: &InMaps| {
        let values = state.values.keys();
        let versions = values.map(|(id, key)| (String::from_utf8(key.clone()).unwrap(), *id));
        versions.collect::<BTreeMap<_, _>>()
    };
    let now = versions(new.state_mut());
    assert_eq!(now["rain"], newest, "it was read");
    assert_eq!(now["sun"], newest, "it was named");
    assert_eq!(now["wind"], earlier[0].0, "it waits until it is read");
    let sun = &new.state_mut().values[&(newest, b"sun".to_vec())];
    assert_eq!(sun.as_slice(), migrated.get(0));
    assert_eq!(values(&mut new, &[("wind", ""), ("sun", "")]), ["2 ", "2 "]);

    // The old plugin does not know what the new one wrote.
    let written = new.schemas().to_vec();
    let old = load("word-count", Limits::default());
    let error = old.open(of(&written), new.into_state()).err().unwrap();
    let expected = "operator `tested`: state `count` was saved in version 2, and the plugin, which has version 1, does not migrate it";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_step_of_the_sweep_has_one_call_that_hangs() {
    let plugins = Plugins::new(EngineSettings::default()).unwrap();
    let limits = Limits {
        time_per_call: Duration::from_millis(100),
        ..Limits::default()
    };
    let load = |version| {
        let component = of_version(version);
        plugins.load("tested", &component, limits).unwrap()
    };
    let mut old = load(1)
        .open(OperatorSettings::default(), InMaps::default())
        .unwrap();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for key in keys {
        run(&mut old, &[(key, "")]).unwrap();
    }
    let settings = OperatorSettings {
        written: old.schemas().to_vec(),
        ..OperatorSettings::default()
    };
    let mut new = load(2).open(settings, old.into_state()).unwrap();
    let (newest, earlier) = (new.states()[0].id, new.states()[0].earlier[0].0);
    let stale = keys.map(|key| StaleValue {
        state: newest,
        key: key.into(),
    });
    new.state_mut().stale = stale.to_vec();
    // Each batch is followed by a step. Halves hang seven times, and each key on a used instance and on a fresh one.
    let (mut before, mut steps) = (0, Vec::new());
    for _ in 0..30 {
        run(&mut new, &[("other", "")]).unwrap();
        let traps = new.faults().traps;
        steps.push(traps - before);
        before = traps;
    }
    assert_eq!(steps, [vec![1; 7 + 16], vec![0; 7]].concat());
    let state = new.into_state();
    for key in keys {
        let address = (earlier, key.as_bytes().to_vec());
        assert!(state.values.contains_key(&address), "{key}");
    }
}

#[test]
fn a_state_that_fails_is_an_error_of_the_program_itself() {
    for (name, config) in [
        ("word-count", OperatorSettings::default()),
        ("history", with("length", "3")),
    ] {
        let mut task = load(name, Limits::default())
            .open(config, InMaps::default())
            .unwrap();
        run(&mut task, &[("k", "1")]).unwrap();
        task.state_mut().is_broken = true;
        let error = run(&mut task, &[("k", "2")]).unwrap_err();
        assert!(matches!(error, TaskError::State(OnFire)), "{error}");
    }
}

#[test]
fn a_plugin_hears_of_checkpoints_and_may_crash_there() {
    let crashes = assembled(&[("aborted".to_owned(), "unreachable".to_owned())]);
    let plugins = Plugins::new(EngineSettings::default()).unwrap();
    let plugin = plugins.load("tested", &crashes, Limits::default()).unwrap();
    let open = |settings| plugin.open(settings, InMaps::default());
    let mut task = open(OperatorSettings::default()).unwrap();
    task.completed(1).unwrap();
    assert!(task.take_log().is_empty());
    task.aborted(2).unwrap();
    let log = task.take_log();
    let expected = "operator `tested` crashed in `aborted`: ";
    assert!(log[0].message.starts_with(expected), "{log:?}");
    task.completed(3).unwrap();
    assert!(task.take_log().is_empty(), "the instance is a fresh one");

    let mut settings = OperatorSettings::default();
    settings.ttl_ms.insert("none".to_owned(), None);
    let error = open(settings).err().unwrap();
    assert!(error.to_string().contains("state `none`"), "{error}");
}
