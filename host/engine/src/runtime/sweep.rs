//! Migrates what no record asks for: some values of earlier versions after each batch, more while there are no records, and
//! also between records while a client hurries it.
//!
//! What the plugin cannot migrate stays as it is; it is counted by state, and the sweep continues. The values of a step
//! are tried together, and what fails is halved, until single values are left: the sweep costs no more calls than needed
//! if all is well. A plugin that hangs uses up its time in one call of a step; the next step continues the search where this
//! one ended. It knows nothing of records, which `migration` serves.

use std::collections::BTreeSet;
use std::time::Duration;

use super::JobError;
use super::blame::FailedCall;
use super::collections::CollectionPlace;
use super::keyed_state::KeyedState;
use super::migration::{migrated, not_migrated};
use super::plan::NodeIndex;
use super::report::Report;
use super::schema::DeclaredState;
use super::task::{OperatorTask, Task, TaskError, kept};
use super::worker::Worker;
use crate::guest::GuestError;
use crate::observe::Unmigrated;
use floodmark_state::stream::{Column, OptionalColumn, hash_key};
use floodmark_state::{Keys, Lookup, StateKind};

/// Failed attempts after which a step of the sweep ends. The rest waits for the next step, so that many failures do not
/// hold the stream up.
const FAILURES_A_STEP: u32 = 16;
/// Values that are noted one by one, so that none is counted twice; more are only counted.
const NOTED_MAX: usize = 1 << 20;

/// Migrates values, lists and maps that no record asks for, some in each step.
pub(super) struct Sweep {
    /// Whether the state may name more of them.
    is_searching: bool,
    /// Named, and not migrated yet; the next piece is the last.
    pending: Vec<SweepPiece>,
    /// What could not be migrated, by state.
    failed: Vec<Unmigrated>,
    /// The hashes of what was counted, with the position of its state.
    noted: BTreeSet<(usize, u64)>,
    /// Whether `failed` has changed since observers were told.
    has_news: bool,
    /// The first reason why something could not be migrated, also for a record.
    first: Option<String>,
    /// Whether the job was told of `first`.
    has_told: bool,
}

/// Keys of one state, each once, whose values are migrated in one call.
struct SweepPiece {
    /// The position of the state in the plugin's description.
    state: usize,
    keys: Vec<Vec<u8>>,
    /// Whether the call has to be the first one of its instance, since it has failed in one that was used before.
    wants_fresh: bool,
}

impl SweepPiece {
    fn new(state: usize, keys: Vec<Vec<u8>>) -> Self {
        Self {
            state,
            keys,
            wants_fresh: false,
        }
    }
}

impl Sweep {
    /// A sweep that has not begun.
    pub(super) fn new(states: &[DeclaredState]) -> Self {
        Self {
            is_searching: states.iter().any(|state| !state.earlier.is_empty()),
            pending: Vec::new(),
            failed: Vec::new(),
            noted: BTreeSet::new(),
            has_news: true,
            first: None,
            has_told: false,
        }
    }

    /// Whether nothing is left to migrate, except for what cannot be migrated.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        !self.is_searching && self.pending.is_empty()
    }

    /// What could not be migrated, by state, if that has changed since the last call of this.
    pub(super) fn take_news(&mut self) -> Option<Vec<Unmigrated>> {
        std::mem::take(&mut self.has_news).then(|| self.failed.clone())
    }

    /// Something could not be migrated, for this reason.
    pub(super) fn refused(&mut self, reason: &str) {
        if self.first.is_none() {
            self.first = Some(reason.to_owned());
        }
    }

    /// The first reason why something could not be migrated: once, if there is one.
    #[inline]
    fn take_first(&mut self) -> Option<String> {
        if self.has_told || self.first.is_none() {
            return None;
        }
        self.has_told = true;
        self.first.clone()
    }

    fn add(&mut self, state: usize, kind: StateKind, mut keys: Vec<Vec<u8>>) {
        // A list or map is named once for each of its pages.
        keys.sort_unstable();
        keys.dedup();
        match kind {
            StateKind::Value if keys.is_empty() => {}
            StateKind::Value => self.pending.push(SweepPiece::new(state, keys)),
            StateKind::List | StateKind::Map => {
                let pieces = keys.into_iter();
                let pieces = pieces.map(|key| SweepPiece::new(state, vec![key]));
                self.pending.extend(pieces);
            }
        }
    }

    /// Puts both halves of a piece in its place, the first one next.
    fn halve(&mut self, mut piece: SweepPiece) {
        let state = piece.state;
        let keys = piece.keys.split_off(piece.keys.len() / 2);
        self.pending.push(SweepPiece::new(state, keys));
        self.pending.push(piece);
    }

    /// Counts a value that cannot be migrated, unless it was counted before.
    fn note(&mut self, at: usize, state: &str, key: &[u8], what: &str) {
        if self.noted.len() < NOTED_MAX && !self.noted.insert((at, hash_key(key))) {
            return;
        }
        self.has_news = true;
        self.refused(&not_migrated(key, what));
        let mut failed = self.failed.iter_mut();
        match failed.find(|failed| failed.state == state) {
            Some(failed) => failed.count += 1,
            None => self.failed.push(Unmigrated {
                state: state.to_owned(),
                count: 1,
                reason: not_migrated(key, what),
            }),
        }
    }
}

