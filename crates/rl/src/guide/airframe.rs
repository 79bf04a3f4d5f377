//! Which airframe an episode flies, where it starts, and what the guide sees of it.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use spikewing_quad::{
    Vehicle,
    simulation::{RotorDistribution, StartDistribution},
};

use crate::ObservationNoise;

/// How airframes differ from the vehicle's file, from episode to episode: each factor is drawn uniformly around 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    /// Half width of the mass's factor; the inertia goes with it.
    pub mass: f64,
    /// Half width of the factor of the motors' time constants.
    pub motor_lag: f64,
    /// Half width of the thrust's factor, for each rotor by itself.
    pub thrust: f64,
    /// Standard deviation of a force that acts through the episode, as a share of the weight.
    pub force: f64,
    /// Standard deviation of a torque that acts through the episode, as a share of what one rotor's hover thrust has about
    /// the centre.
    pub torque: f64,
}

impl Default for Variation {
    fn default() -> Self {
        Self { mass: 0.1, motor_lag: 0.2, thrust: 0.03, force: 0.03, torque: 0.02 }
    }
}

impl Variation {
    /// Always the file's airframe.
    pub const NONE: Self = Self { mass: 0.0, motor_lag: 0.0, thrust: 0.0, force: 0.0, torque: 0.0 };

    /// This many times as much.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            mass: self.mass * factor,
            motor_lag: self.motor_lag * factor,
            thrust: self.thrust * factor,
            force: self.force * factor,
            torque: self.torque * factor,
        }
    }

    /// Draws an airframe. Its simulation's disturbances are set from these settings where the file has smaller ones.
    pub fn draw(&self, vehicle: &Vehicle, rng: &mut impl Rng) -> Vehicle {
        let mut factor = |half_width: f64| 1.0 + half_width * (2.0 * rng.random::<f64>() - 1.0);
        let mut drawn = vehicle.clone();
        drawn.scale_mass(factor(self.mass));
        drawn.scale_motor_lag(factor(self.motor_lag));
        let thrust = factor(self.thrust);
        drawn.thrust_curve = drawn.thrust_curve.map(|c| c * thrust);
        let weight_n = vehicle.mass_kg * vehicle.gravity_m_s2;
        let arm_m = vehicle.rotors.iter().map(|r| r.position_m[0].hypot(r.position_m[1])).fold(0.0, f64::max);
        let simulation = &mut drawn.simulation;
        simulation.force_std_n = simulation.force_std_n.max(self.force * weight_n);
        simulation.torque_std_n_m = simulation.torque_std_n_m.max(self.torque * weight_n / 4.0 * arm_m);
        drawn
    }
}

/// Where a vehicle's episodes start: as its file says, and if it says nothing, as widely as the public simulators do.
pub fn start_of(vehicle: &Vehicle) -> StartDistribution {
    let start = &vehicle.simulation.start;
    if *start != StartDistribution::default() {
        return start.clone();
    }
    StartDistribution {
        guidance: 0.1,
        max_position_m: 0.5,
        max_angle_rad: std::f64::consts::FRAC_PI_2,
        max_velocity_m_s: 1.0,
        max_body_rate_rad_s: 1.0,
        rotors: RotorDistribution::FullRange,
        ..StartDistribution::default()
    }
}

/// Noise that a guide should cope with: the file's, and not less than that of a good estimator.
pub fn noise_of(vehicle: &Vehicle) -> ObservationNoise {
    let s = &vehicle.simulation;
    ObservationNoise {
        position_m: s.position_noise_m.max(0.02),
        rotation: s.rotation_noise.max(0.005),
        velocity_m_s: s.velocity_noise_m_s.max(0.05),
        body_rates_rad_s: s.body_rate_noise_rad_s.max(0.1),
    }
}
