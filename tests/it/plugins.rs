//! The plugins of all tests, built once and by the code that builds them for `floodmark run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const FOLDERS: [&str; 18] = [
    "plugins/word-split/rust",
    "plugins/word-count/rust",
    "tests/guests/misbehaves/rust",
    "tests/guests/traps-in-describe/rust",
    "tests/guests/history/rust",
    "tests/guests/top/rust",
    "tests/guests/dedupe/rust",
    "tests/guests/upgrade-v2/rust",
    "tests/guests/overreaches/rust",
    "tests/guests/forgetful/rust",
    "tests/guests/faulty/rust",
    "tests/guests/labelled/rust",
    "tests/guests/pair/rust",
    "tests/guests/enrich/rust",
    "tests/guests/router/rust",
    "tests/guests/reports/rust",
    "tests/guests/picky/rust",
    "tests/guests/upgrade-v3/rust",
];

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// A component, by the name of the folder above `rust`.
pub fn plugin(name: &str) -> &'static Path {
    static BUILT: LazyLock<BTreeMap<&str, PathBuf>> = LazyLock::new(|| {
        let build = |folder: &'static str| {
            let name = folder.rsplit('/').nth(1).unwrap();
            let built = floodmark_plugin_build::component(&repository().join(folder), &mut |_| ());
            (name, built.unwrap())
        };
        FOLDERS.map(build).into()
    });
    &BUILT[name]
}
