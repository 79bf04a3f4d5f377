//! `spikewing study methods | ablation | slopes`: the paper's comparisons, trained and evaluated anew.

mod arms;
mod curve;
mod execute;
mod layers;
mod table;

use std::{path::PathBuf, sync::atomic::Ordering};

use clap::Args;
use spikewing_rl::checkpoint::write_atomically;

use crate::Failure;
use arms::Comparison;
use execute::{Budget, Run};

/// Seconds that an update took on the two-core machine on which the figures were made; for the estimate before anything is
/// measured here.
const SECONDS_PER_UPDATE: f64 = 0.025;

/// How a comparison is made.
#[derive(Debug, Args)]
#[command(
    after_help = "Finished runs are kept and never repeated: the same command goes on where it was stopped, with more \
                        seeds too. OUT gets a folder per run, runs.csv, table.csv, table.md and curves.svg."
)]
pub struct RunsArgs {
    /// Seeds per arm: 1 to N
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Updates of a run; the reward curriculum and the slope's interval are spread over them
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(100..))]
    updates: u64,
    /// The paper's grid: 5 seeds, 15000 updates, 100 episodes per evaluation
    #[arg(long, conflicts_with_all = ["seeds", "updates", "eval_episodes"])]
    full: bool,
    /// Episodes of a run's final evaluation
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    eval_episodes: u32,
    /// Only these arms, by name
    #[arg(long, value_delimiter = ',')]
    arms: Vec<String>,
    /// Vehicle: a built-in name or a vehicle file
    #[arg(long, default_value = "crazyflie")]
    vehicle: String,
    /// Runs at a time [default: one per core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Folder of the study [default: runs/study-NAME-UPDATES]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print what would run and how long it would take, and end
    #[arg(long)]
    dry_run: bool,
}

impl RunsArgs {
    /// Compares what `comparison` makes of a number of updates.
    pub fn run(&self, comparison: fn(u64) -> Comparison) -> Result<(), Failure> {
        let (seeds, updates, eval_episodes) = if self.full {
            (5, crate::train::PUBLISHED_UPDATES, 100)
        } else {
            (self.seeds, self.updates, self.eval_episodes)
        };
        let comparison = self.chosen(comparison(updates))?;
        let dir = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("runs/study-{}-{updates}", comparison.name)));
        let budget = Budget {
            updates,
            eval_episodes: eval_episodes as usize,
            vehicle: self.vehicle.clone(),
            jobs: self
                .jobs
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
                .max(1),
        };
        spikewing_quad::Vehicle::find(&self.vehicle)?;
        // Seed by seed, so that a study that is stopped early has something of every arm.
        let runs: Vec<Run> = (1..=seeds)
            .flat_map(|seed| comparison.arms.iter().map(move |arm| (seed, arm.clone())))
            .map(|(seed, arm)| Run { dir: dir.join(format!("{}-seed{seed}", arm.name)), arm, seed })
            .collect();
        announce(&comparison, &runs, &budget);
        if self.dry_run {
            return Ok(());
        }
        std::fs::create_dir_all(&dir).map_err(|e| format!("study folder {}: {e}", dir.display()))?;
        let stop = spikewing_runtime::process::stop_flag()?;
        let outcome = execute::all(&runs, &budget, &stop);
        // What is finished is shown, whatever happened to the rest.
        let tables = table::Tables::of(&comparison, &runs);
        for (name, text) in [
            ("runs.csv", tables.runs_csv()),
            ("table.csv", tables.csv()),
            ("table.md", tables.markdown()),
            ("curves.svg", tables.figure()),
        ] {
            let path = dir.join(name);
            write_atomically(&path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        println!("{}", tables.markdown());
        eprintln!("wrote runs.csv, table.csv, table.md and curves.svg in {}", dir.display());
        if !outcome? && stop.load(Ordering::Relaxed) {
            eprintln!("stopped; the same command goes on");
        }
        Ok(())
    }

    fn chosen(&self, mut comparison: Comparison) -> Result<Comparison, Failure> {
        let names: Vec<&str> = comparison.arms.iter().map(|a| a.name).collect();
        if let Some(unknown) = self.arms.iter().find(|a| !names.contains(&a.as_str())) {
            return Err(format!("--arms {unknown}: the arms are {}", names.join(", ")).into());
        }
        if !self.arms.is_empty() {
            comparison.arms.retain(|arm| self.arms.iter().any(|a| a == arm.name));
        }
        Ok(comparison)
    }
}

/// Says what is about to run and how long it will take.
fn announce(comparison: &Comparison, runs: &[Run], budget: &Budget) {
    let mut known: Vec<f64> = runs.iter().filter_map(Run::result).map(|r| r.wall_s).collect();
    known.sort_by(f64::total_cmp);
    let (per_run, source) = match known.get(known.len() / 2) {
        Some(&median) => (median, "measured from finished runs"),
        // Side by side, each run has one core.
        None => (
            SECONDS_PER_UPDATE * budget.updates as f64 * if budget.jobs > 1 { 2.0 } else { 1.0 },
            "a guess before anything was measured here",
        ),
    };
    let open = runs.len() - known.len();
    let minutes = per_run * open.div_ceil(budget.jobs) as f64 / 60.0;
    eprintln!(
        "study {}: {} arms, {} runs of {} updates, {} finished; {} at a time: about {:.0} min ({source})",
        comparison.name,
        comparison.arms.len(),
        runs.len(),
        budget.updates,
        known.len(),
        budget.jobs,
        minutes.ceil(),
    );
    for arm in &comparison.arms {
        eprintln!("  {:22} {}", arm.name, arm.about);
    }
}

/// `spikewing study methods`.
pub fn methods(args: &RunsArgs) -> Result<(), Failure> {
    args.run(arms::methods)
}

/// `spikewing study ablation`.
pub fn ablation(args: &RunsArgs) -> Result<(), Failure> {
    args.run(arms::ablation)
}

/// `spikewing study slopes`.
pub fn slopes(args: &RunsArgs) -> Result<(), Failure> {
    args.run(arms::slopes)
}
