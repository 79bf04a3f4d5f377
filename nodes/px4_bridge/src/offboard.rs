//! Offboard control as a state machine: when PX4 hears a heartbeat, when motors, and what is asked of it.
//!
//! | state | heartbeat | motors | left for |
//! |---|---|---|---|
//! | standby | – | – | streaming, when the supervisor asks to arm; regaining, when it flies and nobody took the vehicle; flying, when PX4 is armed and in offboard mode already (a restarted bridge); resuming, before PX4's first status |
//! | resuming | with each fresh command | with each fresh command, while the status that the supervisor vouches for is fresh | whatever PX4's first status says; standby |
//! | streaming | with each fresh command | – | requesting after `heartbeat_lead_s`; flying |
//! | requesting | with each fresh command | – | flying; standby when PX4 refuses for too long, when somebody takes the vehicle, or when it is disarmed again |
//! | flying | with each fresh command | with each fresh command | regaining when this process stood still and PX4's failsafe has it; standing in when the supervisor is silent and the guide is not; handing over when commands stop; silent when PX4's status stops; standby when PX4 or a person takes the vehicle, or disarms |
//! | standing in | with each fresh command of the guide | with each fresh command of the guide | flying when the supervisor is back; handing over after `stand_in_s`, or when the guide stops; as flying otherwise |
//! | silent | – | – | flying, regaining or standby, as the next status says |
//! | handing over | – | – | handed over, when PX4 flies by itself; standby |
//! | handed over | – | – | regaining when commands are back; standby |
//! | regaining | with each fresh command | – | flying; standby |
//!
//! Every change goes through [`Offboard::enter`] with its reason. Time and everything that is known come in as one
//! [`Situation`], so that what may be sent is a function of the two: [`Offboard::heartbeat`], [`Offboard::motors`].

use spikewing_msgs::px4_msgs::VehicleCommandAck;
use spikewing_runtime::{Span, Time};

use crate::requests::{Attempts, Mode, Wanted};

/// What the supervisor wants of the autopilot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Motors off.
    Disarmed,
    /// To be armed. Each asking has a time of its own, and is worth one arming.
    Arm {
        /// When it was asked for.
        asked: Time,
    },
    /// It believes that the vehicle flies, and commands it.
    Fly,
}

/// The autopilot's last status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autopilot {
    /// When it came.
    pub received: Time,
    /// Motors may turn.
    pub armed: bool,
    /// The mode that it is in.
    pub mode: Mode,
    /// The mode that was last asked for, by us or by a person; a failsafe leaves it alone.
    pub intended: Mode,
}

/// Everything that a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The node's time.
    pub now: Time,
    /// What the supervisor wants.
    pub intent: Intent,
    /// Time since the last command; `None`: there was none.
    pub command_age: Option<Span>,
    /// Time since the guide's last command, where it may be flown without the supervisor.
    pub guide_age: Option<Span>,
    /// When the autopilot was last armed and in offboard mode, by the supervisor's account: what an earlier process of
    /// this node told it.
    pub vouched: Option<Time>,
    /// The autopilot's last status, however old.
    pub autopilot: Option<Autopilot>,
    /// The vehicle stands on the ground, by more signs than one.
    pub grounded: bool,
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A command older than this is stale.
    pub command: Span,
    /// Commands that are missing for so long: PX4 is asked to fly by itself.
    pub handover: Span,
    /// A status older than this says nothing any more.
    pub status: Span,
    /// The heartbeat streams for so long before offboard mode is asked for.
    pub lead: Span,
    /// Time between two attempts of a request.
    pub period: Span,
    /// Attempts before a request is given up.
    pub attempts: u64,
    /// The guide's commands are flown for so long while the supervisor is silent; zero: never.
    pub stand_in: Span,
    /// PX4 holds for so long, waiting for commands, and then lands.
    pub hold: Span,
}

/// Why the bridge stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// Nobody wants to fly.
    Idle,
    /// PX4 or a person has the vehicle, or disarmed it: nothing is sent until arming is asked for anew.
    Released,
    /// PX4 refused for too long.
    GivenUp,
}

/// What PX4 is asked for when nobody commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// To stay where it is.
    Hold,
    /// To land.
    Land,
}

