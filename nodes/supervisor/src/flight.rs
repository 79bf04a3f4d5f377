//! The authority state machine.

use nalgebra::Vector3;
use spikewing_msgs::{
    AnyMessage, geometry_msgs,
    nav_msgs::Odometry,
    spikewing_msgs as sw,
    std_msgs::Header,
    std_srvs::{Trigger, Trigger_Request, Trigger_Response},
};
use spikewing_runtime::{
    Context, Node, Outbox, Parameters, Received, Span, Time,
    node::{BuildError, Request, Response, Shutdown},
    port::{Client, Input, Interface, Output, Qos, Server},
};

use crate::{
    envelope::Vehicle,
    settings::{OnViolation, Settings},
};

const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("setpoint", Qos::sensor(1));
const GUIDE: Input<sw::MotorCommand> = Input::new("guide/command", Qos::sensor(1));
const STUDENT: Input<sw::MotorCommand> = Input::new("student/command", Qos::sensor(1));
const JUMP_START: Input<sw::JumpStart> = Input::new("learner/jump_start", Qos::latched());
const STATUS: Input<sw::VehicleStatus> = Input::new("vehicle/status", Qos::sensor(1));
const COMMAND: Output<sw::MotorCommand> = Output::new("command", Qos::sensor(1));
const AUTHORITY: Output<sw::Authority> = Output::new("authority", Qos::latched());
const EXPERIENCE: Output<sw::Experience> = Output::new("experience", Qos::reliable(1000));
const GUIDE_SETPOINT: Output<geometry_msgs::PoseStamped> = Output::new("guide/setpoint", Qos::sensor(1));
const ARM: Server<Trigger> = Server::new("~/arm");
const START: Server<Trigger> = Server::new("~/start_episode");
const STOP: Server<Trigger> = Server::new("~/stop");
const LAND: Server<Trigger> = Server::new("~/land");
const RESET: Client<sw::ResetVehicle> = Client::new("px4_bridge/reset_vehicle");
const RESET_ESTIMATE: Client<Trigger> = Client::new("state_estimator/reset");

const WATCHDOG: &str = "watchdog";
/// A policy that has not been heard for so many periods is not waited for.
const ABSENT_PERIODS: i64 = 5;
/// Without odometry for so many periods nothing is commanded.
const BLIND_PERIODS: i64 = 10;
/// Longest that a stopping process takes to land.
const SHUTDOWN_LIMIT: Span = Span::from_millis(15_000);
/// A reset that does not show in the odometry is asked for again after this.
const RESET_RETRY: Span = Span::from_millis(1000);
/// The ground is where the vehicle no longer sinks, for this long.
const TOUCHDOWN: Span = Span::from_millis(500);

/// Who has the vehicle, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Disarmed,
    Arming,
    /// The guide flies: to the setpoint, or the start of an episode.
    Guide,
    Student,
    /// The guide brings the vehicle back.
    Recover,
    Land {
        from: Vector3<f64>,
        since: Time,
        still_since: Option<Time>,
    },
    Hold {
        at: Vector3<f64>,
    },
}

impl Phase {
    fn wire(&self) -> u8 {
        match self {
            Self::Disarmed => sw::Authority::DISARMED,
            Self::Arming => sw::Authority::ARMING,
            Self::Guide => sw::Authority::GUIDE,
            Self::Student => sw::Authority::STUDENT,
            Self::Recover => sw::Authority::RECOVER,
            Self::Land { .. } => sw::Authority::LAND,
            Self::Hold { .. } => sw::Authority::HOLD,
        }
    }

    fn flies(&self) -> bool {
        !matches!(self, Self::Disarmed | Self::Arming)
    }
}

/// The last command of a policy.
#[derive(Clone, Debug)]
struct Offer {
    command: sw::MotorCommand,
    stamp: Time,
    received: Time,
}

/// An episode that is being flown.
#[derive(Clone, Copy, Debug)]
struct Episode {
    step: u32,
    last_action: [f32; 4],
    last_source: u8,
}

/// Time and number of a reset that is waited for.
#[derive(Clone, Copy, Debug)]
struct ResetWait {
    asked: Time,
}

