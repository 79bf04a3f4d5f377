use std::borrow::Cow;

use nalgebra::SMatrix;
use spikewing_quad::{Vehicle, differentiable::Plant};

use super::*;
use crate::{
    ObservationNoise,
    flight::{FlightConfig, residual::Residual},
    replay::{End, Episode, Source},
};

const STEPS: usize = 12;

fn episode() -> Episode {
    let vehicle = Vehicle::find("crazyflie").unwrap();
    let observation = |k: usize| {
        let mut state = State::hover(&vehicle, Vector3::new(0.1, -0.2, 0.001 * k as f64));
        state.velocity.z = 0.1;
        state.observation(&Vector3::zeros())
    };
    Episode {
        observations: (0..=80).map(observation).collect(),
        actions: (0..80).map(|k| [0.01 * (k % 7) as f32; ACTION]).collect(),
        sources: vec![Source::Student; 80],
        advice: vec![None; 80],
        end: End::Truncated,
    }
}

fn config(flight: FlightConfig) -> Config {
    Config {
        smoothness: 0.4,
        observation_noise: ObservationNoise::NONE,
        flight: FlightConfig { horizon: STEPS, distance: 0.7, moving: 1.0, ..flight },
        ..Config::default()
    }
}

/// The loss of a flight by its definition, from what [`Flight`] flies.
fn loss(flight: &Flight<'_>) -> f64 {
    let settings = &flight.config.flight;
    let mut sum = 0.0;
    for step in 0..flight.flown() {
        let (setpoint, velocity) = (flight.path.at(step + 1), flight.path.velocity(step));
        let mut state = flight.states[step + 1];
        let offset = state.position - setpoint;
        state.velocity -= velocity;
        let reward = flight.reward.of_state(&state, &setpoint, &flight.actions[step].map(f64::from))
            - settings.distance * Flight::distance(&offset).0;
        let change: f64 =
            flight.actions[step].iter().zip(flight.before(step)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        sum += flight.smoothness * change - flight.step_share(step) * reward;
    }
    sum
}

/// Commands that arrive late, forces that depend on the state, a setpoint that moves: the gradient with respect to every
/// command is that of finite differences.
#[test]
fn the_gradient_is_that_of_finite_differences() {
    let vehicle = Vehicle::find("crazyflie").unwrap();
    let weight = vehicle.mass_kg * vehicle.gravity_m_s2;
    let residual = Residual::new(SMatrix::from_fn(|row, column| {
        let size = if row < 3 { 0.05 * weight } else { 2e-5 };
        size * ((3 * row + 5 * column) as f64 * 0.7).sin()
    }));
    let episode = episode();
    let reward = Reward::end().with_orientation(spikewing_quad::reward::OrientationTerm::Full);
    for latency_steps in [0, 3] {
        let config = config(FlightConfig { latency_steps, ..FlightConfig::default() });
        for seed in 0..4 {
            let anchor = Anchor { episode: &episode, number: 0, step: 60, seed };
            let model = Model {
                plant: Cow::Owned(Plant::new(&vehicle)),
                vehicle: Cow::Borrowed(&vehicle),
                residual: Some(&residual),
                disturbance: Disturbance { force_n: Vector3::new(0.01, 0.0, 0.02), ..Disturbance::default() },
                rotors: [vehicle.hover_rotor(); ACTION],
            };
            let commands: Vec<[f32; ACTION]> =
                (0..STEPS).map(|k| std::array::from_fn(|i| 0.3 * ((k + 3 * i) as f32).sin())).collect();
            let fly = |commands: &[[f32; ACTION]]| {
                let mut flight = Flight::start(&anchor, &model, &config, &reward, 1);
                for (step, command) in commands.iter().enumerate() {
                    flight.act(step, command);
                }
                flight
            };
            let mut flight = fly(&commands);
            assert!(flight.flown() == STEPS && !flight.is_lost());
            let mut exact = [[0.0_f32; ACTION]; STEPS];
            for step in (0..STEPS).rev() {
                flight.pull_action(step, &mut exact[step]);
            }
            let size = exact.iter().flatten().fold(0.0_f32, |m, g| m.max(g.abs()));
            for step in 0..STEPS {
                for motor in 0..ACTION {
                    let at = |d: f32| {
                        let mut moved = commands.clone();
                        moved[step][motor] += d;
                        loss(&fly(&moved))
                    };
                    let difference = (at(4e-3) - at(-4e-3)) / 8e-3;
                    let exact = f64::from(exact[step][motor]);
                    assert!(
                        (difference - exact).abs() < 5e-3 * f64::from(size),
                        "latency {latency_steps}, seed {seed}, step {step}, motor {motor}: {difference} by differences, {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn late_commands_are_those_that_were_underway() {
    let vehicle = Vehicle::find("crazyflie").unwrap();
    let episode = episode();
    let config = config(FlightConfig { latency_steps: 4, ..FlightConfig::default() });
    let reward = Reward::start();
    let model = Model {
        plant: Cow::Owned(Plant::new(&vehicle)),
        vehicle: Cow::Borrowed(&vehicle),
        residual: None,
        disturbance: Disturbance::default(),
        rotors: [vehicle.hover_rotor(); ACTION],
    };
    let mut seen = [false; 5];
    for seed in 0..40 {
        let anchor = Anchor { episode: &episode, number: 0, step: 60, seed };
        let mut flight = Flight::start(&anchor, &model, &config, &reward, 1);
        let late = flight.underway.len();
        seen[late] = true;
        let command = |k: usize| [0.05 * k as f32; ACTION];
        for step in 0..STEPS {
            let expected = if step < late { episode.actions[60 + step - late] } else { command(step - late) };
            assert_eq!(flight.arriving(step, command(step)), expected);
            flight.act(step, &command(step));
        }
    }
    assert_eq!(seen, [true; 5]);
}
