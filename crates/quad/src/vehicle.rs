//! Airframes: mass, inertia, rotors. Read from `params/vehicles/*.yaml`.

use serde::{Deserialize, Serialize};

use crate::QuadError;

/// Rotors of a quadrotor.
pub const ROTORS: usize = 4;

/// Where a rotor sits and which way its reaction torque points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotor {
    /// Position in the body frame (FLU), m.
    pub position_m: [f64; 3],
    /// Sign of the reaction torque about body z.
    pub spin: f64,
    /// Thrust of this rotor over that of the thrust curve, at any state: 1 as built, less for a worn propeller. Hover
    /// figures and controllers go by the curve alone; they do not know.
    #[serde(default = "as_built")]
    pub thrust_factor: f64,
}

fn as_built() -> f64 {
    1.0
}

/// First-order motor lag, s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MotorTimeConstant {
    /// When the rotor speeds up.
    pub rising: f64,
    /// When it slows down.
    pub falling: f64,
}

/// An airframe. Rotors are in the order front right, rear right, rear left, front left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vehicle {
    /// Name, as policies carry it in their metadata.
    pub name: String,
    /// Mass, kg.
    pub mass_kg: f64,
    /// Gravity, m/s², towards −z of the world.
    pub gravity_m_s2: f64,
    /// Diagonal of the inertia in body axes, kg m².
    pub inertia_kg_m2: [f64; 3],
    /// Its inverse; left out, it is computed. Some reference simulators carry a rounded one.
    #[serde(default)]
    pub inertia_inverse: Option<[f64; 3]>,
    /// The four rotors.
    pub rotors: [Rotor; ROTORS],
    /// Thrust of one rotor, N: c0 + c1 r + c2 r², with r its state, times the rotor's own factor.
    pub thrust_curve: [f64; 3],
    /// Reaction torque per thrust, N m/N.
    pub torque_constant_m: f64,
    /// Motor lag, s.
    pub motor_time_constant_s: MotorTimeConstant,
    /// Rotor state at action −1 and at action 1, in the unit of the thrust curve.
    pub rotor_range: [f64; 2],
    /// Linear drag in body axes, N/(m/s).
    #[serde(default)]
    pub drag_linear: [f64; 3],
    /// Quadratic drag in body axes, N/(m/s)².
    #[serde(default)]
    pub drag_quadratic: [f64; 3],
    /// Angular drag about the body axes, N m/(rad/s).
    #[serde(default)]
    pub drag_angular: [f64; 3],
    /// Noise, starts and disturbances with which it is simulated.
    #[serde(default)]
    pub simulation: crate::simulation::Simulation,
}

const BUILT_IN: [(&str, &str); 6] = [
    ("crazyflie", include_str!("../../../params/vehicles/crazyflie.yaml")),
    ("x500", include_str!("../../../params/vehicles/x500.yaml")),
    ("sih_quadx", include_str!("../../../params/vehicles/sih_quadx.yaml")),
    ("l2f0", include_str!("../../../params/vehicles/l2f0.yaml")),
    ("ltf", include_str!("../../../params/vehicles/ltf.yaml")),
    ("l2f2", include_str!("../../../params/vehicles/l2f2.yaml")),
];

impl Vehicle {
    /// Changes the mass by a factor, and the inertia with it.
    pub fn scale_mass(&mut self, factor: f64) {
        self.mass_kg *= factor;
        self.inertia_kg_m2 = self.inertia_kg_m2.map(|j| j * factor);
        self.inertia_inverse = self.inertia_inverse.map(|inverse| inverse.map(|j| j / factor));
    }

