//! Bounded channels between workers.
//!
//! A channel carries whole batches and the marks between them, in order. A full one refuses, so that pressure reaches the
//! sources. Sending never blocks: a worker that waited for another could not empty its own inputs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::keyed::KeyedBatch;
use crate::stream::{CheckpointId, Timestamp};

/// Messages that a channel holds.
const CAPACITY: usize = 16;

/// What flows between workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Records, for the input port of the edge that the channel belongs to.
    Records(Box<KeyedBatch>),
    /// No record before this time will follow.
    Watermark(Timestamp),
    /// All before belongs to this checkpoint, all after does not.
    Barrier(CheckpointId),
    /// No record will follow; barriers may.
    EndOfInput,
}

/// Wakes the thread that runs a worker.
pub trait Wake: Send + Sync {
    /// There may be something to do. May be called from any thread, at any time, any number of times.
    fn wake(&self);
}

struct SharedQueue {
    queue: Mutex<VecDeque<Message>>,
    wake_receiver: Arc<dyn Wake>,
    wake_sender: Arc<dyn Wake>,
}

/// The end that messages go into.
pub struct Sender(Arc<SharedQueue>);

/// The end that messages come out of.
pub struct Receiver(Arc<SharedQueue>);

/// A channel between two workers.
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
    /// Puts messages in, from the front of `pending`, as long as there is room.
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
