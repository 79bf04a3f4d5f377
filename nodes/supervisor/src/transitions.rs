//! Every transition of authority, each with its reason. Nothing else changes who flies.
//!
//! | from | transition | to | when |
//! |---|---|---|---|
//! | Disarmed (new) | `take_over` | Guide, Land | the autopilot is armed and in offboard mode (or the bridge parked it): a process before this one flew it. On the ground: Land |
//! | Disarmed | `ask_to_arm` | Arming | `~/arm`; `auto_arm`, once, if nobody was disarmed before |
//! | Arming | `armed` | Guide | the autopilot says armed and offboard |
//! | Arming | `call_off` | Disarmed | `~/stop`, `~/land`, its time is over, another supervisor |
//! | Guide, Recover | `begin_episode` | Guide (episode) | settled at the setpoint, or put back by a simulator |
//! | Guide, Recover | `ask_reset` | Guide (reset) | a simulator puts the vehicle back before an episode |
//! | Guide (episode) | `hand_to_student` | Student | guide steps are over, the student is fit, nothing is doubtful |
//! | Student | `student_unfit` | Recover | its command is stale, cold or forbidden |
//! | Guide (episode), Student | `leave_envelope` | Recover, Guide (reset) | envelope left or about to be, data doubtful |
//! | Guide (episode), Student | `finish_episode` | Guide | its steps are over |
//! | any that flies | `fly_back` | Recover | `~/start_episode` |
//! | any that flies | `hold` | Hold | `~/stop` |
//! | any that flies | `land` | Land | `~/land`, the process is stopped, fence left, battery critical, doubt that lasts |
//! | Land | `set_down`, `lift_off` | Land | touchdown by several signs; it falls after all |
//! | any that flies | `let_go` | Adrift | no odometry, no guide, data that cannot be flown, no fresh status |
//! | Adrift | `resume` | Recover, Hold, Land | all of that is there again |
//! | any that flies | `lose` | Disarmed (until asked) | the autopilot disarmed, or somebody took it out of offboard mode; another supervisor; landed |

use spikewing_runtime::{Outbox, Span, Time};

use crate::{
    authority::{Authority, Episode, Errand, Rest, Settle, Then},
    envelope::Vehicle,
    episode::EndKind,
    flight::Supervisor,
    settings::OnViolation,
    touchdown::Descent,
};

/// Whether the student's policy is to blame for losing authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    Policy,
    Nobody,
}

impl Supervisor {
    /// A process before this one flew it, and is gone.
    pub(crate) fn take_over(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        if self.inputs.landed(now) {
            let state = Authority::Land(Descent::from(now, vehicle.position));
            return self.enter(
                now,
                state,
                "took over a vehicle that stands armed on the ground: it lands",
                out,
            );
        }
        tracing::warn!("the vehicle flies already: the guide takes over");
        self.keep_heading(vehicle);
        let state = Authority::Guide(Errand::Approach(Settle::default()));
        self.enter(now, state, "took over a vehicle that flies", out);
    }

    pub(crate) fn ask_to_arm(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.enter(now, Authority::Arming, reason, out);
    }

    pub(crate) fn armed(&mut self, now: Time, out: &mut Outbox) {
        self.ground_z_m = self.inputs.vehicle().map(|v| v.position.z).filter(|_| self.inputs.landed(now));
        if let Some(vehicle) = self.inputs.vehicle().copied() {
            self.keep_heading(&vehicle);
            self.publish_target(now, out);
        }
        self.enter(now, Authority::Guide(Errand::Approach(Settle::default())), "armed", out);
    }

    /// A vehicle that faces west takes off facing west, until somebody asks for another heading. One that a simulator puts back
    /// before each episode is put back facing the setpoint's.
    fn keep_heading(&mut self, vehicle: &Vehicle) {
        if !self.settings.reset_each_episode
            && let Some(heading) = spikewing_quad::setpoint::heading(&vehicle.orientation)
        {
            self.target.keep_heading(heading);
        }
    }

    pub(crate) fn call_off(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.enter(now, Authority::Disarmed(Rest::UntilAsked), reason, out);
    }

    pub(crate) fn begin_episode(&mut self, now: Time, out: &mut Outbox) {
        self.episodes.begin();
        self.blamed = 0;
        let state = Authority::Guide(Errand::Episode(Episode::default()));
        self.enter(now, state, "an episode starts", out);
    }

    /// A simulator puts the vehicle back; an episode starts when it is there.
    pub(crate) fn ask_reset(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.enter(now, Authority::Guide(Errand::Reset(now)), reason, out);
        self.call_reset(out);
    }

    pub(crate) fn hand_to_student(&mut self, now: Time, episode: Episode, out: &mut Outbox) {
        self.enter(now, Authority::Student(episode), "the student is warm", out);
    }

