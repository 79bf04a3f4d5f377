//! The node: messages in, odometry and diagnostics out.

use spikewing_msgs::{
    AnyMessage, diagnostic_msgs, geometry_msgs, nav_msgs, sensor_msgs, spikewing_msgs as own,
    std_msgs::Header, std_srvs,
};
use spikewing_runtime::{
    Context, Node, NodeKind, Outbox, Received, Span, Time,
    node::{BuildError, Request, Shutdown, Urgency},
    port::{Input, Interface, Output, Qos, Server},
};

use crate::{
    clock::{StampGuard, Verdict},
    estimate::{Gate, index},
    filter::{Filter, Outcome, Start},
    measurement::{self, Measurement, Unusable},
    output::{entry, odometry},
    settings::{OutputStamp, Settings, declare},
};

/// Inertial sensors.
pub const IMU: Input<sensor_msgs::Imu> = Input::new("imu", Qos::sensor(5));
/// Odometry of the autopilot.
pub const VEHICLE_ODOMETRY: Input<nav_msgs::Odometry> = Input::new("vehicle/odometry", Qos::sensor(5));
/// Motion capture.
pub const MOCAP: Input<geometry_msgs::PoseStamped> = Input::new("mocap/pose", Qos::sensor(5));
/// Who flies.
pub const AUTHORITY: Input<own::Authority> = Input::new("authority", Qos::latched());
/// The estimate.
pub const ODOMETRY: Output<nav_msgs::Odometry> = Output::new("odometry", Qos::sensor(1));
/// Health.
pub const DIAGNOSTICS: Output<diagnostic_msgs::DiagnosticArray> =
    Output::new("/diagnostics", Qos::reliable(10));
/// Forgets everything, biases included.
pub const RESET: Server<std_srvs::Trigger> = Server::new("~/reset");

const CONTROL_TIMER: &str = "control";
const DIAGNOSTICS_TIMER: &str = "diagnostics";
/// An estimator that is asked to stop goes on this long while the vehicle flies on it.
const LONGEST_SHUTDOWN: Span = Span::from_millis(20_000);
const INPUT_GONE_AFTER: Span = Span::from_millis(300);

/// The state estimator's kind.
pub const NODE: NodeKind = NodeKind {
    name: "state_estimator",
    about: "Error-state Kalman filter: fuses IMU, odometry and motion capture into `odometry`.",
    urgency: Urgency::Control,
    declare,
    build,
};

fn build(context: &Context<'_>) -> Result<Box<dyn Node>, BuildError> {
    Ok(Box::new(StateEstimator::new(Settings::from_parameters(context.parameters)?, context.name)))
}

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
    /// Messages that could not be decoded.
    pub malformed: u64,
    /// Times the filter started, the first one included.
    pub starts: u64,
    /// Estimates published without a measurement.
    pub dead_reckoned: u64,
}

impl Counters {
    /// Anything that should not have happened.
    fn complaints(&self) -> u64 {
        self.not_finite
            + self.implausible
            + self.gated.iter().sum::<u64>()
            + self.too_late
            + self.stamps_refused
            + self.malformed
    }
}

/// The state estimator's logic.
#[derive(Debug)]
pub struct StateEstimator {
    settings: Settings,
    name: String,
    filter: Filter,
    guards: [StampGuard; 3],
    counters: Counters,
    reported: Counters,
    /// Stamp of the newest measurement and when it arrived.
    newest: Option<(Time, Time)>,
    newest_imu: Option<(Time, Time)>,
    last_published: Option<Time>,
    last_warning: Option<Time>,
    flying: bool,
    shutdown_since: Option<Time>,
}

