//! Ticks that were missed, told from a source that is merely uneven.
//!
//! PX4 sends its odometry 8, 8, 8 and 16 ms apart, and what it sends is up to 20 ms old: nothing is missed there. So ticks are
//! *counted*: as many odometries as the control rate promises over the time that their stamps span. A gap that the shorter
//! steps around it make good is none; a message that never came leaves the count one short for good. And an odometry is
//! *late* when it is a whole period older than this source's youngest ones are when they arrive, whatever their age and
//! whatever the offset between the two clocks.

use spikewing_runtime::{Span, Time};

/// The count is one short when it is short by so much; PX4's pattern swings by 0.3 either way.
const SHORT: f64 = 0.9;
/// Share of the count, and of the youngest age, that is forgotten at each tick: a clock that runs 1 % slow misses nothing.
const FORGET: f64 = 0.02;
/// A gap of more than this is a pause of the whole system, not a missed tick of ours.
const PAUSE: Span = Span::from_millis(1000);

/// Watches the odometry's stamps.
#[derive(Debug)]
pub(crate) struct Cadence {
    period: Span,
    last: Option<Time>,
    /// Ticks that should have come and did not, up to the source's unevenness.
    short: f64,
    /// Age that this source's odometries have when they arrive, at least, s.
    youngest_s: f64,
    missed: u64,
}

impl Cadence {
    pub fn new(period: Span) -> Self {
        Self { period, last: None, short: 0.0, youngest_s: 0.0, missed: 0 }
    }

    /// Control ticks that got no command within their period.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// An odometry of time `stamp` arrived at `now`.
    pub fn note(&mut self, now: Time, stamp: Time) {
        let period = self.period.seconds();
        let age = (now - stamp).seconds();
        let last = self.last.replace(stamp);
        let gap = last.map(|last| stamp - last);
        let Some(gap) = gap.filter(|g| *g > Span::ZERO && *g < PAUSE) else {
            (self.short, self.youngest_s) = (0.0, age);
            return;
        };
        self.short = (1.0 - FORGET) * self.short + gap.seconds() / period - 1.0;
        if self.short > SHORT {
            let missing = self.short.round().max(1.0);
            self.missed += missing as u64;
            self.short -= missing;
        }
        // A source that sends more than it promises has no credit for later.
        self.short = self.short.max(-1.0);
        if age - self.youngest_s > period {
            self.missed += 1;
        }
        self.youngest_s = age.min(self.youngest_s + FORGET * (age - self.youngest_s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PX4_MS: [i64; 4] = [8, 8, 8, 16];

    fn millis(ms: f64) -> Span {
        Span::from_seconds(ms * 1e-3)
    }

    /// Ticks missed of a source with these steps, ages and messages that are lost.
    fn missed(
        steps_ms: impl Iterator<Item = f64>,
        age_ms: impl Fn(usize) -> f64,
        lost: impl Fn(usize) -> bool,
    ) -> u64 {
        let mut cadence = Cadence::new(Span::from_millis(10));
        let mut stamp = Time::ZERO + Span::from_millis(1000);
        for (k, step) in steps_ms.enumerate() {
            stamp = stamp + millis(step);
            if !lost(k) {
                cadence.note(stamp + millis(age_ms(k)), stamp);
            }
        }
        cadence.missed()
    }

    fn px4(scale: f64, phase: usize) -> impl Iterator<Item = f64> {
        (0..4000).map(move |k| PX4_MS[(k + phase) % 4] as f64 * scale)
    }

    #[test]
    fn px4s_pattern_misses_nothing_at_any_age() {
        for phase in 0..4 {
            for age in [0.0, 3.0, 20.0, 500.0] {
                assert_eq!(missed(px4(1.0, phase), |_| age, |_| false), 0, "phase {phase}, age {age} ms");
            }
        }
    }

    #[test]
    fn a_clock_that_runs_one_percent_slow_or_fast_misses_nothing() {
        for scale in [0.991, 1.009] {
            let drift = |k: usize| 500.0 + k as f64 * 10.0 * (1.0 - scale);
            assert_eq!(missed(px4(scale, 0), drift, |_| false), 0, "scale {scale}");
        }
    }

    #[test]
    fn every_message_that_is_lost_is_counted() {
        for phase in 0..4 {
            let seen = missed(px4(1.0, phase), |_| 3.0, |k| k % 50 == 20);
            assert_eq!(seen, 80, "PX4's pattern, phase {phase}");
        }
        assert_eq!(missed((0..4000).map(|_| 10.0), |_| 0.1, |k| k % 50 == 20), 80);
        assert_eq!(missed((0..4001).map(|_| 10.0), |_| 0.1, |k| k % 500 > 490), 9 * 8);
    }

    #[test]
    fn one_that_arrives_a_period_late_is_counted_once() {
        let age = |k: usize| if k % 100 == 50 { 25.0 } else { 12.0 };
        assert_eq!(missed((0..1000).map(|_| 10.0), age, |_| false), 10);
    }

    #[test]
    fn a_pause_and_a_jump_of_time_are_no_missed_ticks() {
        let step = |k: usize| match k {
            100 => 5000.0,
            200 => -3000.0,
            _ => 10.0,
        };
        assert_eq!(missed((0..300).map(step), |_| 0.0, |_| false), 0);
    }
}
