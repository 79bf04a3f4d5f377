//! Everything the learner's thread works on: the trainer, its progress, and what it writes to disk. It is moved into a
//! job and back, so that control never waits for it.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Instant,
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{Vehicle, protocol::Evaluation};
use spikewing_rl::{
    Experience, Trainer, UpdateStats, checkpoint,
    metrics::{self, Metrics},
    replay::{Episode, Step},
};
use spikewing_snn::policy::{Airframe, Announcement, LAST_VERSION, Metadata, Policy, SecretKey};

use crate::{layers, settings::Settings};

/// Versions by which somebody's word raises the next one at most.
const LARGEST_JUMP: u64 = 1_000_000;
/// Episodes over which the mean return goes.
const WINDOW: usize = 20;
/// Columns of the metrics.
const COLUMNS: [&str; 17] = [
    "evaluation_return",
    "episodes",
    "environment_steps",
    "return_mean",
    "return_last",
    "episode_length",
    "guide_share",
    "surrogate_slope",
    "lambda_bc",
    "curriculum_stage",
    "critic_loss",
    "actor_loss",
    "bc_loss",
    "q_mean",
    "firing_rate",
    "policy_version",
    "curve_return",
];

/// One record of experience, checked for form but not for content.
#[derive(Clone, Debug)]
pub struct Record {
    pub actor: String,
    pub episode: u64,
    pub step: u32,
    pub step_record: Step,
}

/// What the learner tells about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    pub returns: VecDeque<f64>,
    pub lengths: VecDeque<f64>,
    pub guide_shares: VecDeque<f64>,
    pub return_last: f64,
    /// Of the last evaluation in the embedded dynamics.
    pub evaluation_return: Option<f64>,
    pub evaluated_at: u64,
    /// Of the last point of the learning curve.
    #[serde(default)]
    pub curve_at: u64,
    #[serde(default)]
    pub probed_at: u64,
    pub best_return: Option<f64>,
    pub policy_version: u64,
    pub published_at: u64,
    pub checkpoint_at: u64,
    pub stats: UpdateStats,
}

/// What has to survive a restart beside the trainer.
#[derive(Serialize, Deserialize)]
struct Saved {
    progress: Progress,
}

/// A policy to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    pub version: u64,
    pub parent: u64,
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub sha256: [u8; 32],
    /// By the learner's key; empty without one.
    pub signature: Vec<u8>,
    pub return_estimate: f64,
}

/// What a job brought.
#[derive(Debug, Default)]
pub struct Outcome {
    pub publication: Option<Publication>,
    pub updates: u64,
    pub seconds: f64,
    pub refused: u64,
    pub problems: Vec<String>,
    /// A problem that must end the run: the disk is full, for example.
    pub fatal: Option<String>,
}

/// Trainer, progress and files.
pub struct Desk {
    pub trainer: Trainer,
    pub progress: Progress,
    metrics: Option<Metrics>,
    run_dir: Option<PathBuf>,
    key: Option<SecretKey>,
    airframe: Airframe,
    /// Says how the run can be made again; not where it was, so that equal runs make equal files.
    run_name: String,
    publish_every: u64,
    checkpoint_every: u64,
    evaluate_every: u64,
    curve_every: u64,
    probe_every: u64,
    /// In the vehicle itself, and in the others that the best policy must fly.
    evaluations: Vec<(Evaluation, Geometric)>,
    keep: usize,
    threads: usize,
    /// Started by the first job, so that its threads have the job's priority.
    crew: Option<ThreadPool>,
}

/// What a job should do.
pub struct Assignment {
    pub records: Vec<Record>,
    pub updates: u64,
    pub time_s: f64,
    pub checkpoint: bool,
}

