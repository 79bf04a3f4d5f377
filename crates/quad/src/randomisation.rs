//! Domain randomisation: every episode flies a vehicle drawn around the file's, from a seeded generator.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::vehicle::Vehicle;

/// How far a drawn vehicle may be from the nominal one. Shares are half widths: 0.1 draws a factor uniform in
/// [0.9, 1.1]. All zero, the default, is no randomisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Randomisation {
    /// Share of the mass.
    pub mass: f64,
    /// Share of the inertia, each axis its own.
    pub inertia: f64,
    /// Share of the thrust at any rotor state.
    pub thrust: f64,
    /// Share of the reaction torque per thrust.
    pub torque_constant: f64,
    /// Share of the motors' time constants, rising and falling alike.
    pub motor_time_constant: f64,
    /// Share of the drag.
    pub drag: f64,
    /// Linear drag added to each body axis, uniform from 0 to this, N/(m/s).
    pub drag_linear_max: f64,
    /// Shift of the centre of mass along body x and y, uniform within ± this, m.
    pub centre_of_mass_m: f64,
    /// Time from a command to the motors, uniform from 0 to this, s. Evaluations and batches round it to whole control
    /// steps.
    pub action_latency_s: f64,
}

/// A drawn vehicle.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The vehicle.
    pub vehicle: Vehicle,
    /// Time from a command to its motors, s.
    pub action_latency_s: f64,
}

impl Randomisation {
    /// Whether every episode flies the nominal vehicle.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it for a vehicle, named by field.
    ///
    /// # Errors
    /// When a number is out of range, or when a vehicle that cannot hover may be drawn.
    pub fn check(&self, vehicle: &Vehicle) -> Result<(), String> {
        let shares = [
            ("mass", self.mass),
            ("inertia", self.inertia),
            ("thrust", self.thrust),
            ("torque_constant", self.torque_constant),
            ("motor_time_constant", self.motor_time_constant),
            ("drag", self.drag),
        ];
        if let Some((field, value)) = shares.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
            return Err(format!("randomisation.{field} = {value} must be a share from 0 to below 1"));
        }
        let widths = [
            ("drag_linear_max", self.drag_linear_max),
            ("centre_of_mass_m", self.centre_of_mass_m),
            ("action_latency_s", self.action_latency_s),
        ];
        if let Some((field, value)) = widths.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(format!("randomisation.{field} = {value} must be a number, 0 or more"));
        }
        if self.action_latency_s > 1.0 {
            return Err(format!(
                "randomisation.action_latency_s = {} is above one second: nothing flies with that",
                self.action_latency_s
            ));
        }
        let worst = vehicle.thrust_to_weight() * (1.0 - self.thrust) / (1.0 + self.mass);
        if worst <= 1.0 {
            return Err(format!(
                "randomisation.mass = {} and thrust = {} may draw a thrust to weight of {worst:.2}, which cannot \
                 hover: lower either",
                self.mass, self.thrust
            ));
        }
        Ok(())
    }

    /// Draws a vehicle around a nominal one. The same numbers are drawn whichever are used, so that switching one part on
    /// leaves the others as they were.
    pub fn sample<R: Rng>(&self, nominal: &Vehicle, rng: &mut R) -> Drawn {
        let mut spread = |half_width: f64| half_width * (2.0 * rng.random::<f64>() - 1.0);
        let mass = 1.0 + spread(self.mass);
        let inertia: [f64; 3] = std::array::from_fn(|_| 1.0 + spread(self.inertia));
        let thrust = 1.0 + spread(self.thrust);
        let torque = 1.0 + spread(self.torque_constant);
        let lag = 1.0 + spread(self.motor_time_constant);
        let drag = 1.0 + spread(self.drag);
        let added: [f64; 3] = std::array::from_fn(|_| (spread(1.0) + 1.0) / 2.0 * self.drag_linear_max);
        let shift = [spread(self.centre_of_mass_m), spread(self.centre_of_mass_m)];
        let action_latency_s = (spread(1.0) + 1.0) / 2.0 * self.action_latency_s;

        let mut vehicle = nominal.clone();
        vehicle.mass_kg *= mass;
        vehicle.scale_inertia(inertia);
        for (axis, added) in added.into_iter().enumerate() {
            vehicle.drag_linear[axis] = vehicle.drag_linear[axis] * drag + added;
            vehicle.drag_quadratic[axis] *= drag;
            vehicle.drag_angular[axis] *= drag;
        }
        vehicle.rotor_drag_n_s_m *= drag;
        vehicle.thrust_curve = vehicle.thrust_curve.map(|c| c * thrust);
        vehicle.torque_constant_m *= torque;
        vehicle.scale_motor_lag(lag);
        for rotor in &mut vehicle.rotors {
            rotor.position_m[0] -= shift[0];
            rotor.position_m[1] -= shift[1];
        }
        Drawn { vehicle, action_latency_s }
    }
}
