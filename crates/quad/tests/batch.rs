//! A batch against the single simulator and against trajectories that public simulators computed.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{collections::BTreeMap, path::Path};

use nalgebra::Vector3;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{
    Disturbance, Observation, Randomisation, Reward, State, Vehicle,
    batch::{Batch, End, Scalar, Setup},
    protocol::{EpisodeResult, Evaluation, Pilot, Protocol},
    reward::{OrientationTerm, Termination},
    step,
};

/// One case of a public simulator: its start, its commands, and the states after some of the steps.
struct Case {
    name: String,
    disturbance: Disturbance,
    start: State,
    actions: Vec<[f64; 4]>,
    states: BTreeMap<usize, [f64; 17]>,
}

fn rows(path: &Path) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(|v| v.parse().unwrap()).collect()).collect()
}

fn cases(variant: &str) -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dynamics");
    let text = std::fs::read_to_string(dir.join(format!("{variant}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let actions = rows(&dir.join(format!("{variant}_actions.csv")));
    let states = rows(&dir.join(format!("{variant}_states.csv")));
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let list = json["cases"].as_array().unwrap();
    list.iter()
        .enumerate()
        .map(|(index, case)| {
            let of_case = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
                rows.iter().filter(|r| r[0] == index as f64).cloned().collect()
            };
            Case {
                name: case["name"].as_str().unwrap().to_owned(),
                disturbance: Disturbance {
                    force_n: Vector3::from_vec(numbers(&case["force"])),
                    torque_n_m: Vector3::from_vec(numbers(&case["torque"])),
                },
                start: State::from_columns(&numbers(&case["initial_state"]).try_into().unwrap()),
                actions: of_case(&actions).iter().map(|r| r[2..6].try_into().unwrap()).collect(),
                states: of_case(&states)
                    .iter()
                    .map(|r| (r[1] as usize, r[2..19].try_into().unwrap()))
                    .collect(),
            }
        })
        .collect()
}

/// Largest deviation of a state, rotors relative to their range.
fn deviation(vehicle: &Vehicle, got: &State, expected: &[f64; 17]) -> f64 {
    let range = vehicle.rotor_range[1] - vehicle.rotor_range[0];
    let columns = got.to_columns();
    assert!(columns.iter().all(|v| v.is_finite()), "{columns:?}");
    (0..17).map(|i| (columns[i] - expected[i]).abs() / if i < 13 { 1.0 } else { range }).fold(0.0, f64::max)
}

/// A batch whose vehicles replay the cases of a variant, each three times over, so that every lane is used.
fn replaying<T: Scalar>(variant: &str, cases: &[Case]) -> Batch<T> {
    let mut batch = Batch::new(Setup::recovery(Vehicle::find(variant).unwrap()), 3 * cases.len());
    for i in 0..batch.len() {
        batch.set_state(i, &cases[i % cases.len()].start);
        batch.set_disturbance(i, &cases[i % cases.len()].disturbance);
    }
    batch
}

fn actions_of<T: Scalar>(cases: &[Case], count: usize, k: usize) -> Vec<[T; 4]> {
    (0..count).map(|i| cases[i % cases.len()].actions[k].map(T::of)).collect()
}

#[test]
fn single_precision_stays_near_every_public_simulator() {
    for variant in ["l2f0", "ltf", "l2f2"] {
        let (cases, vehicle) = (cases(variant), Vehicle::find(variant).unwrap());
        let mut batch = replaying::<f32>(variant, &cases);
        let mut worst = vec![0.0_f64; cases.len()];
        let mut compared = 0;
        for k in 0..200 {
            batch.step(&actions_of(&cases, batch.len(), k));
            for i in 0..batch.len() {
                if let Some(expected) = cases[i % cases.len()].states.get(&(k + 1)) {
                    let off = deviation(&vehicle, &batch.state(i), expected);
                    worst[i % cases.len()] = worst[i % cases.len()].max(off);
                    compared += 1;
                }
            }
        }
        assert!(compared >= 2400, "{variant}: {compared} states compared");
        for (case, off) in cases.iter().zip(&worst) {
            println!("{variant} {}: {off:e} over 200 steps", case.name);
            assert!(*off <= 2e-3, "{variant} {}: {off:e}", case.name);
        }
    }
}

#[test]
fn single_precision_makes_small_errors_in_a_step() {
    for variant in ["l2f0", "ltf", "l2f2"] {
        let (cases, vehicle) = (cases(variant), Vehicle::find(variant).unwrap());
        for (index, case) in cases.iter().enumerate() {
            let mut batch = replaying::<f32>(variant, &cases);
            let mut worst = 0.0_f64;
            let mut state = case.start;
            for (k, action) in case.actions.iter().enumerate() {
                batch.set_state(index, &state);
                batch.step(&actions_of(&cases, batch.len(), k));
                state = step(&vehicle, &state, action, &case.disturbance, 0.01);
                if let Some(expected) = case.states.get(&(k + 1)) {
                    // From here on from the public simulator's own state.
                    state = State::from_columns(expected);
                    worst = worst.max(deviation(&vehicle, &batch.state(index), expected));
                }
            }
            println!("{variant} {}: {worst:e} in a step", case.name);
            assert!(worst <= 5e-6, "{variant} {}: {worst:e}", case.name);
        }
    }
}

#[test]
fn double_precision_is_the_single_simulator_to_the_last_bit() {
    for variant in ["l2f0", "ltf", "l2f2"] {
        let (cases, vehicle) = (cases(variant), Vehicle::find(variant).unwrap());
        let mut batch = replaying::<f64>(variant, &cases);
        let mut states: Vec<State> = cases.iter().map(|c| c.start).collect();
        for k in 0..200 {
            batch.step(&actions_of(&cases, batch.len(), k));
            for (state, case) in states.iter_mut().zip(&cases) {
                *state = step(&vehicle, state, &case.actions[k], &case.disturbance, 0.01);
            }
            for i in 0..batch.len() {
                assert_eq!(
                    batch.state(i),
                    states[i % cases.len()],
                    "{variant} {}",
                    cases[i % cases.len()].name
                );
            }
        }
    }
}

/// Commands that depend on what is seen and on the step, so that an observation or a noise that differs shows.
fn reflex(seen: &Observation, k: usize) -> [f32; 4] {
    std::array::from_fn(|m| {
        let sum: f32 = seen.iter().enumerate().map(|(i, v)| v * ((i * 7 + m * 3 + k) % 5) as f32).sum();
        0.3 - 0.4 * seen[2] - 0.3 * seen[14] + 0.02 * sum.sin()
    })
}

struct Reflex;
impl Pilot for Reflex {
    fn reset(&mut self, _: &Vehicle, _: &State) {}
    fn act(&mut self, seen: &Observation, k: usize) -> [f32; 4] {
        reflex(seen, k)
    }
}

fn everything_at_once() -> Vehicle {
    let mut vehicle = Vehicle::find("ltf").unwrap();
    vehicle.drag_linear = [0.01, 0.02, 0.03];
    vehicle.drag_quadratic = [0.002, 0.001, 0.003];
    vehicle.drag_angular = [1e-7, 2e-7, 3e-7];
    vehicle.rotors[1].thrust_factor = 0.97;
    vehicle.simulation.randomisation = Randomisation {
        mass: 0.1,
        inertia: 0.2,
        thrust: 0.1,
        torque_constant: 0.2,
        motor_time_constant: 0.3,
        drag: 0.5,
        drag_linear_max: 0.01,
        centre_of_mass_m: 0.002,
        action_latency_s: 0.03,
    };
    vehicle
}

/// Length, return and end of every episode up to `episodes`, by number.
fn flown<T: Scalar>(setup: &Setup, vehicles: usize, episodes: u64) -> BTreeMap<u64, (u32, f64, End)> {
    let mut batch = Batch::<T>::new(setup.clone(), vehicles);
    let mut seen = vec![[0.0; 18]; vehicles];
    let mut returns = vec![0.0; vehicles];
    let mut flown = BTreeMap::new();
    while (0..vehicles).any(|i| batch.episode(i).0 < episodes) {
        batch.observe(&mut seen);
        let actions: Vec<[T; 4]> = (0..vehicles)
            .map(|i| reflex(&seen[i], batch.episode(i).1 as usize).map(|a| T::of(f64::from(a))))
            .collect();
        batch.advance(&actions);
        for (i, total) in returns.iter_mut().enumerate() {
            *total += batch.rewards()[i].wide();
            if batch.ends()[i] != End::Going {
                let (number, length) = batch.episode(i);
                flown.insert(number, (length, std::mem::take(total), batch.ends()[i]));
            }
        }
        let ended = batch.ends().iter().filter(|e| **e != End::Going).count();
        assert_eq!(batch.reset_finished(), ended);
    }
    flown
}

/// Long enough for some to leave their box, short enough for others to stay.
const STEPS: u32 = 25;

#[test]
fn its_episodes_are_those_of_the_evaluation() {
    for (vehicle, termination, reward) in [
        (Vehicle::find("l2f0").unwrap(), Termination::paper(), Reward::start()),
        (Vehicle::find("l2f2").unwrap(), Termination::paper(), Reward::authors_code()),
        (
            everything_at_once(),
            Termination { velocity_m_s: 1.5, ..Termination::paper() },
            Reward::end().with_orientation(OrientationTerm::Full),
        ),
    ] {
        let setup = Setup {
            vehicle,
            termination,
            reward,
            steps: STEPS,
            seed: 5,
            ..Setup::recovery(Vehicle::find("l2f0").unwrap())
        };
        let evaluation = Evaluation {
            vehicle: setup.vehicle.clone(),
            protocol: Protocol::Recovery,
            reward,
            termination,
            steps: STEPS as usize,
            ..Evaluation::paper(1, 5).unwrap()
        };
        let single: Vec<EpisodeResult> = (0..60).map(|e| evaluation.episode(&mut Reflex, e)).collect();
        let double = flown::<f64>(&setup, 37, 60);
        let completed = single.iter().filter(|e| e.completed).count();
        assert!((1..60).contains(&completed), "{completed} of 60 completed: either end should be seen");
        for (number, expected) in single.iter().enumerate() {
            let (length, total, end) = double[&(number as u64)];
            assert_eq!(length as usize, expected.length, "episode {number}");
            assert_eq!(total, expected.episode_return, "episode {number}");
            assert!(end == End::Terminated || length == STEPS, "episode {number}: {end:?}");
        }
        // Not for numbers whose flights are chaotic, but all in all single precision flies the same episodes.
        let single_precision = flown::<f32>(&setup, 37, 60);
        let near = (0..60).filter(|e| (single_precision[e].1 - double[e].1).abs() < 0.05).count();
        assert!(near >= 55, "{near} of 60 episodes alike in single precision");
    }
}

#[test]
fn threads_change_nothing() {
    let vehicle = everything_at_once();
    let fly = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut batch = Batch::<f32>::new(Setup::recovery(vehicle.clone()), 2500);
            let mut seen = vec![[0.0; 18]; batch.len()];
            for k in 0..40 {
                batch.observe(&mut seen);
                batch.advance(&seen.iter().map(|s| reflex(s, k)).collect::<Vec<_>>());
                batch.reset_finished();
            }
            (seen, (0..batch.len()).map(|i| batch.state(i)).collect::<Vec<_>>())
        })
    };
    assert_eq!(fly(1), fly(3));
}

