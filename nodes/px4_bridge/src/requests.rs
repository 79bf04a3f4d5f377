//! What is asked of PX4: modes, arming, disarming; attempts and acknowledgements.

use spikewing_msgs::px4_msgs::{VehicleCommand, VehicleCommandAck as Ack, VehicleStatus};
use spikewing_runtime::{Span, Time};

/// PX4's flight modes, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The companion computer's.
    Offboard,
    /// Holding the position (AUTO_LOITER).
    Hold,
    /// Landing (AUTO_LAND).
    Land,
    /// Landing without a position (DESCEND).
    Descend,
    /// Another one, with PX4's number.
    Other(u8),
}

impl Mode {
    /// From PX4's `nav_state`.
    pub const fn of(nav_state: u8) -> Self {
        match nav_state {
            VehicleStatus::NAVIGATION_STATE_OFFBOARD => Self::Offboard,
            VehicleStatus::NAVIGATION_STATE_AUTO_LOITER => Self::Hold,
            VehicleStatus::NAVIGATION_STATE_AUTO_LAND => Self::Land,
            VehicleStatus::NAVIGATION_STATE_DESCEND => Self::Descend,
            other => Self::Other(other),
        }
    }

    /// Whether PX4 lands by itself in it.
    pub const fn lands(self) -> bool {
        matches!(self, Self::Land | Self::Descend)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // PX4's numbers: VehicleStatus.msg.
        let name = match self {
            Self::Offboard => "offboard",
            Self::Hold => "hold",
            Self::Land => "land",
            Self::Descend => "descend",
            Self::Other(0) => "manual",
            Self::Other(1) => "altitude",
            Self::Other(2) => "position",
            Self::Other(3) => "mission",
            Self::Other(5) => "return",
            Self::Other(10) => "acro",
            Self::Other(13) => "termination",
            Self::Other(15) => "stabilised",
            Self::Other(17) => "take-off",
            Self::Other(number) => return write!(f, "mode {number}"),
        };
        f.write_str(name)
    }
}

/// A request that PX4 has to grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A flight mode.
    Enter(Mode),
    /// To arm.
    Arm,
    /// To disarm; PX4 refuses in the air.
    Disarm,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Enter(mode) => write!(f, "{mode} mode"),
            Self::Arm => f.write_str("arming"),
            Self::Disarm => f.write_str("disarming"),
        }
    }
}

/// MAVLink component id of a companion computer's offboard controller.
const COMPONENT: u16 = 191;
/// PX4's custom main modes, in DO_SET_MODE.
const MAIN_AUTO: f32 = 4.0;
const MAIN_OFFBOARD: f32 = 6.0;
/// Sub-modes of AUTO.
const AUTO_LOITER: f32 = 3.0;
const AUTO_LAND: f32 = 6.0;

impl Wanted {
    /// The request to a system; its time stamp is left to the caller.
    pub fn message(self, system: u8) -> VehicleCommand {
        let set_mode = VehicleCommand::VEHICLE_CMD_DO_SET_MODE;
        let arm_disarm = VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM;
        let (command, param1, param2, param3) = match self {
            Self::Enter(Mode::Hold) => (set_mode, 1.0, MAIN_AUTO, AUTO_LOITER),
            Self::Enter(Mode::Land | Mode::Descend) => (set_mode, 1.0, MAIN_AUTO, AUTO_LAND),
            // Nothing else is ever wanted.
            Self::Enter(Mode::Offboard | Mode::Other(_)) => (set_mode, 1.0, MAIN_OFFBOARD, 0.0),
            Self::Arm => (arm_disarm, 1.0, 0.0, 0.0),
            Self::Disarm => (arm_disarm, 0.0, 0.0, 0.0),
        };
        VehicleCommand {
            command: u32::from(command),
            param1,
            param2,
            param3,
            target_system: system,
            target_component: 1,
            source_system: system,
            source_component: COMPONENT,
            from_external: true,
            ..Default::default()
        }
    }
}

/// How PX4 answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Granted(Time),
    Refused(u8),
}

/// Attempts at one request after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    wanted: Option<Wanted>,
    count: u64,
    next: Time,
    answer: Answer,
}

impl Attempts {
    /// The first is due now.
    pub fn at_once(now: Time) -> Self {
        Self { wanted: None, count: 0, next: now, answer: Answer::None }
    }

    /// The first is due after `lead`.
    pub fn after(now: Time, lead: Span) -> Self {
        Self { next: now + lead, ..Self::at_once(now) }
    }

    /// Attempts made at the present request.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The request, if an attempt is due; another request than before starts anew.
    pub fn due(&mut self, wanted: Wanted, now: Time, period: Span) -> Option<Wanted> {
        if self.wanted.is_some_and(|before| before != wanted) {
            *self = Self::at_once(now);
        }
        if now < self.next {
            return None;
        }
        *self = Self { wanted: Some(wanted), count: self.count + 1, next: now + period, answer: self.answer };
        Some(wanted)
    }

    /// Whether all attempts at it have been made and the last was waited for.
    pub fn exhausted(&self, wanted: Wanted, now: Time, period: Span, most: u64) -> bool {
        self.wanted == Some(wanted) && self.count >= most && now >= self.next && period > Span::ZERO
    }

    /// Whether it is the present request.
    pub fn asked(&self, wanted: Wanted) -> bool {
        self.wanted == Some(wanted)
    }

    /// Whether PX4 granted it.
    pub fn granted(&self, wanted: Wanted) -> bool {
        self.wanted == Some(wanted) && matches!(self.answer, Answer::Granted(_))
    }

    /// Whether arming was granted so long ago that the status must say so.
    pub fn armed(&self, now: Time, obeys: Span) -> bool {
        self.wanted == Some(Wanted::Arm) && matches!(self.answer, Answer::Granted(at) if now - at > obeys)
    }

    /// Whether PX4 refused the last attempt.
    pub fn refused(&self) -> bool {
        matches!(self.answer, Answer::Refused(_))
    }

    /// The last refusal in words.
    pub fn refusal(&self) -> String {
        let what = self.wanted.map_or_else(String::new, |w| w.to_string());
        match self.answer {
            Answer::Refused(result) => format!("PX4: {what} {}, attempt {}", word(result), self.count),
            _ => "no answer".to_owned(),
        }
    }

    /// PX4 answered a command; those for others are not ours to judge. Whether it was refused.
    pub fn on_ack(&mut self, now: Time, ack: &Ack, system: u8) -> bool {
        let ours = ack.target_component == COMPONENT && ack.target_system == system;
        let Some(wanted) = self.wanted.filter(|_| ours) else { return false };
        if ack.command != wanted.message(system).command {
            return false;
        }
        match ack.result {
            Ack::VEHICLE_CMD_RESULT_ACCEPTED => self.answer = Answer::Granted(now),
            Ack::VEHICLE_CMD_RESULT_IN_PROGRESS => {}
            refused => self.answer = Answer::Refused(refused),
        }
        self.refused()
    }
}

fn word(result: u8) -> &'static str {
    match result {
        Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED => "temporarily rejected",
        Ack::VEHICLE_CMD_RESULT_DENIED => "denied",
        Ack::VEHICLE_CMD_RESULT_UNSUPPORTED => "unsupported",
        Ack::VEHICLE_CMD_RESULT_FAILED => "failed",
        _ => "cancelled",
    }
}
