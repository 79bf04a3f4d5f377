//! `spikewing train guide`: a privileged hover policy by TD3, straight in the dynamics, in minutes.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use spikewing_quad::{
    Vehicle,
    protocol::{Evaluation, Protocol, Summary},
};
use spikewing_rl::guide::{GuideConfig, GuidePilot, GuideTrainer, start_of};
use spikewing_snn::{
    Mlp,
    policy::{Metadata, Policy},
};

use crate::Failure;

/// Evaluations over a training, by which the best guide is kept.
const EVALUATIONS: u64 = 16;
/// Seed of those; not that of the evaluation at the end.
const TRAINING_EVALUATION_SEED: u64 = 1000;
/// Without a terminal a line is printed this often instead of a bar.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Train a guide: a privileged hover policy (observation and last 32 actions, 146-64-64-4) by TD3, in the dynamics alone
///
/// Needs nothing but the vehicle's file. Fly the result with `spikewing eval FILE`, or let it guide a training:
/// `spikewing train -p guide_policy.controller:=mlp -p guide_policy.policy_file:=FILE`.
#[derive(Debug, Args)]
pub struct GuideArgs {
    /// Vehicle: a built-in name or a vehicle file
    #[arg(long, default_value = "crazyflie")]
    vehicle: String,
    /// Another vehicle that the same guide shall fly; may be given several times. Every episode draws one of all
    #[arg(long, value_name = "VEHICLE")]
    also: Vec<String>,
    /// Seed of everything; the same seed makes the same weights, unless the time runs out
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File to write (.safetensors), or folder for guide.safetensors; default runs/guide-VEHICLE-seedN
    #[arg(long)]
    out: Option<PathBuf>,
    /// Stop after so many minutes at the latest
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Updates to make [default: what the vehicle needs]
    #[arg(long)]
    updates: Option<u64>,
    /// A setting of the learner as JSON, e.g. discount=0.98 or critic_learning_rate=0.001; may be given several times
    #[arg(long = "set", value_name = "NAME=JSON")]
    settings: Vec<String>,
    /// Episodes of each protocol in the evaluation at the end
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    eval_episodes: u32,
    /// Print a summary as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// What a guide scored.
#[derive(Clone, Debug, serde::Serialize)]
struct Scores {
    paper: Summary,
    recovery: Summary,
}

impl Scores {
    /// By which guides are compared: at the setpoint and from anywhere alike.
    fn total(&self) -> f64 {
        self.paper.return_mean + self.recovery.return_mean
    }
}

impl GuideArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        if !(self.minutes.is_finite() && self.minutes > 0.0) {
            return Err(format!("--minutes {}: it must be a time above 0", self.minutes).into());
        }
        let stop = spikewing_runtime::process::stop_flag()?;
        let vehicle = Vehicle::find(&self.vehicle)?;
        let also: Vec<Vehicle> =
            self.also.iter().map(|name| Vehicle::find(name)).collect::<Result<_, _>>()?;
        let config = self.config(&vehicle)?;
        let path = self.path(&vehicle.name)?;
        eprintln!(
            "training a guide for {}, seed {}: {} updates, {} minutes at most; policy {}",
            vehicle.name,
            self.seed,
            config.updates,
            self.minutes,
            path.display()
        );
        let started = Instant::now();
        let mut trainer = GuideTrainer::new(config, vehicle.clone(), self.seed)?.also(also.clone());
        let mut progress = Progress::new(&trainer, started, self.minutes);
        let mut best: Option<(f64, Mlp)> = None;
        let mut evaluated = 0;
        while !trainer.done() && !progress.out_of_time() && !stop.load(Ordering::Relaxed) {
            trainer.round()?;
            let stage = trainer.stats().updates * EVALUATIONS / trainer.config().updates.max(1);
            if stage > evaluated {
                evaluated = stage;
                let guide = trainer.guide()?;
                let scores = fly(&vehicle, &guide, 20, TRAINING_EVALUATION_SEED)?;
                let total = scores.total() + total_of(&also, &guide)?;
                progress.scores = Some(scores.clone());
                if best.as_ref().is_none_or(|(score, _)| total >= *score) {
                    self.save(&path, &guide, &vehicle, &trainer, &scores)?;
                    best = Some((total, guide));
                }
            }
            progress.show(&trainer);
        }
        progress.bar.finish_and_clear();
        let wall_s = started.elapsed().as_secs_f64();
        let last = trainer.guide()?;
        let total = fly(&vehicle, &last, 20, TRAINING_EVALUATION_SEED)?.total() + total_of(&also, &last)?;
        let guide = match best {
            Some((score, guide)) if score > total => guide,
            _ => last,
        };
        let scores = fly(&vehicle, &guide, self.eval_episodes as usize, 1)?;
        self.save(&path, &guide, &vehicle, &trainer, &scores)?;
        self.report(&path, &vehicle, &trainer, &scores, wall_s)
    }

    fn config(&self, vehicle: &Vehicle) -> Result<GuideConfig, Failure> {
        let mut config = serde_json::to_value(GuideConfig::for_vehicle(vehicle))?;
        for text in &self.settings {
            let (name, value) =
                text.split_once('=').ok_or_else(|| format!("--set {text}: expected NAME=JSON"))?;
            let known: Vec<String> =
                config.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
            let slot = config.pointer_mut(&format!("/{}", name.replace('.', "/"))).ok_or_else(|| {
                format!("--set {text}: there is no `{name}`; there are {}", known.join(", "))
            })?;
            *slot = serde_json::from_str(value)
                .map_err(|e| format!("--set {text}: `{value}` is not JSON: {e}"))?;
        }
        let mut config: GuideConfig =
            serde_json::from_value(config).map_err(|e| format!("--set {}: {e}", self.settings.join(" ")))?;
        if let Some(updates) = self.updates {
            config.updates = updates;
        }
        if config.batch == 0 || config.updates == 0 || config.episode_steps == 0 {
            return Err("batch, updates and episode_steps must be above 0".into());
        }
        Ok(config)
    }

    /// The file to write. Its folder is made, and tried, before anything is trained.
    fn path(&self, vehicle: &str) -> Result<PathBuf, Failure> {
        let path = match &self.out {
            Some(out) if out.extension().is_some_and(|e| e == "safetensors") => out.clone(),
            Some(out) => out.join("guide.safetensors"),
            None => PathBuf::from(format!("runs/guide-{vehicle}-seed{}/guide.safetensors", self.seed)),
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let tried = folder.join(".guide-is-writable");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&tried, b"x"))
            .and_then(|()| std::fs::remove_file(&tried))
            .map_err(|e| format!("folder {}: {e}; choose another --out", folder.display()))?;
        Ok(path)
    }

    fn save(
        &self,
        path: &Path,
        guide: &Mlp,
        vehicle: &Vehicle,
        trainer: &GuideTrainer,
        scores: &Scores,
    ) -> Result<(), Failure> {
        let mut metadata = Metadata {
            return_mean: Some(scores.paper.return_mean),
            training_run: Some(self.command()),
            vehicle_content: Some(vehicle.content()),
            ..Metadata::guide(vehicle.name.clone())
        };
        metadata.extra.insert("recovery_completed_share".into(), scores.recovery.completed_share.to_string());
        metadata.extra.insert("recovery_return_mean".into(), scores.recovery.return_mean.to_string());
        metadata.extra.insert("updates".into(), trainer.stats().updates.to_string());
        metadata.extra.insert("control_steps".into(), trainer.stats().steps.to_string());
        metadata.extra.insert("learner".into(), serde_json::to_string(trainer.config())?);
        Policy::mlp(guide.clone(), metadata)?
            .save(path)
            .map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// The command that makes this guide again; not where it went, nor where a vehicle's file lay, so that equal runs make
    /// equal files.
    fn command(&self) -> String {
        let file = |vehicle: &str| {
            Path::new(vehicle).file_name().map_or(vehicle.to_owned(), |name| name.to_string_lossy().into())
        };
        let mut command = format!("spikewing train guide --vehicle {}", file(&self.vehicle));
        for vehicle in &self.also {
            command += &format!(" --also {}", file(vehicle));
        }
        command += &format!(" --seed {}", self.seed);
        if let Some(updates) = self.updates {
            command += &format!(" --updates {updates}");
        }
        for setting in &self.settings {
            command += &format!(" --set '{setting}'");
        }
        command
    }

    fn report(
        &self,
        path: &Path,
        vehicle: &Vehicle,
        trainer: &GuideTrainer,
        scores: &Scores,
        wall_s: f64,
    ) -> Result<(), Failure> {
        let stats = trainer.stats();
        eprintln!(
            "{} updates and {} control steps in {wall_s:.0} s\nprotocol paper: return {:.1} ± {:.1}, xy error {:.3} m; \
             protocol recovery: {:.0} % completed, return {:.1}; {} episodes each\npolicy: {path}\n  fly it:   spikewing eval {path} \
             --vehicle {own} --protocol recovery\n  guide by: spikewing train --vehicle {own} -p guide_policy.controller:=mlp \
             -p guide_policy.policy_file:={path}",
            stats.updates,
            stats.steps,
            scores.paper.return_mean,
            scores.paper.return_std,
            scores.paper.xy_error_m,
            100.0 * scores.recovery.completed_share,
            scores.recovery.return_mean,
            self.eval_episodes,
            path = path.display(),
            own = self.vehicle,
        );
        if self.json {
            let summary = serde_json::json!({
                "vehicle": vehicle.name, "seed": self.seed, "policy": path, "command": self.command(),
                "updates": stats.updates, "control_steps": stats.steps, "episodes": stats.episodes,
                "wall_s": wall_s, "updates_per_second": stats.updates as f64 / wall_s.max(1e-9),
                "complete": trainer.done(), "evaluation": scores,
            });
            println!("{summary}");
        }
        Ok(())
    }
}

