//! What an evaluation does to a flight beyond its simulator: exact sizes, for asking how much a pilot bears.
//!
//! [`crate::Randomisation`] draws vehicles around one, for training; here a quantity has the size that is asked for, and
//! only its direction is drawn. Pilots are not told.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    episode::{Episode, seed_of},
    simulation::normal,
    vehicle::ROTORS,
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
}

impl Perturbation {
    /// Perturbs an episode that was drawn of this seed and number. The start, the noise and the other disturbances stay
    /// as they were drawn, and an axis or a rotor's luck is the same whatever the sizes are.
    pub fn apply(&self, episode: &mut Episode<'_>, seed: u64, number: u64) {
        // A generator of its own: starts and noise are those of the flight without perturbation.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed_of(seed, number).rotate_left(32));
        let axis = nalgebra::Unit::new_normalize(normal(&mut rng));
        let luck: [f64; ROTORS] = std::array::from_fn(|_| 2.0 * rng.random::<f64>() - 1.0);

        episode.delay_steps += self.action_latency_steps;
        if self.torque_n_m != 0.0 {
            episode.disturbance.torque_n_m += axis.into_inner() * self.torque_n_m;
        }
        if self.rotor_thrust != 0.0 {
            for (rotor, luck) in episode.vehicle.to_mut().rotors.iter_mut().zip(luck) {
                rotor.thrust_factor *= 1.0 + self.rotor_thrust * luck;
            }
        }
    }
}
