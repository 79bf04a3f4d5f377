//! How much of a measurement's claimed error is white.
//!
//! An autopilot's odometry is a filter's output: its errors last for seconds. Fused as if each sample erred anew, a
//! hundred of them a second make the filter far too sure of what they have in common, and it ends up refusing them. The
//! difference between consecutive innovations shows what is new in each sample: for a white error of covariance R it has
//! the covariance 2R. Where it is far below that, a sample is weighed by what is new in it, and what the samples have
//! in common, which no filter can take out, is passed on in the published covariance.

use nalgebra::{Matrix3, Vector3};

/// Weight of the newest difference in the mean of their ratio.
const GAIN: f64 = 0.02;
/// From this ratio on the error counts as white.
const WHITE: f64 = 0.25;
/// A single difference counts no more than this, so that an outlier is not taken for noise.
const MOST: f64 = 4.0;

/// One block of three of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Whiteness {
    last: Option<Vector3<f64>>,
    ratio: f64,
    /// Variance below which no sample is believed to be.
    floor: f64,
}

impl Whiteness {
    /// White until it shows otherwise. `floor`: smallest standard deviation of a sample.
    pub fn new(floor: f64) -> Self {
        Self { last: None, ratio: 1.0, floor: floor * floor }
    }

    /// An innovation of which the measurement claimed the covariance `claimed`.
    pub fn learn(&mut self, innovation: &Vector3<f64>, claimed: &Matrix3<f64>) {
        if let Some(last) = self.last.replace(*innovation) {
            let new = innovation - last;
            let expected = 2.0 * claimed.trace();
            if expected > 0.0 {
                let ratio = (new.norm_squared() / expected).min(MOST);
                self.ratio += GAIN * (ratio - self.ratio);
            }
        }
    }

    /// The next innovation does not follow the last one.
    pub fn interrupt(&mut self) {
        self.last = None;
    }

    /// Share of the claimed covariance that is white.
    pub fn share(&self) -> f64 {
        if self.ratio >= WHITE { 1.0 } else { self.ratio }
    }

    /// A claimed covariance parted into what is white, and what the samples have in common.
    pub fn split(&self, claimed: &Matrix3<f64>) -> (Matrix3<f64>, Matrix3<f64>) {
        let share = self.share();
        if share >= 1.0 {
            return (*claimed, Matrix3::zeros());
        }
        let white = claimed * share + Matrix3::identity() * self.floor;
        (white, claimed * (1.0 - share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_stays_white_and_a_filters_output_is_found() {
        let claimed = Matrix3::identity() * 0.01;
        let mut white = Whiteness::new(0.002);
        let mut lasting = Whiteness::new(0.002);
        let mut state = 12345_u64;
        let mut draw = || {
            // Sum of twelve uniform numbers less six: nearly normal.
            (0..12).fold(-6.0, |sum, _| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum + (state >> 11) as f64 / (1_u64 << 53) as f64
            })
        };
        let mut error = Vector3::zeros();
        for _ in 0..500 {
            let w = Vector3::new(draw(), draw(), draw());
            white.learn(&(w * 0.1), &claimed);
            // First order, 1 s at 100 Hz.
            error = error * 0.99 + w * (0.1 * (1.0_f64 - 0.99 * 0.99).sqrt());
            lasting.learn(&error, &claimed);
        }
        assert!(white.share() >= 1.0);
        assert!(lasting.share() < 0.05, "{}", lasting.share());
        let (own, common) = lasting.split(&claimed);
        assert!(own[(0, 0)] < 0.001 && common[(0, 0)] > 0.009);
    }
}
