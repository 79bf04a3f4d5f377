//! Starts, noise, disturbances and ends of the three public simulators, by their moments.
//!
//! The numbers are those of the simulators' own sources, not of the vehicle files.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::f64::consts::{FRAC_PI_2, PI};

use nalgebra::Vector3;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{State, Vehicle};

const N: usize = 20_000;

/// What a simulator's sources say of it.
struct Published {
    name: &'static str,
    max_position_m: f64,
    /// Mean and largest angle from level of the starts away from the setpoint.
    angle: [f64; 2],
    guided_keeps_velocity: bool,
    /// Lowest and highest rotor start, as shares of the range.
    rotors: [f64; 2],
    /// Position, rotation matrix, velocity, body rates.
    noise: [f64; 4],
    force_std: f64,
    torque_std: f64,
    /// Position, velocity, body rates.
    limits: [f64; 3],
}

/// Mean angle of rotations uniform over all within `max`: density ∝ 1 − cos θ.
fn mean_angle(max: f64) -> f64 {
    (max * max / 2.0 - max * max.sin() - max.cos() + 1.0) / (max - max.sin())
}

fn published() -> [Published; 3] {
    let weight = 0.027 * 9.81;
    [
        Published {
            name: "l2f0",
            max_position_m: 0.5,
            angle: [mean_angle(FRAC_PI_2), FRAC_PI_2],
            guided_keeps_velocity: false,
            rotors: [0.0, 1.0],
            noise: [0.05, 0.001, 0.1, 0.2],
            force_std: 0.0,
            torque_std: 0.0,
            limits: [2.0, 5.0, 35.0],
        },
        Published {
            name: "ltf",
            max_position_m: 0.2,
            // Its sources have 90/180·3.14.
            angle: [mean_angle(1.57), 1.57],
            guided_keeps_velocity: true,
            rotors: [0.5, 0.5],
            noise: [0.001, 0.001, 0.002, 0.002],
            force_std: weight / 20.0,
            torque_std: weight / 10_000.0,
            limits: [0.6, 1000.0, 1000.0],
        },
        Published {
            name: "l2f2",
            max_position_m: 0.5,
            angle: [0.5, 1.0],
            guided_keeps_velocity: false,
            rotors: [0.0, 0.5],
            noise: [0.0; 4],
            force_std: 0.0,
            torque_std: 0.0,
            limits: [1.0, 2.0, 35.0],
        },
    ]
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Uniform over ± `half_width`: mean 0, deviation w/√3, and nothing beyond.
fn assert_uniform(what: &str, values: &[f64], half_width: f64) {
    let (mean, std) = moments(values);
    let expected = half_width / 3.0_f64.sqrt();
    // Five standard errors of the mean.
    assert!(mean.abs() < 5.0 * expected / (values.len() as f64).sqrt(), "{what}: mean {mean}");
    assert!((std / expected - 1.0).abs() < 0.02, "{what}: standard deviation {std}, not {expected}");
    let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(largest <= half_width && largest > 0.995 * half_width, "{what}: up to {largest}");
}

#[test]
fn starts() {
    for expected in published() {
        let name = expected.name;
        let vehicle = Vehicle::find(name).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let start = &vehicle.simulation.start;
        let states: Vec<State> =
            (0..N).map(|_| start.sample(&vehicle, &Vector3::zeros(), &mut rng)).collect();

        let (guided, free): (Vec<State>, Vec<State>) = states.iter().partition(|s| s.position.norm() == 0.0);
        let share = guided.len() as f64 / N as f64;
        assert!((share - 0.1).abs() < 0.011, "{name}: {share} of the starts at the setpoint");
        assert!(guided.iter().all(|s| s.orientation.angle() == 0.0), "{name}: level at the setpoint");
        let moving = guided.iter().filter(|s| s.velocity.norm() > 0.0).count();
        let expected_moving = if expected.guided_keeps_velocity { guided.len() } else { 0 };
        assert_eq!(moving, expected_moving, "{name}: starts at the setpoint that move");

        let of = |f: &dyn Fn(&State) -> f64| free.iter().map(f).collect::<Vec<f64>>();
        for axis in 0..3 {
            assert_uniform(name, &of(&|s| s.position[axis]), expected.max_position_m);
            assert_uniform(name, &of(&|s| s.velocity[axis]), 1.0);
            assert_uniform(name, &of(&|s| s.body_rates[axis]), 1.0);
            // No axis is preferred: the rotation vectors have mean zero.
            let (mean, std) = moments(&of(&|s| s.orientation.scaled_axis()[axis]));
            assert!(mean.abs() < 5.0 * std / (free.len() as f64).sqrt(), "{name}: axis {axis} {mean}");
        }
        let angles = of(&|s| s.orientation.angle());
        let (mean, std) = moments(&angles);
        let [expected_mean, most] = expected.angle;
        let slack = 5.0 * std / (free.len() as f64).sqrt();
        assert!((mean - expected_mean).abs() < slack, "{name}: mean angle {mean}, not {expected_mean}");
        let largest = angles.iter().copied().fold(0.0, f64::max);
        assert!(largest <= most + 1e-9 && largest > 0.99 * most, "{name}: angles up to {largest}");

        let [low, high] = vehicle.rotor_range;
        for rotor in 0..4 {
            let shares: Vec<f64> = states.iter().map(|s| (s.rotors[rotor] - low) / (high - low)).collect();
            let (middle, half) = (
                (expected.rotors[0] + expected.rotors[1]) / 2.0,
                (expected.rotors[1] - expected.rotors[0]) / 2.0,
            );
            let centred: Vec<f64> = shares.iter().map(|s| s - middle).collect();
            if half == 0.0 {
                assert!(centred.iter().all(|c| *c == 0.0), "{name}: rotors in the middle");
            } else {
                assert_uniform(name, &centred, half);
            }
        }
    }
}

#[test]
fn observation_noise() {
    for expected in published() {
        let name = expected.name;
        let vehicle = Vehicle::find(name).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let clean = State::hover(&vehicle, Vector3::zeros()).observation(&Vector3::zeros());
        let noisy: Vec<_> = (0..N).map(|_| vehicle.simulation.add_noise(&clean, &mut rng)).collect();
        for i in 0..18 {
            let std = expected.noise[match i {
                0..3 => 0,
                3..12 => 1,
                12..15 => 2,
                _ => 3,
            }];
            let errors: Vec<f64> = noisy.iter().map(|o| f64::from(o[i]) - f64::from(clean[i])).collect();
            let (mean, got) = moments(&errors);
            // Single precision rounds what is near 1.
            assert!((got - std).abs() <= 0.03 * std, "{name}: element {i}: {got}, not {std}");
            assert!(mean.abs() <= 5.0 * std / (N as f64).sqrt() + 1e-9, "{name}: element {i}: mean {mean}");
            if std > 0.0 {
                // Normal: the fourth moment is three times the square of the second.
                let fourth = errors.iter().map(|e| (e / got).powi(4)).sum::<f64>() / N as f64;
                assert!((fourth - 3.0).abs() < 0.3, "{name}: element {i}: kurtosis {fourth}");
            }
        }
    }
}

#[test]
fn disturbances() {
    for expected in published() {
        let name = expected.name;
        let vehicle = Vehicle::find(name).unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let drawn: Vec<_> = (0..N).map(|_| vehicle.simulation.sample_disturbance(&mut rng)).collect();
        for axis in 0..3 {
            for (values, std) in [
                (drawn.iter().map(|d| d.force_n[axis]).collect::<Vec<_>>(), expected.force_std),
                (drawn.iter().map(|d| d.torque_n_m[axis]).collect(), expected.torque_std),
            ] {
                let (mean, got) = moments(&values);
                assert!((got - std).abs() <= 0.03 * std, "{name}: axis {axis}: {got}, not {std}");
                assert!(mean.abs() <= 5.0 * std / (N as f64).sqrt(), "{name}: axis {axis}: mean {mean}");
            }
        }
    }
}

#[test]
fn ends() {
    for expected in published() {
        let name = expected.name;
        let vehicle = Vehicle::find(name).unwrap();
        let termination = vehicle.simulation.termination;
        let origin = Vector3::zeros();
        let rest = State::hover(&vehicle, origin);
        assert!(!termination.ends(&rest, &origin), "{name}");
        for axis in 0..3 {
            for sign in [-1.0, 1.0] {
                for (limit, part) in expected.limits.iter().zip(0..3) {
                    for (value, ends) in [(limit * 0.999, false), (limit * 1.001, true)] {
                        let mut state = rest;
                        let vector = match part {
                            0 => &mut state.position,
                            1 => &mut state.velocity,
                            _ => &mut state.body_rates,
                        };
                        vector[axis] = sign * value;
                        assert_eq!(termination.ends(&state, &origin), ends, "{name}: {part} {axis} {value}");
                    }
                }
            }
        }
        // Every axis by itself: the corner of the box is within it.
        let mut corner = rest;
        corner.position = Vector3::repeat(0.99 * expected.limits[0]);
        assert!(!termination.ends(&corner, &origin), "{name}");
        let mut lost = rest;
        lost.rotors[2] = f64::NAN;
        assert!(termination.ends(&lost, &origin), "{name}");
    }
}

#[test]
fn the_mean_angle_is_that_of_its_density() {
    let (n, max) = (100_000, FRAC_PI_2);
    let (mut weighted, mut total) = (0.0, 0.0);
    for i in 0..n {
        let angle = max * (f64::from(i) + 0.5) / f64::from(n);
        weighted += angle * (1.0 - angle.cos());
        total += 1.0 - angle.cos();
    }
    assert!((weighted / total - mean_angle(max)).abs() < 1e-6);
    assert!(max < PI);
}
