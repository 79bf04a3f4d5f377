//! Where the setpoint goes in a differentiable flight: on as it was seen to go, and, in some, elsewhere.

use nalgebra::Vector3;
use rand::{Rng, RngExt};

use super::FlightConfig;

/// A setpoint's way, in steps from the anchor; negative ones lie before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Where it jumps to at the anchor, m.
    jump: Vector3<f64>,
    /// Its velocity as recorded, m/s.
    recorded: Vector3<f64>,
    /// What is added to that from `begins` on, and from `turns` on.
    added: [Vector3<f64>; 2],
    begins: i64,
    turns: i64,
    period_s: f64,
}

impl Path {
    /// Draws one; `warm` steps were seen before the anchor.
    pub fn draw(settings: &FlightConfig, warm: usize, recorded: Vector3<f64>, rng: &mut impl Rng) -> Self {
        let mut within = |width: f64| width * (2.0 * rng.random::<f64>() - 1.0);
        let jump = Vector3::from_fn(|_, _| within(settings.setpoint_jump_m));
        let speed = settings.setpoint_speed_m_s;
        let mut velocity = || Vector3::new(within(speed), within(speed), within(speed / 3.0));
        let added = [velocity(), velocity()];
        let (jumps, moves): (bool, f64) = (rng.random(), rng.random());
        let begins = rng.random_range(-(warm as i64)..=settings.horizon as i64 / 2);
        let turns = begins + rng.random_range(20..150);
        let still = [Vector3::zeros(); 2];
        Self {
            jump: if jumps { jump } else { Vector3::zeros() },
            recorded,
            added: if moves < settings.moving { added } else { still },
            begins,
            turns,
            period_s: settings.period_s,
        }
    }

    /// What is added to the velocity during a step, m/s.
    fn added_at(&self, step: i64) -> Vector3<f64> {
        match step {
            s if s < self.begins => Vector3::zeros(),
            s if s < self.turns => self.added[0],
            _ => self.added[1],
        }
    }

    /// Distance that what is added makes from the anchor to a step, m.
    fn drift(&self, step: i64) -> Vector3<f64> {
        let steps_within =
            |from: i64, to: i64| (to.clamp(0, step.max(0)) - from.clamp(0, step.max(0))) as f64;
        let back_within = |from: i64, to: i64| (to.clamp(step.min(0), 0) - from.clamp(step.min(0), 0)) as f64;
        let end = step.abs().max(self.turns.abs()) + 1;
        let legs = [(self.begins, self.turns), (self.turns, end)];
        legs.iter()
            .zip(self.added)
            .map(|((from, to), v)| v * ((steps_within(*from, *to) - back_within(*from, *to)) * self.period_s))
            .sum()
    }

    /// Position at a step, relative to where the setpoint was recorded at the anchor, m.
    pub fn at(&self, step: usize) -> Vector3<f64> {
        self.jump + self.recorded * (step as f64 * self.period_s) + self.drift(step as i64)
    }

    /// Velocity during a step, m/s.
    pub fn velocity(&self, step: usize) -> Vector3<f64> {
        self.recorded + self.added_at(step as i64)
    }

    /// By how much a recorded setpoint, some steps before the anchor, is moved, m.
    pub fn moved_before(&self, steps: usize) -> Vector3<f64> {
        self.drift(-(steps as i64))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn positions_are_the_velocities_summed() {
        let settings = FlightConfig { moving: 0.7, ..FlightConfig::default() };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let (mut moving, mut before) = (0, 0);
        for _ in 0..200 {
            let recorded = Vector3::new(0.1, 0.0, -0.2);
            let path = Path::draw(&settings, 50, recorded, &mut rng);
            for step in 0..120 {
                let moved = path.at(step + 1) - path.at(step);
                assert!((moved - path.velocity(step) * 0.01).norm() < 1e-12, "{path:?} {step}");
            }
            for steps in 1..=50 {
                let moved = path.moved_before(steps - 1) - path.moved_before(steps);
                assert!((moved - path.added_at(-(steps as i64)) * 0.01).norm() < 1e-12, "{path:?} -{steps}");
            }
            assert_eq!(path.moved_before(0), Vector3::zeros());
            moving += u32::from(path.added[0] != Vector3::zeros());
            before += u32::from(path.moved_before(50) != Vector3::zeros());
        }
        assert!((120..160).contains(&moving) && before > 40, "{moving} {before}");
    }
}
