//! The code of a plugin: possibly from the quick compiler at first, and from the optimising one once that has finished.
//!
//! All clones of a plugin share one [`Tiers`]. Each new instance uses the newest code; an instance of quick code can
//! check for better code with one atomic load. Compilation is not started here: [`GuestEngine`] passes an
//! [`Unoptimised`] to its optimiser, which calls [`Unoptimised::optimise`] on a thread of its own.
//!
//! - Code changes from quick to optimised once, and never back.
//! - Code never moves to another plugin: an `Unoptimised` has a reference to its own `Tiers`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::{Component, InstancePre};

use super::compiler::Tier;
use super::exports::ExportIndices;
use super::guest_state::GuestState;
use super::plugin::link;
use super::{GuestEngine, GuestError, Limits};
use floodmark_checkpoint::PluginDigest;

/// The kind of code that new instances of a plugin run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Optimised code: it will not be replaced.
    Optimised,
    /// Quick code, until optimisation has finished.
    Optimising,
    /// Quick code, because optimisation has failed.
    Quick,
}

/// Compiled code that is ready to be instantiated.
pub(super) struct Linked {
    pub(super) pre: InstancePre<GuestState>,
    /// The positions of its exports.
    pub(super) exports: ExportIndices,
    pub(super) tier: Tier,
}

/// The code of a plugin.
pub(super) struct Tiers {
    newest: Mutex<Arc<Linked>>,
    /// A [`Code`]. It is changed after `newest`, so a thread that sees it also sees the new code.
    standing: AtomicU8,
}

impl Tiers {
    pub(super) fn new(linked: Linked) -> Self {
        let code = match linked.tier {
            Tier::Optimising => Code::Optimised,
            Tier::Quick => Code::Optimising,
        };
        Self {
            newest: Mutex::new(Arc::new(linked)),
            standing: AtomicU8::new(code as u8),
        }
    }

    /// The code for new instances.
    pub(super) fn newest(&self) -> Arc<Linked> {
        let newest = self.newest.lock();
        Arc::clone(&newest.unwrap_or_else(PoisonError::into_inner))
    }

    #[inline]
    pub(super) fn code(&self) -> Code {
        match self.standing.load(Ordering::Acquire) {
            known if known == Code::Optimised as u8 => Code::Optimised,
            known if known == Code::Optimising as u8 => Code::Optimising,
            _ => Code::Quick,
        }
    }

    /// Sets the code for new instances. The quick code is freed with the last instance of it.
    fn improve(&self, linked: Linked) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(linked);
        self.standing
            .store(Code::Optimised as u8, Ordering::Release);
    }

    fn give_up(&self) {
        self.standing.store(Code::Quick as u8, Ordering::Release);
    }
}

/// A plugin that runs quick code and should be optimised.
pub struct Unoptimised {
    pub(super) engine: GuestEngine,
    pub(super) operator: String,
    pub(super) component: Arc<[u8]>,
    pub(super) digest: PluginDigest,
    pub(super) tiers: Weak<Tiers>,
    /// Quick code that is not stored yet.
    pub(super) unkept: Option<Component>,
    pub(super) limits: Limits,
}

impl Unoptimised {
    /// The operator that it was loaded for.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// Stores its quick code for the next start, if the engine has a cache. Takes about a tenth of a second.
    pub fn keep(&mut self) {
        if let Some(quick) = self.unkept.take() {
            self.engine.keep_quick(&quick, self.digest);
        }
    }

    /// Compiles it, or loads code that another process has compiled meanwhile; new instances of the plugin then run
    /// that code. Takes seconds. Returns whether it is still used: a plugin that was dropped is not compiled.
    ///
    /// # Errors
    /// When the optimising compiler refuses what the quick one accepted. The plugin keeps running the quick code.
    pub fn optimise(self) -> Result<bool, GuestError> {
        if self.tiers.strong_count() == 0 {
            return Ok(false);
        }
        let compiled =
            self.engine
                .optimised(&self.operator, &self.component, self.digest, &self.limits);
        let linked =
            compiled.and_then(|compiled| link(self.engine.optimising(), &self.operator, &compiled));
        let Some(tiers) = self.tiers.upgrade() else {
            return Ok(false);
        };
        match linked {
            Ok(linked) => tiers.improve(linked),
            Err(error) => {
                tiers.give_up();
                return Err(error);
            }
        }
        Ok(true)
    }
}
