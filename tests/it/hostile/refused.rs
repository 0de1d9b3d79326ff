//! Catches a plugin that is taken although it wants or offers something else than the contract, and a refusal that leaves
//! its author to guess: what it is about, why, and what to do.

use floodmark_engine::guest::GuestEngine;

use super::{assembled, part, text};

#[track_caller]
fn check(engine: &GuestEngine, component: &[u8], says: &[&str]) {
    let refused = engine.load("bad", component).map(drop);
    let said = refused.expect_err(says[0]).to_string();
    for words in ["operator `bad`: the plugin "].iter().chain(says) {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_import_that_plugins_do_not_get_is_named_with_the_reason() {
    let engine = GuestEngine::new(None).unwrap();
    let import =
        |name: &str| assembled(&part("imports", &format!("(import \"{name}\" (instance))")));
    for (name, why) in [
        (
            "wasi:http/outgoing-handler@0.2.6",
            "plugins have no network",
        ),
        (
            "wasi:keyvalue/store@0.2.0",
            "keep the data in a state of the operator",
        ),
        (
            "wasi:cli/environment@0.3.0",
            "build the plugin for WASI 0.2",
        ),
        (
            "floodmark:engine/timers@0.1.0",
            "the contract of this floodmark has no such interface",
        ),
        (
            "acme:secrets/keys@1.0.0",
            "part of neither the contract nor WASI",
        ),
        (
            "floodmark:engine/state@0.2.0",
            "runs `floodmark:engine/state@0.1.0`; rebuild it",
        ),
    ] {
        check(&engine, &import(name), &[&format!("imports `{name}`"), why]);
    }
    let function = "(import \"now\" (func (result u64)))";
    let component = assembled(&part("imports", function));
    check(
        &engine,
        &component,
        &["imports `now`: it is part of neither"],
    );
    // What runtimes insist on is there.
    let component = import("wasi:clocks/monotonic-clock@0.2.6");
    engine.load("good", &component).unwrap();
}

#[test]
fn a_plugin_of_another_form_of_the_contract_is_to_be_rebuilt() {
    let engine = GuestEngine::new(None).unwrap();
    let good = text(&[]);
    let rebuild = "; rebuild it with the SDK of this version";
    let other = "was built for a different form of the contract than this floodmark has: ";
    for (is, was, says) in [
        // Before there were rejections, hooks of checkpoints, and a fifth level.
        (
            " (field \"rejections\" (list $rejection))",
            "",
            "expected record of 5 fields",
        ),
        (
            "(export \"floodmark:engine/checkpoint-listener@0.1.0\" (instance $listener))",
            "",
            "`floodmark:engine/checkpoint-listener@0.1.0`",
        ),
        (
            "\"warn\" \"error\"",
            "\"warn\"",
            "`floodmark:engine/log@0.1.0`",
        ),
    ] {
        let component = wat::parse_str(good.replacen(is, was, 1)).unwrap();
        assert!(good.contains(is), "{is}");
        check(&engine, &component, &[other, says, rebuild]);
    }
}
