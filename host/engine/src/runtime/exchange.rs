//! Bounded channels between workers.
//!
//! A channel carries whole batches and the marks between them, in order. A full channel accepts no more, so
//! backpressure reaches the sources. Sending never blocks: a worker that waited for another could not empty its own
//! inputs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::keyed::KeyedBatch;
use floodmark_state::stream::{CheckpointId, Timestamp};

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
