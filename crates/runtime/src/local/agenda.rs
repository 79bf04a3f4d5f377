//! What happens in the present instant, and what happens later.

use std::{any::Any, sync::mpsc};

use spikewing_msgs::AnyMessage;

use crate::{node::CallId, time::Time};

/// What a job's thread sends: its result, or the message of its panic.
pub(super) type JobReceiver = mpsc::Receiver<Result<Box<dyn Any + Send>, String>>;

/// What happens in the present instant.
pub(super) enum Now {
    Message {
        topic: usize,
        message: AnyMessage,
    },
    Request {
        server: usize,
        port: &'static str,
        client: usize,
        client_port: &'static str,
        call: CallId,
        request: AnyMessage,
    },
    Response {
        client: usize,
        port: &'static str,
        call: CallId,
        response: Result<AnyMessage, String>,
    },
}

/// What happens later; ordered by time, then by when it was planned.
pub(super) struct Later {
    pub at: Time,
    pub sequence: u64,
    pub what: Planned,
}

/// A thing that was planned.
pub(super) enum Planned {
    Timer { node: usize, index: usize },
    Job { node: usize, name: &'static str, result: JobReceiver },
    ShutdownPoll,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
