//! Authority: who has the vehicle, as one value that cannot say two things at once.
//!
//! What belongs to a state lives in its variant: an episode exists only while one is flown, a reset is waited for only by a
//! guide that is not in an episode, a descent only while landing. [`Standing`] is changed by [`Standing::enter`] alone, and
//! that is called by `transitions.rs` alone, where the table of all transitions stands.

use nalgebra::Vector3;
use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::Time;

use crate::touchdown::Descent;

/// Who has the vehicle, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Authority {
    /// Nothing is commanded: the motors are off, or somebody else flies.
    Disarmed(Rest),
    /// Offboard control and armed motors are asked for.
    Arming,
    /// The guide flies.
    Guide(Errand),
    /// The student flies.
    Student(Episode),
    /// The guide brings the vehicle back.
    Recover(Settle),
    /// The guide holds a position, m.
    Hold(Vector3<f64>),
    /// The guide lands, or the vehicle is down and its motors idle.
    Land(Descent),
    /// It flies, and nobody here can fly it: nothing is commanded, the autopilot holds or lands.
    Adrift(Then),
}

/// Whether a vehicle that is not flown may be taken up without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Since this process started nobody flew or asked: `auto_arm` may arm, and a vehicle that flies is taken over.
    New,
    /// It was flown, or taken from us, or refused: it stays until somebody asks.
    UntilAsked,
}

/// What the guide flies for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Errand {
    /// To the setpoint, where an episode starts.
    Approach(Settle),
    /// A simulator was asked at that time to put the vehicle back.
    Reset(Time),
    /// The first steps of an episode.
    Episode(Episode),
}

/// Since when the vehicle has been at the setpoint, and calm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settle(pub Option<Time>);

/// An episode that is being flown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Episode {
    /// Control steps so far.
    pub step: u32,
    /// What was applied in the last one.
    pub action: [f32; 4],
    /// Whose that was.
    pub source: u8,
}

/// What is done when somebody can fly again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Recover,
    Hold(Vector3<f64>),
    Land,
    /// The autopilot was left to land: it is not disturbed.
    Nothing,
}

impl Authority {
    /// Its number in messages.
    pub fn wire(&self) -> u8 {
        match self {
            Self::Disarmed(_) => sw::Authority::DISARMED,
            Self::Arming => sw::Authority::ARMING,
            Self::Guide(_) => sw::Authority::GUIDE,
            Self::Student(_) => sw::Authority::STUDENT,
            Self::Recover(_) | Self::Adrift(Then::Recover) => sw::Authority::RECOVER,
            Self::Hold(_) | Self::Adrift(Then::Hold(_)) => sw::Authority::HOLD,
            Self::Land(_) | Self::Adrift(Then::Land | Then::Nothing) => sw::Authority::LAND,
        }
    }

    /// Whether the vehicle is ours, and in the air as far as we know.
    pub fn flies(&self) -> bool {
        !matches!(self, Self::Disarmed(_) | Self::Arming)
    }

    /// The episode that is flown.
    pub fn episode(&self) -> Option<&Episode> {
        match self {
            Self::Guide(Errand::Episode(episode)) | Self::Student(episode) => Some(episode),
            _ => None,
        }
    }

    /// What this state comes back to after nobody could fly.
    pub fn then(&self) -> Then {
        match self {
            Self::Hold(at) => Then::Hold(*at),
            Self::Land(_) => Then::Land,
            Self::Adrift(then) => *then,
            _ => Then::Recover,
        }
    }
}

/// The present state, since when, and why.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    state: Authority,
    previous: u8,
    since: Time,
    reason: String,
}

impl Standing {
    /// Nobody has it.
    pub fn new() -> Self {
        Self {
            state: Authority::Disarmed(Rest::New),
            previous: sw::Authority::DISARMED,
            since: Time::ZERO,
            reason: "started".into(),
        }
    }

    pub fn state(&self) -> &Authority {
        &self.state
    }

    /// The state on the wire before this one.
    pub fn previous(&self) -> u8 {
        self.previous
    }

    /// When the state on the wire was entered.
    pub fn since(&self) -> Time {
        self.since
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Another state, or the same for another reason.
    pub fn enter(&mut self, now: Time, state: Authority, reason: &str) {
        if self.state.wire() != state.wire() {
            self.previous = self.state.wire();
            self.since = now;
        }
        self.state = state;
        self.reason.clear();
        self.reason.push_str(reason);
    }

    /// What the present state carries goes on; the state stays what it is.
    pub fn episode_mut(&mut self) -> Option<&mut Episode> {
        match &mut self.state {
            Authority::Guide(Errand::Episode(episode)) | Authority::Student(episode) => Some(episode),
            _ => None,
        }
    }

    pub fn settle_mut(&mut self) -> Option<&mut Settle> {
        match &mut self.state {
            Authority::Guide(Errand::Approach(settle)) | Authority::Recover(settle) => Some(settle),
            _ => None,
        }
    }

    pub fn reset_mut(&mut self) -> Option<&mut Time> {
        match &mut self.state {
            Authority::Guide(Errand::Reset(asked)) => Some(asked),
            _ => None,
        }
    }

    pub fn descent_mut(&mut self) -> Option<&mut Descent> {
        match &mut self.state {
            Authority::Land(descent) => Some(descent),
            _ => None,
        }
    }
}
