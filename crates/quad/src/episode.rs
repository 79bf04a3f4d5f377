//! How an episode begins: the vehicle flown, its start, its disturbance and its noise, all from a seed and a number.
//!
//! The single simulator and the batch begin episodes here, so that episode 7 of a seed is the same flight in both.

use std::borrow::Cow;

use nalgebra::Vector3;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    dynamics::Disturbance,
    protocol::Protocol,
    state::State,
    vehicle::{ROTORS, Vehicle},
};

/// The beginning of an episode.
#[derive(Clone, Debug)]
pub struct Episode<'a> {
    /// The vehicle that flies: the nominal one, or one drawn around it.
    pub vehicle: Cow<'a, Vehicle>,
    /// Start.
    pub state: State,
    /// Acts all through the episode.
    pub disturbance: Disturbance,
    /// Control steps from a command to the motors.
    pub delay_steps: usize,
    /// Goes on with the observation's noise.
    pub rng: Xoshiro256PlusPlus,
}

/// Seed of episode `number` of a seed.
pub(crate) fn seed_of(seed: u64, number: u64) -> u64 {
    seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<'a> Episode<'a> {
    /// Draws episode `number` of a seed around a setpoint.
    pub fn draw(
        nominal: &'a Vehicle,
        protocol: Protocol,
        setpoint: &Vector3<f64>,
        dt_s: f64,
        seed: u64,
        number: u64,
    ) -> Self {
        let seed = seed_of(seed, number);
        let simulation = &nominal.simulation;
        // A generator of its own: starts and noise stay the same whether vehicles are drawn or not.
        let (vehicle, latency_s) = if simulation.randomisation.is_none() {
            (Cow::Borrowed(nominal), 0.0)
        } else {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(!seed);
            let drawn = simulation.randomisation.sample(nominal, &mut rng);
            (Cow::Owned(drawn.vehicle), drawn.action_latency_s)
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let state = match protocol {
            Protocol::Paper => State::hover(&vehicle, *setpoint),
            Protocol::Recovery => simulation.start.sample(&vehicle, setpoint, &mut rng),
        };
        let disturbance = simulation.sample_disturbance(&mut rng);
        let delay_steps = (latency_s / dt_s).round().max(0.0) as usize;
        Self { vehicle, state, disturbance, delay_steps, rng }
    }

    /// The command that the motors are taken to have had before the first one: the one that holds their start.
    pub fn command_before(&self) -> [f64; ROTORS] {
        self.state.rotors.map(|r| self.vehicle.action_of_rotor(r))
    }
}
