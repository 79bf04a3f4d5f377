//! What may be asked of it: arming, landing, stopping, and a new episode.

use spikewing_runtime::{Outbox, Time};

use crate::{
    authority::{Authority, Then},
    flight::Supervisor,
    situation::{Autopilot, Health},
};

impl Supervisor {
    pub(crate) fn arm(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        if !matches!(self.standing.state(), Authority::Disarmed(_)) {
            return Err("it is armed, or being armed, already".into());
        }
        if self.inputs.rival(now).is_some() {
            return Err("another supervisor of this name runs; stop one of them".into());
        }
        let s = self.inputs.situation(now);
        let Some(vehicle) = s.vehicle else {
            return Err("there is no odometry; is the state estimator running?".into());
        };
        if s.guide.is_err() {
            return Err("there is no fresh guide/command; is the guide policy running?".into());
        }
        let Some(status) = self.inputs.status(now) else {
            return Err("there is no vehicle/status; is the bridge running, and PX4 connected?".into());
        };
        if let Health::Doubtful(reason) | Health::Unflyable(reason) = s.health {
            return Err(reason.into());
        }
        if let Some(how) = self.settings.fence.outside(&vehicle.position) {
            return Err(format!("the vehicle stands outside the fence: {how}"));
        }
        if s.autopilot == Autopilot::Disarmed && !status.landed && vehicle.velocity.norm() > 1.0 {
            return Err("the vehicle moves".into());
        }
        self.ask_to_arm(now, "asked to arm", out);
        Ok("arming")
    }

    pub(crate) fn ask_to_land(
        &mut self,
        now: Time,
        reason: &str,
        out: &mut Outbox,
    ) -> Result<&'static str, String> {
        match *self.standing.state() {
            Authority::Disarmed(_) | Authority::Arming => {
                self.call_off(now, reason, out);
                return Ok("nothing flies");
            }
            Authority::Adrift(Then::Recover | Then::Hold(_)) => {
                let reason = format!("{reason}; {}", self.standing.reason().to_owned());
                self.let_go(now, Then::Land, &reason, out);
            }
            Authority::Adrift(_) => {}
            _ => {
                if let Some(vehicle) = self.inputs.vehicle().copied() {
                    self.land(now, &vehicle, reason, out);
                }
            }
        }
        Ok("landing")
    }

    pub(crate) fn ask_to_stop(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        match *self.standing.state() {
            Authority::Disarmed(_) => Err("nothing flies".into()),
            Authority::Arming => {
                self.call_off(now, "asked to stop", out);
                Ok("arming is called off")
            }
            Authority::Adrift(_) => Err("nobody here can fly it now; the autopilot holds or lands".into()),
            _ => {
                let vehicle = self.inputs.situation(now).vehicle.ok_or("there is no odometry")?;
                self.hold(now, &vehicle, out);
                Ok("the guide holds the position")
            }
        }
    }

    pub(crate) fn ask_for_episode(&mut self, now: Time, out: &mut Outbox) -> Result<&'static str, String> {
        match self.standing.state() {
            Authority::Disarmed(_) | Authority::Arming => Err("it does not fly; call ~/arm first".into()),
            Authority::Adrift(_) => Err("nobody here can fly it now; the autopilot holds or lands".into()),
            _ => {
                self.fly_back(now, "asked for an episode", out);
                Ok("an episode starts at the setpoint")
            }
        }
    }
}
