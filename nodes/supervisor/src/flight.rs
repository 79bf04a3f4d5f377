//! The supervisor: what it remembers, and how each odometry gets one command.

use spikewing_msgs::{spikewing_msgs as sw, std_msgs::Header};
use spikewing_runtime::{Context, Outbox, Time, node::BuildError};

use crate::{
    authority::{Authority, Errand, Standing, Then},
    envelope::Vehicle,
    episode::{Episodes, Step},
    fence::Target,
    inputs::{From, Inputs, Offer},
    node::{AUTHORITY, COMMAND, TARGET},
    settings::Settings,
    situation::{Autopilot, Situation},
    touchdown::{Descent, HoverThrust},
    wander::Wander,
};

/// The node's logic.
pub struct Supervisor {
    pub(crate) settings: Settings,
    pub(crate) actor_id: String,
    pub(crate) instance: u64,
    pub(crate) inputs: Inputs,
    pub(crate) standing: Standing,
    pub(crate) episodes: Episodes,
    pub(crate) target: Target,
    pub(crate) hover: HoverThrust,
    /// Height of the ground where the vehicle was armed, if that was seen.
    pub(crate) ground_z_m: Option<f64>,
    /// Odometry that has no decision yet.
    pub(crate) pending: bool,
    pub(crate) doubtful_since: Option<Time>,
    /// Of the student's policy that flies.
    pub(crate) flown_version: u64,
    /// Of the student's policy that lost authority by its own doing; 0: none.
    pub(crate) blamed: u64,
    pub(crate) violations: u64,
    pub(crate) takeovers: u64,
    pub(crate) dropped: u64,
    /// What the autopilot complains of.
    pub(crate) complaint: String,
    pub(crate) started: Option<Time>,
    pub(crate) announced: Option<Time>,
    pub(crate) target_published: Option<Time>,
    pub(crate) shutdown_since: Option<Time>,
}

