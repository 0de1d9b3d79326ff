//! Catches time that is lost or shown twice, functions below the wrong operator, and names that break the file formats.

use super::*;
use crate::observe::{NodeFacts, Observer, PluginFacts};

/// A source, an operator and a sink, on two workers.
fn profile(stacks: &SampledStacks) -> Profile {
    let node = |name: &str, kind| NodeFacts {
        name: name.to_owned(),
        kind,
    };
    let plugin = PluginFacts {
        name: "count".to_owned(),
        version: "1".to_owned(),
        digest: "00".to_owned(),
    };
    let nodes = vec![
        node("text", Kind::Source),
        node("count", Kind::Operator(plugin)),
        node("out", Kind::Sink),
    ];
    let observer = Observer::new("words", 2, 128, nodes, 0);
    for index in 0..2 {
        let worker = observer.worker(index);
        worker.times.busy.add(10_000);
        worker.times.idle.add(1_000_000);
        for (node, stage, nanos) in [
            (0, Stage::Source, 1_000),
            (1, Stage::Exchange, 100),
            (1, Stage::Lookup, 500),
            (1, Stage::Guest, 4_000),
            (2, Stage::Sink, 900),
        ] {
            worker.task(node).unwrap().stages.of(stage).add(nanos);
        }
        let task = worker.task(1).unwrap();
        task.calls.guest.add(3_000);
        task.calls.copy.add(700);
        task.calls.host.add(300);
    }
    observer.profile(stacks)
}

fn sampled(stacks: &[(&[&str], u64)]) -> SampledStacks {
    let stacks = stacks.iter().map(|(stack, count)| {
        let names = stack.iter().map(|name| (*name).to_owned());
        (names.collect(), *count)
    });
    BTreeMap::from([("count".to_owned(), stacks.collect())])
}

#[test]
fn measured_time_is_divided_as_samples_were() {
    let stacks = sampled(&[(&["process", "hash"], 2), (&["process"], 1)]);
    let mut lines: Vec<_> = profile(&stacks)
        .folded()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "words;[engine] 7000",
            "words;count;exchange 200",
            "words;count;guest;[copy] 1400",
            "words;count;guest;[host] 600",
            "words;count;guest;process 2000",
            "words;count;guest;process;hash 4000",
            "words;count;lookup 1000",
            "words;out;sink 1800",
            "words;text;source 2000",
        ]
    );
    // All work of the workers, without their idle time.
    assert_eq!(profile(&stacks).total(), Duration::from_nanos(20_000));
    assert_eq!(profile(&stacks).samples(), 3);
    // Thirds leave nothing over.
    let thirds = sampled(&[(&["a"], 1), (&["b"], 1), (&["c"], 1), (&["d"], 4)]);
    assert_eq!(profile(&thirds).total(), Duration::from_nanos(20_000));
    let unsampled = profile(&BTreeMap::new());
    assert!(
        unsampled
            .folded()
            .contains("words;count;guest;[plugin] 6000\n")
    );
    assert_eq!(unsampled.total(), Duration::from_nanos(20_000));
}

#[test]
fn a_name_cannot_break_its_file() {
    let profile = profile(&sampled(&[(&["<a>&\"b\";\n]]>\u{1b}"], 1)]));
    let folded = profile.folded();
    assert_eq!(folded.lines().count(), 8, "{folded}");
    assert!(folded.contains("guest;<a>&\"b\": ]]>  6000\n"), "{folded}");
    let svg = profile.svg();
    assert!(
        svg.contains("<title>&lt;a&gt;&amp;&quot;b&quot;; ]]&gt; : 6.0 µs (30.00 %)</title>"),
        "{svg}"
    );
    assert!(!svg.contains('\u{1b}'));
    // Every box is one, with a text of its own.
    let of = |what: &str| svg.matches(what).count();
    assert_eq!((of("<g "), of("</g>"), of("<title>")), (13, 13, 13));
}

#[test]
fn boxes_are_as_wide_as_their_time() {
    let svg = profile(&sampled(&[(&["process"], 1)])).svg();
    for shown in [
        "data-x=\"0.000\" data-w=\"1200.000\" data-d=\"0\"><title>words: 20.0 µs (100.00 %)",
        "data-w=\"420.000\" data-d=\"1\"><title>[engine]: 7.0 µs (35.00 %)",
        "data-w=\"480.000\" data-d=\"2\"><title>guest: 8.0 µs (40.00 %)",
        "data-w=\"360.000\" data-d=\"3\"><title>process: 6.0 µs (30.00 %)",
    ] {
        assert!(svg.contains(shown), "not there: {shown}\n{svg}");
    }
}

#[test]
fn json_names_who_is_below_whom() {
    let json = profile(&sampled(&[(&["process", "hash"], 1)])).json();
    let nodes = json["nodes"].as_array().unwrap();
    let at = |id: &serde_json::Value| &nodes[id.as_u64().unwrap() as usize - 1];
    let mut node = &nodes[0];
    let mut path = Vec::new();
    for name in ["count", "guest", "process", "hash"] {
        let below = node["children"].as_array().unwrap().iter().map(at);
        let found = below
            .clone()
            .find(|node| node["callFrame"]["functionName"] == name);
        node = found.unwrap_or_else(|| panic!("no {name} in {json:#}"));
        path.push(node["id"].clone());
    }
    let samples = json["samples"].as_array().unwrap();
    let sample = samples.iter().position(|id| Some(id) == path.last());
    assert_eq!(json["timeDeltas"][sample.unwrap()], 6);
    assert_eq!(json["endTime"], 20 + 2, "rounded up");
}
