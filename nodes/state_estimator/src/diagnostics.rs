//! What the node tells of itself in `/diagnostics`.

use spikewing_msgs::{diagnostic_msgs, std_msgs::Header};
use spikewing_runtime::{Outbox, Time};

use crate::{
    estimate::index,
    node::{DIAGNOSTICS, StateEstimator},
    output::entry,
};

/// What happened since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Measurements used, at least in part.
    pub measurements: u64,
    /// IMU samples used.
    pub imu_samples: u64,
    /// Messages or parts of messages with a number that is not finite.
    pub not_finite: u64,
    /// The same, not plausible.
    pub implausible: u64,
    /// Blocks kept out by a gate: position, orientation, velocity.
    pub gated: [u64; 3],
    /// Messages too late to be used.
    pub too_late: u64,
    /// Messages whose stamp did not fit the clock.
    pub stamps_refused: u64,
    /// Odometry that was frozen.
    pub frozen: u64,
    /// Times a clock was set.
    pub epochs: u64,
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Times the filter started, the first one included.
    pub starts: u64,
    /// Estimates published without a measurement.
    pub dead_reckoned: u64,
}

impl Counters {
    /// Anything that should not have happened.
    pub(crate) fn complaints(&self) -> u64 {
        self.not_finite
            + self.implausible
            + self.gated.iter().sum::<u64>()
            + self.too_late
            + self.stamps_refused
            + self.malformed
            + self.frozen
            + self.epochs
    }
}

impl StateEstimator {
    fn judge(&self, now: Time) -> (u8, String) {
        use diagnostic_msgs::DiagnosticStatus as Status;
        let Some((_, arrival)) = self.newest else {
            return (
                Status::STALE,
                "no measurement yet: waiting for vehicle/odometry or mocap/pose".to_owned(),
            );
        };
        let silence = (now - arrival).seconds();
        if now - arrival > self.settings.filter.max_dead_reckoning {
            return (Status::ERROR, format!("no measurement for {silence:.1} s: odometry stopped"));
        }
        if self.health.doubt().iter().any(|doubt| *doubt > 0.0) && self.settings.filter.jump_m.is_none() {
            let [position, velocity] = self.health.doubt();
            let text = format!(
                "odometry contradicts itself by {position:.2} m or the inertial sensors by {velocity:.2} m/s: covariances are widened"
            );
            return (Status::ERROR, text);
        }
        let lag = self.timing.lag().seconds();
        if lag > 0.0 {
            let text =
                format!("odometry is {lag:.2} s later than it is stamped; it is used where it belongs");
            return (Status::WARN, text);
        }
        let complaints = self.counters.complaints() - self.reported.complaints();
        let dead_reckoned = self.counters.dead_reckoned - self.reported.dead_reckoned;
        if complaints > 0 {
            (Status::WARN, format!("{complaints} messages or parts of them not used in the last second"))
        } else if dead_reckoned > 0 {
            (Status::WARN, format!("{dead_reckoned} estimates by dead reckoning in the last second"))
        } else {
            (Status::OK, "tracking".to_owned())
        }
    }

    pub(crate) fn diagnose(&mut self, now: Time, out: &mut Outbox) {
        let (level, message) = self.judge(now);
        let c = &self.counters;
        let age = |at: Option<(Time, Time)>| match at {
            Some((_, arrival)) => format!("{:.3}", (now - arrival).seconds()),
            None => "never".to_owned(),
        };
        let mut values = vec![
            entry("measurements used", c.measurements),
            entry("measurements in the last second", c.measurements - self.reported.measurements),
            entry("age of the last measurement [s]", age(self.newest)),
            entry("imu samples used", c.imu_samples),
            entry("imu samples in the last second", c.imu_samples - self.reported.imu_samples),
            entry("age of the last imu sample [s]", age(self.newest_imu)),
            entry("not finite", c.not_finite),
            entry("implausible", c.implausible),
            entry("malformed", c.malformed),
            entry("gated positions", c.gated[0]),
            entry("gated orientations", c.gated[1]),
            entry("gated velocities", c.gated[2]),
            entry("too late", c.too_late),
            entry("stamps refused", c.stamps_refused),
            entry("frozen", c.frozen),
            entry("clocks set", c.epochs),
            entry("filter starts", c.starts),
            entry("odometry later than stamped [s]", format!("{:.2}", self.timing.lag().seconds())),
            entry(
                "white share of position, orientation, velocity",
                format!(
                    "{:.2} {:.2} {:.2}",
                    self.white[0].share(),
                    self.white[1].share(),
                    self.white[2].share()
                ),
            ),
            entry("doubt of position [m]", format!("{:.2}", self.health.doubt()[0])),
            entry("doubt of velocity [m/s]", format!("{:.2}", self.health.doubt()[1])),
            entry("dead reckoned", c.dead_reckoned),
        ];
        if let Some(e) = self.filter.latest() {
            let std = |at: usize| (0..3).map(|i| e.covariance[(at + i, at + i)]).sum::<f64>().max(0.0).sqrt();
            let triple = |v: &nalgebra::Vector3<f64>| format!("{:.4} {:.4} {:.4}", v.x, v.y, v.z);
            values.extend([
                entry("accelerometer bias [m/s²]", triple(&e.accel_bias)),
                entry("gyroscope bias [rad/s]", triple(&e.gyro_bias)),
                entry("position std [m]", format!("{:.4}", std(index::POSITION))),
                entry("velocity std [m/s]", format!("{:.4}", std(index::VELOCITY))),
                entry("orientation std [rad]", format!("{:.4}", std(index::ORIENTATION))),
            ]);
        }
        self.reported = self.counters;
        let status = diagnostic_msgs::DiagnosticStatus {
            level,
            name: format!("{}: estimate", self.name),
            message,
            hardware_id: String::new(),
            values,
        };
        out.publish(
            &DIAGNOSTICS,
            diagnostic_msgs::DiagnosticArray { header: Header::new(now.to_msg(), ""), status: vec![status] },
        );
    }
}