/// The node's logic.
pub struct Supervisor {
    settings: Settings,
    actor_id: String,
    setpoint: Vector3<f64>,
    phase: Phase,
    phase_since: Time,
    previous: u8,
    reason: String,
    vehicle: Option<Vehicle>,
    odometry_received: Option<Time>,
    /// Odometry that has no decision yet.
    pending: bool,
    guide: Option<Offer>,
    student: Option<Offer>,
    status: Option<sw::VehicleStatus>,
    status_received: Option<Time>,
    episode: Option<Episode>,
    episode_id: u64,
    reset: Option<ResetWait>,
    settled_since: Option<Time>,
    violations: u64,
    takeovers: u64,
    dropped: u64,
    announced: bool,
    shutdown_since: Option<Time>,
}

impl Supervisor {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When a parameter is missing, which is a defect of ours.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context.parameters)?;
        Ok(Self {
            actor_id: context.namespace.to_owned(),
            setpoint: settings.setpoint,
            settings,
            phase: Phase::Disarmed,
            phase_since: Time::ZERO,
            previous: sw::Authority::DISARMED,
            reason: "started".into(),
            vehicle: None,
            odometry_received: None,
            pending: false,
            guide: None,
            student: None,
            status: None,
            status_received: None,
            episode: None,
            episode_id: 0,
            reset: None,
            settled_since: None,
            violations: 0,
            takeovers: 0,
            dropped: 0,
            announced: false,
            shutdown_since: None,
        })
    }

    fn drop_message(&mut self, topic: &str, what: &str) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(topic, dropped = self.dropped, "{what}; the message is dropped");
        }
    }

    // --- who flies -----------------------------------------------------------------------------------------------

    fn enter(&mut self, now: Time, phase: Phase, reason: &str, out: &mut Outbox) {
        if self.phase.wire() != phase.wire() {
            self.previous = self.phase.wire();
            self.phase_since = now;
        }
        self.phase = phase;
        self.reason.clear();
        self.reason.push_str(reason);
        self.settled_since = None;
        self.announce(now, out);
    }

    fn announce(&mut self, now: Time, out: &mut Outbox) {
        self.announced = true;
        out.publish(
            &AUTHORITY,
            sw::Authority {
                header: Header::new(now.to_msg(), ""),
                state: self.phase.wire(),
                previous: self.previous,
                reason: self.reason.clone(),
                since: self.phase_since.to_msg(),
                episode_id: self.episode_id,
                step: self.episode.map_or(0, |e| e.step),
                envelope_violations: self.violations,
                takeovers: self.takeovers,
            },
        );
    }

    fn fresh(&self, now: Time, offer: Option<&Offer>) -> bool {
        let limit = self.settings.period * 2;
        offer.is_some_and(|o| {
            now - o.received <= limit && self.vehicle.is_some_and(|v| v.stamp - o.stamp <= limit)
        })
    }

    fn student_fit(&self, now: Time) -> Result<(), &'static str> {
        let Some(offer) = self.student.as_ref().filter(|_| self.fresh(now, self.student.as_ref())) else {
            return Err("the student's command is stale");
        };
        if offer.command.warmth < 1.0 {
            return Err("the student is not warm");
        }
        if !self.settings.student_enabled {
            return Err("the student is not enabled");
        }
        Ok(())
    }

    fn recent(&self, now: Time, offer: Option<&Offer>) -> bool {
        offer.is_some_and(|o| now - o.received <= self.settings.period * ABSENT_PERIODS)
    }

    /// Whether both policies have answered the present odometry, as far as they are there.
    fn answered(&self, now: Time) -> bool {
        let Some(stamp) = self.vehicle.map(|v| v.stamp) else { return false };
        let has = |offer: Option<&Offer>| offer.is_some_and(|o| o.stamp >= stamp);
        let (guide, student) = (self.guide.as_ref(), self.student.as_ref());
        (has(guide) || !self.recent(now, guide)) && (has(student) || !self.recent(now, student))
    }

    /// Picks the command for the present odometry.
    fn decide(&mut self, now: Time, out: &mut Outbox) {
        self.pending = false;
        let Some(vehicle) = self.vehicle else { return };
        self.hand_over(now, out);
        match self.phase {
            Phase::Disarmed => return,
            Phase::Arming => return self.idle(now, &vehicle, out),
            Phase::Land { still_since, .. } if still_since.is_some_and(|s| now - s >= TOUCHDOWN) => {
                return self.idle(now, &vehicle, out);
            }
            _ => {}
        }
        let offer = match self.phase {
            Phase::Student => self.student.as_ref(),
            _ => self.guide.as_ref().filter(|_| self.fresh(now, self.guide.as_ref())),
        };
        let Some(offer) = offer else {
            // Nobody is fit to fly: without commands the bridge stops the heartbeat, and the autopilot takes over.
            if self.reason != NO_GUIDE {
                tracing::error!("{NO_GUIDE}");
                self.end_episode(now, EndKind::Truncated, out);
                self.enter(now, self.phase, NO_GUIDE, out);
            }
            return;
        };
        let command = sw::MotorCommand {
            header: Header::new(now.to_msg(), ""),
            odometry_stamp: vehicle.stamp.to_msg(),
            ..offer.command.clone()
        };
        let (action, source, version) = (command.motors, command.source, command.policy_version);
        out.publish(&COMMAND, command);
        if let Some(mut episode) = self.episode {
            self.publish_experience(now, &vehicle, episode.step, action, source, version, None, out);
            episode.step += 1;
            episode.last_action = action;
            episode.last_source = source;
            self.episode = Some(episode);
        }
    }

    fn idle(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        out.publish(
            &COMMAND,
            sw::MotorCommand {
                header: Header::new(now.to_msg(), ""),
                motors: [-1.0; 4],
                source: sw::MotorCommand::SOURCE_SUPERVISOR,
                odometry_stamp: vehicle.stamp.to_msg(),
                ..Default::default()
            },
        );
    }

    /// Within an episode: from the guide to a student that is fit, and back from one that is not.
    fn hand_over(&mut self, now: Time, out: &mut Outbox) {
        let Some(episode) = self.episode else { return };
        match self.phase {
            Phase::Guide if episode.step >= self.settings.guide_steps && self.student_fit(now).is_ok() => {
                self.enter(now, Phase::Student, "the student is warm", out);
            }
            Phase::Student => {
                if let Err(reason) = self.student_fit(now) {
                    self.takeovers += 1;
                    tracing::warn!(
                        episode = self.episode_id,
                        step = episode.step,
                        "the guide takes over: {reason}"
                    );
                    self.end_episode(now, EndKind::Truncated, out);
                    self.enter(now, Phase::Recover, reason, out);
                }
            }
            _ => {}
        }
    }

    // --- episodes ------------------------------------------------------------------------------------------------

    #[allow(clippy::too_many_arguments)]
    fn publish_experience(
        &self,
        now: Time,
        vehicle: &Vehicle,
        step: u32,
        action: [f32; 4],
        source: u8,
        policy_version: u64,
        end: Option<EndKind>,
        out: &mut Outbox,
    ) {
        let advice = self.guide.as_ref().filter(|g| g.stamp == vehicle.stamp && self.fresh(now, Some(g)));
        out.publish(
            &EXPERIENCE,
            sw::Experience {
                header: Header::new(vehicle.stamp.to_msg(), ""),
                actor_id: self.actor_id.clone(),
                episode_id: self.episode_id,
                step,
                observation: vehicle.observation(&self.setpoint),
                action,
                guide_action: advice.map_or([f32::NAN; 4], |g| g.command.motors),
                source,
                terminated: end == Some(EndKind::Terminated),
                truncated: end == Some(EndKind::Truncated),
                policy_version,
            },
        );
    }

    /// Ends the episode with the present observation as its last.
    fn end_episode(&mut self, now: Time, end: EndKind, out: &mut Outbox) {
        let (Some(episode), Some(vehicle)) = (self.episode.take(), self.vehicle) else { return };
        if episode.step > 0 {
            let (action, source) = (episode.last_action, episode.last_source);
            self.publish_experience(now, &vehicle, episode.step, action, source, 0, Some(end), out);
        }
    }

    fn start_episode(&mut self, now: Time, out: &mut Outbox) {
        self.episode_id += 1;
        self.episode = Some(Episode { step: 0, last_action: [0.0; 4], last_source: 0 });
        self.enter(now, Phase::Guide, "an episode starts", out);
    }

    fn ask_reset(&mut self, now: Time, out: &mut Outbox) {
        self.reset = Some(ResetWait { asked: now });
        let pose = geometry_msgs::Pose {
            position: geometry_msgs::Point::new(self.setpoint.x, self.setpoint.y, self.setpoint.z),
            ..Default::default()
        };
        out.call(&RESET, sw::ResetVehicle_Request { pose });
        // What the filter believes is about to be wrong; without an answer it finds out by itself.
        out.call(&RESET_ESTIMATE, Trigger_Request::default());
    }

    /// What the new odometry means for the episode; before the decision on it.
    fn judge(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        if let Some(episode) = self.episode {
            let steps = self.settings.episode_steps;
            if let Some(reason) = self.settings.envelope.violation(vehicle, &self.setpoint) {
                self.violations += 1;
                tracing::debug!(episode = self.episode_id, step = episode.step, "{reason}");
                self.end_episode(now, EndKind::Terminated, out);
                match self.settings.on_violation {
                    OnViolation::Reset => {
                        self.enter(now, Phase::Guide, reason, out);
                        self.ask_reset(now, out);
                    }
                    OnViolation::Recover => {
                        if self.phase == Phase::Student {
                            self.takeovers += 1;
                        }
                        self.enter(now, Phase::Recover, reason, out);
                    }
                }
            } else if self.settings.episodes && episode.step >= steps {
                self.end_episode(now, EndKind::Truncated, out);
                self.enter(now, Phase::Guide, "the episode is over", out);
                if self.settings.reset_each_episode {
                    self.ask_reset(now, out);
                }
            }
        } else if let Some(wait) = self.reset {
            if now - wait.asked >= RESET_RETRY {
                self.ask_reset(now, out);
            } else if now - wait.asked >= self.settings.reset_settle
                && self.settings.envelope.violation(vehicle, &self.setpoint).is_none()
            {
                self.reset = None;
                self.start_episode(now, out);
            }
        } else if matches!(self.phase, Phase::Guide | Phase::Recover) {
            if self.settings.reset_each_episode {
                return self.ask_reset(now, out);
            }
            let near = (vehicle.position - self.setpoint).norm() <= self.settings.start_radius_m
                && vehicle.velocity.norm() <= self.settings.start_speed_mps;
            if !near {
                self.settled_since = None;
            } else if now - *self.settled_since.get_or_insert(now) >= self.settings.settle {
                self.start_episode(now, out);
            }
        }
    }

    // --- inputs --------------------------------------------------------------------------------------------------

    fn on_odometry(&mut self, now: Time, m: &Odometry, out: &mut Outbox) {
        let Some(vehicle) = Vehicle::from_msg(m) else {
            return self.drop_message(ODOMETRY.name, "a number is not finite or the quaternion is none");
        };
        if self.vehicle.is_some_and(|v| vehicle.stamp <= v.stamp) && self.odometry_fresh(now) {
            return self.drop_message(ODOMETRY.name, "older than the last one");
        }
        if self.pending {
            // The last one got no decision; late is better than never.
            self.decide(now, out);
        }
        self.vehicle = Some(vehicle);
        self.odometry_received = Some(now);
        self.judge(now, &vehicle, out);
        self.fly_guide(now, &vehicle, out);
        self.pending = true;
        if self.answered(now) {
            self.decide(now, out);
        }
    }

    fn odometry_fresh(&self, now: Time) -> bool {
        self.odometry_received.is_some_and(|at| now - at <= self.settings.period * BLIND_PERIODS)
    }

    /// Where the guide should go when it is not the setpoint.
    fn fly_guide(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        let target = match self.phase {
            Phase::Hold { at } => at,
            Phase::Land { from, since, still_since } => {
                let sunk = self.settings.land_speed_mps * (now - since).seconds();
                // The setpoint runs ahead of the vehicle by no more than half a metre.
                let z = (from.z - sunk).max(vehicle.position.z - 0.5);
                let below = vehicle.position.z - z > 0.2;
                let still = below && vehicle.velocity.norm() < 0.05;
                let still_since = if still { still_since.or(Some(now)) } else { None };
                self.phase = Phase::Land { from, since, still_since };
                Vector3::new(from.x, from.y, z)
            }
            _ => return,
        };
        let mut message =
            geometry_msgs::PoseStamped { header: Header::new(now.to_msg(), "map"), ..Default::default() };
        message.pose.position = geometry_msgs::Point::new(target.x, target.y, target.z);
        out.publish(&GUIDE_SETPOINT, message);
    }

    fn on_offer(&mut self, now: Time, m: &sw::MotorCommand, from: From, out: &mut Outbox) {
        let topic = match from {
            From::Guide => GUIDE.name,
            From::Student => STUDENT.name,
        };
        if m.motors.iter().any(|v| !v.is_finite() || v.abs() > 1.0) || !m.warmth.is_finite() {
            return self.drop_message(topic, "a motor command is not within [-1, 1]");
        }
        let offer = Offer { command: m.clone(), stamp: Time::from(&m.odometry_stamp), received: now };
        match from {
            From::Guide => {
                self.guide = Some(offer);
                if let Some(guide) = &mut self.guide {
                    guide.command.source = sw::MotorCommand::SOURCE_GUIDE;
                }
            }
            From::Student => {
                self.student = Some(offer);
                if let Some(student) = &mut self.student {
                    student.command.source = sw::MotorCommand::SOURCE_STUDENT;
                }
            }
        }
        if self.pending && self.answered(now) {
            self.decide(now, out);
        }
    }

    fn on_status(&mut self, now: Time, m: &sw::VehicleStatus, out: &mut Outbox) {
        let offboard = m.mode == sw::VehicleStatus::MODE_OFFBOARD;
        match self.phase {
            Phase::Arming if m.armed && offboard => self.enter(now, Phase::Guide, "armed", out),
            Phase::Land { .. } if m.landed && now - self.phase_since > TOUCHDOWN => {
                self.enter(now, Phase::Disarmed, "landed", out);
            }
            phase if phase.flies() && !m.armed => {
                self.end_episode(now, EndKind::Truncated, out);
                self.enter(now, Phase::Disarmed, "the autopilot disarmed", out);
            }
            phase if phase.flies() && m.connected && !offboard => {
                // The autopilot's failsafe or the pilot took the vehicle: that is not fought.
                self.end_episode(now, EndKind::Truncated, out);
                self.settings.auto_arm = false;
                self.enter(now, Phase::Disarmed, "the autopilot left offboard control", out);
            }
            _ => {}
        }
        self.status = Some(m.clone());
        self.status_received = Some(now);
    }

    fn on_setpoint(&mut self, m: &geometry_msgs::PoseStamped) {
        let p = &m.pose.position;
        if p.to_array().iter().all(|v| v.is_finite()) {
            self.setpoint = Vector3::new(p.x, p.y, p.z);
        } else {
            self.drop_message(SETPOINT.name, "the setpoint is not finite");
        }
    }

    fn arm(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        if self.phase != Phase::Disarmed {
            return Err("it is armed, or being armed, already".into());
        }
        if !self.odometry_fresh(now) {
            return Err("there is no odometry; is the state estimator running?".into());
        }
        if !self.fresh(now, self.guide.as_ref()) {
            return Err("there is no fresh guide/command; is the guide policy running?".into());
        }
        let status = self.status.as_ref().filter(|s| s.connected);
        let Some(status) = status else {
            return Err("there is no vehicle/status; is the bridge running, and PX4 connected?".into());
        };
        if !status.landed && !status.armed && self.vehicle.is_some_and(|v| v.velocity.norm() > 1.0) {
            return Err("the vehicle moves".into());
        }
        self.enter(now, Phase::Arming, "asked to arm", out);
        Ok("arming")
    }

    fn land(&mut self, now: Time, reason: &str, out: &mut Outbox) -> Result<&'static str, String> {
        let Some(vehicle) = self.vehicle.filter(|_| self.phase.flies()) else {
            self.settings.auto_arm = false;
            if self.phase == Phase::Arming {
                self.enter(now, Phase::Disarmed, reason, out);
            }
            return Ok("nothing flies");
        };
        self.settings.auto_arm = false;
        if !matches!(self.phase, Phase::Land { .. }) {
            self.end_episode(now, EndKind::Truncated, out);
            let phase = Phase::Land { from: vehicle.position, since: now, still_since: None };
            self.enter(now, phase, reason, out);
        }
        Ok("landing")
    }

    fn stop(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        let vehicle = self.vehicle.filter(|_| self.phase.flies()).ok_or("nothing flies")?;
        self.end_episode(now, EndKind::Truncated, out);
        self.enter(now, Phase::Hold { at: vehicle.position }, "asked to stop", out);
        Ok("the guide holds the position")
    }

    fn resume(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        if !self.phase.flies() {
            return Err("it does not fly; call ~/arm first".into());
        }
        self.end_episode(now, EndKind::Truncated, out);
        self.enter(now, Phase::Recover, "asked for an episode", out);
        Ok("an episode starts at the setpoint")
    }
}

