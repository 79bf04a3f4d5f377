//! The rigid body's state and what a policy sees of it.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};

use crate::vehicle::{ROTORS, Vehicle};

/// Numbers in an observation: position error (3), rotation matrix row-major (9), velocity (3), body rates (3).
pub const OBSERVATION: usize = 18;

/// What a policy sees.
pub type Observation = [f32; OBSERVATION];

/// Position, attitude, velocities and rotors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Position in the world (ENU), m.
    pub position: Vector3<f64>,
    /// Body (FLU) to world.
    pub orientation: UnitQuaternion<f64>,
    /// Velocity in the world, m/s.
    pub velocity: Vector3<f64>,
    /// Angular velocity in the body frame, rad/s.
    pub body_rates: Vector3<f64>,
    /// Rotor states, in the unit of the vehicle's thrust curve.
    pub rotors: [f64; ROTORS],
}

impl State {
    /// At rest at a position, level, rotors at hover.
    pub fn hover(vehicle: &Vehicle, position: Vector3<f64>) -> Self {
        Self { rotors: [vehicle.hover_rotor(); ROTORS], ..Self::rest(vehicle, position) }
    }

    /// At rest at a position, level, rotors idle.
    pub fn rest(vehicle: &Vehicle, position: Vector3<f64>) -> Self {
        Self {
            position,
            orientation: UnitQuaternion::identity(),
            velocity: Vector3::zeros(),
            body_rates: Vector3::zeros(),
            rotors: [vehicle.rotor_range[0]; ROTORS],
        }
    }

    /// From the column order of the reference data: p(3) q(w, x, y, z) v(3) ω(3) rotors(4). The quaternion is taken as
    /// given.
    pub fn from_columns(c: &[f64; 17]) -> Self {
        Self {
            position: Vector3::new(c[0], c[1], c[2]),
            orientation: UnitQuaternion::new_unchecked(Quaternion::new(c[3], c[4], c[5], c[6])),
            velocity: Vector3::new(c[7], c[8], c[9]),
            body_rates: Vector3::new(c[10], c[11], c[12]),
            rotors: [c[13], c[14], c[15], c[16]],
        }
    }

    /// In the column order of the reference data.
    pub fn to_columns(&self) -> [f64; 17] {
        let (p, q, v, w, r) = (self.position, self.orientation, self.velocity, self.body_rates, self.rotors);
        [p.x, p.y, p.z, q.w, q.i, q.j, q.k, v.x, v.y, v.z, w.x, w.y, w.z, r[0], r[1], r[2], r[3]]
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.to_columns().iter().all(|v| v.is_finite())
    }

    /// What a policy sees without noise, with the position relative to a setpoint.
    pub fn observation(&self, setpoint: &Vector3<f64>) -> Observation {
        observation(&(self.position - setpoint), &self.orientation, &self.velocity, &self.body_rates)
    }
}

/// The observation of a position error (m), an orientation, a velocity (world, m/s) and body rates (rad/s).
pub fn observation(
    position_error: &Vector3<f64>,
    orientation: &UnitQuaternion<f64>,
    velocity: &Vector3<f64>,
    body_rates: &Vector3<f64>,
) -> Observation {
    let r = orientation.to_rotation_matrix();
    let mut result = [0.0; OBSERVATION];
    for i in 0..3 {
        result[i] = position_error[i] as f32;
        for j in 0..3 {
            result[3 + 3 * i + j] = r[(i, j)] as f32;
        }
        result[12 + i] = velocity[i] as f32;
        result[15 + i] = body_rates[i] as f32;
    }
    result
}
