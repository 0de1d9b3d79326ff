//! Plugins that mean harm, each in a file of `tests/guests/hostile`, and how each ends.
//!
//! Catches a guest that takes more time, memory, room or words than its limits allow, one that ends otherwise than it should,
//! an ending that does not name operator, limit, value and setting, and anything that another operator or job notices of it.
//!
//! Each is used by way of the library, all of them beside a good plugin in one process; and one for each kind of ending runs
//! in a job of the built command, beside good operators there and a good job next to it.
//!
//! [`endings`] has the table: what a plugin is called, and the words with which it ends. All run under [`limits`].

mod endings;
mod instances;
mod refused;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use floodmark_engine::guest::{
    CallOutput, Code, GuestEngine, GuestError, Haste, Instance, Limits, ListPage, MapPage,
    PageLimits, Plugin, StateAccess, StatePart, SubKeyRange,
};
use floodmark_state::stream::{Batch, Column, OptionalColumn};

use self::endings::{ENDINGS, NOTHING};
use crate::engines::Ticking;
use crate::job::Job;
use crate::output::counted_by_tools;
use crate::plugins::repository;

/// All that a plugin exports.
const EXPORTS: [&str; 8] = [
    "describe",
    "open",
    "process",
    "migrate",
    "to-json",
    "from-json",
    "completed",
    "aborted",
];

pub fn limits() -> Limits {
    Limits {
        memory_bytes: 16 << 20,
        time_per_call: Duration::from_millis(100),
        output_bytes_per_call: 256 << 10,
        ..Limits::default()
    }
}

pub fn folder() -> PathBuf {
    repository().join("tests/guests/hostile")
}

/// The parts of a case: what stands below `;; -- part`, or `;; -- part 30 times`.
pub fn parts(case: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join(format!("{case}.wat"))).unwrap();
    let mut parts = Vec::new();
    for part in text.split("\n;; -- ").skip(1) {
        let (head, lines) = part.split_once('\n').unwrap();
        let mut words = head.split(' ');
        let name = words.next().unwrap().to_owned();
        let times = words.next().map_or(1, |times| times.parse().unwrap());
        parts.push((name, format!("{lines}\n").repeat(times)));
    }
    parts
}

/// A component: the template with these parts in their places.
pub fn assembled(parts: &[(String, String)]) -> Vec<u8> {
    wat::parse_str(text(parts)).unwrap_or_else(|error| panic!("{error}"))
}

fn text(parts: &[(String, String)]) -> String {
    let template = fs::read_to_string(folder().join("template.wat")).unwrap();
    let mut pieces = template.split("{{");
    // The first place is in the head and no place.
    let mut text = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (name, after) = piece.split_once("}}").unwrap();
        let own: String = parts
            .iter()
            .filter(|(part, _)| part == name)
            .map(|(_, lines)| lines.as_str())
            .collect();
        text += match (own.as_str(), name) {
            ("", "memory") => "17",
            ("", _) => "",
            (own, _) => own,
        };
        text += after;
    }
    text
}

pub fn part(name: &str, lines: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), lines.to_owned())]
}

/// State in which there is nothing.
struct Nothing;

impl StateAccess for Nothing {
    fn map_get(
        &mut self,
        _state: u16,
        slots: &[u32],
        _sub_keys: &Column,
        _page: PageLimits,
        values: &mut OptionalColumn,
    ) -> Result<(), String> {
        slots.iter().for_each(|_| values.push(None));
        Ok(())
    }

    fn map_scan(
        &mut self,
        _state: u16,
        _slot: u32,
        _range: SubKeyRange<'_>,
        _page: PageLimits,
    ) -> Result<MapPage, String> {
        Ok(MapPage::default())
    }

    fn list_read(
        &mut self,
        _state: u16,
        _slot: u32,
        _start: u64,
        _page: PageLimits,
    ) -> Result<ListPage, String> {
        Ok(ListPage::default())
    }

    fn list_len(&mut self, _state: u16, slots: &[u32]) -> Result<Vec<u64>, String> {
        Ok(vec![0; slots.len()])
    }
}

fn processed(instance: &mut Instance) -> Result<CallOutput, GuestError> {
    let mut batch = Batch::default();
    batch.push(b"a", b"1", 0);
    batch.push(b"b", b"2", 0);
    let mut absent = OptionalColumn::new();
    absent.push(None);
    absent.push(None);
    let none = OptionalColumn::new();
    let state = Arc::new(Mutex::new(Nothing));
    let output = instance.process(0, &batch, &[&absent, &none, &none], Some(state.clone()));
    assert!(
        Arc::into_inner(state).is_some(),
        "the instance keeps no share of the state"
    );
    output
}