    pub(crate) fn student_unfit(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.takeovers += 1;
        let (episode, step) = (self.episodes.id(), self.standing.state().episode().map_or(0, |e| e.step));
        tracing::warn!(episode, step, "the guide takes over: {reason}");
        self.close_episode(now, EndKind::Truncated, out);
        self.enter(now, Authority::Recover(Settle::default()), reason, out);
    }

    /// Out of the envelope, or about to be; `blame` says whether by the student's own doing.
    pub(crate) fn leave_envelope(&mut self, now: Time, reason: &str, blame: Blame, out: &mut Outbox) {
        let by_student = matches!(self.standing.state(), Authority::Student(_));
        if by_student && blame == Blame::Policy {
            self.blamed = self.flown_version;
        }
        tracing::debug!(episode = self.episodes.id(), "{reason}");
        let end = match blame {
            Blame::Policy => EndKind::Terminated,
            Blame::Nobody => EndKind::Truncated,
        };
        self.violations += u64::from(blame == Blame::Policy);
        self.close_episode(now, end, out);
        match self.settings.on_violation {
            OnViolation::Reset => self.ask_reset(now, reason, out),
            _ => {
                self.takeovers += u64::from(by_student);
                self.enter(now, Authority::Recover(Settle::default()), reason, out);
            }
        }
    }

    pub(crate) fn finish_episode(&mut self, now: Time, out: &mut Outbox) {
        self.close_episode(now, EndKind::Truncated, out);
        let reason = "the episode is over";
        if self.settings.reset_each_episode {
            self.ask_reset(now, reason, out);
        } else {
            self.enter(now, Authority::Guide(Errand::Approach(Settle::default())), reason, out);
        }
    }

    pub(crate) fn fly_back(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.close_episode(now, EndKind::Truncated, out);
        self.enter(now, Authority::Recover(Settle::default()), reason, out);
    }

    pub(crate) fn hold(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        self.close_episode(now, EndKind::Truncated, out);
        self.enter(now, Authority::Hold(vehicle.position), "asked to stop", out);
    }

    pub(crate) fn land(&mut self, now: Time, vehicle: &Vehicle, reason: &str, out: &mut Outbox) {
        if matches!(self.standing.state(), Authority::Land(_) | Authority::Adrift(Then::Nothing)) {
            return;
        }
        self.close_episode(now, EndKind::Truncated, out);
        self.enter(now, Authority::Land(Descent::from(now, vehicle.position)), reason, out);
    }

    /// On the ground, by several signs: the motors idle, and the autopilot may disarm.
    pub(crate) fn set_down(&mut self, now: Time, signs: &str, out: &mut Outbox) {
        let reason = format!("touched down ({signs}): motors idle");
        self.enter(now, Authority::Land(Descent::Down { since: now }), &reason, out);
    }

    /// It was not the ground.
    pub(crate) fn lift_off(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        tracing::error!("the vehicle falls: that was not the ground, the guide lands it");
        let state = Authority::Land(Descent::from(now, vehicle.position));
        self.enter(now, state, "it falls: that was not the ground", out);
    }

    /// Nobody here can fly it: nothing is commanded, and the autopilot has it.
    pub(crate) fn let_go(&mut self, now: Time, then: Then, reason: &str, out: &mut Outbox) {
        tracing::error!("{reason}: nothing is commanded, the autopilot takes over");
        self.close_episode(now, EndKind::Truncated, out);
        let reason = format!("{reason}: nothing is commanded, the autopilot takes over");
        self.enter(now, Authority::Adrift(then), &reason, out);
    }

    pub(crate) fn resume(&mut self, now: Time, then: Then, vehicle: &Vehicle, out: &mut Outbox) {
        let state = match then {
            Then::Recover => Authority::Recover(Settle::default()),
            Then::Hold(at) => Authority::Hold(at),
            Then::Land => Authority::Land(Descent::from(now, vehicle.position)),
            Then::Nothing => return,
        };
        self.enter(now, state, "it can be flown again", out);
    }

    /// It is no longer ours.
    pub(crate) fn lose(&mut self, now: Time, reason: &str, out: &mut Outbox) {
        self.close_episode(now, EndKind::Truncated, out);
        self.enter(now, Authority::Disarmed(Rest::UntilAsked), reason, out);
    }

    fn enter(&mut self, now: Time, state: Authority, reason: &str, out: &mut Outbox) {
        self.standing.enter(now, state, reason);
        self.doubtful_since = None;
        self.announce(now, out);
    }

    /// How long the present state has lasted.
    pub(crate) fn lasted(&self, now: Time) -> Span {
        now - self.standing.since()
    }
}
