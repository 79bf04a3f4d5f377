//! Warnings at most once a second per cause.

use std::time::{Duration, Instant};

/// Counts a cause and says when it may be logged.
#[derive(Debug, Default)]
pub struct Throttle {
    total: u64,
    last: Option<Instant>,
}

impl Throttle {
    /// Counts one more. Returns the total when it is time to log.
    pub fn count(&mut self) -> Option<u64> {
        self.total += 1;
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            return None;
        }
        self.last = Some(now);
        Some(self.total)
    }
}