const NO_GUIDE: &str = "no fresh guide command: nothing is commanded, the autopilot's failsafe takes over";

/// How an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndKind {
    Terminated,
    Truncated,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Guide,
    Student,
}

impl Node for Supervisor {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SETPOINT)
            .input(&GUIDE)
            .input(&STUDENT)
            .input(&JUMP_START)
            .input(&STATUS)
            .output(&COMMAND)
            .output(&AUTHORITY)
            .output(&EXPERIENCE)
            .output(&GUIDE_SETPOINT)
            .server(&ARM)
            .server(&START)
            .server(&STOP)
            .server(&LAND)
            .client(&RESET)
            .client(&RESET_ESTIMATE)
            .timer(WATCHDOG, Span::from_nanoseconds(self.settings.period.nanoseconds() / 2))
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&ODOMETRY) {
            self.on_odometry(now, m, out);
        } else if let Some(m) = message.on(&GUIDE) {
            self.on_offer(now, m, From::Guide, out);
        } else if let Some(m) = message.on(&STUDENT) {
            self.on_offer(now, m, From::Student, out);
        } else if let Some(m) = message.on(&STATUS) {
            self.on_status(now, m, out);
        } else if let Some(m) = message.on(&SETPOINT) {
            self.on_setpoint(m);
        } else if let Some(m) = message.on(&JUMP_START)
            && m.episode_steps > 0
            && m.guide_steps <= m.episode_steps
        {
            self.settings.guide_steps = m.guide_steps;
            self.settings.episode_steps = m.episode_steps;
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        if !self.announced {
            self.announce(now, out);
        }
        if self.pending {
            let late = Span::from_nanoseconds(self.settings.period.nanoseconds() * 3 / 2);
            if self.odometry_received.is_some_and(|at| now - at >= late) {
                self.decide(now, out);
            }
        }
        if self.phase.flies() && !self.odometry_fresh(now) && self.episode.is_some() {
            tracing::error!("no odometry: nothing is commanded, the autopilot's failsafe takes over");
            self.end_episode(now, EndKind::Truncated, out);
            self.enter(now, Phase::Recover, "no odometry", out);
        }
        if self.phase == Phase::Disarmed && self.settings.auto_arm && self.shutdown_since.is_none() {
            // Not ready yet is no error while it starts up.
            let _ = self.arm(now, out);
        }
        if self.phase == Phase::Arming && now - self.phase_since >= self.settings.arming_timeout {
            let said = self.status.as_ref().map_or("", |s| s.message.as_str());
            let reason = format!("arming took too long; the autopilot said: `{said}`");
            tracing::error!("{reason}");
            self.settings.auto_arm = false;
            self.enter(now, Phase::Disarmed, &reason, out);
        }
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let answer = if request.on(&ARM).is_some() {
            self.arm(now, out)
        } else if request.on(&START).is_some() {
            self.resume(now, out)
        } else if request.on(&STOP).is_some() {
            self.stop(now, out)
        } else if request.on(&LAND).is_some() {
            self.land(now, "asked to land", out)
        } else {
            return None;
        };
        let (success, message) = match answer {
            Ok(text) => (true, text.to_owned()),
            Err(text) => (false, text),
        };
        Some(Trigger_Response { success, message }.into())
    }

    fn on_response(&mut self, _now: Time, response: &Response<'_>, _out: &mut Outbox) {
        match response.on(&RESET) {
            Some(Ok(answer)) if !answer.success => tracing::warn!("no reset: {}", answer.message),
            Some(Err(reason)) => tracing::warn!("no reset: {reason}"),
            _ => {}
        }
    }

    fn on_parameters(&mut self, _now: Time, new: &Parameters, _out: &mut Outbox) -> Result<(), String> {
        self.settings.student_enabled = new.boolean("student_enabled").map_err(|e| e.to_string())?;
        Ok(())
    }

    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        // Whatever the answer, the autopilot's failsafe lands when this process is gone.
        let _ = self.land(now, "asked to stop the process", out);
        let armed = self.status.as_ref().is_some_and(|s| s.armed && s.connected);
        if (self.phase.flies() || armed) && self.odometry_fresh(now) && now - since < SHUTDOWN_LIMIT {
            Shutdown::Wait
        } else {
            Shutdown::Done
        }
    }
}
