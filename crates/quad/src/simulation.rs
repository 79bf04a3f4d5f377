//! Start states, observation noise and disturbances of a simulator, all from one seeded generator.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{
    dynamics::Disturbance,
    randomisation::Randomisation,
    reward::Termination,
    state::{Observation, State},
    vehicle::{ROTORS, Vehicle},
};

/// How a simulator varies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simulation {
    /// Standard deviation of the observed position, m.
    pub position_noise_m: f64,
    /// … of each element of the observed rotation matrix.
    pub rotation_noise: f64,
    /// … of the observed velocity, m/s.
    pub velocity_noise_m_s: f64,
    /// … of the observed body rates, rad/s.
    pub body_rate_noise_rad_s: f64,
    /// Standard deviation of the force that acts through an episode, N, world axes.
    pub force_std_n: f64,
    /// … of the torque, N m, body axes.
    pub torque_std_n_m: f64,
    /// Where episodes of the protocol `recovery` start.
    pub start: StartDistribution,
    /// When the simulator itself ends an episode; the paper's environment has its own box.
    pub termination: Termination,
    /// How vehicles are drawn around this one.
    pub randomisation: Randomisation,
}

/// The distribution of start states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartDistribution {
    /// Share of starts at the setpoint, level.
    pub guidance: f64,
    /// Position is uniform in a cube of this half width, m.
    pub max_position_m: f64,
    /// Largest angle from level, rad.
    pub max_angle_rad: f64,
    /// How the attitude is drawn.
    pub angle: AngleDistribution,
    /// Velocity is uniform in a cube of this half width, m/s.
    pub max_velocity_m_s: f64,
    /// Body rates likewise, rad/s.
    pub max_body_rate_rad_s: f64,
    /// How the rotors start.
    pub rotors: RotorDistribution,
    /// Whether starts at the setpoint keep the drawn velocities.
    pub guidance_keeps_velocity: bool,
}

/// How a start attitude is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AngleDistribution {
    /// Uniform over all rotations, drawn again until the angle is small enough.
    #[default]
    HalfTurnRejection,
    /// The angle uniform, the axis uniform on the sphere.
    UniformAngle,
}

/// How start rotor states are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotorDistribution {
    /// All at hover.
    #[default]
    Hover,
    /// All in the middle of the range.
    MidRange,
    /// Each uniform over the range.
    FullRange,
    /// Each uniform over the lower half of the range.
    LowerHalf,
}

impl StartDistribution {
    /// Draws a start state around the setpoint.
    pub fn sample<R: Rng>(&self, vehicle: &Vehicle, setpoint: &Vector3<f64>, rng: &mut R) -> State {
        let guided = rng.random::<f64>() < self.guidance;
        let position = cube(self.max_position_m, rng);
        let orientation = self.orientation(rng);
        let velocity = cube(self.max_velocity_m_s, rng);
        let body_rates = cube(self.max_body_rate_rad_s, rng);
        let [low, high] = vehicle.rotor_range;
        let rotors: [f64; ROTORS] = std::array::from_fn(|_| match self.rotors {
            RotorDistribution::Hover => vehicle.hover_rotor(),
            RotorDistribution::MidRange => (low + high) / 2.0,
            RotorDistribution::FullRange => low + (high - low) * rng.random::<f64>(),
            RotorDistribution::LowerHalf => low + (high - low) / 2.0 * rng.random::<f64>(),
        });
        let moving = !guided || self.guidance_keeps_velocity;
        let gate = |v: Vector3<f64>| if moving { v } else { Vector3::zeros() };
        State {
            position: if guided { *setpoint } else { setpoint + position },
            orientation: if guided { UnitQuaternion::identity() } else { orientation },
            velocity: gate(velocity),
            body_rates: gate(body_rates),
            rotors,
        }
    }

