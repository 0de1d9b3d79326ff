//! Plugins and their instances. No other module uses wasmtime.
//!
//! A [`GuestEngine`] compiles components, quickly at first if they are large, and stores the code; a [`Plugin`] is a
//! checked component, so starting it cannot fail because of a missing import or export; an [`Instance`] is a live guest
//! with memory of its own. `output` checks everything that a guest returns before any other module sees it. This module
//! is independent of workers and checkpoints.

pub mod engine;
pub mod plugin;

pub mod instance;
pub mod limits;
pub mod output;

pub mod access;

mod values;

mod bindings;
mod call;
mod closed_wasi;
mod compiled;
mod compiler;
mod counted;
mod deadline;
mod elsewhere;
mod error;
mod exports;
mod guest_state;
mod imports;
mod reported;
mod returned;
mod samples;
mod share;
mod tiers;
mod times;

pub use access::{ListPage, MapPage, PageLimits, StateAccess, SubKeyRange};
pub use compiled::prepare_cache;
pub(crate) use counted::{KEYS_FEWER, bytes_of};
pub use deadline::Haste;
pub use elsewhere::{
    Cancellation, CodeSettings, CompileElsewhere, CompileFault, CompileLimits, CompileTask,
    compile_to_code,
};
pub use engine::{EngineSettings, GuestEngine, Optimise};
pub use error::{AnswerFault, ComponentFault, GuestError};
pub use guest_state::{LogLevel, LogLine};
pub use instance::Instance;
pub use limits::{Exceeded, Limits, TICK};
pub use output::{
    CallOutput, Emission, EmittedKeys, ListWrites, MapWrites, Rejection, ValueWrites,
};
pub use plugin::{Description, DescriptionFault, Plugin, StateDeclaration, UnreadColumns};
pub use reported::Reported;
pub use samples::{Profiling, SAMPLE, SampledStack, Samples};
pub use tiers::{Code, Unoptimised};
pub use times::{CallTimes, GuestClock};
pub use values::StatePart;
