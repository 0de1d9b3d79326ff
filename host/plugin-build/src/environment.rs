//! Keeps tokens and cloud keys of the command from the programs that it starts: build tools, which run code of plugin folders and of
//! their dependencies, and hooks of pipelines.
//!
//! A name in `FLOODMARK_PASS_ENV` is passed on all the same. Everything else in the environment is passed as it is. This is no
//! sandbox: such a program runs with the user's rights, and can read the user's files.

use std::ffi::OsStr;
use std::process::Command;

/// The variable with the names that are passed on, separated by commas.
pub const PASS_VARIABLE: &str = "FLOODMARK_PASS_ENV";

/// Variables that are kept back.
const NAMES: [&str; 1] = ["FLOODMARK_TOKEN"];
/// Beginnings of variables that are kept back: the storage of checkpoints reads such, and so do the tools of the clouds.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Removes the variables from the environment of a command that is not started yet.
pub fn withhold_secrets(command: &mut Command) {
    let passed = std::env::var_os(PASS_VARIABLE).unwrap_or_default();
    let passed = passed.to_string_lossy();
    for (variable, _) in std::env::vars_os() {
        if is_withheld(&variable, &passed) {
            command.env_remove(variable);
        }
    }
}

fn is_withheld(variable: &OsStr, passed: &str) -> bool {
    let name = variable.to_string_lossy();
    let name: &str = &name;
    let is_secret = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_secret && !passed.split(',').any(|asked| asked.trim() == name)
}

#[cfg(test)]
mod tests {
    //! Catches a secret that is passed on, and a variable that a tool needs and does not get.

    use super::*;

    #[test]
    fn secrets_are_withheld_unless_they_are_asked_for() {
        let check = |name: &str, passed: &str, expected: bool| {
            let is = is_withheld(OsStr::new(name), passed);
            assert_eq!(is, expected, "{name}, passed `{passed}`");
        };
        for name in [
            "FLOODMARK_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "AZURE_STORAGE_ACCOUNT_KEY",
        ] {
            check(name, "", true);
            check(name, "PATH,AWS_,FLOODMARK", true);
            check(name, name, false);
            check(name, &format!("PATH, {name}"), false);
        }
        for name in ["PATH", "HOME", "FLOODMARK_CACHE_DIR", "AWSOME", "GOPROXY"] {
            check(name, "", false);
        }
    }
}
