//! Whether odometry and inertial sensors can both be true, and what is to be believed of the estimate where not.
//!
//! - *Frozen*: message after message the same to the last bit, while the inertial sensors go on measuring: nothing was
//!   measured. They are not used.
//! - *Drift*: the position moves otherwise than the velocity in the same messages says. What has piled up over the
//!   last seconds, beyond what the claimed standard deviations explain, is added to the published one of the position.
//!   An EKF2 on GNSS corrects its position by metres while its velocity errs for seconds, in sound flights, too.
//!   A velocity that errs for so long is weighed by it, and the estimate goes where the position goes.
//! - *Disagreement*: the velocity changes otherwise than the accelerometer says; likewise, for the velocity.

use nalgebra::{Matrix3, Vector3};
use spikewing_runtime::Time;

use crate::measurement::{CovarianceFrom, Measurement};

/// So many equal messages in a row are frozen.
const FROZEN_AFTER: u32 = 4;
/// Time over which drift piles up, s, and what an honest filter's may be even where it claims to know all, m.
const DRIFT_MEMORY_S: f64 = 20.0;
const DRIFT_HONEST_M: f64 = 0.2;
/// Time over which the velocity is compared with where the position goes, s.
const MISMATCH_MEMORY_S: f64 = 0.5;
/// So many samples err alike within the filter's memory: weighed as if each were new, they would count as often.
const ALIKE: f64 = 25.0;
/// More than so many claimed standard deviations is no error of a sound filter, but a fault, which nothing here smooths over.
const EXPLAINED: f64 = 8.0;
/// The same for the velocity: tilt and biases that are not known well yet explain as much, m/s.
const CHANGE_MEMORY_S: f64 = 1.0;
const CHANGE_HONEST_M_S: f64 = 0.5;
/// How much of a disagreement counts: whatever explains it goes on.
const CHANGE_WEIGHT: f64 = 2.0;
/// Between messages further apart nothing is compared, s.
const LONGEST_GAP_S: f64 = 0.1;

/// Watches the odometry.
#[derive(Clone, Debug, Default)]
pub struct Health {
    last: Option<Measurement>,
    equal: u32,
    imu_varied: bool,
    last_imu: Option<(Time, Vector3<f64>)>,
    /// Change of the velocity by the accelerometer since the last odometry, world, m/s.
    change: Vector3<f64>,
    drift: Vector3<f64>,
    /// Drift that the claimed errors explain, were they to last, m.
    claimed_drift_m: f64,
    /// How much faster the position goes than the velocity says, world, m/s.
    mismatch: Vector3<f64>,
    disagreement: Vector3<f64>,
}

impl Health {
    /// Starts over.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// A sample of the inertial sensors: `acceleration` of the vehicle, world, m/s²; `raw`: the specific force.
    pub fn imu(&mut self, stamp: Time, acceleration: &Vector3<f64>, raw: Vector3<f64>) {
        if let Some((last, before)) = self.last_imu.replace((stamp, raw)) {
            let dt = (stamp - last).seconds();
            if dt > 0.0 && dt < LONGEST_GAP_S {
                self.change += acceleration * dt;
            }
            self.imu_varied |= before != raw;
        }
    }

    /// Odometry in order of its stamps; `claims`: whether its covariances are its own. Returns whether it is frozen.
    pub fn odometry(&mut self, m: &Measurement, claims: CovarianceFrom) -> bool {
        self.claimed_drift_m = match claims {
            CovarianceFrom::Message => {
                let [position, _, velocity] = m.covariances();
                position.trace().sqrt() + DRIFT_MEMORY_S * velocity.trace().sqrt()
            }
            CovarianceFrom::Parameters => 0.0,
        };
        let Some(last) = self.last.replace(*m) else { return false };
        let same = last.position.value == m.position.value
            && last.orientation.value == m.orientation.value
            && last.velocity.map(|v| v.value) == m.velocity.map(|v| v.value)
            && last.rates == m.rates;
        let advances = m.stamp > last.stamp;
        self.equal = if same && advances && self.imu_varied { self.equal.saturating_add(1) } else { 0 };
        let change = std::mem::take(&mut self.change);
        if self.equal >= FROZEN_AFTER {
            return true;
        }
        self.compare(&last, m, &change);
        false
    }

    fn compare(&mut self, last: &Measurement, m: &Measurement, change: &Vector3<f64>) {
        let dt = (m.stamp - last.stamp).seconds();
        let (Some(before), Some(after)) = (&last.velocity, &m.velocity) else { return };
        if dt <= 0.0 || dt > LONGEST_GAP_S {
            return;
        }
        let before = last.orientation.value * before.value;
        let after = m.orientation.value * after.value;
        let expected = (before + after) * (0.5 * dt);
        let moved = m.position.value - last.position.value;
        let share = 1.0 - (-dt / MISMATCH_MEMORY_S).exp();
        self.mismatch += ((moved - expected) / dt - self.mismatch) * share;
        self.drift = self.drift * (-dt / DRIFT_MEMORY_S).exp() + (moved - expected);
        if self.last_imu.is_some() {
            self.disagreement = self.disagreement * (-dt / CHANGE_MEMORY_S).exp() + (after - before - change);
        }
    }

    /// Variance of each axis that the velocity's claimed covariance has to be widened by, (m/s)²: it errs as long as it does not go
    /// where the position goes.
    pub fn velocity_variance(&self, claimed: &Matrix3<f64>) -> f64 {
        let mismatch = self.mismatch.norm_squared();
        if mismatch <= EXPLAINED * EXPLAINED * claimed.trace() { ALIKE * mismatch } else { 0.0 }
    }

    /// Standard deviations that the published ones have to be widened by: position (m), velocity (m/s).
    pub fn doubt(&self) -> [f64; 2] {
        [
            (self.drift.norm() - DRIFT_HONEST_M - self.claimed_drift_m).max(0.0),
            (self.disagreement.norm() - CHANGE_HONEST_M_S).max(0.0) * CHANGE_WEIGHT,
        ]
    }
}
