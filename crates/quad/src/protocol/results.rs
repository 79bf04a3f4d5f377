//! What is reported of flown episodes.

use serde::Serialize;

/// One episode.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EpisodeResult {
    /// Sum of rewards.
    pub episode_return: f64,
    /// Steps flown.
    pub length: usize,
    /// Whether it lasted all steps.
    pub completed: bool,
    /// Mean horizontal distance to the setpoint, m.
    pub xy_error_m: f64,
    /// Mean distance to the setpoint, m.
    pub tracking_error_m: f64,
    /// Mean change of the action from step to step (Euclidean norm over the motors).
    pub action_change_mean: f64,
    /// Power of the action above 5 Hz, mean over the motors: [`crate::smoothness`]. None of an episode too short for it.
    pub action_power_above_5hz: Option<f64>,
}

/// All episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Mean return.
    pub return_mean: f64,
    /// Standard deviation of the return.
    pub return_std: f64,
    /// Share of episodes that lasted all steps.
    pub completed_share: f64,
    /// Mean return of those; null when there are none.
    pub return_completed_mean: Option<f64>,
    /// Mean length, steps.
    pub length_mean: f64,
    /// Mean horizontal distance to the setpoint over all steps, m.
    pub xy_error_m: f64,
    /// Mean distance to the setpoint over all steps, m.
    pub tracking_error_m: f64,
    /// Mean change of the action from step to step.
    pub action_change_mean: f64,
    /// Power of the action above 5 Hz, mean over motors and those episodes that are long enough (unit: that of the
    /// action's variance): [`crate::smoothness`]. Null when none is.
    pub action_power_above_5hz: Option<f64>,
}

impl Summary {
    /// Of some episodes; of none, all is zero.
    pub fn of(episodes: &[EpisodeResult]) -> Self {
        let n = (episodes.len() as f64).max(1.0);
        let mean = |f: &dyn Fn(&EpisodeResult) -> f64| episodes.iter().map(f).sum::<f64>() / n;
        let return_mean = mean(&|e| e.episode_return);
        let variance = mean(&|e| (e.episode_return - return_mean).powi(2));
        let steps = episodes.iter().map(|e| e.length as f64).sum::<f64>().max(1.0);
        let per_step = |f: &dyn Fn(&EpisodeResult) -> f64| {
            episodes.iter().map(|e| f(e) * e.length as f64).sum::<f64>() / steps
        };
        let powers: Vec<f64> = episodes.iter().filter_map(|e| e.action_power_above_5hz).collect();
        let completed: Vec<f64> = episodes.iter().filter(|e| e.completed).map(|e| e.episode_return).collect();
        Self {
            return_mean,
            return_std: variance.sqrt(),
            completed_share: completed.len() as f64 / n,
            return_completed_mean: mean_of(&completed),
            length_mean: mean(&|e| e.length as f64),
            xy_error_m: per_step(&|e| e.xy_error_m),
            tracking_error_m: per_step(&|e| e.tracking_error_m),
            action_change_mean: per_step(&|e| e.action_change_mean),
            action_power_above_5hz: mean_of(&powers),
        }
    }
}

/// Mean, where there is something to average.
fn mean_of(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