#[test]
fn a_command_that_is_no_number_stops_its_motor_and_a_lost_state_ends_its_episode() {
    let mut batch = Batch::<f32>::new(Setup::recovery(Vehicle::find("l2f0").unwrap()), 20);
    let mut idle = batch.clone();
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    batch.advance(&[odd; 20]);
    idle.advance(&[[-1.0; 4]; 20]);
    assert_eq!(batch.state(19), idle.state(19));
    assert_eq!(batch.rewards(), idle.rewards());
    let mut lost = State::hover(&Vehicle::find("l2f0").unwrap(), Vector3::zeros());
    lost.velocity.y = f64::NAN;
    batch.set_state(7, &lost);
    batch.advance(&[[0.3; 4]; 20]);
    assert_eq!(batch.ends()[7], End::Terminated);
    assert_eq!(batch.rewards()[7], 0.0);
    batch.reset_finished();
    assert!(batch.state(7).is_finite());
    assert_eq!(batch.episode(7), (27, 0));
}

#[test]
fn vehicles_may_differ_within_a_batch() {
    let nominal = Vehicle::find("l2f0").unwrap();
    let mut batch = Batch::<f64>::new(Setup::recovery(nominal.clone()), 33);
    let other = Vehicle::find("l2f2").unwrap();
    batch.set_vehicle(17, &other);
    let before: Vec<State> = (0..33).map(|i| batch.state(i)).collect();
    batch.step(&[[0.4, 0.1, 0.2, -0.3]; 33]);
    for (i, state) in before.iter().enumerate() {
        let vehicle = if i == 17 { &other } else { &nominal };
        let expected = step(vehicle, state, &[0.4, 0.1, 0.2, -0.3], &Disturbance::default(), 0.01);
        assert_eq!(batch.state(i), expected, "vehicle {i}");
    }
}

proptest! {
    #[test]
    fn single_precision_earns_what_double_does(seed in 0_u64..1000, stage in 0_usize..6) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for reward in [Reward::stage(stage), Reward::authors_code(),
                       Reward::stage(stage).with_orientation(OrientationTerm::Full)] {
            let setup = Setup { reward, seed, ..Setup::recovery(Vehicle::find("l2f0").unwrap()) };
            let mut single = Batch::<f32>::new(setup.clone(), 50);
            let mut double = Batch::<f64>::new(setup, 50);
            let actions: Vec<[f32; 4]> =
                (0..50).map(|_| std::array::from_fn(|_| rng.random_range(-1.2..1.2))).collect();
            single.advance(&actions);
            double.advance(&actions.iter().map(|a| a.map(f64::from)).collect::<Vec<_>>());
            for (i, action) in actions.iter().enumerate() {
                let (s, d) = (f64::from(single.rewards()[i]), double.rewards()[i]);
                prop_assert!((s - d).abs() < 1e-5, "{s} {d}");
                let expected = reward.of_state(&double.state(i), &Vector3::zeros(),
                                               &action.map(|a| f64::from(a).clamp(-1.0, 1.0)));
                prop_assert_eq!(d, expected);
            }
        }
    }
}
