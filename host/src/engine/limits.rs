//! From the limits that a user typed to the engine that enforces them: how large its pool is, whether it counts fuel, and
//! what each operator's plugin may use.

use std::path::PathBuf;
use std::sync::Arc;

use super::{EngineError, Say};
use crate::edge;
use crate::edge::cache_folder::cache_folder;
use crate::edge::clock;
use crate::edge::optimiser::Optimiser;
use crate::edge::ticker::Ticker;
use crate::guest::{EngineSettings, GuestEngine, Limits, Profiling};
use crate::pipeline::Spec;

/// Tasks of an operator that a job has room for, so that it can be rescaled while it runs, if the pool allows so many.
const TASKS_MIN: u32 = 128;
/// Tasks of all operators that a job has room for, so that it can be rescaled.
const TASKS_SUM_MAX: u32 = 512;
/// Spare instances that a small pool must have room for.
const SPARES_MIN: u32 = 16;

/// An engine that is ticked.
pub(crate) struct Ticking {
    pub(crate) engine: GuestEngine,
    _optimiser: Option<Optimiser>,
    _ticker: Ticker,
    _sampler: Option<Ticker>,
}

impl Ticking {
    fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        let engine = GuestEngine::with(settings)?;
        let ticker = Ticker::start(&engine);
        Ok(Self {
            _sampler: Ticker::sampling(&engine),
            engine,
            _optimiser: None,
            _ticker: ticker,
        })
    }

    /// An engine for tools that ask plugins about values.
    pub(crate) fn for_tools() -> Result<Self, EngineError> {
        Self::new(EngineSettings::default())
    }

    /// An engine for calls of one plugin.
    pub(crate) fn for_calls(fuel: bool) -> Result<Self, EngineError> {
        Self::new(EngineSettings {
            fuel,
            ..EngineSettings::default()
        })
    }

    /// The same, which takes compiled code from this user's cache folder and keeps it there, or else in this folder.
    pub(crate) fn keeping(mut self, otherwise: Option<PathBuf>, say: &Say) -> Self {
        self.engine = self.engine.keeping(kept_in(otherwise, say));
        self
    }

    /// The same, whose large plugins begin with quickly compiled code and are optimised meanwhile.
    pub(crate) fn optimising(mut self, say: &Say) -> Self {
        let say = Arc::clone(say);
        let (engine, optimiser) = Optimiser::start(self.engine, move |line| say(line));
        self.engine = engine;
        self._optimiser = Some(optimiser);
        self
    }

    /// An engine that has room for all that this pipeline needs, and counts fuel if an operator wants that. Compiled code is kept as
    /// with [`Ticking::keeping`].
    pub(crate) fn for_job(
        spec: &Spec,
        otherwise: Option<PathBuf>,
        say: &Say,
    ) -> Result<Self, EngineError> {
        Self::for_profiled_job(spec, otherwise, Profiling::Off, say)
    }

    /// The same, which helps to find where the time of plugins goes.
    pub(crate) fn for_profiled_job(
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
                    "makes {tasks} tasks of operators, and one process has room for {}; lower it, or make it two pipelines",
                    room - SPARES_MIN
                ),
            );
            return Err(EngineError::usage(problem.to_string()));
        }
        // Clients of the job can ask where the time of calls goes.
        ticking.engine = ticking.engine.measured_by(clock::nanos());
        Ok(ticking)
    }
}

/// Where compiled code is kept; says so if that is not where the user may look for it.
fn kept_in(otherwise: Option<PathBuf>, say: &Say) -> Option<PathBuf> {
    let folder = cache_folder(otherwise);
    if let Some(warning) = folder.warning {
        say(&format!("warning: {warning}"));
    }
    folder.path
}

/// What the plugin of an operator may use.
pub(crate) fn limits_of(spec: &Spec, operator: &str) -> Limits {
    edge::limits::limits(spec.limits_of(operator))
}