impl<S: KeyedState> OperatorTask<S> {
    /// Migrates some of what no record asks for. What cannot be migrated stays as it is, and is counted. Returns whether
    /// there was anything to do.
    ///
    /// # Errors
    /// When state cannot be read or written: the task must not be used then. When no fresh instance can be opened.
    #[cold]
    pub(super) fn sweep(&mut self, wall_ms: u64) -> Result<bool, TaskError<S::Error>> {
        if self.plugin.sweep.pending.is_empty() {
            let place = kept(&mut self.kept).store_mut();
            let stale = place.stale_values(wall_ms).map_err(TaskError::State)?;
            let sweep = &mut self.plugin.sweep;
            let Some(stale) = stale else {
                sweep.is_searching = false;
                return Ok(true);
            };
            if stale.is_empty() {
                return Ok(false);
            }
            for (at, state) in self.plugin.states.iter().enumerate() {
                let of_state = stale.iter().filter(|value| value.state == state.id);
                let keys = of_state.map(|value| value.key.clone()).collect();
                sweep.add(at, state.kind, keys);
            }
        }
        self.migrate_pending(wall_ms)?;
        Ok(true)
    }

    /// Migrates pending pieces until there are none, too many have failed, or the step has lasted as long as one call may.
    fn migrate_pending(&mut self, wall_ms: u64) -> Result<(), TaskError<S::Error>> {
        // After a failed call, the limit may be that of a piece.
        let time = self.desk.time_per_call();
        self.instance_mut().set_time_per_call(time);
        let series = self.plugin.instance.begin_series(time);
        let mut failures = 0;
        while failures < FAILURES_A_STEP
            && !self.plugin.instance.has_ended(&series)
            && let Some(piece) = self.plugin.sweep.pending.pop()
        {
            if piece.wants_fresh && !self.is_fresh {
                self.renew()?;
            }
            if let Some(failed) = self.migrate_piece(&piece, wall_ms)? {
                failures += 1;
                self.blame_piece(piece, failed, wall_ms)?;
            }
        }
        Ok(())
    }

    /// Migrates what the keys of a piece have. Returns the failure of the plugin, after which nothing has changed.
    fn migrate_piece(
        &mut self,
        piece: &SweepPiece,
        wall_ms: u64,
    ) -> Result<Option<FailedCall>, TaskError<S::Error>> {
        let place = kept(&mut self.kept).store_mut();
        let plugin = &mut self.plugin;
        let state = &plugin.states[piece.state];
        let keys: Column = piece.keys.iter().map(Vec::as_slice).collect();
        let hashes: Vec<_> = keys.iter().map(hash_key).collect();
        if state.kind != StateKind::Value {
            for (key, &hash) in keys.iter().zip(&hashes) {
                let at = CollectionPlace {
                    state: state.id,
                    key,
                    hash,
                    now_ms: wall_ms,
                };
                if let Some(what) = place.migrate(at).map_err(TaskError::State)? {
                    let error = GuestError::Values {
                        operator: self.desk.operator().to_owned(),
                        call: "migrate",
                        reason: what.clone(),
                    };
                    // Lists and maps are migrated by an instance of their own.
                    return Ok(Some(FailedCall {
                        error,
                        was_fresh: true,
                        not_migrated: Some(what),
                    }));
                }
            }
            return Ok(None);
        }
        let keys = Keys {
            keys: &keys,
            hashes: &hashes,
        };
        let mut lookup = Lookup::default();
        place
            .read(state, keys, wall_ms, &mut lookup)
            .map_err(TaskError::State)?;
        let was_fresh = std::mem::take(&mut self.is_fresh);
        let index = u16::try_from(piece.state).expect("a plugin has few states");
        let values = match migrated(&mut plugin.instance, index, state, &lookup) {
            Ok(Some(values)) => values,
            Ok(None) => return Ok(None),
            Err(failed) => return Ok(Some(failed.call(was_fresh))),
        };
        // Values that have expired meanwhile are left to compaction.
        let slots: Vec<u32> = (0..hashes.len() as u32)
            .filter(|&slot| values.get(slot as usize).is_some())
            .collect();
        let mut current = OptionalColumn::new();
        for &slot in &slots {
            current.push(values.get(slot as usize));
        }
        place
            .write(state, keys, wall_ms, &lookup, &slots, &current)
            .map_err(TaskError::State)?;
        Ok(None)
    }

