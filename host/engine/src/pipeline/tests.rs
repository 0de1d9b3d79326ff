//! Catches a wrong edge, a path relative to the wrong folder, an override that is read as a number, and a change that
//! should or should not make two runs different jobs.
//!
//! All tests use [`check`]: a file and `--set` arguments in, the printed plan or the printed problems out.

mod limits;
mod problems;
mod restart;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::plan::{GraphExchange, PipelineGraph, PluginInterface};
use super::{Connectors, PipelineText, Problems, difference, parse};

fn plan(text: &str, sets: &[&str]) -> Result<PipelineGraph, Problems> {
    let file = PipelineText {
        name: "pipeline.toml",
        text,
        default_job_name: "demo",
        folder: Path::new("/home/me/job"),
    };
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let spec = parse(file, &sets, Path::new("/home/me"), &Connectors::built_in())?;
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let facts = spec.operators.iter().map(|(name, operator)| {
        let plugin = operator.plugin.file_stem().unwrap().to_str().unwrap();
        let (inputs, outputs) = match plugin {
            "join" => (words(&["left", "right"]), words(&["out"])),
            "route" => (words(&["in"]), words(&["good", "bad"])),
            _ => (words(&["in"]), words(&["out"])),
        };
        let states = match plugin {
            "map" | "route" => Vec::new(),
            _ => words(&["count"]),
        };
        (
            name.clone(),
            PluginInterface {
                inputs,
                outputs,
                states,
            },
        )
    });
    let facts: BTreeMap<String, PluginInterface> = facts.collect();
    PipelineGraph::new(spec, &facts)
}

fn print(plan: &PipelineGraph) -> String {
    let port = |node: &str, port: &str| match port {
        "" => node.to_owned(),
        port => format!("{node}.{port}"),
    };
    let edges = plan.edges.iter().map(|edge| {
        let (from, to) = (plan.node(edge.from), plan.node(edge.to));
        let arrow = match edge.exchange {
            GraphExchange::Forward => "->",
            GraphExchange::ByKey => "=>",
        };
        format!(
            "{} {arrow} {}",
            port(&from.name, &from.outputs[usize::from(edge.output.0)]),
            port(&to.name, &to.inputs[usize::from(edge.input.0)]),
        )
    });
    edges.collect::<Vec<_>>().join("\n")
}

/// Without the space before quoted lines, which string literals cannot show well.
fn unindented(text: &str) -> String {
    text.lines()
        .map(str::trim_start)
        .collect::<Vec<_>>()
        .join("\n")
}

fn check(text: &str, sets: &[&str], expected: &str) {
    let printed =
        plan(text, sets).map_or_else(|problems| problems.to_string(), |plan| print(&plan));
    let printed = unindented(&printed);
    assert_eq!(printed, expected, "\nprinted:\n{printed}\n");
}

/// A valid pipeline without operators, to add to.
const COPY: &str =
    "source.a = { connector = 'generator' }\nsink.z = { connector = 'discard', from = 'a' }\n";

const WORDS: &str = "\
[source.text]
connector = 'file'
path = '../../*.md'
[operator.split]
plugin = 'map'
from = 'text'
[operator.count]
plugin = 'count.wasm'
from = 'split'
config = { a = 'x', b = 1.0, c = true, d = 7 }
[sink.counts]
connector = 'file'
from = 'count'
path = 'counts'
format = 'csv'
";

#[test]
fn edges_follow_from() {
    check(
        WORDS,
        &[],
        "text -> split.in\nsplit.out => count.in\ncount.out -> counts",
    );
    check(COPY, &[], "a -> z");
}

#[test]
fn union_ports_and_several_inputs() {
    let text = "\
source.a = { connector = 'generator' }
source.b = { connector = 'generator' }
operator.route = { plugin = 'route', from = ['a', 'b'] }
operator.join = { plugin = 'join', from = { left = 'route.good', right = ['a', 'route.bad'] } }
sink.z = { connector = 'discard', from = ['join', 'route.bad'] }
";
    check(
        text,
        &[],
        "a -> route.in\na => join.right\nb -> route.in\nroute.good => join.left\nroute.bad => join.right\n\
         route.bad => z\njoin.out -> z",
    );
}

/// A sink may read letters from before and behind an exchange, and records beside their letters.
#[test]
fn letters_go_by_key_unless_records_pass_directly() {
    let text = "\
source.a = { connector = 'generator', on-error = 'dead-letter' }
operator.map = { plugin = 'map', from = 'a' }
operator.count = { plugin = 'count', from = 'map' }
sink.both = { connector = 'discard', from = ['count', 'count.dead-letters'], on-error = 'dead-letter' }
sink.z = { connector = 'discard', from = ['a.dead-letters', 'map.dead-letters', 'both.dead-letters'] }
";
    check(
        text,
        &[],
        "a -> map.in\na.dead-letters => z\nmap.out => count.in\nmap.dead-letters => z\n\
         count.out -> both\ncount.dead-letters -> both\nboth.dead-letters -> z",
    );
}

/// Records that pass by an exchange go through one themselves; those of a source that is read behind one do not.
#[test]
fn nothing_passes_directly_beside_an_exchange() {
    let text = "\
source.a = { connector = 'generator' }
source.b = { connector = 'generator' }
operator.count = { plugin = 'count', from = 'a' }
operator.map = { plugin = 'map', from = ['a', 'b', 'count'] }
operator.again = { plugin = 'count', from = 'map' }
sink.z = { connector = 'discard', from = ['count', 'again'] }
";
    check(
        text,
        &[],
        "a => count.in\na => map.in\nb -> map.in\ncount.out -> map.in\ncount.out => z\n\
         map.out => again.in\nagain.out -> z",
    );
}

