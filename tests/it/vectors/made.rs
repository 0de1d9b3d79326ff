//! Plugins made for these tests: each one that breaks the contract is found by the variation that is meant for it, and a
//! hostile one does not keep the command from ending.
//!
//! Catches a variation that makes no difference, a plugin that makes the command hang, and control characters of a plugin
//! that reach the terminal.

use std::fs;

use floodmark_engine::guest::Plugin;

use super::{check, said};
use crate::engines::Ticking;
use crate::hostile;

/// A plugin that does this, in the words of `tests/guests/hostile/template.wat`.
fn made(bench: &Ticking, parts: &[(&str, &str)]) -> Plugin {
    let owned = |(part, lines): &(&str, &str)| ((*part).to_owned(), (*lines).to_owned());
    let parts: Vec<_> = parts.iter().map(owned).collect();
    let component = hostile::assembled(&parts);
    bench.engine.load("plugin", &component).unwrap()
}

/// Emits a record without value, with the first key of the call and the event time 0.
const EMITS_ONE: &str = "
    (call $poke (i32.const 1028) (i32.const 4096)) (call $poke (i32.const 1032) (i32.const 1))
    (call $poke (i32.const 4120) (i32.const 5000)) (call $poke (i32.const 4124) (i32.const 1))
    (call $poke (i32.const 4128) (i32.const 5100)) (call $poke (i32.const 4132) (i32.const 1))
    (call $poke (i32.const 4144) (i32.const 5200)) (call $poke (i32.const 4148) (i32.const 1))";

#[test]
fn a_plugin_that_notices_a_variation_does_not_pass() {
    let bench = Ticking::new();
    let step = "[[step]]\nrecords = [['k', 'a'], ['k', 'b']]\n";
    let once_a_call = made(&bench, &[("process", EMITS_ONE)]);
    check(
        &once_a_call,
        &format!("{step}emits = [['k', '', 0]]"),
        "\
FAILED  v.toml:1: step 1, record by record: the emitted records differ
      [\"k\", \"\", 0]
    + [\"k\", \"\", 0]",
    );
    let when_it_has_heard = format!("(if (i32.load (i32.const 6000)) (then {EMITS_ONE}))");
    let parts = [
        ("completed", "(call $poke (i32.const 6000) (i32.const 1))"),
        ("process", &when_it_has_heard),
    ];
    check(
        &made(&bench, &parts),
        step,
        "\
FAILED  v.toml:1: step 1, killed and restored after each step: the emitted records differ
    + [\"k\", \"\", 0]",
    );
    let when_it_is_fresh = format!(
        "(if (i32.eqz (i32.load (i32.const 6000))) (then {EMITS_ONE}))
        (if (i32.load (i32.const 6000)) (then (call $poke (i32.const 1032) (i32.const 0))))
        (call $poke (i32.const 6000) (i32.const 1))"
    );
    check(
        &made(&bench, &[("process", &when_it_is_fresh)]),
        "[[step]]\nrecords = [['k', '']]\nemits = [['k', '', 0]]\n[[step]]\nrecords = [['k', '']]",
        "\
FAILED  v.toml:4: step 2, a fresh instance for each call: the emitted records differ
    + [\"k\", \"\", 0]",
    );
    check(
        &made(&bench, &[("completed", "unreachable")]),
        &format!("{step}[[step]]\ncheckpoint = true"),
        "\
FAILED  v.toml:3: step 2, as written: the plugin fails when it is notified of a checkpoint
    + operator `hostile` crashed in `completed`: wasm trap: wasm `unreachable` instruction executed",
    );
}

#[test]
fn hostile_plugins_end_and_say_nothing_to_the_terminal() {
    let bench = Ticking::new();
    let mut count = 0;
    for entry in fs::read_dir(hostile::folder()).unwrap() {
        let path = entry.unwrap().path();
        let case = path.file_stem().unwrap().to_str().unwrap();
        let component = hostile::assembled(&hostile::parts(case));
        let loaded = bench
            .engine
            .load_within("plugin", &component, hostile::limits());
        let Ok(plugin) = loaded else { continue };
        let text = "
            limits = { memory = '16MiB', time-per-call = '100ms', output-per-call = '256KiB' }
            [[step]]
            records = [['k', 'v'], ['l', 'w']]
            [[step]]
            restart = true
            [[step]]
            state = { v = { k = 1 } }";
        let said = said(&plugin, text);
        assert!(said.starts_with("FAILED  v.toml"), "{case}: {said}");
        assert!(
            said.len() < 8000 && said.lines().count() < 40,
            "{case}: {said}"
        );
        let is_tame = |char: char| char == '\n' || !char.is_control();
        assert!(said.chars().all(is_tame), "{case}: {said:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
