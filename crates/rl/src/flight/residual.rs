//! What the equations of motion leave unexplained of a recorded flight, as a force and a torque that depend on the state.
//!
//! F = R(q) W_F φ(x), τ = W_τ φ(x), φ = (1, v_B, ω, f − f_hover), v_B the velocity in body axes and f the four thrusts that the
//! model believes in, all in natural units; F in world axes, τ in body axes. A mass that is not the file's is a factor of the
//! thrusts, a worn rotor one of its own, drag goes with v_B, wind and trim are constant. W is fitted by ridge regression to
//! what velocities and body rates did over windows of some steps beyond the model's prediction, so that an estimate's noise,
//! which one step's difference drowns in, counts little. The motors' lag cannot be had that way, as rotors are not seen: of
//! several lags the one is kept that leaves least.
//!
//! Related: residual dynamics learned in flight for a policy in a differentiable simulation ("Learning on the Fly", arXiv
//! 2508.21065), there as a network, refitted every few seconds.

use nalgebra::{SMatrix, SVector, Vector3};
use spikewing_quad::{
    Disturbance, State, Vehicle,
    differentiable::{Adjoint, Plant, pull_observation},
};

use super::anchor::{follow, state};
use crate::replay::{ACTION, Episode};

/// Numbers in φ.
pub const FEATURES: usize = 1 + 3 + 3 + ACTION;
/// Body rates count in units of this, rad/s.
const RATE: f64 = 5.0;
/// Steps that a window spans.
const WINDOW: usize = 8;
/// Steps at an episode's start that are left out: where the rotors were is not known.
const UNKNOWN: usize = 16;
/// Ridge: how many windows' worth of evidence an unknown needs, about.
const RIDGE: f64 = 0.3;
/// Factors of the motors' lag that are tried.
const LAGS: [f64; 7] = [0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0];
/// A lag other than the file's must leave less than this share of what the file's leaves.
const EVIDENCE: f64 = 0.97;

/// Weights of force (first three rows, N, body axes) and torque (N m) by feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    weights: SMatrix<f64, 6, FEATURES>,
}

/// φ of a state.
fn features(vehicle: &Vehicle, state: &State) -> SVector<f64, FEATURES> {
    let velocity = state.orientation.inverse_transform_vector(&state.velocity);
    let hover_n = hover_n(vehicle);
    let mut phi = SVector::zeros();
    phi[0] = 1.0;
    for i in 0..3 {
        phi[1 + i] = velocity[i];
        phi[4 + i] = state.body_rates[i] / RATE;
    }
    for (i, rotor) in state.rotors.iter().enumerate() {
        phi[7 + i] = vehicle.thrust_n(*rotor) / hover_n - 1.0;
    }
    phi
}

/// A rotor's thrust at hover, N.
fn hover_n(vehicle: &Vehicle) -> f64 {
    (vehicle.mass_kg * vehicle.gravity_m_s2 / ACTION as f64).max(f64::MIN_POSITIVE)
}

impl Residual {
    /// None.
    pub fn zero() -> Self {
        Self { weights: SMatrix::zeros() }
    }

    /// With these weights.
    pub fn new(weights: SMatrix<f64, 6, FEATURES>) -> Self {
        Self { weights }
    }

    /// Force and torque in a state.
    pub fn at(&self, vehicle: &Vehicle, state: &State) -> Disturbance {
        let both = self.weights * features(vehicle, state);
        let force = Vector3::new(both[0], both[1], both[2]);
        Disturbance {
            force_n: state.orientation.transform_vector(&force),
            torque_n_m: Vector3::new(both[3], both[4], both[5]),
        }
    }

    /// Adds to ∂L/∂x what comes through force and torque, from ∂L/∂F and ∂L/∂τ.
    pub fn pull(
        &self,
        vehicle: &Vehicle,
        state: &State,
        by_force: &[f32; 3],
        by_torque: &[f32; 3],
        adjoint: &mut Adjoint,
    ) {
        let g = Vector3::from(by_force.map(f64::from));
        let in_body = state.orientation.inverse_transform_vector(&g);
        let by_both =
            SVector::<f64, 6>::from_fn(|i, _| if i < 3 { in_body[i] } else { f64::from(by_torque[i - 3]) });
        let by_phi = self.weights.transpose() * by_both;
        let by_velocity = Vector3::new(by_phi[1], by_phi[2], by_phi[3]);
        let both = self.weights * features(vehicle, state);
        let force = Vector3::new(both[0], both[1], both[2]);
        // R(q) carries the force out of the body, and its transpose the velocity into it.
        let by_rotation = g * force.transpose() + state.velocity * by_velocity.transpose();
        let mut seen = [0.0; 18];
        for row in 0..3 {
            for column in 0..3 {
                seen[3 + 3 * row + column] = by_rotation[(row, column)] as f32;
            }
        }
        let to_velocity = state.orientation.transform_vector(&by_velocity);
        for i in 0..3 {
            seen[12 + i] = to_velocity[i] as f32;
            seen[15 + i] = (by_phi[4 + i] / RATE) as f32;
        }
        pull_observation(state, &seen, adjoint);
        let ([_, c1, c2], hover_n) = (vehicle.thrust_curve, hover_n(vehicle));
        for (i, rotor) in state.rotors.iter().enumerate() {
            adjoint[13 + i] += (by_phi[7 + i] * (c1 + 2.0 * c2 * rotor) / hover_n) as f32;
        }
    }
}

