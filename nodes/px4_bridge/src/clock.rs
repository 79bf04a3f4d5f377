//! PX4's clock (µs since its boot) to the node's clock.

use std::collections::VecDeque;

use spikewing_runtime::{Span, Time};

/// Within this the two clocks are taken to be one: the embedded simulator, or PX4 with time synchronisation.
const SAME: Span = Span::from_millis(500);
/// Smallest delays are kept for stretches of this length …
const STRETCH: Span = Span::from_millis(250);
/// … and so many of them: the two clocks' rates are compared over as long.
const STRETCHES: usize = 16;
/// Rates are not judged before this much has been seen: within less, delays weigh more than rates.
const JUDGED: Span = Span::from_millis(1500);
/// Two clocks run within this of each other; a simulated PX4 on a busy machine was seen 0.9 % slow.
const MOST_DRIFT: f64 = 0.05;

/// The smallest difference between arrival and stamp within a stretch, and when it was seen.
#[derive(Clone, Copy, Debug)]
struct Nearest {
    since: Time,
    at: Time,
    apart: Span,
}

/// Offset and rate between the clocks.
///
/// A message never arrives before its stamp, so that the smallest difference is nearest to the true offset. Where one
/// clock is the slower one the differences grow, or shrink, by the ratio of their rates: a line through the smallest
/// differences of the first and the last stretches, moved down until it touches the lowest of all.
#[derive(Debug, Default)]
pub struct ClockMap {
    nearest: VecDeque<Nearest>,
}

impl ClockMap {
    /// The node's time of a PX4 stamp that arrived `now`. Never later than now.
    pub fn node_time(&mut self, px4_us: u64, now: Time) -> Time {
        if px4_us == 0 {
            return now;
        }
        let px4 = Time::from_nanoseconds(i64::try_from(px4_us).unwrap_or(i64::MAX).saturating_mul(1000));
        let apart = now - px4;
        if near(apart, Span::ZERO) {
            self.nearest.clear();
            return px4;
        }
        self.learn(now, apart);
        px4 + self.offset(now).min(apart)
    }

    fn learn(&mut self, now: Time, apart: Span) {
        // What is far away from the last means that a clock was set.
        if self.nearest.back().is_some_and(|last| !near(apart, last.apart) || now < last.at) {
            self.nearest.clear();
        }
        match self.nearest.back_mut() {
            Some(last) if now - last.since < STRETCH => {
                if apart <= last.apart {
                    (last.apart, last.at) = (apart, now);
                }
            }
            _ => {
                if self.nearest.len() == STRETCHES {
                    self.nearest.pop_front();
                }
                self.nearest.push_back(Nearest { since: now, at: now, apart });
            }
        }
    }

    /// How fast the difference grows: seconds a second.
    fn drift(&self) -> f64 {
        let (Some(first), Some(last)) = (self.nearest.front(), self.nearest.back()) else { return 0.0 };
        let span = last.at - first.at;
        if span < JUDGED {
            return 0.0;
        }
        // Halves, so that one late stretch does not tilt the line.
        let half = self.nearest.len() / 2;
        let lowest = |part: &mut dyn Iterator<Item = &Nearest>| part.min_by_key(|n| n.apart).copied();
        let (Some(one), Some(other)) =
            (lowest(&mut self.nearest.iter().take(half)), lowest(&mut self.nearest.iter().skip(half)))
        else {
            return 0.0;
        };
        let rate = |a: &Nearest, b: &Nearest| {
            (b.apart.seconds() - a.apart.seconds()) / (b.at - a.at).seconds().max(1e-3)
        };
        // Both lines must agree that there is a drift; otherwise it is the delays that change.
        let (whole, halves) = (rate(first, last), rate(&one, &other));
        let slower = if whole.abs() < halves.abs() { whole } else { halves };
        if whole * halves > 0.0 { slower.clamp(-MOST_DRIFT, MOST_DRIFT) } else { 0.0 }
    }

    fn offset(&self, now: Time) -> Span {
        let drift = self.drift();
        let along = |n: &Nearest| n.apart + Span::from_seconds(drift * (now - n.at).seconds());
        self.nearest.iter().map(along).min().unwrap_or(Span::ZERO)
    }
}

/// Whether two offsets are those of clocks that were not set in between. Saturates: stamps may be anything.
fn near(one: Span, other: Span) -> bool {
    one.nanoseconds().saturating_sub(other.nanoseconds()).saturating_abs() < SAME.nanoseconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ages of stamps over 60 s at 100 Hz, from a PX4 clock that runs at `rate`, with delays of 1 to 9 ms.
    fn ages(rate: f64) -> Vec<f64> {
        let mut map = ClockMap::default();
        let mut ages = Vec::new();
        for step in 0..6000_u64 {
            let sent = step as f64 * 0.01;
            let delay = 0.001 + 0.008 * ((step * 7919) % 100) as f64 / 100.0;
            let now = Time::from_nanoseconds(1_700_000_000_000_000_000) + Span::from_seconds(sent + delay);
            let stamp = map.node_time(1_000_000 + (sent * rate * 1e6) as u64, now);
            assert!(stamp <= now, "a stamp from the future");
            if step > 300 {
                ages.push((now - stamp).seconds());
            }
        }
        ages
    }

    #[test]
    fn a_clock_that_is_slow_or_fast_does_not_age_the_stamps() {
        for rate in [1.0, 0.991, 1.009, 0.9998] {
            let ages = ages(rate);
            let worst = ages.iter().copied().fold(0.0, f64::max);
            let mean = ages.iter().sum::<f64>() / ages.len() as f64;
            assert!(worst < 0.02 && mean < 0.009, "rate {rate}: worst {worst}, mean {mean}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed_at_once() {
        let mut map = ClockMap::default();
        let now = Time::from_nanoseconds(1_700_000_000_000_000_000);
        assert_eq!(map.node_time(5_000_000, now), now);
        let later = now + Span::from_millis(10);
        assert_eq!(map.node_time(90_000_000, later), later, "PX4 was started again, or set");
        assert_eq!(map.node_time(0, later), later, "stamp on arrival");
    }
}
