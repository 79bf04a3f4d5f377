//! Times the whole TD3BC+JSRL update: two critics, their targets, the target actor, and the spiking actor.
//!
//! `update_time [SEQUENCES] [REPETITIONS] [KEY=JSON…]` prints one JSON line: wall clock (median, best, worst) and processor
//! time in milliseconds, and the arithmetic of it. The processor time is what to compare on a machine that is busy with
//! something else. Keys are those of the learner's configuration. `benches/learner_update.py` runs it beside the same
//! update in PyTorch and snntorch.

#[path = "../../quad/examples/timing/mod.rs"]
mod timing;

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::OBSERVATION;
use spikewing_rl::{
    Config, Trainer,
    replay::{ACTION, End, Source, Step},
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, or: usize| arguments.get(i).map_or(Ok(or), |s| s.parse());
    let (batch, repetitions) = (number(0, 256)?, number(1, 9)?.max(1));
    let config = Config {
        batch,
        // Every step of a sequence after the warm-up, as in the paper.
        critic_steps: 0,
        critic_warmup_updates: 0,
        ..Config::default()
    };
    let mut config = serde_json::to_value(config)?;
    for assignment in arguments.iter().skip(2) {
        let (key, value) = assignment.split_once('=').ok_or("expected KEY=JSON")?;
        config[key] = serde_json::from_str(value)?;
    }
    let config: Config = serde_json::from_value(config)?;
    let mut trainer = Trainer::new(config.clone(), 1)?;
    fill(&mut trainer, 200)?;
    for _ in 0..3 {
        trainer.update()?;
    }
    let mut times = Vec::with_capacity(repetitions);
    let cpu = timing::processor_s();
    for _ in 0..repetitions {
        let start = Instant::now();
        trainer.update()?.ok_or("there is too little experience")?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    let cpu_ms = 1e3 * (timing::processor_s() - cpu) / repetitions as f64;
    times.sort_by(f64::total_cmp);
    let flop = flop_per_update(&config);
    let median = times[times.len() / 2];
    let line = serde_json::json!({
        "work": "learner update", "sequences": batch, "critic_hidden": config.critic.hidden,
        "backend": config.critic.backend, "threads": rayon::current_num_threads(),
        "median_ms": median, "best_ms": times[0], "worst_ms": times[times.len() - 1], "cpu_ms": cpu_ms,
        "critic_gflop": flop.0 / 1e9, "spiking_gflop": flop.1 / 1e9,
    });
    println!("{line}");
    Ok(())
}

/// Random flights: the time does not depend on what is in them.
fn fill(trainer: &mut Trainer, episodes: u64) -> Result<(), Failure> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for episode in 0..episodes {
        let mut observation = [0.0_f32; OBSERVATION];
        for step in 0..=500 {
            for value in &mut observation {
                *value = 0.95 * *value + rng.random_range(-0.1..0.1);
            }
            let action: [f32; ACTION] = std::array::from_fn(|_| rng.random_range(-0.5..0.9));
            let end = (step == 500).then_some(End::Truncated);
            trainer.push(
                "a",
                episode,
                step,
                &Step { observation, action, source: Source::Student, advice: Some(action), end },
            )?;
        }
    }
    Ok(())
}

/// Multiplications and additions of an update: in the critics, and in the spiking networks if no spike were skipped.
fn flop_per_update(config: &Config) -> (f64, f64) {
    let product = |widths: &[usize]| widths.windows(2).map(|w| 2.0 * (w[0] * w[1]) as f64).sum::<f64>();
    let critic: Vec<usize> =
        [150].into_iter().chain(config.critic.hidden.iter().copied()).chain([1]).collect();
    let spiking: Vec<usize> = [18].into_iter().chain(config.hidden.iter().copied()).chain([4]).collect();
    let (whole, above) = (product(&critic), product(&critic[1..]));
    let to_action = 2.0 * (ACTION * critic[1]) as f64;
    let rows = (config.batch * (config.cut.length - config.warmup_steps)) as f64;
    // Two targets; two critics forwards, by weights and by inputs; one critic forwards and to the action.
    let critics = rows * (2.0 * whole + 2.0 * (2.0 * whole + above) + whole + above + to_action);
    let steps = (config.batch * config.cut.length) as f64;
    let actors = steps * (3.0 * product(&spiking) + product(&spiking[1..]));
    (critics, actors)
}
