//! The reward of position control, its curriculum, and when an episode ends.
//!
//! r = C_rs − C_rp‖p‖² − C_rv‖v‖² − C_rq·o(q) − C_ra‖u − C_rab‖², with p and v relative to the setpoint, u the action
//! mapped to [0, 1], and o the orientation term. Section 4 of the paper; definitions where it is silent.

use serde::{Deserialize, Serialize};

use crate::state::{Observation, State};

/// Weights of the reward's terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    /// C_rs: reward for being there.
    pub survival: f64,
    /// C_rp, 1/m².
    pub position: f64,
    /// C_rv, s²/m².
    pub velocity: f64,
    /// C_rq.
    pub orientation: f64,
    /// C_ra.
    pub action: f64,
    /// C_rab: the action that costs nothing, in the action's scale.
    pub action_baseline: f64,
    /// Weight of ‖ω‖², s²/rad².
    pub body_rates: f64,
}

/// How the orientation is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrientationTerm {
    /// 2·acos(1 − q_z²): yaw only, blind to tilt, as the published environment has it.
    #[default]
    Yaw,
    /// 1 − q_w²: every rotation away from level counts, smoothly.
    Full,
}

/// In which scale the action is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionScale {
    /// Mapped to [0, 1].
    #[default]
    UnitInterval,
    /// As commanded, [−1, 1].
    Symmetric,
}

/// A whole reward definition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Weights.
    pub coefficients: Coefficients,
    /// Orientation term.
    pub orientation: OrientationTerm,
    /// Scale of the action.
    pub scale: ActionScale,
}

/// Stages of the published curriculum.
pub const STAGES: usize = 6;

const START: Coefficients = Coefficients {
    survival: 1.0,
    position: 1.0,
    velocity: 0.01,
    orientation: 0.25,
    action: 0.14,
    action_baseline: 0.667,
    body_rates: 0.0,
};
const END: Coefficients = Coefficients { position: 3.5, velocity: 0.10, action: 0.50, ..START };

impl Reward {
    /// The published start coefficients.
    pub const fn start() -> Self {
        Self { coefficients: START, orientation: OrientationTerm::Yaw, scale: ActionScale::UnitInterval }
    }

    /// The published end coefficients.
    pub const fn end() -> Self {
        Self { coefficients: END, ..Self::start() }
    }

    /// The values in the authors' code.
    pub const fn authors_code() -> Self {
        let coefficients = Coefficients {
            survival: 1.0,
            position: 1.0,
            velocity: 0.005,
            orientation: 0.3,
            action: 0.01,
            action_baseline: 2.0 * 0.334 - 1.0,
            body_rates: 0.0001,
        };
        Self { coefficients, orientation: OrientationTerm::Yaw, scale: ActionScale::Symmetric }
    }

    /// Stage 0 … 5 of the curriculum, from start to end in equal steps; later stages are the last.
    pub fn stage(stage: usize) -> Self {
        let t = stage.min(STAGES - 1) as f64 / (STAGES - 1) as f64;
        let mix = |a: f64, b: f64| a + (b - a) * t;
        let coefficients = Coefficients {
            position: mix(START.position, END.position),
            velocity: mix(START.velocity, END.velocity),
            action: mix(START.action, END.action),
            ..START
        };
        Self { coefficients, ..Self::start() }
    }

    /// The same with another orientation term.
    pub const fn with_orientation(self, orientation: OrientationTerm) -> Self {
        Self { orientation, ..self }
    }

    /// The same with the action judged in another scale.
    pub const fn with_scale(self, scale: ActionScale) -> Self {
        Self { scale, ..self }
    }

    /// Reward of having come to `state` (position relative to the setpoint is `position_error`) by `action`.
    pub fn of_state(&self, state: &State, setpoint: &nalgebra::Vector3<f64>, action: &[f64; 4]) -> f64 {
        let q = state.orientation;
        self.total(
            (state.position - setpoint).norm_squared(),
            state.velocity.norm_squared(),
            state.body_rates.norm_squared(),
            q.k * q.k,
            q.w * q.w,
            action,
        )
    }

    /// The same from an observation of that state: what a replay buffer stores.
    pub fn of_observation(&self, observation: &Observation, action: &[f32; 4]) -> f64 {
        let o = observation.map(f64::from);
        let squared = |from: usize| o[from..from + 3].iter().map(|v| v * v).sum::<f64>();
        // Diagonal of the rotation matrix: 1 + R00 + R11 + R22 = 4 w², 1 − R00 − R11 + R22 = 4 z².
        let (r00, r11, r22) = (o[3], o[7], o[11]);
        let z_squared = ((1.0 - r00 - r11 + r22) / 4.0).clamp(0.0, 1.0);
        let w_squared = ((1.0 + r00 + r11 + r22) / 4.0).clamp(0.0, 1.0);
        self.total(squared(0), squared(12), squared(15), z_squared, w_squared, &action.map(f64::from))
    }

    fn total(&self, p2: f64, v2: f64, w2: f64, qz2: f64, qw2: f64, action: &[f64; 4]) -> f64 {
        let c = &self.coefficients;
        let orientation = match self.orientation {
            OrientationTerm::Yaw => 2.0 * (1.0 - qz2).clamp(-1.0, 1.0).acos(),
            OrientationTerm::Full => 1.0 - qw2,
        };
        let effort: f64 = action
            .iter()
            .map(|&a| match self.scale {
                ActionScale::UnitInterval => (a + 1.0) / 2.0,
                ActionScale::Symmetric => a,
            })
            .map(|u| (u - c.action_baseline).powi(2))
            .sum();
        c.survival
            - c.position * p2
            - c.velocity * v2
            - c.orientation * orientation
            - c.action * effort
            - c.body_rates * w2
    }
}

/// Half width of the box around the setpoint that ends an episode, m (the paper's environment).
pub const BOX_M: f64 = 0.6;

/// Limits whose crossing ends an episode; each holds for every axis by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Termination {
    /// Distance from the setpoint along an axis, m.
    pub position_m: f64,
    /// Velocity along an axis, m/s.
    pub velocity_m_s: f64,
    /// Body rate about an axis, rad/s.
    pub body_rate_rad_s: f64,
}

impl Default for Termination {
    fn default() -> Self {
        Self::paper()
    }
}

impl Termination {
    /// The paper's environment: a box, and nothing else.
    pub const fn paper() -> Self {
        Self { position_m: BOX_M, velocity_m_s: f64::INFINITY, body_rate_rad_s: f64::INFINITY }
    }

    /// Whether an episode ends in this state: it is beyond a limit, or no longer finite.
    pub fn ends(&self, state: &State, setpoint: &nalgebra::Vector3<f64>) -> bool {
        let beyond = |v: &nalgebra::Vector3<f64>, limit: f64| v.iter().any(|e| e.abs() > limit);
        terminated(state, setpoint, self.position_m)
            || beyond(&state.velocity, self.velocity_m_s)
            || beyond(&state.body_rates, self.body_rate_rad_s)
    }
}

/// Whether an episode ends in this state: it left the box, or is no longer finite.
pub fn terminated(state: &State, setpoint: &nalgebra::Vector3<f64>, box_m: f64) -> bool {
    !state.is_finite() || (state.position - setpoint).iter().any(|e| e.abs() > box_m)
}
