//! Once per tick the situation is judged, and what it means for authority: on each odometry, each status, each timer.

use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{Outbox, Span, Time};

use crate::{
    authority::{Authority, Errand, Rest, Settle, Then},
    envelope::Vehicle,
    flight::Supervisor,
    inputs::From,
    node::GUIDE_SETPOINT,
    situation::{Autopilot, Health, Situation},
    touchdown::{self, Descent, Signs},
    transitions::Blame,
};

/// A reset that does not show in the odometry is asked for again after this.
const RESET_RETRY: Span = Span::from_millis(1000);
/// Doubt that lasts longer ends the flight while it can still be flown.
const LONGEST_DOUBT: Span = Span::from_millis(3000);
/// On the ground with idle motors the autopilot disarms by itself; after this it is asked to.
const DISARM_BY_ITSELF: Span = Span::from_millis(3000);
/// A vehicle that does not sink any more for so long, without signs of the ground, is left to the autopilot's landing.
const LONGEST_STUCK: Span = Span::from_millis(6000);
/// Battery warnings from this one on (critical) end the flight.
const BATTERY_CRITICAL: u8 = 2;

impl Supervisor {
    /// What autopilot, data and other supervisors mean for who flies.
    pub(crate) fn watch(&mut self, now: Time, out: &mut Outbox) {
        let s = self.inputs.situation(now);
        let elder = self.inputs.rival(now).is_some_and(|other| other < self.instance);
        match *self.standing.state() {
            Authority::Disarmed(Rest::UntilAsked) => {}
            Authority::Disarmed(Rest::New) if elder || self.shutdown_since.is_some() => {}
            Authority::Disarmed(Rest::New) => self.wake(&s, out),
            Authority::Arming => {
                let late = self.lasted(now) >= self.settings.arming_timeout;
                if elder {
                    self.call_off(now, "another supervisor that was started before flies", out);
                } else if s.autopilot == Autopilot::Ours {
                    self.armed(now, out);
                } else if late {
                    let said = self.inputs.last_status().map_or("", |s| s.message.as_str());
                    let reason = format!("arming took too long; the autopilot said: `{said}`");
                    tracing::error!("{reason}");
                    self.call_off(now, &reason, out);
                }
            }
            _ if elder => {
                tracing::error!("another supervisor that was started before flies: this one keeps out");
                self.lose(now, "another supervisor that was started before flies", out);
            }
            _ => self.watch_flight(&s, out),
        }
    }

    /// A vehicle that nobody flew since this process started.
    fn wake(&mut self, s: &Situation, out: &mut Outbox) {
        match s.autopilot {
            Autopilot::Ours | Autopilot::Parked => {
                if let Ok(vehicle) = s.flyable() {
                    self.take_over(s.at, &vehicle, out);
                }
            }
            Autopilot::Disarmed if self.settings.auto_arm => {
                let before = self.inputs.status(s.at).map_or("", |s| s.disarm_reason.as_str());
                if before.is_empty() {
                    // Not ready yet is no error while it starts up.
                    let _ = self.arm(s.at, out);
                } else {
                    let reason =
                        format!("not armed by itself, for it was disarmed before ({before}): call ~/arm");
                    tracing::warn!("{reason}");
                    self.call_off(s.at, &reason, out);
                }
            }
            Autopilot::Disarmed | Autopilot::Silent | Autopilot::Taken => {}
        }
    }