/// Both protocols; the vehicle's own noise and disturbances, none where its file has none.
fn fly(vehicle: &Vehicle, guide: &Mlp, episodes: usize, seed: u64) -> Result<Scores, Failure> {
    let mut vehicle = vehicle.clone();
    vehicle.simulation.start = start_of(&vehicle);
    let of = |protocol| -> Result<Summary, Failure> {
        let evaluation =
            Evaluation { vehicle: vehicle.clone(), protocol, ..Evaluation::paper(episodes, seed)? };
        Ok(Summary::of(&evaluation.run(&mut GuidePilot::new(guide.clone()))))
    };
    Ok(Scores { paper: of(Protocol::Paper)?, recovery: of(Protocol::Recovery)? })
}

/// What a guide scores in the other vehicles, by which guides are compared.
fn total_of(vehicles: &[Vehicle], guide: &Mlp) -> Result<f64, Failure> {
    let mut total = 0.0;
    for vehicle in vehicles {
        total += fly(vehicle, guide, 20, TRAINING_EVALUATION_SEED)?.total();
    }
    Ok(total)
}

/// The progress bar: return, updates per second, time left.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    limit: Duration,
    last_line: Option<Instant>,
    scores: Option<Scores>,
}

impl Progress {
    fn new(trainer: &GuideTrainer, started: Instant, minutes: f64) -> Self {
        let bar = ProgressBar::new(trainer.config().updates);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} % {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        // Beyond a year the limit is none.
        let limit = Duration::from_secs_f64((minutes * 60.0).min(3e7));
        Self { bar, started, limit, last_line: None, scores: None }
    }

