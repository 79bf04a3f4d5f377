//! Episodes: their start, their end, the experience that they leave, and the resets between them.

use nalgebra::Vector3;
use spikewing_msgs::{geometry_msgs, spikewing_msgs as sw, std_msgs::Header, std_srvs::Trigger_Request};
use spikewing_runtime::{Outbox, Span, Time};

use crate::{
    envelope::Vehicle,
    flight::Supervisor,
    inputs::setpoint_message,
    node::{EXPERIENCE, MOVED_SETPOINT, RESET, RESET_ESTIMATE},
    phase::{EndKind, Episode, Phase, ResetWait},
    settings::OnViolation,
};

/// A reset that does not show in the odometry is asked for again after this.
const RESET_RETRY: Span = Span::from_millis(1000);

impl Supervisor {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn publish_experience(
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
    pub(crate) fn end_episode(&mut self, now: Time, end: EndKind, out: &mut Outbox) {
        let (Some(episode), Some(vehicle)) = (self.episode.take(), self.vehicle) else { return };
        if episode.step > 0 {
            let (action, source) = (episode.last_action, episode.last_source);
            self.publish_experience(now, &vehicle, episode.step, action, source, 0, Some(end), out);
        }
        if self.wander.active() {
            self.set_setpoint(now, self.settings.setpoint, out);
        }
    }

    pub(crate) fn start_episode(&mut self, now: Time, out: &mut Outbox) {
        self.episode_id += 1;
        self.episode = Some(Episode { step: 0, last_action: [0.0; 4], last_source: 0 });
        self.wander.begin();
        self.enter(now, Phase::Guide, "an episode starts", out);
    }

    /// The next setpoint of one that moves.
    pub(crate) fn move_setpoint(&mut self, now: Time, out: &mut Outbox) {
        if self.wander.active() {
            let offset = self.wander.advance(self.settings.period.seconds());
            self.set_setpoint(now, self.settings.setpoint + offset, out);
        }
    }

    fn set_setpoint(&mut self, now: Time, at: Vector3<f64>, out: &mut Outbox) {
        self.setpoint = at;
        out.publish(&MOVED_SETPOINT, setpoint_message(now, &at));
    }

    pub(crate) fn ask_reset(&mut self, now: Time, out: &mut Outbox) {
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
    pub(crate) fn judge(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
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
                && self.fresh(now, self.guide.as_ref())
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
            // Without a guide nobody could fly its first steps.
            if !near || !self.fresh(now, self.guide.as_ref()) {
                self.settled_since = None;
            } else if now - *self.settled_since.get_or_insert(now) >= self.settings.settle {
                self.start_episode(now, out);
            }
        }
    }
}
