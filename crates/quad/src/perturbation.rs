//! What an evaluation does to a flight beyond its simulator: exact sizes, for asking how much a pilot bears.
//!
//! [`crate::Randomisation`] draws vehicles around one, for training; here a quantity has the size that is asked for, and
//! only its direction is drawn. Pilots are not told.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    episode::{Episode, seed_of},
    simulation::normal,
    state::State,
};

/// Perturbations of every episode. All zero, the default, changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perturbation {
    /// Control steps from a command to the motors, on top of what the vehicle's randomisation draws.
    pub action_latency_steps: usize,
    /// Size of a torque that acts all through the episode, N m, about a body axis drawn uniformly on the sphere.
    pub torque_n_m: f64,
    /// Half width of the factor of each rotor's thrust, each its own: 0.1 draws uniform in [0.9, 1.1].
    pub rotor_thrust: f64,
    /// How control steps follow each other.
    pub rhythm: Rhythm,
    /// Age of what a pilot sees, s.
    pub observation_age_s: f64,
}

/// How control steps follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rhythm {
    /// All alike.
    #[default]
    Even,
    /// As PX4's odometry comes: at 100 Hz after 8, 8, 8 and 16 ms, and so on.
    Px4,
}

impl Rhythm {
    /// Time of step `k` when the mean step takes `dt_s`, s.
    pub fn time_s(self, k: usize, dt_s: f64) -> f64 {
        match self {
            Self::Even => k as f64 * dt_s,
            Self::Px4 => ((k - k % 4) as f64 + 0.8 * (k % 4) as f64) * dt_s,
        }
    }

    /// Length of step `k`, s.
    pub fn step_s(self, k: usize, dt_s: f64) -> f64 {
        match (self, k % 4) {
            (Self::Even, _) => dt_s,
            (Self::Px4, 3) => 1.6 * dt_s,
            (Self::Px4, _) => 0.8 * dt_s,
        }
    }
}

/// Shows states some time after they were.
#[derive(Clone, Debug)]
pub struct Late {
    age_s: f64,
    /// With their times, the oldest first.
    past: VecDeque<(f64, State)>,
}

impl Late {
    /// By this much, s.
    pub fn by(age_s: f64) -> Self {
        Self { age_s, past: VecDeque::new() }
    }

    /// The state as it was; at the start of a flight, the first. `time_s` goes on from call to call.
    pub fn see(&mut self, time_s: f64, state: &State) -> State {
        if self.age_s <= 0.0 {
            return *state;
        }
        self.past.push_back((time_s, *state));
        let wanted = time_s - self.age_s;
        while self.past.get(1).is_some_and(|(t, _)| *t <= wanted) {
            self.past.pop_front();
        }
        match (self.past.front(), self.past.get(1)) {
            (Some((t0, a)), Some((t1, b))) if wanted > *t0 => between(a, b, (wanted - t0) / (t1 - t0)),
            (Some((_, first)), _) => *first,
            _ => *state,
        }
    }
}

/// The state a share of the way from one to another.
fn between(a: &State, b: &State, share: f64) -> State {
    State {
        position: a.position.lerp(&b.position, share),
        // Half a turn within a control step has no shortest way.
        orientation: a.orientation.try_slerp(&b.orientation, share, 1e-9).unwrap_or(b.orientation),
        velocity: a.velocity.lerp(&b.velocity, share),
        body_rates: a.body_rates.lerp(&b.body_rates, share),
        rotors: std::array::from_fn(|i| a.rotors[i] + share * (b.rotors[i] - a.rotors[i])),
    }
}

impl Perturbation {
    /// Perturbs an episode that was drawn of this seed and number. The start, the noise and the other disturbances stay
    /// as they were drawn, and an axis or a rotor's luck is the same whatever the sizes are.
    pub fn apply(&self, episode: &mut Episode<'_>, seed: u64, number: u64) {
        // A generator of its own: starts and noise are those of the flight without perturbation.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed_of(seed, number).rotate_left(32));
        let axis = nalgebra::Unit::new_normalize(normal(&mut rng));

        episode.delay_steps += self.action_latency_steps;
        if self.torque_n_m != 0.0 {
            episode.disturbance.torque_n_m += axis.into_inner() * self.torque_n_m;
        }
        if self.rotor_thrust != 0.0 {
            for rotor in &mut episode.vehicle.to_mut().rotors {
                let luck = 2.0 * rng.random::<f64>() - 1.0;
                rotor.thrust_factor *= 1.0 + self.rotor_thrust * luck;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::Vector3;

    use super::*;
    use crate::Vehicle;

    #[test]
    fn px4s_rhythm_has_the_same_mean_step() {
        let steps: Vec<f64> = (0..8).map(|k| Rhythm::Px4.step_s(k, 0.01)).collect();
        assert_eq!(steps, [0.008, 0.008, 0.008, 0.016, 0.008, 0.008, 0.008, 0.016]);
        for (k, step) in steps.iter().enumerate() {
            let taken = Rhythm::Px4.time_s(k + 1, 0.01) - Rhythm::Px4.time_s(k, 0.01);
            assert!((taken - step).abs() < 1e-12);
        }
        assert!((Rhythm::Px4.time_s(400, 0.01) - 4.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_late_is_what_was() {
        let vehicle = Vehicle::find("crazyflie").unwrap_or_else(|e| panic!("{e}"));
        let mut late = Late::by(0.015);
        let mut seen = Vec::new();
        for k in 0..5 {
            let state = State::hover(&vehicle, Vector3::new(f64::from(k), 0.0, 0.0));
            seen.push(late.see(0.01 * f64::from(k), &state).position.x);
        }
        for (seen, expected) in seen.iter().zip([0.0, 0.0, 0.5, 1.5, 2.5]) {
            assert!((seen - expected).abs() < 1e-9, "{seen} {expected}");
        }
        let now = State::hover(&vehicle, Vector3::zeros());
        assert_eq!(Late::by(0.0).see(3.0, &now), now);
    }
}