impl Desk {
    /// A new learner, or one that goes on from its run folder.
    pub fn open(
        settings: &Settings,
        wall_time_s: f64,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let resumed = match (&settings.run_dir, settings.resume) {
            (Some(dir), true) => newest_whole(dir)?,
            _ => None,
        };
        let (trainer, progress) = match resumed {
            Some(found) => found,
            None => {
                let mut config = settings.config.clone();
                if config.method.flies() {
                    let airframes = [&settings.vehicle].into_iter().chain(&settings.evaluation_vehicles);
                    config.flight.vehicles = airframes.map(|v| Vehicle::find(v)).collect::<Result<_, _>>()?;
                }
                let mut trainer = Trainer::new(config, settings.seed)?;
                if let Some(path) = &settings.start_from {
                    start_from(&mut trainer, path, settings.start_from_experience)
                        .map_err(|e| format!("start_from {}: {e}", path.display()))?;
                }
                // Version 1 is what the policy node starts with; what is published is above it.
                (trainer, Progress { policy_version: 1, ..Progress::default() })
            }
        };
        let own = Vehicle::find(&settings.vehicle)?;
        let airframe = Airframe { name: own.name.clone(), content: own.content() };
        let others = settings.evaluation_vehicles.iter().map(|name| Vehicle::find(name));
        let mut evaluations = Vec::new();
        for vehicle in std::iter::once(Ok(own)).chain(others) {
            let vehicle = vehicle?;
            let guide = Geometric::for_vehicle(&vehicle);
            let paper = Evaluation::paper(settings.evaluation_episodes, 1000)?;
            evaluations.push((Evaluation { vehicle, ..paper }, guide));
        }
        // Opened at once, so that a folder that cannot be written is found at the start.
        let metrics = match &settings.run_dir {
            Some(dir) => {
                // What was learned after the checkpoint is lost, and will be learned again.
                metrics::keep_up_to(dir, "environment_steps", trainer.environment_steps() as f64)?;
                layers::keep_up_to(dir, trainer.updates())?;
                Some(Metrics::open(dir, &COLUMNS, wall_time_s)?)
            }
            None => None,
        };
        let key = settings.key_file.as_deref().map(SecretKey::load_or_create).transpose()?;
        match &key {
            Some(key) => tracing::info!(public_key = %key.public(), "updates are signed"),
            None => tracing::warn!(
                "updates are not signed, for want of a key_file or a run_dir: students take them with `updates: any` alone"
            ),
        }
        Ok(Self {
            trainer,
            progress,
            key,
            metrics,
            run_dir: settings.run_dir.clone(),
            run_name: format!("{:?}-{}-seed{}", settings.config.method, airframe.name, settings.seed)
                .to_lowercase(),
            airframe,
            publish_every: settings.publish_every,
            evaluate_every: settings.evaluate_every,
            curve_every: settings.curve_every,
            probe_every: settings.probe_every,
            evaluations,
            checkpoint_every: settings.checkpoint_every,
            keep: settings.keep_checkpoints,
            threads: threads(settings.threads),
            crew: None,
        })
    }

    /// Takes experience, makes updates, writes what is due, on the learner's own threads.
    pub fn work(&mut self, assignment: Assignment) -> Outcome {
        let crew = match self.crew.take() {
            Some(crew) => crew,
            None => match ThreadPoolBuilder::new().num_threads(self.threads).build() {
                Ok(crew) => crew,
                Err(error) => {
                    let fatal = Some(format!("cannot start {} threads: {error}", self.threads));
                    return Outcome { fatal, ..Outcome::default() };
                }
            },
        };
        let outcome = crew.install(|| self.work_here(assignment));
        self.crew = Some(crew);
        outcome
    }