    /// Halves a piece that has failed, or counts its only value. A single value has a fresh instance before it is blamed.
    fn blame_piece(
        &mut self,
        mut piece: SweepPiece,
        failed: FailedCall,
        wall_ms: u64,
    ) -> Result<(), TaskError<S::Error>> {
        let failed = failed.unless_interrupted(&self.plugin.instance)?;
        let is_spoilt = failed.error.spoils_instance();
        self.desk.faults.traps += u64::from(is_spoilt);
        if is_spoilt {
            self.renew()?;
        }
        let [key] = piece.keys.as_slice() else {
            self.plugin.sweep.halve(piece);
            return Ok(());
        };
        if is_spoilt && !failed.was_fresh {
            piece.wants_fresh = true;
            self.plugin.sweep.pending.push(piece);
            return Ok(());
        }
        let what = failed.not_migrated.unwrap_or_default();
        let plugin = &mut self.plugin;
        let name = &plugin.states[piece.state].name;
        plugin.sweep.note(piece.state, name, key, &what);
        self.desk.warn(wall_ms, || {
            let reason = not_migrated(key, &what);
            format!("an entry of an earlier version stays as it is: the plugin {reason}")
        });
        Ok(())
    }
}

/// A time in which operators sweep also between records.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    /// Its end.
    pub(super) until: Duration,
    /// The only operator that does; `None` for all.
    pub(super) operator: Option<String>,
}

impl Hurry {
    fn is_for(&self, operator: &str, now: Duration) -> bool {
        let only = self.operator.as_deref();
        now < self.until && only.is_none_or(|only| only == operator)
    }
}

impl Worker {
    /// Lets operators migrate some of what no record asks for, and drop what is left of earlier versions: all of them if the
    /// worker is idle, else those that are hurried; none while the job stops, which does not depend on it. One step of each is a few milliseconds of work, so that records and
    /// barriers do not wait for long. Returns whether there was anything to do.
    ///
    /// # Errors
    /// As [`Worker::step`].
    #[cold]
    pub(super) fn sweep_between(&mut self, now: Duration, is_idle: bool) -> Result<bool, JobError> {
        let mut has_moved = false;
        for node in (0..self.tasks.len()).map(NodeIndex) {
            let Some(Task::Operator(operator)) = &mut self.tasks[node.0] else {
                continue;
            };
            if operator.plugin.instance.is_job_stopping() {
                continue;
            }
            let is_hurried = self.link.hurry.is_for(&self.names[node.0], now);
            if is_hurried {
                operator.store_mut().hurry_versions();
            } else if !is_idle {
                continue;
            }
            if operator.has_nothing_to_sweep() {
                if is_hurried {
                    self.meters.note_sweep(node, operator, false);
                }
                continue;
            }
            let swept = match operator.plugin.sweep.is_over() {
                false => operator.sweep(self.wall_ms),
                true => Ok(true),
            };
            let swept = match swept {
                Ok(moved) => operator.settle(self.wall_ms).map(|()| moved),
                Err(error) => Err(error),
            };
            let lines = operator.take_log();
            let is_dirty = swept.is_ok() && operator.is_newly_dirty();
            self.meters.note_call(node, operator);
            if is_hurried {
                let has_stepped = matches!(swept, Ok(true));
                self.meters.note_sweep(node, operator, has_stepped);
            }
            self.report_log(node, lines);
            self.report_refusal(node);
            if is_dirty {
                let part = self.part(self.region_of[node.0]);
                self.link.report(Report::StateDirty(part));
            }
            has_moved |= swept.map_err(|error| JobError::of_task(&self.names[node.0], error))?;
        }
        Ok(has_moved)
    }

