//! Checks the imports of a plugin, and explains refusals.
//!
//! Only the contract's interfaces and the closed WASI are allowed. For any other import, the refusal says why it is not
//! available and what to use instead: most come from a library that the plugin's author did not choose for this import.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::{GuestError, closed_wasi};

/// The package of the contract.
const PACKAGE: &str = "floodmark:engine/";
const VERSION: &str = "@0.1.0";
/// The interfaces of the contract that plugins may import.
const INTERFACES: [&str; 4] = ["log", "metrics", "state", "types"];

/// Prefixes of imports that are not available, with reasons; the first match counts.
const REASONS: [(&str, &str); 15] = [
    (
        "wasi:http/",
        "plugins have no network, since an answer of today cannot be replayed tomorrow; bring what it would fetch as records of another input",
    ),
    (
        "wasi:tls/",
        "plugins have no network, since an answer of today cannot be replayed tomorrow; bring what it would fetch as records of another input",
    ),
    (
        "wasi:messaging/",
        "plugins have no network; what it wants to send leaves as records by an output, and what it wants to hear comes by an input",
    ),
    (
        "wasi:keyvalue/",
        "what a store outside keeps does not go back with a checkpoint; keep it in a state of the operator",
    ),
    (
        "wasi:blobstore/",
        "what a store outside keeps does not go back with a checkpoint; keep it in a state of the operator",
    ),
    (
        "wasi:sql/",
        "what a store outside keeps does not go back with a checkpoint; keep it in a state of the operator",
    ),
    (
        "wasi:config/",
        "options come with `open`, from `operator.NAME.config` of the pipeline",
    ),
    (
        "wasi:runtime-config/",
        "options come with `open`, from `operator.NAME.config` of the pipeline",
    ),
    (
        "wasi:logging/",
        "lines for the log go to `floodmark:engine/log`",
    ),
    (
        "wasi:observe/",
        "numbers go to `floodmark:engine/metrics`, lines to `floodmark:engine/log`",
    ),
    (
        "wasi:otel/",
        "numbers go to `floodmark:engine/metrics`, lines to `floodmark:engine/log`",
    ),
    (
        "wasi:nn/",
        "plugins compute with what WebAssembly has, so that every machine gives the same results",
    ),
    (
        "wasi:webgpu/",
        "plugins compute with what WebAssembly has, so that every machine gives the same results",
    ),
    (
        "wasi:",
        "it is no part of the closed WASI; build the plugin without what uses it",
    ),
    (
        PACKAGE,
        "the contract of this floodmark has no such interface; rebuild it with the SDK of this version",
    ),
];

const NOT_OURS: &str =
    "it is neither of the contract nor of WASI; build the plugin without what uses it";
const OTHER_WASI: &str =
    "it is of another WASI than 0.2; build the plugin for WASI 0.2, in Rust for `wasm32-wasip2`";

/// Refuses a component with an import that is not available.
pub(super) fn check(
    engine: &Engine,
    operator: &str,
    compiled: &Component,
) -> Result<(), GuestError> {
    for (import, _) in compiled.component_type().imports(engine) {
        check_import(operator, import)?;
    }
    Ok(())
}

fn check_import(operator: &str, import: &str) -> Result<(), GuestError> {
    let refused = |why| GuestError::UnknownImport {
        operator: operator.to_owned(),
        import: import.to_owned(),
        why,
    };
    if closed_wasi::knows(import) {
        let (_, version) = import.split_once('@').unwrap_or((import, ""));
        return match version.starts_with("0.2.") {
            true => Ok(()),
            false => Err(refused(OTHER_WASI)),
        };
    }
    if let Some(of_ours) = import.strip_prefix(PACKAGE) {
        let (interface, version) = of_ours.split_at(of_ours.find('@').unwrap_or(of_ours.len()));
        if INTERFACES.contains(&interface) {
            return match version == VERSION {
                true => Ok(()),
                false => Err(GuestError::OtherContract {
                    operator: operator.to_owned(),
                    does: "imports",
                    found: import.to_owned(),
                    wanted: format!("{PACKAGE}{interface}{VERSION}"),
                }),
            };
        }
    }
    let reason = REASONS.iter().find(|(begin, _)| import.starts_with(begin));
    Err(refused(reason.map_or(NOT_OURS, |(_, why)| why)))
}

#[cfg(test)]
mod tests {
    //! Catches a forbidden import that is accepted, and a refusal without advice.

    use super::*;

    #[track_caller]
    fn check(import: &str, says: Option<&str>) {
        let said = check_import("enrich", import)
            .err()
            .map(|error| error.to_string());
        let fits = match (&said, says) {
            (Some(said), Some(words)) => said.contains(words) && said.contains(import),
            (None, None) => true,
            _ => false,
        };
        assert!(fits, "{import}: {said:?}");
    }

    #[test]
    fn a_plugin_gets_the_contract_and_a_closed_wasi() {
        check("floodmark:engine/metrics@0.1.0", None);
        check("wasi:cli/environment@0.2.6", None);
        check("wasi:sockets/tcp@0.2.0", None);
        check(
            "wasi:cli/environment@0.3.0",
            Some("for WASI 0.2, in Rust for `wasm32-wasip2`"),
        );
        check("wasi:cli/environment", Some("another WASI than 0.2"));
        check(
            "wasi:http/outgoing-handler@0.2.6",
            Some("as records of another input; plugins may import `log`"),
        );
        check("wasi:http/types@0.2.6", Some("plugins have no network"));
        check(
            "wasi:keyvalue/store@0.2.0-draft",
            Some("keep it in a state of the operator"),
        );
        check(
            "wasi:config/store@0.2.0-rc.1",
            Some("`operator.NAME.config`"),
        );
        check("wasi:logging/logging", Some("`floodmark:engine/log`"));
        check(
            "wasi:tuesday/noon@0.2.0",
            Some("no part of the closed WASI"),
        );
        check(
            "floodmark:engine/timers@0.1.0",
            Some("this floodmark has no such interface"),
        );
        check(
            "floodmark:engine/state@0.2.0",
            Some(
                "imports `floodmark:engine/state@0.2.0`, and this floodmark runs `floodmark:engine/state@0.1.0`; rebuild it",
            ),
        );
        check(
            "floodmark:engine/statement@0.1.0",
            Some("no such interface"),
        );
        check(
            "acme:secrets/keys@1.0.0",
            Some("neither of the contract nor of WASI"),
        );
        check("log", Some("neither of the contract nor of WASI"));
        check("wasi-http", Some("neither of the contract nor of WASI"));
    }
}
