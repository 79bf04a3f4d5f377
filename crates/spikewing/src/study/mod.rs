//! `spikewing study`: measurements behind the claims, each with its table and its figure.

mod gradients;
mod plot;
mod robustness;
mod runs;

use clap::{Args, Subcommand};

use crate::Failure;

/// Measure what a claim rests on: tables (CSV, Markdown) and figures (SVG) in a folder
#[derive(Debug, Args)]
pub struct StudyArgs {
    #[command(subcommand)]
    study: Study,
}

#[derive(Debug, Subcommand)]
enum Study {
    Gradients(gradients::GradientsArgs),
    Robustness(robustness::RobustnessArgs),
    /// TD3BC+JSRL against its parts: TD3BC, behavioural cloning and TD3, under the reward curriculum
    Methods(runs::RunsArgs),
    /// TD3BC+JSRL without its BC term, without jump-start, and without both
    Ablation(runs::RunsArgs),
    /// Surrogate slopes (fixed 1, 10, 100, interval, adaptive), for reinforcement and for cloning
    Slopes(runs::RunsArgs),
}

impl StudyArgs {
    /// Runs the study.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.study {
            Study::Gradients(args) => args.run(),
            Study::Robustness(args) => args.run(),
            Study::Methods(args) => runs::methods(args),
            Study::Ablation(args) => runs::ablation(args),
            Study::Slopes(args) => runs::slopes(args),
        }
    }
}
