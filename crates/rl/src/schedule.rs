//! What changes over training: surrogate slope, weight of behavioural cloning, jump-start, curriculum.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Range of the surrogate slope k.
pub const SLOPE_RANGE: [f64; 2] = [1.0, 100.0];

/// How the surrogate slope goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
// No `tag`: the checkpoint format does not describe itself, so the variant must come first.
#[serde(rename_all = "snake_case")]
pub enum SlopeSchedule {
    /// Constant.
    Fixed {
        /// k
        slope: f64,
    },
    /// From 1 to 100 in equal steps at fixed intervals.
    Interval {
        /// Updates between two steps.
        updates: u64,
        /// Steps.
        steps: u64,
    },
    /// From the returns r of the last evaluations.
    Adaptive {
        /// Slope before the first evaluation.
        start: f64,
        /// Return that is worth a slope of 100. How the return is scaled is not published; the authors' code uses 400.
        return_scale: f64,
        /// How the slope follows from the returns.
        law: SlopeLaw,
    },
}

/// How the adaptive slope follows from returns; r is the return as a share of the scale, 1 for a slope of 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlopeLaw {
    /// The published equation: k = 100 · mean of ½ r + ½ r′, r′ the rise since the evaluation before.
    #[default]
    Published,
    /// The authors' code: k = 100 · mean of r, r held to [0, 1].
    Normalised,
    /// The authors' other variant: k = 100 · mean of r³, r held to [0, 1].
    Cubic,
}

impl SlopeLaw {
    /// Names as parameters have them.
    pub const NAMES: [&'static str; 3] = ["published", "normalised", "cubic"];

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Published, Self::Normalised, Self::Cubic]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(law, _)| law)
    }

    /// What an evaluation adds to the mean, in slopes.
    fn term(self, r: f64, last: Option<f64>) -> f64 {
        let held = r.clamp(0.0, 1.0);
        SLOPE_RANGE[1]
            * match self {
                Self::Published => 0.5 * r + 0.5 * last.map_or(0.0, |last| r - last),
                Self::Normalised => held,
                Self::Cubic => held.powi(3),
            }
    }
}

/// Evaluations over which the adaptive slope averages.
const WINDOW: usize = 10;

/// The surrogate slope over training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    schedule: SlopeSchedule,
    last: Option<f64>,
    terms: VecDeque<f64>,
}

impl Slope {
    /// At the start of training.
    pub fn new(schedule: SlopeSchedule) -> Self {
        Self { schedule, last: None, terms: VecDeque::new() }
    }

    /// This schedule, with the returns that another one has noted.
    #[must_use]
    pub fn going_on_from(&self, other: Self) -> Self {
        // Terms are slopes by the other's law and scale: they only go on where those are the same.
        if other.schedule == self.schedule { other } else { self.clone() }
    }

    /// Takes the return of an evaluation.
    pub fn note(&mut self, episode_return: f64) {
        let SlopeSchedule::Adaptive { return_scale, law, .. } = self.schedule else { return };
        if !episode_return.is_finite() {
            return;
        }
        let r = episode_return / return_scale;
        self.terms.push_back(law.term(r, self.last));
        self.last = Some(r);
        if self.terms.len() > WINDOW {
            self.terms.pop_front();
        }
    }

    /// k after so many updates.
    pub fn at(&self, updates: u64) -> f64 {
        let [low, high] = SLOPE_RANGE;
        let slope = match self.schedule {
            SlopeSchedule::Fixed { slope } => slope,
            SlopeSchedule::Interval { updates: interval, steps } => {
                let step = (updates / interval.max(1)).min(steps);
                low + (high - low) * step as f64 / steps.max(1) as f64
            }
            SlopeSchedule::Adaptive { start, .. } if self.terms.is_empty() => start,
            SlopeSchedule::Adaptive { .. } => self.terms.iter().sum::<f64>() / self.terms.len() as f64,
        };
        slope.clamp(low, high)
    }
}

/// λ_BC: starts at a value and decays by a factor each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cloning {
    /// At the start.
    pub start: f64,
    /// Factor per epoch.
    pub decay: f64,
    /// It does not fall below.
    pub floor: f64,
}

impl Cloning {
    /// λ_BC in an epoch.
    pub fn at(&self, epoch: u64) -> f64 {
        let exponent = i32::try_from(epoch).unwrap_or(i32::MAX);
        (self.start * self.decay.powi(exponent)).max(self.floor)
    }
}

/// Jump-start: the guide flies the first T − N steps, N growing linearly until only the warm-up is left to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JumpStart {
    /// T: steps of an episode.
    pub episode_steps: u32,
    /// Steps that the guide always flies.
    pub warmup_steps: u32,
    /// Episodes until only those are left.
    pub episodes: u64,
}

