//! Odometry that is later than its stamp says: found by its body rates, which are the gyroscope's of some time ago.
//!
//! For a set of lags the squared difference between the rates in the odometry and those that the gyroscope measured so
//! much earlier is averaged over the last half second. Where the least of them is well below that of lag zero, and the
//! vehicle has turned enough to tell, the odometry is that late, and its stamps are corrected.

use std::collections::VecDeque;

use nalgebra::Vector3;
use spikewing_runtime::{Span, Time};

/// Lags that are tried, and their step.
const LAGS: usize = 26;
const STEP: Span = Span::from_millis(10);
/// Time over which differences are averaged, s.
const MEMORY_S: f64 = 0.4;
/// Lags below are jitter.
const LEAST: usize = 4;
/// The best lag's mean square must be below this share of that of the lag in use.
const BETTER: f64 = 0.35;
/// The same where a lag is in use already.
const REFINED: f64 = 0.75;
/// Turning rates of which the root mean square difference is less tell nothing, rad/s.
const EXCITATION: f64 = 0.06;
/// So many odometry messages in a row must agree.
const AGREE: u32 = 8;
/// A sample of the gyroscope so near stands for a time.
const NEAR: Span = Span::from_millis(12);
/// Gyroscope samples kept.
const KEPT: usize = 1024;

/// Finds how late the odometry is.
#[derive(Clone, Debug)]
pub struct Timing {
    gyro: VecDeque<(Time, Vector3<f64>)>,
    squares: [f64; LAGS],
    weight: f64,
    last: Option<Time>,
    /// In use.
    lag: usize,
    candidate: (usize, u32),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gyro: VecDeque::with_capacity(KEPT + 1),
            squares: [0.0; LAGS],
            weight: 0.0,
            last: None,
            lag: 0,
            candidate: (0, 0),
        }
    }
}

impl Timing {
    /// A sample of the gyroscope.
    pub fn gyro(&mut self, stamp: Time, rates: Vector3<f64>) {
        if self.gyro.back().is_some_and(|(last, _)| stamp <= *last) {
            return;
        }
        self.gyro.push_back((stamp, rates));
        let oldest =
            stamp - Span::from_nanoseconds(STEP.nanoseconds() * (LAGS as i64 + 2)) - Span::from_millis(300);
        while self.gyro.len() > KEPT || self.gyro.front().is_some_and(|(at, _)| *at < oldest) {
            self.gyro.pop_front();
        }
    }

    fn rates_at(&self, time: Time) -> Option<Vector3<f64>> {
        let after = self.gyro.partition_point(|(at, _)| *at < time);
        let near = |i: usize| {
            self.gyro.get(i).filter(|(at, _)| (*at - time).nanoseconds().abs() <= NEAR.nanoseconds())
        };
        let (a, b) = (after.checked_sub(1).and_then(near), near(after));
        match (a, b) {
            (Some((t0, r0)), Some((t1, r1))) if t1 > t0 => {
                Some(r0 + (r1 - r0) * ((time - *t0).seconds() / (*t1 - *t0).seconds()))
            }
            (Some((_, r)), _) | (_, Some((_, r))) => Some(*r),
            _ => None,
        }
    }

    /// Body rates in odometry with that stamp, without the gyroscope's bias added. Returns whether the lag changed.
    pub fn odometry(&mut self, stamp: Time, rates: &Vector3<f64>, bias: &Vector3<f64>) -> bool {
        let passed = self.last.map_or(0.01, |last| (stamp - last).seconds());
        if passed <= 0.0 {
            return false;
        }
        self.last = Some(stamp);
        let mut differences = [0.0; LAGS];
        for (k, difference) in differences.iter_mut().enumerate() {
            let at = stamp - Span::from_nanoseconds(STEP.nanoseconds() * k as i64);
            let Some(gyro) = self.rates_at(at) else { return false };
            *difference = (rates + bias - gyro).norm_squared();
        }
        let keep = (-passed / MEMORY_S).exp();
        for (square, difference) in self.squares.iter_mut().zip(differences) {
            *square = *square * keep + difference;
        }
        self.weight = self.weight * keep + 1.0;
        self.decide()
    }

    fn decide(&mut self) -> bool {
        let in_use = self.squares.get(self.lag).copied().unwrap_or(0.0);
        let best = (0..LAGS).min_by(|a, b| self.squares[*a].total_cmp(&self.squares[*b])).unwrap_or(0);
        // Small lags are none.
        let best_lag = if best < LEAST { 0 } else { best };
        // A lag once found is followed; that there is one wants more.
        let refines = self.lag > 0;
        let better = if refines { REFINED } else { BETTER };
        let told = (refines || (in_use / self.weight.max(1.0)).sqrt() > EXCITATION)
            && self.squares[best] < better * in_use
            && best_lag.abs_diff(self.lag) >= 2;
        if !told {
            self.candidate.1 = 0;
            return false;
        }
        let agrees = self.candidate.0.abs_diff(best_lag) <= 1;
        self.candidate = (best_lag, if agrees { self.candidate.1 + 1 } else { 1 });
        if self.candidate.1 < AGREE {
            return false;
        }
        self.lag = best_lag;
        self.candidate.1 = 0;
        true
    }

    /// How much later than stamped the odometry is.
    pub fn lag(&self) -> Span {
        Span::from_nanoseconds(STEP.nanoseconds() * self.lag as i64)
    }

    /// Starts over.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(t: f64) -> Vector3<f64> {
        Vector3::new((7.0 * t).sin() * 0.5, (5.0 * t + 1.0).sin() * 0.4, 0.1)
    }

    fn found(late_s: f64, excitation: f64) -> f64 {
        let mut timing = Timing::default();
        for k in 0..600 {
            let t = f64::from(k) * 0.004;
            let stamp = Time::from_nanoseconds(i64::from(k) * 4_000_000);
            timing.gyro(stamp, rates(t) * excitation);
            if k % 2 == 0 {
                timing.odometry(stamp, &(rates(t - late_s) * excitation), &Vector3::zeros());
            }
        }
        timing.lag().seconds()
    }

    #[test]
    fn a_lag_is_found_where_the_vehicle_turns_and_only_then() {
        for late in [0.05, 0.1, 0.2] {
            assert!((found(late, 1.0) - late).abs() < 0.011, "{late}: {}", found(late, 1.0));
        }
        assert!(found(0.0, 1.0) < 1e-9 && found(0.008, 1.0) < 1e-9);
        assert!(found(0.1, 0.02) < 1e-9, "too calm to tell");
    }
}
