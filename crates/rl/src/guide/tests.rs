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

/// A learner that has flown, with a batch drawn.
fn with_a_batch() -> GuideTrainer {
    let mut trainer = GuideTrainer::new(short(), vehicle(), 5).unwrap();
    trainer.fly().unwrap();
    learn::sample(&trainer.config, &trainer.memory, &mut trainer.rng, &mut trainer.buffers);
    trainer
}

#[test]
fn the_actors_gradient_is_that_of_finite_differences() {
    let mut trainer = with_a_batch();
    let critic = trainer.critics.networks()[0].clone();
    let value = learn::actor_gradient(&trainer.actor, &critic, &mut trainer.buffers).unwrap();
    let exact = trainer.buffers.actor_gradient().to_vec();
    let size = exact.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(value.is_finite() && size > 0.0);
    for i in (0..exact.len()).step_by(exact.len() / 40) {
        let mut at = |d: f32| {
            let mut moved = trainer.actor.clone();
            moved.parameters_mut()[i] += d;
            -learn::actor_gradient(&moved, &critic, &mut trainer.buffers).unwrap()
        };
        let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((difference - exact[i]).abs() < 0.02 * size + 1e-4, "{i}: {difference} {}", exact[i]);
    }
}

/// On one batch, over and over: the critics learn its rewards, and the actor what the critic values.
#[test]
fn critics_and_actor_descend() {
    let mut trainer = with_a_batch();
    learn::next_actions(&trainer.target_actor, &mut trainer.buffers).unwrap();
    let mut losses = Vec::new();
    for _ in 0..300 {
        let rows = learn::Rows(&trainer.buffers);
        losses.push(trainer.critics.learn(&rows, 0.01, &mut trainer.critic_buffers).unwrap());
    }
    assert!(losses[299] < 0.3 * losses[0], "{} {}", losses[0], losses[299]);
    let critic = trainer.critics.networks()[0].clone();
    let mut values = Vec::new();
    for _ in 0..100 {
        values.push(learn::actor_gradient(&trainer.actor, &critic, &mut trainer.buffers).unwrap());
        trainer.actor_adam.step(&mut trainer.actor, trainer.buffers.actor_gradient());
    }
    assert!(values[99] > values[0], "{} {}", values[0], values[99]);
}

/// Flights start nearer to hover at first, and as widely as the file says in the end.
#[test]
fn starts_widen() {
    let (config, vehicle) = (short(), vehicle());
    let trainer = GuideTrainer::new(config.clone(), vehicle.clone(), 6).unwrap();
    let spread = |reach: f64| {
        let starts = (0..200).map(|seed| {
            let flown = flight::fly(&config, &vehicle, &trainer.actor, reach, seed).unwrap();
            flown.observations[0][..3].iter().fold(0.0_f32, |m, v| m.max(v.abs()))
        });
        starts.fold(0.0_f32, f32::max)
    };
    assert_eq!(spread(0.0), 0.0);
    assert!(spread(0.2) <= 0.1 + 1e-6);
    assert!(spread(1.0) > 0.45);
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
