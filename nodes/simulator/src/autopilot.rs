//! PX4's rules: arming, modes, offboard heartbeat, failsafe. No physics.

use spikewing_msgs::px4_msgs::{VehicleCommand, VehicleCommandAck, VehicleStatus};
use spikewing_runtime::{Span, Time};

/// Heartbeats further apart than this are no stream (2 Hz).
const HEARTBEAT_GAP: Span = Span::from_millis(500);
/// They must have streamed for so long before offboard mode is granted.
const HEARTBEAT_LEAD: Span = Span::from_millis(1000);
/// PX4's custom main mode "offboard" in DO_SET_MODE.
const OFFBOARD_MAIN_MODE: f32 = 6.0;
/// Disarms in the air too.
const FORCE: f32 = 21196.0;
/// MAVLink system id of this vehicle.
pub const SYSTEM: u8 = 1;
/// Component id of the autopilot.
pub const COMPONENT: u8 = 1;

/// What happens when the heartbeat stops in flight (COM_OBL_RC_ACT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossAction {
    /// Descend on the spot and disarm.
    Land,
    /// Stay on the spot.
    Hold,
    /// Motors off at once.
    Disarm,
}

/// Names of the parameter.
pub const LOSS_ACTIONS: &[&str] = &["land", "hold", "disarm"];

impl LossAction {
    /// From the parameter; the declaration admits no other.
    pub fn from_name(name: &str) -> Self {
        match name {
            "hold" => Self::Hold,
            "disarm" => Self::Disarm,
            _ => Self::Land,
        }
    }
}

/// Who commands the motors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nobody: motors off.
    Off,
    /// The companion's motor setpoints.
    Offboard,
    /// PX4's own position controller, on the spot.
    Hold,
    /// PX4's own landing.
    Land,
}

/// PX4's state as far as a companion computer can tell.
#[derive(Clone, Debug)]
pub struct Autopilot {
    loss_timeout: Span,
    loss_action: LossAction,
    armed: bool,
    armed_at: Time,
    nav_state: u8,
    failsafe: bool,
    streaming_since: Option<Time>,
    last_heartbeat: Option<Time>,
    landed_since: Option<Time>,
    flown: bool,
}

impl Autopilot {
    /// Disarmed, in manual mode.
    pub fn new(loss_timeout: Span, loss_action: LossAction) -> Self {
        Self {
            loss_timeout,
            loss_action,
            armed: false,
            armed_at: Time::ZERO,
            nav_state: VehicleStatus::NAVIGATION_STATE_AUTO_LOITER,
            failsafe: false,
            streaming_since: None,
            last_heartbeat: None,
            landed_since: None,
            flown: false,
        }
    }

    /// Whether the motors may turn.
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// PX4's number of the mode.
    pub fn nav_state(&self) -> u8 {
        self.nav_state
    }

    /// Whether a failsafe is active.
    pub fn failsafe(&self) -> bool {
        self.failsafe
    }

    /// A heartbeat; only direct motor control is flown here.
    pub fn on_heartbeat(&mut self, now: Time, direct_actuator: bool) {
        if !direct_actuator {
            return;
        }
        if self.last_heartbeat.is_none_or(|last| now - last > HEARTBEAT_GAP) {
            self.streaming_since = Some(now);
        }
        self.last_heartbeat = Some(now);
    }

    fn heartbeat(&self, now: Time) -> bool {
        self.last_heartbeat.is_some_and(|last| now - last <= HEARTBEAT_GAP)
            && self.streaming_since.is_some_and(|since| now - since >= HEARTBEAT_LEAD)
    }

    /// A command; returns the acknowledgement's result, or `None` when it is for another system, which PX4 leaves
    /// unanswered.
    pub fn on_command(&mut self, now: Time, command: &VehicleCommand, landed: bool) -> Option<u8> {
        let ours =
            matches!(command.target_system, 0 | SYSTEM) && matches!(command.target_component, 0 | COMPONENT);
        ours.then(|| self.obey(now, command, landed))
    }

    fn obey(&mut self, now: Time, command: &VehicleCommand, landed: bool) -> u8 {
        use VehicleCommandAck as Ack;
        match u16::try_from(command.command).unwrap_or(u16::MAX) {
            VehicleCommand::VEHICLE_CMD_DO_SET_MODE => {
                if command.param1 != 1.0 || command.param2 != OFFBOARD_MAIN_MODE {
                    return Ack::VEHICLE_CMD_RESULT_UNSUPPORTED;
                }
                if !self.heartbeat(now) {
                    return Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED;
                }
                self.nav_state = VehicleStatus::NAVIGATION_STATE_OFFBOARD;
                self.failsafe = false;
                Ack::VEHICLE_CMD_RESULT_ACCEPTED
            }
            VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM if command.param1 == 1.0 => {
                let ready = self.nav_state == VehicleStatus::NAVIGATION_STATE_OFFBOARD && self.heartbeat(now);
                if !ready {
                    return Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED;
                }
                if !self.armed {
                    self.armed = true;
                    self.armed_at = now;
                    self.flown = false;
                    self.landed_since = None;
                }
                Ack::VEHICLE_CMD_RESULT_ACCEPTED
            }
            VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM if command.param1 == 0.0 => {
                if self.armed && !landed && command.param2 != FORCE {
                    return Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED;
                }
                self.disarm();
                Ack::VEHICLE_CMD_RESULT_ACCEPTED
            }
            VehicleCommand::VEHICLE_CMD_NAV_LAND if self.armed => {
                self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LAND;
                Ack::VEHICLE_CMD_RESULT_ACCEPTED
            }
            _ => Ack::VEHICLE_CMD_RESULT_UNSUPPORTED,
        }
    }

    /// What a failsafe wanted ends with it.
    fn disarm(&mut self) {
        self.armed = false;
        self.failsafe = false;
        self.flown = false;
        if self.nav_state == VehicleStatus::NAVIGATION_STATE_AUTO_LAND {
            self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
        }
    }

    /// Time goes on. `landed`: the vehicle stands on the ground with its motors idle. Returns who commands the motors.
    pub fn update(
        &mut self,
        now: Time,
        landed: bool,
        disarm_landed: Span,
        disarm_preflight: Span,
    ) -> Control {
        if landed {
            self.landed_since.get_or_insert(now);
        } else {
            self.landed_since = None;
            self.flown = self.armed;
        }
        let offboard = self.nav_state == VehicleStatus::NAVIGATION_STATE_OFFBOARD;
        if offboard && self.last_heartbeat.is_none_or(|last| now - last > self.loss_timeout) {
            self.streaming_since = None;
            if self.armed {
                match self.loss_action {
                    LossAction::Land => self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LAND,
                    LossAction::Hold => self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER,
                    LossAction::Disarm => {
                        self.disarm();
                        self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
                    }
                }
                self.failsafe = self.armed;
            } else {
                self.nav_state = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
            }
        }
        if self.armed {
            let on_ground = self.landed_since.map_or(Span::ZERO, |since| now - since);
            let limit = if self.flown || self.nav_state == VehicleStatus::NAVIGATION_STATE_AUTO_LAND {
                disarm_landed
            } else {
                disarm_preflight
            };
            if limit > Span::ZERO && on_ground >= limit && now - self.armed_at >= limit {
                self.disarm();
            }
        }
        match self.nav_state {
            _ if !self.armed => Control::Off,
            VehicleStatus::NAVIGATION_STATE_OFFBOARD => Control::Offboard,
            VehicleStatus::NAVIGATION_STATE_AUTO_LAND => Control::Land,
            _ => Control::Hold,
        }
    }
}