impl Supervisor {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When the setpoint lies outside the fence; when a parameter is missing, which is a defect of ours.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context.parameters)?;
        if let Some(how) = settings.fence.outside(&settings.setpoint) {
            return Err(format!(
                "parameter `setpoint` lies outside the fence ({how}): move it, or widen that"
            )
            .into());
        }
        Ok(Self {
            actor_id: context.namespace.to_owned(),
            instance: context.instance,
            inputs: Inputs::new(settings.period, settings.student_enabled),
            standing: Standing::new(),
            episodes: Episodes::new(Wander::new(settings.wander_m_s, settings.seed), context.instance),
            target: Target::new(settings.setpoint, settings.setpoint_speed_m_s, settings.setpoint_turn_rad_s),
            settings,
            hover: HoverThrust::default(),
            ground_z_m: None,
            pending: false,
            doubtful_since: None,
            flown_version: 0,
            blamed: 0,
            violations: 0,
            takeovers: 0,
            dropped: 0,
            complaint: String::new(),
            started: None,
            announced: None,
            target_published: None,
            shutdown_since: None,
        })
    }

    pub(crate) fn drop_message(&mut self, topic: &str, what: &str) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(topic, dropped = self.dropped, "{what}; the message is dropped");
        }
    }

    pub(crate) fn announce(&mut self, now: Time, out: &mut Outbox) {
        self.announced = Some(now);
        let (state, reason) = (self.standing.state(), self.standing.reason());
        let reason = if self.complaint.is_empty() {
            reason.to_owned()
        } else {
            format!("{reason}; the autopilot says: {}", self.complaint)
        };
        let flies = matches!(state, Authority::Student(_));
        out.publish(
            &AUTHORITY,
            sw::Authority {
                header: Header::new(now.to_msg(), ""),
                state: state.wire(),
                previous: self.standing.previous(),
                reason,
                since: self.standing.since().to_msg(),
                episode_id: self.episodes.id(),
                step: state.episode().map_or(0, |e| e.step),
                envelope_violations: self.violations,
                takeovers: self.takeovers,
                policy_version: if flies { self.flown_version } else { self.blamed },
                instance: self.instance,
                adrift: self.adrift().is_some(),
            },
        );
    }

    pub(crate) fn publish_target(&mut self, now: Time, out: &mut Outbox) {
        self.target_published = Some(now);
        out.publish(&TARGET, crate::node::pose(now, self.target.setpoint()));
    }

    /// Picks the command for the present odometry.
    pub(crate) fn decide(&mut self, now: Time, out: &mut Outbox) {
        self.pending = false;
        let situation = self.inputs.situation(now);
        let Some(vehicle) = situation.vehicle else { return };
        self.hand_over(&situation, out);
        let source = match *self.standing.state() {
            Authority::Disarmed(_) | Authority::Adrift(_) => return,
            Authority::Arming => return self.command_while_arming(&situation, &vehicle, out),
            _ if !matches!(situation.autopilot, Autopilot::Ours | Autopilot::Parked) => return,
            Authority::Land(Descent::Down { .. }) => return self.idle(now, &vehicle, out),
            Authority::Student(_) => From::Student,
            Authority::Guide(_) | Authority::Recover(_) | Authority::Hold(_) | Authority::Land(_) => {
                if let Err(reason) = situation.guide {
                    let then = self.standing.state().then();
                    return self.let_go(now, then, reason, out);
                }
                From::Guide
            }
        };
        let Some(offer) = self.inputs.offer(source).cloned() else { return };
        self.command(now, &vehicle, offer, out);
    }

    /// Publishes a policy's command, and what it means for episode and setpoint.
    fn command(&mut self, now: Time, vehicle: &Vehicle, offer: Offer, out: &mut Outbox) {
        let command = self.signed(now, vehicle, offer.command);
        let (action, source, version) = (command.motors, command.source, command.policy_version);
        if !matches!(self.standing.state(), Authority::Land(_)) {
            self.hover.learn(vehicle, &action);
        }
        out.publish(&COMMAND, command);
        if source == sw::MotorCommand::SOURCE_STUDENT && version != self.flown_version {
            self.flown_version = version;
            self.announce(now, out);
        }
        let step = self.standing.episode_mut().map(|episode| {
            let number = episode.step;
            episode.step += 1;
            episode.action = action;
            episode.source = source;
            Step { number, action, source, policy_version: version, end: None }
        });
        if let Some(step) = step {
            self.publish_experience(now, vehicle, &step, out);
        }
        // After the decision, so that everybody judges the next odometry by the same setpoint.
        self.move_target(now, step.is_some(), out);
    }

    fn move_target(&mut self, now: Time, in_episode: bool, out: &mut Outbox) {
        let dt_s = self.settings.period.seconds();
        let before = *self.target.setpoint();
        match self.episodes.wander(dt_s).filter(|_| in_episode) {
            Some(offset) => self.target.put(*self.target.goal() + offset),
            None => self.target.advance(dt_s),
        }
        if *self.target.setpoint() != before {
            self.publish_target(now, out);
        }
    }

    fn signed(&self, now: Time, vehicle: &Vehicle, command: sw::MotorCommand) -> sw::MotorCommand {
        sw::MotorCommand {
            header: Header::new(now.to_msg(), ""),
            odometry_stamp: vehicle.stamp.to_msg(),
            instance: self.instance,
            autopilot_stamp: self.inputs.vouched(),
            ..command
        }
    }

    fn idle(&self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        let command = sw::MotorCommand {
            motors: [-1.0; 4],
            source: sw::MotorCommand::SOURCE_SUPERVISOR,
            ..Default::default()
        };
        out.publish(&COMMAND, self.signed(now, vehicle, command));
    }

    /// PX4 grants offboard mode only to a stream of commands. Motors that are off may idle; a vehicle that flies in
    /// another mode may not get idle motors at the moment of the change.
    fn command_while_arming(&mut self, s: &Situation, vehicle: &Vehicle, out: &mut Outbox) {
        match s.autopilot {
            Autopilot::Silent => {}
            Autopilot::Disarmed => self.idle(s.at, vehicle, out),
            Autopilot::Ours | Autopilot::Parked | Autopilot::Taken => {
                if let Some(offer) = self.inputs.offer(From::Guide).filter(|_| s.guide.is_ok()) {
                    let command = self.signed(s.at, vehicle, offer.command.clone());
                    out.publish(&COMMAND, command);
                }
            }
        }
    }

    /// Within an episode: from the guide to a student that is fit, and back from one that is not.
    fn hand_over(&mut self, s: &Situation, out: &mut Outbox) {
        match *self.standing.state() {
            Authority::Guide(Errand::Episode(episode))
                if episode.step >= self.settings.guide_steps && s.student.is_ok() =>
            {
                self.flown_version =
                    self.inputs.offer(From::Student).map_or(0, |offer| offer.command.policy_version);
                self.hand_to_student(s.at, episode, out);
            }
            Authority::Student(_) => {
                if let Err(reason) = s.student {
                    self.student_unfit(s.at, reason, out);
                }
            }
            _ => {}
        }
    }

    /// What commands a vehicle that nobody flies gets when it can be flown again.
    pub(crate) fn adrift(&self) -> Option<Then> {
        match self.standing.state() {
            Authority::Adrift(then) => Some(*then),
            _ => None,
        }
    }
}
