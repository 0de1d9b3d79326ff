//! Helps commands that build plugins outside of a pipeline: a signal ends their build tools with them, and messages name the plugin
//! by its place.

use std::path::Path;

use super::CommandError;
use super::escape::one_line;
use floodmark_engine::edge::signals::{StartStage, end_with_descendants};

/// The name of an operator that no pipeline names. Messages replace it.
pub(super) const UNNAMED: &str = "plugin";

/// Runs a command that Ctrl-C, SIGTERM and SIGHUP end, and the build tools with it.
pub(super) fn ending_tools(
    command: impl FnOnce() -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let stage = StartStage::default();
    // If the system refuses, a signal ends this process alone.
    let _ = end_with_descendants(&stage);
    let done = command();
    if done.is_err() {
        stage.wait_if_told();
    }
    done
}

/// A message about the operator [`UNNAMED`], with the place of its plugin instead.
pub(super) fn placed(message: &str, plugin: &Path) -> String {
    let operator = format!("operator `{UNNAMED}`");
    let place = format!("the plugin `{}`", one_line(&plugin.display().to_string()));
    message
        .replace(&format!("{operator}: the plugin "), &format!("{place} "))
        .replace(&operator, &place)
}

#[cfg(test)]
mod tests {
    //! Catches a message that names an operator of which its reader knows nothing.

    use super::*;

    #[test]
    fn messages_name_the_place_of_the_plugin() {
        for (message, expected) in [
            (
                "operator `plugin`: the plugin does not export `a`",
                "the plugin `./x` does not export `a`",
            ),
            (
                "operator `plugin` crashed in `describe`: b",
                "the plugin `./x` crashed in `describe`: b",
            ),
            ("no operator", "no operator"),
        ] {
            assert_eq!(placed(message, Path::new("./x")), expected);
        }
    }
}
