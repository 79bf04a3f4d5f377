//! Vehicles of any layout against what can be worked out by hand.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::{UnitQuaternion, Vector3};
use spikewing_quad::{
    Disturbance, State, Vehicle,
    batch::{Batch, Setup},
    step,
};

/// Four rotors that share no symmetry, one of them turning against its usual sense.
const ODD: [([f64; 3], f64); 4] = [
    ([0.20, -0.10, 0.0], -1.0),
    ([-0.15, -0.25, 0.0], -1.0),
    ([-0.05, 0.30, 0.0], -1.0),
    ([0.10, 0.12, 0.0], 1.0),
];

/// A full thrust curve.
const ORDINARY: &str = "
name: odd
mass_kg: 0.5
gravity_m_s2: 9.81
inertia_kg_m2: [2.0e-3, 3.0e-3, 5.0e-3]
rotors:
  - { position_m: [0.2, -0.2, 0.0], spin: -1.0 }
  - { position_m: [-0.2, -0.2, 0.0], spin: 1.0 }
  - { position_m: [-0.2, 0.2, 0.0], spin: -1.0 }
  - { position_m: [0.2, 0.2, 0.0], spin: 1.0 }
thrust_curve: [0.1, 0.5, 2.0]
torque_constant_m: 0.02
motor_time_constant_s: { rising: 0.05, falling: 0.1 }
rotor_range: [0.0, 1.5]
";

fn odd(more: &str) -> Vehicle {
    let mut vehicle = Vehicle::from_yaml(&format!("{ORDINARY}{more}"), "odd.yaml").unwrap();
    // As no file may be: it could not hover without turning.
    for (rotor, (place, spin)) in vehicle.rotors.iter_mut().zip(ODD) {
        (rotor.position_m, rotor.spin) = (place, spin);
    }
    vehicle
}

#[test]
fn an_asymmetric_vehicle_turns_as_worked_out_by_hand() {
    let vehicle = odd("");
    let mut state = State::rest(&vehicle, Vector3::zeros());
    state.rotors = [0.2, 0.4, 0.6, 0.8];
    let action = state.rotors.map(|r| vehicle.action_of_rotor(r));
    // f = 0.1 + 0.5 r + 2 r²
    let f = [0.28, 0.62, 1.12, 1.78];
    let torque = [
        -0.10 * f[0] - 0.25 * f[1] + 0.30 * f[2] + 0.12 * f[3],
        -0.20 * f[0] + 0.15 * f[1] + 0.05 * f[2] - 0.10 * f[3],
        0.02 * (-f[0] - f[1] - f[2] + f[3]),
    ];
    let dt_s = 1e-6;
    let after = step(&vehicle, &state, &action, &Disturbance::default(), dt_s);
    for axis in 0..3 {
        let expected = torque[axis] / [2e-3, 3e-3, 5e-3][axis];
        let got = after.body_rates[axis] / dt_s;
        assert!((got - expected).abs() < 1e-3 * expected.abs(), "axis {axis}: {got}, not {expected}");
    }
    let lift = f.iter().sum::<f64>() / 0.5 - 9.81;
    assert!((after.velocity.z / dt_s - lift).abs() < 1e-6 * lift.abs().max(1.0));
}

#[test]
fn a_batch_of_odd_vehicles_is_the_single_one() {
    let vehicle = odd("drag_linear: [0.1, 0.2, 0.3]\ndrag_quadratic: [0.01, 0.02, 0.05]\n");
    let mut batch = Batch::<f64>::new(Setup::recovery(vehicle.clone()), 5);
    let mut state = State::hover(&vehicle, Vector3::new(0.1, 0.2, 0.3));
    state.velocity = Vector3::new(1.0, -2.0, 0.5);
    state.body_rates = Vector3::new(3.0, -1.0, 2.0);
    batch.set_state(4, &state);
    for k in 0..100 {
        let action = std::array::from_fn(|m| (f64::from(k) * 0.1 + m as f64).sin());
        batch.step(&[action; 5]);
        state = step(&vehicle, &state, &action, &Disturbance::default(), 0.01);
        assert_eq!(batch.state(4), state, "step {k}");
    }
}

/// Falls from rest with the least thrust, its rotors without arms and so without torque. Returns the velocity.
fn fall(mut vehicle: Vehicle, seconds: f64) -> f64 {
    vehicle.rotors.iter_mut().for_each(|rotor| (rotor.position_m, rotor.spin) = ([0.0; 3], 0.0));
    let mut state = State::rest(&vehicle, Vector3::zeros());
    for _ in 0..(seconds / 0.01) as u32 {
        state = step(&vehicle, &state, &[-1.0; 4], &Disturbance::default(), 0.01);
    }
    state.velocity.z
}

