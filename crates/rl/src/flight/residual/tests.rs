use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::differentiable::STATE;

use super::*;
use crate::replay::{End, Source};

fn vehicle() -> Vehicle {
    Vehicle::find("crazyflie").unwrap()
}

/// Five seconds of a drone near hover, its motors never at rest, recorded by an estimate as noisy as a good one is.
fn flown(vehicle: &Vehicle, noise: f64) -> Episode {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let guide = spikewing_guide_policy::geometric::Geometric::for_vehicle(vehicle);
    let mut now = State::hover(vehicle, Vector3::zeros());
    let mut see = |state: &State| {
        let mut o = state.observation(&Vector3::zeros());
        let mut draw = || noise * (2.0 * rng.random::<f64>() - 1.0);
        o[12..15].iter_mut().for_each(|v| *v += 0.05 * draw() as f32);
        o[15..18].iter_mut().for_each(|w| *w += 0.1 * draw() as f32);
        o
    };
    let mut episode = Episode {
        observations: vec![see(&now)],
        actions: Vec::new(),
        sources: vec![Source::Student; 500],
        advice: vec![None; 500],
        end: End::Truncated,
    };
    let mut shake = Xoshiro256PlusPlus::seed_from_u64(2);
    for _ in 0..500 {
        let command = guide.command(&now.observation(&Vector3::zeros()));
        let action = command.map(|a| (a + 0.2 * (2.0 * shake.random::<f32>() - 1.0)).clamp(-1.0, 1.0));
        now = spikewing_quad::step(vehicle, &now, &action.map(f64::from), &Disturbance::default(), 0.01);
        episode.actions.push(action);
        episode.observations.push(see(&now));
    }
    episode
}

fn heavier(share: f64) -> Vehicle {
    let mut vehicle = vehicle();
    vehicle.mass_kg *= 1.0 + share;
    vehicle
}

/// Acceleration at hover by a fit, m/s².
fn acceleration(fit: &Fit, state: &State) -> f64 {
    let action = [fit.vehicle.action_of_rotor(state.rotors[0]); 4];
    let disturbance = fit.residual.at(&fit.vehicle, state);
    let next = fit.plant.step(state, &action, &disturbance, 0.01).0;
    (next.velocity.z - state.velocity.z) / 0.01
}

#[test]
fn five_seconds_tell_a_heavier_drone() {
    let (own, truth) = (vehicle(), heavier(0.15));
    let fit = Fit::of(&flown(&truth, 1.0), [&own].into_iter(), 0.01).unwrap();
    for thrust in [0.9, 1.0, 1.15] {
        let rotor = own.rotor_for_thrust(thrust * own.mass_kg * own.gravity_m_s2 / 4.0);
        let state = State { rotors: [rotor; 4], ..State::hover(&own, Vector3::zeros()) };
        let expected = own.gravity_m_s2 * (thrust / 1.15 - 1.0);
        let fitted = acceleration(&fit, &state);
        assert!((fitted - expected).abs() < 0.25, "thrust {thrust}: {fitted:.3} m/s², not {expected:.3}");
    }
    assert_eq!(fit.vehicle.motor_time_constant_s, own.motor_time_constant_s);
}

#[test]
fn five_seconds_tell_slow_motors() {
    let own = vehicle();
    let mut truth = own.clone();
    truth.scale_motor_lag(1.5);
    let fit = Fit::of(&flown(&truth, 1.0), [&own].into_iter(), 0.01).unwrap();
    let lag = fit.vehicle.motor_time_constant_s.rising / own.motor_time_constant_s.rising;
    assert!((1.25..=2.0).contains(&lag), "{lag}");
}

#[test]
fn a_drone_as_its_file_says_leaves_next_to_nothing() {
    let own = vehicle();
    let fit = Fit::of(&flown(&own, 1.0), [&own].into_iter(), 0.01).unwrap();
    assert_eq!(fit.vehicle.motor_time_constant_s, own.motor_time_constant_s);
    let state = State::hover(&own, Vector3::zeros());
    let left = fit.residual.at(&own, &state);
    assert!(left.force_n.norm() < 0.03 * own.mass_kg * own.gravity_m_s2, "{left:?}");
    // A crash at once says nothing, and nothing is made of it.
    let mut short = flown(&own, 1.0);
    short.observations.truncate(6);
    short.actions.truncate(5);
    assert_eq!(Fit::of(&short, [&own].into_iter(), 0.01).unwrap().residual, Residual::zero());
}

#[test]
fn the_pulled_residual_is_that_of_finite_differences() {
    let vehicle = vehicle();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let residual = Residual::new(SMatrix::from_fn(|_, _| 2.0 * rng.random::<f64>() - 1.0));
    let mut columns: [f64; STATE] = std::array::from_fn(|_| 2.0 * rng.random::<f64>() - 1.0);
    let norm = columns[3..7].iter().map(|v| v * v).sum::<f64>().sqrt();
    columns[3..7].iter_mut().for_each(|v| *v /= norm);
    columns[13..].iter_mut().for_each(|r| *r = vehicle.hover_rotor() * (1.0 + 0.1 * *r));
    let (f, t) = ([0.3_f32, -0.7, 0.5], [0.2_f32, 0.4, -0.9]);
    let loss = |c: &[f64; STATE]| {
        // R(q) as a polynomial in q, as the adjoint has it: it does not normalise.
        let state = State::from_columns(c);
        let d = residual.at(&vehicle, &state);
        let dot = |a: [f32; 3], b: Vector3<f64>| (0..3).map(|i| f64::from(a[i]) * b[i]).sum::<f64>();
        dot(f, d.force_n) + dot(t, d.torque_n_m)
    };
    let mut adjoint = [0.0; STATE];
    residual.pull(&vehicle, &State::from_columns(&columns), &f, &t, &mut adjoint);
    let size = |i: usize| if i < 13 { 1.0 } else { vehicle.hover_rotor() };
    // Along the sphere of unit quaternions alone: nalgebra's rotation of a vector is no polynomial off it.
    let q: Vec<f64> = columns[3..7].to_vec();
    let tangents = [[-q[1], q[0], q[3], -q[2]], [-q[2], -q[3], q[0], q[1]], [-q[3], q[2], -q[1], q[0]]];
    let mut directions: Vec<[f64; STATE]> =
        (7..STATE).map(|i| std::array::from_fn(|k| if k == i { size(i) } else { 0.0 })).collect();
    directions
        .extend(tangents.map(|t| std::array::from_fn(|k| if (3..7).contains(&k) { t[k - 3] } else { 0.0 })));
    for direction in directions {
        let at = |h: f64| loss(&std::array::from_fn(|i| columns[i] + h * direction[i]));
        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        let exact: f64 = adjoint.iter().zip(direction).map(|(a, d)| f64::from(*a) * d).sum();
        assert!(
            (difference - exact).abs() < 1e-3 * (1.0 + exact.abs()),
            "{direction:?}: {difference} {exact}"
        );
    }
}
