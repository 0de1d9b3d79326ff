//! Keeps folders of this machine out of components in Rust: the same sources give the same component in any folder and home, and it does
//! not say where it was built.
//!
//! Messages of panics have paths of sources. The compiler replaces the begin of a path with `--remap-path-prefix`, which is added to
//! the flags in cargo's configuration: the variable `RUSTFLAGS` would replace the project's own flags. Cargo takes flags from one of two
//! places, so they are added where the project has its own.
//!
//! A path that code itself puts in, such as `env!("OUT_DIR")`, stays. So do flags that are one text instead of a list: cargo
//! cannot add to these.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::TARGET;
use crate::tool::tool;

/// Where cargo looks for flags for all targets, and the variable that means the same.
const OF_BUILD: (&str, &str) = ("build.rustflags", "CARGO_BUILD_RUSTFLAGS");
/// Where it looks first.
const OF_TARGET: (&str, &str) = (
    "target.wasm32-wasip2.rustflags",
    "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
);

/// Arguments for `cargo build` in a folder. `libraries` is the folder of the target's libraries.
pub(super) fn arguments(folder: &Path, libraries: &Path) -> Vec<String> {
    let folder = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let home = cargo_home(&folder);
    let is_set = |variable: &str| std::env::var_os(variable).is_some();
    let Some(place) = place_of_flags(&configurations(&folder, home.as_deref()), is_set) else {
        return Vec::new();
    };
    let flags = replaced(&folder, home, libraries);
    let flags: Vec<String> = flags.iter().filter_map(flag).collect();
    let flags = Value::from(flags).to_string();
    vec!["--config".to_owned(), format!("{place}={flags}")]
}

/// `None` if the path is not text.
fn flag((from, to): &(PathBuf, String)) -> Option<String> {
    Some(format!("--remap-path-prefix={}={to}", from.to_str()?))
}

/// The folders that are replaced. Of several that fit, the compiler takes the last.
fn replaced(folder: &Path, home: Option<PathBuf>, libraries: &Path) -> Vec<(PathBuf, String)> {
    let root = root_of(folder);
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| root.join("target"), |target| folder.join(target));
    let mut found = vec![(root, "/plugin".to_owned())];
    found.extend(home.map(|home| (home, "/cargo".to_owned())));
    found.extend(standard_library(folder, libraries));
    found.push((target, "/target".to_owned()));
    // Cargo names a folder by its real path, or as it was given.
    let both = |(from, to): (PathBuf, String)| {
        let real = from.canonicalize().ok().filter(|real| *real != from);
        let real = real.map(|real| (real, to.clone()));
        real.into_iter().chain([(from, to)])
    };
    found
        .into_iter()
        .filter(|(from, _)| from.parent().is_some())
        .flat_map(both)
        .collect()
}

/// The folder of the workspace, or of the crate if it is not in one.
fn root_of(folder: &Path) -> PathBuf {
    let has_workspace = |folder: &&Path| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        toml::from_str::<Table>(&manifest).is_ok_and(|table| table.contains_key("workspace"))
    };
    folder
        .ancestors()
        .find(has_workspace)
        .unwrap_or(folder)
        .to_path_buf()
}

fn cargo_home(folder: &Path) -> Option<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Some(folder.join(home)),
        None => Some(std::env::home_dir()?.join(".cargo")),
    }
}

/// The sources of the standard library, if they are installed. Then the compiler names their files instead of those that the
/// library was built from, which every machine names in the same way.
fn standard_library(folder: &Path, libraries: &Path) -> Option<(PathBuf, String)> {
    // `libraries` is `lib/rustlib/TARGET/lib`.
    let sources = libraries.ancestors().nth(2)?.join("src/rust");
    if !sources.is_dir() {
        return None;
    }
    let asked = tool("rustc", folder).arg("-vV").output().ok()?;
    let version = String::from_utf8_lossy(&asked.stdout);
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "))?;
    Some((sources, format!("/rustc/{}", commit.trim())))
}

/// The files with cargo's configuration that hold in a folder.
fn configurations(folder: &Path, home: Option<&Path>) -> Vec<Table> {
    let above = folder.ancestors().map(|folder| folder.join(".cargo"));
    let folders = above.chain(home.map(Path::to_path_buf));
    let files = folders.flat_map(|folder| ["config.toml", "config"].map(|name| folder.join(name)));
    let read = |path: PathBuf| toml::from_str::<Table>(&fs::read_to_string(path).ok()?).ok();
    files.filter_map(read).collect()
}

