//! Differentiable flight teaches a student to hover that imitates nobody.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{Disturbance, State, Vehicle, protocol::Evaluation, step};
use spikewing_rl::{
    Config, Method, Trainer, evaluate,
    flight::FlightConfig,
    replay::{End, Source, Step},
    schedule::{Cloning, SlopeSchedule},
};

/// A learner that has seen nothing but the guide, from eight starts.
fn after_the_guide(vehicle: &Vehicle, config: Config) -> Trainer {
    let guide = Geometric::for_vehicle(vehicle);
    let mut trainer = Trainer::new(config, 1).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let origin = Vector3::zeros();
    for episode in 0..8 {
        let offset = Vector3::from_fn(|_, _| rng.random_range(-0.3..0.3));
        let mut state = State::hover(vehicle, offset);
        for k in 0..=150 {
            let observation = state.observation(&origin);
            let action = guide.command(&observation);
            let end = (k == 150).then_some(End::Truncated);
            trainer
                .push(
                    "a",
                    episode,
                    k,
                    &Step { observation, action, source: Source::Guide, advice: None, end },
                )
                .unwrap();
            state = step(vehicle, &state, &action.map(f64::from), &Disturbance::default(), 0.01);
        }
    }
    trainer
}

#[test]
fn a_student_that_imitates_nobody_learns_to_hover() {
    let vehicle = Vehicle::crazyflie().unwrap();
    let config = Config {
        method: Method::AnchoredBptt,
        hidden: vec![64, 32],
        batch: 8,
        cloning: Cloning { start: 0.0, decay: 1.0, floor: 0.0 },
        slope: SlopeSchedule::Fixed { slope: 10.0 },
        flight: FlightConfig { vehicles: vec![vehicle.clone()], ..FlightConfig::default() },
        ..Config::default()
    };
    let mut trainer = after_the_guide(&vehicle, config);
    let fly = |trainer: &Trainer| {
        let guide = Geometric::for_vehicle(&vehicle);
        let report = evaluate::spiking(&Evaluation::paper(5, 1).unwrap(), trainer.policy(), guide, 50);
        report.flight.return_mean
    };
    let before = fly(&trainer);
    let mut rewards = Vec::new();
    for _ in 0..120 {
        rewards.push(trainer.update().unwrap().unwrap().flight_reward);
    }
    let after = fly(&trainer);
    println!("return {before:.1} before, {after:.1} after; reward {:.3} … {:.3}", rewards[0], rewards[119]);
    // Random weights fall at once; what is asked is far above a fall after the guided half second (about 80).
    assert!(before < 110.0 && after > 250.0, "{before} {after}");
}
