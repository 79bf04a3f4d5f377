//! Perturbations have the size that they say, and leave everything else of a flight as it was.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::Vector3;
use spikewing_quad::{
    Disturbance, Observation, Perturbation, State, Vehicle,
    episode::Episode,
    protocol::{Evaluation, Pilot, Protocol},
    step,
};

/// A pilot by what it answers to an observation.
struct Law(fn(&Observation) -> [f32; 4]);

impl Pilot for Law {
    fn reset(&mut self, _: &Vehicle, _: &State) {}
    fn act(&mut self, seen: &Observation, _: usize) -> [f32; 4] {
        (self.0)(seen)
    }
}

fn drawn(vehicle: &Vehicle, perturbation: Perturbation, number: u64) -> Episode<'_> {
    let mut episode = Episode::draw(vehicle, Protocol::Recovery, &Vector3::zeros(), 0.01, 3, number);
    perturbation.apply(&mut episode, 3, number);
    episode
}

#[test]
fn a_torque_has_its_size_and_any_direction() {
    let vehicle = Vehicle::find("l2f0").unwrap();
    let torque = |size: f64, number: u64| {
        drawn(&vehicle, Perturbation { torque_n_m: size, ..Perturbation::default() }, number)
            .disturbance
            .torque_n_m
    };
    let n = 2000;
    let mut mean = Vector3::zeros();
    for number in 0..n {
        let drawn = torque(1e-4, number);
        assert!((drawn.norm() - 1e-4).abs() < 1e-18);
        mean += drawn / (1e-4 * n as f64);
        // Twice the torque is the same torque, twice.
        assert!((torque(2e-4, number) - drawn * 2.0).norm() < 1e-18);
    }
    assert!(mean.norm() < 0.06, "{mean}");
}

#[test]
fn each_rotor_has_its_own_thrust() {
    let vehicle = Vehicle::find("l2f0").unwrap();
    let perturbation = Perturbation { rotor_thrust: 0.1, ..Perturbation::default() };
    let mut all = Vec::new();
    for number in 0..1000 {
        let episode = drawn(&vehicle, perturbation, number);
        let factors = episode.vehicle.rotors.iter().map(|r| r.thrust_factor).collect::<Vec<_>>();
        assert!(factors[0] != factors[1] && factors[2] != factors[3]);
        all.extend(factors);
        // Nothing else of the vehicle, and nothing of the start, is another.
        let mut as_built = episode.vehicle.clone().into_owned();
        as_built.rotors = vehicle.rotors.clone();
        assert_eq!(as_built, vehicle);
        assert_eq!(episode.state, drawn(&vehicle, Perturbation::default(), number).state);
    }
    let n = all.len() as f64;
    let mean = all.iter().sum::<f64>() / n;
    let square = all.iter().map(|f| (f - 1.0).powi(2)).sum::<f64>() / n;
    assert!(all.iter().all(|f| (0.9..=1.1).contains(f)));
    assert!((mean - 1.0).abs() < 0.003 && (square - 0.01 / 3.0).abs() < 2e-4, "{mean} {square}");
}

#[test]
fn a_rotor_of_another_thrust_flies_as_physics_says() {
    let vehicle = Vehicle::find("l2f0").unwrap();
    let state = State::hover(&vehicle, Vector3::zeros());
    let fly = |vehicle: &Vehicle| {
        step(
            vehicle,
            &state,
            &state.rotors.map(|r| vehicle.action_of_rotor(r)),
            &Disturbance::default(),
            0.01,
        )
    };
    // All rotors alike are another thrust curve.
    let (mut factors, mut curve) = (vehicle.clone(), vehicle.clone());
    factors.rotors.iter_mut().for_each(|r| r.thrust_factor = 1.05);
    curve.thrust_curve = curve.thrust_curve.map(|c| c * 1.05);
    assert_eq!(fly(&factors), fly(&curve));
    // The front right one alone: v̇ = ΔF/m, and ω̇ = J⁻¹ (y ΔF, −x ΔF, s k ΔF).
    let mut one = vehicle.clone();
    one.rotors[0].thrust_factor = 1.02;
    let more = 0.02 * vehicle.mass_kg * vehicle.gravity_m_s2 / 4.0;
    let next = fly(&one);
    let [x, y, _] = vehicle.rotors[0].position_m;
    let arm = Vector3::new(y, -x, vehicle.rotors[0].spin * vehicle.torque_constant_m);
    let turned = arm.component_mul(&Vector3::from(vehicle.inverse_inertia())) * more * 0.01;
    assert!((next.velocity.z - more / vehicle.mass_kg * 0.01).abs() < 1e-6, "{}", next.velocity.z);
    assert!((next.body_rates - turned).norm() < 2e-3 * turned.norm(), "{} {turned}", next.body_rates);
}

#[test]
fn latency_is_whole_steps() {
    let mut evaluation = Evaluation::paper(1, 1).unwrap();
    let mut cut = Law(|_| [-1.0; 4]);
    let prompt = evaluation.run(&mut cut)[0].length;
    for steps in [1, 2, 30] {
        evaluation.perturbation.action_latency_steps = steps;
        // Until the command arrives the rotors hold their start, which is hover.
        assert_eq!(evaluation.run(&mut cut)[0].length, prompt + steps);
    }
}

#[test]
fn a_flight_without_perturbation_is_the_flight_that_it_was() {
    let mut evaluation = Evaluation { protocol: Protocol::Recovery, ..Evaluation::paper(20, 5).unwrap() };
    let mut pilot = Law(|seen| [0.33 - 0.5 * seen[2] - 0.3 * seen[14]; 4]);
    let nominal = evaluation.run(&mut pilot);
    for perturbation in [
        Perturbation { action_latency_steps: 2, ..Perturbation::default() },
        Perturbation { torque_n_m: 1e-4, ..Perturbation::default() },
        Perturbation { rotor_thrust: 0.1, ..Perturbation::default() },
    ] {
        evaluation.perturbation = perturbation;
        let perturbed = evaluation.run(&mut pilot);
        assert_ne!(perturbed, nominal, "{perturbation:?}");
        assert_eq!(perturbed, evaluation.run(&mut pilot), "{perturbation:?}");
    }
    evaluation.perturbation = Perturbation::default();
    assert_eq!(evaluation.run(&mut pilot), nominal);
}

#[test]
fn a_thrust_factor_may_stand_in_a_vehicles_file() {
    let crazyflie = include_str!("../../../params/vehicles/crazyflie.yaml");
    let worn = |factor: &str| {
        let text = crazyflie.replacen("spin: -1.0", &format!("spin: -1.0, thrust_factor: {factor}"), 1);
        Vehicle::from_yaml(&text, "worn.yaml")
    };
    let factors: Vec<f64> = worn("0.9").unwrap().rotors.iter().map(|r| r.thrust_factor).collect();
    assert_eq!(factors, [0.9, 1.0, 1.0, 1.0]);
    for bad in ["-0.1", ".nan"] {
        let error = worn(bad).unwrap_err().to_string();
        assert!(error.contains("thrust_factor") && error.contains("worn.yaml"), "{error}");
    }
}
