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
        "plugins have no network, since the answer of a server cannot be replayed; feed the data in as records of another input",
    ),
    (
        "wasi:tls/",
        "plugins have no network, since the answer of a server cannot be replayed; feed the data in as records of another input",
    ),
    (
        "wasi:messaging/",
        "plugins have no network; send data as records of an output, and receive data as records of an input",
    ),
    (
        "wasi:keyvalue/",
        "an external store does not go back to a checkpoint with the job; keep the data in a state of the operator",
    ),
    (
        "wasi:blobstore/",
        "an external store does not go back to a checkpoint with the job; keep the data in a state of the operator",
    ),
    (
        "wasi:sql/",
        "an external store does not go back to a checkpoint with the job; keep the data in a state of the operator",
    ),
    (
        "wasi:config/",
        "options are passed to `open`, from `operator.NAME.config` of the pipeline",
    ),
    (
        "wasi:runtime-config/",
        "options are passed to `open`, from `operator.NAME.config` of the pipeline",
    ),
    (
        "wasi:logging/",
        "write log lines with `floodmark:engine/log`",
    ),
    (
        "wasi:observe/",
        "report numbers with `floodmark:engine/metrics`, and lines with `floodmark:engine/log`",
    ),
    (
        "wasi:otel/",
        "report numbers with `floodmark:engine/metrics`, and lines with `floodmark:engine/log`",
    ),
    (
        "wasi:nn/",
        "plugins compute with WebAssembly alone, so that every machine gives the same results",
    ),
    (
        "wasi:webgpu/",
        "plugins compute with WebAssembly alone, so that every machine gives the same results",
    ),
    (
        "wasi:",
        "it is not part of the closed WASI; build the plugin without the code that uses it",
    ),
    (
        PACKAGE,
        "the contract of this floodmark has no such interface; rebuild it with the SDK of this version",
    ),
];

const NOT_OURS: &str =
    "it is part of neither the contract nor WASI; build the plugin without the code that uses it";
const OTHER_WASI: &str = "it is of a WASI version other than 0.2; build the plugin for WASI 0.2, in Rust for `wasm32-wasip2`";

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
        check(
            "wasi:cli/environment",
            Some("a WASI version other than 0.2"),
        );
        check(
            "wasi:http/outgoing-handler@0.2.6",
            Some("as records of another input; plugins may import `log`"),
        );
        check("wasi:http/types@0.2.6", Some("plugins have no network"));
        check(
            "wasi:keyvalue/store@0.2.0-draft",
            Some("keep the data in a state of the operator"),
        );
        check(
            "wasi:config/store@0.2.0-rc.1",
            Some("`operator.NAME.config`"),
        );
        check("wasi:logging/logging", Some("`floodmark:engine/log`"));
        check(
            "wasi:tuesday/noon@0.2.0",
            Some("not part of the closed WASI"),
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
            Some("part of neither the contract nor WASI"),
        );
        check("log", Some("part of neither the contract nor WASI"));
        check("wasi-http", Some("part of neither the contract nor WASI"));
    }
}
