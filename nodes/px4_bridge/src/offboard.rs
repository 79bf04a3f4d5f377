//! Getting PX4 into offboard mode and armed, and disarmed again: requests, acknowledgements, attempts.

use spikewing_msgs::px4_msgs::{VehicleCommand, VehicleCommandAck};
use spikewing_runtime::{Span, Time};

/// What the supervisor wants of the autopilot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Motors off.
    Disarmed,
    /// Offboard control, armed.
    Fly,
}

/// What is known of the autopilot and the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// When the last status came.
    pub status: Option<Time>,
    /// When the last command came.
    pub command: Option<Time>,
    /// Whether that is recent.
    pub command_fresh: bool,
    /// PX4 is armed.
    pub armed: bool,
    /// PX4 is in offboard mode.
    pub offboard: bool,
    /// PX4 lands by itself.
    pub landing: bool,
}

/// A request that PX4 has to grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    OffboardMode,
    Arm,
    Disarm,
}

/// Attempts at one request.
#[derive(Clone, Copy, Debug)]
struct Attempts {
    wanted: Wanted,
    count: u64,
    last: Time,
}

/// MAVLink component id of a companion computer's offboard controller.
const COMPONENT: u16 = 191;
/// Heartbeats further apart than this are no stream to PX4 (2 Hz).
const HEARTBEAT_GAP: Span = Span::from_millis(500);
/// PX4's custom main mode "offboard".
const OFFBOARD_MAIN_MODE: f32 = 6.0;

/// The state machine.
#[derive(Clone, Debug)]
pub struct Offboard {
    lead: Span,
    period: Span,
    max_attempts: u64,
    target_system: u8,
    streaming_since: Option<Time>,
    last_heartbeat: Option<Time>,
    attempts: Option<Attempts>,
    given_up: bool,
    /// Once flying, losing offboard mode is PX4's or the pilot's decision and is not fought.
    was_flying: bool,
    message: String,
}

impl Offboard {
    /// Settings: how long the heartbeat streams first, time between attempts, attempts.
    pub fn new(lead: Span, period: Span, max_attempts: u64, target_system: u8) -> Self {
        Self {
            lead,
            period,
            max_attempts,
            target_system,
            streaming_since: None,
            last_heartbeat: None,
            attempts: None,
            given_up: false,
            was_flying: false,
            message: String::new(),
        }
    }

    /// The last refusal, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Leaves a message.
    pub fn note(&mut self, message: String) {
        tracing::warn!("{message}");
        self.message = message;
    }

    /// Whether the request was given up.
    pub fn given_up(&self) -> bool {
        self.given_up
    }

    /// A new request of the supervisor: forget refusals.
    pub fn start_over(&mut self) {
        self.attempts = None;
        self.given_up = false;
        self.was_flying = false;
        self.message.clear();
    }

    /// A heartbeat went out.
    pub fn heartbeat_sent(&mut self, now: Time) {
        if self.last_heartbeat.is_none_or(|last| now - last > HEARTBEAT_GAP) {
            self.streaming_since = None;
        }
        self.last_heartbeat = Some(now);
        self.streaming_since.get_or_insert(now);
    }

    /// Heartbeats have stopped.
    pub fn heartbeat_stopped(&mut self) {
        self.streaming_since = None;
    }

    /// The request that is due now, if any. Its timestamp is left to the caller.
    pub fn poll(&mut self, now: Time, intent: Intent, seen: &Seen, landed: bool) -> Option<VehicleCommand> {
        seen.status?;
        let wanted = match intent {
            // After our flight, or after the autopilot's landing. A pilot who arms in another mode is not fought.
            Intent::Disarmed => {
                (seen.armed && landed && (seen.offboard || seen.landing)).then_some(Wanted::Disarm)
            }
            Intent::Fly if self.given_up || self.was_flying => None,
            Intent::Fly => {
                let lead_over = self.streaming_since.is_some_and(|since| now - since >= self.lead);
                if !lead_over {
                    None
                } else if !seen.offboard {
                    Some(Wanted::OffboardMode)
                } else if !seen.armed {
                    Some(Wanted::Arm)
                } else {
                    self.was_flying = true;
                    self.message.clear();
                    None
                }
            }
        };
        let Some(wanted) = wanted else {
            self.attempts = None;
            return None;
        };
        let attempts = match self.attempts {
            Some(a) if a.wanted == wanted => a,
            _ => {
                // What was said of another request explains nothing about this one.
                self.message.clear();
                Attempts { wanted, count: 0, last: now - self.period }
            }
        };
        if now - attempts.last < self.period {
            return None;
        }
        if attempts.count >= self.max_attempts {
            if !self.given_up {
                self.given_up = true;
                let because = if self.message.is_empty() { "no answer" } else { &self.message };
                let text = format!("gave up after {} attempts: {because}", attempts.count);
                self.note(text);
            }
            return None;
        }
        self.attempts = Some(Attempts { count: attempts.count + 1, last: now, ..attempts });
        Some(self.request(wanted))
    }

    fn request(&self, wanted: Wanted) -> VehicleCommand {
        let (command, param1, param2) = match wanted {
            Wanted::OffboardMode => (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, OFFBOARD_MAIN_MODE),
            Wanted::Arm => (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0),
            Wanted::Disarm => (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, 0.0),
        };
        VehicleCommand {
            command: u32::from(command),
            param1,
            param2,
            target_system: self.target_system,
            target_component: 1,
            source_system: self.target_system,
            source_component: COMPONENT,
            from_external: true,
            ..Default::default()
        }
    }

    /// PX4 answered a command; those for others are not ours to judge.
    pub fn on_ack(&mut self, ack: &VehicleCommandAck) {
        let ours = ack.target_component == COMPONENT && ack.target_system == self.target_system;
        let Some(attempts) = self.attempts.filter(|_| ours) else { return };
        if ack.command != self.request(attempts.wanted).command {
            return;
        }
        let result = match ack.result {
            VehicleCommandAck::VEHICLE_CMD_RESULT_ACCEPTED
            | VehicleCommandAck::VEHICLE_CMD_RESULT_IN_PROGRESS => return,
            VehicleCommandAck::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED => "temporarily rejected",
            VehicleCommandAck::VEHICLE_CMD_RESULT_DENIED => "denied",
            VehicleCommandAck::VEHICLE_CMD_RESULT_UNSUPPORTED => "unsupported",
            VehicleCommandAck::VEHICLE_CMD_RESULT_FAILED => "failed",
            _ => "cancelled",
        };
        let what = match attempts.wanted {
            Wanted::OffboardMode => "offboard mode",
            Wanted::Arm => "arming (see PX4's preflight checks)",
            Wanted::Disarm => "disarming",
        };
        self.message = format!("PX4: {what} {result}, attempt {}", attempts.count);
        tracing::info!("{}", self.message);
    }
}