    fn work_here(&mut self, assignment: Assignment) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let mut finished = 0;
        for record in assignment.records {
            match self.trainer.push(&record.actor, record.episode, record.step, &record.step_record) {
                Ok(Some(episode)) => {
                    let episode = episode.clone();
                    self.note(&episode);
                    finished += 1;
                }
                Ok(None) => {}
                Err(error) => {
                    outcome.refused += 1;
                    if outcome.problems.len() < 3 {
                        outcome.problems.push(error.to_string());
                    }
                }
            }
        }
        for _ in 0..assignment.updates {
            match self.trainer.update() {
                Ok(Some(stats)) => {
                    self.progress.stats = stats;
                    outcome.updates += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    outcome.fatal = Some(error.to_string());
                    break;
                }
            }
        }
        let updates = self.trainer.updates();
        let learned = outcome.updates > 0;
        let due = |every: u64, last: u64| learned && every > 0 && updates - last >= every;
        if due(self.evaluate_every, self.progress.evaluated_at) {
            self.progress.evaluated_at = updates;
            self.evaluate(&mut outcome);
        }
        let mut curve_return = None;
        if due(self.curve_every, self.progress.curve_at) {
            self.progress.curve_at = updates;
            curve_return = self.scores().next();
        }
        if due(self.probe_every, self.progress.probed_at) {
            self.progress.probed_at = updates;
            if let Err(reason) = self.probe() {
                outcome.problems.push(reason);
            }
        }
        if finished > 0 || learned {
            self.write_metrics(assignment.time_s, curve_return, &mut outcome);
        }
        if due(self.publish_every, self.progress.published_at) {
            self.progress.published_at = updates;
            match self.publication() {
                Ok(publication) => outcome.publication = Some(publication),
                Err(reason) => outcome.problems.push(reason),
            }
        }
        if assignment.checkpoint || updates - self.progress.checkpoint_at >= self.checkpoint_every {
            self.progress.checkpoint_at = updates;
            if let Err(reason) = self.save() {
                outcome.fatal = Some(reason);
            }
        }
        outcome.seconds = started.elapsed().as_secs_f64();
        outcome
    }

    fn note(&mut self, episode: &Episode) {
        let (all, _) = episode.returns(&spikewing_quad::Reward::stage(self.trainer.stage()));
        self.progress.return_last = all;
        let flown_by_student = episode.guide_share() < 1.0;
        push(&mut self.progress.lengths, episode.len() as f64);
        push(&mut self.progress.guide_shares, episode.guide_share());
        if flown_by_student {
            push(&mut self.progress.returns, all);
        }
    }

    /// Mean return of a few episodes of protocol `paper` in the embedded dynamics: in the vehicle itself, then in the others.
    fn scores(&self) -> impl Iterator<Item = f64> {
        let (policy, warmup) = (self.trainer.policy(), self.trainer.config().warmup_steps);
        self.evaluations.iter().map(move |(evaluation, guide)| {
            spikewing_rl::evaluate::spiking(evaluation, policy, guide.clone(), warmup).flight.return_mean
        })
    }

    /// Adds a look at the layers to `layers.csv` in the run folder.
    fn probe(&self) -> Result<(), String> {
        let Some(dir) = &self.run_dir else { return Ok(()) };
        let Some(layers) = self.trainer.probe().map_err(|e| e.to_string())? else { return Ok(()) };
        layers::append(dir, self.trainer.updates(), &layers)
    }

    /// The evaluation by which the best policy is kept. The score in the vehicle itself is what the adaptive slope
    /// follows; the best policy is the one with the best mean over all vehicles. It costs some milliseconds.
    fn evaluate(&mut self, outcome: &mut Outcome) {
        let scores: VecDeque<f64> = self.scores().collect();
        let Some(&own) = scores.front() else { return };
        self.progress.evaluation_return = Some(own);
        self.trainer.note_evaluation(own);
        let score = mean(&scores);
        if self.progress.best_return.is_none_or(|best| score >= best) {
            self.progress.best_return = Some(score);
            if let Some(dir) = self.run_dir.clone() {
                let saved = self
                    .policy()
                    .and_then(|p| p.save(&dir.join("policy.safetensors")).map_err(|e| e.to_string()));
                if let Err(reason) = saved {
                    outcome.fatal = Some(reason);
                }
            }
        }
    }

    fn write_metrics(&mut self, time_s: f64, curve_return: Option<f64>, outcome: &mut Outcome) {
        let Some(metrics) = &mut self.metrics else { return };
        let (p, t) = (&self.progress, &self.trainer);
        let values = [
            p.evaluation_return.unwrap_or(f64::NAN),
            t.episodes() as f64,
            t.environment_steps() as f64,
            mean(&p.returns),
            p.return_last,
            mean(&p.lengths),
            mean(&p.guide_shares),
            t.slope(),
            t.lambda_bc(),
            t.stage() as f64,
            f64::from(p.stats.critic_loss),
            f64::from(p.stats.actor_loss),
            f64::from(p.stats.bc_loss),
            f64::from(p.stats.q_mean),
            f64::from(p.stats.firing_rate),
            p.policy_version as f64,
            curve_return.unwrap_or(f64::NAN),
        ];
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if let Err(error) = metrics.write(t.updates(), time_s, wall.as_secs_f64(), &values) {
            outcome.fatal = Some(error.to_string());
        }
    }

    fn policy(&self) -> Result<Policy, String> {
        let metadata = Metadata {
            return_mean: self.progress.evaluation_return,
            slope: Some(self.trainer.slope()),
            training_run: Some(self.run_name.clone()),
            vehicle_content: Some(self.airframe.content.clone()),
            ..Metadata::student(self.airframe.name.clone())
        };
        Policy::spiking(self.trainer.policy().clone(), metadata).map_err(|e| e.to_string())
    }

    /// A student flies this version: what is published must be above it. Whoever says so may be anybody, so that a step is
    /// bounded; a student that really flies a version far above says so again and again.
    pub fn heard_of(&mut self, version: u64) {
        let own = self.progress.policy_version;
        self.progress.policy_version =
            own.max(version.min(own.saturating_add(LARGEST_JUMP)).min(LAST_VERSION - 1));
    }

    /// The policy as it is, for whoever starts after it was learned.
    pub fn publication(&mut self) -> Result<Publication, String> {
        let bytes = self.policy()?.to_bytes();
        let parent = self.progress.policy_version;
        let version = parent.saturating_add(1);
        self.progress.policy_version = version;
        let sha256 = Sha256::digest(&bytes).into();
        let announcement = Announcement { version, parent_version: parent, sha256 };
        let signature = self.key.as_ref().map_or(Vec::new(), |key| announcement.sign(key).to_vec());
        let return_estimate = self.progress.evaluation_return.unwrap_or(f64::NAN);
        Ok(Publication { version, parent, bytes, sha256, signature, return_estimate })
    }

    /// Writes a checkpoint, the latest policy, and the best one if this is it.
    pub fn save(&mut self) -> Result<(), String> {
        let Some(dir) = self.run_dir.clone() else { return Ok(()) };
        let path = checkpoint::path(&dir, self.trainer.updates());
        self.write(&path).map_err(|reason| match checkpoint::list(&dir).first() {
            Some(last) => format!(
                "{reason}; {} stays: make room or the folder writable, and go on from it",
                last.display()
            ),
            None => reason,
        })?;
        for old in checkpoint::list(&dir).into_iter().skip(self.keep) {
            let _ = std::fs::remove_file(progress_path(&old));
            let _ = std::fs::remove_file(old);
        }
        self.save_policy()
    }

    /// Writes one checkpoint.
    fn write(&self, path: &Path) -> Result<(), String> {
        // The progress first: a checkpoint that is there has its progress beside it.
        let saved = Saved { progress: self.progress.clone() };
        let text = serde_json::to_vec(&saved).map_err(|e| e.to_string())?;
        let beside = progress_path(path);
        checkpoint::write_atomically(&beside, &text).map_err(|e| format!("{}: {e}", beside.display()))?;
        self.trainer.save(path).map_err(|e| e.to_string())
    }

    /// Writes the latest policy alone.
    pub fn save_policy(&self) -> Result<(), String> {
        let Some(dir) = &self.run_dir else { return Ok(()) };
        self.policy()?.save(&dir.join("latest.safetensors")).map_err(|e| e.to_string())
    }
}

