//! Runs that are not finished yet, several at a time, each a process of its own.
//!
//! A run is finished when its `result.json` is there, which is written last and atomically. An interrupted run starts
//! anew: a run is the same to the last bit however often it was begun, so a study does not depend on interruptions.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use spikewing_quad::{Reward, Vehicle, protocol::Evaluation};
use spikewing_rl::checkpoint::write_atomically;

use super::{arms::Arm, curve};
use crate::{Failure, eval};

/// The score that counts as having learned something, as the paper counts.
const LEARNED: f64 = 100.0;
const POLL: Duration = Duration::from_millis(250);
/// Lines of a failed run's log that are shown.
const LAST_LINES: usize = 5;

/// One training.
#[derive(Clone, Debug)]
pub struct Run {
    /// How.
    pub arm: Arm,
    /// Seed of everything.
    pub seed: u64,
    /// Its folder.
    pub dir: PathBuf,
}

/// What a finished run brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Updates made.
    pub updates: u64,
    /// Return under protocol `paper`, start coefficients.
    pub return_start: f64,
    /// … with the end coefficients.
    pub return_end: f64,
    /// Share of episodes that lasted.
    pub completed_share: f64,
    /// Horizontal distance to the setpoint, m.
    pub xy_error_m: f64,
    /// Share of silent neurons.
    pub activation_sparsity: f64,
    /// Environment steps to the first evaluation with a return of 100; none: never.
    pub steps_to_100: Option<f64>,
    /// Updates to it.
    pub updates_to_100: Option<f64>,
    /// Wall time of the run, s.
    pub wall_s: f64,
}

impl Run {
    fn result_file(&self) -> PathBuf {
        self.dir.join("result.json")
    }

    /// The result, if the run is finished.
    pub fn result(&self) -> Option<RunResult> {
        serde_json::from_slice(&fs::read(self.result_file()).ok()?).ok()
    }
}

/// How runs are made.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Updates of a run.
    pub updates: u64,
    /// Episodes of its final evaluation.
    pub eval_episodes: usize,
    /// Vehicle.
    pub vehicle: String,
    /// Runs at a time.
    pub jobs: usize,
}

/// Makes all runs that are not finished. Returns whether all are.
///
/// # Errors
/// When runs failed, naming each with its log.
pub fn all(runs: &[Run], budget: &Budget, stop: &AtomicBool) -> Result<bool, Failure> {
    let open: VecDeque<Run> = runs.iter().filter(|r| r.result().is_none()).cloned().collect();
    let bars = MultiProgress::new();
    let total = bars.add(ProgressBar::new(runs.len() as u64));
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} runs, {elapsed} passed, {msg}") {
        total.set_style(style);
    }
    total.set_position((runs.len() - open.len()) as u64);
    total.enable_steady_tick(Duration::from_secs(1));
    let (count, started) = (open.len(), Instant::now());
    let (queue, failed) = (Mutex::new(open), Mutex::new(Vec::new()));
    let finished = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for _ in 0..budget.jobs.min(count) {
            scope.spawn(|| {
                while let Some(run) = take(&queue).filter(|_| !stop.load(Ordering::Relaxed)) {
                    let bar = bars.add(ProgressBar::new(budget.updates));
                    match one(&run, budget, stop, &bar) {
                        Ok(true) => {
                            let mut done = finished.lock().unwrap_or_else(PoisonError::into_inner);
                            *done += 1;
                            let left = started.elapsed().mul_f64((count - *done) as f64 / *done as f64);
                            total.inc(1);
                            total.set_message(format!("about {} min left", left.as_secs().div_ceil(60)));
                            if total.is_hidden() {
                                eprintln!(
                                    "{} of {count} runs done: {} seed {}",
                                    *done, run.arm.name, run.seed
                                );
                            }
                        }
                        Ok(false) => {}
                        Err(error) => failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{} seed {}: {error}", run.arm.name, run.seed)),
                    }
                    bar.finish_and_clear();
                }
            });
        }
    });
    total.finish_and_clear();
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        return Err(
            format!("{} runs failed; the others are kept\n{}", failed.len(), failed.join("\n")).into()
        );
    }
    Ok(runs.iter().all(|r| r.result().is_some()))
}