#[test]
fn settings_are_read() {
    let plan = plan(
        WORDS,
        &["checkpoint.interval=200ms", "job.max-parallelism=16"],
    )
    .unwrap();
    let spec = &plan.spec;
    assert_eq!((spec.name.as_str(), spec.parallelism), ("demo", 1));
    assert_eq!(spec.max_parallelism.get(), 16);
    let interval = spec.checkpoint.interval;
    assert_eq!(interval, Some(Duration::from_millis(200)));
    assert_eq!(
        format!("{:?}", spec.operators["count"].config),
        r#"{"a": "x", "b": "1.0", "c": "true", "d": "7"}"#
    );
}

#[test]
fn overrides_give_text_where_text_is_wanted() {
    for (set, name) in [
        ("007", "007"),
        ("7", "7"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("'q'", "q"),
    ] {
        let plan = plan(COPY, &[&format!("job.name={set}")]).unwrap();
        assert_eq!(plan.spec.name, name);
    }
    let plan = plan(
        WORDS,
        &[
            "operator.count.config.b=1.50",
            "operator.count.config.\"a b\"=x=y",
        ],
    );
    let config = &plan.unwrap().spec.operators["count"].config;
    assert_eq!(
        (config["b"].as_str(), config["a b"].as_str()),
        ("1.50", "x=y")
    );
}

#[test]
fn a_job_does_not_read_its_own_output() {
    let refused = |set: &str| plan(WORDS, &[set]).is_err();
    assert!(refused("source.text.path=/home/me"), "a folder around it");
    assert!(refused("source.text.path=/home/me/job/counts"), "itself");
    assert!(refused("source.text.path=/home/me/job/counts/*.csv"));
    assert!(refused("source.text.path=/home/**/*.csv"));
    assert!(!refused("source.text.path=/home/me/job/count"));
    assert!(!refused("source.text.path=/home/me/job/*.csv"));
    assert!(!refused("source.text.path=/home/me/job/counts/.staged"));
}

#[test]
fn paths_start_where_they_were_typed() {
    let path = |sets: &[&str]| {
        let plan = plan(WORDS, sets).unwrap();
        let file = plan.spec.sources["text"].settings.reads();
        let plugin = plan.spec.operators["split"].plugin.display();
        format!("{} {plugin}", file.expect("it reads files").display())
    };
    assert_eq!(path(&[]), "/home/*.md /home/me/job/map");
    assert_eq!(
        path(&["source.text.path=a b/c.txt"]),
        "/home/me/a b/c.txt /home/me/job/map"
    );
    assert_eq!(
        path(&["source.text.path=/x/../y"]),
        "/x/../y /home/me/job/map"
    );
    assert_eq!(
        path(&["source.text.path=../../../../../x"]),
        "/x /home/me/job/map"
    );
    assert_eq!(
        path(&["source.text.path=./a/../b"]),
        "/home/me/a/../b /home/me/job/map"
    );
    assert_eq!(
        path(&["operator.split.plugin=map"]),
        "/home/*.md /home/me/map"
    );
    assert_eq!(
        path(&["source.text.path=2024"]),
        "/home/me/2024 /home/me/job/map"
    );
}

#[test]
fn identity_is_what_saved_positions_and_state_depend_on() {
    assert_eq!(
        plan(WORDS, &[]).unwrap().identity(),
        "\
job.max-parallelism = \"128\"
job.name = \"demo\"
operator.count.from.in = \"split.out\"
operator.split.from.in = \"text\"
sink.counts.connector = \"file\"
sink.counts.format = \"csv\"
sink.counts.from = \"count.out\"
sink.counts.path = \"counts\"
source.text.connector = \"file\"
source.text.format = \"lines\"
source.text.path = \"../../*.md\"
"
    );
    let differ = |text: &str, sets: &[&str]| {
        let old = plan(WORDS, &[]).unwrap().identity();
        let new = plan(text, sets).unwrap().identity();
        difference(&old, &new).unwrap_or_default()
    };
    let same = [
        "job.parallelism=4",
        "checkpoint.retained=9",
        "operator.count.plugin=/x/other",
        "operator.count.config.a=y",
    ];
    assert_eq!(differ(WORDS, &same), "");
    assert_eq!(
        differ(
            &WORDS.replace("from = 'split'", "from = ['split.out']"),
            &[]
        ),
        ""
    );
    for (set, expected) in [
        (
            "source.text.path=/a/c.txt",
            "source `text` read `../../*.md`, now reads `/a/c.txt`",
        ),
        (
            "sink.counts.path=x",
            "sink `counts` wrote to `counts`, now writes to `../x`",
        ),
        (
            "sink.counts.format=jsonl",
            "`sink.counts.format` was `csv`, now is `jsonl`",
        ),
        (
            "source.text.key=k",
            "`source.text.key` was not set, now is `k`",
        ),
        (
            "job.name=other",
            "the job was called `demo`, now it is called `other`",
        ),
        (
            "job.max-parallelism=64",
            "`job.max-parallelism` was `128`, now is `64`",
        ),
        (
            "operator.count.from=['split','text']",
            "operator `count` read from `split.out` by `in`, now reads from `split.out, text`",
        ),
    ] {
        assert_eq!(differ(WORDS, &[set]), expected);
    }
    let renamed = WORDS
        .replace("operator.split", "operator.cut")
        .replace("'split'", "'cut'");
    assert_eq!(differ(&renamed, &[]), "the operator `split` was removed");
    let added = format!("{WORDS}[sink.more]\nconnector = 'stdout'\nfrom = 'count'\n");
    assert_eq!(differ(&added, &[]), "the sink `more` is new");
}