    fn watch_flight(&mut self, s: &Situation, out: &mut Outbox) {
        let now = s.at;
        match s.autopilot {
            Autopilot::Disarmed => {
                let why = self.inputs.status(now).map_or("", |s| s.disarm_reason.as_str());
                let reason = match (*self.standing.state(), why) {
                    (Authority::Land(_), "") => "landed".to_owned(),
                    (Authority::Land(_), why) => format!("landed; the autopilot disarmed: {why}"),
                    (_, "") => "the autopilot disarmed".to_owned(),
                    (_, why) => format!("the autopilot disarmed: {why}"),
                };
                return self.lose(now, &reason, out);
            }
            Autopilot::Taken => {
                // The pilot's decision, or the autopilot's: it is not fought.
                return self.lose(now, "the autopilot left offboard control", out);
            }
            Autopilot::Parked if self.inputs.landed(now) => {
                return self.lose(now, "the autopilot has landed it", out);
            }
            Autopilot::Silent | Autopilot::Ours | Autopilot::Parked => {}
        }
        if let Some(then) = self.adrift() {
            if let (Ok(vehicle), true) = (s.flyable(), then != Then::Nothing) {
                self.resume(now, then, &vehicle, out);
            }
            return;
        }
        let then = self.standing.state().then();
        let hopeless = match (s.autopilot, s.vehicle, s.health) {
            (Autopilot::Silent, ..) => Some("no fresh vehicle/status"),
            (_, None, _) => Some("no odometry"),
            // On the ground the motors idle whatever is known.
            (_, _, Health::Unflyable(_)) if self.is_down() => None,
            (_, _, Health::Unflyable(reason)) => Some(reason),
            _ => None,
        };
        if let Some(reason) = hopeless {
            return self.let_go(now, then, reason, out);
        }
        let Some(vehicle) = s.vehicle else { return };
        if self.inputs.status(now).is_some_and(|s| s.battery_warning >= BATTERY_CRITICAL) {
            return self.land(now, &vehicle, "the battery is critical", out);
        }
        match s.health {
            Health::Doubtful(reason) => {
                let since = *self.doubtful_since.get_or_insert(now);
                if now - since >= LONGEST_DOUBT {
                    self.land(now, &vehicle, reason, out);
                }
            }
            _ => self.doubtful_since = None,
        }
    }

    fn is_down(&self) -> bool {
        matches!(self.standing.state(), Authority::Land(Descent::Down { .. }))
    }

    /// What the autopilot complains of, in words; announced when it changes.
    pub(crate) fn listen(&mut self, now: Time, m: &sw::VehicleStatus, out: &mut Outbox) {
        let battery = match m.battery_warning {
            0 => "",
            1 => "battery low",
            BATTERY_CRITICAL => "battery critical",
            _ => "battery at its end",
        };
        let failsafe = if m.failsafe && m.failsafes.is_empty() { "failsafe" } else { m.failsafes.as_str() };
        let parts: Vec<&str> = [battery, failsafe].into_iter().filter(|p| !p.is_empty()).collect();
        let complaint = parts.join(", ");
        if complaint != self.complaint {
            if !complaint.is_empty() {
                tracing::warn!("the autopilot says: {complaint}");
            }
            self.complaint = complaint;
            self.announce(now, out);
        }
    }

