//! Samples the functions on the stacks of guests, a thousand times a second, for a profiled run.
//!
//! Compiled code reads the engine's epoch at the entry of each function and at the head of each loop, which is also how
//! time limits are enforced. In an engine that samples, each sample advances the epoch as well
//! ([`GuestEngine::sample`]), and a guest that notices calls [`look`], which records its stack and checks its time
//! limit. So the compiled code is the same, and an engine that does not sample has no extra cost. Between two checks a
//! guest executes at most one loop or call, which is the precision of a sample. Only calls of `process` are sampled.
//!
//! Components choose the names of functions, so names are shortened, made printable, and limited in number, as are
//! stacks.
//!
//! [`GuestEngine::sample`]: super::GuestEngine::sample

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{AsContext, StoreContextMut, UpdateDeadline, WasmBacktrace};

use super::guest_state::GuestState;

/// The time between two samples.
pub const SAMPLE: Duration = Duration::from_millis(1);
/// Functions of a stack that are kept: the innermost ones.
pub(super) const FRAMES_MAX: usize = 128;
/// Largest number of different stacks, over all operators.
const STACKS_MAX: usize = 1 << 15;
/// Largest number of different functions, over all operators.
const FUNCTIONS_MAX: usize = 1 << 15;
/// Longest name of a function, in characters.
const NAME_CHARS_MAX: usize = 200;
/// The name of functions without a name.
const UNNAMED: &str = "[unnamed]";
/// The name of functions beyond [`FUNCTIONS_MAX`].
const OTHERS: &str = "[others]";
/// The name of functions beyond [`FRAMES_MAX`].
const DEEPER: &str = "[outer functions]";

/// The kind of profiling of guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profiling {
    /// No profiling.
    #[default]
    Off,
    /// Stacks are sampled.
    Samples,
    /// A file in `/tmp` tells `perf` the addresses of functions.
    PerfMap,
}

/// A stack, outermost function first, and the number of samples with it.
pub type SampledStack = (Vec<String>, u64);

/// The samples of all guests of an engine.
#[derive(Debug, Default)]
pub struct Samples {
    seen: Mutex<SampleCounts>,
}

#[derive(Debug, Default)]
struct SampleCounts {
    /// Numbers of operators and functions, by name.
    names: BTreeMap<String, u32>,
    /// Number of samples, by operator and stack.
    stacks: BTreeMap<(u32, Vec<u32>), u64>,
    left_out: u64,
}

impl Samples {
    fn seen(&self) -> MutexGuard<'_, SampleCounts> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sampled stacks, by operator.
    #[must_use]
    pub fn by_operator(&self) -> BTreeMap<String, Vec<SampledStack>> {
        let seen = self.seen();
        let mut names = vec![""; seen.names.len()];
        for (name, &number) in &seen.names {
            names[number as usize] = name;
        }
        let name = |number: &u32| names[*number as usize].to_owned();
        let mut stacks = BTreeMap::<_, Vec<_>>::new();
        for ((operator, stack), count) in &seen.stacks {
            let stack = stack.iter().map(name).collect();
            stacks
                .entry(name(operator))
                .or_default()
                .push((stack, *count));
        }
        stacks
    }

    /// Number of samples that were dropped because there were too many different stacks.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.seen().left_out
    }

    fn note<'a>(&self, operator: &str, stack: impl Iterator<Item = &'a str>) {
        self.seen().note(operator, stack);
    }
}

impl SampleCounts {
    /// Adds a sample, innermost function first.
    fn note<'a>(&mut self, operator: &str, functions: impl Iterator<Item = &'a str>) {
        let operator = self.number(operator);
        let mut stack = Vec::new();
        for (depth, function) in functions.enumerate() {
            if depth == FRAMES_MAX {
                stack.push(self.number(DEEPER));
                break;
            }
            stack.push(self.number(&shown(function)));
        }
        stack.reverse();
        let has_room = self.stacks.len() < STACKS_MAX;
        match self.stacks.get_mut(&(operator, stack.clone())) {
            Some(count) => *count += 1,
            None if has_room => {
                self.stacks.insert((operator, stack), 1);
            }
            None => self.left_out += 1,
        }
    }

    /// The number of a name. Names given by the host always get one.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.names.get(name) {
            return number;
        }
        let is_full = self.names.len() >= FUNCTIONS_MAX;
        if is_full && name != OTHERS && name != DEEPER {
            return self.number(OTHERS);
        }
        let number = self.names.len() as u32;
        self.names.insert(name.to_owned(), number);
        number
    }
}

