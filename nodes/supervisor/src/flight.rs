//! Who flies: the state machine's core, which picks one command for each odometry.

use nalgebra::Vector3;
use spikewing_msgs::{spikewing_msgs as sw, std_msgs::Header};
use spikewing_runtime::{Context, Outbox, Span, Time, node::BuildError};

use crate::{
    envelope::Vehicle,
    node::{AUTHORITY, COMMAND},
    phase::{EndKind, Episode, Offer, Phase, ResetWait},
    settings::Settings,
    wander::Wander,
};

/// A policy that has not been heard for so many periods is not waited for.
const ABSENT_PERIODS: i64 = 5;
/// The ground is where the vehicle no longer sinks, for this long.
pub(crate) const TOUCHDOWN: Span = Span::from_millis(500);
const NO_GUIDE: &str = "no fresh guide command: nothing is commanded, the autopilot's failsafe takes over";

/// The node's logic.
pub struct Supervisor {
    pub(crate) settings: Settings,
    pub(crate) actor_id: String,
    pub(crate) setpoint: Vector3<f64>,
    pub(crate) wander: Wander,
    pub(crate) phase: Phase,
    pub(crate) phase_since: Time,
    pub(crate) previous: u8,
    pub(crate) reason: String,
    pub(crate) vehicle: Option<Vehicle>,
    pub(crate) odometry_received: Option<Time>,
    /// Odometry that has no decision yet.
    pub(crate) pending: bool,
    pub(crate) guide: Option<Offer>,
    pub(crate) student: Option<Offer>,
    pub(crate) status: Option<sw::VehicleStatus>,
    pub(crate) status_received: Option<Time>,
    pub(crate) episode: Option<Episode>,
    pub(crate) episode_id: u64,
    pub(crate) reset: Option<ResetWait>,
    pub(crate) settled_since: Option<Time>,
    pub(crate) violations: u64,
    pub(crate) takeovers: u64,
    pub(crate) dropped: u64,
    pub(crate) announced: bool,
    pub(crate) shutdown_since: Option<Time>,
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
            wander: Wander::new(settings.setpoint_speed_mps, settings.seed),
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

    pub(crate) fn drop_message(&mut self, topic: &str, what: &str) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(topic, dropped = self.dropped, "{what}; the message is dropped");
        }
    }

    pub(crate) fn enter(&mut self, now: Time, phase: Phase, reason: &str, out: &mut Outbox) {
        if self.phase.wire() != phase.wire() {
            self.previous = self.phase.wire();
            self.phase_since = now;
        }
        if !matches!(phase, Phase::Guide | Phase::Student | Phase::Recover) {
            // No episode follows, so that no reset may either.
            self.reset = None;
        }
        self.phase = phase;
        self.reason.clear();
        self.reason.push_str(reason);
        self.settled_since = None;
        self.announce(now, out);
    }

    pub(crate) fn announce(&mut self, now: Time, out: &mut Outbox) {
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
                ..Default::default()
            },
        );
    }

    pub(crate) fn fresh(&self, now: Time, offer: Option<&Offer>) -> bool {
        let limit = self.settings.period * 2;
        offer.is_some_and(|o| {
            now - o.received <= limit && self.vehicle.is_some_and(|v| v.stamp - o.stamp <= limit)
        })
    }

    pub(crate) fn student_fit(&self, now: Time) -> Result<(), &'static str> {
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

    pub(crate) fn recent(&self, now: Time, offer: Option<&Offer>) -> bool {
        offer.is_some_and(|o| now - o.received <= self.settings.period * ABSENT_PERIODS)
    }

    /// Whether both policies have answered the present odometry, as far as they are there.
    pub(crate) fn answered(&self, now: Time) -> bool {
        let Some(stamp) = self.vehicle.map(|v| v.stamp) else { return false };
        let has = |offer: Option<&Offer>| offer.is_some_and(|o| o.stamp >= stamp);
        let (guide, student) = (self.guide.as_ref(), self.student.as_ref());
        (has(guide) || !self.recent(now, guide)) && (has(student) || !self.recent(now, student))
    }

    /// Picks the command for the present odometry.
    pub(crate) fn decide(&mut self, now: Time, out: &mut Outbox) {
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
        if self.reason == NO_GUIDE {
            self.enter(now, self.phase, "there is a fresh command again", out);
        }
        let (action, source, version) = (command.motors, command.source, command.policy_version);
        out.publish(&COMMAND, command);
        if let Some(mut episode) = self.episode {
            self.publish_experience(now, &vehicle, episode.step, action, source, version, None, out);
            episode.step += 1;
            episode.last_action = action;
            episode.last_source = source;
            self.episode = Some(episode);
            // After the decision, so that everybody judges the next odometry by the same setpoint.
            self.move_setpoint(now, out);
        }
    }

    pub(crate) fn idle(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
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
    pub(crate) fn hand_over(&mut self, now: Time, out: &mut Outbox) {
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
}
