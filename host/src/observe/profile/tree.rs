//! Times by path: a box for each name below another one, with the time that is its own.

use std::collections::BTreeMap;

/// What is below a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProfileTree {
    /// Nanoseconds that belong to none of those below.
    pub(super) own: u64,
    pub(super) below: BTreeMap<String, ProfileTree>,
}

impl ProfileTree {
    pub(super) fn add(&mut self, path: &[&str], nanos: u64) {
        if nanos == 0 {
            return;
        }
        let mut at = self;
        for name in path {
            at = at.below.entry((*name).to_owned()).or_default();
        }
        at.own += nanos;
    }

    /// Its own time and that of all below.
    pub(super) fn total(&self) -> u64 {
        self.own + self.below.values().map(Self::total).sum::<u64>()
    }
}
