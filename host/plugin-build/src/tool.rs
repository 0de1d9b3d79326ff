//! Starts tools of other languages as if the user had started them in the folder, but without the command's secrets, and at
//! a date that is always the same.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::environment::withhold_secrets;

/// Many tools put this date into what they build, instead of the current one: see <https://reproducible-builds.org/specs/source-date-epoch/>.
const DATE_VARIABLE: &str = "SOURCE_DATE_EPOCH";
/// The first day of 1980. Some formats have no earlier one.
const DATE: &str = "315532800";

/// A tool that runs in the folder as if the user had started it there.
pub(super) fn tool(name: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder).stdin(Stdio::null());
    for (variable, _) in std::env::vars_os() {
        if is_of_an_outer_build(&variable) {
            command.env_remove(variable);
        }
    }
    withhold_secrets(&mut command);
    if std::env::var_os(DATE_VARIABLE).is_none() {
        command.env(DATE_VARIABLE, DATE);
    }
    command
}

/// Whether a variable is for another build than this one: set by an outer `cargo run` or `cargo test`, or flags and
/// wrappers for the host's compiler. A user's configuration of cargo is kept.
pub(super) fn is_of_an_outer_build(variable: &OsStr) -> bool {
    let Some(name) = variable.to_str() else {
        return false;
    };
    const NAMES: &[&str] = &[
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_BUILD_TARGET",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "DEBUG",
        "HOST",
        "MAKEFLAGS",
        "MFLAGS",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_PKG_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_BIN_EXE_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The tools, or `None` in tests on machines that lack them: prints which language is skipped, and fails where all
/// languages are required.
#[cfg(test)]
pub(super) fn or_skip(
    found: Result<super::Tools, super::PluginBuildError>,
) -> Option<super::Tools> {
    use std::io::Write as _;

    let missing = match found {
        Ok(tools) => return Some(tools),
        Err(missing) => missing.to_string(),
    };
    assert!(missing.contains("install"), "{missing}");
    let all = std::env::var_os("FLOODMARK_LANGUAGES").is_some_and(|which| which == "all");
    assert!(!all, "{missing}");
    // `eprintln` would be captured when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {missing}");
    None
}

#[cfg(test)]
mod tests {
    //! Catches a plugin that is built with the flags of an outer build.

    use super::*;

    #[test]
    fn only_what_an_outer_build_made_is_removed() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "OUT_DIR",
        ] {
            assert!(is_of_an_outer_build(OsStr::new(name)), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "RUSTUP_HOME",
        ] {
            assert!(!is_of_an_outer_build(OsStr::new(name)), "{name}");
        }
    }
}
