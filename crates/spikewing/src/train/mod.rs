//! `spikewing train`: all nodes in one process, in lock-step, as fast as the machine can; `spikewing train guide`.

mod guide;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use spikewing_msgs::{
    Message,
    spikewing_msgs::{LearnerStatus, PolicyStatus},
};
use spikewing_quad::protocol::Evaluation;
use spikewing_rl::checkpoint::write_atomically;
use spikewing_runtime::{
    NodeOptions, Time,
    args::{self, Setting},
    local::{Composition, Ended},
    parameter::Value,
    parameter_file,
};

use crate::{Failure, eval, progress::Progress, registry};

const PARAMETERS: &str = include_str!("../../../../params/train.yaml");

/// Train a spiking policy: simulator, bridge, estimator, guide, student, supervisor and learner in one process
///
/// `spikewing train guide` trains the guide's network instead.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// What the student learns from
    #[arg(long, default_value = "td3bc_jsrl", value_parser = spikewing_rl::Method::NAMES)]
    method: String,
    /// Vehicle: a built-in name or a vehicle file
    #[arg(long, default_value = "crazyflie")]
    vehicle: String,
    /// Seed of everything; the same seed makes the same weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run folder; default runs/METHOD-VEHICLE-seedN
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// Updates to make
    #[arg(long, default_value_t = 4000)]
    updates: u64,
    /// Stop after so many minutes at the latest
    #[arg(long)]
    max_minutes: Option<f64>,
    /// A parameter of a node, e.g. online_learner.alpha:=1.0; may be given several times
    #[arg(long = "param", short = 'p', value_name = "NODE.NAME:=VALUE")]
    parameters: Vec<String>,
    /// Parameter file in the ROS 2 format, on top of params/train.yaml; may be given several times
    #[arg(long = "params-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Episodes of the evaluation at the end
    #[arg(long, default_value_t = 20)]
    eval_episodes: usize,
    /// Print the final evaluation as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Something else to train.
#[derive(Debug, Subcommand)]
enum What {
    Guide(guide::GuideArgs),
}