    /// Changes both of the motors' time constants by a factor.
    pub fn scale_motor_lag(&mut self, factor: f64) {
        self.motor_time_constant_s.rising *= factor;
        self.motor_time_constant_s.falling *= factor;
    }

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
        let vehicle: Self = serde_yaml::from_str(text)
            .map_err(|e| QuadError::Vehicle { origin: origin.to_owned(), reason: e.to_string() })?;
        vehicle.check(origin)?;
        Ok(vehicle)
    }

    fn check(&self, origin: &str) -> Result<(), QuadError> {
        let refuse = |reason: String| Err(QuadError::Vehicle { origin: origin.to_owned(), reason });
        let positive = [
            ("mass_kg", self.mass_kg),
            ("gravity_m_s2", self.gravity_m_s2),
            ("inertia_kg_m2[0]", self.inertia_kg_m2[0]),
            ("inertia_kg_m2[1]", self.inertia_kg_m2[1]),
            ("inertia_kg_m2[2]", self.inertia_kg_m2[2]),
            ("torque_constant_m", self.torque_constant_m),
            ("motor_time_constant_s.rising", self.motor_time_constant_s.rising),
            ("motor_time_constant_s.falling", self.motor_time_constant_s.falling),
        ];
        if let Some((field, value)) = positive.iter().find(|(_, v)| !v.is_finite() || *v <= 0.0) {
            return refuse(format!("{field} = {value} must be a positive number"));
        }
        let [low, high] = self.rotor_range;
        let ordered = low.is_finite() && high.is_finite() && low < high;
        if !ordered {
            return refuse(format!("rotor_range = [{low}, {high}] must be two numbers, the smaller first"));
        }
        let [c0, c1, c2] = self.thrust_curve;
        // A parabola that opens upwards may turn near idle, one that opens downwards only beyond full throttle.
        let rises = c1 + 2.0 * c2 * high > 0.0 && self.thrust_n(low) < self.thrust_n(high);
        if [c0, c1, c2].iter().any(|c| !c.is_finite()) || !rises {
            return refuse(format!(
                "thrust_curve = [{c0}, {c1}, {c2}] must be three numbers by which thrust grows up to rotor_range[1] = {high}"
            ));
        }
        let numbers = self.rotors.iter().flat_map(|r| r.position_m.into_iter().chain([r.spin]));
        let drag = self.drag_linear.into_iter().chain(self.drag_quadratic).chain(self.drag_angular);
        if numbers.chain(drag).any(|v| !v.is_finite()) {
            return refuse("rotors and drag must be finite numbers".to_owned());
        }
        if let Some(rotor) =
            self.rotors.iter().find(|r| !(r.thrust_factor.is_finite() && r.thrust_factor >= 0.0))
        {
            return refuse(format!(
                "rotors: thrust_factor = {} must be a number, 0 or more",
                rotor.thrust_factor
            ));
        }
        if self.thrust_to_weight() <= 1.0 {
            return refuse(format!("thrust to weight is {:.2}: it cannot hover", self.thrust_to_weight()));
        }
        self.simulation.check(self).or_else(|reason| refuse(format!("simulation.{reason}")))
    }

    /// The Crazyflie 2.1, with the constants of the paper's most likely simulator (`l2f0`).
    ///
    /// # Errors
    /// Never with the file as it ships; the type leaves no other way to say so.
    pub fn crazyflie() -> Result<Self, QuadError> {
        Self::find("crazyflie")
    }

    /// The inverse of the inertia, 1/(kg m²).
    pub fn inverse_inertia(&self) -> [f64; 3] {
        self.inertia_inverse.unwrap_or_else(|| self.inertia_kg_m2.map(f64::recip))
    }

    /// Thrust of one rotor as built in state `rotor`, N.
    pub fn thrust_n(&self, rotor: f64) -> f64 {
        let [c0, c1, c2] = self.thrust_curve;
        c0 + c1 * rotor + c2 * rotor * rotor
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

    /// Least and largest thrust of one rotor as built, N.
    pub fn thrust_range_n(&self) -> [f64; 2] {
        let [_, c1, c2] = self.thrust_curve;
        let [low, high] = self.rotor_range;
        // A parabola whose vertex lies inside the range gives its least thrust there, not at idle.
        let least = if c2 > 0.0 { (-c1 / (2.0 * c2)).clamp(low, high) } else { low };
        [self.thrust_n(least), self.thrust_n(high)]
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

    /// Rotor state at hover.
    pub fn hover_rotor(&self) -> f64 {
        self.rotor_for_thrust(self.mass_kg * self.gravity_m_s2 / ROTORS as f64)
    }

    /// Action at hover.
    pub fn hover_action(&self) -> f64 {
        self.action_of_rotor(self.hover_rotor())
    }

    /// Largest thrust over weight.
    pub fn thrust_to_weight(&self) -> f64 {
        ROTORS as f64 * self.thrust_n(self.rotor_range[1]) / (self.mass_kg * self.gravity_m_s2)
    }
}
