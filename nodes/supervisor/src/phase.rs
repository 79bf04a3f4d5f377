//! The states of authority, and what is remembered of policies and episodes.

use nalgebra::Vector3;
use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::Time;

/// Who has the vehicle, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    Disarmed,
    Arming,
    /// The guide flies: to the setpoint, or the start of an episode.
    Guide,
    Student,
    /// The guide brings the vehicle back.
    Recover,
    Land {
        from: Vector3<f64>,
        since: Time,
        still_since: Option<Time>,
    },
    Hold {
        at: Vector3<f64>,
    },
}

impl Phase {
    pub(crate) fn wire(&self) -> u8 {
        match self {
            Self::Disarmed => sw::Authority::DISARMED,
            Self::Arming => sw::Authority::ARMING,
            Self::Guide => sw::Authority::GUIDE,
            Self::Student => sw::Authority::STUDENT,
            Self::Recover => sw::Authority::RECOVER,
            Self::Land { .. } => sw::Authority::LAND,
            Self::Hold { .. } => sw::Authority::HOLD,
        }
    }

    pub(crate) fn flies(&self) -> bool {
        !matches!(self, Self::Disarmed | Self::Arming)
    }
}

/// The last command of a policy.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub command: sw::MotorCommand,
    pub stamp: Time,
    pub received: Time,
}

/// An episode that is being flown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    pub step: u32,
    pub last_action: [f32; 4],
    pub last_source: u8,
}

/// Time and number of a reset that is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResetWait {
    pub asked: Time,
}

/// How an episode ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndKind {
    Terminated,
    Truncated,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Guide,
    Student,
}