impl TrainArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.what {
            Some(What::Guide(args)) => args.run(),
            None => self.train(),
        }
    }

    fn train(&self) -> Result<(), Failure> {
        let stop = spikewing_runtime::process::stop_flag()?;
        let started = Instant::now();
        let dir = self.run_dir()?;
        let nodes = self.options(&dir)?;
        write_run_file(&dir, self, &nodes)?;

        let progress = Rc::new(RefCell::new(Progress::new(self.updates, self.max_minutes)));
        progress.borrow().say(&format!(
            "training {} on {}, seed {}: all nodes in one process, run folder {}",
            self.method,
            self.vehicle,
            self.seed,
            dir.display()
        ));
        let mut composition = Composition::new();
        for (kind, options) in registry::NODES.into_iter().zip(&nodes) {
            composition.add(kind, options)?;
        }
        let limit = self.max_minutes.map(|m| Duration::from_secs_f64((m * 60.0).max(0.0)));
        let (observed, flag) = (Rc::clone(&progress), std::sync::Arc::clone(&stop));
        composition.observe(move |now: Time, _topic, message| {
            if let Some(status) = LearnerStatus::peel(message) {
                observed.borrow_mut().learner(now, status);
                if limit.is_some_and(|limit| started.elapsed() > limit) {
                    flag.store(true, Ordering::Relaxed);
                }
            } else if let Some(status) = PolicyStatus::peel(message) {
                observed.borrow_mut().policy(status);
            }
        });
        let report = composition.run(&stop, None)?;
        let simulated_s = report.simulated.seconds();
        let wall_s = started.elapsed().as_secs_f64();
        let swaps = progress.borrow().swaps();
        progress.borrow().finish(&format!(
            "{} after {simulated_s:.0} s of flight in {wall_s:.0} s ({:.0}× real time), {swaps} weight swaps; \
             waited {:.0} s for the learner",
            if report.ended == Ended::Stopped { "stopped" } else { "done" },
            simulated_s / wall_s.max(1e-9),
            report.waited.as_secs_f64(),
        ));
        self.conclude(&dir)
    }

    fn run_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.resume {
            if !dir.is_dir() {
                return Err(format!("--resume {}: there is no such folder", dir.display()).into());
            }
            return Ok(dir.clone());
        }
        let name =
            Path::new(&self.vehicle).file_stem().map_or(self.vehicle.clone(), |s| s.to_string_lossy().into());
        let dir = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("runs/{}-{name}-seed{}", self.method, self.seed)));
        let occupied = !spikewing_rl::checkpoint::list(&dir).is_empty();
        if occupied {
            let dir = dir.display();
            return Err(format!(
                "{dir} holds a run already: go on with `--resume {dir}`, or choose another --out"
            )
            .into());
        }
        std::fs::create_dir_all(&dir).map_err(|e| format!("run folder {}: {e}", dir.display()))?;
        Ok(dir)
    }

    /// The nodes' options, in the order of the registry: defaults, params/train.yaml, files, the arguments here.
    fn options(&self, dir: &Path) -> Result<Vec<NodeOptions>, Failure> {
        let mut overrides = Vec::new();
        for text in &self.parameters {
            let (path, value) =
                text.split_once(":=").ok_or_else(|| format!("--param {text}: expected NODE.NAME:=VALUE"))?;
            let (node, name) =
                path.split_once('.').ok_or_else(|| format!("--param {text}: expected NODE.NAME:=VALUE"))?;
            registry::find(node).map_err(|e| format!("--param {text}: {e}"))?;
            overrides.push((node, name, parameter_file::value_of_text(value)));
        }
        let mut all = Vec::new();
        for kind in registry::NODES {
            let mut options = NodeOptions::of(kind);
            args::apply_text(&mut options, PARAMETERS, Path::new("params/train.yaml"))?;
            for file in &self.files {
                args::apply(&mut options, &Setting::File(file.clone()))?;
            }
            let seed = i64::try_from(self.seed).unwrap_or(i64::MAX);
            let text = |t: &str| Value::Text(t.to_owned());
            let mut set = |name: &str, value: Value| -> Result<(), Failure> {
                if options.parameters.declaration(name).is_ok() {
                    options.parameters.set(name, value)?;
                }
                Ok(())
            };
            set("seed", Value::Integer(seed))?;
            // What a policy is made for is a name, what a node flies may be a file.
            let learned = matches!(kind.name, "snn_policy" | "online_learner");
            let vehicle = if learned {
                spikewing_quad::Vehicle::find(&self.vehicle)?.name
            } else {
                self.vehicle.clone()
            };
            set("vehicle", text(&vehicle))?;
            if kind.name == "online_learner" {
                set("method", text(&self.method))?;
                set("run_dir", text(&dir.display().to_string()))?;
                set("resume", Value::Bool(self.resume.is_some()))?;
                set("stop_after_updates", Value::Integer(i64::try_from(self.updates).unwrap_or(i64::MAX)))?;
            }
            for (node, name, value) in &overrides {
                if *node == kind.name {
                    options
                        .parameters
                        .set(name, value.clone())
                        .map_err(|e| format!("--param {node}.{name}:={value}: {e}"))?;
                }
            }
            all.push(options);
        }
        Ok(all)
    }

    /// Evaluates what was learned, and says what to do with it.
    fn conclude(&self, dir: &Path) -> Result<(), Failure> {
        let (best, latest) = (dir.join("policy.safetensors"), dir.join("latest.safetensors"));
        if !latest.is_file() {
            return Err("nothing was learned yet: the run was too short for a first checkpoint".into());
        }
        let evaluation = Evaluation {
            vehicle: spikewing_quad::Vehicle::find(if self.vehicle == "crazyflie" {
                "l2f0"
            } else {
                &self.vehicle
            })?,
            ..Evaluation::paper(self.eval_episodes.max(1), 1)?
        };
        // The best by its training returns and the last: the better of them under the protocol is the run's policy.
        let last = eval::evaluate(&latest.display().to_string(), &evaluation)?;
        let report = if best.is_file() {
            let report = eval::evaluate(&best.display().to_string(), &evaluation)?;
            if report.flight.return_mean >= last.flight.return_mean { report } else { last.clone() }
        } else {
            last.clone()
        };
        if report == last {
            std::fs::copy(&latest, &best).map_err(|e| format!("{}: {e}", best.display()))?;
        }
        eprintln!(
            "protocol paper, {} episodes: return {:.1} ± {:.1}, {:.0} % completed, xy error {:.3} m",
            evaluation.episodes,
            report.flight.return_mean,
            report.flight.return_std,
            100.0 * report.flight.completed_share,
            report.flight.xy_error_m,
        );
        eprintln!("policy: {}", best.display());
        eprintln!("  look at it:  spikewing policy inspect {}", best.display());
        eprintln!("  fly it:      spikewing launch launch/hover_sim.launch.yaml policy:={}", best.display());
        eprintln!("  go on:       spikewing train --resume {} --updates {}", dir.display(), 2 * self.updates);
        if self.json {
            eval::print(&report, true)?;
        }
        Ok(())
    }
}

/// `run.yaml`: every resolved parameter of every node, and what was asked for.
fn write_run_file(dir: &Path, args: &TrainArgs, nodes: &[NodeOptions]) -> Result<(), Failure> {
    use serde_yaml::{Mapping, Value as Yaml};
    let mut root = Mapping::new();
    for options in nodes {
        let mut parameters = Mapping::new();
        for (name, value) in options.parameters.values() {
            let yaml = match value {
                Value::Bool(v) => Yaml::from(*v),
                Value::Integer(v) => Yaml::from(*v),
                Value::Float(v) => Yaml::from(*v),
                Value::Text(v) => Yaml::from(v.clone()),
                Value::Floats(v) => Yaml::from(v.clone()),
                Value::Texts(v) => Yaml::from(v.clone()),
            };
            parameters.insert(Yaml::from(name.clone()), yaml);
        }
        let mut section = Mapping::new();
        section.insert(Yaml::from("ros__parameters"), Yaml::Mapping(parameters));
        root.insert(Yaml::from(options.name.clone()), Yaml::Mapping(section));
    }
    let text = format!(
        "# spikewing {} train, method {}, seed {}, updates {}\n# A parameter file: every parameter of the run, resolved.\n{}",
        env!("CARGO_PKG_VERSION"),
        args.method,
        args.seed,
        args.updates,
        serde_yaml::to_string(&root)?
    );
    let path = dir.join("run.yaml");
    write_atomically(&path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(())
}