#[test]
fn drag_ends_in_its_terminal_velocity() {
    // Idle rotors push with 4 · 0.1 N against a weight of 4.905 N.
    let net = 0.5 * 9.81 - 0.4;
    let linear = fall(odd("drag_linear: [0.0, 0.0, 0.8]\n"), 20.0);
    assert!((linear + net / 0.8).abs() < 1e-9, "{linear}");
    let quadratic = fall(odd("drag_quadratic: [0.0, 0.0, 0.3]\n"), 20.0);
    assert!((quadratic + (net / 0.3).sqrt()).abs() < 1e-9, "{quadratic}");
    // On the way there, 1 − exp(−c t / m).
    let early = fall(odd("drag_linear: [0.0, 0.0, 0.8]\n"), 0.5);
    assert!((early + net / 0.8 * (1.0 - (-0.8_f64 * 0.5 / 0.5).exp())).abs() < 1e-7, "{early}");
}

#[test]
fn drag_acts_in_body_axes() {
    let vehicle = odd("drag_linear: [0.5, 0.0, 0.0]\n");
    let mut state = State::hover(&vehicle, Vector3::zeros());
    // Nose to the left of the world: body x is world y.
    state.orientation = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
    state.velocity = Vector3::new(2.0, 3.0, 0.0);
    let hover = [vehicle.hover_action(); 4];
    let after = step(&vehicle, &state, &hover, &Disturbance::default(), 1e-6);
    let acceleration = (after.velocity - state.velocity) / 1e-6;
    assert!(acceleration.x.abs() < 1e-3, "{acceleration}");
    assert!((acceleration.y + 0.5 * 3.0 / 0.5).abs() < 1e-3, "{acceleration}");
}

#[test]
fn angular_drag_slows_a_turn_exponentially() {
    let mut vehicle = odd("drag_angular: [0.004, 0.0, 0.01]\n");
    vehicle.thrust_curve = [0.0; 3];
    for (axis, drag) in [(Vector3::x(), 0.004), (Vector3::y(), 0.0), (Vector3::z(), 0.01)] {
        let mut state = State::rest(&vehicle, Vector3::zeros());
        state.body_rates = axis * 5.0;
        for _ in 0..100 {
            state = step(&vehicle, &state, &[-1.0; 4], &Disturbance::default(), 0.005);
        }
        let inertia = axis.dot(&Vector3::from(vehicle.inertia_kg_m2));
        let expected = axis * 5.0 * (-0.5 * drag / inertia).exp();
        assert!((state.body_rates - expected).norm() < 1e-9, "{} not {expected}", state.body_rates);
    }
}

#[test]
fn a_straight_thrust_curve_is_thrust_in_proportion_to_the_command() {
    let vehicle = Vehicle::find("sih_quadx").unwrap();
    assert!((vehicle.thrust_to_weight() - 20.0 / 9.80665).abs() < 1e-12);
    assert!((vehicle.hover_rotor() - 9.80665 / 20.0).abs() < 1e-12);
    for thrust in [0.0, 1.25, 4.0, 5.0] {
        assert!((vehicle.thrust_n(vehicle.rotor_for_thrust(thrust)) - thrust).abs() < 1e-12);
    }
    assert_eq!(vehicle.thrust_range_n(), [0.0, 5.0]);
}

#[test]
fn motors_lag_as_an_exponential_with_its_own_constant_each_way() {
    let vehicle = odd("");
    for (from, action, target, lag) in [(0.3, 1.0, 1.5, 0.05), (1.2, -1.0, 0.0, 0.1)] {
        let mut state = State::rest(&vehicle, Vector3::zeros());
        state.rotors = [from; 4];
        for _ in 0..10 {
            state = step(&vehicle, &state, &[action; 4], &Disturbance::default(), 0.005);
        }
        let expected = target + (from - target) * (-0.05_f64 / lag).exp();
        for rotor in state.rotors {
            assert!((rotor - expected).abs() < 1e-6, "{rotor}, not {expected}");
        }
    }
}

#[test]
fn a_free_body_keeps_its_angular_momentum() {
    let mut vehicle = odd("");
    vehicle.thrust_curve = [0.0; 3];
    let mut state = State::rest(&vehicle, Vector3::zeros());
    state.body_rates = Vector3::new(4.0, 0.1, 3.0);
    let inertia = Vector3::from(vehicle.inertia_kg_m2);
    let momentum = |s: &State| s.orientation * inertia.component_mul(&s.body_rates);
    let before = momentum(&state);
    for _ in 0..500 {
        state = step(&vehicle, &state, &[-1.0; 4], &Disturbance::default(), 0.002);
    }
    assert!((momentum(&state) - before).norm() < 1e-8 * before.norm(), "{}", momentum(&state));
    assert!((state.body_rates.y - 0.1).abs() > 0.01, "it should have tumbled");
}
