//! What arrives, kept with the time of its arrival: odometry, the policies' commands, the autopilot's status, the IMU,
//! and what other supervisors say. What cannot be right is refused here, with the reason; [`Inputs::situation`] judges
//! the rest.

use spikewing_msgs::{builtin_interfaces, nav_msgs::Odometry, sensor_msgs, spikewing_msgs as sw};
use spikewing_runtime::{
    Span, Time,
    instance::{Admission, Sole},
};

use crate::{
    envelope::Vehicle,
    health::Monitor,
    situation::{Autopilot, Situation},
    touchdown::Imu,
};

/// A policy that has not been heard for so many periods is not waited for.
const ABSENT_PERIODS: i64 = 5;
/// Without odometry for so many periods nothing is commanded.
const BLIND_PERIODS: i64 = 10;
/// The bridge passes on each status of the autopilot, which sends two a second; without one for so long it is gone.
const STATUS_TIMEOUT: Span = Span::from_millis(1200);
/// So long ago an autopilot that was heard is not yet gone when the bridge says so.
const DOUBTED: Span = Span::from_millis(700);
/// The bridge speaks ten times a second. Silent for longer it may not pass commands on.
const BRIDGE_SILENT: Span = Span::from_millis(150);
/// Stamps may lie ahead of the node's clock by so much: a simulated clock comes in steps.
const AHEAD: Span = Span::from_millis(50);
/// A policy's process that was silent for so long may be succeeded by another.
const SILENCE: Span = Span::from_millis(300);
/// Another supervisor that was not heard for so long is gone; they speak twice a second.
const RIVAL_SILENCE: Span = Span::from_millis(1200);

/// The last command of a policy.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub command: sw::MotorCommand,
    /// Of the odometry that it answers.
    pub stamp: Time,
    pub received: Time,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Guide,
    Student,
}

/// A policy as it is heard.
#[derive(Clone, Debug)]
struct Policy {
    sole: Sole,
    offer: Option<Offer>,
}

/// All that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    period: Span,
    vehicle: Option<Vehicle>,
    /// The state that preceded it.
    before: Option<Vehicle>,
    received: Option<Time>,
    /// Between the stamps of the last two odometry messages.
    gap: Span,
    monitor: Monitor,
    guide: Policy,
    student: Policy,
    status: Option<(sw::VehicleStatus, Time)>,
    /// When the bridge was last heard, whatever it said.
    bridge: Option<Time>,
    rival: Option<(u64, Time)>,
    imu: Imu,
    student_enabled: bool,
}

/// Whether `at` is at most `span` ago; a clock that was set back makes everything old.
fn within(now: Time, at: Time, span: Span) -> bool {
    (Span::ZERO..=span).contains(&(now - at))
}

impl Inputs {
    pub fn new(period: Span, student_enabled: bool) -> Self {
        let policy = Policy { sole: Sole::new(SILENCE), offer: None };
        Self {
            period,
            vehicle: None,
            before: None,
            received: None,
            gap: period,
            monitor: Monitor::default(),
            guide: policy.clone(),
            student: policy,
            status: None,
            bridge: None,
            rival: None,
            imu: Imu::default(),
            student_enabled,
        }
    }

    pub fn enable_student(&mut self, enabled: bool) {
        self.student_enabled = enabled;
    }

