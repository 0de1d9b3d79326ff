//! The clients of a simulated job: what they request, and that none of them waits for a job that is over.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use floodmark_engine::job::{
    Answer, Caller, Input, Request, Rescaled, RollbackRequest, RolledBack, SwapRequest, Swapped,
};
use floodmark_engine::runtime::plan::Operator;
use floodmark_engine::runtime::swap::{PreparedSwap, Running};
use floodmark_state::stream::CheckpointId;

use crate::COUNT;
use crate::process::{Process, push};

/// A client that waits for an answer.
pub enum Waiting {
    Running(mpsc::Receiver<Answer<Running>>),
    Swap(mpsc::Receiver<Answer<Swapped>>),
    Rescale(mpsc::Receiver<Answer<Rescaled>>),
    Rollback(mpsc::Receiver<Answer<RolledBack>>),
    Checkpoint(mpsc::Receiver<Answer<CheckpointId>>),
}

impl Process<'_> {
    /// A client comes, or one that has prepared a swap comes back.
    pub fn make_request(&mut self) {
        let request = match self.below(16) {
            0..10 => {
                let running = self.waiting.iter().find_map(|waiting| match waiting {
                    Waiting::Running(answer) => Some(answer.try_recv()),
                    _ => None,
                });
                match running {
                    None => {
                        let (caller, answer) = Caller::new();
                        self.waiting.push(Waiting::Running(answer));
                        Request::Describe(caller)
                    }
                    // It may have been described before the job went back.
                    Some(Ok(running)) => {
                        self.waiting
                            .retain(|waiting| !matches!(waiting, Waiting::Running(_)));
                        self.swap(&running.expect("all is told"))
                    }
                    Some(Err(_)) => return,
                }
            }
            10..12 => {
                let (caller, answer) = Caller::new();
                self.waiting.push(Waiting::Rescale(answer));
                Request::Rescale {
                    parallelism: 1 + self.below(4) as u16,
                    caller,
                }
            }
            12 => {
                let Some(to) = self.some_checkpoint() else {
                    return;
                };
                let (caller, answer) = Caller::new();
                self.waiting.push(Waiting::Rollback(answer));
                Request::Rollback(Box::new(RollbackRequest {
                    to,
                    operators: Vec::new(),
                    can_resume: Arc::new(|| Ok(())),
                    caller,
                }))
            }
            13 if self.below(4) == 0 => {
                let (caller, answer) = Caller::new();
                self.waiting.push(Waiting::Checkpoint(answer));
                Request::Stop {
                    drain: self.below(2) == 0,
                    caller: Some(caller),
                }
            }
            _ => {
                let (caller, answer) = Caller::new();
                self.waiting.push(Waiting::Checkpoint(answer));
                Request::Checkpoint(caller)
            }
        };
        push(&self.inbox, Input::Request(request));
    }

    /// One of those that are there, or one that is not.
    fn some_checkpoint(&mut self) -> Option<CheckpointId> {
        let reader = match (&self.live, &self.store) {
            (Some(live), _) => live.writer.reader(),
            (None, Some(store)) => store.reader(),
            (None, None) => return None,
        };
        let listed = reader.list().expect("it is readable");
        let at = self.below(listed.len() as u64 + 1) as usize;
        let missing = CheckpointId(1);
        Some(listed.get(at).map_or(missing, |(id, _)| *id))
    }

    /// One of the operators, or both, by the same plugin opened otherwise.
    fn swap(&mut self, running: &Running) -> Request {
        let plugin = COUNT[self.below(2) as usize].clone();
        let operator = Operator::new(Arc::new(plugin), Vec::new());
        let names = match self.below(3) {
            0 => vec!["first"],
            1 => vec!["second"],
            _ => vec!["first", "second"],
        };
        let operators = names
            .iter()
            .map(|name| ((*name).to_owned(), operator.clone()));
        let prepared = PreparedSwap::new(running, operators.collect(), false);
        let trial = match self.below(2) {
            0 => None,
            _ => Some(Duration::from_millis(self.below(400))),
        };
        let (caller, answer) = Caller::new();
        self.waiting.push(Waiting::Swap(answer));
        Request::Swap(Box::new(SwapRequest {
            prepared: prepared.expect("the plugin fits"),
            trial,
            stopwatch: Arc::new(|| Duration::ZERO),
            caller,
        }))
    }

    /// A job that is over has answered or dropped all clients but those of whom it has not heard.
    pub fn check_clients(&mut self) {
        self.inbox.lock().expect("no test panics with it").clear();
        for waiting in &self.waiting {
            let is_waiting = match waiting {
                Waiting::Running(answer) => is_waiting(answer),
                Waiting::Swap(answer) => is_waiting(answer),
                Waiting::Rescale(answer) => is_waiting(answer),
                Waiting::Rollback(answer) => is_waiting(answer),
                Waiting::Checkpoint(answer) => is_waiting(answer),
            };
            assert!(!is_waiting, "a client waits for a job that is over");
        }
    }
}

fn is_waiting<T>(answer: &mpsc::Receiver<T>) -> bool {
    matches!(answer.try_recv(), Err(mpsc::TryRecvError::Empty))
}
