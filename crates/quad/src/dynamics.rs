//! Rigid-body and motor dynamics of one vehicle, integrated by the classic Runge-Kutta method of fourth order.
//!
//! The equations are those of the learning-to-fly family of simulators: thrust and torque of four rotors with a
//! polynomial thrust curve, gyroscopic torque, and a first-order motor lag; with drag, where a vehicle has it. They are
//! written once, for one vehicle and for a [`crate::batch::Batch`] of them.

use nalgebra::Vector3;

use crate::{
    equations::{self, Body, Held},
    model::{self, Model},
    state::State,
    vehicle::{ROTORS, Vehicle},
};

/// Force and torque from outside, constant over a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// Force in world axes, N.
    pub force_n: Vector3<f64>,
    /// Torque in body axes, N m.
    pub torque_n_m: Vector3<f64>,
}

/// One step of `dt_s` with the command held: RK4, then the quaternion is normalised and the rotors are clamped to
/// their range. Actions beyond [−1, 1] are clamped.
pub fn step(
    vehicle: &Vehicle,
    state: &State,
    action: &[f64; ROTORS],
    disturbance: &Disturbance,
    dt_s: f64,
) -> State {
    let model = Model::of(vehicle);
    let held = Held::of(&model, *action, disturbance.force_n.into(), disturbance.torque_n_m.into());
    let body = Body::from(state);
    let mut carried = [0.0; equations::CARRIED];
    let next = if model::has_drag(vehicle) {
        equations::step::<f64, true>(&model, &body, &mut carried, &held, dt_s)
    } else {
        equations::step::<f64, false>(&model, &body, &mut carried, &held, dt_s)
    };
    State::from_columns(&next.columns())
}
