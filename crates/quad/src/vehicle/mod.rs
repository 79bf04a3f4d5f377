//! Airframes: mass, inertia, rotors. Read from `params/vehicles/*.yaml`, whose README says what each field means.

mod content;
mod file;
mod motors;
mod plausible;

use nalgebra::{Matrix3, Vector3};
use serde::{Deserialize, Serialize};

pub use motors::{MAX_ROTORS, Mixer, Motor};

use crate::QuadError;

/// Motors that a policy commands. A vehicle with as many rotors has them one to one; more are reached through a [`Mixer`].
pub const ROTORS: usize = 4;

/// Where a rotor sits, where it pushes, and which way its reaction torque points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotor {
    /// Position in the body frame (FLU), m.
    pub position_m: [f64; 3],
    /// Sign of the reaction torque about the axis: −1 for a rotor that turns counter-clockwise seen from above, 1 clockwise.
    pub spin: f64,
    /// Direction of its thrust in the body frame, a unit vector.
    #[serde(default = "upright")]
    pub axis: [f64; 3],
    /// Thrust of this rotor over that of the thrust curve, at any state: 1 as built, less for a worn propeller. Hover
    /// figures and controllers go by the curve alone; they do not know.
    #[serde(default = "as_built")]
    pub thrust_factor: f64,
}

fn as_built() -> f64 {
    1.0
}

fn upright() -> [f64; 3] {
    [0.0, 0.0, 1.0]
}

/// First-order motor lag, s; 0 for a motor that follows at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MotorTimeConstant {
    /// When the rotor speeds up.
    pub rising: f64,
    /// When it slows down.
    pub falling: f64,
}

/// An airframe. Four rotors are in the order front right, rear right, rear left, front left (or front, right, rear, left);
/// five to eight are in any order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vehicle {
    /// Name, as policies carry it in their metadata.
    pub name: String,
    /// The vehicle that this is a model of: what is made for that one belongs here too. Its own name, if the file says nothing.
    pub model_of: String,
    /// Mass, kg.
    pub mass_kg: f64,
    /// Gravity, m/s², towards −z of the world.
    pub gravity_m_s2: f64,
    /// Diagonal of the inertia about the centre of mass in body axes, kg m².
    pub inertia_kg_m2: [f64; 3],
    /// Its elements xy, xz and yz, kg m²: as they stand in the matrix, so minus the products ∫ x y dm.
    pub inertia_off_diagonal_kg_m2: [f64; 3],
    /// The diagonal's inverse; left out, it is computed. Some reference simulators carry a rounded one.
    pub inertia_inverse: Option<[f64; 3]>,
    /// Centre of mass in the frame in which the rotors' positions are given, m.
    pub centre_of_mass_m: [f64; 3],
    /// The rotors, four to eight.
    pub rotors: Vec<Rotor>,
    /// Thrust of one rotor, N: c0 + c1 r + c2 r², with r its state, times the rotor's own factor.
    pub thrust_curve: [f64; 3],
    /// Reaction torque per thrust, N m/N.
    pub torque_constant_m: f64,
    /// Motor lag, s.
    pub motor_time_constant_s: MotorTimeConstant,
    /// Rotor state at action −1 and at action 1, in the unit of the thrust curve.
    pub rotor_range: [f64; 2],
    /// Linear drag in body axes, N/(m/s).
    pub drag_linear: [f64; 3],
    /// Quadratic drag in body axes, N/(m/s)².
    pub drag_quadratic: [f64; 3],
    /// Angular drag about the body axes, N m/(rad/s).
    pub drag_angular: [f64; 3],
    /// Drag of a rotor in its plane, N/(m/s) per unit of its state: against the velocity across its axis.
    pub rotor_drag_n_s_m: f64,
    /// Noise, starts and disturbances with which it is simulated.
    pub simulation: crate::simulation::Simulation,
}

