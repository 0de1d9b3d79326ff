//! The compiler and its settings, one for all plugins of a process, and the pool that their instances live in.
//!
//! The pool reserves address space for each memory that an instance may have, so how many instances fit is settled when
//! the engine is made. Nothing here ticks by itself: whoever owns the engine calls [`GuestEngine::tick`].

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ProfilingStrategy,
};

use super::compiled::CompiledCache;
use super::limits::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};
use super::plugin::check_fuel;
use super::samples::{self, FRAMES_MAX, Profiling, Samples};
use super::share::Shares;
use super::{GuestClock, GuestError, Limits, Plugin};
use crate::checkpoint::PluginDigest;

/// Live instances of a process at most: four memories of 4 GiB each make 32 TiB of address space.
const POOL_INSTANCES_MAX: u32 = 2048;
/// Live instances that there is always room for.
const POOL_INSTANCES_MIN: u32 = 64;
/// Core instances of one component: languages with linked libraries have dozens.
const CORE_INSTANCES_MAX: u32 = 128;
/// Memories of one component.
const MEMORIES_MAX: u32 = 4;
/// Tables of one component.
const TABLES_MAX: u32 = 8;
/// Stack of a guest.
const STACK_BYTES: usize = 512 << 10;

/// What an engine is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Where compiled code is kept, if anywhere.
    pub cache_dir: Option<PathBuf>,
    /// Whether fuel is counted, so that [`Limits::fuel_per_call`] may be set. It costs time in each call.
    pub fuel: bool,
    /// How it helps to find where time goes.
    pub profiling: Profiling,
    /// Operators of the job.
    pub operators: u32,
    /// Tasks of an operator at most. A swap may have as many instances again.
    pub tasks: u32,
    /// Instances beyond those, over all operators.
    pub spares: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            fuel: false,
            profiling: Profiling::Off,
            operators: 8,
            tasks: 16,
            spares: 256,
        }
    }
}

impl EngineSettings {
    /// How many instances the pool of such an engine has room for.
    fn instances(&self) -> u32 {
        let working = self.operators.saturating_mul(self.tasks);
        let wanted = working.saturating_mul(2).saturating_add(self.spares);
        wanted.clamp(POOL_INSTANCES_MIN, POOL_INSTANCES_MAX)
    }
}

/// What of a memory or table stays with the pool when its instance is dropped: a fresh instance in its place then costs no page
/// faults, of which there would be more than of anything else after a trap.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;

/// Compiles plugins.
#[derive(Clone)]
pub struct GuestEngine {
    engine: Engine,
    cache: Option<CompiledCache>,
    has_fuel: bool,
    instances: u32,
    shares: Arc<Shares>,
    clock: Option<GuestClock>,
    samples: Option<Arc<Samples>>,
}

impl GuestEngine {
    /// An engine of the default size that keeps compiled code in `cache_dir`, if there is one.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly.
    pub fn new(cache_dir: Option<PathBuf>) -> Result<Self, GuestError> {
        Self::with(EngineSettings {
            cache_dir,
            ..EngineSettings::default()
        })
    }

    /// An engine that is made for this.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly, or has not the address space.
    pub fn with(settings: EngineSettings) -> Result<Self, GuestError> {
        let instances = settings.instances();
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
        let mut config = Config::new();
        config
            // Nobody looks at the stack of a guest, and a plugin may trap often.
            .wasm_backtrace_max_frames(None)
            .concurrency_support(false)
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true)
            .epoch_interruption(true)
            .consume_fuel(settings.fuel)
            .max_wasm_stack(STACK_BYTES)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
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
        let cache = settings
            .cache_dir
            .map(|dir| CompiledCache::new(dir, &engine));
        Ok(Self {
            engine,
            cache,
            has_fuel: settings.fuel,
            instances,
            shares: Arc::new(Shares::new(settings.tasks)),
            clock: None,
            samples: samples::shared(settings.profiling),
        })
    }

    /// The same engine, whose instances measure where the time of their calls goes, by this clock. Without one they do not.
    #[must_use]
    pub fn measured_by(mut self, clock: GuestClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The same engine, which keeps compiled code in this folder, if there is one.
    #[must_use]
    pub fn keeping(mut self, cache_dir: Option<PathBuf>) -> Self {
        self.cache = cache_dir.map(|dir| CompiledCache::new(dir, &self.engine));
        self
    }

    /// Lets [`TICK`](super::TICK) go by for all calls of all instances. Cheap, and may be called from any thread.
    pub fn tick(&self) {
        self.shares.tick();
        self.engine.increment_epoch();
    }

    /// Has guests that are being called note what they are doing, in an engine that samples. Cheap, and may be called from any
    /// thread.
    pub fn sample(&self) {
        self.engine.increment_epoch();
    }

    /// The samples of an engine that samples.
    #[must_use]
    pub fn samples(&self) -> Option<&Arc<Samples>> {
        self.samples.as_ref()
    }

    /// Whether compiled code of a component seems to be there, so that loading it will not take long. Nothing is checked.
    #[must_use]
    pub fn has_compiled(&self, component: &[u8]) -> bool {
        let digest = Plugin::digest_of(component);
        let cache = self.cache.as_ref();
        cache.is_some_and(|cache| cache.has(digest))
    }

    /// How many live instances there is room for, over all plugins.
    #[must_use]
    pub fn instances_max(&self) -> u32 {
        self.instances
    }

    /// As [`GuestEngine::load_within`], with the default limits.
    ///
    /// # Errors
    /// Says what is wrong with the component.
    pub fn load(&self, operator: &str, component: &[u8]) -> Result<Plugin, GuestError> {
        self.load_within(operator, component, Limits::default())
    }

    /// Compiles a component, or takes what was compiled before, and checks that it is a plugin. `operator` names the node
    /// in errors. All its instances have these limits, also the one that is asked what it is.
    ///
    /// # Errors
    /// Says what is wrong with the component.
    pub fn load_within(
        &self,
        operator: &str,
        component: &[u8],
        limits: Limits,
    ) -> Result<Plugin, GuestError> {
        check_fuel(operator, limits, self.has_fuel)?;
        let digest = Plugin::digest_of(component);
        let compiled = match self
            .cache
            .as_ref()
            .and_then(|cache| cache.load(&self.engine, digest))
        {
            Some(compiled) => compiled,
            None => self.compile(operator, component, digest)?,
        };
        Plugin::check(self, operator, (digest, component), compiled, limits)
    }

    pub(super) fn wasmtime(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    pub(super) fn clock(&self) -> Option<GuestClock> {
        self.clock.clone()
    }

    pub(super) fn has_fuel(&self) -> bool {
        self.has_fuel
    }

    fn compile(
        &self,
        operator: &str,
        component: &[u8],
        digest: PluginDigest,
    ) -> Result<Component, GuestError> {
        let not_a_component = |reason: String| GuestError::NotAComponent {
            operator: operator.to_owned(),
            reason,
        };
        match component {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
                return Err(not_a_component("it is a core module".to_owned()));
            }
            [] => return Err(not_a_component("the file is empty".to_owned())),
            _ => {
                return Err(not_a_component(
                    "it does not begin as WebAssembly does".to_owned(),
                ));
            }
        }
        let compiled = Component::from_binary(&self.engine, component).map_err(|error| {
            let reason = format!("{error:#}");
            match reason.contains("exceeds") {
                true => GuestError::TooLarge {
                    operator: operator.to_owned(),
                    reason,
                },
                false => not_a_component(reason),
            }
        })?;
        if let Some(cache) = &self.cache {
            cache.store(&compiled, digest);
        }
        Ok(compiled)
    }
}
