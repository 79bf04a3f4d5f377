//! Gradients of whole flights against those that JAX recorded (benches/peers/flight_jax.py).

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{fs, path::Path};

use nalgebra::Vector3;
use serde::Deserialize;
use spikewing_quad::{
    Disturbance, Reward, State, Vehicle,
    differentiable::{Plant, STATE},
    reward::OrientationTerm,
};

#[derive(Deserialize)]
struct Recording {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    vehicle: String,
    start: [f64; STATE],
    actions: Vec<[f64; 4]>,
    cost: f64,
    by_state: [f64; STATE],
    by_action: Vec<[f64; 4]>,
}

fn vehicle(name: &str) -> Vehicle {
    let crazyflie = Vehicle::crazyflie().unwrap();
    match name {
        "drag" => {
            Vehicle { drag_linear: [0.005, 0.004, 0.01], drag_quadratic: [0.002, 0.003, 0.001], ..crazyflie }
        }
        _ => crazyflie,
    }
}

#[test]
fn a_flights_gradient_is_jaxs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gradients/jax.json");
    let recording: Recording = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(recording.cases.len(), 6);
    let reward = Reward::end().with_orientation(OrientationTerm::Full);
    for (number, case) in recording.cases.iter().enumerate() {
        let plant = Plant::new(&vehicle(&case.vehicle));
        let (mut state, mut path, mut cost) = (State::from_columns(&case.start), Vec::new(), 0.0);
        for action in &case.actions {
            let (next, jacobian) = plant.step(&state, action, &Disturbance::default(), 0.01);
            cost -= reward.of_state(&next, &Vector3::zeros(), action);
            path.push((next, jacobian));
            state = next;
        }
        assert!(
            (cost - case.cost).abs() < 1e-9 * case.cost.abs(),
            "case {number}: cost {cost}, {}",
            case.cost
        );
        let mut adjoint = [0.0_f32; STATE];
        let mut by_action = vec![[0.0_f64; 4]; path.len()];
        for (k, (next, jacobian)) in path.iter().enumerate().rev() {
            let action = case.actions[k].map(|a| a as f32);
            let (by_state, own) = reward.gradient(next, &Vector3::zeros(), &Vector3::zeros(), &action);
            let pulled = jacobian.pull(&std::array::from_fn(|i| adjoint[i] - by_state[i]));
            adjoint = pulled.state;
            by_action[k] = std::array::from_fn(|i| f64::from(pulled.action[i] - own[i]));
        }
        let size = |all: &[f64]| all.iter().fold(0.0_f64, |m, g| m.max(g.abs()));
        let scale = size(&case.by_state);
        for (i, (ours, theirs)) in adjoint.iter().zip(case.by_state).enumerate() {
            let off = (f64::from(*ours) - theirs).abs();
            assert!(off < 2e-5 * scale, "case {number}, ∂L/∂x[{i}]: {ours}, {theirs}");
        }
        let scale = size(case.by_action.as_flattened());
        for (ours, theirs) in by_action.as_flattened().iter().zip(case.by_action.as_flattened()) {
            assert!((ours - theirs).abs() < 2e-5 * scale, "case {number}: {ours}, {theirs}");
        }
    }
}