    /// What new odometry means for the flight; before the decision on it.
    pub(crate) fn judge(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        let s = self.inputs.situation(now);
        let state = *self.standing.state();
        if state.flies()
            && !matches!(state, Authority::Land(_) | Authority::Adrift(_))
            && let Some(how) = self.settings.fence.outside(&vehicle.position)
        {
            tracing::error!("the vehicle left the fence ({how}): it lands");
            return self.land(now, vehicle, &format!("left the fence: {how}"), out);
        }
        match state {
            Authority::Guide(Errand::Episode(episode)) | Authority::Student(episode) => {
                let envelope = self.settings.envelope;
                let foreseen = matches!(state, Authority::Student(_))
                    .then(|| {
                        envelope.foresee(vehicle, self.inputs.before(), self.target.at(), self.ground_z_m)
                    })
                    .flatten();
                let violation = envelope.violation(vehicle, self.target.at()).or(foreseen);
                if let Health::Doubtful(reason) = s.health {
                    self.leave_envelope(now, reason, Blame::Nobody, out);
                } else if s.autopilot == Autopilot::Parked {
                    self.leave_envelope(
                        now,
                        "the autopilot flies until it hears commands",
                        Blame::Nobody,
                        out,
                    );
                } else if let Some(reason) = violation {
                    let blame = if self.inputs.obeyed(now) { Blame::Policy } else { Blame::Nobody };
                    self.leave_envelope(now, reason, blame, out);
                } else if self.settings.episodes && episode.step >= self.settings.episode_steps {
                    self.finish_episode(now, out);
                }
            }
            Authority::Guide(Errand::Reset(asked)) => {
                let there = self.settings.envelope.violation(vehicle, self.target.at()).is_none();
                if now - asked >= RESET_RETRY {
                    if let Some(asked) = self.standing.reset_mut() {
                        *asked = now;
                    }
                    self.call_reset(out);
                } else if now - asked >= self.settings.reset_settle && there && may_begin(&s) {
                    self.begin_episode(now, out);
                }
            }
            Authority::Guide(Errand::Approach(_)) | Authority::Recover(_)
                if self.settings.reset_each_episode =>
            {
                self.ask_reset(now, "a simulator puts the vehicle back", out);
            }
            Authority::Guide(Errand::Approach(settle)) | Authority::Recover(settle) => {
                let near = (vehicle.position - self.target.at()).norm() <= self.settings.start_radius_m
                    && vehicle.velocity.norm() <= self.settings.start_speed_mps;
                let since = (near && may_begin(&s)).then(|| settle.0.unwrap_or(now));
                if since.is_some_and(|since| now - since >= self.settings.settle) {
                    self.begin_episode(now, out);
                } else if let Some(settle) = self.standing.settle_mut() {
                    *settle = Settle(since);
                }
            }
            _ => {}
        }
    }

    /// Where the guide should go when it is not the setpoint, and whether the ground is reached.
    pub(crate) fn fly_guide(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        let target = match *self.standing.state() {
            Authority::Hold(at) => at,
            Authority::Land(Descent::Sinking { from, since, mut stuck, mut agreed }) => {
                let (target, is_stuck) =
                    touchdown::sink(now, vehicle, self.settings.land_speed_mps, &from, since, &mut stuck);
                let signs = self.signs(now, is_stuck);
                let high = touchdown::is_high(vehicle, self.ground_z_m);
                let down = touchdown::agreed(now, &signs, high, &mut agreed);
                if let Some(descent) = self.standing.descent_mut() {
                    *descent = Descent::Sinking { from, since, stuck, agreed };
                }
                if down {
                    self.set_down(now, &signs.words(), out);
                } else if stuck.is_some_and(|(_, at)| now - at >= LONGEST_STUCK) {
                    self.let_go(
                        now,
                        Then::Nothing,
                        "it sinks no more, and nothing says that it has landed",
                        out,
                    );
                }
                target
            }
            Authority::Land(Descent::Down { since }) => {
                if touchdown::falls(now, vehicle, self.inputs.imu()) {
                    self.lift_off(now, vehicle, out);
                } else if now - since >= DISARM_BY_ITSELF {
                    self.lose(now, "landed; the autopilot has not disarmed by itself and is asked to", out);
                }
                vehicle.position - nalgebra::Vector3::new(0.0, 0.0, 0.5)
            }
            _ => return,
        };
        let target = spikewing_quad::Setpoint { position: target, ..*self.target.setpoint() };
        out.publish(&GUIDE_SETPOINT, crate::node::pose(now, &target));
    }

    fn signs(&self, now: Time, is_stuck: bool) -> Signs {
        let guide = self.inputs.offer(From::Guide);
        Signs {
            detector: self.inputs.status(now).map(|s| s.landed),
            stuck: Some(is_stuck),
            rests: self.inputs.imu().rests(now),
            low_thrust: guide.and_then(|offer| self.hover.exceeds(&offer.command.motors)),
        }
    }
}

/// Whether an episode may begin: the vehicle does what we command, its state is known, and the guide can fly the first steps.
fn may_begin(s: &Situation) -> bool {
    s.autopilot == Autopilot::Ours && s.health == Health::Sound && s.guide.is_ok()
}
