//! Landing: down to the ground, and knowing when that is reached.
//!
//! No single sign is believed. PX4's land detector takes a calm hover for landed when it does not see the throttle, frozen
//! odometry looks like standing still, and EKF2's velocity on the ground is never quite zero. The signs come from four
//! sources; three must agree for half a second, and high above the starting ground all that can be had.

use nalgebra::Vector3;
use spikewing_msgs::sensor_msgs;
use spikewing_runtime::{Span, Time};

use crate::envelope::Vehicle;

/// The signs must agree for so long.
const AGREE: Span = Span::from_millis(500);
/// The setpoint runs ahead of the sinking vehicle by no more than this, m.
const AHEAD_M: f64 = 0.5;
/// The vehicle no longer follows when the setpoint is so far below it, m,
const BELOW_M: f64 = 0.2;
/// … it does not move faster than this, m/s (EKF2 on the ground shows up to 0.15),
const STUCK_M_S: f64 = 0.15;
/// … and has lost less than this in the time below, m.
const STUCK_M: f64 = 0.04;
const STUCK: Span = Span::from_millis(500);
/// Thrust is low when the mean motor command is this much below that of hovering.
const LOW_THRUST: f64 = 0.1;
/// Above the ground where it was armed by more than this, all signs must agree, m.
const HIGH_M: f64 = 1.0;
/// Faster down than this is no standing, m/s.
const FALLING_M_S: f64 = 0.7;

const GRAVITY_M_S2: f64 = 9.81;
/// Specific force of something that rests differs from gravity by less than this, m/s²,
const REST_M_S2: f64 = 0.8;
/// … and it turns more slowly than this, rad/s.
const REST_RAD_S: f64 = 0.35;
/// Less specific force than this is a fall, m/s².
const FALL_M_S2: f64 = 4.0;
const IMU_MEMORY_S: f64 = 0.1;
const IMU_FRESH: Span = Span::from_millis(200);
const REST: Span = Span::from_millis(300);

/// A landing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Descent {
    /// The guide follows a setpoint that sinks.
    Sinking {
        from: Vector3<f64>,
        since: Time,
        /// Height and time from which on it has not sunk any more.
        stuck: Option<(f64, Time)>,
        /// Since when enough signs agree.
        agreed: Option<Time>,
    },
    /// On the ground, motors idle.
    Down { since: Time },
}

impl Descent {
    pub fn from(now: Time, at: Vector3<f64>) -> Self {
        Self::Sinking { from: at, since: now, stuck: None, agreed: None }
    }
}

/// What each source says; `None`: it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// The autopilot's land detector.
    pub detector: Option<bool>,
    /// Odometry: it does not follow the setpoint down.
    pub stuck: Option<bool>,
    /// IMU: it rests.
    pub rests: Option<bool>,
    /// The guide has taken thrust away that hovering would need.
    pub low_thrust: Option<bool>,
}

impl Signs {
    /// Whether they are enough, `high` above the ground where the vehicle started or not.
    pub fn agree(&self, high: bool) -> bool {
        let all = [self.detector, self.stuck, self.rests, self.low_thrust];
        let count = |wanted| all.iter().filter(|s| **s == Some(wanted)).count();
        count(true) >= 3 && !(high && count(false) > 0)
    }

    /// Those that speak for the ground.
    pub fn words(&self) -> String {
        let all = [
            (self.detector, "land detector"),
            (self.stuck, "height"),
            (self.rests, "IMU"),
            (self.low_thrust, "thrust"),
        ];
        let names: Vec<&str> = all.iter().filter(|(s, _)| *s == Some(true)).map(|(_, n)| *n).collect();
        names.join(", ")
    }
}

/// Goes on with a sinking at a speed (m/s); the setpoint, and whether the vehicle no longer follows it.
pub(crate) fn sink(
    now: Time,
    vehicle: &Vehicle,
    speed_m_s: f64,
    from: &Vector3<f64>,
    since: Time,
    stuck: &mut Option<(f64, Time)>,
) -> (Vector3<f64>, bool) {
    let z = vehicle.position.z;
    let target = (from.z - speed_m_s * (now - since).seconds()).max(z - AHEAD_M);
    let still = z - target > BELOW_M && vehicle.velocity.z.abs() < STUCK_M_S;
    *stuck = match *stuck {
        _ if !still => None,
        Some((height, at)) if (z - height).abs() < STUCK_M => Some((height, at)),
        _ => Some((z, now)),
    };
    (Vector3::new(from.x, from.y, target), stuck.is_some_and(|(_, at)| now - at >= STUCK))
}

/// Whether signs have agreed for long enough.
pub(crate) fn agreed(now: Time, signs: &Signs, high: bool, since: &mut Option<Time>) -> bool {
    *since = if signs.agree(high) { since.or(Some(now)) } else { None };
    since.is_some_and(|at| now - at >= AGREE)
}

