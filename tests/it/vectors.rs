//! `floodmark test`: a plugin is held to vectors.
//!
//! Catches an expectation that is not compared, a difference that does not say where it is and what came, a plugin that keeps
//! its state in memory and passes all the same, a wrong file that is taken for a right one, and a wrong exit code.

mod made;

use std::fs;
use std::path::Path;

use floodmark::vectors::{Vectors, find, run};
use floodmark_engine::guest::{Code, Plugin};
use toml::{Table, Value};

use crate::engines::Ticking;
use crate::job::{self, Outcome};
use crate::plugins::{plugin, repository};

/// By case the folder of its vectors.
const CASES: [(&str, &str); 7] = [
    ("word-count", "plugins/word-count"),
    ("dedupe", "tests/guests/dedupe"),
    ("top", "tests/guests/top"),
    ("history", "tests/guests/history"),
    ("enrich", "tests/guests/enrich"),
    ("router", "tests/guests/router"),
    ("misbehaves", "tests/guests/misbehaves"),
];

fn load(guests: &Ticking, name: &str) -> Plugin {
    let component = fs::read(plugin(name)).unwrap();
    guests.engine.load("plugin", &component).unwrap()
}

/// What is said of a plugin and vectors.
fn said(plugin: &Plugin, text: &str) -> String {
    let vectors = match Vectors::parse("v.toml", text) {
        Ok(vectors) => vectors,
        Err(problems) => return problems.to_string(),
    };
    match run(plugin, &vectors) {
        Ok(report) => report.to_string(),
        Err(problems) => problems.to_string(),
    }
}

#[track_caller]
fn check(plugin: &Plugin, text: &str, expected: &str) {
    let said = said(plugin, text);
    assert_eq!(said, expected, "\n{text}\ngives\n{said}");
}

#[test]
fn rust_plugins_pass_their_vectors() {
    check_cases(&Ticking::new(), Code::Optimised);
}

#[test]
fn rust_plugins_pass_them_with_the_code_of_the_quick_compiler() {
    check_cases(&Ticking::quick(), Code::Optimising);
}

fn check_cases(bench: &Ticking, code: Code) {
    for (case, folder) in CASES {
        let plugin = load(bench, case);
        assert_eq!(plugin.code(), code);
        let found = find::of_plugin(&repository().join(folder).join("rust")).unwrap();
        assert_eq!(
            found.files[0],
            repository().join(folder).join("vectors.toml")
        );
        assert!(found.others.is_empty());
        for file in found.files {
            let text = fs::read_to_string(&file).unwrap();
            let said = said(&plugin, &text);
            assert!(
                said.starts_with("ok  v.toml: "),
                "{}\n{said}",
                file.display()
            );
        }
    }
}

/// The same file with one expectation changed, in each way there is.
fn changed(text: &str) -> Vec<(usize, String)> {
    let file: Table = toml::from_str(text).unwrap();
    let steps = file.get("step").and_then(Value::as_array).cloned();
    let mut all = Vec::new();
    for (index, step) in steps.unwrap_or_default().iter().enumerate() {
        let mut add = |change: &dyn Fn(&mut Table)| {
            let mut file = file.clone();
            let steps = file["step"].as_array_mut().unwrap();
            change(steps[index].as_table_mut().unwrap());
            all.push((index + 1, toml::to_string(&file).unwrap()));
        };
        let pop = |value: &mut Value| match value {
            Value::Array(items) => drop(items.pop()),
            Value::Table(table) => {
                let last = table.keys().next_back().unwrap().clone();
                table.remove(&last);
            }
            _ => unreachable!("only what has several is made less"),
        };
        let step = step.as_table().unwrap();
        let fails = ["fails", "fails-by"].map(|field| step.contains_key(field));
        if fails.contains(&true) {
            add(&|step| {
                step.remove("fails");
                step.remove("fails-by");
            });
        } else if step.contains_key("records") {
            let one_more: Value =
                toml::from_str::<Table>("a = [[\"k\", \"never\"]]").unwrap()["a"].clone();
            match step.get("emits") {
                None => add(&|step| drop(step.insert("emits".to_owned(), one_more.clone()))),
                Some(Value::Table(ports)) => ports
                    .keys()
                    .for_each(|port| add(&|step| pop(&mut step["emits"][port.as_str()]))),
                Some(_) => add(&|step| pop(&mut step["emits"])),
            }
            match step.get("rejects") {
                None => {
                    let one_more: Table = toml::from_str("a = [[0, \"never\"]]").unwrap();
                    add(&|step| drop(step.insert("rejects".to_owned(), one_more["a"].clone())));
                }
                Some(_) => add(&|step| pop(&mut step["rejects"])),
            }
        }
        if let Some(states) = step.get("state").and_then(Value::as_table) {
            for (name, keys) in states {
                match keys {
                    Value::Table(keys) if keys.is_empty() => {}
                    _ => add(&|step| pop(&mut step["state"][name.as_str()])),
                }
                if keys.is_table() {
                    add(&|step| {
                        let keys = step["state"][name.as_str()].as_table_mut().unwrap();
                        keys.insert("never".to_owned(), Value::Integer(1));
                    });
                }
            }
        }
    }
    all
}

