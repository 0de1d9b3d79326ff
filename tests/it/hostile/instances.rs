//! Catches an operator that has more live instances than its limit, and a limit that another operator uses up.

use floodmark_engine::guest::{EngineSettings, GuestEngine, Limits};

use super::{assembled, ends, limits};

#[test]
fn an_operator_has_so_many_live_instances_and_not_more() {
    let engine = GuestEngine::with(EngineSettings {
        tasks: 2,
        ..EngineSettings::default()
    });
    let engine = engine.unwrap();
    let limits = Limits {
        instances: 3,
        ..limits()
    };
    let load = |operator| {
        engine
            .load_within(operator, &assembled(&[]), limits)
            .unwrap()
    };
    let (bad, other) = (load("bad"), load("other"));
    let mut live: Vec<_> = (0..7).map(|_| bad.open("bad", &[]).unwrap()).collect();
    let says =
        "operator `bad` already has 7 live instances, the most allowed; raise `limits.instances`";
    ends("instances", bad.open("bad", &[]).map(drop), says);
    // Another version of the plugin counts with it.
    let again = engine.load_within("bad", &assembled(&[]), limits);
    ends(
        "instances",
        again.map(drop),
        "operator `bad` already has 7 ",
    );
    other.open("other", &[]).unwrap();
    live.pop();
    live.push(bad.open("bad", &[]).unwrap());
}
