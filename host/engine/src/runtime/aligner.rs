//! Aligns barriers: holds back an input after its barrier until the barriers of all other inputs have arrived (Carbone
//! et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows", 2015). Pure: it receives barriers and
//! returns what to do.
//!
//! In at-least-once mode, it holds nothing back. The snapshot is still taken at the last barrier, but it includes
//! effects of records behind the barriers of other inputs, and these records are replayed after a failure. Nothing is
//! lost in either mode, since each input's records before its barrier are in the snapshot.

use floodmark_state::stream::CheckpointId;

/// The guarantee of checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// After a failure each record counts once.
    #[default]
    ExactlyOnce,
    /// After a failure a record may count more than once.
    AtLeastOnce,
}

/// The index of an input of a region, from 0: its inlets in order, then all its sources together as one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionInput(pub usize);

/// Aligns the barriers of one region's inputs.
///
/// - In at-least-once mode, no input is ever held back; the rest is about exactly-once mode.
/// - While no checkpoint is being aligned, no input is held back.
/// - An input is held back from its own barrier until that of the last input, or until a barrier of a later checkpoint.
#[derive(Debug)]
pub struct Aligner {
    mode: Mode,
    /// By input.
    arrived: Vec<bool>,
    aligning: Option<CheckpointId>,
    newest: Option<CheckpointId>,
}

/// The effect of a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// All inputs have reached the checkpoint: the region takes its snapshot now.
    Aligned(CheckpointId),
    /// Some inputs have not reached it yet.
    Waiting,
    /// The barrier is of an aborted checkpoint.
    Stale,
}

impl Aligner {
    /// An aligner for this many inputs.
    #[must_use]
    pub fn new(inputs: usize, mode: Mode) -> Self {
        Self {
            mode,
            arrived: vec![false; inputs],
            aligning: None,
            newest: None,
        }
    }

    /// Whether an input is held back.
    #[must_use]
    pub fn holds(&self, input: RegionInput) -> bool {
        self.mode == Mode::ExactlyOnce && self.arrived[input.0]
    }

    /// Records a barrier, and returns its effect.
    pub fn barrier(&mut self, input: RegionInput, checkpoint: CheckpointId) -> Alignment {
        debug_assert!(
            self.aligning.is_some() || !self.arrived.contains(&true),
            "no input is held back while no checkpoint is being aligned"
        );
        if self.newest >= Some(checkpoint) && self.aligning != Some(checkpoint) {
            return Alignment::Stale;
        }
        if self.aligning != Some(checkpoint) {
            self.arrived.fill(false);
            self.aligning = Some(checkpoint);
            self.newest = Some(checkpoint);
        }
        self.arrived[input.0] = true;
        if self.arrived.contains(&false) {
            return Alignment::Waiting;
        }
        self.arrived.fill(false);
        self.aligning = None;
        Alignment::Aligned(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a snapshot before all barriers have come, and an input that is never released.

    use super::*;

    fn check(inputs: usize, barriers: &[(usize, u64)], expected: &str) {
        check_in(Mode::ExactlyOnce, inputs, barriers, expected);
        let free = regardless_of_holding(expected);
        check_in(Mode::AtLeastOnce, inputs, barriers, &free);
    }

    /// The expected results when no input is held back.
    fn regardless_of_holding(expected: &str) -> String {
        let steps = expected.split("; ").map(|step| {
            let (said, _) = step.split_once(" holds ").expect("it says what is held");
            format!("{said} holds []")
        });
        steps.collect::<Vec<_>>().join("; ")
    }

    fn check_in(mode: Mode, inputs: usize, barriers: &[(usize, u64)], expected: &str) {
        let mut aligner = Aligner::new(inputs, mode);
        let mut seen = Vec::new();
        for &(input, checkpoint) in barriers {
            let alignment = aligner.barrier(RegionInput(input), CheckpointId(checkpoint));
            let is_held = |input: &usize| aligner.holds(RegionInput(*input));
            let held: Vec<_> = (0..inputs).filter(is_held).collect();
            seen.push(match alignment {
                Alignment::Aligned(id) => format!("aligned {id} holds {held:?}"),
                Alignment::Waiting => format!("waits holds {held:?}"),
                Alignment::Stale => format!("stale holds {held:?}"),
            });
        }
        assert_eq!(seen.join("; "), expected);
    }

    #[test]
    fn one_input_never_waits() {
        check(
            1,
            &[(0, 1), (0, 2)],
            "aligned 1 holds []; aligned 2 holds []",
        );
    }

    #[test]
    fn the_last_barrier_aligns() {
        check(
            3,
            &[(1, 5), (0, 5), (2, 5)],
            "waits holds [1]; waits holds [0, 1]; aligned 5 holds []",
        );
    }

    #[test]
    fn a_later_checkpoint_overtakes() {
        check(
            2,
            &[(0, 1), (1, 2), (0, 2), (1, 1)],
            "waits holds [0]; waits holds [1]; aligned 2 holds []; stale holds []",
        );
    }
}
