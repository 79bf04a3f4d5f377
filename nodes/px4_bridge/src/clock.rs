//! PX4's clock (µs since its boot) to the node's clock.

use spikewing_runtime::{Span, Time};

/// Within this the two clocks are taken to be one: the embedded simulator, or PX4 with time synchronisation.
const SAME: Span = Span::from_millis(500);

/// Offset between the clocks: the smallest delay seen.
#[derive(Debug, Default)]
pub struct ClockMap {
    offset: Option<Span>,
}

impl ClockMap {
    /// The node's time of a PX4 stamp that arrived `now`.
    pub fn node_time(&mut self, px4_us: u64, now: Time) -> Time {
        if px4_us == 0 {
            return now;
        }
        let px4 = Time::from_nanoseconds(i64::try_from(px4_us).unwrap_or(i64::MAX).saturating_mul(1000));
        let apart = now - px4;
        if apart.nanoseconds().abs() < SAME.nanoseconds() {
            self.offset = None;
            return px4;
        }
        // A message is never earlier than its stamp, so the smallest difference is the nearest to the true offset; one
        // that is far away means that a clock was set.
        let offset = match self.offset {
            Some(known) if (apart.nanoseconds() - known.nanoseconds()).abs() < SAME.nanoseconds() => {
                known.min(apart)
            }
            _ => apart,
        };
        self.offset = Some(offset);
        px4 + offset
    }
}
