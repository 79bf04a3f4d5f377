//! `spikewing study`: measurements behind the claims, each with its table and its figure.

mod gradients;
mod plot;

use clap::{Args, Subcommand};

use crate::Failure;

/// Measure what a claim rests on: tables (CSV) and figures (SVG) in a folder
#[derive(Debug, Args)]
pub struct StudyArgs {
    #[command(subcommand)]
    study: Study,
}

#[derive(Debug, Subcommand)]
enum Study {
    Gradients(gradients::GradientsArgs),
}

impl StudyArgs {
    /// Runs the study.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.study {
            Study::Gradients(args) => args.run(),
        }
    }
}