/// Starts from a policy's weights, or from a whole learner: a checkpoint, or the newest one in a run folder.
fn start_from(
    trainer: &mut Trainer,
    path: &Path,
    experience: Experience,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if path.is_dir() {
        let (learner, _) = newest_whole(path)?.ok_or("there is no checkpoint in that folder")?;
        trainer.start_from_learner(learner, experience)?;
    } else if path.extension().is_some_and(|e| e == "bin") {
        trainer.start_from_learner(Trainer::load(path)?, experience)?;
    } else {
        let policy = Policy::load(path)?;
        trainer.start_from(policy.network().ok_or("no spiking policy")?)?;
    }
    Ok(())
}

/// Updates that the learner in a run folder has made by its newest whole checkpoint; 0 without one.
///
/// # Errors
/// When there are checkpoints, but none can be read.
pub fn updates_in(dir: &Path) -> Result<u64, String> {
    Ok(newest_whole(dir)?.map_or(0, |(trainer, _)| trainer.updates()))
}

/// The newest checkpoint that can be read, if there are any. To start anew where none can be read would overwrite them.
fn newest_whole(dir: &Path) -> Result<Option<(Trainer, Progress)>, String> {
    let found = checkpoint::list(dir);
    for path in &found {
        match load(path) {
            Ok(loaded) => {
                let updates = loaded.0.updates();
                tracing::info!(checkpoint = %path.display(), updates, "goes on from a checkpoint");
                return Ok(Some(loaded));
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    Err(format!(
        "run folder {}: none of its {} checkpoints can be read (see above); move them away, or choose another run_dir, \
         to start anew",
        dir.display(),
        found.len()
    ))
}

fn progress_path(checkpoint: &Path) -> PathBuf {
    checkpoint.with_extension("json")
}

fn load(path: &Path) -> Result<(Trainer, Progress), String> {
    let trainer = Trainer::load(path).map_err(|e| e.to_string())?;
    let beside = progress_path(path);
    let text = std::fs::read(&beside).map_err(|e| format!("{}: {e}", beside.display()))?;
    let saved: Saved = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", beside.display()))?;
    Ok((trainer, saved.progress))
}

/// How many threads a number of the parameter `threads` means on this machine.
fn threads(asked: i64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match usize::try_from(asked) {
        Ok(0) => cores,
        Ok(count) => count,
        Err(_) => cores.saturating_sub(usize::try_from(asked.unsigned_abs()).unwrap_or(cores)).max(1),
    }
}

fn push(window: &mut VecDeque<f64>, value: f64) {
    window.push_back(value);
    if window.len() > WINDOW {
        window.pop_front();
    }
}

/// Mean; of nothing 0.
pub fn mean(values: &VecDeque<f64>) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