/// The states, each with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// Nothing is sent.
    Standby(Standby),
    /// The heartbeat has to stream for a while before PX4 believes it; `since` is empty while commands are missing.
    Streaming { asked: Time, since: Option<Time> },
    /// Offboard mode and arming are asked for.
    Requesting { asked: Time, attempts: Attempts },
    /// Started anew while the vehicle flies: until PX4's first status comes, the one that the process before heard holds.
    Resuming { since: Time },
    /// Armed, in offboard mode, commanded.
    Flying,
    /// The supervisor is silent, and started anew before long: the guide's commands are flown.
    StandingIn,
    /// PX4's status has stopped: whoever has the vehicle now, we do not.
    Silent,
    /// Commands have stopped: PX4 is asked to fly by itself.
    HandingOver { to: Handover, attempts: Attempts },
    /// It does, on our request and nobody else's.
    HandedOver { to: Handover, since: Time },
    /// Commands are back, and nobody took the vehicle in between: back into offboard mode.
    Regaining { since: Time, attempts: Attempts },
    /// On the ground, done: PX4 is asked to disarm unless it does so by itself.
    Disarming { attempts: Attempts },
}

/// PX4 disarms by itself after a landing (COM_DISARM_LAND, 2 s by default); it is left the time.
const DISARM_LEAD: Span = Span::from_millis(3000);
/// Holding and landing are asked for again after this: seconds count.
const HANDOVER_PERIOD: Span = Span::from_millis(100);
/// PX4 repeats its status every half second. Heard by an earlier process of this node, it holds for a little longer, and so
/// long at most after the start: then PX4 is silent, and a pilot may have the vehicle.
const VOUCHED: Span = Span::from_millis(600);
/// The situation is judged fifty times a second. What was not for so long stood still, and its heartbeat with it.
const PAUSE: Span = Span::from_millis(150);
/// A failsafe of PX4's is for want of the heartbeat when it shows so long after a pause at most: status comes twice a second.
const PAUSE_SHOWS: Span = Span::from_millis(1500);
/// Commands may be missing for so long while PX4 is asked to arm; its patience with the heartbeat is longer.
const HICCUP: Span = Span::from_millis(300);
/// PX4 may take so long to obey before its mode counts as somebody else's.
const OBEYS: Span = Span::from_millis(1500);

/// The state machine.
#[derive(Clone, Debug)]
pub struct Offboard {
    limits: Limits,
    handover: Handover,
    state: State,
    reason: String,
    /// The asking that was answered with an arming, or given up.
    served: Option<Time>,
    /// A process takes over on another's word once.
    resumed: bool,
    /// When the situation was judged last, and when that was after a pause.
    judged: Option<Time>,
    woken: Option<Time>,
}

impl Offboard {
    /// Standing by.
    pub fn new(limits: Limits, handover: Handover) -> Self {
        let state = State::Standby(Standby::Idle);
        Self {
            limits,
            handover,
            state,
            reason: String::new(),
            served: None,
            resumed: false,
            judged: None,
            woken: None,
        }
    }

    /// Why it is what it is, where a person should know; empty: all is well.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the autopilot flies by itself because nobody commands: it was asked to, or its own failsafe has the vehicle
    /// that a process before this one commanded.
    pub fn handed_over(&self, s: &Situation) -> bool {
        let waits = matches!(self.state, State::Standby(Standby::Idle))
            && self
                .fresh(s)
                .is_some_and(|a| a.armed && a.mode != Mode::Offboard && a.intended == Mode::Offboard);
        waits
            || matches!(
                self.state,
                State::HandingOver { .. } | State::HandedOver { .. } | State::Regaining { .. }
            )
    }

    /// Whether the guide's commands are the ones to be flown.
    pub fn stands_in(&self) -> bool {
        matches!(self.state, State::StandingIn)
    }

