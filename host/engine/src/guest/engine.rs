//! Compiles all plugins of a process and caches their code; chooses one of two compilers for each component.
//!
//! A pool reserves address space for each memory that an instance may have, so the number of instances is fixed when
//! the engine is created. The quick compiler has a pool of the same size, which is created for the first component that
//! uses it; if the machine does not grant the address space, all components are optimised at once. The engine does not
//! tick by itself: its owner calls [`GuestEngine::tick`], which advances both compilers' engines.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;

use super::compiled::CompiledCache;
use super::compiler::{Compiler, Tier};
use super::elsewhere::cancellable;
use super::plugin::check_fuel;
use super::samples::{self, Profiling, Samples};
use super::share::Shares;
use super::tiers::Unoptimised;
use super::{Cancellation, CompileElsewhere, GuestClock, GuestError, Haste, Limits, Plugin};
use floodmark_checkpoint::PluginDigest;

/// Largest number of live instances in a process: four memories of 4 GiB each make 32 TiB of address space.
const POOL_INSTANCES_MAX: u32 = 2048;
/// Number of live instances that always fit.
const POOL_INSTANCES_MIN: u32 = 64;
/// Components of this size or more take too long to optimise before the start: more than about half a second.
const QUICK_BYTES_MIN: usize = 512 << 10;

/// Settings of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// The folder for compiled code; `None` stores none.
    pub cache_dir: Option<PathBuf>,
    /// Whether fuel is counted, so that [`Limits::fuel_per_call`] may be set. It makes each call slower.
    pub fuel: bool,
    /// The kind of profiling.
    pub profiling: Profiling,
    /// Number of operators of the job.
    pub operators: u32,
    /// Largest number of tasks of an operator. A swap may use the same number of instances again.
    pub tasks: u32,
    /// Number of instances beyond those, over all operators.
    pub spares: u32,
    /// Components of this many bytes or more start with code of the quick compiler, if the engine has an optimiser.
    pub quick_bytes_min: usize,
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
            quick_bytes_min: QUICK_BYTES_MIN,
        }
    }
}

impl EngineSettings {
    /// Number of instances in the pool of such an engine.
    fn instances(&self) -> u32 {
        let working = self.operators.saturating_mul(self.tasks);
        let wanted = working.saturating_mul(2).saturating_add(self.spares);
        wanted.clamp(POOL_INSTANCES_MIN, POOL_INSTANCES_MAX)
    }
}

/// Receives plugins to optimise. It must return at once.
pub type Optimise = Arc<dyn Fn(Unoptimised) + Send + Sync>;

/// Compiles plugins.
#[derive(Clone)]
pub struct GuestEngine {
    optimising: Compiler,
    /// Shared by all clones; contains `None` if the machine cannot provide it.
    quick: Arc<OnceLock<Option<Compiler>>>,
    quick_bytes_min: usize,
    optimise: Option<Optimise>,
    cache: Option<CompiledCache>,
    has_fuel: bool,
    profiling: Profiling,
    instances: u32,
    shares: Arc<Shares>,
    clock: Option<GuestClock>,
    samples: Option<Arc<Samples>>,
    /// Compiles in another process, if there is one.
    elsewhere: Option<Arc<dyn CompileElsewhere>>,
}

impl GuestEngine {
    /// An engine of the default size that stores compiled code in `cache_dir`, if given.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly.
    pub fn new(cache_dir: Option<PathBuf>) -> Result<Self, GuestError> {
        Self::with(EngineSettings {
            cache_dir,
            ..EngineSettings::default()
        })
    }

    /// An engine with these settings.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly, or lacks the address space.
    pub fn with(settings: EngineSettings) -> Result<Self, GuestError> {
        let instances = settings.instances();
        Ok(Self {
            optimising: Compiler::new(Tier::Optimising, instances, &settings)?,
            quick: Arc::default(),
            quick_bytes_min: settings.quick_bytes_min,
            optimise: None,
            has_fuel: settings.fuel,
            profiling: settings.profiling,
            instances,
            shares: Arc::new(Shares::new(settings.tasks)),
            clock: None,
            samples: samples::shared(settings.profiling),
            cache: settings.cache_dir.map(CompiledCache::new),
            elsewhere: None,
        })
    }

