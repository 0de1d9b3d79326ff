//! Faults that were put into the machine on purpose: the simulator must find each of them, within a bounded number of seeds.
//!
//! ```sh
//! cargo test --workspace --features floodmark-engine/deliberate-faults --test sim deliberate
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use floodmark_engine::job::fault::{Fault, arm};
use floodmark_engine::runtime::aligner::Mode;

use crate::check;

/// Seeds within which a fault must be found.
const SEEDS_MAX: u64 = 40;

/// The seed that finds a fault.
fn seed_that_finds(fault: Fault) -> Option<u64> {
    arm(Some(fault));
    let fails =
        |seed: &u64| catch_unwind(AssertUnwindSafe(|| check(*seed, Mode::ExactlyOnce))).is_err();
    let found = (0..SEEDS_MAX).find(fails);
    arm(None);
    found
}

/// Catches a simulator that does not look: each fault is one that a change of the machine might bring.
#[test]
fn deliberate_faults_are_found() {
    let faults = [
        Fault::RescaleKeepsMemory,
        Fault::RollbackKeepsLater,
        Fault::TrialRetires,
        Fault::RestartAtOnce,
        Fault::GiveUpForgets,
    ];
    let found = faults.map(|fault| (fault, seed_that_finds(fault)));
    println!("{found:?}");
    for (fault, seed) in found {
        assert!(seed.is_some(), "{fault:?} was not found");
    }
}