    fn fresh<'a>(&self, s: &'a Situation) -> Option<&'a Autopilot> {
        s.autopilot.as_ref().filter(|a| s.now - a.received <= self.limits.status)
    }

    fn commanded(&self, s: &Situation) -> bool {
        s.command_age.is_some_and(|age| age <= self.limits.command)
    }

    /// Whether the guide may be flown, the supervisor having fallen silent a moment ago.
    fn guided(&self, s: &Situation) -> bool {
        let moment = self.limits.command + self.limits.stand_in;
        self.limits.stand_in > Span::ZERO
            && s.guide_age.is_some_and(|age| age <= self.limits.command)
            && s.command_age.is_some_and(|age| age <= moment)
    }

    /// Whether the supervisor passes on a status that is fresh, this process having heard none yet.
    fn vouched(&self, s: &Situation) -> bool {
        s.autopilot.is_none() && s.vouched.is_some_and(|at| (Span::ZERO..=VOUCHED).contains(&(s.now - at)))
    }

    /// Whether a heartbeat may be sent.
    pub fn heartbeat(&self, s: &Situation) -> bool {
        match self.state {
            State::StandingIn => self.guided(s),
            State::Streaming { .. }
            | State::Requesting { .. }
            | State::Resuming { .. }
            | State::Flying
            | State::Regaining { .. } => self.commanded(s),
            // A supervisor that flies while no status came yet: a bridge that was restarted. The heartbeat spares PX4 its
            // failsafe, commands nothing, and ends with the first status that says otherwise.
            State::Standby(Standby::Idle) => {
                self.commanded(s) && s.intent == Intent::Fly && s.autopilot.is_none()
            }
            _ => false,
        }
    }

    /// Whether motors may be commanded: only with a fresh status that says armed and offboard.
    pub fn motors(&self, s: &Situation) -> bool {
        let ours = || self.fresh(s).is_some_and(|a| a.armed && a.mode == Mode::Offboard);
        match self.state {
            State::Flying => self.commanded(s) && ours(),
            State::StandingIn => self.guided(s) && ours(),
            State::Resuming { .. } => self.commanded(s) && self.vouched(s),
            _ => false,
        }
    }

    fn enter(&mut self, state: State, reason: &str) {
        if self.state != state && !reason.is_empty() {
            tracing::info!("{reason}");
        }
        self.state = state;
        reason.clone_into(&mut self.reason);
    }

    /// Judges the situation: changes the state, and returns the request that is due, if any.
    pub fn step(&mut self, s: &Situation) -> Option<Wanted> {
        if self.judged.replace(s.now).is_some_and(|last| s.now - last > PAUSE) {
            self.woken = Some(s.now);
        }
        match self.state {
            State::Standby(why) => self.standby(why, s),
            State::Streaming { asked, since } => self.streaming(asked, since, s),
            State::Requesting { asked, attempts } => self.requesting(asked, attempts, s),
            State::Resuming { since } => self.resuming(since, s),
            State::Flying => self.flying(s),
            State::StandingIn => self.standing_in(s),
            State::Silent => self.silent(s),
            State::HandingOver { to, attempts } => self.handing_over(to, attempts, s),
            State::HandedOver { to, since } => self.handed(to, since, s),
            State::Regaining { since, attempts } => self.regaining(since, attempts, s),
            State::Disarming { attempts } => self.disarming(attempts, s),
        }
    }

    fn standby(&mut self, why: Standby, s: &Situation) -> Option<Wanted> {
        match s.intent {
            Intent::Disarmed => {
                let ours = self.fresh(s).is_some_and(|a| {
                    a.armed && (a.mode == Mode::Offboard || (a.mode.lands() && why != Standby::Released))
                });
                if ours && s.grounded {
                    self.enter(State::Disarming { attempts: Attempts::after(s.now, DISARM_LEAD) }, "");
                } else if why != Standby::Idle {
                    self.enter(State::Standby(Standby::Idle), "");
                }
            }
            Intent::Arm { asked } if self.served != Some(asked) => {
                self.enter(State::Streaming { asked, since: None }, "");
            }
            Intent::Arm { .. } => {}
            Intent::Fly if why != Standby::Idle || !self.commanded(s) => {}
            Intent::Fly => {
                if let Some(a) = self.fresh(s) {
                    if a.armed && a.mode == Mode::Offboard {
                        self.enter(State::Flying, "took over a vehicle that flies");
                    } else if a.armed && a.intended == Mode::Offboard {
                        self.regain(s, "PX4 flies by itself because nobody commanded; regaining control");
                    } else {
                        self.enter(
                            State::Standby(Standby::Released),
                            "the supervisor believes that it flies, but PX4 is disarmed or in another mode",
                        );
                    }
                } else if self.vouched(s) && !self.resumed {
                    self.resumed = true;
                    self.enter(
                        State::Resuming { since: s.now },
                        "goes on with a vehicle that flies, on the status that the process before heard",
                    );
                }
            }
        }
        None
    }

    fn streaming(&mut self, asked: Time, since: Option<Time>, s: &Situation) -> Option<Wanted> {
        if s.intent != (Intent::Arm { asked }) {
            self.enter(State::Standby(Standby::Idle), "");
            return None;
        }
        if !self.commanded(s) {
            self.state = State::Streaming { asked, since: None };
            return None;
        }
        let since = since.unwrap_or(s.now);
        self.state = State::Streaming { asked, since: Some(since) };
        let a = *self.fresh(s)?;
        if a.armed && a.mode == Mode::Offboard {
            self.served = Some(asked);
            self.enter(State::Flying, "");
        } else if a.armed && a.intended != Mode::Offboard {
            self.served = Some(asked);
            let text = format!("PX4 is armed already, in {} mode: whoever flies it keeps it", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
        } else if s.now - since >= self.limits.lead {
            self.state = State::Requesting { asked, attempts: Attempts::at_once(s.now) };
            return self.step(s);
        }
        None
    }

    fn requesting(&mut self, asked: Time, mut attempts: Attempts, s: &Situation) -> Option<Wanted> {
        if s.intent != (Intent::Arm { asked }) {
            self.served = Some(asked);
            self.enter(State::Standby(Standby::Idle), "");
            return None;
        }
        if s.command_age.is_none_or(|age| age > HICCUP) {
            if attempts.asked(Wanted::Arm) {
                // It may have been granted unheard, and disarmed by a person since: one asking is worth one arming.
                self.served = Some(asked);
                let text = "commands stopped while PX4 was asked to arm: ask again";
                self.enter(State::Standby(Standby::GivenUp), text);
            } else {
                self.state = State::Streaming { asked, since: None };
            }
            return None;
        }
        if !self.commanded(s) {
            return None;
        }
        let a = *self.fresh(s)?;
        if a.armed && a.mode == Mode::Offboard {
            self.served = Some(asked);
            self.enter(State::Flying, "");
            return None;
        }
        if attempts.asked(Wanted::Arm) && a.mode != Mode::Offboard && a.intended != Mode::Offboard {
            self.served = Some(asked);
            let text = format!("somebody took the vehicle into {} mode before it was armed", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
            return None;
        }
        if attempts.armed(s.now, OBEYS) && !a.armed {
            self.served = Some(asked);
            self.enter(State::Standby(Standby::Released), "PX4 was armed and disarmed again at once");
            return None;
        }
        if attempts.granted(Wanted::Arm) {
            // One arming for one asking; its status is under way.
            return None;
        }
        let wanted = if a.mode == Mode::Offboard { Wanted::Arm } else { Wanted::Enter(Mode::Offboard) };
        if attempts.exhausted(wanted, s.now, self.limits.period, self.limits.attempts) {
            self.served = Some(asked);
            let text = format!("gave up after {} attempts: {}", attempts.count(), attempts.refusal());
            tracing::warn!("{text}");
            self.enter(State::Standby(Standby::GivenUp), &text);
            return None;
        }
        if !attempts.asked(wanted) {
            // What was said of another request explains nothing about this one.
            self.reason.clear();
        }
        let due = attempts.due(wanted, s.now, self.limits.period);
        self.state = State::Requesting { asked, attempts };
        due
    }

    /// PX4's status, in a state in which the vehicle is ours: whether it still is. The change is made if it is not.
    fn kept(&mut self, a: &Autopilot) -> bool {
        if !a.armed {
            self.enter(
                State::Standby(Standby::Released),
                "PX4 disarmed, or was disarmed; nothing arms it before it is asked for",
            );
            return false;
        }
        true
    }

    /// Before PX4's first status.
    fn resuming(&mut self, since: Time, s: &Situation) -> Option<Wanted> {
        if s.autopilot.is_some() {
            self.enter(State::Standby(Standby::Idle), "");
            return self.step(s);
        }
        let goes_on = s.intent == Intent::Fly && self.commanded(s) && self.vouched(s);
        if !goes_on || s.now - since > VOUCHED {
            self.enter(
                State::Standby(Standby::Idle),
                "PX4's status does not come: nothing is commanded until it does",
            );
        }
        None
    }

    /// Whether the vehicle is still ours, and in offboard mode. The change is made if it is not.
    fn still_ours(&mut self, s: &Situation) -> bool {
        let Some(a) = self.fresh(s).copied() else {
            self.enter(State::Silent, "PX4's status has stopped: nothing is commanded until it is back");
            return false;
        };
        if !self.kept(&a) {
            return false;
        }
        if a.mode == Mode::Offboard {
            return true;
        }
        let slept = self.woken.is_some_and(|at| s.now - at <= PAUSE_SHOWS);
        if a.intended == Mode::Offboard && slept {
            self.regain(s, "this process stood still, so that PX4 flies by itself; regaining control");
            return false;
        }
        let who = if a.intended == Mode::Offboard { "PX4's failsafe" } else { "somebody" };
        let text = format!("{who} took the vehicle out of offboard mode, into {}", a.mode);
        self.enter(State::Standby(Standby::Released), &text);
        false
    }

    fn regain(&mut self, s: &Situation, reason: &str) {
        self.enter(State::Regaining { since: s.now, attempts: Attempts::at_once(s.now) }, reason);
    }

    fn flying(&mut self, s: &Situation) -> Option<Wanted> {
        if !self.still_ours(s) {
            return None;
        }
        if s.intent == Intent::Disarmed && s.grounded {
            self.enter(State::Disarming { attempts: Attempts::after(s.now, DISARM_LEAD) }, "");
            return None;
        }
        if !self.commanded(s) && self.guided(s) {
            tracing::warn!("the supervisor is silent: the guide's commands are flown");
            self.enter(State::StandingIn, "the supervisor is silent: the guide's commands are flown");
            return None;
        }
        // After a pause of this process what arrived meanwhile is yet to be heard.
        let awake = self.woken.is_none_or(|at| s.now - at > self.limits.handover);
        if awake && s.command_age.is_none_or(|age| age > self.limits.handover) {
            return self.commands_stopped(s);
        }
        None
    }

    fn standing_in(&mut self, s: &Situation) -> Option<Wanted> {
        if !self.still_ours(s) {
            return None;
        }
        if self.commanded(s) {
            self.enter(State::Flying, "commands are back");
            return self.step(s);
        }
        if !self.guided(s) {
            return self.commands_stopped(s);
        }
        None
    }

    fn commands_stopped(&mut self, s: &Situation) -> Option<Wanted> {
        // Nobody wants to fly it any more, and it is not on the ground: it should not stay up.
        let to = if s.intent == Intent::Disarmed { Handover::Land } else { self.handover };
        let text = format!("commands have stopped: PX4 is asked to {to}");
        tracing::warn!("{text}");
        self.enter(State::HandingOver { to, attempts: Attempts::at_once(s.now) }, &text);
        self.step(s)
    }

    fn silent(&mut self, s: &Situation) -> Option<Wanted> {
        let a = *self.fresh(s)?;
        if self.kept(&a) {
            if a.mode == Mode::Offboard {
                self.enter(State::Flying, "PX4's status is back");
                return self.step(s);
            }
            if a.intended == Mode::Offboard {
                // No heartbeat was sent meanwhile.
                self.regain(s, "PX4's status is back, and it flies by itself; regaining control");
                return None;
            }
            let text = format!("PX4 left offboard mode while its status was missing: it is in {}", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
        }
        None
    }

    fn handing_over(&mut self, to: Handover, mut attempts: Attempts, s: &Situation) -> Option<Wanted> {
        let Some(a) = self.fresh(s).copied() else {
            self.enter(State::Silent, "PX4's status has stopped while it was asked to fly by itself");
            return None;
        };
        if !self.kept(&a) {
            return None;
        }
        if a.mode == to.mode() || (a.mode != Mode::Offboard && a.intended == to.mode()) {
            let text = format!("commands have stopped: PX4 was asked to {to}, and does");
            self.enter(State::HandedOver { to, since: s.now }, &text);
            return None;
        }
        // From holding, which was our own doing, to landing.
        let holds = to == Handover::Land && a.intended == Handover::Hold.mode();
        if a.mode != Mode::Offboard && a.intended != Mode::Offboard && !holds {
            let text = format!("somebody took the vehicle into {} while commands were missing", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
            return None;
        }
        if a.mode != Mode::Offboard && !holds {
            // Its own failsafe was faster: it flies by itself for want of commands, which is what was wanted.
            let text = format!("commands have stopped: PX4's failsafe has it, in {}", a.mode);
            self.enter(State::HandedOver { to, since: s.now }, &text);
            return None;
        }
        if to == Handover::Hold && attempts.refused() {
            self.enter(
                State::HandingOver { to: Handover::Land, attempts: Attempts::at_once(s.now) },
                "PX4 refused to hold: it is asked to land",
            );
            return self.step(s);
        }
        let due = attempts.due(Wanted::Enter(to.mode()), s.now, HANDOVER_PERIOD);
        self.state = State::HandingOver { to, attempts };
        due
    }

    fn handed(&mut self, to: Handover, since: Time, s: &Situation) -> Option<Wanted> {
        let a = *self.fresh(s)?;
        if !self.kept(&a) {
            return None;
        }
        if a.mode == Mode::Offboard && a.intended == Mode::Offboard && self.commanded(s) {
            self.enter(State::Flying, "commands are back");
            return self.step(s);
        }
        if a.intended != to.mode() && a.intended != Mode::Offboard {
            let text = format!("somebody took the vehicle into {}", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
            return None;
        }
        if s.intent == Intent::Fly && self.commanded(s) {
            self.regain(s, "commands are back: regaining control");
            return None;
        }
        if s.intent == Intent::Disarmed && s.grounded {
            self.enter(State::Disarming { attempts: Attempts::after(s.now, DISARM_LEAD) }, "");
            return None;
        }
        if to == Handover::Hold && s.now - since > self.limits.hold {
            self.enter(
                State::HandingOver { to: Handover::Land, attempts: Attempts::at_once(s.now) },
                "no commands came back: PX4 is asked to land",
            );
            return self.step(s);
        }
        None
    }

    fn regaining(&mut self, since: Time, mut attempts: Attempts, s: &Situation) -> Option<Wanted> {
        let Some(a) = self.fresh(s).copied() else {
            self.enter(State::Silent, "PX4's status has stopped while control was being regained");
            return None;
        };
        if !self.kept(&a) {
            return None;
        }
        if a.mode == Mode::Offboard {
            self.enter(State::Flying, "control is regained");
            return self.step(s);
        }
        let ours = [Mode::Offboard, Handover::Hold.mode(), Handover::Land.mode()];
        if !ours.contains(&a.intended) {
            let text = format!("somebody took the vehicle into {}", a.mode);
            self.enter(State::Standby(Standby::Released), &text);
            return None;
        }
        if s.intent != Intent::Fly || !self.commanded(s) {
            let to = if a.intended == Handover::Land.mode() { Handover::Land } else { Handover::Hold };
            self.enter(State::HandedOver { to, since: s.now }, "commands have stopped again");
            return None;
        }
        // A failsafe that came for want of the heartbeat ends with it, by itself: to ask for the mode would override
        // every other failsafe too.
        if a.intended == Mode::Offboard || s.now - since < self.limits.lead {
            return None;
        }
        if attempts.exhausted(Wanted::Enter(Mode::Offboard), s.now, self.limits.period, self.limits.attempts)
        {
            let text = format!("PX4 does not go back to offboard mode: {}", attempts.refusal());
            self.enter(State::Standby(Standby::Released), &text);
            return None;
        }
        let due = attempts.due(Wanted::Enter(Mode::Offboard), s.now, self.limits.period);
        self.state = State::Regaining { since, attempts };
        due
    }

    fn disarming(&mut self, mut attempts: Attempts, s: &Situation) -> Option<Wanted> {
        let a = *self.fresh(s)?;
        let done = !a.armed || s.intent != Intent::Disarmed || !s.grounded;
        if done {
            self.enter(State::Standby(Standby::Idle), "");
            return None;
        }
        if attempts.exhausted(Wanted::Disarm, s.now, self.limits.period, self.limits.attempts) {
            self.enter(
                State::Standby(Standby::Released),
                "PX4 does not disarm, though the vehicle stands on the ground",
            );
            return None;
        }
        let due = attempts.due(Wanted::Disarm, s.now, self.limits.period);
        self.state = State::Disarming { attempts };
        due
    }

    /// PX4 answered a command.
    pub fn on_ack(&mut self, now: Time, ack: &VehicleCommandAck, system: u8) {
        let (State::Requesting { attempts, .. }
        | State::HandingOver { attempts, .. }
        | State::Regaining { attempts, .. }
        | State::Disarming { attempts }) = &mut self.state
        else {
            return;
        };
        if attempts.on_ack(now, ack, system) {
            self.reason = attempts.refusal();
            tracing::info!("{}", self.reason);
        }
    }

    /// Whether PX4 refuses what is asked for, or did until it was given up: its reasons matter.
    pub fn refused(&self) -> bool {
        match &self.state {
            State::Requesting { attempts, .. } | State::Regaining { attempts, .. } => attempts.refused(),
            State::Standby(Standby::GivenUp) => true,
            _ => false,
        }
    }
}

impl Handover {
    /// PX4's mode that does it.
    pub const fn mode(self) -> Mode {
        match self {
            Self::Hold => Mode::Hold,
            Self::Land => Mode::Land,
        }
    }
}

impl std::fmt::Display for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold its position",
            Self::Land => "land",
        })
    }
}
