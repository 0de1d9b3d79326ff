//! One of the two compilers for plugins, with the pool for instances of its code.
//!
//! Optimising a component that contains an interpreter takes seconds. The quick compiler (Winch) needs one pass and a
//! quarter of the time, and its code runs at half to two thirds of the speed. Both enforce the same limits,
//! canonicalize NaNs and lay out memory alike, so a call returns the same bytes with either. wasmtime ties compiled
//! code to an engine, and an engine to one compiler, so there are two engines. `engine` decides which one to use.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    ProfilingStrategy, Strategy,
};

use super::limits::{Exceeded, Limits, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};
use super::samples::{FRAMES_MAX, Profiling};
use super::{
    CodeSettings, CompileElsewhere, CompileFault, CompileTask, ComponentFault, EngineSettings,
    GuestError,
};

/// Largest number of core instances of one component: languages with linked libraries have dozens.
const CORE_INSTANCES_MAX: u32 = 128;
/// Largest number of memories of one component.
const MEMORIES_MAX: u32 = 4;
/// Largest number of tables of one component.
const TABLES_MAX: u32 = 8;
/// Stack size of a guest, in bytes.
const STACK_BYTES: usize = 512 << 10;
/// Stack size of a guest with code of the quick compiler, in bytes. It keeps more in memory and less in registers, so a
/// call takes up to three times the stack, and recursion of the same depth must fit.
const QUICK_STACK_BYTES: usize = 3 * STACK_BYTES;
/// Bytes of a memory or table that stay resident in the pool when its instance is dropped: a new instance in its place
/// then causes no page faults, which would dominate the cost after a trap.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;

/// The kind of compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Compiles fast. It refuses some components that the other accepts.
    Quick,
    /// Generates fast code.
    Optimising,
}

/// A compiler with its settings and its pool.
#[derive(Clone)]
pub(super) struct Compiler {
    engine: Engine,
    tier: Tier,
    /// A hash of all settings that compiled code depends on.
    settings: u64,
    /// The settings for a compiler in another process; `None` if the code is only made in this one.
    code: Option<CodeSettings>,
}

impl Compiler {
    /// A compiler with a pool for this many live instances.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly, or lacks the address space.
    pub(super) fn new(
        tier: Tier,
        instances: u32,
        settings: &EngineSettings,
    ) -> Result<Self, GuestError> {
        let (strategy, stack_bytes) = match tier {
            Tier::Quick => (Strategy::Winch, QUICK_STACK_BYTES),
            Tier::Optimising => (Strategy::Cranelift, STACK_BYTES),
        };
        let mut config = Config::new();
        config
            .strategy(strategy)
            // No message shows the stack of a guest, and a plugin may trap often.
            .wasm_backtrace_max_frames(None)
            .concurrency_support(false)
            .cranelift_nan_canonicalization(true)
            .epoch_interruption(true)
            .consume_fuel(settings.fuel)
            .max_wasm_stack(stack_bytes)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
        if tier == Tier::Optimising {
            // The quick compiler refuses these instructions anyway.
            config.relaxed_simd_deterministic(true);
        }
        match settings.profiling {
            Profiling::Off => {}
            Profiling::Samples => {
                config.wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_MAX + 1));
            }
            Profiling::PerfMap => {
                config.profiler(ProfilingStrategy::PerfMap);
            }
        }
        let engine = Engine::new(&config).map_err(|error| GuestError::Engine {
            reason: format!("{error:#}"),
        })?;
        let code = CodeSettings {
            is_quick: tier == Tier::Quick,
            has_fuel: settings.fuel,
            is_sampled: settings.profiling == Profiling::Samples,
        };
        Ok(Self {
            // `perf` needs the code's addresses from the process that compiled it.
            code: Some(code).filter(|_| settings.profiling != Profiling::PerfMap),
            ..Self::of(engine, tier)
        })
    }

    pub(super) fn of(engine: Engine, tier: Tier) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            engine,
            tier,
            settings: hasher.finish(),
            code: None,
        }
    }

    pub(super) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn tier(&self) -> Tier {
        self.tier
    }

    /// Identifies its code among other settings, versions and kinds of processor.
    pub(super) fn settings(&self) -> u64 {
        self.settings
    }

    /// Compiles a component, in another process if there is one.
    ///
    /// # Errors
    /// When the component is invalid, with the reason. For the quick compiler, it may only lack a feature. When it takes
    /// more than the limits allow, in another process.
    pub(super) fn compile(
        &self,
        operator: &str,
        component: &[u8],
        limits: &Limits,
        elsewhere: Option<&dyn CompileElsewhere>,
    ) -> Result<Component, GuestError> {
        let not_a_component = |reason| GuestError::NotAComponent {
            operator: operator.to_owned(),
            reason,
        };
        match component {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
                return Err(not_a_component(ComponentFault::CoreModule));
            }
            [] => return Err(not_a_component(ComponentFault::Empty)),
            _ => return Err(not_a_component(ComponentFault::NoWebAssembly)),
        }
        let refused = |reason: String| match reason.contains("exceeds") {
            true => GuestError::TooLarge {
                operator: operator.to_owned(),
                reason,
            },
            false => not_a_component(ComponentFault::Invalid { reason }),
        };
        let (Some(elsewhere), Some(settings)) = (elsewhere, self.code) else {
            let compiled = Component::from_binary(&self.engine, component);
            return compiled.map_err(|error| refused(format!("{error:#}")));
        };
        let task = CompileTask {
            component,
            settings,
            limits: limits.compile(),
            cancellation: None,
        };
        match elsewhere.compile(task) {
            Ok(code) => self.load(operator, &code),
            Err(CompileFault::Refused(reason)) => Err(refused(reason)),
            Err(fault) => Err(not_compiled(operator, fault, limits)),
        }
    }

    /// Loads code that another process of this version has just compiled.
    fn load(&self, operator: &str, code: &[u8]) -> Result<Component, GuestError> {
        #[expect(
            unsafe_code,
            reason = "loading machine code cannot be made safe; our own process has just made it"
        )]
        // SAFETY: the bytes are in this process's memory, and come from `compile_to_code` in a process of this program,
        // by a pipe to which no other process has an end.
        let compiled = unsafe { Component::deserialize(&self.engine, code) };
        compiled.map_err(|error| {
            let (operator, reason) = (operator.to_owned(), format!("{error:#}"));
            // The pool of this engine is compared with the component only here.
            match reason.contains("exceeds") {
                true => GuestError::TooLarge { operator, reason },
                false => GuestError::NotCompiled { operator, reason },
            }
        })
    }
}

fn not_compiled(operator: &str, fault: CompileFault, limits: &Limits) -> GuestError {
    let operator = operator.to_owned();
    let exceeded = match fault {
        CompileFault::Time => Exceeded::CompileTime {
            allowed: limits.compile_time,
        },
        CompileFault::Memory => Exceeded::CompileMemory {
            allowed: limits.compile_memory_bytes,
        },
        CompileFault::Stopped => return GuestError::CompilerStopped { operator },
        CompileFault::Refused(reason) | CompileFault::Broken(reason) => {
            return GuestError::NotCompiled { operator, reason };
        }
    };
    GuestError::Limit {
        operator,
        call: "compile",
        exceeded,
    }
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let memory_bytes = usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .total_component_instances(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .total_core_instances(instances * CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .total_memories(instances * MEMORIES_MAX)
        .max_memory_size(memory_bytes)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .total_tables(instances * TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX);
    pool
}
