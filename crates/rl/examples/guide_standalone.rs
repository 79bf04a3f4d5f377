//! Trains a guide and prints how it gets on: for working on the guide's learner; `spikewing train guide` makes one to keep.
//!
//! `guide_standalone [VEHICLE] [SEED] [EVERY] [KEY=JSON…]` evaluates every so many updates.

use std::time::Instant;

use spikewing_quad::{
    Vehicle,
    protocol::{Evaluation, Protocol, Summary},
};
use spikewing_rl::guide::{GuideConfig, GuidePilot, GuideTrainer, start_of};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut vehicle = Vehicle::find(arguments.first().map_or("crazyflie", String::as_str))?;
    let seed: u64 = arguments.get(1).map_or(Ok(1), |s| s.parse())?;
    let every: u64 = arguments.get(2).map_or(Ok(5000), |s| s.parse())?;
    let mut config = serde_json::to_value(GuideConfig::for_vehicle(&vehicle))?;
    for assignment in arguments.iter().skip(3) {
        let (key, value) = assignment.split_once('=').ok_or("expected KEY=JSON")?;
        let path = format!("/{}", key.replace('.', "/"));
        *config.pointer_mut(&path).ok_or_else(|| format!("there is no setting `{key}`"))? =
            serde_json::from_str(value)?;
    }
    let mut trainer = GuideTrainer::new(serde_json::from_value(config)?, vehicle.clone(), seed)?;
    vehicle.simulation.start = start_of(&vehicle);
    let started = Instant::now();
    let mut next = every;
    while !trainer.done() {
        trainer.round()?;
        let stats = *trainer.stats();
        if stats.updates < next && !trainer.done() {
            continue;
        }
        next += every;
        let mlp = trainer.guide()?;
        let of = |protocol, episodes| -> Result<Summary, Failure> {
            let evaluation =
                Evaluation { vehicle: vehicle.clone(), protocol, ..Evaluation::paper(episodes, 77)? };
            Ok(Summary::of(&evaluation.run(&mut GuidePilot::new(mlp.clone()))))
        };
        let (paper, recovery) = (of(Protocol::Paper, 5)?, of(Protocol::Recovery, 50)?);
        println!(
            "{:6.1} s {} updates {} steps flown {:.0} len {:.0} critic {:.4} q {:.1} | paper {:.1} xy {:.3} change {:.3} | recovery {:.3} {:.1}",
            started.elapsed().as_secs_f64(),
            stats.updates,
            stats.steps,
            stats.flown_return,
            stats.flown_length,
            stats.critic_loss,
            stats.q_mean,
            paper.return_mean,
            paper.xy_error_m,
            paper.action_change_mean,
            recovery.completed_share,
            recovery.return_mean,
        );
    }
    Ok(())
}