    /// Compiles in processes of their own, so that [`Limits::compile_time`] and [`Limits::compile_memory_bytes`] hold.
    #[must_use]
    pub fn compiled_by(mut self, elsewhere: Arc<dyn CompileElsewhere>) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// A clone of this engine. This cancels what the clone compiles in other processes, and what the optimiser compiles for
    /// plugins that it has loaded.
    #[must_use]
    pub fn cancelled_by(&self, cancellation: &Cancellation) -> Self {
        let elsewhere = self.elsewhere.clone();
        Self {
            elsewhere: elsewhere.map(|inner| cancellable(inner, cancellation)),
            ..self.clone()
        }
    }

    /// Ends what is being compiled in other processes, for all clones of this engine, which then compile nothing more.
    pub fn stop_compiling(&self) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.stop();
        }
    }

    /// Lets all calls of a task together have only [`Limits::stop_grace`] from when `haste` begins, for the plugins of this
    /// engine and its clones. An engine is of one job: only the first call of this counts.
    pub fn hasten_with(&self, haste: &Haste) {
        self.shares.hasten_with(haste);
    }

    /// Measures the time of calls by this clock. Without a clock, instances measure nothing.
    #[must_use]
    pub fn measured_by(mut self, clock: GuestClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Stores compiled code in this folder, if given.
    #[must_use]
    pub fn keeping(mut self, cache_dir: Option<PathBuf>) -> Self {
        self.cache = cache_dir.map(CompiledCache::new);
        self
    }

    /// Starts large plugins with code of the quick compiler, and passes them to `optimise`. Has no effect if fuel is
    /// counted, since the two compilers count differently. Without this, all plugins are optimised when they are
    /// loaded.
    #[must_use]
    pub fn optimised_by(mut self, optimise: Optimise) -> Self {
        self.optimise = Some(optimise);
        self
    }

    /// Advances the epoch by one [`TICK`](super::TICK) for all calls of all instances. Cheap; any thread may call it.
    pub fn tick(&self) {
        self.shares.tick();
        self.optimising.wasmtime().increment_epoch();
        if let Some(Some(quick)) = self.quick.get() {
            quick.wasmtime().increment_epoch();
        }
    }

    /// Makes running guests record a sample of their stack, in an engine that samples. Cheap; any thread may call it.
    pub fn sample(&self) {
        self.optimising.wasmtime().increment_epoch();
    }

    /// The samples; `None` if the engine does not sample.
    #[must_use]
    pub fn samples(&self) -> Option<&Arc<Samples>> {
        self.samples.as_ref()
    }

    /// Largest number of live instances, over all plugins.
    #[must_use]
    pub fn instances_max(&self) -> u32 {
        self.instances
    }

    /// As [`GuestEngine::load_within`], with the default limits.
    ///
    /// # Errors
    /// When the component is not a valid plugin.
    pub fn load(&self, operator: &str, component: &[u8]) -> Result<Plugin, GuestError> {
        self.load_within(operator, component, Limits::default())
    }

    /// Compiles a component, or loads stored code, and checks that it is a plugin. `operator` names the node in errors.
    /// All its instances have these limits, including the one that is used to describe it.
    ///
    /// # Errors
    /// When the component is not a valid plugin.
    pub fn load_within(
        &self,
        operator: &str,
        component: &[u8],
        limits: Limits,
    ) -> Result<Plugin, GuestError> {
        self.load_telling(operator, component, limits, &mut || ())
    }

    /// Like [`GuestEngine::load_within`]. `compiles` is called before the component is compiled, if there is no stored
    /// code: possibly once for each of the two compilers.
    ///
    /// # Errors
    /// When the component is not a valid plugin.
    pub fn load_telling(
        &self,
        operator: &str,
        component: &[u8],
        limits: Limits,
        compiles: &mut dyn FnMut(),
    ) -> Result<Plugin, GuestError> {
        check_fuel(operator, limits, self.has_fuel)?;
        let digest = Plugin::digest_of(component);
        let of = (digest, component);
        if let Some(compiled) = self.kept(&self.optimising, digest) {
            return Plugin::check(self, operator, of, (&self.optimising, &compiled), limits);
        }
        if let Some(plugin) = self.load_quick(operator, of, limits, compiles) {
            return plugin;
        }
        compiles();
        let compiled = self.optimised(operator, component, digest, &limits)?;
        Plugin::check(self, operator, of, (&self.optimising, &compiled), limits)
    }

    /// A plugin with code of the quick compiler, passed on to be optimised; `None` if it should be optimised at once: a
    /// small one, or one that the quick compiler refuses.
    fn load_quick(
        &self,
        operator: &str,
        (digest, component): (PluginDigest, &[u8]),
        limits: Limits,
        compiles: &mut dyn FnMut(),
    ) -> Option<Result<Plugin, GuestError>> {
        let optimise = self.optimise.as_ref()?;
        let quick = self.quick_for(component)?;
        let kept = self.kept(quick, digest);
        let is_kept = kept.is_some();
        let compiled = match kept {
            Some(compiled) => compiled,
            None => {
                compiles();
                match quick.compile(operator, component, &limits, self.elsewhere.as_deref()) {
                    Ok(compiled) => compiled,
                    Err(error) if error.ends_compiling() => return Some(Err(error)),
                    // The other compiler shows whether the component or the quick compiler is at fault.
                    Err(_) => return None,
                }
            }
        };
        let of = (digest, component);
        let plugin = match Plugin::check(self, operator, of, (quick, &compiled), limits) {
            Ok(plugin) => plugin,
            // The cause may be the quick code, which takes more time and stack.
            Err(GuestError::Trapped { .. } | GuestError::Limit { .. }) => return None,
            Err(error) => return Some(Err(error)),
        };
        optimise(Unoptimised {
            // An engine without an optimiser, so that plugins do not keep their own optimiser alive.
            engine: Self {
                optimise: None,
                ..self.clone()
            },
            operator: operator.to_owned(),
            component: Arc::clone(plugin.component()),
            digest,
            tiers: plugin.tiers(),
            unkept: (!is_kept).then_some(compiled),
            limits,
        });
        Some(Ok(plugin))
    }

    /// The quick compiler, if a component should start with its code.
    fn quick_for(&self, component: &[u8]) -> Option<&Compiler> {
        // A profile should show the code that the job runs for most of its life.
        let is_measured = self.profiling != Profiling::Off;
        let is_wanted = self.optimise.is_some() && !self.has_fuel && !is_measured;
        if !is_wanted || component.len() < self.quick_bytes_min {
            return None;
        }
        let settings = EngineSettings::default();
        let make = || Compiler::new(Tier::Quick, self.instances, &settings).ok();
        self.quick.get_or_init(make).as_ref()
    }

    /// Compiles with the optimising compiler, or loads stored code; new code is stored.
    pub(super) fn optimised(
        &self,
        operator: &str,
        component: &[u8],
        digest: PluginDigest,
        limits: &Limits,
    ) -> Result<Component, GuestError> {
        if let Some(compiled) = self.kept(&self.optimising, digest) {
            return Ok(compiled);
        }
        let elsewhere = self.elsewhere.as_deref();
        let compiled = self
            .optimising
            .compile(operator, component, limits, elsewhere)?;
        if let Some(cache) = &self.cache {
            cache.store(&self.optimising, digest, &compiled);
            if let Some(Some(quick)) = self.quick.get() {
                cache.forget(quick, digest);
            }
        }
        Ok(compiled)
    }

    fn kept(&self, compiler: &Compiler, digest: PluginDigest) -> Option<Component> {
        self.cache.as_ref()?.load(compiler, digest)
    }

    /// Stores code of the quick compiler.
    pub(super) fn keep_quick(&self, compiled: &Component, digest: PluginDigest) {
        if let (Some(cache), Some(Some(quick))) = (&self.cache, self.quick.get()) {
            cache.store(quick, digest, compiled);
        }
    }

    pub(super) fn optimising(&self) -> &Compiler {
        &self.optimising
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
}