/// All that a host does with a plugin, until something is wrong.
fn use_all(engine: &GuestEngine, component: &[u8], limits: Limits) -> Result<(), GuestError> {
    let plugin = engine.load_within("bad", component, limits)?;
    let mut instance = plugin.open("bad", &[("key".to_owned(), "value".to_owned())])?;
    let output = processed(&mut instance);
    // A bounded number of lines, however many there were.
    assert!(instance.take_log().len() <= 101);
    output?;
    let none = Column::new();
    instance.migrate(0, 0, &none)?;
    instance.to_json(0, StatePart::Value, &none)?;
    instance.from_json(0, StatePart::Value, &none)?;
    instance.completed(1)?;
    instance.aborted(2)
}

#[track_caller]
fn ends(case: &str, ended: Result<(), GuestError>, says: &str) {
    let said = ended.expect_err(case).to_string();
    assert!(said.contains(says), "{case}: {said}");
    assert!(said.contains("operator `bad`"), "{case}: {said}");
}

/// A plugin that does as it should, called between the others.
struct Tame {
    plugin: Plugin,
    instance: Instance,
}

impl Tame {
    fn new(engine: &GuestEngine) -> Self {
        let plugin = engine.load("tame", &assembled(&[])).unwrap();
        let instance = plugin.open("tame", &[]).unwrap();
        Self { plugin, instance }
    }

    #[track_caller]
    fn notices_nothing(&mut self, after: &str) {
        processed(&mut self.instance).expect(after);
        self.plugin.open("tame", &[]).expect(after);
    }
}

#[test]
fn each_hostile_plugin_ends_as_is_written() {
    check_endings(&Ticking::new());
}

#[test]
fn each_ends_so_while_it_is_sampled() {
    check_endings(&Ticking::sampling());
}

#[test]
fn each_ends_so_with_the_code_of_the_quick_compiler() {
    let guests = Ticking::quick();
    let good = guests.engine.load("good", &assembled(&[])).unwrap();
    assert_eq!(good.code(), Code::Optimising);
    check_endings(&guests);
}

