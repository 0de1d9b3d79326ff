//! Plugins that were built for the contract as it was released.
//!
//! Catches a host that refuses them, calls them by an interface that they do not have, or makes another output of them.

use crate::job::{Job, command};
use crate::output::counted_by_tools;
use crate::plugins::repository;
use crate::text;

const WORD_COUNT: &str = "tests/fixtures/word-count-0.1.0.wasm";

#[test]
fn a_plugin_of_version_0_1_0_passes_its_vectors() {
    let vectors = repository().join("plugins/word-count/vectors.toml");
    let output = command()
        .arg("test")
        .arg(repository().join(WORD_COUNT))
        .arg("--vectors")
        .arg(vectors)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_plugin_of_version_0_1_0_counts_as_the_one_of_today() {
    let text = text::text(1_000_000, 3);
    let component = repository().join(WORD_COUNT);
    let plugin = format!("operator.count.plugin={}", component.display());
    for parallelism in ["1", "2"] {
        let job = Job::new();
        job.write("in.txt", &text);
        job.run(&["--set", &plugin, "--parallelism", parallelism])
            .succeeded()
            .says("finished: ");
        job.output().is_exactly(&counted_by_tools(&text));
    }
}
