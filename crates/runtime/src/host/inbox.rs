//! What has arrived and waits for the node.

use std::collections::VecDeque;

use crate::node::CallId;

/// One thing that arrived. `R` is what the transport needs to answer a request.
#[derive(Debug)]
pub enum Item<R> {
    /// A sample for an input.
    Message {
        /// Index of the input.
        input: usize,
        /// CDR with its header.
        bytes: Vec<u8>,
    },
    /// A request for a server.
    Request {
        /// Index of the server.
        server: usize,
        /// To whom the answer goes.
        reply: R,
        /// CDR with its header.
        bytes: Vec<u8>,
    },
    /// A response to a call.
    Response {
        /// Index of the client.
        client: usize,
        /// The call.
        call: CallId,
        /// CDR with its header.
        bytes: Vec<u8>,
    },
    /// Bytes that are no sample at all.
    Malformed {
        /// Topic or service.
        topic: String,
        /// Why.
        reason: String,
    },
}

/// Queue between the wire and the node. Each input holds at most as many samples as its depth; a newer one pushes the
/// oldest out, so a slow node sees the present and never works through the past.
#[derive(Debug)]
pub struct Inbox<R> {
    items: VecDeque<Item<R>>,
    depths: Vec<usize>,
    waiting: Vec<usize>,
    overtaken: Vec<u64>,
}

impl<R> Inbox<R> {
    /// An empty one for inputs of these depths.
    pub fn new(depths: impl IntoIterator<Item = usize>) -> Self {
        let depths: Vec<usize> = depths.into_iter().map(|d| d.max(1)).collect();
        let count = depths.len();
        Self {
            items: VecDeque::with_capacity(64),
            depths,
            waiting: vec![0; count],
            overtaken: vec![0; count],
        }
    }

    /// Adds what arrived.
    pub fn push(&mut self, item: Item<R>) {
        if let Item::Message { input, .. } = item {
            let (Some(depth), Some(waiting)) = (self.depths.get(input), self.waiting.get_mut(input)) else {
                return;
            };
            if *waiting >= *depth {
                let oldest = self
                    .items
                    .iter()
                    .position(|i| matches!(i, Item::Message { input: i, .. } if *i == input));
                if let Some(oldest) = oldest {
                    self.items.remove(oldest);
                    if let Some(count) = self.overtaken.get_mut(input) {
                        *count += 1;
                    }
                }
            } else {
                *waiting += 1;
            }
        }
        self.items.push_back(item);
    }

    /// The oldest of what waits and is wanted.
    pub fn pop(&mut self, wanted: impl Fn(&Item<R>) -> bool) -> Option<Item<R>> {
        let index = self.items.iter().position(wanted)?;
        let item = self.items.remove(index)?;
        if let Item::Message { input, .. } = item
            && let Some(waiting) = self.waiting.get_mut(input)
        {
            *waiting = waiting.saturating_sub(1);
        }
        Some(item)
    }

    /// Samples of an input that a newer one pushed out before the node saw them.
    #[cfg(test)]
    pub fn overtaken(&self, input: usize) -> u64 {
        self.overtaken.get(input).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(input: usize, value: u8) -> Item<()> {
        Item::Message { input, bytes: vec![value] }
    }

    #[test]
    fn the_newest_samples_win_and_the_order_holds() {
        let mut inbox = Inbox::new([1, 3]);
        for value in 0..5 {
            inbox.push(message(0, value));
            inbox.push(message(1, value));
        }
        inbox.push(Item::Response { client: 0, call: CallId(1), bytes: vec![] });
        let mut seen = Vec::new();
        while let Some(item) = inbox.pop(|_| true) {
            match item {
                Item::Message { input, bytes } => seen.push((input, bytes[0])),
                _ => seen.push((9, 9)),
            }
        }
        assert_eq!(seen, [(1, 2), (1, 3), (0, 4), (1, 4), (9, 9)]);
        assert_eq!((inbox.overtaken(0), inbox.overtaken(1)), (4, 2));
        inbox.push(message(0, 7));
        assert!(inbox.pop(|i| matches!(i, Item::Request { .. })).is_none());
        assert!(inbox.pop(|_| true).is_some());
    }
}
