//! Times by path: a tree of names, each with its own time.

use std::collections::BTreeMap;

/// A name's own time and its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProfileTree {
    /// Nanoseconds that belong to none of the children.
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

    /// Its own time and that of all children.
    pub(super) fn total(&self) -> u64 {
        self.own + self.below.values().map(Self::total).sum::<u64>()
    }
}