fn check_endings(guests: &Ticking) {
    use_all(&guests.engine, &assembled(&[]), limits()).expect("the template is a good plugin");
    let mut tame = Tame::new(&guests.engine);
    let mut otherwise = Vec::new();
    for (case, says) in ENDINGS {
        let began = Instant::now();
        let component = assembled(&parts(case));
        let said = match use_all(&guests.engine, &component, limits()) {
            Ok(()) => NOTHING.to_owned(),
            Err(error) => error.to_string(),
        };
        if !said.contains(says) || !said.contains("operator `bad`") {
            otherwise.push(format!("{case}: {said}"));
        }
        tame.notices_nothing(case);
        assert!(began.elapsed() < Duration::from_secs(20), "{case}");
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    let files = fs::read_dir(folder()).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut known: BTreeSet<String> = ENDINGS
        .iter()
        .map(|(case, _)| format!("{case}.wat"))
        .collect();
    known.insert("template.wat".to_owned());
    assert_eq!(files, known);
}

#[test]
fn loops_and_traps_end_in_each_export() {
    for guests in [Ticking::new(), Ticking::sampling()] {
        loops_and_traps_end(&guests);
    }
}

#[test]
fn a_stop_interrupts_each_export() {
    let limits = Limits {
        time_per_call: Duration::from_secs(600),
        stop_grace: Duration::from_millis(50),
        ..limits()
    };
    for guests in [Ticking::new(), Ticking::sampling()] {
        let haste = Haste::default();
        guests.engine.hasten_with(&haste);
        let mut tame = Tame::new(&guests.engine);
        haste.begin();
        for export in EXPORTS {
            let component = assembled(&part(export, "(loop $again (br $again))"));
            let says = format!(
                "operator `bad` was interrupted in `{export}`, since its calls took more than 50ms in all while the job stops; `limits.stop-grace` gives them more time"
            );
            let ended = use_all(&guests.engine, &component, limits);
            assert!(
                ended.as_ref().is_err_and(GuestError::is_interruption),
                "{export}"
            );
            ends(export, ended, &says);
            tame.notices_nothing(export);
        }
    }
}

fn loops_and_traps_end(guests: &Ticking) {
    let mut tame = Tame::new(&guests.engine);
    for export in EXPORTS {
        let component = assembled(&part(export, "(loop $again (br $again))"));
        let says = format!(
            "operator `bad` ran for more than its 100 ms in `{export}`; raise `limits.time-per-call`"
        );
        ends(export, use_all(&guests.engine, &component, limits()), &says);
        let component = assembled(&part(export, "unreachable"));
        let says = format!(
            "operator `bad` crashed in `{export}`: wasm trap: wasm `unreachable` instruction executed"
        );
        ends(export, use_all(&guests.engine, &component, limits()), &says);
        tame.notices_nothing(export);
    }
}

#[test]
fn fuel_ends_a_call_at_the_same_place_each_time() {
    let guests = Ticking::counting_fuel();
    let limits = Limits {
        fuel_per_call: Some(50_000),
        ..limits()
    };
    let component = assembled(&part("process", "(loop $again (br $again))"));
    let says = "operator `bad` used its 50000 units of fuel in `process`; raise `limits.fuel-per-call` or send smaller batches";
    ends("fuel", use_all(&guests.engine, &component, limits), says);
    // The limit is that of a call: many calls use more.
    let plugin = guests.engine.load_within("bad", &assembled(&[]), limits);
    let mut instance = plugin.unwrap().open("bad", &[]).unwrap();
    for _ in 0..1000 {
        processed(&mut instance).unwrap();
    }
    let without = Ticking::new();
    let refused = without.engine.load_within("bad", &component, limits);
    let said = refused.expect_err("no fuel there").to_string();
    assert!(said.contains("`limits.fuel-per-call`"), "{said}");
}

#[test]
fn nothing_expires_without_a_ticker() {
    let engine = GuestEngine::new(None).unwrap();
    let limits = Limits {
        time_per_call: Duration::from_millis(10),
        ..limits()
    };
    let long = "(local $left i32) (local.set $left (i32.const 30000000))
        (loop $again (local.set $left (i32.sub (local.get $left) (i32.const 1))) (br_if $again (local.get $left)))";
    use_all(&engine, &assembled(&part("process", long)), limits).unwrap();
}

#[test]
fn an_operator_logs_so_many_lines_a_second() {
    let engine = GuestEngine::new(None).unwrap();
    let line = "(call $line (i32.const 2) (i32.const 16) (i32.const 7))";
    let limits = Limits {
        log_lines_per_second: 5,
        ..limits()
    };
    let component = assembled(&part("process", &line.repeat(3)));
    let plugin = engine.load_within("bad", &component, limits).unwrap();
    let mut instance = plugin.open("bad", &[]).unwrap();
    let lines_of = |ticks: usize, instance: &mut Instance| {
        (0..ticks).for_each(|_| engine.tick());
        processed(instance).unwrap();
        instance.take_log().len()
    };
    assert_eq!(lines_of(1, &mut instance), 3);
    // Two, and that some were left out; then nothing for the rest of the second, by another instance neither.
    assert_eq!(lines_of(1, &mut instance), 3);
    assert_eq!(lines_of(1, &mut instance), 0);
    let mut other = plugin.open("bad", &[]).unwrap();
    assert_eq!(lines_of(0, &mut other), 1);
    assert_eq!(lines_of(100, &mut instance), 4);
}

/// By plugin, how the command ends that runs it.
const JOBS: [(&str, i32); 10] = [
    ("memory-filled", 1),
    ("output-gigantic", 1),
    ("recursion", 1),
    ("log-storm", 1),
    ("slot-twice", 1),
    ("emissions-small", 1),
    ("sub-key-flood", 1),
    ("rejection-shared", 1),
    ("instances-many", 3),
    ("start-loops", 3),
];

/// What a process may have that runs small jobs within [`limits`].
const PEAK_BYTES_MAX: u64 = 400 << 20;

#[test]
fn neither_the_job_nor_its_neighbour_is_harmed() {
    let text = "it was the best of times it was the worst of times\n".repeat(50);
    let expected = counted_by_tools(text.as_bytes());
    let pipeline = format!(
        "{}
[operator.bad]
plugin = \"bad.wasm\"
from = \"split\"
limits = {{ memory = \"16MiB\", time-per-call = \"100ms\", output-per-call = \"256KiB\" }}

[sink.nothing]
connector = \"discard\"
from = \"bad\"
",
        crate::job::pipeline()
    );
    for (case, code) in JOBS {
        let job = Job::with_input(&text);
        job.write("pipeline.toml", &pipeline);
        job.write("bad.wasm", assembled(&parts(case)));
        let neighbour = Job::with_input(&text);
        let beside = neighbour.start(&[]);
        let mut run = job.start(&["--set", "restart.strategy=none"]);
        let mut peak = 0;
        while !run.has_ended() {
            peak = run.memory_peak_bytes().map_or(peak, |now| peak.max(now));
            std::thread::sleep(Duration::from_millis(2));
        }
        let outcome = run.wait().says("operator `bad`");
        assert_eq!(outcome.code, Some(code), "{case}: {}", outcome.stderr);
        assert!(peak < PEAK_BYTES_MAX, "{case}: {peak} bytes");
        beside.wait().succeeded();
        neighbour.output().is_exactly(&expected);
        // With a good plugin in its place, the others lack nothing and have nothing twice.
        job.write("bad.wasm", assembled(&[]));
        job.run(&[]).succeeded();
        job.output().is_exactly(&expected);
    }
}