/// Whether a height is far above the ground where the vehicle started.
pub(crate) fn is_high(vehicle: &Vehicle, ground_z_m: Option<f64>) -> bool {
    ground_z_m.is_some_and(|ground| vehicle.position.z - ground > HIGH_M)
}

/// Whether a vehicle that was taken for standing falls.
pub(crate) fn falls(now: Time, vehicle: &Vehicle, imu: &Imu) -> bool {
    vehicle.velocity.z < -FALLING_M_S || imu.falls(now)
}

/// The mean motor command with which the vehicle hovers, learned in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HoverThrust(Option<f64>);

impl HoverThrust {
    /// Commands of a vehicle that neither climbs nor sinks much.
    pub fn learn(&mut self, vehicle: &Vehicle, motors: &[f32; 4]) {
        let mean = mean(motors);
        let level = (vehicle.orientation * Vector3::z()).z > 0.95;
        if level && vehicle.velocity.z.abs() < 0.3 {
            let known = self.0.unwrap_or(mean);
            self.0 = Some(known + 0.01 * (mean - known));
        }
    }

    /// Whether a command is well below that; `None` when nothing was learned.
    pub fn exceeds(&self, motors: &[f32; 4]) -> Option<bool> {
        self.0.map(|hover| hover - mean(motors) >= LOW_THRUST)
    }
}

fn mean(motors: &[f32; 4]) -> f64 {
    motors.iter().map(|m| f64::from(*m)).sum::<f64>() / 4.0
}

/// The inertial sensors, smoothed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imu {
    force: Vector3<f64>,
    rates: Vector3<f64>,
    last: Option<Time>,
    rests_since: Option<Time>,
}

impl Imu {
    /// Takes a sample; what is not finite is none.
    pub fn observe(&mut self, now: Time, m: &sensor_msgs::Imu) {
        let (f, w) = (&m.linear_acceleration, &m.angular_velocity);
        let (force, rates) = (Vector3::new(f.x, f.y, f.z), Vector3::new(w.x, w.y, w.z));
        if !(force.norm().is_finite() && rates.norm().is_finite()) {
            return;
        }
        let share = match self.last {
            Some(last) if now - last <= IMU_FRESH && now >= last => {
                1.0 - (-(now - last).seconds() / IMU_MEMORY_S).exp()
            }
            _ => {
                self.rests_since = None;
                1.0
            }
        };
        self.force += share * (force - self.force);
        self.rates += share * (rates - self.rates);
        self.last = Some(now);
        let rests = (self.force.norm() - GRAVITY_M_S2).abs() < REST_M_S2 && self.rates.norm() < REST_RAD_S;
        self.rests_since = if rests { self.rests_since.or(Some(now)) } else { None };
    }

    fn fresh(&self, now: Time) -> bool {
        self.last.is_some_and(|at| (Span::ZERO..=IMU_FRESH).contains(&(now - at)))
    }

    /// Whether the vehicle has rested for a while; `None` when nothing is heard. A steady hover rests, too.
    pub fn rests(&self, now: Time) -> Option<bool> {
        self.fresh(now).then(|| self.rests_since.is_some_and(|at| now - at >= REST))
    }

    /// Whether nothing carries the vehicle.
    pub fn falls(&self, now: Time) -> bool {
        self.fresh(now) && self.force.norm() < FALL_M_S2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_signs_are_needed_and_high_up_nobody_may_object() {
        let say = |d, s, r, t| Signs { detector: d, stuck: s, rests: r, low_thrust: t };
        let (yes, no) = (Some(true), Some(false));
        assert!(!say(yes, None, None, None).agree(false), "the land detector alone");
        assert!(!say(no, yes, yes, no).agree(false), "a calm hover with frozen odometry");
        assert!(!say(yes, no, yes, no).agree(false), "a calm hover that PX4 takes for landed");
        assert!(say(no, yes, yes, yes).agree(false), "a land detector that never fires");
        assert!(!say(no, yes, yes, yes).agree(true));
        assert!(say(yes, yes, None, yes).agree(true), "without an IMU");
    }

    #[test]
    fn the_imu_tells_rest_from_fall() {
        let mut imu = Imu::default();
        let mut m = sensor_msgs::Imu::default();
        m.linear_acceleration.z = 9.81;
        let at = |ms: i64| Time::ZERO + Span::from_millis(ms);
        assert_eq!(imu.rests(at(0)), None);
        for k in 0..100 {
            imu.observe(at(4 * k), &m);
        }
        assert_eq!(imu.rests(at(400)), Some(true));
        m.linear_acceleration.z = 0.5;
        for k in 100..150 {
            imu.observe(at(4 * k), &m);
        }
        assert_eq!((imu.rests(at(600)), imu.falls(at(600))), (Some(false), true));
        assert_eq!((imu.rests(at(2000)), imu.falls(at(2000))), (None, false), "nothing is heard any more");
    }
}
