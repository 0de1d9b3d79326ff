//! A profile of a job's time: by job, operator, stage, and for plugins by function.
//!
//! The time in each stage is measured. Functions are sampled, which gives shares and not times, so the measured time in
//! a plugin is divided in proportion to its samples. Other work of workers, such as checkpoints, is a separate entry;
//! idle time is left out. Formats: [`Profile::svg`] for people, [`Profile::folded`] and [`Profile::json`] for other
//! tools.

mod folded;
mod json;
mod svg;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use self::tree::ProfileTree;
use super::job::{Facts, Kind};
use super::task::{Stage, TaskMetrics};

/// The entry for copying to and from a plugin.
const COPY: &str = "[copy]";
/// The entry for host functions that a plugin calls.
const HOST: &str = "[host]";
/// The entry for a plugin without samples.
const PLUGIN: &str = "[plugin]";
/// The entry for work of workers outside of all stages.
const ENGINE: &str = "[engine]";

/// Sampled stacks of plugins by operator, outermost function first, each with its number of samples.
pub type SampledStacks = BTreeMap<String, Vec<(Vec<String>, u64)>>;

/// A profile of a job's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    job: String,
    /// The entries below the job.
    tree: ProfileTree,
    /// Number of samples of plugins.
    samples: u64,
}

impl Profile {
    pub(super) fn of(facts: &Facts, stacks: &SampledStacks) -> Self {
        let mut profile = Self {
            job: facts.name.clone(),
            tree: ProfileTree::default(),
            samples: 0,
        };
        let mut in_stages = 0;
        for (index, node) in facts.nodes.iter().enumerate() {
            let sum = |read: &dyn Fn(&TaskMetrics) -> u64| {
                let workers = facts.workers.iter();
                let tasks = workers.filter_map(|worker| worker.task(index));
                tasks.map(read).sum::<u64>()
            };
            for &stage in node.kind.stages() {
                let time = sum(&|task| task.stages.of(stage).get());
                in_stages += time;
                match (stage, &node.kind) {
                    (Stage::Guest, Kind::Operator(_)) => {
                        let copy = sum(&|task| task.calls.copy.get()).min(time);
                        let host = sum(&|task| task.calls.host.get()).min(time - copy);
                        let guest = (time - copy - host, copy, host);
                        let stacks = stacks.get(&node.name).map_or(&[][..], Vec::as_slice);
                        profile.add_guest(&node.name, guest, stacks);
                    }
                    _ => profile.tree.add(&[&node.name, stage.name()], time),
                }
            }
        }
        let workers = facts.workers.iter();
        let busy = workers.map(|worker| worker.times.busy.get()).sum::<u64>();
        profile.tree.add(&[ENGINE], busy.saturating_sub(in_stages));
        profile
    }

    /// Adds the time in calls of an operator's plugin: in the plugin, copying, in the host.
    fn add_guest(
        &mut self,
        operator: &str,
        (plugin, copy, host): (u64, u64, u64),
        stacks: &[(Vec<String>, u64)],
    ) {
        let guest = Stage::Guest.name();
        self.tree.add(&[operator, guest, COPY], copy);
        self.tree.add(&[operator, guest, HOST], host);
        let samples: u64 = stacks.iter().map(|(_, count)| count).sum();
        self.samples += samples;
        if samples == 0 {
            self.tree.add(&[operator, guest, PLUGIN], plugin);
        }
        let (mut seen, mut given) = (0, 0);
        for (stack, count) in stacks {
            // The remainder from rounding goes to the next one, so that all time is distributed.
            seen += u128::from(*count);
            let until = (u128::from(plugin) * seen / u128::from(samples.max(1))) as u64;
            let outer = [operator, guest].into_iter();
            let path: Vec<_> = outer.chain(stack.iter().map(String::as_str)).collect();
            self.tree.add(&path, until - given);
            given = until;
        }
    }

    /// Number of samples of plugins in it.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The total time.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.tree.total())
    }
}

#[cfg(test)]
mod tests;
