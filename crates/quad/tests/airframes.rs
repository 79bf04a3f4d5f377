//! The airframe files against what their sources say.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::Vector3;
use spikewing_quad::{Disturbance, State, Vehicle, step};

/// Rotors of Gazebo's x500 as its model lists them: place (x, y) and whether it turns counter-clockwise.
const GAZEBO_X500: [([f64; 2], bool); 4] =
    [([0.174, -0.174], true), ([-0.174, 0.174], true), ([0.174, 0.174], false), ([-0.174, -0.174], false)];

#[test]
fn rotors_of_the_x500_turn_as_in_gazebo() {
    let vehicle = Vehicle::find("x500").unwrap();
    for (place, counter_clockwise) in GAZEBO_X500 {
        let rotor = vehicle.rotors.iter().find(|r| r.position_m[..2] == place).unwrap();
        // The air turns the body against the rotor.
        assert_eq!(rotor.spin, if counter_clockwise { -1.0 } else { 1.0 }, "{place:?}");
    }
}

/// A PX4 airframe with its yaw the other way round flies in our own simulator, which reads the same file, and spins up
/// anywhere else: so the sense of every axis is checked from the motors' places.
#[test]
fn every_airframe_turns_the_way_its_rotors_push() {
    for name in ["crazyflie", "l2f0", "ltf", "l2f2", "x500", "sih_quadx"] {
        let vehicle = Vehicle::find(name).unwrap();
        let hover = vehicle.hover_action();
        let rates_after = |faster: [usize; 2]| {
            let mut action = [hover - 0.05; 4];
            faster.into_iter().for_each(|i| action[i] = hover + 0.05);
            let mut state = State::hover(&vehicle, Vector3::zeros());
            for _ in 0..5 {
                state = step(&vehicle, &state, &action, &Disturbance::default(), 0.01);
            }
            state.body_rates
        };
        // Front right, rear right, rear left, front left.
        assert!(rates_after([2, 3]).x > 0.0, "{name}: more on the left rolls right");
        assert!(rates_after([1, 2]).y > 0.0, "{name}: more at the rear pitches down");
        assert!(rates_after([0, 2]).z < 0.0, "{name}: faster counter-clockwise rotors yaw right");
    }
}

/// PX4's `generate_force_and_torques` for a quadrotor, in its motor order and its axes (FRD).
#[test]
fn the_sih_quadrotor_pushes_and_turns_as_px4_computes() {
    let (t_max, q_max, l_roll, l_pitch, kdv, kdw) = (5.0, 0.1, 0.2, 0.2, 1.0, 0.025);
    let u = [0.3, 0.5, 0.62, 0.41];
    let torque_frd = Vector3::new(
        l_roll * t_max * (-u[0] + u[1] + u[2] - u[3]),
        l_pitch * t_max * (u[0] - u[1] + u[2] - u[3]),
        q_max * (u[0] + u[1] - u[2] - u[3]),
    );
    let (velocity, rates) = (Vector3::new(0.4, -0.7, 0.2), Vector3::new(0.3, 0.2, -0.6));
    let vehicle = Vehicle::find("sih_quadx").unwrap();
    // PX4 counts front right, rear left, front left, rear right.
    let rotors = [u[0], u[3], u[1], u[2]];
    let state = State { velocity, body_rates: rates, rotors, ..State::rest(&vehicle, Vector3::zeros()) };
    let after =
        step(&vehicle, &state, &rotors.map(|r| vehicle.action_of_rotor(r)), &Disturbance::default(), 1e-7);
    let torque = Vector3::new(torque_frd.x, -torque_frd.y, -torque_frd.z) - rates * kdw;
    let inertia = Vector3::from(vehicle.inertia_kg_m2);
    let spin = (torque - rates.cross(&inertia.component_mul(&rates))).component_div(&inertia);
    let lift = Vector3::z() * (t_max * u.iter().sum::<f64>() - 9.80665) - velocity * kdv;
    assert!(
        ((after.body_rates - rates) / 1e-7 - spin).norm() < 1e-4,
        "{}",
        (after.body_rates - rates) / 1e-7
    );
    assert!(((after.velocity - velocity) / 1e-7 - lift).norm() < 1e-4);
}

#[test]
fn the_x500_hovers_where_gazebos_does() {
    let vehicle = Vehicle::find("x500").unwrap();
    let expected = (2.0643_f64 * 9.81 / 4.0 / 8.54858e-6).sqrt();
    assert!((vehicle.hover_rotor() - expected).abs() < 1e-9);
    assert!((vehicle.thrust_to_weight() - 1.688).abs() < 1e-3, "{}", vehicle.thrust_to_weight());
}