fn take(queue: &Mutex<VecDeque<Run>>) -> Option<Run> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// Makes one run. Returns whether it is finished; it is not when it was stopped.
fn one(run: &Run, budget: &Budget, stop: &AtomicBool, bar: &ProgressBar) -> Result<bool, Failure> {
    let folder = |e: std::io::Error| format!("{}: {e}", run.dir.display());
    if run.dir.exists() {
        fs::remove_dir_all(&run.dir).map_err(folder)?;
    }
    fs::create_dir_all(&run.dir).map_err(folder)?;
    if let Ok(style) = ProgressStyle::with_template("  {prefix:28} {bar:16} {pos:>6}/{len} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(format!("{} seed {}", run.arm.name, run.seed));
    let started = Instant::now();
    let mut child = start(run, budget)?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        if let Some(last) = curve::read(&run.dir).ok().and_then(|c| c.last().copied()) {
            bar.set_position(last.updates as u64);
            bar.set_message(format!("return {:.0}", last.evaluation_return));
        }
        std::thread::sleep(POLL);
    };
    if !status.success() {
        return Err(
            format!("spikewing train ended with {status}\n{}", last_lines(&log_file(&run.dir))).into()
        );
    }
    let result = conclude(run, budget, started.elapsed())?;
    let text = serde_json::to_vec_pretty(&result)?;
    write_atomically(&run.result_file(), &text)
        .map_err(|e| format!("{}: {e}", run.result_file().display()))?;
    Ok(true)
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("train.log")
}

fn start(run: &Run, budget: &Budget) -> Result<Child, Failure> {
    let log = fs::File::create(log_file(&run.dir))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["train", "--method", run.arm.method, "--vehicle", &budget.vehicle]);
    // As the paper has it: one airframe, one setpoint.
    command.args(["--setting", "plain"]);
    command.args(["--seed", &run.seed.to_string(), "--updates", &budget.updates.to_string()]);
    command.arg("--out").arg(&run.dir).args(["--eval-episodes", "1"]);
    // Runs that go on side by side share the cores by one thread each.
    let threads = if budget.jobs > 1 { 1 } else { 0 };
    command.args(["-p", &format!("online_learner.threads:={threads}")]);
    for parameter in &run.arm.parameters {
        command.args(["-p", parameter]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn()?)
}

/// Evaluates what a run left.
fn conclude(run: &Run, budget: &Budget, wall: Duration) -> Result<RunResult, Failure> {
    let vehicle = Vehicle::find(&budget.vehicle)?;
    let base = Evaluation { vehicle, ..Evaluation::paper(budget.eval_episodes, 1)? };
    let policy = run.dir.join("policy.safetensors").display().to_string();
    let start = eval::evaluate(&policy, "geometric", &base)?;
    let end = eval::evaluate(&policy, "geometric", &Evaluation { reward: Reward::end(), ..base })?;
    let curve = curve::read(&run.dir)?;
    let learned = curve.iter().find(|p| p.evaluation_return >= LEARNED);
    Ok(RunResult {
        updates: curve.last().map_or(0, |p| p.updates as u64),
        return_start: start.flight.return_mean,
        return_end: end.flight.return_mean,
        completed_share: start.flight.completed_share,
        xy_error_m: start.flight.xy_error_m,
        activation_sparsity: start.activation_sparsity.unwrap_or(0.0),
        steps_to_100: learned.map(|p| p.environment_steps),
        updates_to_100: learned.map(|p| p.updates),
        wall_s: wall.as_secs_f64(),
    })
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
