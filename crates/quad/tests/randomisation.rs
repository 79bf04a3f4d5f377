//! Domain randomisation: drawn within its bounds, the same from the same seed, and nothing when it is off.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{
    Observation, Randomisation, State, Vehicle,
    protocol::{Evaluation, Pilot, Protocol},
};

const ALL: Randomisation = Randomisation {
    mass: 0.1,
    inertia: 0.2,
    thrust: 0.15,
    torque_constant: 0.3,
    motor_time_constant: 0.4,
    drag: 0.5,
    drag_linear_max: 0.02,
    centre_of_mass_m: 0.003,
    action_latency_s: 0.04,
};

fn draggy() -> Vehicle {
    let mut vehicle = Vehicle::find("l2f0").unwrap();
    vehicle.drag_quadratic = [0.01, 0.02, 0.03];
    vehicle
}

/// Every drawn quantity as a number in [−1, 1] of its spread.
fn spreads(nominal: &Vehicle, drawn: &spikewing_quad::randomisation::Drawn) -> Vec<(&'static str, f64)> {
    let v = &drawn.vehicle;
    let share = |got: f64, nominal: f64, share: f64| (got / nominal - 1.0) / share;
    let mut all = vec![
        ("mass", share(v.mass_kg, nominal.mass_kg, ALL.mass)),
        ("thrust", share(v.thrust_curve[2], nominal.thrust_curve[2], ALL.thrust)),
        ("torque", share(v.torque_constant_m, nominal.torque_constant_m, ALL.torque_constant)),
        (
            "lag",
            share(
                v.motor_time_constant_s.rising,
                nominal.motor_time_constant_s.rising,
                ALL.motor_time_constant,
            ),
        ),
        ("drag", share(v.drag_quadratic[1], nominal.drag_quadratic[1], ALL.drag)),
        ("latency", 2.0 * drawn.action_latency_s / ALL.action_latency_s - 1.0),
        ("x", (nominal.rotors[2].position_m[0] - v.rotors[2].position_m[0]) / ALL.centre_of_mass_m),
        ("y", (nominal.rotors[1].position_m[1] - v.rotors[1].position_m[1]) / ALL.centre_of_mass_m),
    ];
    for axis in 0..3 {
        all.push(("inertia", share(v.inertia_kg_m2[axis], nominal.inertia_kg_m2[axis], ALL.inertia)));
        all.push(("linear drag", 2.0 * v.drag_linear[axis] / ALL.drag_linear_max - 1.0));
    }
    all
}

#[test]
fn every_constant_is_drawn_uniformly_within_its_bounds() {
    let nominal = draggy();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    let n = 5000;
    let drawn: Vec<_> = (0..n).map(|_| ALL.sample(&nominal, &mut rng)).collect();
    let all: Vec<_> = drawn.iter().map(|d| spreads(&nominal, d)).collect();
    for i in 0..all[0].len() {
        let name = all[0][i].0;
        let values: Vec<f64> = all.iter().map(|s| s[i].1).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let square = values.iter().map(|v| v * v).sum::<f64>() / f64::from(n);
        assert!(values.iter().all(|v| v.abs() <= 1.0 + 1e-9), "{name}");
        assert!(mean.abs() < 0.04 && (square - 1.0 / 3.0).abs() < 0.02, "{name}: {mean} {square}");
    }
    for drawn in &drawn {
        let v = &drawn.vehicle;
        // The rounded inverse that the file carries follows the inertia.
        for axis in 0..3 {
            let product = v.inverse_inertia()[axis] * v.inertia_kg_m2[axis];
            assert!((product - 1.0).abs() < 1e-6, "{product}");
        }
        assert!(v.thrust_to_weight() > 1.0);
    }
    // Independent of each other: mass and thrust are not correlated.
    let correlation = all.iter().map(|s| s[0].1 * s[1].1).sum::<f64>() / f64::from(n) * 3.0;
    assert!(correlation.abs() < 0.07, "{correlation}");
}

