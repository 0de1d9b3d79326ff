//! Exchanges between workers: bounded channels from each to each, and the records and marks that wait for them.
//!
//! A channel carries whole batches and the marks between them, in order. A full channel accepts no more, so
//! backpressure reaches the sources. Sending never blocks: a worker that waited for another could not empty its own
//! inputs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::keyed::{KeyedBatch, Partitioner};
use floodmark_state::stream::{Batch, CheckpointId, Timestamp};

/// Largest number of messages in a channel.
const CAPACITY: usize = 16;

/// A message between workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Records, for the input port of the edge that the channel belongs to.
    Records(Box<KeyedBatch>),
    /// No record with an earlier event time will follow.
    Watermark(Timestamp),
    /// Records before it belong to this checkpoint, records after it do not.
    Barrier(CheckpointId),
    /// No record will follow; barriers may.
    EndOfInput,
}

/// Wakes the thread that runs a worker.
pub trait Wake: Send + Sync {
    /// Tells the worker that there may be something to do. Any thread may call this at any time, any number of times.
    fn wake(&self);
}

struct SharedQueue {
    queue: Mutex<VecDeque<Message>>,
    wake_receiver: Arc<dyn Wake>,
    wake_sender: Arc<dyn Wake>,
}

/// The sending end of a channel.
pub struct Sender(Arc<SharedQueue>);

/// The receiving end of a channel.
pub struct Receiver(Arc<SharedQueue>);

/// Creates a channel between two workers.
#[must_use]
pub fn channel(wake_sender: Arc<dyn Wake>, wake_receiver: Arc<dyn Wake>) -> (Sender, Receiver) {
    let shared = Arc::new(SharedQueue {
        queue: Mutex::new(VecDeque::with_capacity(CAPACITY)),
        wake_receiver,
        wake_sender,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    /// Sends messages from the front of `pending` while there is room.
    pub fn send_from(&self, pending: &mut VecDeque<Message>) {
        if pending.is_empty() {
            return;
        }
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.is_empty();
        while queue.len() < CAPACITY
            && let Some(message) = pending.pop_front()
        {
            queue.push_back(message);
        }
        if was_empty && !queue.is_empty() {
            drop(queue);
            self.0.wake_receiver.wake();
        }
    }
}

impl Receiver {
    /// The next message, if there is one.
    pub fn receive(&self) -> Option<Message> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = queue.len() == CAPACITY;
        let message = queue.pop_front();
        if was_full {
            drop(queue);
            self.0.wake_sender.wake();
        }
        message
    }
}

/// An edge to all workers, including this one.
pub(super) struct Exchange {
    partitioner: Partitioner,
    /// By task.
    lanes: Vec<Lane>,
}

/// The way to one worker.
struct Lane {
    sender: Sender,
    /// What the channel has no room for yet.
    pending: VecDeque<Message>,
}

impl Exchange {
    /// An exchange with a channel for each task of the partitioner.
    pub(super) fn new(partitioner: Partitioner, senders: impl Iterator<Item = Sender>) -> Self {
        let lanes = senders.map(|sender| Lane {
            sender,
            pending: VecDeque::new(),
        });
        Self {
            partitioner,
            lanes: lanes.collect(),
        }
    }

    /// Takes records. Those that do not fill a batch yet wait for others to the same worker.
    pub(super) fn push(&mut self, batch: &Batch) {
        let Self { partitioner, lanes } = self;
        partitioner.push(batch, |task, keyed| lanes[usize::from(task.0)].queue(keyed));
    }

    /// Whether records wait for others.
    pub(super) fn holds_any(&self) -> bool {
        self.partitioner.holds_any()
    }

    /// Passes on the records that wait for others.
    pub(super) fn flush(&mut self) {
        let Self { partitioner, lanes } = self;
        partitioner.flush(|task, keyed| lanes[usize::from(task.0)].queue(keyed));
    }

    /// Passes on a mark to all workers, behind all records.
    pub(super) fn broadcast(&mut self, mark: &Message) {
        self.flush();
        for lane in &mut self.lanes {
            lane.pending.push_back(mark.clone());
        }
    }

    /// Sends what the channels have room for; returns whether that was all.
    pub(super) fn drain(&mut self) -> bool {
        let mut free = true;
        for lane in &mut self.lanes {
            lane.sender.send_from(&mut lane.pending);
            free &= lane.pending.is_empty();
        }
        free
    }
}

impl Lane {
    fn queue(&mut self, keyed: KeyedBatch) {
        self.pending.push_back(Message::Records(Box::new(keyed)));
    }
}