    fn orientation<R: Rng>(&self, rng: &mut R) -> UnitQuaternion<f64> {
        match self.angle {
            AngleDistribution::HalfTurnRejection if self.max_angle_rad > 0.0 => loop {
                let drawn = normal4(rng);
                let q =
                    UnitQuaternion::new_normalize(Quaternion::new(drawn[0], drawn[1], drawn[2], drawn[3]));
                if q.angle() <= self.max_angle_rad {
                    return q;
                }
            },
            AngleDistribution::HalfTurnRejection => UnitQuaternion::identity(),
            AngleDistribution::UniformAngle => {
                let angle = self.max_angle_rad * rng.random::<f64>();
                let axis = normal(rng);
                UnitQuaternion::from_axis_angle(&nalgebra::Unit::new_normalize(axis), angle)
            }
        }
    }
}

impl Simulation {
    /// Whether observations are noisy.
    pub fn is_noisy(&self) -> bool {
        [self.position_noise_m, self.rotation_noise, self.velocity_noise_m_s, self.body_rate_noise_rad_s]
            != [0.0; 4]
    }

    /// What is wrong with it, named by field.
    ///
    /// # Errors
    /// When a number is out of range, or when a vehicle that cannot hover may be drawn.
    pub fn check(&self, vehicle: &Vehicle) -> Result<(), String> {
        let spreads = [
            ("position_noise_m", self.position_noise_m),
            ("rotation_noise", self.rotation_noise),
            ("velocity_noise_m_s", self.velocity_noise_m_s),
            ("body_rate_noise_rad_s", self.body_rate_noise_rad_s),
            ("force_std_n", self.force_std_n),
            ("torque_std_n_m", self.torque_std_n_m),
            ("start.max_position_m", self.start.max_position_m),
            ("start.max_angle_rad", self.start.max_angle_rad),
            ("start.max_velocity_m_s", self.start.max_velocity_m_s),
            ("start.max_body_rate_rad_s", self.start.max_body_rate_rad_s),
        ];
        if let Some((field, value)) = spreads.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(format!("{field} = {value} must be a number, 0 or more"));
        }
        if !(0.0..=1.0).contains(&self.start.guidance) {
            return Err(format!("start.guidance = {} must be a share from 0 to 1", self.start.guidance));
        }
        let limits = [
            ("termination.position_m", self.termination.position_m),
            ("termination.velocity_m_s", self.termination.velocity_m_s),
            ("termination.body_rate_rad_s", self.termination.body_rate_rad_s),
        ];
        if let Some((field, value)) = limits.iter().find(|(_, v)| v.is_nan() || *v <= 0.0) {
            return Err(format!("{field} = {value} must be positive (.inf for no limit)"));
        }
        self.randomisation.check(vehicle)
    }

    /// A state as it is observed: `observation` with this simulator's noise added.
    pub fn add_noise<R: Rng>(&self, observation: &Observation, rng: &mut R) -> Observation {
        let mut noisy = *observation;
        for (i, value) in noisy.iter_mut().enumerate() {
            let std = match i {
                0..3 => self.position_noise_m,
                3..12 => self.rotation_noise,
                12..15 => self.velocity_noise_m_s,
                _ => self.body_rate_noise_rad_s,
            };
            *value += (std * rng.sample::<f64, _>(StandardNormal)) as f32;
        }
        noisy
    }

    /// Draws the disturbance of an episode.
    pub fn sample_disturbance<R: Rng>(&self, rng: &mut R) -> Disturbance {
        Disturbance { force_n: normal(rng) * self.force_std_n, torque_n_m: normal(rng) * self.torque_std_n_m }
    }
}

fn cube<R: Rng>(half_width: f64, rng: &mut R) -> Vector3<f64> {
    Vector3::from_fn(|_, _| half_width * (2.0 * rng.random::<f64>() - 1.0))
}

pub(crate) fn normal<R: Rng>(rng: &mut R) -> Vector3<f64> {
    Vector3::from_fn(|_, _| rng.sample(StandardNormal))
}

fn normal4<R: Rng>(rng: &mut R) -> [f64; 4] {
    std::array::from_fn(|_| rng.sample(StandardNormal))
}