#[test]
fn each_expectation_of_the_vectors_is_compared() {
    let bench = Ticking::new();
    let mut count = 0;
    for (case, folder) in CASES {
        let plugin = load(&bench, case);
        let found = find::of_plugin(&repository().join(folder).join("rust")).unwrap();
        for file in found.files {
            let text = fs::read_to_string(&file).unwrap();
            // One step is as good as the others, and endless calls take their time.
            let is_slow = file.ends_with("loop.toml") || file.ends_with("memory.toml");
            for (step, changed) in changed(&text).into_iter().filter(|_| !is_slow) {
                count += 1;
                let said = said(&plugin, &changed);
                let says = format!(": step {step}, as written: ");
                let file = file.display();
                assert!(
                    said.starts_with("FAILED") && said.contains(&says),
                    "{file}: {says}\n{said}"
                );
            }
        }
    }
    assert!(count > 150, "{count}");
}

#[test]
fn a_difference_says_where_it_is_and_what_came() {
    let bench = Ticking::new();
    let count = load(&bench, "word-count");
    check(
        &count,
        r#"
            [[step]]
            records = [["a", ""], ["b", ""], ["a", ""], ["a", "", 5], ["c", ""]]
            emits = [["a", "1"], ["b", "1"], ["a", "3"], ["a", "3"], ["c", "1"]]
        "#,
        "\
FAILED  v.toml:2: step 1, as written: the emitted records differ
      [\"a\", \"1\"]
      [\"b\", \"1\"]
    - [\"a\", \"3\"]
    - [\"a\", \"3\"]
    + [\"a\", \"2\"]
    + [\"a\", \"3\", 5]
      [\"c\", \"1\"]",
    );
    check(
        &count,
        "[[step]]\nrecords = [['a', '']]\n[[step]]\nrecords = [['a', '']]",
        "FAILED  v.toml:1: step 1, as written: the emitted records differ\n    + [\"a\", \"1\"]",
    );
    check(
        &count,
        "[[step]]\nrecords = [['a', '']]\nemits = [['a', '1'], [{ hex = '00ff' }, '2', -7]]",
        "FAILED  v.toml:1: step 1, as written: the emitted records differ\n      [\"a\", \"1\"]\n    - [{ hex = \"00ff\" }, \"2\", -7]",
    );
    let fifty = vec!["['a', '']"; 50].join(", ");
    let said = said(&count, &format!("[[step]]\nrecords = [{fifty}]"));
    assert_eq!(said.lines().count(), 10, "{said}");
    assert!(said.ends_with("    + … and 42 more"), "{said}");
    check(
        &count,
        r#"
            [[step]]
            records = [["a", ""], ["b", ""], ["c\u001b[31m", ""]]
            emits = [["a", "1"], ["b", "1"], ["c\u001b[31m", "1"]]
            [[step]]
            state = { count = { a = 1, b = 2, d = 1 } }
        "#,
        "\
FAILED  v.toml:5: step 2, as written: the state differs
    - count: \"b\" = 2
    + count: \"b\" = 1
    - count: \"c\\u001B[31m\" = nothing
    + count: \"c\\u001B[31m\" = 1
    - count: \"d\" = 1
    + count: \"d\" = nothing",
    );
    check(
        &count,
        "refuses = 'colour'\nconfig = { color = 'red' }",
        "\
FAILED  v.toml: the plugin does not open, but for another reason
    - refuses its configuration, and says \"colour\"
    + operator `word-count`: the plugin refused its configuration: unknown option `color`; this operator has none; correct `operator.word-count.config`",
    );
    check(
        &count,
        "refuses = ''",
        "FAILED  v.toml: the plugin opens\n    - refuses its configuration, and says \"\"\n    + opens",
    );
    check(
        &count,
        "config = { color = 'red' }\n[[step]]\nkill = true",
        "\
FAILED  v.toml: the plugin does not open
    + operator `word-count`: the plugin refused its configuration: unknown option `color`; this operator has none; correct `operator.word-count.config`",
    );
}

#[test]
fn failures_and_rejections_are_compared() {
    let bench = Ticking::new();
    let misbehaves = load(&bench, "misbehaves");
    check(
        &misbehaves,
        "[[step]]\nrecords = [['k', 'a'], ['k', 'error']]\nemits = [['k', 'a']]",
        "\
FAILED  v.toml:1: step 1, as written: the call fails
    - [\"k\", \"a\"]
    + operator `misbehaves` failed in `process`: a record with the key `k`: as asked",
    );
    check(
        &misbehaves,
        "[[step]]\nrecords = [['k', 'error']]\nfails = 'as told'\nfails-by = ['trap', 'time']",
        "\
FAILED  v.toml:1: step 1, as written: the call fails in a different way
    - fails, by \"trap\" or \"time\", and says \"as told\"
    + fails, by \"error\": operator `misbehaves` failed in `process`: a record with the key `k`: as asked",
    );
    check(
        &misbehaves,
        "[[step]]\nrecords = [['k', 'log'], ['k', 'x']]\nfails = ''",
        "\
FAILED  v.toml:1: step 1, as written: the call does not fail
    - fails
    + [\"k\", \"x\"]
    log info: hello",
    );
    check(
        &misbehaves,
        "[[step]]\nrecords = [['k', 'log']]\nfails-by = 'error'",
        "\
FAILED  v.toml:1: step 1, as written: the call does not fail
    - fails, by \"error\"
    + emits nothing
    log info: hello",
    );
    let router = load(&bench, "router");
    check(
        &router,
        r#"
            [[step]]
            records = [["k", "1"], ["k", "x"], ["k", "y"], ["k", "200"]]
            emits = { small = [["k", "1"]], odd = [["k", "1", 0]] }
            rejects = [[2, "number: y"], [0, "number: 1"]]
        "#,
        "\
FAILED  v.toml:2: step 1, as written: the emitted records differ, and the rejected records differ
    + large: [\"k\", \"200\"]
    - odd: [\"k\", \"1\", 0]
    + odd: [\"odd\", \"1\", 0]
    - rejects [0, \"number: 1\"]
    - rejects [2, \"number: y\"]
    + rejects [1, \"not a number: x\"]
    + rejects [2, \"not a number: y\"]",
    );
    check(
        &router,
        "[[step]]\nrecords = [['k', 'x'], ['k', 'y']]\nrejects = [[1, 'y'], [0, '']]",
        "ok  v.toml: 1 step, 4 variations, 2 records",
    );
}

#[test]
fn a_plugin_that_keeps_state_in_memory_does_not_pass() {
    let bench = Ticking::new();
    let forgetful = load(&bench, "forgetful");
    let fails = "the emitted records differ\n    - [\"k\", \"2\"]\n    + [\"k\", \"1\"]";
    let two = |between: &str| {
        format!(
            "[[step]]\nrecords = [['k', '']]\nemits = [['k', '1']]\n{between}[[step]]\nrecords = [['k', '']]\nemits = [['k', '2']]"
        )
    };
    check(
        &forgetful,
        &two(""),
        &format!("FAILED  v.toml:4: step 2, a fresh instance for each call: {fails}"),
    );
    for step in ["drop-instance", "kill", "restart"] {
        let between = format!("[[step]]\ncheckpoint = true\n[[step]]\n{step} = true\n");
        check(
            &forgetful,
            &two(&between),
            &format!("FAILED  v.toml:8: step 4, as written: {fails}"),
        );
    }
    // One call: a replay after a kill emits the same again. A later call differs: the fresh instance counts from one.
    check(
        &forgetful,
        "[[step]]\nrecords = [['k', ''], ['k', '']]\nemits = [['k', '1'], ['k', '2']]",
        "ok  v.toml: 1 step, 4 variations, 2 records",
    );
    check(
        &forgetful,
        &format!(
            "{}\n[[step]]\ncheckpoint = true\n{}\n[[step]]\nkill = true",
            two(""),
            two("").replace("'2'", "'4'").replace("'1'", "'3'")
        ),
        "\
FAILED  v.toml:15: step 6, as written: after a kill, replayed records do not give the same results
    - [\"k\", \"3\"]
    + [\"k\", \"1\"]",
    );
}

#[test]
fn wrong_files_are_refused_with_line_and_nearest_word() {
    let bench = Ticking::new();
    let enrich = load(&bench, "enrich");
    let step = |rest: &str| format!("[[step]]\nrecords = [['k', 'v']]\n{rest}");
    for (text, words) in [
        (
            step("emit = []"),
            "v.toml:3: step.emit: unknown field; did you mean `emits`?",
        ),
        (
            step("fails-by = 'tarp'"),
            "v.toml:3: step.fails-by: unknown value `tarp`; did you mean `trap`?",
        ),
        (
            step("kill = true"),
            "v.toml:1: step 1: must do one thing, not `kill` and `records`",
        ),
        (
            step("input = 'profile'"),
            "v.toml:1: input: the plugin has no input `profile`; did you mean `profiles`?",
        ),
        (
            step("emits = { oot = [] }"),
            "v.toml:1: emits: the plugin has no output `oot`; did you mean `out`?",
        ),
        (
            step("emits = [['k', 5]]"),
            "v.toml:3: step.emits: must be text, or bytes as `{ hex = \"ff00\" }`, not the number 5",
        ),
        (
            step("emits = [['k']]"),
            "v.toml:3: step.emits: a record is `[key, value]` or `[key, value, event time in ms]`, but this has fewer items",
        ),
        (
            step("emits = [['k', 'v', 1, 2]]"),
            "but this has more items",
        ),
        (
            step("emits = [['k', { hex = 'f' }]]"),
            "`f` is not an even number of hexadecimal digits",
        ),
        (
            step("emits = [['k', { hx = 'ff' }]]"),
            "unknown field; did you mean `hex`?",
        ),
        (
            step("emits = []\nfails = ''"),
            "v.toml:1: step 1: emits: a call that fails has no effects",
        ),
        (
            step("rejects = [[1, '']]"),
            "there is no record 1: the step has 1, counted from 0",
        ),
        (
            step("rejects = [[0, ''], [0, '']]"),
            "record 0 is listed twice",
        ),
        (
            "[[step]]\nrecords = []".to_owned(),
            "v.toml:1: step 1: records: a step has 1 to 4096, not 0",
        ),
        (
            "\n[[step]]\nemits = []".to_owned(),
            "v.toml:2: step 1: emits: belongs to `records`",
        ),
        (
            "[[step]]\n".to_owned(),
            "v.toml:1: step 1: does nothing; write `records`,",
        ),
        (
            "[[step]]\nkill = false".to_owned(),
            "write `kill = true`, or leave the step out",
        ),
        (
            "[[step]]\npasses = '1 fortnight'".to_owned(),
            "v.toml:2: step.passes: `fortnight` is not a unit of time",
        ),
        (
            "[[step]]\nstate = { profil = {} }".to_owned(),
            "the plugin has no state `profil`; did you mean `profile`?",
        ),
        (
            "[[step]]\nstate = { profile = [['k', 1], ['k', 2]] }".to_owned(),
            "a key appears twice",
        ),
        (
            "[[step]]\nstate = { profile = { k = { json = 'nil' } } }".to_owned(),
            "`nil` is not JSON",
        ),
        (
            "[[steps]]\nkill = true".to_owned(),
            "v.toml:1: steps: unknown field; did you mean `step`?",
        ),
        (
            "config = { a = [] }\n[[step]]\nkill = true".to_owned(),
            "v.toml:1: config.a: must be text, a number, `true` or `false`, not a list",
        ),
        (
            "limits = { memory = '1B' }\n[[step]]\nkill = true".to_owned(),
            "v.toml:1: limits.memory: `1B` is not between",
        ),
        (
            "refuses = ''\n[[step]]\nkill = true".to_owned(),
            "v.toml:2: step: a plugin that refuses its configuration takes no steps",
        ),
        ("config = {}".to_owned(), "v.toml:1: there are no steps"),
        ("step = [".to_owned(), "v.toml:1: not TOML"),
    ] {
        let said = said(&enrich, &text);
        assert!(said.contains(words), "{text}\ngives\n{said}\nnot\n{words}");
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = job::command();
    command.arg("test").args(arguments).current_dir(folder);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn vectors_are_found_and_exit_codes_tell_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let component = plugin("word-count").to_str().unwrap();
    let test = |arguments: &[&str]| command(folder.path(), arguments);
    let good = "[[step]]\nrecords = [['k', '']]\nemits = [['k', '1']]\n";
    for name in ["own/rust", "own/vectors", "bare", "mixed"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for name in ["own/rust/c.wasm", "bare/c.wasm"] {
        fs::copy(component, path(name)).unwrap();
    }
    write("own/vectors.toml", good);
    write("own/vectors/more.toml", good);
    write("mixed/pipeline.toml", "[job]\nname = 'x'\n");
    write("mixed/good.toml", good);
    write("bad.toml", &good.replace("'1'", "'2'"));
    write("typo.toml", &good.replace("emits", "emit"));
    write(
        "fuel.toml",
        "limits = { fuel-per-call = 1000000 }\n[[step]]\nrecords = [['k', 'loop']]\nfails-by = 'time'\nfails = 'its 1000000 units of fuel'\n",
    );

    let passed = test(&["own/rust/c.wasm"]).succeeded();
    assert_eq!(
        passed.stdout,
        "ok  own/vectors.toml: 1 step, 3 variations, 1 record\nok  own/vectors/more.toml: 1 step, 3 variations, 1 record\n"
    );
    let passed = test(&["bare/c.wasm", "--vectors", "mixed"]).succeeded();
    assert_eq!(
        passed.stdout,
        "ok  mixed/good.toml: 1 step, 3 variations, 1 record\n"
    );
    let passed = passed.says("skipped mixed/pipeline.toml: it has no steps");
    assert_eq!(passed.stderr.lines().count(), 1);
    let misbehaves = plugin("misbehaves").to_str().unwrap();
    test(&[misbehaves, "--vectors", "fuel.toml"]).succeeded();

    let failed = test(&[
        "bare/c.wasm",
        "--vectors",
        "bad.toml",
        "--vectors",
        "mixed/good.toml",
    ]);
    assert_eq!(failed.code, Some(1));
    assert_eq!(
        failed.stdout,
        "FAILED  bad.toml:1: step 1, as written: the emitted records differ\n    - [\"k\", \"2\"]\n    + [\"k\", \"1\"]\nok  mixed/good.toml: 1 step, 3 variations, 1 record\n"
    );
    failed.says("error: the plugin does not pass 1 of 2 files");

    for (arguments, code, says) in [
        (
            &["bare/c.wasm"][..],
            2,
            "there are no vectors: neither `vectors.toml` nor files in `vectors/`, in the folder of `bare/c.wasm` or its parent",
        ),
        (
            &["bare/c.wasm", "--vectors", "bare"],
            2,
            "there are no files with steps where `--vectors` says",
        ),
        (
            &["bare/c.wasm", "--vectors", "none.toml"],
            2,
            "cannot read vectors from `none.toml`",
        ),
        (
            &["bare/c.wasm", "--vectors", "typo.toml"],
            2,
            "typo.toml:3: step.emit: unknown field; did you mean `emits`?",
        ),
        (
            &["bare/c.wasm", "--vectors", "mixed/pipeline.toml"],
            2,
            "mixed/pipeline.toml:1: job: unknown field",
        ),
        (&["none.wasm", "--vectors", "mixed"], 3, "none.wasm"),
        (
            &["bad.toml", "--vectors", "mixed"],
            3,
            "is not a WebAssembly component",
        ),
        (&["mixed", "--vectors", "mixed"], 3, "mixed"),
    ] {
        let refused = test(arguments);
        assert_eq!(
            refused.code,
            Some(code),
            "{arguments:?}\n{}",
            refused.stderr
        );
        assert_eq!(refused.stdout, "");
        refused.says(says);
    }
}