    /// New odometry.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn on_odometry(&mut self, now: Time, m: &Odometry) -> Result<Vehicle, &'static str> {
        let vehicle = Vehicle::from_msg(m).ok_or("a number is not finite or the quaternion is none")?;
        if vehicle.stamp - now > AHEAD {
            return Err("its stamp lies in the future; are the machines' clocks in step?");
        }
        if let Some(last) = self.vehicle {
            if vehicle.stamp <= last.stamp && self.odometry_fresh(now) {
                return Err("older than the last one");
            }
            self.gap = vehicle.stamp - last.stamp;
        }
        self.monitor.observe(now, &vehicle, m);
        self.before = self.vehicle.replace(vehicle);
        self.received = Some(now);
        Ok(vehicle)
    }

    /// A policy's command.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn on_offer(&mut self, now: Time, m: &sw::MotorCommand, from: From) -> Result<(), &'static str> {
        if m.motors.iter().any(|v| !v.is_finite() || v.abs() > 1.0) || !m.warmth.is_finite() {
            return Err("a motor command is not within [-1, 1]");
        }
        let stamp = Time::from(&m.odometry_stamp);
        if stamp - now > AHEAD {
            return Err("it answers odometry of the future");
        }
        let (policy, source) = match from {
            From::Guide => (&mut self.guide, sw::MotorCommand::SOURCE_GUIDE),
            From::Student => (&mut self.student, sw::MotorCommand::SOURCE_STUDENT),
        };
        match policy.sole.admit(now, m.instance) {
            Admission::Refused(_) => {
                return Err("a second process of that name publishes, too; stop one of them");
            }
            Admission::Successor => tracing::info!(?from, "another process has taken its place"),
            Admission::Known => {}
        }
        let command = sw::MotorCommand { source, ..m.clone() };
        policy.offer = Some(Offer { command, stamp, received: now });
        Ok(())
    }

    /// The bridge speaks. One that was just started does not know yet whether the autopilot is there: what was known a
    /// moment before outlives its first words.
    pub fn on_status(&mut self, now: Time, m: &sw::VehicleStatus) {
        self.bridge = Some(now);
        let known = self.status.as_ref().is_some_and(|(s, at)| s.connected && within(now, *at, DOUBTED));
        if !m.connected && known {
            return;
        }
        self.status = Some((m.clone(), now));
    }

    pub fn on_imu(&mut self, now: Time, m: &sensor_msgs::Imu) {
        self.imu.observe(now, m);
    }

    /// Another process says who flies.
    pub fn on_rival(&mut self, now: Time, instance: u64) {
        self.rival = Some((instance, now));
    }

    /// The other supervisor, if there is one.
    pub fn rival(&self, now: Time) -> Option<u64> {
        self.rival.filter(|(_, at)| within(now, *at, RIVAL_SILENCE)).map(|(instance, _)| instance)
    }

    /// The vehicle is about to be elsewhere, by a simulator's doing.
    pub fn expect_jump(&mut self) {
        self.monitor.expect_jump();
    }

    pub fn vehicle(&self) -> Option<&Vehicle> {
        self.vehicle.as_ref()
    }

    /// The state before the present one.
    pub fn before(&self) -> Option<&Vehicle> {
        self.before.as_ref()
    }

    pub fn imu(&self) -> &Imu {
        &self.imu
    }

    pub fn offer(&self, from: From) -> Option<&Offer> {
        match from {
            From::Guide => self.guide.offer.as_ref(),
            From::Student => self.student.offer.as_ref(),
        }
    }

    /// The guide's answer to that state, if it is fresh.
    pub fn advice(&self, now: Time, vehicle: &Vehicle) -> Option<&Offer> {
        self.offer(From::Guide).filter(|g| g.stamp == vehicle.stamp && self.fresh(now, g))
    }

    /// When the present odometry arrived.
    pub fn received(&self) -> Option<Time> {
        self.received
    }

    pub fn odometry_fresh(&self, now: Time) -> bool {
        self.received.is_some_and(|at| within(now, at, self.period * BLIND_PERIODS))
    }

    /// Whether commands reach the vehicle, as far as is known: what it does is then the doing of who commands.
    pub fn obeyed(&self, now: Time) -> bool {
        self.bridge.is_some_and(|at| within(now, at, BRIDGE_SILENT))
    }

    /// The autopilot's word, while it holds.
    pub fn status(&self, now: Time) -> Option<&sw::VehicleStatus> {
        let (status, at) = self.status.as_ref()?;
        (status.connected && within(now, *at, STATUS_TIMEOUT)).then_some(status)
    }

    /// When the autopilot itself was last heard to be armed and in offboard mode, for a bridge that is started anew; zero: it
    /// was not. The bridge judges how old it may be.
    pub fn vouched(&self) -> builtin_interfaces::Time {
        let ours = |s: &&sw::VehicleStatus| s.armed && s.mode == sw::VehicleStatus::MODE_OFFBOARD;
        self.last_status().filter(ours).map(|s| s.autopilot_stamp.clone()).unwrap_or_default()
    }

    /// The autopilot's last word, whether it still holds or not.
    pub fn last_status(&self) -> Option<&sw::VehicleStatus> {
        self.status.as_ref().map(|(status, _)| status)
    }

    /// The autopilot thinks that it stands on the ground.
    pub fn landed(&self, now: Time) -> bool {
        self.status(now).is_some_and(|s| s.landed)
    }

    /// A command is fresh when it answers the present odometry or the one before, and came in that time. PX4's odometry
    /// is not evenly spaced (8, 8, 8, 16 ms), and two control periods are too short after its long step.
    fn fresh(&self, now: Time, offer: &Offer) -> bool {
        let half = Span::from_nanoseconds(self.period.nanoseconds() / 2);
        let limit = (self.period * 2).max(self.gap.min(self.period * 3) + half);
        let behind = self.vehicle.map(|v| v.stamp - offer.stamp);
        within(now, offer.received, limit) && behind.is_some_and(|s| s <= limit && s >= AHEAD * -1)
    }

    /// Whether both policies have answered the present odometry, as far as they are there.
    pub fn answered(&self, now: Time) -> bool {
        let Some(stamp) = self.vehicle.map(|v| v.stamp) else { return false };
        [From::Guide, From::Student].into_iter().all(|from| {
            self.offer(from)
                .is_none_or(|o| o.stamp >= stamp || !within(now, o.received, self.period * ABSENT_PERIODS))
        })
    }

    /// All of it, judged.
    pub fn situation(&self, now: Time) -> Situation {
        use sw::VehicleStatus as Status;
        let autopilot = match self.status(now) {
            None => Autopilot::Silent,
            Some(s) if !s.armed => Autopilot::Disarmed,
            Some(s) if s.mode == Status::MODE_OFFBOARD => Autopilot::Ours,
            Some(s) if s.handed_over => Autopilot::Parked,
            Some(_) => Autopilot::Taken,
        };
        let guide = match self.offer(From::Guide) {
            Some(offer) if self.fresh(now, offer) => Ok(()),
            _ => Err("no fresh guide command"),
        };
        let student = match self.offer(From::Student) {
            Some(offer) if self.fresh(now, offer) => {
                if offer.command.warmth < 1.0 {
                    Err("the student is not warm")
                } else if !self.student_enabled {
                    Err("the student is not enabled")
                } else {
                    Ok(())
                }
            }
            _ => Err("the student's command is stale"),
        };
        let vehicle = self.vehicle.filter(|_| self.odometry_fresh(now));
        Situation { at: now, autopilot, vehicle, health: self.monitor.health(), guide, student }
    }
}
