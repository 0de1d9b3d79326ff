//! What does a plugin cost that traps at one record in 10,000, when these records are set aside as dead letters? The same job,
//! the same plugin and the same input, once with the option that makes it trap and once without, in turn in one run.

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use floodmark_engine::connector::DiscardSink;
use floodmark_engine::runtime::plan::{Edge, Node, NodeIndex, OnError, Plan, Role, Routing};
use floodmark_state::stream::{InputPort, OutputPort};
use support::{Random, VALUE_BYTES, count_plan, folder, load, median, run, setting};

/// A file of lines `KEY<tab>VALUE`; one in `one_in` has the key `trap`, at random places.
fn lines(records: u64, keys: u64, one_in: u64) -> PathBuf {
    let path = folder("input").join(format!("{records}-{keys}-{one_in}.traps"));
    let mut random = Random(one_in);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).expect("there is room"));
    let value = "v".repeat(VALUE_BYTES);
    for _ in 0..records {
        let written = match random.next() % one_in {
            0 => writeln!(file, "trap\t{value}"),
            _ => writeln!(file, "{:08}\t{value}", random.next() % keys),
        };
        written.expect("there is room");
    }
    file.flush().expect("there is room");
    path
}

/// File → count by key → sink, with another sink for dead letters.
fn plan(input: &Path, plugin: &floodmark_engine::guest::Plugin, config: &[(&str, &str)]) -> Plan {
    let mut plan = count_plan(input, plugin, Arc::new(DiscardSink), 1);
    if let Role::Operator(operator) = &mut plan.nodes[1].role {
        operator.on_error = OnError::DeadLetter;
        let config = config.iter();
        operator.config = config
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    }
    let letters = Node::new("letters", Role::Sink(Arc::new(DiscardSink)));
    plan.nodes.push(letters);
    plan.edges.push(Edge {
        from: NodeIndex(1),
        output: OutputPort(1),
        to: NodeIndex(3),
        input: InputPort(0),
        routing: Routing::Forward,
    });
    plan
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let records = setting("FLOODMARK_BENCH_RECORDS", 4_000_000);
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 5);
    let plugin = load("misbehaves");
    println!(
        "keyed count, {records} records of 8 B key and 100 B value, p = 1, one checkpoint a second; medians of {rounds} rounds"
    );
    for keys in [1_000_000, 10_000] {
        for one_in in [10_000, 1_000, 100] {
            let input = lines(records, keys, one_in);
            // An option of no word in the input, so that it counts.
            let without = plan(&input, &plugin, &[("panic-at", "never")]);
            let trapping = plan(&input, &plugin, &[("panic-at", "trap")]);
            let second = Some(Duration::from_secs(1));
            let rate = |time: Duration| records as f64 / time.as_secs_f64();
            let (mut ratios, mut whole, mut traps) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (plain, with_traps) = (
                    rate(run(&without, second).0),
                    rate(run(&trapping, second).0),
                );
                ratios.push(with_traps / plain);
                whole.push(plain);
                traps.push(with_traps);
            }
            println!(
                "{keys:>9} keys, a trap in {one_in:>6}: {:.2} M records/s, without traps {:.2} M: {:.3} x",
                median(traps) / 1e6,
                median(whole) / 1e6,
                median(ratios),
            );
            let _ = std::fs::remove_file(&input);
        }
    }
}
