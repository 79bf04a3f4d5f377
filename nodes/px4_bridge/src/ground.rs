//! Whether the vehicle stands on the ground: by the land detector, the motors and its motion together.
//!
//! PX4's land detector alone is not enough: it takes a calm hover for landed when the throttle that it hears is not the
//! one that flies.

use spikewing_runtime::{Span, Time};

/// Every sign has to last so long.
const LASTS: Span = Span::from_millis(500);
/// Motors are idle below this, [−1, 1].
const IDLE: f32 = -0.9;
/// Slower than this it stands; on the ground EKF2 shows up to 0.3 m/s.
const STILL: f64 = 0.4;
/// A sign that is older says nothing.
const FRESH: Span = Span::from_millis(1500);

/// A sign that was seen without a break since some time.
#[derive(Clone, Copy, Debug, Default)]
struct Sign {
    since: Option<Time>,
    last: Option<Time>,
}

impl Sign {
    fn see(&mut self, now: Time, is: bool) {
        self.last = Some(now);
        self.since = if is { self.since.or(Some(now)) } else { None };
    }

    fn lasts(&self, now: Time) -> bool {
        self.since.is_some_and(|at| now - at >= LASTS) && self.last.is_some_and(|at| now - at <= FRESH)
    }
}

/// The signs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ground {
    detector: Sign,
    still: Sign,
    idle_since: Option<Time>,
    commanded: Option<Time>,
}

impl Ground {
    /// PX4's land detector spoke.
    pub fn detected(&mut self, now: Time, landed: bool) {
        self.detector.see(now, landed);
    }

    /// The vehicle moves at this velocity, m/s.
    pub fn moved(&mut self, now: Time, velocity: &[f64; 3]) {
        let speed = velocity.iter().map(|v| v * v).sum::<f64>().sqrt();
        self.still.see(now, speed < STILL);
    }

    /// The motors were commanded.
    pub fn commanded(&mut self, now: Time, motors: &[f32; 4]) {
        self.commanded = Some(now);
        let idle = motors.iter().all(|m| *m <= IDLE);
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
    }

    /// What the land detector says; it speaks once a second, and until then only what is disarmed stands for certain.
    pub fn landed(&self, armed: bool) -> bool {
        self.detector.since.is_some() || (self.detector.last.is_none() && !armed)
    }

    /// All signs agree. Motors that nobody commands any more (PX4 has landed by itself) are no sign against it.
    pub fn certain(&self, now: Time) -> bool {
        let idle = match (self.idle_since, self.commanded) {
            (Some(since), _) => now - since >= LASTS,
            (None, Some(last)) => now - last > FRESH,
            (None, None) => true,
        };
        idle && self.detector.lasts(now) && self.still.lasts(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time::ZERO + Span::from_millis(ms)
    }

    #[test]
    fn no_sign_alone_is_the_ground() {
        for missing in 0..4 {
            let mut ground = Ground::default();
            for step in 0..200 {
                let now = at(step * 10);
                ground.detected(now, missing != 0);
                ground.moved(now, &[if missing == 1 { 0.5 } else { 0.1 }, 0.1, 0.1]);
                ground.commanded(now, &[if missing == 2 { 0.0 } else { -1.0 }; 4]);
            }
            assert_eq!(ground.certain(at(2000)), missing == 3, "{missing}");
            assert!(!ground.certain(at(9000)), "old news: {missing}");
        }
    }

    #[test]
    fn a_sign_has_to_last() {
        let mut ground = Ground::default();
        for step in 0..=100 {
            ground.moved(at(step * 10), &[0.0; 3]);
            ground.commanded(at(step * 10), &[-1.0; 4]);
            ground.detected(at(step * 10), step % 40 != 0);
        }
        assert!(!ground.certain(at(1000)));
    }
}
