//! Trains a spiking policy without nodes: the learner against the dynamics, in one thread of control.
//!
//! `train_standalone [SECONDS] [SEED] [KEY=JSON…]` prints the return of protocol `paper` as it rises. For working on
//! the learner; `spikewing train` is the way to make a policy.

use std::time::Instant;

use nalgebra::{UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{
    Disturbance, State, Vehicle,
    protocol::Evaluation,
    reward::{BOX_M, terminated},
    step,
};
use spikewing_rl::{
    Config, Trainer, evaluate,
    replay::{End, Source, Step},
};
use spikewing_snn::Flight;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let seconds: f64 = arguments.get(1).map_or(Ok(300.0), |s| s.parse())?;
    let seed: u64 = arguments.get(2).map_or(Ok(1), |s| s.parse())?;
    let mut config = serde_json::to_value(Config::default())?;
    let mut updates_per_episode = 20;
    for assignment in arguments.iter().skip(3) {
        let (key, value) = assignment.split_once('=').ok_or("expected KEY=JSON")?;
        match key {
            "updates_per_episode" => updates_per_episode = value.parse()?,
            _ => {
                let pointer = format!("/{}", key.replace('.', "/"));
                *config.pointer_mut(&pointer).ok_or(format!("no setting `{key}`"))? =
                    serde_json::from_str(value)?;
            }
        }
    }
    let vehicle = Vehicle::crazyflie()?;
    let mut config: Config = serde_json::from_value(config)?;
    config.flight.vehicles = vec![vehicle.clone()];
    let mut trainer = Trainer::new(config, seed)?;
    let guide = Geometric::for_vehicle(&vehicle);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xF1);
    let started = Instant::now();
    let mut next_report = 0;
    let mut recent = Vec::new();
    for episode in 0.. {
        recent.push(fly(&mut trainer, &vehicle, &guide, episode, &mut rng)? as f64);
        let mut stats = None;
        for _ in 0..updates_per_episode {
            stats = trainer.update()?.or(stats);
        }
        if trainer.updates() >= next_report {
            next_report += 500;
            let report = evaluate::spiking(&Evaluation::paper(20, 1)?, trainer.policy(), guide.clone(), 50);
            trainer.note_evaluation(report.flight.return_mean);
            let stats = stats.unwrap_or_default();
            println!(
                "{:6.1} s episode {episode} update {} return {:.1} ± {:.1} length {:.1} flown {:.1} xy {:.3} k {:.1} \
                 bc {:.4} q {:.1} critic {:.4} |g| {:.3} firing {:.3} guide {} flight {:.3} lost {:.2}",
                started.elapsed().as_secs_f64(),
                trainer.updates(),
                report.flight.return_mean,
                report.flight.return_std,
                report.flight.length_mean,
                recent.iter().sum::<f64>() / recent.len() as f64,
                report.flight.xy_error_m,
                stats.slope,
                stats.bc_loss,
                stats.q_mean,
                stats.critic_loss,
                stats.actor_gradient_norm,
                stats.firing_rate,
                trainer.guide_steps(),
                stats.flight_reward,
                stats.flights_lost,
            );
            recent.clear();
        }
        if started.elapsed().as_secs_f64() > seconds {
            break;
        }
    }
    Ok(())
}

/// One episode: the guide for the jump start, then the student with exploration noise.
fn fly(
    trainer: &mut Trainer,
    vehicle: &Vehicle,
    guide: &Geometric,
    episode: u64,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<usize, Failure> {
    let origin = Vector3::zeros();
    let mut uniform = |w: f64| w * (2.0 * rng.random::<f64>() - 1.0);
    let mut state = State::hover(vehicle, Vector3::new(uniform(0.3), uniform(0.3), uniform(0.3)));
    state.orientation = UnitQuaternion::from_euler_angles(uniform(0.4), uniform(0.4), uniform(0.4));
    state.velocity = Vector3::new(uniform(0.5), uniform(0.5), uniform(0.5));
    state.body_rates = Vector3::new(uniform(1.0), uniform(1.0), uniform(1.0));
    let mut student = Flight::new(trainer.policy());
    let guide_steps = trainer.guide_steps();
    let steps = trainer.config().jump_start.episode_steps;
    for k in 0..steps {
        let observation = state.observation(&origin);
        let noisy = vehicle.simulation.add_noise(&observation, rng);
        let mut action = [0.0; 4];
        student.step(&noisy, &mut action)?;
        let source = if k < guide_steps { Source::Guide } else { Source::Student };
        let advised = guide.command(&observation);
        action = match source {
            Source::Guide => advised,
            Source::Student => {
                action.map(|a| (a + 0.1 * rng.sample::<f32, _>(StandardNormal)).clamp(-1.0, 1.0))
            }
        };
        trainer.push(
            "a",
            episode,
            k,
            &Step { observation, action, source, advice: Some(advised), end: None },
        )?;
        state = step(vehicle, &state, &action.map(f64::from), &Disturbance::default(), 0.01);
        let over = terminated(&state, &origin, BOX_M);
        if over || k + 1 == steps {
            let end = Some(if over { End::Terminated } else { End::Truncated });
            let observation = state.observation(&origin);
            trainer.push("a", episode, k + 1, &Step { observation, action, source, advice: None, end })?;
            return Ok(k as usize + 1);
        }
    }
    Ok(steps as usize)
}
