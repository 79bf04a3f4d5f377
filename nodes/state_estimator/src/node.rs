//! The node: messages in, odometry and diagnostics out.

use nalgebra::{Matrix3, Vector3};
use spikewing_msgs::{
    AnyMessage, diagnostic_msgs, geometry_msgs, nav_msgs, sensor_msgs, spikewing_msgs as own, std_srvs,
};
use spikewing_runtime::{
    Context, Node, NodeKind, Outbox, Received, Span, Time,
    node::{BuildError, Request, Shutdown, Urgency},
    port::{Input, Interface, Output, Qos, Server},
};

use crate::{
    clock::{StampGuard, Verdict},
    diagnostics::Counters,
    estimate::{GRAVITY, Gate},
    filter::{Filter, Gates, Outcome, Start},
    health::Health,
    measurement::{self, CovarianceFrom, Measurement, Unusable},
    output::{Beyond, odometry},
    settings::{OutputStamp, Settings, declare},
    timing::Timing,
    whiteness::Whiteness,
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
/// No sample of a filter's output is believed to be better: position (m), orientation (rad), velocity (m/s).
const FLOORS: [f64; 3] = [0.002, 0.002, 0.01];
/// Share of a claimed covariance by which a sample may be off what is new in it before it is gated: a filter corrects itself in steps.
const GATED_SHARE: f64 = 0.06;
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

/// The state estimator's logic.
#[derive(Debug)]
pub struct StateEstimator {
    pub(crate) settings: Settings,
    pub(crate) name: String,
    pub(crate) filter: Filter,
    guards: [StampGuard; 3],
    /// Of the odometry's position, orientation and velocity.
    pub(crate) white: [Whiteness; 3],
    pub(crate) timing: Timing,
    pub(crate) health: Health,
    /// What the odometry's errors have in common.
    common: [Matrix3<f64>; 3],
    newest_odometry: Option<Time>,
    pub(crate) counters: Counters,
    pub(crate) reported: Counters,
    /// Stamp of the newest measurement and when it arrived.
    pub(crate) newest: Option<(Time, Time)>,
    pub(crate) newest_imu: Option<(Time, Time)>,
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
            white: FLOORS.map(Whiteness::new),
            timing: Timing::default(),
            health: Health::default(),
            common: [Matrix3::zeros(); 3],
            newest_odometry: None,
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
                tracing::warn!(
                    "{topic}: stamps go on at another time (a clock was set); the filter starts over"
                );
                self.counters.epochs += 1;
                self.filter.restart();
                self.interrupt();
                // The other streams follow, or go on: either is their first stamp of the new time.
                for (i, guard) in self.guards.iter_mut().enumerate() {
                    if i != stream {
                        *guard = StampGuard::default();
                    }
                }
                true
            }
        }
    }

    fn forget(&mut self) {
        self.filter.reset();
        self.white = FLOORS.map(Whiteness::new);
        self.interrupt();
    }

    /// What comes next does not follow what came.
    fn interrupt(&mut self) {
        self.newest = None;
        self.newest_imu = None;
        self.newest_odometry = None;
        self.last_published = None;
        self.timing.reset();
        self.health.reset();
        self.white.iter_mut().for_each(Whiteness::interrupt);
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
                self.timing.gyro(sample.stamp, sample.rates);
                if let Some(estimate) = self.filter.latest() {
                    let force = estimate.orientation * (sample.acceleration - estimate.accel_bias);
                    let acceleration = force - Vector3::new(0.0, 0.0, GRAVITY);
                    self.health.imu(sample.stamp, &acceleration, sample.acceleration);
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
                    self.on_vehicle(now, measurement, out);
                }
            }
        }
    }

    /// Odometry with a sound stamp: held against the inertial sensors, put where it belongs, weighed.
    fn on_vehicle(&mut self, now: Time, mut measurement: Measurement, out: &mut Outbox) {
        if self.newest_odometry.is_none_or(|newest| measurement.stamp > newest) {
            self.newest_odometry = Some(measurement.stamp);
            if self.health.odometry(&measurement, self.settings.covariance_from) {
                self.counters.frozen += 1;
                self.warn(
                    now,
                    format_args!("vehicle/odometry is frozen (only its stamps advance); it is not used"),
                );
                return;
            }
            let bias = self.filter.latest().map(|estimate| estimate.gyro_bias).unwrap_or_default();
            if let Some((rates, _)) = &measurement.rates
                && self.timing.odometry(measurement.stamp, rates, &bias)
            {
                self.white.iter_mut().for_each(Whiteness::interrupt);
                let lag = self.timing.lag().seconds();
                self.warn(
                    now,
                    format_args!(
                        "vehicle/odometry is {lag:.2} s later than it is stamped; it is used where it belongs"
                    ),
                );
            }
        }
        measurement.stamp = measurement.stamp - self.timing.lag();
        let claimed = measurement.covariances();
        if self.settings.covariance_from == CovarianceFrom::Message {
            let [position, orientation, velocity] = &self.white;
            let split =
                [position.split(&claimed[0]), orientation.split(&claimed[1]), velocity.split(&claimed[2])];
            let mut white = split.map(|(white, _)| white);
            // Only a filter's output errs for so long; noise that is new in each sample averages out.
            if self.white[0].share() < 1.0 {
                white[2] += Matrix3::identity() * self.health.velocity_variance(&claimed[2]);
            }
            measurement.set_covariances(&white);
            measurement.allow(&claimed.map(|c| c * GATED_SHARE));
            self.common = split.map(|(_, common)| common);
        }
        if let Some(gates) = self.on_measurement(now, &measurement, out)
            && self.settings.covariance_from == CovarianceFrom::Message
        {
            for ((white, innovation), claimed) in self.white.iter_mut().zip(&gates.innovations).zip(&claimed)
            {
                white.learn(innovation, claimed);
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

    /// Returns what the gates said, where the measurement was used.
    fn on_measurement(&mut self, now: Time, measurement: &Measurement, out: &mut Outbox) -> Option<Gates> {
        let mut used = None;
        match self.filter.measurement(measurement) {
            Outcome::TooLate => {
                self.counters.too_late += 1;
                self.warn(now, format_args!("a measurement came later than `history_s`; it is not used"));
                return None;
            }
            Outcome::Started(why) => {
                self.counters.measurements += 1;
                self.counters.starts += 1;
                self.white.iter_mut().for_each(Whiteness::interrupt);
                if why == Start::Jump {
                    self.health.reset();
                }
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
                        format_args!("{} contradicts the estimate and was gated", gates.rejected_names()),
                    );
                }
                used = Some(gates);
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
        used
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
        // Where vehicles are put back, comparing with what was before tells nothing.
        let doubt = if self.settings.filter.jump_m.is_some() { [0.0; 2] } else { self.health.doubt() };
        out.publish(&ODOMETRY, odometry(&estimate, &Beyond { common: self.common, doubt }));
        true
    }

    /// Carries the estimate on while no measurement comes.
    fn dead_reckon(&mut self, now: Time, out: &mut Outbox) {
        let Some((stamp, arrival)) = self.newest else { return };
        let silence = now - arrival;
        // PX4 leaves out each fifth of its samples: less is no silence.
        let late = silence.nanoseconds() * 2 > self.settings.control_period.nanoseconds() * 5;
        let lag = self.timing.lag();
        if late
            && silence <= self.settings.filter.max_dead_reckoning
            && self.publish(now, stamp + silence + lag, out)
        {
            self.counters.dead_reckoned += 1;
        }
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