impl JumpStart {
    /// Guide steps after so many episodes. Of `episodes` = 0 the guide flies the warm-up only from the start.
    pub fn guide_steps(&self, episode: u64) -> u32 {
        let span = self.episode_steps.saturating_sub(self.warmup_steps);
        if episode >= self.episodes {
            return self.warmup_steps.min(self.episode_steps);
        }
        let student = (u64::from(span) * episode / self.episodes.max(1)) as u32;
        self.episode_steps - student
    }
}

/// The reward curriculum: six stages in equal numbers of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curriculum {
    /// Epochs in each stage; 0 stays at the first stage.
    pub epochs_per_stage: u64,
}

impl Curriculum {
    /// Stage 0 … 5 in an epoch.
    pub fn stage(&self, epoch: u64) -> usize {
        let last = spikewing_quad::reward::STAGES - 1;
        match epoch.checked_div(self.epochs_per_stage) {
            None => 0,
            Some(stage) => usize::try_from(stage).unwrap_or(last).min(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adaptive_slope_follows_the_published_equation() {
        let mut slope =
            Slope::new(SlopeSchedule::Adaptive { start: 2.0, return_scale: 400.0, law: SlopeLaw::Published });
        assert_eq!(slope.at(0), 2.0);
        slope.note(100.0);
        // r = 25, no difference yet.
        assert_eq!(slope.at(0), 12.5);
        slope.note(200.0);
        // r = 50, r' = 25: (12.5 + 37.5) / 2.
        assert_eq!(slope.at(0), 25.0);
        slope.note(f64::NAN);
        assert_eq!(slope.at(0), 25.0);
        for _ in 0..20 {
            slope.note(400.0);
        }
        assert_eq!(slope.at(0), 50.0);
        for _ in 0..20 {
            slope.note(-400.0);
        }
        assert_eq!(slope.at(0), 1.0);
    }

    #[test]
    fn the_authors_slopes_follow_the_normalised_return() {
        for (law, expected) in [(SlopeLaw::Normalised, 50.0), (SlopeLaw::Cubic, 12.5)] {
            let schedule = SlopeSchedule::Adaptive { start: 2.0, return_scale: 400.0, law };
            let mut slope = Slope::new(schedule);
            assert_eq!(slope.at(0), 2.0);
            slope.note(200.0);
            assert_eq!(slope.at(0), expected);
            // Beyond the range it stays at the limits.
            (0..20).for_each(|_| slope.note(900.0));
            assert_eq!(slope.at(0), 100.0);
            (0..20).for_each(|_| slope.note(-900.0));
            assert_eq!(slope.at(0), 1.0);
        }
        for name in SlopeLaw::NAMES {
            assert!(SlopeLaw::from_name(name).is_some());
        }
    }

    #[test]
    fn the_interval_slope_climbs_from_1_to_100() {
        let slope = Slope::new(SlopeSchedule::Interval { updates: 10, steps: 3 });
        let ks: Vec<f64> = [0, 9, 10, 20, 30, 99].iter().map(|&u| slope.at(u)).collect();
        assert_eq!(ks, [1.0, 1.0, 34.0, 67.0, 100.0, 100.0]);
        assert_eq!(Slope::new(SlopeSchedule::Fixed { slope: 500.0 }).at(0), 100.0);
    }

    #[test]
    fn the_guide_withdraws_to_the_warm_up() {
        let jump = JumpStart { episode_steps: 500, warmup_steps: 50, episodes: 10 };
        assert_eq!(jump.guide_steps(0), 500);
        assert_eq!(jump.guide_steps(5), 275);
        assert_eq!(jump.guide_steps(10), 50);
        assert_eq!(jump.guide_steps(u64::MAX), 50);
        assert_eq!(JumpStart { episodes: 0, ..jump }.guide_steps(0), 50);
    }

    #[test]
    fn cloning_decays_and_the_curriculum_has_six_stages() {
        let cloning = Cloning { start: 0.2, decay: 0.99, floor: 0.0 };
        assert!((cloning.at(100) - 0.2 * 0.99_f64.powi(100)).abs() < 1e-12);
        assert_eq!(cloning.at(u64::MAX), 0.0);
        let curriculum = Curriculum { epochs_per_stage: 10 };
        assert_eq!([0, 9, 10, 59, 1000].map(|e| curriculum.stage(e)), [0, 0, 1, 5, 5]);
        assert_eq!(Curriculum { epochs_per_stage: 0 }.stage(99), 0);
    }
}
