//! PX4's clock (µs since its boot) to the node's clock.

use spikewing_runtime::{Span, Time};

/// Within this the two clocks are taken to be one: the embedded simulator, or PX4 with time synchronisation.
const SAME: Span = Span::from_millis(500);
/// Two free-running clocks drift apart by less than one part in this.
const DRIFT: i64 = 5000;

/// Offset between the clocks: the smallest delay seen, but for drift.
#[derive(Debug, Default)]
pub struct ClockMap {
    /// The offset, and when it held.
    offset: Option<(Span, Time)>,
}

impl ClockMap {
    /// The node's time of a PX4 stamp that arrived `now`.
    pub fn node_time(&mut self, px4_us: u64, now: Time) -> Time {
        if px4_us == 0 {
            return now;
        }
        let px4 = Time::from_nanoseconds(i64::try_from(px4_us).unwrap_or(i64::MAX).saturating_mul(1000));
        let apart = now - px4;
        if near(apart, Span::ZERO) {
            self.offset = None;
            return px4;
        }
        // A message is never earlier than its stamp, so the smallest difference is the nearest to the true offset. It
        // is let go slowly, or a PX4 clock that is the slower one would leave it behind for ever. A difference that is
        // far away means that a clock was set.
        let offset = match self.offset {
            Some((known, at)) if near(apart, known) => {
                let drift = Span::from_nanoseconds((now - at).nanoseconds().max(0) / DRIFT);
                (known + drift).min(apart)
            }
            _ => apart,
        };
        self.offset = Some((offset, now));
        px4 + offset
    }
}

/// Whether two offsets are those of clocks that were not set in between. Saturates: stamps may be anything.
fn near(one: Span, other: Span) -> bool {
    one.nanoseconds().saturating_sub(other.nanoseconds()).saturating_abs() < SAME.nanoseconds()
}
