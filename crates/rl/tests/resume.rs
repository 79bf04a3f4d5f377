//! A learner that is stopped and started again is the same learner.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use spikewing_rl::{
    Config, Trainer,
    replay::{End, Source, Step},
    schedule::SlopeSchedule,
};

/// Flies some episodes into the buffer; `from` numbers them.
fn experience(trainer: &mut Trainer, from: u64) {
    for episode in from..from + 8 {
        for step in 0..=120_u32 {
            let wave = |i: usize| (0.1 * f32::from(step as u16) + i as f32 + episode as f32).sin();
            let record = Step {
                observation: std::array::from_fn(wave),
                action: std::array::from_fn(|i| 0.5 * wave(i + 30)),
                source: if step < 50 { Source::Guide } else { Source::Student },
                advice: (step % 3 > 0).then(|| std::array::from_fn(|i| 0.4 * wave(i + 60))),
                end: (step == 120).then_some(if episode % 2 == 0 { End::Terminated } else { End::Truncated }),
            };
            trainer.push("a", episode, step, &record).unwrap();
        }
    }
}

fn learn(trainer: &mut Trainer, updates: u32) {
    for _ in 0..updates {
        trainer.update().unwrap().unwrap();
    }
    trainer.note_evaluation(123.0);
}

#[test]
fn a_resumed_learner_goes_on_bit_for_bit_with_every_schedule() {
    let dir = tempfile::tempdir().unwrap();
    for (number, slope) in [
        SlopeSchedule::Fixed { slope: 10.0 },
        SlopeSchedule::Interval { updates: 2, steps: 20 },
        Config::default().slope,
    ]
    .into_iter()
    .enumerate()
    {
        let config = Config { slope, batch: 4, critic_warmup_updates: 2, ..Config::default() };
        let mut uninterrupted = Trainer::new(config, 7).unwrap();
        experience(&mut uninterrupted, 1);
        learn(&mut uninterrupted, 4);
        let path = dir.path().join(format!("checkpoint-{number}.bin"));
        uninterrupted.save(&path).unwrap();
        let mut resumed = Trainer::load(&path).unwrap();
        assert_eq!(resumed.fingerprint().unwrap(), uninterrupted.fingerprint().unwrap());
        for trainer in [&mut uninterrupted, &mut resumed] {
            experience(trainer, 9);
            learn(trainer, 3);
        }
        assert_eq!(resumed.fingerprint().unwrap(), uninterrupted.fingerprint().unwrap(), "{slope:?}");
    }
}
