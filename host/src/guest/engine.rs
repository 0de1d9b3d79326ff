//! The engine that compiles all plugins of a process and keeps their code, and chooses one of two compilers for a component.
//!
//! A pool reserves address space for each memory that an instance may have, so how many instances fit is settled when the
//! engine is made. The pool of the quick compiler is as large, and made when the first component wants it; where the machine does not
//! grant the address space, all are optimised at once. Nothing here ticks by itself: the owner of the engine calls
//! [`GuestEngine::tick`], which reaches both.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;

use super::compiled::CompiledCache;
use super::compiler::{Compiler, Tier};
use super::plugin::check_fuel;
use super::samples::{self, Profiling, Samples};
use super::share::Shares;
use super::tiers::Unoptimised;
use super::{GuestClock, GuestError, Limits, Plugin};
use crate::checkpoint::PluginDigest;

/// Live instances of a process at most: four memories of 4 GiB each make 32 TiB of address space.
const POOL_INSTANCES_MAX: u32 = 2048;
/// Live instances that there is always room for.
const POOL_INSTANCES_MIN: u32 = 64;
/// Components of this size and more take longer than a user should wait to optimise: about half a second.
const QUICK_BYTES_MIN: usize = 512 << 10;

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
    /// Components of this many bytes and more begin with the code of the quick compiler, if the engine has an optimiser.
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
    /// How many instances the pool of such an engine has room for.
    fn instances(&self) -> u32 {
        let working = self.operators.saturating_mul(self.tasks);
        let wanted = working.saturating_mul(2).saturating_add(self.spares);
        wanted.clamp(POOL_INSTANCES_MIN, POOL_INSTANCES_MAX)
    }
}

/// Takes plugins that are to be optimised. It returns at once.
pub type Optimise = Arc<dyn Fn(Unoptimised) + Send + Sync>;

/// Compiles plugins.
#[derive(Clone)]
pub struct GuestEngine {
    optimising: Compiler,
    /// Shared by all copies; nothing in it if the machine cannot have it.
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
        self.cache = cache_dir.map(CompiledCache::new);
        self
    }

    /// The same engine, whose large plugins begin with the code of the quick compiler and are handed over to be optimised. Not
    /// where fuel is counted, which the two compilers do differently. Without this, all plugins are optimised when they are loaded.
    #[must_use]
    pub fn optimised_by(mut self, optimise: Optimise) -> Self {
        self.optimise = Some(optimise);
        self
    }

    /// Lets [`TICK`](super::TICK) go by for all calls of all instances. Cheap, and may be called from any thread.
    pub fn tick(&self) {
        self.shares.tick();
        self.optimising.wasmtime().increment_epoch();
        if let Some(Some(quick)) = self.quick.get() {
            quick.wasmtime().increment_epoch();
        }
    }

    /// Has guests that are being called note what they are doing, in an engine that samples. Cheap, and may be called from any
    /// thread.
    pub fn sample(&self) {
        self.optimising.wasmtime().increment_epoch();
    }

    /// The samples of an engine that samples.
    #[must_use]
    pub fn samples(&self) -> Option<&Arc<Samples>> {
        self.samples.as_ref()
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
        self.load_telling(operator, component, limits, &mut || ())
    }

    /// The same. `compiles` is called when there is no compiled code of the component, before it is compiled: perhaps for each of
    /// two compilers.
    ///
    /// # Errors
    /// Says what is wrong with the component.
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
        let compiled = self.optimised(operator, component, digest)?;
        Plugin::check(self, operator, of, (&self.optimising, &compiled), limits)
    }

    /// A plugin with the code of the quick compiler, which is handed over to be optimised; `None` if it is better optimised at
    /// once: a small one, and one that the quick compiler does not take.
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
        let compile = || {
            compiles();
            // Whether it is the component or the compiler that is to blame, the other compiler says.
            quick.compile(operator, component).ok()
        };
        let compiled = kept.or_else(compile)?;
        let of = (digest, component);
        let plugin = match Plugin::check(self, operator, of, (quick, &compiled), limits) {
            Ok(plugin) => plugin,
            // Perhaps only for want of time or stack, of which the quick code takes more.
            Err(GuestError::Trapped { .. } | GuestError::Limit { .. }) => return None,
            Err(error) => return Some(Err(error)),
        };
        optimise(Unoptimised {
            // One that hands nothing over: nothing waits for itself then.
            engine: Self {
                optimise: None,
                ..self.clone()
            },
            operator: operator.to_owned(),
            component: Arc::clone(plugin.component()),
            digest,
            tiers: plugin.tiers(),
            unkept: (!is_kept).then_some(compiled),
        });
        Some(Ok(plugin))
    }

    /// The quick compiler, if a component is to begin with its code.
    fn quick_for(&self, component: &[u8]) -> Option<&Compiler> {
        // A profile is one of the code that the job runs for most of its life.
        let is_measured = self.profiling != Profiling::Off;
        let is_wanted = self.optimise.is_some() && !self.has_fuel && !is_measured;
        if !is_wanted || component.len() < self.quick_bytes_min {
            return None;
        }
        let settings = EngineSettings::default();
        let make = || Compiler::new(Tier::Quick, self.instances, &settings).ok();
        self.quick.get_or_init(make).as_ref()
    }

    /// Code of the optimising compiler, which is kept.
    pub(super) fn optimised(
        &self,
        operator: &str,
        component: &[u8],
        digest: PluginDigest,
    ) -> Result<Component, GuestError> {
        if let Some(compiled) = self.kept(&self.optimising, digest) {
            return Ok(compiled);
        }
        let compiled = self.optimising.compile(operator, component)?;
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

    /// Keeps code of the quick compiler.
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
