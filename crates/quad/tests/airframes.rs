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
    for name in ["crazyflie", "l2f0", "ltf", "l2f2", "x500"] {
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

#[test]
fn the_x500_hovers_where_gazebos_does() {
    let vehicle = Vehicle::find("x500").unwrap();
    let expected = (2.0643_f64 * 9.81 / 4.0 / 8.54858e-6).sqrt();
    assert!((vehicle.hover_rotor() - expected).abs() < 1e-9);
    assert!((vehicle.thrust_to_weight() - 1.688).abs() < 1e-3, "{}", vehicle.thrust_to_weight());
}