struct Hover(f32);
impl Pilot for Hover {
    fn reset(&mut self, vehicle: &Vehicle, _: &State) {
        // Pilots know the nominal vehicle only.
        assert_eq!(vehicle.mass_kg, 0.027);
    }
    fn act(&mut self, seen: &Observation, _: usize) -> [f32; 4] {
        [self.0 - 0.5 * seen[2] - 0.3 * seen[14]; 4]
    }
}

fn evaluation(randomisation: Randomisation, seed: u64) -> Evaluation {
    let mut evaluation = Evaluation { protocol: Protocol::Recovery, ..Evaluation::paper(20, seed).unwrap() };
    evaluation.vehicle.simulation.randomisation = randomisation;
    evaluation
}

#[test]
fn the_same_seed_draws_the_same_vehicles() {
    let hover = Vehicle::crazyflie().unwrap().hover_action() as f32;
    let fly = |randomisation, seed| evaluation(randomisation, seed).run(&mut Hover(hover));
    assert_eq!(fly(ALL, 3), fly(ALL, 3));
    assert_ne!(fly(ALL, 3), fly(ALL, 4));
    assert_ne!(fly(ALL, 3), fly(Randomisation::default(), 3));
}

#[test]
fn latency_alone_delays_the_command() {
    // Episodes are drawn from starts and noise that do not depend on the vehicle drawn.
    let latency = Randomisation { action_latency_s: 0.5, ..Randomisation::default() };
    let mut evaluation = evaluation(latency, 1);
    evaluation.protocol = Protocol::Paper;
    let lengths: Vec<usize> = evaluation.run(&mut Cut).iter().map(|e| e.length).collect();
    evaluation.vehicle.simulation.randomisation = Randomisation::default();
    let prompt = evaluation.run(&mut Cut)[0].length;
    let least = lengths.iter().min().unwrap();
    let most = lengths.iter().max().unwrap();
    assert!((prompt..prompt + 10).contains(least), "{least} against {prompt}");
    assert!((prompt + 40..=prompt + 50).contains(most), "{most} against {prompt}");
}

/// Cuts the motors at once.
struct Cut;
impl Pilot for Cut {
    fn reset(&mut self, _: &Vehicle, _: &State) {}
    fn act(&mut self, _: &Observation, _: usize) -> [f32; 4] {
        [-1.0; 4]
    }
}

#[test]
fn what_cannot_be_drawn_is_refused_by_field() {
    let crazyflie = include_str!("../../../params/vehicles/crazyflie.yaml");
    for (line, words) in [
        ("mass: 1.5", ["randomisation.mass", "share"]),
        ("thrust: -0.1", ["randomisation.thrust", "share"]),
        ("drag_linear_max: .inf", ["randomisation.drag_linear_max", "number"]),
        ("action_latency_s: 3.0", ["randomisation.action_latency_s", "one second"]),
        ("mass: 0.5\n    thrust: 0.4", ["randomisation.mass", "cannot hover"]),
        ("weight: 0.1", ["weight", "unknown field"]),
    ] {
        let text = format!("{crazyflie}  randomisation:\n    {line}\n");
        let error = Vehicle::from_yaml(&text, "drawn.yaml").unwrap_err().to_string();
        assert!(error.contains("drawn.yaml") && words.iter().all(|w| error.contains(w)), "{error}");
    }
    let text = format!("{crazyflie}  randomisation:\n    mass: 0.1\n    action_latency_s: 0.02\n");
    let vehicle = Vehicle::from_yaml(&text, "drawn.yaml").unwrap();
    assert_eq!(vehicle.simulation.randomisation.mass, 0.1);
    for (from, to, word) in [
        ("force_std_n: 0.0", "force_std_n: -1.0", "force_std_n"),
        ("guidance: 0.1", "guidance: 1.1", "start.guidance"),
        ("velocity_m_s: 5.0", "velocity_m_s: 0.0", "termination.velocity_m_s"),
    ] {
        let error = Vehicle::from_yaml(&crazyflie.replace(from, to), "bad.yaml").unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