/// The model of the drone that flew an episode.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The airframe, with its motors' lag.
    pub vehicle: Vehicle,
    /// Its equations.
    pub plant: Plant,
    /// What they leave.
    pub residual: Residual,
}

impl Fit {
    /// Fits one episode with each airframe and each lag, and keeps what leaves least; `None` without an airframe.
    pub fn of<'a>(
        episode: &Episode,
        airframes: impl Iterator<Item = &'a Vehicle>,
        period_s: f64,
    ) -> Option<Self> {
        let mut best: Option<(f64, Vehicle, Residual)> = None;
        for airframe in airframes {
            for lag in LAGS {
                let mut vehicle = airframe.clone();
                vehicle.scale_motor_lag(lag);
                let (residual, left) = regress(episode, &vehicle, period_s);
                let left = if lag == 1.0 { EVIDENCE * left } else { left };
                if best.as_ref().is_none_or(|(least, _, _)| left < *least) {
                    best = Some((left, vehicle, residual));
                }
            }
        }
        best.map(|(_, vehicle, residual)| Self { plant: Plant::new(&vehicle), vehicle, residual })
    }
}

/// The residual of an episode for one vehicle, and what is left with it: squares of accelerations in g and in rad/s² by the
/// spread that one rotor's hover thrust could make.
fn regress(episode: &Episode, vehicle: &Vehicle, period_s: f64) -> (Residual, f64) {
    let mut rotors = [vehicle.hover_rotor(); ACTION];
    let mass = vehicle.mass_kg;
    let inertia = Vector3::from(vehicle.inertia_kg_m2);
    let still = Disturbance::default();
    // Of each step: φ, and force and torque that were missing.
    let mut steps = Vec::with_capacity(episode.len());
    for (k, action) in episode.actions.iter().enumerate() {
        let action = action.map(f64::from);
        let was = state(episode, k, rotors);
        let next = spikewing_quad::step(vehicle, &was, &action, &still, period_s);
        let seen = state(episode, k + 1, next.rotors);
        let force =
            was.orientation.inverse_transform_vector(&(seen.velocity - next.velocity)) * (mass / period_s);
        let torque = (seen.body_rates - next.body_rates).component_mul(&inertia) / period_s;
        let missing = SVector::<f64, 6>::from_fn(|i, _| if i < 3 { force[i] } else { torque[i - 3] });
        if k >= UNKNOWN {
            steps.push((features(vehicle, &was), missing));
        }
        rotors = follow(vehicle, rotors, &action, period_s);
    }
    let windows: Vec<_> = steps
        .chunks_exact(WINDOW)
        .map(|w| {
            let n = w.len() as f64;
            let phi = w.iter().map(|(phi, _)| phi).sum::<SVector<f64, FEATURES>>() / n;
            (phi, w.iter().map(|(_, missing)| missing).sum::<SVector<f64, 6>>() / n)
        })
        .collect();
    let mut gram = SMatrix::<f64, FEATURES, FEATURES>::identity() * RIDGE;
    let mut moments = SMatrix::<f64, FEATURES, 6>::zeros();
    for (phi, missing) in &windows {
        gram += phi * phi.transpose();
        moments += phi * missing.transpose();
    }
    let weights = gram
        .cholesky()
        .map_or_else(SMatrix::<f64, 6, FEATURES>::zeros, |factor| factor.solve(&moments).transpose());
    let (force_n, arm_m) = (mass * vehicle.gravity_m_s2, arm_m(vehicle));
    let torque_n_m = (force_n / 4.0 * arm_m).max(f64::MIN_POSITIVE);
    let left = windows
        .iter()
        .map(|(phi, missing)| {
            let off = missing - weights * phi;
            let part = |from: usize, unit: f64| (0..3).map(|i| (off[from + i] / unit).powi(2)).sum::<f64>();
            part(0, force_n) + part(3, torque_n_m)
        })
        .sum::<f64>();
    // The ridge's share as well, so that weights as large as they like are no explanation.
    let unit = |row: usize| if row < 3 { force_n } else { torque_n_m };
    let size = (0..6).map(|row| weights.row(row).norm_squared() / unit(row).powi(2)).sum::<f64>();
    (Residual { weights }, left + RIDGE * size)
}

/// The longest arm of a rotor, m.
fn arm_m(vehicle: &Vehicle) -> f64 {
    vehicle.rotors.iter().map(|r| r.position_m[0].hypot(r.position_m[1])).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