/// The place to add flags to; `None` if they cannot be added.
fn place_of_flags(configurations: &[Table], is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let build: Vec<&Value> = configurations
        .iter()
        .filter_map(|table| table.get("build")?.get("rustflags"))
        .collect();
    let targets = configurations
        .iter()
        .filter_map(|table| table.get("target")?.as_table())
        .flatten()
        .filter_map(|(name, table)| Some((name.as_str(), table.get("rustflags")?)));
    let (own, others): (Vec<_>, Vec<_>) = targets.partition(|(name, _)| *name == TARGET);
    // A condition such as `cfg(unix)` may hold for the target or not.
    let is_conditional = others.iter().any(|(name, _)| name.starts_with("cfg("));
    let has_build = !build.is_empty() || is_set(OF_BUILD.1);
    let has_own = !own.is_empty() || is_set(OF_TARGET.1);
    let (place, there): (_, Vec<&Value>) = match has_own || (is_conditional && !has_build) {
        true => (
            OF_TARGET.0,
            own.into_iter().map(|(_, flags)| flags).collect(),
        ),
        false => (OF_BUILD.0, build),
    };
    let are_lists = there.iter().all(|flags| flags.is_array());
    are_lists.then_some(place)
}

#[cfg(test)]
mod tests {
    //! Catches flags of a project that a build loses, and folders of a machine that stay in a component.

    use super::*;

    #[test]
    fn flags_are_added_where_the_project_has_its_own() {
        let check = |files: &[&str], variables: &[&str], expected: Option<&str>| {
            let files: Vec<Table> = files
                .iter()
                .map(|text| toml::from_str(text).unwrap())
                .collect();
            let place = place_of_flags(&files, |name| variables.contains(&name));
            assert_eq!(place, expected, "{files:?} {variables:?}");
        };
        let own = "[target.wasm32-wasip2]\nrustflags = [\"-C\", \"target-feature=+simd128\"]";
        let conditional = "[target.'cfg(unix)']\nrustflags = [\"--cfg\", \"a\"]";
        let build = "[build]\nrustflags = [\"--cfg\", \"b\"]";
        let (of_build, of_target) = (Some(OF_BUILD.0), Some(OF_TARGET.0));
        check(&[], &[], of_build);
        check(&["[net]\noffline = true"], &[], of_build);
        check(&["[target.wasm32-wasip2]\nrunner = \"a\""], &[], of_build);
        check(&[build], &[], of_build);
        check(&[own], &[], of_target);
        check(&[build, own], &[], of_target);
        check(&[conditional], &[], of_target);
        check(&[conditional, build], &[], of_build);
        check(&[conditional], &[OF_BUILD.1], of_build);
        check(&[build], &[OF_TARGET.1], of_target);
        check(&["[build]\nrustflags = \"--cfg b\""], &[], None);
        check(&["[build]\nrustflags = \"--cfg b\"", own], &[], of_target);
    }

    #[test]
    fn the_innermost_folder_is_replaced_last() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let folder = home.join("work/plugins/demo");
        fs::create_dir_all(&folder).unwrap();
        let link = home.join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        fs::write(home.join("work/Cargo.toml"), "[workspace]\n").unwrap();
        fs::write(folder.join("Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
        assert_eq!(root_of(&folder), home.join("work"));
        assert_eq!(root_of(&home), home);
        let found = replaced(&folder, Some(link.clone()), Path::new("/none"));
        let flags: Vec<_> = found.iter().filter_map(flag).collect();
        let flag = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        assert_eq!(flags[0], flag(&home.join("work"), "/plugin"));
        assert_eq!(flags[1], flag(&folder, "/cargo"));
        assert_eq!(flags[2], flag(&link, "/cargo"));
        assert!(flags[3].ends_with("=/target"), "{flags:?}");
    }

    #[test]
    fn arguments_are_a_list_of_texts() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path(), Path::new("/none"));
        // Flags of the user's own configuration may stand in the way.
        if let [option, setting] = arguments.as_slice() {
            assert_eq!(option, "--config");
            let table: Table = toml::from_str(setting).unwrap();
            assert_eq!(table.len(), 1, "{setting}");
            assert!(setting.contains("=/plugin\""), "{setting}");
        }
    }
}
