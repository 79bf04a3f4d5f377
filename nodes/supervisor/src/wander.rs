//! A setpoint that moves during an episode, so that the student learns to follow one.
//!
//! It goes on straight lines, each with a velocity of its own, for half a second to two and a half, and never farther
//! than [`RANGE_M`] from where it began. In half of the episodes it stays where it is.

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// It turns back at this distance along an axis, m.
const RANGE_M: f64 = 1.0;
/// A line takes between so many seconds.
const LINE_S: [f64; 2] = [0.5, 2.5];
/// Vertical speed, as a share of the horizontal.
const VERTICAL: f64 = 1.0 / 3.0;

/// Where the setpoint is from its home.
#[derive(Clone, Debug)]
pub(crate) struct Wander {
    speed_m_s: f64,
    rng: Xoshiro256PlusPlus,
    moves: bool,
    offset: Vector3<f64>,
    velocity: Vector3<f64>,
    left_s: f64,
}

impl Wander {
    /// `speed_m_s` is the largest along each horizontal axis; 0: it never moves.
    pub fn new(speed_m_s: f64, seed: u64) -> Self {
        Self {
            speed_m_s,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            moves: false,
            offset: Vector3::zeros(),
            velocity: Vector3::zeros(),
            left_s: 0.0,
        }
    }

    /// Whether setpoints are this one's business at all.
    pub fn active(&self) -> bool {
        self.speed_m_s > 0.0
    }

    /// Back home; a new episode may move it again.
    pub fn begin(&mut self) {
        if !self.active() {
            return;
        }
        (self.offset, self.left_s) = (Vector3::zeros(), 0.0);
        self.moves = self.rng.random();
    }

    /// Goes on for a time; the offset from home, m.
    pub fn advance(&mut self, dt_s: f64) -> Vector3<f64> {
        if !self.moves {
            return Vector3::zeros();
        }
        if self.left_s <= 0.0 {
            self.left_s = LINE_S[0] + (LINE_S[1] - LINE_S[0]) * self.rng.random::<f64>();
            let mut along = |speed: f64| speed * (2.0 * self.rng.random::<f64>() - 1.0);
            let speed = self.speed_m_s;
            self.velocity = Vector3::new(along(speed), along(speed), along(VERTICAL * speed));
        }
        self.left_s -= dt_s;
        self.offset += self.velocity * dt_s;
        for axis in 0..3 {
            if self.offset[axis].abs() > RANGE_M {
                self.offset[axis] = self.offset[axis].clamp(-RANGE_M, RANGE_M);
                self.velocity[axis] = -self.velocity[axis];
            }
        }
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_episodes_move_it_and_it_stays_near() {
        let mut wander = Wander::new(0.6, 1);
        let mut moved = 0;
        for _ in 0..200 {
            wander.begin();
            let mut last = Vector3::zeros();
            let mut farthest: f64 = 0.0;
            for _ in 0..1000 {
                let at = wander.advance(0.01);
                assert!((at - last).norm() <= 0.01 * 0.6 * 1.5, "{at} {last}");
                farthest = farthest.max(at.amax());
                last = at;
            }
            assert!(farthest <= RANGE_M);
            moved += usize::from(farthest > 0.1);
        }
        assert!((80..=120).contains(&moved), "{moved}");
    }

    #[test]
    fn without_speed_it_stays() {
        let mut wander = Wander::new(0.0, 1);
        wander.begin();
        assert_eq!(wander.advance(0.5), Vector3::zeros());
        assert!(!wander.active());
    }
}
