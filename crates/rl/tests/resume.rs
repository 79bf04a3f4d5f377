//! A learner that is saved and loaded is the same learner, to the last bit; a file that is none is refused.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::fs;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{OBSERVATION, Vehicle};
use spikewing_rl::{
    CloningFilter, Config, Experience, Method, Trainer,
    checkpoint::CheckpointError,
    critic::CriticShape,
    dense::Backend,
    flight::{FlightConfig, ModelCorrection},
    replay::{ACTION, End, Source, Step},
    schedule::SlopeSchedule,
};

fn trainer(config: Config) -> Trainer {
    let mut trainer = Trainer::new(config, 1).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    for episode in 0..4 {
        for step in 0..=160 {
            let mut draw = || rng.random_range(-0.5_f32..0.5);
            let observation: [f32; OBSERVATION] = std::array::from_fn(|_| draw());
            let action: [f32; ACTION] = std::array::from_fn(|_| draw());
            let end = (step == 160).then_some(End::Truncated);
            let advice = (step % 3 == 0).then_some([0.25; ACTION]);
            trainer
                .push("a", episode, step, &Step { observation, action, source: Source::Student, advice, end })
                .unwrap();
        }
    }
    trainer
}

fn small() -> Config {
    Config {
        hidden: vec![32, 16],
        critic: CriticShape { hidden: vec![16, 16], ..CriticShape::default() },
        batch: 8,
        critic_warmup_updates: 2,
        smoothness: 0.1,
        truncate_steps: 25,
        ..Config::default()
    }
}

#[test]
fn it_goes_on_as_if_it_had_never_stopped() {
    for config in [
        small(),
        Config { critic_steps: 0, ..small() },
        Config { slope: SlopeSchedule::Fixed { slope: 10.0 }, ..small() },
        Config { slope: SlopeSchedule::Interval { updates: 2, steps: 20 }, ..small() },
        Config { critic: CriticShape { backend: Backend::Dfdx, ..small().critic }, ..small() },
        Config { cloning_filter: CloningFilter::Critic, critic_trust: 1e9, ..small() },
        Config {
            method: Method::AnchoredBptt,
            cloning_enabled: false,
            flight: FlightConfig {
                vehicles: vec![Vehicle::find("l2f0").unwrap()],
                horizon: 10,
                flights: 40,
                moving: 0.5,
                latency_steps: 2,
                variation: 1.0,
                correction: ModelCorrection::Fitted,
                recent_steps: 300,
                ..FlightConfig::default()
            },
            ..small()
        },
        Config {
            method: Method::AnchoredBptt,
            flight: FlightConfig {
                vehicles: ["l2f0", "sih_quadx"].map(|v| Vehicle::find(v).unwrap()).to_vec(),
                horizon: 10,
                flights: 40,
                ..FlightConfig::default()
            },
            ..small()
        },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint-000000005.bin");
        let mut whole = trainer(config);
        for _ in 0..5 {
            whole.update().unwrap().unwrap();
        }
        whole.note_evaluation(123.0);
        whole.save(&path).unwrap();
        let mut resumed = Trainer::load(&path).unwrap();
        assert_eq!(resumed.fingerprint().unwrap(), whole.fingerprint().unwrap());
        for _ in 0..5 {
            assert_eq!(resumed.update().unwrap(), whole.update().unwrap());
        }
        assert_eq!(resumed.fingerprint().unwrap(), whole.fingerprint().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

/// What a drone that has changed starts from: everything that was learned, under the new run's own settings.
#[test]
fn a_whole_learner_can_be_gone_on_from() {
    let mut learned = trainer(Config { critic_learning_rate: 3e-3, ..small() });
    for _ in 0..200 {
        learned.update().unwrap().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint-000000006.bin");
    learned.save(&path).unwrap();
    let loaded = || Trainer::load(&path).unwrap();

    let other = Config { alpha: 0.5, critic_learning_rate: 1e-5, ..small() };
    let mut left = Trainer::new(other.clone(), 9).unwrap();
    left.start_from_learner(loaded(), Experience::Left).unwrap();
    assert_eq!((left.policy(), left.config(), left.updates()), (learned.policy(), &other, 0));
    assert!(!left.ready(), "its experience was left");
    let mut kept = Trainer::new(other, 9).unwrap();
    kept.start_from_learner(loaded(), Experience::Kept).unwrap();
    assert_eq!(kept.replay().sequences(), learned.replay().sequences());
    // The critics know what they knew; cold ones, of the same seed and on the same experience, do not.
    let mut twin = Trainer::new(kept.config().clone(), 9).unwrap();
    twin.start_from_learner(loaded(), Experience::Kept).unwrap();
    let mut random = trainer(kept.config().clone());
    random.start_from(learned.policy()).unwrap();
    let loss = |trainer: &mut Trainer| trainer.update().unwrap().unwrap().critic_loss;
    let (warm, again, random) = (loss(&mut kept), loss(&mut twin), loss(&mut random));
    assert_eq!(warm, again);
    assert!(warm < 0.7 * random, "{warm} {random}");

    let shape = CriticShape { hidden: vec![8], ..CriticShape::default() };
    let mut narrow = Trainer::new(Config { critic: shape, ..small() }, 1).unwrap();
    let refused = narrow.start_from_learner(loaded(), Experience::Left).unwrap_err();
    assert!(refused.to_string().contains("critic_hidden"), "{refused}");
}

#[test]
fn every_cut_and_every_other_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint-000000000.bin");
    trainer(small()).save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for n in [0, 3, 6, 7, 8, 20, 39, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..n]).unwrap();
        let error = Trainer::load(&path).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{n} bytes: {error}");
    }
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    fs::write(&path, &changed).unwrap();
    assert!(matches!(Trainer::load(&path), Err(CheckpointError::Damaged { .. })));
    let mut old = bytes.clone();
    old[..8].copy_from_slice(b"SWCKPT01");
    fs::write(&path, &old).unwrap();
    let error = Trainer::load(&path).unwrap_err();
    assert!(matches!(&error, CheckpointError::Version { found, .. } if found == "01"), "{error}");
    assert!(error.to_string().contains("version 04"), "{error}");
    fs::write(&path, &bytes).unwrap();
    assert!(Trainer::load(&path).is_ok());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a_file");
    fs::write(&file, "x").unwrap();
    let error = trainer(small()).save(&file.join("checkpoint-000000000.bin")).unwrap_err();
    assert!(error.to_string().contains("a_file"), "{error}");
}

#[test]
fn the_backends_train_alike() {
    let with = |backend| {
        let config = Config { critic: CriticShape { backend, ..small().critic }, ..small() };
        let mut trainer = trainer(config);
        (0..4).map(|_| trainer.update().unwrap().unwrap()).collect::<Vec<_>>()
    };
    for (a, b) in with(Backend::Native).iter().zip(&with(Backend::Dfdx)) {
        assert!((a.critic_loss - b.critic_loss).abs() < 1e-3 * b.critic_loss, "{a:?} {b:?}");
        assert!((a.actor_loss - b.actor_loss).abs() < 1e-2, "{a:?} {b:?}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_written_can_be_read_by_whom_the_mask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
    spikewing_rl::checkpoint::write_atomically(&ours, b"x").unwrap();
    fs::write(&plain, b"x").unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}
