//! Errors of plugins, at load time and in calls.

use std::time::Duration;

use super::limits::Exceeded;
use super::output::BadOutput;
use super::plugin::DescriptionFault;
use floodmark_state::stream::MalformedColumn;

/// The reason why a plugin cannot be used, or cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The compiler could not be set up on this machine.
    #[error("cannot set up the WebAssembly engine: {reason}")]
    Engine {
        /// The error of wasmtime.
        reason: String,
    },
    /// The operator has a limit on fuel, but the engine does not count fuel.
    #[error(
        "cannot set up the WebAssembly engine: operator `{operator}` has `limits.fuel-per-call`, but this engine does not count fuel"
    )]
    NoFuel {
        /// The operator's name in the pipeline.
        operator: String,
    },
    /// The bytes are not a component.
    #[error(
        "operator `{operator}`: the plugin is not a WebAssembly component ({reason}); build it for `wasm32-wasip2`, or give the folder of its source as `plugin`"
    )]
    NotAComponent {
        /// The operator's name in the pipeline.
        operator: String,
        /// The kind of file, or the reason.
        reason: ComponentFault,
    },
    /// The component has more parts than an instance may have.
    #[error(
        "operator `{operator}`: the plugin does not fit into an instance ({reason}); make it smaller"
    )]
    TooLarge {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exceeded limit of wasmtime.
        reason: String,
    },
    /// The process that compiles the component ended without an answer.
    #[error("operator `{operator}`: the plugin cannot be compiled: {reason}")]
    NotCompiled {
        /// The operator's name in the pipeline.
        operator: String,
        /// How it ended.
        reason: String,
    },
    /// The job ended while the component was being compiled.
    #[error(
        "operator `{operator}`: the plugin was not compiled to the end, since the job has ended"
    )]
    CompilerStopped {
        /// The operator's name in the pipeline.
        operator: String,
    },
    /// The component does not export the contract.
    #[error(
        "operator `{operator}`: the plugin does not export `{wanted}`; export an operator with the floodmark SDK"
    )]
    NoContract {
        /// The operator's name in the pipeline.
        operator: String,
        /// The name of the missing export.
        wanted: &'static str,
    },
    /// The component exports another version of the contract.
    #[error(
        "operator `{operator}`: the plugin {does} `{found}`, and this floodmark runs `{wanted}`; rebuild it with the SDK of this version"
    )]
    OtherContract {
        /// The operator's name in the pipeline.
        operator: String,
        /// Whether it exports or imports it.
        does: &'static str,
        /// The version in the component.
        found: String,
        /// The version of this host.
        wanted: String,
    },
    /// The component has an import that plugins may not have.
    #[error(
        "operator `{operator}`: the plugin imports `{import}`: {why}; plugins may import `log`, `metrics` and `state` of `floodmark:engine`, and a closed WASI 0.2 without files, network or clock, and nothing else"
    )]
    UnknownImport {
        /// The operator's name in the pipeline.
        operator: String,
        /// The name of the import.
        import: String,
        /// The reason, and what to do.
        why: &'static str,
    },
    /// The exports or imports have other types than the contract.
    #[error(
        "operator `{operator}`: the plugin was built for a different form of the contract than this floodmark has: {reason}; rebuild it with the SDK of this version"
    )]
    OtherTypes {
        /// The operator's name in the pipeline.
        operator: String,
        /// The difference.
        reason: String,
    },
    /// The plugin's description of itself is invalid.
    #[error(
        "operator `{operator}`: the plugin's description is not usable: {reason}; correct the plugin"
    )]
    BadDescription {
        /// The operator's name in the pipeline.
        operator: String,
        /// What is invalid in it.
        reason: DescriptionFault,
    },
    /// The plugin refused its configuration.
    #[error(
        "operator `{operator}`: the plugin refused its configuration: {reason}; correct `operator.{operator}.config`"
    )]
    Open {
        /// The operator's name in the pipeline.
        operator: String,
        /// The plugin's message.
        reason: String,
    },
    /// The plugin reported a failure.
    #[error("operator `{operator}` failed in `process`: {reason}")]
    Failed {
        /// The operator's name in the pipeline.
        operator: String,
        /// The plugin's message.
        reason: String,
    },
    /// The guest crashed. The instance must not be used again.
    #[error("operator `{operator}` crashed in `{call}`: {reason}{}", said(.stderr))]
    Trapped {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The trap.
        reason: String,
        /// The end of its standard error, such as a panic message.
        stderr: String,
    },
    /// The guest exceeded a limit and was stopped. The instance must not be used again, and nothing of the call is
    /// applied.
    #[error("{}", exceeded.said_of(operator, call))]
    Limit {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The limit, and by how much.
        exceeded: Exceeded,
    },
    /// The calls of a task took too long after the job was asked to stop. That is no fault of the plugin. The call was
    /// interrupted, and the instance must not be used again; or it was not begun. Nothing of it is applied.
    #[error(
        "operator `{operator}` was interrupted in `{call}`, since its calls took more than {after:?} in all while the job stops; `limits.stop-grace` gives them more time"
    )]
    Interrupted {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The time that all calls had.
        after: Duration,
    },
    /// The state could not be read during a call. Nothing of the call is applied.
    #[error("the state of operator `{operator}` could not be read for its plugin: {reason}")]
    StateUnreadable {
        /// The operator's name in the pipeline.
        operator: String,
        /// The error of the state that was lent to the guest.
        reason: String,
    },
    /// The plugin cannot migrate values, or cannot convert them to JSON or back.
    #[error("operator `{operator}` returned an error from `{call}`: {reason}")]
    Values {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The plugin's message.
        reason: String,
    },
    /// The guest broke the contract in a call that changes nothing.
    #[error(
        "operator `{operator}` broke the contract in what it returned from `{call}`: {reason}; correct the plugin"
    )]
    BadAnswer {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The broken rule.
        reason: AnswerFault,
    },
    /// The guest broke the contract. Nothing of the call is applied.
    #[error(
        "operator `{operator}` broke the contract in what it returned from `process`: {reason}; correct the plugin"
    )]
    BadOutput {
        /// The operator's name in the pipeline.
        operator: String,
        /// The broken rule.
        reason: BadOutput,
    },
}

