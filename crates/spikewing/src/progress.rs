//! The progress bar of a training run.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use spikewing_msgs::spikewing_msgs::{LearnerStatus, PolicyStatus};
use spikewing_runtime::Time;

/// Without a terminal a line is printed this often instead of a bar.
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Shows return, slope, λ_BC, guide share, updates per second and time left.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    limit: Option<Duration>,
    first_updates: Option<u64>,
    total: u64,
    last_line: Option<Instant>,
    /// Of the segments before this one, and of this one: every segment's student counts from zero.
    swaps: [u64; 2],
}

impl Progress {
    /// Of so many updates, or so many minutes.
    pub fn new(updates: u64, max_minutes: Option<f64>) -> Self {
        let bar = ProgressBar::new(updates);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} % {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        let limit = max_minutes.map(|m| Duration::from_secs_f64((m * 60.0).max(0.0)));
        Self {
            bar,
            started: Instant::now(),
            limit,
            first_updates: None,
            total: updates,
            last_line: None,
            swaps: [0, 0],
        }
    }

    /// Prints a line above the bar.
    pub fn say(&self, text: &str) {
        if self.bar.is_hidden() { eprintln!("{text}") } else { self.bar.println(text) }
    }

    /// Takes the learner's status.
    pub fn learner(&mut self, now: Time, s: &LearnerStatus) {
        let elapsed = self.started.elapsed();
        let first = *self.first_updates.get_or_insert(s.updates);
        let rate = (s.updates - first) as f64 / elapsed.as_secs_f64().max(1e-3);
        let by_updates = self.total.saturating_sub(s.updates) as f64 / rate.max(1e-6);
        let left = match self.limit {
            Some(limit) => by_updates.min(limit.saturating_sub(elapsed).as_secs_f64()),
            None => by_updates,
        };
        let left = if rate > 0.0 || self.limit.is_some() { clock(left) } else { "?".to_owned() };
        let text = format!(
            "return {:6.1} (flown {:.1})  k {:5.1}  λ_BC {:.3}  guide {:3.0} %  episode {}  {:.0} updates/s  flown {:.0} s  left {left}",
            s.evaluation_return,
            s.return_mean,
            s.surrogate_slope,
            s.lambda_bc,
            100.0 * s.guide_share,
            s.episodes,
            rate,
            now.seconds(),
        );
        self.bar.set_position(s.updates);
        if self.bar.is_hidden() {
            if self.last_line.is_none_or(|at| at.elapsed() >= LINE_PERIOD) {
                self.last_line = Some(Instant::now());
                eprintln!("{:>6} updates  {text}", s.updates);
            }
        } else {
            self.bar.set_message(text);
        }
    }

    /// Takes the student's status.
    pub fn policy(&mut self, s: &PolicyStatus) {
        let [before, here] = self.swaps;
        self.swaps = [if s.swaps < here { before + here } else { before }, s.swaps];
    }

    /// Weight swaps so far.
    pub fn swaps(&self) -> u64 {
        self.swaps.iter().sum()
    }

    /// Clears the bar and prints a last line.
    pub fn finish(&self, text: &str) {
        self.bar.finish_and_clear();
        eprintln!("{text}");
    }
}

fn clock(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 1e7) as u64;
    format!("{}:{:02}", s / 60, s % 60)
}
