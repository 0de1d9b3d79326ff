//! Builds the engine that enforces a pipeline's limits: the size of its instance pool, whether it counts fuel, and the
//! limits of each operator's plugin.

use std::path::PathBuf;
use std::sync::Arc;

use super::{EngineError, Say};
use crate::edge;
use crate::edge::cache_folder::cache_folder;
use crate::edge::clock;
use crate::edge::compile_program;
use crate::edge::optimiser::Optimiser;
use crate::edge::ticker::Ticker;
use crate::guest::{EngineSettings, GuestEngine, Limits, Profiling};
use crate::pipeline::Spec;

/// Instances reserved for each operator, so that a running job can be rescaled; fewer if the pool would be too large.
const TASKS_MIN: u32 = 128;
/// Limit on the instances reserved for all operators together.
const TASKS_SUM_MAX: u32 = 512;
/// Least number of spare instances in a small pool.
const SPARES_MIN: u32 = 16;

/// An engine with a running `Ticker`, so that time limits are enforced.
pub struct Ticking {
    /// The engine. Time limits are enforced only while this `Ticking` lives, also for clones of the engine.
    pub engine: GuestEngine,
    _optimiser: Option<Optimiser>,
    _ticker: Ticker,
    _sampler: Option<Ticker>,
}

impl Ticking {
    /// An engine with these settings.
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        let mut engine = GuestEngine::with(settings)?;
        if let Some(program) = compile_program::of_engine() {
            engine = engine.compiled_by(program);
        }
        let ticker = Ticker::start(&engine);
        Ok(Self {
            _sampler: Ticker::sampling(&engine),
            engine,
            _optimiser: None,
            _ticker: ticker,
        })
    }

    /// An engine for commands that only decode and encode values.
    pub fn for_tools() -> Result<Self, EngineError> {
        Self::new(EngineSettings::default())
    }

    /// An engine for calls of one plugin.
    pub fn for_calls(fuel: bool) -> Result<Self, EngineError> {
        Self::new(EngineSettings {
            fuel,
            ..EngineSettings::default()
        })
    }

    /// Keeps compiled code in the user's cache folder, or in `otherwise` if there is none.
    pub fn keeping(mut self, otherwise: Option<PathBuf>, say: &Say) -> Self {
        self.engine = self.engine.keeping(kept_in(otherwise, say));
        self
    }

    /// Starts large plugins with quickly compiled code and optimises them in the background.
    pub fn optimising(mut self, say: &Say) -> Self {
        let say = Arc::clone(say);
        let (engine, optimiser) = Optimiser::start(self.engine, move |line| say(line));
        self.engine = engine;
        self._optimiser = Some(optimiser);
        self
    }

    /// An engine for this pipeline: its pool fits all operators, and it counts fuel if an operator has a fuel limit.
    /// Compiled code is kept as with [`Ticking::keeping`].
    pub fn for_job(
        spec: &Spec,
        otherwise: Option<PathBuf>,
        say: &Say,
    ) -> Result<Self, EngineError> {
        Self::for_profiled_job(spec, otherwise, Profiling::Off, say)
    }

    /// Like [`Ticking::for_job`], with support for profiling plugins.
    pub fn for_profiled_job(
        spec: &Spec,
        otherwise: Option<PathBuf>,
        profiling: Profiling,
        say: &Say,
    ) -> Result<Self, EngineError> {
        let operators = u32::try_from(spec.operators.len()).unwrap_or(u32::MAX);
        let limits = || spec.operators.keys().map(|name| limits_of(spec, name));
        let parallelism = u32::from(spec.parallelism);
        let growth = TASKS_MIN.min(TASKS_SUM_MAX / operators.max(1));
        let growth = growth.min(spec.max_parallelism.get().into());
        let mut ticking = Self::new(EngineSettings {
            cache_dir: kept_in(otherwise, say),
            fuel: limits().any(|limits| limits.fuel_per_call.is_some()),
            profiling,
            operators,
            tasks: parallelism.max(growth),
            spares: limits().fold(0, |sum, limits| limits.instances.saturating_add(sum)),
            ..EngineSettings::default()
        })?;
        let room = ticking.engine.instances_max();
        let tasks = operators.saturating_mul(parallelism);
        if tasks.saturating_add(SPARES_MIN) > room {
            let problem = spec.problem(
                &["job", "parallelism"],
                format!(
                    "makes {tasks} tasks of operators, but one process has room for {}; lower it, or split the pipeline in two",
                    room - SPARES_MIN
                ),
            );
            return Err(EngineError::usage(problem.to_string()));
        }
        // Clients of the job can request the times of calls.
        ticking.engine = ticking.engine.measured_by(clock::nanos());
        Ok(ticking)
    }
}

/// The folder for compiled code; warns if it is not the user's cache folder.
fn kept_in(otherwise: Option<PathBuf>, say: &Say) -> Option<PathBuf> {
    let folder = cache_folder(otherwise);
    if let Some(warning) = folder.warning {
        say(&format!("warning: {warning}"));
    }
    folder.path
}

/// The limits of an operator's plugin.
pub fn limits_of(spec: &Spec, operator: &str) -> Limits {
    edge::limits::limits(spec.limits_of(operator))
}
