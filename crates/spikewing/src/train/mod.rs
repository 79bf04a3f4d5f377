//! `spikewing train`: all nodes in one process, in lock-step, as fast as the machine can; `spikewing train guide`.

mod guide;
mod run_file;
mod segments;
mod setting;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use spikewing_quad::{Vehicle, protocol::Evaluation};
use spikewing_runtime::{
    NodeOptions, Parameters,
    args::{self, Setting},
    parameter::{ParameterError, Value},
    parameter_file,
};

use crate::{Failure, eval, progress::Progress, registry};
use segments::Run;
use spikewing_rl::checkpoint::write_atomically;

pub use setting::{PUBLISHED_UPDATES, shipped_guide};

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
    #[arg(long, default_value = "td3bc_jsrl", value_parser = spikewing_rl::Method::NAMES, conflicts_with = "resume")]
    method: String,
    /// Vehicle: a built-in name or a vehicle file
    #[arg(long, default_value = "crazyflie", conflicts_with = "resume")]
    vehicle: String,
    /// Seed of everything; the same seed makes the same weights
    #[arg(long, default_value_t = 1, conflicts_with = "resume")]
    seed: u64,
    /// What flights the training is made of
    #[arg(long, value_enum, default_value = "robust", conflicts_with = "resume")]
    setting: setting::Setting,
    /// Run folder; default runs/METHOD-VEHICLE-seedN
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, with its parameters: the result is that of a run that was never stopped
    #[arg(long, conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// Updates to make in all [default: 8000, 15000 with the published settings; or what the run that goes on was to make]
    #[arg(long)]
    updates: Option<u64>,
    /// Drones that fly at the same time, and of which one learner takes the experience [default: 1, or those of the run that
    /// goes on]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    drones: Option<u8>,
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
        let updates = learner(&nodes, |p| p.count("stop_after_updates").map(|n| n as u64))?;
        let drones = match (self.drones, &self.resume) {
            (Some(drones), _) => drones,
            (None, Some(dir)) => run_file::drones(dir)?,
            (None, None) => 1,
        };
        run_file::write(&dir, &nodes, drones)?;

        let progress = Rc::new(RefCell::new(Progress::new(updates, self.max_minutes)));
        progress.borrow().say(&format!(
            "training {} on {}, seed {}: all nodes{} in one process, run folder {}",
            learner(&nodes, |p| p.text("method").map(str::to_owned))?,
            learner(&nodes, |p| p.text("vehicle").map(str::to_owned))?,
            learner(&nodes, |p| p.integer("seed"))?,
            if drones > 1 { format!(" of {drones} drones") } else { String::new() },
            dir.display()
        ));
        let limit = self.max_minutes.map(|m| Duration::from_secs_f64((m * 60.0).max(0.0)));
        let fleet = spikewing::fleet::nodes(&nodes, drones.into())?;
        let run = Run { nodes: &fleet, dir: &dir, updates, limit, stop: &stop, progress: &progress };
        let flown = run.fly()?;
        let wall_s = started.elapsed().as_secs_f64();
        progress.borrow().finish(&format!(
            "{} after {:.0} s of flight in {wall_s:.0} s ({:.0}× real time), {} weight swaps; waited {:.0} s for the \
             learner",
            if flown.done { "done" } else { "stopped" },
            flown.simulated_s,
            flown.simulated_s / wall_s.max(1e-9),
            progress.borrow().swaps(),
            flown.waited_s,
        ));
        let vehicle = nodes.iter().find_map(|n| n.parameters.text("vehicle").ok()).unwrap_or("crazyflie");
        self.conclude(&dir, vehicle, updates, flown.done)
    }

    fn run_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.resume {
            if !run_file::path(dir).is_file() {
                return Err(format!("--resume {}: there is no run (no run.yaml) in it", dir.display()).into());
            }
            return Ok(dir.clone());
        }
        // Found before anything is written.
        let name = Vehicle::find(&self.vehicle)?.name;
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

    /// The nodes' options, in the order of the registry: defaults, params/train.yaml, files, the arguments here; for a
    /// run that goes on its own parameters instead of the first two.
    fn options(&self, dir: &Path) -> Result<Vec<NodeOptions>, Failure> {
        let mut overrides = Vec::new();
        for text in &self.parameters {
            let (path, value) =
                text.split_once(":=").ok_or_else(|| format!("--param {text}: expected NODE.NAME:=VALUE"))?;
            let (node, name) =
                path.split_once('.').ok_or_else(|| format!("--param {text}: expected NODE.NAME:=VALUE"))?;
            registry::find(node).map_err(|e| format!("--param {text}: {e}"))?;
            let value = parameter_file::value_of_text(value).map_err(|e| format!("--param {text}: {e}"))?;
            overrides.push((node, name, value));
        }
        let mut all = Vec::new();
        let vehicle = match self.resume {
            Some(_) => None,
            None => Some(OwnVehicle::of(&self.vehicle, dir)?),
        };
        for kind in registry::NODES {
            let mut options = NodeOptions::of(kind);
            match &self.resume {
                Some(dir) => {
                    args::apply(&mut options, &Setting::File(run_file::path(dir)))?;
                    find_moved(&mut options, dir)?;
                }
                None => {
                    args::apply_text(&mut options, PARAMETERS, Path::new("params/train.yaml"))?;
                    if let Some((parameters, path)) = self.setting.of_learning() {
                        args::apply_text(&mut options, parameters, Path::new(path))?;
                    }
                    if let Some(robust) = vehicle.as_ref().and_then(|v| self.setting.of(&v.vehicle)) {
                        args::apply_text(&mut options, robust.parameters, Path::new(robust.path))?;
                        if kind.name == "guide_policy" {
                            let guide = Value::Text(robust.write_guide(dir)?);
                            options.parameters.set("policy_file", guide)?;
                        }
                    }
                }
            }
            for file in &self.files {
                args::apply(&mut options, &Setting::File(file.clone()))?;
            }
            if let Some(vehicle) = &vehicle {
                self.name_what_is_trained(&mut options, &vehicle.named)?;
            }
            if kind.name == "snn_policy" {
                // The learner makes its key pair there.
                let key = dir.join("learner.pub").display().to_string();
                options.parameters.set("learner_key_file", Value::Text(key))?;
            }
            if kind.name == "online_learner" {
                options.parameters.set("run_dir", Value::Text(dir.display().to_string()))?;
                let updates = self.updates.or(self.resume.is_none().then_some(self.setting.updates()));
                if let Some(updates) = updates {
                    let updates = i64::try_from(updates).unwrap_or(i64::MAX);
                    options.parameters.set("stop_after_updates", Value::Integer(updates))?;
                }
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

    /// Method, vehicle and seed into the parameters of a node that has them.
    fn name_what_is_trained(&self, options: &mut NodeOptions, vehicle: &str) -> Result<(), Failure> {
        for (name, value) in [
            ("seed", Value::Integer(i64::try_from(self.seed).unwrap_or(i64::MAX))),
            ("vehicle", Value::Text(vehicle.to_owned())),
            ("method", Value::Text(self.method.clone())),
        ] {
            if options.parameters.declaration(name).is_ok() {
                options.parameters.set(name, value)?;
            }
        }
        Ok(())
    }

    /// Evaluates what was learned in a simulated vehicle, and says what to do with it.
    fn conclude(&self, dir: &Path, vehicle: &str, updates: u64, done: bool) -> Result<(), Failure> {
        let (best, latest) = (dir.join("policy.safetensors"), dir.join("latest.safetensors"));
        if !latest.is_file() && !best.is_file() {
            return Err("nothing was learned yet: the run was too short for a first checkpoint".into());
        }
        let evaluation = Evaluation {
            vehicle: Vehicle::find(vehicle)?,
            ..Evaluation::paper(self.eval_episodes.max(1), 1)?
        };
        // A run that is too short for an evaluation has no best.
        let policy = if best.is_file() { best } else { latest };
        let report = eval::evaluate(&policy.display().to_string(), eval::SHIPPED, &evaluation)?;
        eprintln!(
            "protocol paper, {} episodes: return {:.1} ± {:.1}, {:.0} % completed, xy error {:.3} m",
            evaluation.episodes,
            report.flight.return_mean,
            report.flight.return_std,
            100.0 * report.flight.completed_share,
            report.flight.xy_error_m,
        );
        let (policy, dir) = (policy.display(), dir.display());
        eprintln!("policy: {policy}");
        eprintln!("  look at it:  spikewing policy inspect {policy}");
        let own = if vehicle == "crazyflie" { String::new() } else { format!(" vehicle:={vehicle}") };
        eprintln!("  fly it:      spikewing launch launch/hover_sim.launch.yaml policy:={policy}{own}");
        match done {
            true => eprintln!("  go on:       spikewing train --resume {dir} --updates {}", 2 * updates),
            false => eprintln!("  go on:       spikewing train --resume {dir}"),
        }
        if self.json {
            eval::print(&report, true)?;
        }
        Ok(())
    }
}

/// File of the vehicle in a run folder, for one that is not built in.
const VEHICLE_FILE: &str = "vehicle.yaml";

/// The vehicle of a new run, and how nodes are told of it.
struct OwnVehicle {
    vehicle: Vehicle,
    named: String,
}

impl OwnVehicle {
    /// A vehicle of a file goes into the run folder, so that the run can go on from anywhere, whatever becomes of the file.
    fn of(name_or_path: &str, dir: &Path) -> Result<Self, Failure> {
        let vehicle = Vehicle::find(name_or_path)?;
        let named = match std::fs::read(name_or_path) {
            Ok(text) if !Vehicle::is_built_in(name_or_path) => {
                let path = dir.join(VEHICLE_FILE);
                write_atomically(&path, &text).map_err(|e| format!("{}: {e}", path.display()))?;
                path.display().to_string()
            }
            _ => name_or_path.to_owned(),
        };
        Ok(Self { vehicle, named })
    }
}

/// Guide and vehicle of a run folder that was moved, or is gone on with from another directory, are where the folder is now.
fn find_moved(options: &mut NodeOptions, dir: &Path) -> Result<(), Failure> {
    for (parameter, file) in [("policy_file", setting::GUIDE_FILE), ("vehicle", VEHICLE_FILE)] {
        let here = dir.join(file);
        let Ok(named) = options.parameters.text(parameter).map(PathBuf::from) else { continue };
        if named.file_name() == here.file_name() && !named.is_file() && here.is_file() {
            options.parameters.set(parameter, Value::Text(here.display().to_string()))?;
        }
    }
    Ok(())
}

/// A parameter of the learner.
fn learner<T>(
    nodes: &[NodeOptions],
    read: impl Fn(&Parameters) -> Result<T, ParameterError>,
) -> Result<T, Failure> {
    let node = nodes.iter().find(|n| n.parameters.declaration("stop_after_updates").is_ok());
    Ok(read(&node.ok_or("there is no learner")?.parameters)?)
}
