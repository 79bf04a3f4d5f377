//! Whether odometry can be flown on: its age, its own account of its errors, and whether it moves as it says.
//!
//! A stream that goes on is not yet a stream that is true. Frozen values with advancing stamps, values that come late, a
//! position that does not go where the velocity says: each is seen from the messages alone.

use nalgebra::Vector3;
use spikewing_msgs::nav_msgs::Odometry;
use spikewing_runtime::{Span, Time};

use crate::{envelope::Vehicle, situation::Health};

/// Two numbers: from the first on the student may not fly, from the second on nobody may.
struct Limits<T>(T, T);

/// Age of a state when it arrives. PX4's is up to 20 ms old.
const AGE: Limits<Span> = Limits(Span::from_millis(60), Span::from_millis(150));
/// Messages in a row that repeat the one before to the last bit. Estimates carry noise: they never do.
const REPEATS: Limits<u32> = Limits(4, 10);
/// Standard deviations by the estimator's own account, of the worst axis: position (m), velocity (m/s), roll and pitch (rad).
const POSITION_M: Limits<f64> = Limits(0.5, 1.5);
const VELOCITY_M_S: Limits<f64> = Limits(0.7, 1.5);
const ATTITUDE_RAD: Limits<f64> = Limits(0.2, 0.5);
/// The same of the heading, rad. EKF2 starts with 0.3 (EKF2_HEAD_NOISE) and learns it within the first minutes of flight; an error
/// turns what control does horizontally by as much, which it stands until about 60°.
const HEADING_RAD: Limits<f64> = Limits(0.5, 1.0);
/// What the estimator calls lost is lost after so long. A fall that is being caught contradicts a filter for a moment, too, and the
/// autopilot, which is handed the vehicle then, needs longer than that to be of use.
const LOST: Span = Span::from_millis(500);
/// How far position may be from where velocity leads, over [`MEMORY_S`], m, beyond what the velocity's own deviation explains.
const DISAGREEMENT_M: f64 = 0.3;
const MEMORY_S: f64 = 0.5;

/// Follows the odometry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Monitor {
    last: Option<Vehicle>,
    repeats: u32,
    age: Span,
    /// Position minus what velocity makes of it, leaking, m.
    disagreement: Vector3<f64>,
    deviation: Deviation,
    /// Since when the estimator has called something lost, and the newest state.
    lost: Option<(Time, Time)>,
}

/// Standard deviations of the worst axis; zero: not known.
#[derive(Clone, Copy, Debug, Default)]
struct Deviation {
    position_m: f64,
    velocity_m_s: f64,
    attitude_rad: f64,
    heading_rad: f64,
}

impl Deviation {
    fn of(m: &Odometry) -> Self {
        let worst = |covariance: &[f64; 36], axes: std::ops::Range<usize>| {
            axes.map(|i| covariance[7 * i])
                // What is not a variance says that nothing is known.
                .map(|v| if v >= 0.0 && v.is_finite() { v.sqrt() } else { f64::INFINITY })
                .fold(0.0, f64::max)
        };
        Self {
            position_m: worst(&m.pose.covariance, 0..3),
            attitude_rad: worst(&m.pose.covariance, 3..5),
            heading_rad: worst(&m.pose.covariance, 5..6),
            velocity_m_s: worst(&m.twist.covariance, 0..3),
        }
    }
}

impl Deviation {
    /// What nobody can fly on.
    fn lost(&self) -> Option<&'static str> {
        let lost = [
            (self.position_m > POSITION_M.1, "the estimator has lost the position"),
            (self.velocity_m_s > VELOCITY_M_S.1, "the estimator has lost the velocity"),
            (self.attitude_rad > ATTITUDE_RAD.1, "the estimator has lost the attitude"),
            (self.heading_rad > HEADING_RAD.1, "the estimator has lost the heading"),
        ];
        lost.iter().find(|(is, _)| *is).map(|(_, why)| *why)
    }
}

impl Monitor {
    /// Takes a new state.
    pub fn observe(&mut self, now: Time, vehicle: &Vehicle, m: &Odometry) {
        self.age = now - vehicle.stamp;
        self.deviation = Deviation::of(m);
        let since = self.lost.map_or(now, |(since, _)| since);
        self.lost = self.deviation.lost().map(|_| (since, now));
        if let Some(last) = self.last {
            let same = Vehicle { stamp: last.stamp, ..*vehicle } == last;
            self.repeats = if same { self.repeats.saturating_add(1) } else { 0 };
            let dt_s = (vehicle.stamp - last.stamp).seconds();
            if (0.0..1.0).contains(&dt_s) {
                let moved = vehicle.position - last.position;
                let led = 0.5 * (vehicle.velocity + last.velocity) * dt_s;
                self.disagreement = self.disagreement * (-dt_s / MEMORY_S).exp() + moved - led;
            } else {
                self.disagreement = Vector3::zeros();
            }
        }
        self.last = Some(*vehicle);
    }

    /// The vehicle is put elsewhere: that is no disagreement.
    pub fn expect_jump(&mut self) {
        self.last = None;
        self.repeats = 0;
        self.disagreement = Vector3::zeros();
    }

    /// What the newest state is worth.
    pub fn health(&self) -> Health {
        let d = &self.deviation;
        let disagreement_m = DISAGREEMENT_M + MEMORY_S * d.velocity_m_s.min(VELOCITY_M_S.0);
        let hopeless = [
            (self.age > AGE.1, "odometry is too old to fly on"),
            (self.repeats >= REPEATS.1, "odometry is frozen"),
        ];
        let lost = self.lost.filter(|(since, newest)| *newest - *since >= LOST).and_then(|_| d.lost());
        let doubtful = [
            (self.age > AGE.0, "odometry is late"),
            (self.repeats >= REPEATS.0, "odometry repeats itself"),
            (self.disagreement.norm() > disagreement_m, "position does not go where velocity leads"),
            (d.position_m > POSITION_M.0, "the estimator is unsure of the position"),
            (d.velocity_m_s > VELOCITY_M_S.0, "the estimator is unsure of the velocity"),
            (d.attitude_rad > ATTITUDE_RAD.0, "the estimator is unsure of the attitude"),
            (d.heading_rad > HEADING_RAD.0, "the estimator is unsure of the heading"),
        ];
        let worst = |list: &[(bool, &'static str)]| list.iter().find(|(is, _)| *is).map(|(_, why)| *why);
        match (worst(&hopeless).or(lost), worst(&doubtful)) {
            (Some(reason), _) => Health::Unflyable(reason),
            (None, Some(reason)) => Health::Doubtful(reason),
            (None, None) => Health::Sound,
        }
    }
}
