//! Rigid-body and motor dynamics, integrated by the classic Runge-Kutta method of fourth order.
//!
//! The equations are those of the learning-to-fly family of simulators: thrust and torque of four rotors with a
//! polynomial thrust curve, gyroscopic torque, and a first-order motor lag.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};

use crate::{
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

/// Time derivative of a state; the quaternion's is not of unit length, hence a type of its own.
#[derive(Clone, Copy)]
struct Derivative {
    position: Vector3<f64>,
    orientation: Quaternion<f64>,
    velocity: Vector3<f64>,
    body_rates: Vector3<f64>,
    rotors: [f64; ROTORS],
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
    let command = action.map(|a| vehicle.rotor_of_action(a));
    let slope = |at: &State| derivative(vehicle, at, &command, disturbance);
    let k1 = slope(state);
    let k2 = slope(&advance(state, &k1, dt_s / 2.0));
    let k3 = slope(&advance(state, &k2, dt_s / 2.0));
    let k4 = slope(&advance(state, &k3, dt_s));
    let sum = Derivative {
        position: k1.position + (k2.position + k3.position) * 2.0 + k4.position,
        orientation: k1.orientation + (k2.orientation + k3.orientation) * 2.0 + k4.orientation,
        velocity: k1.velocity + (k2.velocity + k3.velocity) * 2.0 + k4.velocity,
        body_rates: k1.body_rates + (k2.body_rates + k3.body_rates) * 2.0 + k4.body_rates,
        rotors: std::array::from_fn(|i| k1.rotors[i] + 2.0 * (k2.rotors[i] + k3.rotors[i]) + k4.rotors[i]),
    };
    let mut next = advance(state, &sum, dt_s / 6.0);
    next.orientation = UnitQuaternion::new_normalize(next.orientation.into_inner());
    let [low, high] = vehicle.rotor_range;
    next.rotors = next.rotors.map(|r| r.clamp(low, high));
    next
}

/// `state` moved along `slope`. The quaternion is not normalised: stages of the method need it as it is.
fn advance(state: &State, slope: &Derivative, dt_s: f64) -> State {
    State {
        position: state.position + slope.position * dt_s,
        orientation: UnitQuaternion::new_unchecked(state.orientation.into_inner() + slope.orientation * dt_s),
        velocity: state.velocity + slope.velocity * dt_s,
        body_rates: state.body_rates + slope.body_rates * dt_s,
        rotors: std::array::from_fn(|i| state.rotors[i] + slope.rotors[i] * dt_s),
    }
}

fn derivative(
    vehicle: &Vehicle,
    state: &State,
    command: &[f64; ROTORS],
    disturbance: &Disturbance,
) -> Derivative {
    let mut thrust = 0.0;
    let mut torque = Vector3::zeros();
    for (rotor, &r) in vehicle.rotors.iter().zip(&state.rotors) {
        let f = vehicle.thrust_n(r);
        let [x, y, _] = rotor.position_m;
        thrust += f;
        torque += Vector3::new(y * f, -x * f, rotor.spin * vehicle.torque_constant_m * f);
    }
    let q = state.orientation.into_inner();
    let force_body = Vector3::new(0.0, 0.0, thrust) + drag(vehicle, state);
    // R(q) F without normalising q: what the method's stages call for.
    let qv = q.imag();
    let t = qv.cross(&force_body);
    let force_world = force_body + t * (2.0 * q.w) + qv.cross(&t) * 2.0;
    let acceleration = force_world / vehicle.mass_kg + disturbance.force_n / vehicle.mass_kg
        - Vector3::new(0.0, 0.0, vehicle.gravity_m_s2);

    let w = state.body_rates;
    let inertia = Vector3::from(vehicle.inertia_kg_m2);
    let inverse = Vector3::from(vehicle.inverse_inertia());
    let gyroscopic = w.cross(&inertia.component_mul(&w));
    let angular =
        inverse.component_mul(&(torque - gyroscopic)) + inverse.component_mul(&disturbance.torque_n_m);

    Derivative {
        position: state.velocity,
        orientation: q * Quaternion::from_imag(w) * 0.5,
        velocity: acceleration,
        body_rates: angular,
        rotors: std::array::from_fn(|i| {
            let error = command[i] - state.rotors[i];
            let lag = vehicle.motor_time_constant_s;
            error / if error >= 0.0 { lag.rising } else { lag.falling }
        }),
    }
}

fn drag(vehicle: &Vehicle, state: &State) -> Vector3<f64> {
    if vehicle.drag_linear == [0.0; 3] && vehicle.drag_quadratic == [0.0; 3] {
        return Vector3::zeros();
    }
    let velocity = state.orientation.inverse_transform_vector(&state.velocity);
    -Vector3::from_fn(|i, _| {
        velocity[i] * (vehicle.drag_linear[i] + vehicle.drag_quadratic[i] * velocity[i].abs())
    })
}
