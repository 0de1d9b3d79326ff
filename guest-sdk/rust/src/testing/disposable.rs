//! Catches what an operator remembers outside of its states.
//!
//! Only the cut into batches and the life of instances differ between the runs, and neither may show.

use super::{Emitted, Given, Task};
use crate::Operator;

/// Runs records as one batch, and again with a fresh instance for every one, two and three records, and returns what was
/// emitted.
///
/// # Panics
/// When the runs differ: the operator keeps something that the host does not know of. Also when a run fails.
pub fn check_disposable<O: Operator>(
    config: &[(&str, &str)],
    records: impl IntoIterator<Item = impl Into<Given>>,
) -> Vec<Emitted> {
    let records: Vec<Given> = records.into_iter().map(Into::into).collect();
    let expected = run::<O>(config, &records, records.len().max(1));
    for batch_records in 1..=3 {
        let actual = run::<O>(config, &records, batch_records);
        assert_eq!(
            actual.emitted, expected.emitted,
            "with a fresh instance every {batch_records} records (left) it emits something else than with one instance: \
             keep what must last in a state"
        );
        assert_eq!(
            actual.task.states.borrow().states,
            expected.task.states.borrow().states,
            "with a fresh instance every {batch_records} records (left) it keeps other states than with one instance: \
             keep what must last in a state"
        );
    }
    expected.emitted
}

struct Outcome {
    task: Task,
    emitted: Vec<Emitted>,
}

fn run<O: Operator>(config: &[(&str, &str)], records: &[Given], batch_records: usize) -> Outcome {
    let mut task = Task::with_config::<O>(config);
    let mut emitted = Vec::new();
    for batch in records.chunks(batch_records) {
        let output = task.run(batch.iter().cloned());
        emitted.extend(output.unwrap_or_else(|error| panic!("the operator refuses: {error}")));
        task.kill();
    }
    // A host may cut anywhere, so only the order within a port is kept.
    emitted.sort_by(|one, other| one.output.cmp(&other.output));
    Outcome { task, emitted }
}