    fn out_of_time(&self) -> bool {
        self.started.elapsed() > self.limit
    }

    fn show(&mut self, trainer: &GuideTrainer) {
        let (stats, elapsed) = (trainer.stats(), self.started.elapsed());
        let rate = stats.updates as f64 / elapsed.as_secs_f64().max(1e-3);
        let left = match rate {
            0.0 => self.limit.saturating_sub(elapsed).as_secs_f64(),
            rate => (trainer.config().updates.saturating_sub(stats.updates) as f64 / rate)
                .min(self.limit.saturating_sub(elapsed).as_secs_f64()),
        } as u64;
        let scored = self.scores.as_ref().map_or_else(String::new, |s| {
            format!(
                "return {:.1}, recovers {:.0} %, ",
                s.paper.return_mean,
                100.0 * s.recovery.completed_share
            )
        });
        let text = format!(
            "{scored}flown {:.1} over {:.0} steps  {} steps  {rate:.0} updates/s  left {}:{:02}",
            stats.flown_return,
            stats.flown_length,
            stats.steps,
            left / 60,
            left % 60
        );
        self.bar.set_position(stats.updates);
        if !self.bar.is_hidden() {
            self.bar.set_message(text);
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_PERIOD) {
            self.last_line = Some(Instant::now());
            eprintln!("{:>6} updates  {text}", stats.updates);
        }
    }
}
