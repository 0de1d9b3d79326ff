//! Compiling in another process: what it is asked for, and how it may fail.
//!
//! A component of a few KiB decides how much time and memory the compiler takes, and a thread that compiles cannot be
//! ended. A process can: the system enforces its limits, and it is killed when the job stops, or when the caller cancels
//! it. This module is the face of such a process for the engine; `edge` starts it. An engine without one compiles in its own
//! process, without limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::compiler::{Compiler, Tier};
use super::samples::Profiling;
use super::{EngineSettings, GuestError};

/// The settings that compiled code depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodeSettings {
    /// Whether the quick compiler compiles.
    pub is_quick: bool,
    /// Whether fuel is counted.
    pub has_fuel: bool,
    /// Whether guests are sampled.
    pub is_sampled: bool,
}

/// What one compilation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Time by the clock, and time of the processor over all threads.
    pub time: Duration,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Cancels what a caller has asked for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Cancels it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A component to compile.
#[derive(Debug, Clone, Copy)]
pub struct CompileTask<'a> {
    /// The component.
    pub component: &'a [u8],
    /// The settings of the code.
    pub settings: CodeSettings,
    /// What it may take.
    pub limits: CompileLimits,
    /// Ends it, if the caller can cancel it.
    pub cancellation: Option<&'a Cancellation>,
}

/// The reason why there is no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompileFault {
    /// The compiler refuses the component, with this reason.
    Refused(String),
    /// It took too much time.
    Time,
    /// It took too much memory.
    Memory,
    /// The engine was told to stop compiling, or the caller has cancelled it.
    Stopped,
    /// The process could not be started, or ended without an answer.
    Broken(String),
}

/// Compiles in processes of their own.
pub trait CompileElsewhere: Send + Sync {
    /// Compiles a component to code that [`GuestEngine`](super::GuestEngine) loads. The code is trusted: it must come from
    /// [`compile_to_code`] of this version.
    ///
    /// # Errors
    /// When there is no code, with the reason.
    fn compile(&self, task: CompileTask<'_>) -> Result<Vec<u8>, CompileFault>;

    /// Ends what is being compiled, and refuses what comes later.
    fn stop(&self);
}

/// A compiler whose work one caller can cancel.
struct CancellableCompiler {
    inner: Arc<dyn CompileElsewhere>,
    cancellation: Cancellation,
}

impl CompileElsewhere for CancellableCompiler {
    fn compile(&self, task: CompileTask<'_>) -> Result<Vec<u8>, CompileFault> {
        self.inner.compile(CompileTask {
            cancellation: Some(&self.cancellation),
            ..task
        })
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

/// The same compiler, whose work this cancels.
pub(super) fn cancellable(
    inner: Arc<dyn CompileElsewhere>,
    cancellation: &Cancellation,
) -> Arc<dyn CompileElsewhere> {
    Arc::new(CancellableCompiler {
        inner,
        cancellation: cancellation.clone(),
    })
}

/// Compiles a component to code for an engine with these settings: the work of the other process.
///
/// # Errors
/// When the component is invalid, or the machine cannot run the compiler: the reason.
pub fn compile_to_code(settings: CodeSettings, component: &[u8]) -> Result<Vec<u8>, String> {
    let engine = EngineSettings {
        fuel: settings.has_fuel,
        profiling: match settings.is_sampled {
            true => Profiling::Samples,
            false => Profiling::Off,
        },
        ..EngineSettings::default()
    };
    let tier = match settings.is_quick {
        true => Tier::Quick,
        false => Tier::Optimising,
    };
    // Nothing is instantiated, so the smallest pool is enough.
    let compiler = Compiler::new(tier, 1, &engine).map_err(|error| error.to_string())?;
    let code = compiler.wasmtime().precompile_component(component);
    code.map_err(|error| format!("{error:#}"))
}

impl GuestError {
    /// Whether another compiler would end in the same way, so that it need not be tried.
    pub(super) fn ends_compiling(&self) -> bool {
        matches!(
            self,
            Self::Limit { .. } | Self::CompilerStopped { .. } | Self::NotCompiled { .. }
        )
    }
}