impl StateEstimator {
    /// The estimator, not started; `name` appears in diagnostics.
    pub fn new(settings: Settings, name: &str) -> Self {
        Self {
            filter: Filter::new(settings.filter),
            settings,
            name: name.to_owned(),
            guards: [StampGuard::default(); 3],
            counters: Counters::default(),
            reported: Counters::default(),
            newest: None,
            newest_imu: None,
            last_published: None,
            last_warning: None,
            flying: false,
            shutdown_since: None,
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// At most one warning a second, however fast trouble comes in; the counters in `/diagnostics` miss nothing.
    fn warn(&mut self, now: Time, text: std::fmt::Arguments<'_>) {
        if self.last_warning.is_none_or(|last| now - last >= Span::from_millis(1000) || now < last) {
            self.last_warning = Some(now);
            tracing::warn!("{text}");
        }
    }

    fn unusable(&mut self, now: Time, topic: &str, reason: Unusable) {
        match reason {
            Unusable::NotFinite => self.counters.not_finite += 1,
            Unusable::Implausible => self.counters.implausible += 1,
        }
        self.warn(now, format_args!("{topic}: a value is {reason}; it is not used. Check its publisher."));
    }

    /// Whether a message with this stamp may be used.
    fn in_time(&mut self, now: Time, stream: usize, topic: &str, stamp: Time) -> bool {
        let verdict = self.guards.get_mut(stream).map_or(Verdict::Refused, |guard| guard.judge(stamp, now));
        match verdict {
            Verdict::Continues => true,
            Verdict::Refused => {
                self.counters.stamps_refused += 1;
                self.warn(
                    now,
                    format_args!("{topic}: its stamp does not fit the one before; the message is not used."),
                );
                false
            }
            Verdict::NewEpoch => {
                tracing::info!("{topic}: stamps go on at another time; the filter starts over");
                self.forget();
                true
            }
        }
    }

    fn forget(&mut self) {
        self.filter.reset();
        self.newest = None;
        self.newest_imu = None;
        self.last_published = None;
    }

    fn on_imu(&mut self, now: Time, message: &sensor_msgs::Imu) {
        match measurement::imu(message) {
            Err(reason) => self.unusable(now, IMU.name, reason),
            Ok(sample) => {
                if !self.in_time(now, 0, IMU.name, sample.stamp) {
                    return;
                }
                if self.newest_imu.is_none_or(|(stamp, _)| sample.stamp > stamp) {
                    self.newest_imu = Some((sample.stamp, now));
                }
                if self.filter.imu(sample) {
                    self.counters.imu_samples += 1;
                }
            }
        }
    }

    fn on_odometry(&mut self, now: Time, message: &nav_msgs::Odometry, out: &mut Outbox) {
        match Measurement::from_odometry(message, &self.settings.odometry, self.settings.covariance_from) {
            Err(reason) => self.unusable(now, VEHICLE_ODOMETRY.name, reason),
            Ok((measurement, left_out)) => {
                if let Some(reason) = left_out {
                    self.unusable(now, VEHICLE_ODOMETRY.name, reason);
                }
                if self.in_time(now, 1, VEHICLE_ODOMETRY.name, measurement.stamp) {
                    self.on_measurement(now, &measurement, out);
                }
            }
        }
    }

    fn on_mocap(&mut self, now: Time, message: &geometry_msgs::PoseStamped, out: &mut Outbox) {
        match Measurement::from_pose(message, &self.settings.mocap) {
            Err(reason) => self.unusable(now, MOCAP.name, reason),
            Ok(measurement) => {
                if self.in_time(now, 2, MOCAP.name, measurement.stamp) {
                    self.on_measurement(now, &measurement, out);
                }
            }
        }
    }

    fn on_measurement(&mut self, now: Time, measurement: &Measurement, out: &mut Outbox) {
        match self.filter.measurement(measurement) {
            Outcome::TooLate => {
                self.counters.too_late += 1;
                self.warn(now, format_args!("a measurement came later than `history_s`; it is not used"));
                return;
            }
            Outcome::Started(why) => {
                self.counters.measurements += 1;
                self.counters.starts += 1;
                if why != Start::First {
                    tracing::debug!(?why, "the filter started over");
                }
            }
            Outcome::Used(gates) => {
                self.counters.measurements += 1;
                for (count, gate) in
                    self.counters.gated.iter_mut().zip([gates.position, gates.orientation, gates.velocity])
                {
                    *count += u64::from(gate == Some(Gate::Rejected));
                }
                if gates.rejected() > 0 {
                    self.warn(
                        now,
                        format_args!("a measurement contradicts the estimate ({gates:?}) and was gated"),
                    );
                }
            }
        }
        if self.newest.is_none_or(|(stamp, _)| measurement.stamp >= stamp) {
            self.newest = Some((measurement.stamp, now));
        }
        let stamp = match (self.settings.output_stamp, self.filter.latest()) {
            (OutputStamp::Latest, Some(latest)) => measurement.stamp.max(latest.stamp),
            _ => measurement.stamp,
        };
        self.publish(now, stamp, out);
    }

    /// Publishes the estimate of that time, unless one as new was published.
    fn publish(&mut self, now: Time, stamp: Time, out: &mut Outbox) -> bool {
        if self.last_published.is_some_and(|last| stamp <= last) {
            return false;
        }
        let Some(estimate) = self.filter.at(stamp) else { return false };
        if !estimate.is_finite() {
            self.warn(now, format_args!("the estimate is not finite; the filter starts over"));
            self.forget();
            return false;
        }
        self.last_published = Some(stamp);
        out.publish(&ODOMETRY, odometry(&estimate));
        true
    }

    /// Carries the estimate on while no measurement comes.
    fn dead_reckon(&mut self, now: Time, out: &mut Outbox) {
        let Some((stamp, arrival)) = self.newest else { return };
        let silence = now - arrival;
        let late = silence.nanoseconds() * 2 > self.settings.control_period.nanoseconds() * 3;
        if late
            && silence <= self.settings.filter.max_dead_reckoning
            && self.publish(now, stamp + silence, out)
        {
            self.counters.dead_reckoned += 1;
        }
    }

    fn health(&self, now: Time) -> (u8, String) {
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

    fn diagnose(&mut self, now: Time, out: &mut Outbox) {
        let (level, message) = self.health(now);
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
            entry("filter starts", c.starts),
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

impl Node for StateEstimator {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&IMU)
            .input(&VEHICLE_ODOMETRY)
            .input(&MOCAP)
            .input(&AUTHORITY)
            .output(&ODOMETRY)
            .output(&DIAGNOSTICS)
            .server(&RESET)
            .timer(CONTROL_TIMER, self.settings.control_period)
            .timer(DIAGNOSTICS_TIMER, Span::from_millis(1000))
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(message) = message.on(&IMU) {
            self.on_imu(now, message);
        } else if let Some(message) = message.on(&VEHICLE_ODOMETRY) {
            self.on_odometry(now, message, out);
        } else if let Some(message) = message.on(&MOCAP) {
            self.on_mocap(now, message, out);
        } else if let Some(authority) = message.on(&AUTHORITY) {
            self.flying = !matches!(authority.state, own::Authority::DISARMED | own::Authority::ARMING);
        }
    }

    fn on_timer(&mut self, now: Time, timer: &'static str, out: &mut Outbox) {
        match timer {
            CONTROL_TIMER => self.dead_reckon(now, out),
            DIAGNOSTICS_TIMER => self.diagnose(now, out),
            _ => {}
        }
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, _out: &mut Outbox) -> Option<AnyMessage> {
        request.on(&RESET)?;
        self.forget();
        tracing::debug!("reset: the filter starts over from the next measurement");
        let response = std_srvs::Trigger_Response {
            success: true,
            message: "the filter starts over from the next measurement".to_owned(),
        };
        Some(AnyMessage::from(response))
    }

    fn on_malformed(&mut self, now: Time, topic: &str, reason: &str, _out: &mut Outbox) {
        self.counters.malformed += 1;
        self.warn(
            now,
            format_args!("{topic}: cannot be decoded ({reason}); is its publisher of the same release?"),
        );
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let fed = self.newest.is_some_and(|(_, arrival)| now - arrival < INPUT_GONE_AFTER);
        if self.flying && fed && now - since < LONGEST_SHUTDOWN { Shutdown::Wait } else { Shutdown::Done }
    }
}
