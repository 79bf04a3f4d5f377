//! What may be asked of it: arming, landing, stopping, and a new episode.

use spikewing_runtime::{Outbox, Span, Time};

use crate::{
    flight::Supervisor,
    phase::{EndKind, Phase},
};

/// The bridge passes on each status of the autopilot, five a second or more; without one for so long it is gone.
const STATUS_TIMEOUT: Span = Span::from_millis(2000);

impl Supervisor {
    pub(crate) fn arm(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        if self.phase != Phase::Disarmed {
            return Err("it is armed, or being armed, already".into());
        }
        if !self.odometry_fresh(now) {
            return Err("there is no odometry; is the state estimator running?".into());
        }
        if !self.fresh(now, self.guide.as_ref()) {
            return Err("there is no fresh guide/command; is the guide policy running?".into());
        }
        let heard = self.status_received.is_some_and(|at| now - at <= STATUS_TIMEOUT);
        let status = self.status.as_ref().filter(|s| heard && s.connected);
        let Some(status) = status else {
            return Err("there is no vehicle/status; is the bridge running, and PX4 connected?".into());
        };
        if !status.landed && !status.armed && self.vehicle.is_some_and(|v| v.velocity.norm() > 1.0) {
            return Err("the vehicle moves".into());
        }
        self.enter(now, Phase::Arming, "asked to arm", out);
        Ok("arming")
    }

    pub(crate) fn land(&mut self, now: Time, reason: &str, out: &mut Outbox) -> Result<&'static str, String> {
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

    pub(crate) fn stop(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        let vehicle = self.vehicle.filter(|_| self.phase.flies()).ok_or("nothing flies")?;
        self.end_episode(now, EndKind::Truncated, out);
        self.enter(now, Phase::Hold { at: vehicle.position }, "asked to stop", out);
        Ok("the guide holds the position")
    }

    pub(crate) fn resume(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        if !self.phase.flies() {
            return Err("it does not fly; call ~/arm first".into());
        }
        self.end_episode(now, EndKind::Truncated, out);
        self.enter(now, Phase::Recover, "asked for an episode", out);
        Ok("an episode starts at the setpoint")
    }
}
