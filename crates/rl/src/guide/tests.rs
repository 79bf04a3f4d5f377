use rand::SeedableRng;
use spikewing_quad::simulation::StartDistribution;

use super::*;

fn vehicle() -> Vehicle {
    Vehicle::find("crazyflie").unwrap()
}

/// A training that is over at once.
fn short() -> GuideConfig {
    GuideConfig {
        hidden: vec![16, 16],
        critic: CriticShape { hidden: vec![16, 16], ..CriticShape::default() },
        updates: 60,
        batch: 100,
        start_steps: 300,
        memory_steps: 2_000,
        ..GuideConfig::for_vehicle(&vehicle())
    }
}

fn train(config: &GuideConfig, threads: usize) -> (Mlp, GuideStats) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut trainer = GuideTrainer::new(config.clone(), vehicle(), 3).unwrap();
        while !trainer.done() {
            trainer.round().unwrap();
        }
        (trainer.guide().unwrap(), *trainer.stats())
    })
}

#[test]
fn one_seed_makes_one_guide_whatever_the_threads() {
    let one = train(&short(), 1);
    assert_eq!(one.1.updates, 60);
    assert!(one == train(&short(), 1) && one == train(&short(), 3));
}

/// The file's network takes observations as they are, the learner's takes them scaled.
#[test]
fn the_guide_computes_what_its_learner_learned() {
    let trainer = GuideTrainer::new(short(), vehicle(), 4).unwrap();
    let mut guide = trainer.guide().unwrap();
    assert_eq!(guide.widths(), [PRIVILEGED, 16, 16, ACTION]);
    let seen: Vec<f32> = (0..PRIVILEGED).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut action = [0.0; ACTION];
    guide.forward(&seen, &mut action).unwrap();
    let mut scaled = seen;
    critic::scale_privileged(&mut scaled);
    let mut scratch = crate::dense::Scratch::default();
    trainer.target_actor.forward(&scaled, &mut scratch).unwrap();
    for (a, b) in action.iter().zip(scratch.output()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    // Before it has learned anything it does about what hovers.
    assert!(action.iter().all(|a| (f64::from(*a) - vehicle().hover_action()).abs() < 0.1));
}

#[test]
fn it_learns_to_stay_in_the_box() {
    let config = GuideConfig {
        updates: 4000,
        start_steps: 1000,
        first_reach: 0.0,
        widening: 1e6,
        memory_steps: 100_000,
        steps_per_update: 6.0,
        ..GuideConfig::for_vehicle(&vehicle())
    };
    let mut trainer = GuideTrainer::new(config, vehicle(), 5).unwrap();
    trainer.round().unwrap();
    let before = trainer.stats().flown_length;
    while !trainer.done() {
        trainer.round().unwrap();
    }
    let after = trainer.stats().flown_length;
    assert!(after > 1.3 * before, "{before} steps before, {after} after");
}

#[test]
fn airframes_vary_within_what_was_asked_for() {
    let (vehicle, mut rng) = (vehicle(), Xoshiro256PlusPlus::seed_from_u64(6));
    let variation = Variation::default();
    let mut masses = Vec::new();
    for _ in 0..300 {
        let drawn = variation.draw(&vehicle, &mut rng);
        let lag = drawn.motor_time_constant_s.rising / vehicle.motor_time_constant_s.rising;
        assert!((lag - 1.0).abs() <= variation.motor_lag);
        let inertia = drawn.inertia_kg_m2[0] * drawn.inverse_inertia()[0];
        let file = vehicle.inertia_kg_m2[0] * vehicle.inverse_inertia()[0];
        assert!((inertia / file - 1.0).abs() < 1e-9, "the inverse goes with the inertia");
        masses.push(drawn.mass_kg / vehicle.mass_kg);
    }
    let (low, high) = masses.iter().fold((2.0_f64, 0.0_f64), |(l, h), m| (l.min(*m), h.max(*m)));
    assert!(low >= 1.0 - variation.mass && high <= 1.0 + variation.mass && high - low > variation.mass);
    let same = Variation::NONE.draw(&vehicle, &mut rng);
    assert_eq!(same, vehicle);
}

#[test]
fn a_file_without_starts_gets_wide_ones() {
    let mut vehicle = vehicle();
    assert_eq!(start_of(&vehicle), vehicle.simulation.start);
    vehicle.simulation.start = StartDistribution::default();
    assert!(start_of(&vehicle).max_angle_rad > 1.5);
}
