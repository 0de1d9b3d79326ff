//! The compiler and its settings, one for all plugins of a process.

use std::path::PathBuf;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::compiled::CompiledCache;
use super::{GuestError, Plugin};
use crate::checkpoint::PluginDigest;

/// Live instances of a process at most: what the pool reserves address space for.
const INSTANCES_MAX: u32 = 512;
/// Memory that one instance may use.
pub(super) const MEMORY_BYTES_MAX: usize = 1 << 30;

/// Compiles plugins.
#[derive(Debug, Clone)]
pub struct GuestEngine {
    engine: Engine,
    cache: Option<CompiledCache>,
}

impl GuestEngine {
    /// An engine that keeps compiled code in `cache_dir`, if there is one.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly.
    pub fn new(cache_dir: Option<PathBuf>) -> Result<Self, GuestError> {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(INSTANCES_MAX)
            .total_core_instances(4 * INSTANCES_MAX)
            .total_memories(INSTANCES_MAX)
            .total_tables(4 * INSTANCES_MAX)
            .max_memory_size(MEMORY_BYTES_MAX);
        let mut config = Config::new();
        config
            .concurrency_support(false)
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(|error| GuestError::Engine {
            reason: format!("{error:#}"),
        })?;
        let cache = cache_dir.map(|dir| CompiledCache::new(dir, &engine));
        Ok(Self { engine, cache })
    }

    /// Compiles a component, or takes what was compiled before, and checks that it is a plugin. `operator` names the node
    /// in errors.
    ///
    /// # Errors
    /// Says what is wrong with the component.
    pub fn load(&self, operator: &str, component: &[u8]) -> Result<Plugin, GuestError> {
        let digest = Plugin::digest_of(component);
        let compiled = match self
            .cache
            .as_ref()
            .and_then(|cache| cache.load(&self.engine, digest))
        {
            Some(compiled) => compiled,
            None => self.compile(operator, component, digest)?,
        };
        Plugin::check(&self.engine, operator, (digest, component), compiled)
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
        let compiled = Component::from_binary(&self.engine, component)
            .map_err(|error| not_a_component(format!("{error:#}")))?;
        if let Some(cache) = &self.cache {
            cache.store(&compiled, digest);
        }
        Ok(compiled)
    }
}
