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
use spikewing_quad::{Reward, Vehicle, protocol::Evaluation, reward::ActionScale};
use spikewing_rl::{checkpoint::write_atomically, evaluate::Report};

use super::{arms::Arm, curve};
use crate::{Failure, eval};

/// Updates between two points of a learning curve, which tell when a return was reached.
const CURVE_EVERY: u64 = 20;
/// Looks at the layers in a run.
const PROBES: u64 = 30;
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

/// When a return was first reached, of an evaluation every 20 updates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Updates made.
    pub updates: f64,
    /// Environment steps flown.
    pub environment_steps: f64,
    /// Wall time since the run began, s, to a quarter of a second.
    pub seconds: f64,
}

/// What a finished run brought. Returns are of protocol `paper`; the best policy of the run flies, after half a second of the
/// guide, and actions are judged on [0, 1], unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Updates made.
    pub updates: u64,
    /// With the start coefficients.
    pub return_start: f64,
    /// With the end coefficients.
    pub return_end: f64,
    /// With the end coefficients, actions judged on [−1, 1].
    pub return_end_symmetric: f64,
    /// Start coefficients, the last policy instead of the best.
    pub return_last: f64,
    /// Share of episodes that lasted.
    pub completed_share: f64,
    /// Start coefficients, without the guide's half second.
    pub return_alone: f64,
    /// Share of episodes that lasted without it.
    pub completed_share_alone: f64,
    /// Horizontal distance to the setpoint, m.
    pub xy_error_m: f64,
    /// Share of silent neurons.
    pub activation_sparsity: f64,
    /// The first evaluation with a return of 100, which counts as having learned something, as the paper counts.
    pub to_100: Option<Reached>,
    /// … of 400, the paper's final return.
    pub to_400: Option<Reached>,
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
    let mut watch = Watch::default();
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
        let curve = curve::read(&run.dir).unwrap_or_default();
        watch.see(&curve, started.elapsed());
        if let Some(last) = curve.last() {
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
    watch.see(&curve::read(&run.dir)?, started.elapsed());
    let result = conclude(run, budget, &watch, started.elapsed())?;
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
    command.args(["--setting", run.arm.setting]);
    command.args(["--seed", &run.seed.to_string(), "--updates", &budget.updates.to_string()]);
    command.arg("--out").arg(&run.dir).args(["--eval-episodes", "1"]);
    // Runs that go on side by side share the cores by one thread each.
    let threads = if budget.jobs > 1 { 1 } else { 0 };
    for own in [
        format!("threads:={threads}"),
        format!("curve_every_updates:={CURVE_EVERY}"),
        format!("probe_every_updates:={}", (budget.updates / PROBES).max(1)),
    ] {
        command.args(["-p", &format!("online_learner.{own}")]);
    }
    for parameter in &run.arm.parameters {
        command.args(["-p", parameter]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn()?)
}

/// When a run first reached which return.
#[derive(Default)]
struct Watch {
    to_100: Option<Reached>,
    to_400: Option<Reached>,
}

impl Watch {
    fn see(&mut self, curve: &[curve::Evaluated], elapsed: Duration) {
        for (reached, score) in [(&mut self.to_100, 100.0), (&mut self.to_400, 400.0)] {
            if reached.is_none() {
                *reached = curve.iter().find(|p| p.evaluation_return >= score).map(|p| Reached {
                    updates: p.updates,
                    environment_steps: p.environment_steps,
                    seconds: elapsed.as_secs_f64(),
                });
            }
        }
    }
}

/// Evaluates what a run left.
fn conclude(run: &Run, budget: &Budget, watch: &Watch, wall: Duration) -> Result<RunResult, Failure> {
    let vehicle = Vehicle::find(&budget.vehicle)?;
    let base = Evaluation { vehicle, ..Evaluation::paper(budget.eval_episodes, 1)? };
    let policy = |file: &str| run.dir.join(file).display().to_string();
    let fly = |file: &str, guide_steps: usize, reward: Reward| {
        let evaluation = Evaluation { reward, ..base.clone() };
        eval::evaluate_after(&policy(file), "geometric", guide_steps, &evaluation)
    };
    let (best, guided) = ("policy.safetensors", eval::WARMUP_STEPS);
    let start = fly(best, guided, Reward::start())?;
    let alone = fly(best, 0, Reward::start())?.flight;
    let of = |report: Result<Report, Failure>| report.map(|r| r.flight.return_mean);
    Ok(RunResult {
        updates: curve::read(&run.dir)?.last().map_or(0, |p| p.updates as u64),
        return_start: start.flight.return_mean,
        return_end: of(fly(best, guided, Reward::end()))?,
        return_end_symmetric: of(fly(best, guided, Reward::end().with_scale(ActionScale::Symmetric)))?,
        return_last: of(fly("latest.safetensors", guided, Reward::start()))?,
        completed_share: start.flight.completed_share,
        return_alone: alone.return_mean,
        completed_share_alone: alone.completed_share,
        xy_error_m: start.flight.xy_error_m,
        activation_sparsity: start.activation_sparsity.unwrap_or(0.0),
        to_100: watch.to_100,
        to_400: watch.to_400,
        wall_s: wall.as_secs_f64(),
    })
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
