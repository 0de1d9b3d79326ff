//! The code of a plugin: of the quick compiler at first, perhaps, and of the optimising one when that is done.
//!
//! All copies of a plugin share one [`Tiers`]. Each new instance takes the newest code; an instance of the quick code can ask
//! whether there is better by now, which is one load. Nothing here starts to compile by itself: [`GuestEngine`] hands an
//! [`Unoptimised`] to its optimiser, which calls [`Unoptimised::optimise`] on a thread of its own.
//!
//! - Code goes from quick to optimised once, and never back.
//! - The code of a plugin never becomes that of another: an `Unoptimised` knows the one `Tiers` that it is for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::{Component, InstancePre};

use super::beside::GuestState;
use super::compiler::Tier;
use super::exports::ExportIndices;
use super::plugin::link;
use super::{GuestEngine, GuestError};
use crate::checkpoint::PluginDigest;

/// What code new instances of a plugin run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// That of the optimising compiler.
    Optimised,
    /// That of the quick compiler, until the optimising one is done.
    Optimising,
    /// That of the quick compiler, since the other one has failed.
    Quick,
}

/// Compiled code that is ready to be instantiated.
pub(super) struct Linked {
    pub(super) pre: InstancePre<GuestState>,
    /// Where its exports are.
    pub(super) exports: ExportIndices,
    pub(super) tier: Tier,
}

/// The code of a plugin.
pub(super) struct Tiers {
    newest: Mutex<Arc<Linked>>,
    /// A [`Code`]: changed after `newest`, so who sees it sees that, too.
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

    /// What a new instance is to run.
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

    /// Gives new instances this code. The quick code is freed with the last instance of it.
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

/// A plugin that runs the code of the quick compiler, and is to be compiled by the other one.
pub struct Unoptimised {
    pub(super) engine: GuestEngine,
    pub(super) operator: String,
    pub(super) component: Arc<[u8]>,
    pub(super) digest: PluginDigest,
    pub(super) tiers: Weak<Tiers>,
    /// Code of the quick compiler that is not kept yet.
    pub(super) unkept: Option<Component>,
}

impl Unoptimised {
    /// The operator that it was loaded for.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// Keeps the code that it runs for the next start, where code is kept. Takes about a tenth of a second.
    pub fn keep(&mut self) {
        if let Some(quick) = self.unkept.take() {
            self.engine.keep_quick(&quick, self.digest);
        }
    }

    /// Compiles it, or takes what another process has compiled meanwhile; new instances of the plugin run that then. Takes
    /// seconds. Returns whether there is any use for it: a plugin that is dropped is not compiled.
    ///
    /// # Errors
    /// When the optimising compiler refuses what the quick one took. The plugin runs the quick code from then on.
    pub fn optimise(self) -> Result<bool, GuestError> {
        if self.tiers.strong_count() == 0 {
            return Ok(false);
        }
        let compiled = self
            .engine
            .optimised(&self.operator, &self.component, self.digest);
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