/// A function's name for people: for Rust, without the compiler's additions.
fn shown(name: &str) -> String {
    let demangled = format!("{:#}", rustc_demangle::demangle(name));
    // The separator of names in a stack must not be part of a name.
    let printable = |char: char| match char {
        ';' => ':',
        char if char.is_control() => ' ',
        char => char,
    };
    let mut shown: String = demangled
        .chars()
        .take(NAME_CHARS_MAX)
        .map(printable)
        .collect();
    if shown.trim().is_empty() {
        UNNAMED.clone_into(&mut shown);
    }
    shown
}

/// Called when a guest notices a new epoch: records its stack, and ends a call whose time is over.
pub(super) fn look(
    store: &mut StoreContextMut<'_, GuestState>,
    operator: &str,
    samples: &Samples,
) -> UpdateDeadline {
    if store.data_mut().is_out_of_time() {
        return UpdateDeadline::Interrupt;
    }
    if store.data().timer.is_in_call() {
        let trace = WasmBacktrace::force_capture(store.as_context());
        let functions = trace.frames().iter();
        let functions = functions.map(|frame| frame.func_name().unwrap_or(UNNAMED));
        samples.note(operator, functions);
    }
    UpdateDeadline::Continue(1)
}

/// Schedules the next sample after the host returns to the guest, so that time in the host is not counted as the
/// guest's. A guest whose time is over must notice at once.
pub(super) fn enter_guest(store: &mut StoreContextMut<'_, GuestState>) {
    let ticks = u64::from(!store.data_mut().is_out_of_time());
    store.set_epoch_deadline(ticks);
}

/// A new, empty collection.
pub(super) fn shared(profiling: Profiling) -> Option<Arc<Samples>> {
    (profiling == Profiling::Samples).then(Arc::default)
}

#[cfg(test)]
mod tests {
    //! Catches samples that are lost, counted for another stack, or without limit, and names that break the formats
    //! they are written to.

    use super::*;

    #[test]
    fn equal_stacks_are_one_and_begin_with_the_outermost_function() {
        let samples = Samples::default();
        for stack in [&["c", "b", "a"][..], &["b", "a"], &["c", "b", "a"]] {
            samples.note("count", stack.iter().copied());
        }
        samples.note("other", ["a"].into_iter());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = [
            (
                "count".to_owned(),
                vec![(names(&["a", "b", "c"]), 2), (names(&["a", "b"]), 1)],
            ),
            ("other".to_owned(), vec![(names(&["a"]), 1)]),
        ];
        let mut seen = samples.by_operator();
        for stacks in seen.values_mut() {
            stacks.sort_by_key(|(stack, _)| std::cmp::Reverse(stack.len()));
        }
        assert_eq!(seen, BTreeMap::from(expected));
        assert_eq!(samples.left_out(), 0);
    }

    #[test]
    fn a_guest_cannot_make_the_host_keep_without_bounds() {
        let samples = Samples::default();
        for number in 0..STACKS_MAX + 10 {
            let name = format!("f{number}");
            samples.note("count", [name.as_str()].into_iter());
        }
        let seen = samples.by_operator();
        let functions: u64 = seen["count"].iter().map(|(_, count)| count).sum();
        assert_eq!(functions + samples.left_out(), (STACKS_MAX + 10) as u64);
        assert!(seen["count"].len() <= STACKS_MAX);
        assert!(samples.seen().names.len() <= FUNCTIONS_MAX + 2);
        let deep = Samples::default();
        deep.note("count", std::iter::repeat_n("f", 100_000));
        let seen = deep.by_operator();
        assert_eq!(seen["count"][0].0.len(), FRAMES_MAX + 1);
        assert_eq!(seen["count"][0].0[0], DEEPER);
    }

    #[test]
    fn names_are_for_people() {
        for (name, expected) in [
            (
                "_ZN10word_count5tally17h0123456789abcdefE",
                "word_count::tally",
            ),
            ("_PyEval_EvalFrameDefault", "_PyEval_EvalFrameDefault"),
            ("a;b\n c", "a:b  c"),
            (" ", UNNAMED),
            ("", UNNAMED),
        ] {
            assert_eq!(shown(name), expected);
        }
        assert_eq!(shown(&"x".repeat(10_000)).len(), NAME_CHARS_MAX);
    }
}