    /// Tells the job once that the operator of a node cannot migrate something.
    pub(super) fn report_refusal(&mut self, node: NodeIndex) {
        if let Some(Task::Operator(operator)) = &mut self.tasks[node.0]
            && let Some(reason) = operator.plugin.sweep.take_first()
        {
            self.link.report(Report::NotMigrated {
                operator: self.names[node.0].clone(),
                reason,
            });
        }
    }

    /// Whether an operator has something to migrate, or garbage of earlier versions to drop.
    pub(super) fn is_sweeping(&mut self) -> bool {
        self.tasks.iter_mut().flatten().any(|task| match task {
            Task::Operator(operator) => !operator.has_nothing_to_sweep(),
            Task::Source(_) | Task::Sink(_) => false,
        })
    }
}

impl OperatorTask {
    /// Whether all is migrated that can be, and no garbage of earlier versions can be dropped now. The ids of these
    /// versions go with the garbage, and then another version may follow.
    fn has_nothing_to_sweep(&mut self) -> bool {
        self.plugin.sweep.is_over() && !self.store_mut().can_drop_versions()
    }

    /// By name of a state with earlier versions: the bytes of state in which entries of these may be.
    pub(super) fn earlier_bytes(&mut self) -> Vec<(String, u64)> {
        let found = self.store_mut().earlier_bytes().into_iter();
        let states = &self.plugin.states;
        let named = found.filter_map(|(id, bytes)| {
            let state = states.iter().find(|state| state.id == id)?;
            Some((state.name.clone(), bytes))
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    //! Catches a sweep that counts a value twice, loses values when it halves them, or is over too early, and a hurry without
    //! end or of other operators.

    use super::*;

    fn keys(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
        let keys = numbers.map(|number| format!("{number:03}").into_bytes());
        keys.collect()
    }

    #[test]
    fn halves_have_all_keys_in_order() {
        for len in 2..20 {
            let mut sweep = Sweep::new(&[]);
            sweep.add(3, StateKind::Value, keys(0..len));
            let mut found = Vec::new();
            while let Some(piece) = sweep.pending.pop() {
                assert_eq!(piece.state, 3);
                match piece.keys.len() {
                    1 => found.extend(piece.keys),
                    _ => sweep.halve(piece),
                }
            }
            assert_eq!(found, keys(0..len));
        }
    }

    #[test]
    fn lists_are_tried_one_by_one_and_values_together() {
        let mut sweep = Sweep::new(&[]);
        assert!(sweep.is_over());
        sweep.add(0, StateKind::Value, Vec::new());
        assert!(sweep.is_over());
        sweep.add(0, StateKind::Value, keys(0..4));
        sweep.add(1, StateKind::List, [keys(0..2), keys(0..2)].concat());
        let sizes: Vec<_> = sweep.pending.iter().map(|piece| piece.keys.len()).collect();
        assert_eq!(sizes, [4, 1, 1]);
        assert!(!sweep.is_over());
    }

    #[test]
    fn a_hurry_ends_and_is_for_the_named_operator() {
        let second = Duration::from_secs;
        let hurry = |operator: Option<&str>| Hurry {
            until: second(5),
            operator: operator.map(str::to_owned),
        };
        for (hurry, now, expected) in [
            (hurry(None), second(4), true),
            (hurry(None), second(5), false),
            (hurry(Some("count")), second(4), true),
            (hurry(Some("other")), second(4), false),
            (Hurry::default(), second(0), false),
        ] {
            assert_eq!(hurry.is_for("count", now), expected, "{hurry:?} at {now:?}");
        }
    }

    #[test]
    fn a_value_is_counted_once() {
        let mut sweep = Sweep::new(&[]);
        assert_eq!(sweep.take_news(), Some(Vec::new()));
        for (at, state, key) in [(0, "a", "k"), (0, "a", "l"), (1, "b", "k"), (0, "a", "k")] {
            sweep.note(
                at,
                state,
                key.as_bytes(),
                "`s` from version 1 to version 2: no",
            );
        }
        let news = sweep.take_news().expect("there is some");
        let counts: Vec<_> = news
            .iter()
            .map(|failed| (failed.state.as_str(), failed.count))
            .collect();
        assert_eq!(counts, [("a", 2), ("b", 1)]);
        assert!(news[0].reason.contains("key \"k\""), "{}", news[0].reason);
        assert_eq!(sweep.take_news(), None);
    }
}
