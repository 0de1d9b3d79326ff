//! Engines that are ticked, for tests that use plugins by way of the library.

use std::sync::Arc;

use floodmark_engine::edge::ticker::Ticker;
use floodmark_engine::guest::{EngineSettings, GuestEngine, Optimise, Profiling};

/// An engine that is ticked, for as many plugins as there are.
pub struct Ticking {
    pub engine: GuestEngine,
    _tickers: (Ticker, Option<Ticker>),
}

impl Ticking {
    /// All plugins are optimised.
    pub fn new() -> Self {
        Self::with(EngineSettings::default(), None)
    }

    /// Fuel is counted.
    pub fn counting_fuel() -> Self {
        let settings = EngineSettings {
            fuel: true,
            ..EngineSettings::default()
        };
        Self::with(settings, None)
    }

    /// Guests are asked every millisecond what they are doing.
    pub fn sampling() -> Self {
        let settings = EngineSettings {
            profiling: Profiling::Samples,
            ..EngineSettings::default()
        };
        Self::with(settings, None)
    }

    /// Plugins run the code of the quick compiler, and nothing optimises them.
    pub fn quick() -> Self {
        Self::handing_over(Arc::new(drop))
    }

    /// Plugins of all sizes begin with the code of the quick compiler and are handed over.
    pub fn handing_over(optimise: Optimise) -> Self {
        let settings = EngineSettings {
            quick_bytes_min: 0,
            ..EngineSettings::default()
        };
        Self::with(settings, Some(optimise))
    }

    fn with(settings: EngineSettings, optimise: Option<Optimise>) -> Self {
        let mut engine = GuestEngine::with(settings).unwrap();
        if let Some(optimise) = optimise {
            engine = engine.optimised_by(optimise);
        }
        let _tickers = (Ticker::start(&engine), Ticker::sampling(&engine));
        Self { engine, _tickers }
    }
}
