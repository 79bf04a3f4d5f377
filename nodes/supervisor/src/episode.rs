//! Episodes: their numbers, the experience that they leave, and the resets between them.

use nalgebra::Vector3;
use spikewing_msgs::{spikewing_msgs as sw, std_msgs::Header, std_srvs::Trigger_Request};
use spikewing_runtime::{Outbox, Time, instance};

use crate::{
    authority::Episode,
    envelope::Vehicle,
    flight::Supervisor,
    node::{EXPERIENCE, RESET, RESET_ESTIMATE},
    wander::Wander,
};

/// How an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndKind {
    Terminated,
    Truncated,
}

/// Numbers episodes, and moves the setpoint during them.
#[derive(Clone, Debug)]
pub(crate) struct Episodes {
    id: u64,
    wander: Wander,
}

impl Episodes {
    /// A process that was started again goes on with larger numbers (milliseconds of its start): the learner must not take
    /// its episodes for those of the one before.
    pub fn new(wander: Wander, instance: u64) -> Self {
        let id = if instance == instance::FIRST { 0 } else { instance / 1_000_000 };
        Self { id, wander }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn begin(&mut self) {
        self.id += 1;
        self.wander.begin();
    }

    /// Where the setpoint is from its home after a further step, where it wanders at all.
    pub fn wander(&mut self, dt_s: f64) -> Option<Vector3<f64>> {
        self.wander.active().then(|| self.wander.advance(dt_s))
    }

    pub fn wanders(&self) -> bool {
        self.wander.active()
    }
}

/// What was done in a step, and how it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub number: u32,
    pub action: [f32; 4],
    pub source: u8,
    pub policy_version: u64,
    pub end: Option<EndKind>,
}

impl Supervisor {
    pub(crate) fn publish_experience(&self, now: Time, vehicle: &Vehicle, step: &Step, out: &mut Outbox) {
        let advice = self.inputs.advice(now, vehicle);
        out.publish(
            &EXPERIENCE,
            sw::Experience {
                header: Header::new(vehicle.stamp.to_msg(), ""),
                actor_id: self.actor_id.clone(),
                episode_id: self.episodes.id(),
                step: step.number,
                observation: vehicle.observation(self.target.setpoint()),
                action: step.action,
                guide_action: advice.map_or([f32::NAN; 4], |g| g.command.motors),
                source: step.source,
                terminated: step.end == Some(EndKind::Terminated),
                truncated: step.end == Some(EndKind::Truncated),
                policy_version: step.policy_version,
            },
        );
    }

    /// Ends the episode, if there is one, with the present observation as its last. The caller enters another state.
    pub(crate) fn close_episode(&mut self, now: Time, end: EndKind, out: &mut Outbox) {
        let Some(&Episode { step, action, source }) = self.standing.state().episode() else { return };
        if let Some(vehicle) = self.inputs.vehicle().copied().filter(|_| step > 0) {
            let last = Step { number: step, action, source, policy_version: 0, end: Some(end) };
            self.publish_experience(now, &vehicle, &last, out);
        }
        if self.episodes.wanders() {
            self.target.put(*self.target.goal());
            self.publish_target(now, out);
        }
    }

    /// Asks a simulator to put the vehicle back.
    pub(crate) fn call_reset(&mut self, out: &mut Outbox) {
        let pose = crate::node::pose(Time::ZERO, self.target.setpoint()).pose;
        out.call(&RESET, sw::ResetVehicle_Request { pose });
        // What the filter believes is about to be wrong; without an answer it finds out by itself.
        out.call(&RESET_ESTIMATE, Trigger_Request::default());
    }
}