const BUILT_IN: [(&str, &str); 6] = [
    ("crazyflie", include_str!("../../../../params/vehicles/crazyflie.yaml")),
    ("x500", include_str!("../../../../params/vehicles/x500.yaml")),
    ("sih_quadx", include_str!("../../../../params/vehicles/sih_quadx.yaml")),
    ("l2f0", include_str!("../../../../params/vehicles/l2f0.yaml")),
    ("ltf", include_str!("../../../../params/vehicles/ltf.yaml")),
    ("l2f2", include_str!("../../../../params/vehicles/l2f2.yaml")),
];

impl Vehicle {
    /// The built-in vehicle of that name, or the one in the file of that path.
    ///
    /// # Errors
    /// When there is neither, or when the file does not describe a vehicle that can fly.
    pub fn find(name_or_path: &str) -> Result<Self, QuadError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::from_yaml(text, name);
        }
        match std::fs::read_to_string(name_or_path) {
            Ok(text) => Self::from_yaml(&text, name_or_path),
            Err(error) => Err(QuadError::NoVehicle {
                name: name_or_path.to_owned(),
                built_in: BUILT_IN.map(|(name, _)| name).join(", "),
                reason: error.to_string(),
            }),
        }
    }

    /// Reads a vehicle from YAML; `origin` names the file in errors.
    ///
    /// # Errors
    /// When the text is no vehicle, or one that cannot fly.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Self, QuadError> {
        let refuse = |reason: String| QuadError::Vehicle { origin: origin.to_owned(), reason };
        let vehicle = file::read(text).map_err(refuse)?;
        vehicle.check().map_err(refuse)?;
        Ok(vehicle)
    }

    /// What is wrong with the vehicle, with the physics of it.
    ///
    /// # Errors
    /// What keeps it from flying, or shows that a number is in another unit, axis or order than it should be.
    pub fn check(&self) -> Result<(), String> {
        plausible::check(self)
    }

    /// Whether a built-in vehicle has that name.
    pub fn is_built_in(name: &str) -> bool {
        BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
    }

    /// The built-in vehicle of that name, if there is one.
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        Self::from_yaml(text, name).ok()
    }

    /// The Crazyflie 2.1, with the constants of the paper's most likely simulator (`l2f0`).
    ///
    /// # Errors
    /// Never with the file as it ships; the type leaves no other way to say so.
    pub fn crazyflie() -> Result<Self, QuadError> {
        Self::find("crazyflie")
    }

    /// Changes the mass by a factor, and the inertia with it.
    pub fn scale_mass(&mut self, factor: f64) {
        self.mass_kg *= factor;
        self.scale_inertia([factor; 3]);
    }

    /// Changes the inertia about each axis by a factor; elements off the diagonal by the mean of their axes' factors.
    pub fn scale_inertia(&mut self, factors: [f64; 3]) {
        let [x, y, z] = factors;
        for (axis, factor) in factors.into_iter().enumerate() {
            self.inertia_kg_m2[axis] *= factor;
            if let Some(inverse) = &mut self.inertia_inverse {
                inverse[axis] /= factor;
            }
        }
        for (element, (a, b)) in self.inertia_off_diagonal_kg_m2.iter_mut().zip([(x, y), (x, z), (y, z)]) {
            *element *= (a + b) / 2.0;
        }
    }

    /// Changes both of the motors' time constants by a factor.
    pub fn scale_motor_lag(&mut self, factor: f64) {
        self.motor_time_constant_s.rising *= factor;
        self.motor_time_constant_s.falling *= factor;
    }

    /// The inertia about the centre of mass, kg m².
    pub fn inertia_matrix(&self) -> Matrix3<f64> {
        let [xy, xz, yz] = self.inertia_off_diagonal_kg_m2;
        let [x, y, z] = self.inertia_kg_m2;
        Matrix3::new(x, xy, xz, xy, y, yz, xz, yz, z)
    }

    /// The inverse of the inertia's diagonal, 1/(kg m²): of the inertia itself, where nothing stands off the diagonal.
    pub fn inverse_inertia(&self) -> [f64; 3] {
        self.inertia_inverse.unwrap_or_else(|| self.inertia_kg_m2.map(f64::recip))
    }

    /// Place of a rotor seen from the centre of mass, m.
    pub fn arm_m(&self, rotor: &Rotor) -> Vector3<f64> {
        Vector3::from(rotor.position_m) - Vector3::from(self.centre_of_mass_m)
    }

    /// Thrust of one rotor as built in state `rotor`, N.
    pub fn thrust_n(&self, rotor: f64) -> f64 {
        let [c0, c1, c2] = self.thrust_curve;
        c0 + c1 * rotor + c2 * rotor * rotor
    }

    /// Least and largest thrust of one rotor as built, N.
    pub fn thrust_range_n(&self) -> [f64; 2] {
        let [_, c1, c2] = self.thrust_curve;
        let [low, high] = self.rotor_range;
        // A parabola whose vertex lies inside the range gives its least thrust there, not at idle.
        let least = if c2 > 0.0 { (-c1 / (2.0 * c2)).clamp(low, high) } else { low };
        [self.thrust_n(least), self.thrust_n(high)]
    }

    /// The rotor state, within range, that gives a thrust in N.
    pub fn rotor_for_thrust(&self, thrust_n: f64) -> f64 {
        let [c0, c1, c2] = self.thrust_curve;
        let [low, high] = self.rotor_range;
        if c2 == 0.0 {
            return ((thrust_n - c0) / c1).clamp(low, high);
        }
        let discriminant = (c1 * c1 - 4.0 * c2 * (c0 - thrust_n)).max(0.0);
        ((-c1 + discriminant.sqrt()) / (2.0 * c2)).clamp(low, high)
    }

    /// Rotor state that an action in [−1, 1] commands; beyond, it is clamped.
    pub fn rotor_of_action(&self, action: f64) -> f64 {
        let [low, high] = self.rotor_range;
        low + (action.clamp(-1.0, 1.0) + 1.0) / 2.0 * (high - low)
    }

    /// Action in [−1, 1] that commands a rotor state.
    pub fn action_of_rotor(&self, rotor: f64) -> f64 {
        let [low, high] = self.rotor_range;
        2.0 * (rotor - low) / (high - low) - 1.0
    }

    /// Lift of all rotors together for a unit of thrust of each: their number, less what tilted axes lose.
    fn lift_per_thrust(&self) -> f64 {
        self.rotors.iter().map(|rotor| rotor.axis[2]).sum()
    }

    /// Rotor state at hover.
    pub fn hover_rotor(&self) -> f64 {
        self.rotor_for_thrust(self.mass_kg * self.gravity_m_s2 / self.lift_per_thrust())
    }

    /// Action at hover.
    pub fn hover_action(&self) -> f64 {
        self.action_of_rotor(self.hover_rotor())
    }

    /// Largest thrust over weight.
    pub fn thrust_to_weight(&self) -> f64 {
        self.lift_per_thrust() * self.thrust_n(self.rotor_range[1]) / (self.mass_kg * self.gravity_m_s2)
    }

    /// Thrust along body z of all rotors as built over the weight, in states of the four motors.
    pub fn lift_over_weight(&self, motors: &[f64; ROTORS]) -> f64 {
        let thrust: f64 = motors.iter().map(|&r| self.thrust_n(r)).sum();
        thrust * (self.lift_per_thrust() / ROTORS as f64) / (self.mass_kg * self.gravity_m_s2)
    }

    /// Into how many parts a step is divided so that its method follows the motors: none longer than their lag.
    pub fn parts_of_step(&self, dt_s: f64) -> u32 {
        let lag = self.motor_time_constant_s;
        let shortest =
            [lag.rising, lag.falling].into_iter().filter(|t| *t > 0.0).fold(f64::INFINITY, f64::min);
        // A hair's breadth, so that a lag equal to the step is not halved by rounding.
        (dt_s / shortest - 1e-9).ceil().clamp(1.0, 1000.0) as u32
    }
}