impl GuestError {
    /// Whether it occurred in a call of a running job, and not when the plugin was loaded or opened.
    #[must_use]
    pub fn is_of_a_call(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::BadOutput { .. } | Self::StateUnreadable { .. } => true,
            Self::Trapped { call, .. } | Self::Limit { call, .. } => {
                ["process", "completed", "aborted"].contains(call)
            }
            _ => false,
        }
    }

    /// Whether a stop of the job has ended the call, so that no record and no plugin is to blame.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Interrupted { .. })
    }

    /// Whether the instance must not be used again. After a failure that the plugin itself reported, it still can be.
    #[must_use]
    pub fn spoils_instance(&self) -> bool {
        !matches!(self, Self::Failed { .. } | Self::Values { .. })
    }
}

/// The reason why bytes are not a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentFault {
    /// They are WebAssembly without the types of a component.
    #[error("it is a core module")]
    CoreModule,
    /// There are none.
    #[error("the file is empty")]
    Empty,
    /// They are not WebAssembly.
    #[error("it does not begin with the magic number of WebAssembly")]
    NoWebAssembly,
    /// They begin like a component, but are not a valid one.
    #[error("{reason}")]
    Invalid {
        /// The error of wasmtime.
        reason: String,
    },
}

/// A violation of the contract in the answer to a call that changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// A text is not JSON.
    #[error("a text is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A column is malformed.
    #[error(transparent)]
    Column(#[from] MalformedColumn),
    /// There is not one item for each that was handed over.
    #[error("{items} items for {expected}")]
    Count {
        /// Number of items.
        items: usize,
        /// Number of items that were handed over.
        expected: usize,
    },
}

fn said(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() {
        return String::new();
    }
    format!("; it said:\n  {}", text.replace('\n', "\n  "))
}
