//! Rigid-body and motor dynamics of one vehicle, integrated by the classic Runge-Kutta method of fourth order.
//!
//! The equations are those of the learning-to-fly family of simulators: thrust and torque of four rotors with a
//! polynomial thrust curve, gyroscopic torque, and a first-order motor lag; with drag, where a vehicle has it. They are
//! written once, for one vehicle and for a [`crate::batch::Batch`] of them.

use nalgebra::Vector3;

use crate::{
    equations::{self, Body, Held},
    model::{DRAG, Form, GENERAL, Model, PLAIN},
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
/// their range. Actions beyond [−1, 1] are clamped. Where the motors' lag is shorter than the step, it is made in parts
/// ([`Vehicle::parts_of_step`]).
pub fn step(
    vehicle: &Vehicle,
    state: &State,
    action: &[f64; ROTORS],
    disturbance: &Disturbance,
    dt_s: f64,
) -> State {
    let model = Model::of(vehicle);
    let (force, torque) = (disturbance.force_n.into(), disturbance.torque_n_m.into());
    let form = Form::of(vehicle);
    let held = match form {
        Form::General => Held::general(&model, *action, force, torque),
        Form::Plain | Form::Drag => Held::of(&model, *action, force, torque),
    };
    let parts = vehicle.parts_of_step(dt_s);
    let part_s = dt_s / f64::from(parts);
    let (mut body, mut carried) = (Body::from(state), [0.0; equations::CARRIED]);
    for _ in 0..parts {
        body = match form {
            Form::Plain => equations::step::<f64, PLAIN>(&model, &body, &mut carried, &held, part_s),
            Form::Drag => equations::step::<f64, DRAG>(&model, &body, &mut carried, &held, part_s),
            Form::General => equations::step::<f64, GENERAL>(&model, &body, &mut carried, &held, part_s),
        };
    }
    State::from_columns(&body.columns())
}
