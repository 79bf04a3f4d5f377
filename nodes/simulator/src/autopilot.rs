//! PX4's commander: arming and its refusals, modes, the offboard heartbeat, failsafes, disarming by itself. No physics.
//!
//! Each rule and where it stands in PX4's sources: README.md.

use spikewing_msgs::px4_msgs::{VehicleCommand, VehicleCommandAck as Ack, VehicleStatus};
use spikewing_runtime::{Span, Time};

use crate::{
    battery::{Battery, Warning},
    failsafe::{Action, Failsafe},
    land_detector::{Landing, Lasting},
};

/// Heartbeats further apart than this are no stream (2 Hz).
const HEARTBEAT_GAP: Span = Span::from_millis(500);
/// They must have streamed for so long before offboard mode is granted in flight, or arming in it.
const HEARTBEAT_LEAD: Span = Span::from_millis(1000);
/// COM_SPOOLUP_TIME: part of the time in which a take-off must follow arming.
const SPOOL_UP: Span = Span::from_millis(1000);
/// "Force" of MAVLink's arming command.
const FORCE: f32 = 21196.0;
/// MAVLink system id of this vehicle.
pub const SYSTEM: u8 = 1;
/// Component id of the autopilot.
pub const COMPONENT: u8 = 1;

/// Commands of which the messages carry no name.
mod command {
    pub const NAV_RETURN_TO_LAUNCH: u32 = 20;
    pub const DO_FLIGHTTERMINATION: u32 = 185;
    pub const INJECT_FAILURE: u32 = 420;
    /// Units of INJECT_FAILURE: inertial sensors, and the battery.
    pub const UNITS_INERTIAL: [i32; 2] = [0, 1];
    pub const UNIT_BATTERY: i32 = 100;
}

/// Flight modes that are modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A pilot's, position held with the sticks centred.
    Position,
    /// A pilot's, height held.
    Altitude,
    /// A pilot's; flown here as altitude mode.
    Stabilized,
    /// Stays on the spot.
    Hold,
    /// Home, and down.
    Return,
    /// Down.
    Land,
    /// The companion's.
    Offboard,
    /// Motors off until the next start.
    Termination,
}

impl Mode {
    /// PX4's number.
    pub fn nav_state(self) -> u8 {
        match self {
            Self::Position => VehicleStatus::NAVIGATION_STATE_POSCTL,
            Self::Altitude => VehicleStatus::NAVIGATION_STATE_ALTCTL,
            Self::Stabilized => VehicleStatus::NAVIGATION_STATE_STAB,
            Self::Hold => VehicleStatus::NAVIGATION_STATE_AUTO_LOITER,
            Self::Return => VehicleStatus::NAVIGATION_STATE_AUTO_RTL,
            Self::Land => VehicleStatus::NAVIGATION_STATE_AUTO_LAND,
            Self::Offboard => VehicleStatus::NAVIGATION_STATE_OFFBOARD,
            Self::Termination => VehicleStatus::NAVIGATION_STATE_TERMINATION,
        }
    }

    /// From DO_SET_MODE's main and sub mode (`px4_custom_mode.h`). `None`: none that is modelled.
    fn from_custom(main: f32, sub: f32) -> Option<Self> {
        match (main.round() as i32, sub.round() as i32) {
            (2, _) => Some(Self::Altitude),
            (3, _) => Some(Self::Position),
            (4, 3) => Some(Self::Hold),
            (4, 5) => Some(Self::Return),
            (4, 6) => Some(Self::Land),
            (6, _) => Some(Self::Offboard),
            (7, _) => Some(Self::Stabilized),
            _ => None,
        }
    }

    fn prevents_arming(self) -> bool {
        matches!(self, Self::Return | Self::Land | Self::Termination)
    }

    fn is_manual(self) -> bool {
        matches!(self, Self::Position | Self::Altitude | Self::Stabilized)
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
    /// Its height controller.
    Altitude,
    /// Its landing.
    Land,
    /// Its way home.
    Return,
}

/// Who or what armed or disarmed last (`vehicle_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Never yet.
    None = 0,
    /// A command.
    Command = 4,
    /// COM_DISARM_LAND.
    Landing = 6,
    /// COM_DISARM_PRFLT.
    PreflightInaction = 7,
    /// A failsafe.
    Failsafe = 14,
}

/// Why arming is denied. Over the wire PX4 says only "temporarily rejected".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A health check.
    #[error("preflight fail: an inertial sensor is missing")]
    Sensors,
    /// A health check.
    #[error("preflight fail: the estimator has not settled")]
    Estimator,
    /// A health check.
    #[error("preflight fail: battery critical")]
    Battery,
    /// The mode.
    #[error("the mode does not allow arming; switch to another first")]
    Mode,
    /// The mode's requirement.
    #[error("offboard mode without a heartbeat that has streamed for a second")]
    Heartbeat,
    /// The mode's requirement.
    #[error("a pilot's mode without manual control")]
    ManualControl,
}

/// PX4's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// COM_OF_LOSS_T.
    pub loss_timeout: Span,
    /// COM_OBL_RC_ACT.
    pub loss_action: Action,
    /// COM_DISARM_LAND; not above 0: never.
    pub disarm_landed: Span,
    /// COM_DISARM_PRFLT; not above 0: never.
    pub disarm_preflight: Span,
    /// What COM_LOW_BAT_ACT does at low, critical, emergency.
    pub battery_actions: [Action; 3],
    /// COM_FAIL_ACT_T.
    pub action_delay: Span,
    /// Whether a pilot's remote control is on.
    pub manual_control: bool,
    /// Time from a start until the estimator has settled.
    pub settling: Span,
    /// Time from a full battery to an empty one, s; not above 0: never empty.
    pub drain_s: f64,
}

/// PX4's state as far as a companion computer can tell.
#[derive(Clone, Debug)]
pub struct Autopilot {
    rules: Rules,
    /// For the disarmed vehicle: since when the timer of the next auto-disarming runs.
    auto_disarm: Lasting,
    failsafe: Failsafe,
    battery: Battery,
    sensors_missing: bool,
    started: Option<Time>,
    armed: bool,
    have_taken_off: bool,
    was_landed: bool,
    warning_at_arming: Warning,
    worst_warning: Warning,
    intended: Mode,
    after_disarming: Mode,
    streaming_since: Option<Time>,
    last_heartbeat: Option<Time>,
    last_arming: Reason,
    last_disarming: Reason,
}

impl Autopilot {
    /// Disarmed, in hold.
    pub fn new(rules: Rules) -> Self {
        Self {
            auto_disarm: Lasting::new(false),
            failsafe: Failsafe::new(rules.action_delay),
            battery: Battery::new(rules.drain_s),
            rules,
            sensors_missing: false,
            started: None,
            armed: false,
            have_taken_off: false,
            was_landed: true,
            warning_at_arming: Warning::None,
            worst_warning: Warning::None,
            intended: Mode::Hold,
            after_disarming: Mode::Hold,
            streaming_since: None,
            last_heartbeat: None,
            last_arming: Reason::None,
            last_disarming: Reason::None,
        }
    }

    /// Whether the motors may turn.
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// The mode that flies.
    pub fn mode(&self) -> Mode {
        self.failsafe.selected().mode().unwrap_or(self.intended)
    }

    /// The mode that was asked for.
    pub fn intended(&self) -> Mode {
        self.intended
    }

    /// The failsafe.
    pub fn failsafe(&self) -> &Failsafe {
        &self.failsafe
    }

    /// Who armed last, and who disarmed.
    pub fn reasons(&self) -> (Reason, Reason) {
        (self.last_arming, self.last_disarming)
    }

    /// The battery.
    pub fn battery(&self) -> &Battery {
        &self.battery
    }

    /// The worst warning of the battery since arming.
    pub fn battery_warning(&self) -> Warning {
        self.worst_warning
    }

    /// Whether a pilot's remote control is on.
    pub fn manual_control(&self) -> bool {
        self.rules.manual_control
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

    /// Whether the last heartbeat is older than COM_OF_LOSS_T.
    pub fn signal_lost(&self, now: Time) -> bool {
        self.last_heartbeat.is_none_or(|last| now - last > self.rules.loss_timeout)
    }

    fn streams(&self, now: Time) -> bool {
        self.last_heartbeat.is_some_and(|last| now - last <= HEARTBEAT_GAP)
            && self.streaming_since.is_some_and(|since| now - since >= HEARTBEAT_LEAD)
    }

    fn can_run(&self, now: Time, mode: Mode) -> Result<(), Denied> {
        match mode {
            Mode::Offboard if !self.streams(now) => Err(Denied::Heartbeat),
            _ if mode.is_manual() && !self.rules.manual_control => Err(Denied::ManualControl),
            _ => Ok(()),
        }
    }

    /// The health checks alone.
    ///
    /// # Errors
    /// The first that fails.
    pub fn preflight(&self, now: Time) -> Result<(), Denied> {
        if self.sensors_missing {
            return Err(Denied::Sensors);
        }
        if self.started.is_none_or(|since| now - since < self.rules.settling) {
            return Err(Denied::Estimator);
        }
        if self.battery.warning() >= Warning::Critical {
            return Err(Denied::Battery);
        }
        Ok(())
    }

    /// A command; returns the acknowledgement's result, or `None` when it is for another system, which PX4 leaves
    /// unanswered.
    pub fn on_command(&mut self, now: Time, command: &VehicleCommand, landing: &Landing) -> Option<u8> {
        let ours =
            matches!(command.target_system, 0 | SYSTEM) && matches!(command.target_component, 0 | COMPONENT);
        ours.then(|| self.obey(now, command, landing))
    }

    fn obey(&mut self, now: Time, c: &VehicleCommand, landing: &Landing) -> u8 {
        const DO_SET_MODE: u32 = VehicleCommand::VEHICLE_CMD_DO_SET_MODE as u32;
        const ARM_DISARM: u32 = VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM as u32;
        const NAV_LAND: u32 = VehicleCommand::VEHICLE_CMD_NAV_LAND as u32;
        let granted = |granted: bool| {
            if granted {
                Ack::VEHICLE_CMD_RESULT_ACCEPTED
            } else {
                Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED
            }
        };
        match c.command {
            DO_SET_MODE => {
                let mode =
                    (c.param1 as i32 & 1 == 1).then(|| Mode::from_custom(c.param2, c.param3)).flatten();
                granted(mode.is_some_and(|mode| self.set_mode(now, mode)))
            }
            ARM_DISARM if c.param1.round() == 1.0 => granted(self.arm(now)),
            ARM_DISARM if c.param1.round() == 0.0 => {
                let may = !self.armed || c.param2 == FORCE || landing.landed || landing.maybe_landed;
                if may {
                    self.disarm(Reason::Command);
                }
                granted(may)
            }
            NAV_LAND => granted(self.set_mode(now, Mode::Land)),
            command::NAV_RETURN_TO_LAUNCH => granted(self.set_mode(now, Mode::Return)),
            command::DO_FLIGHTTERMINATION if self.armed && c.param1 > 0.5 => {
                granted(self.set_mode(now, Mode::Termination))
            }
            command::DO_FLIGHTTERMINATION => Ack::VEHICLE_CMD_RESULT_DENIED,
            command::INJECT_FAILURE => self.inject(c.param1.round() as i32, c.param2.round() as i32),
            _ => Ack::VEHICLE_CMD_RESULT_UNSUPPORTED,
        }
    }

    /// PX4's failure injection, as far as its arming checks and its battery are concerned.
    fn inject(&mut self, unit: i32, kind: i32) -> u8 {
        let off = match kind {
            0 => false,
            1 => true,
            _ => return Ack::VEHICLE_CMD_RESULT_UNSUPPORTED,
        };
        if unit == command::UNIT_BATTERY {
            self.battery.force_empty(off);
        } else if command::UNITS_INERTIAL.contains(&unit) {
            self.sensors_missing = off;
        } else {
            return Ack::VEHICLE_CMD_RESULT_UNSUPPORTED;
        }
        Ack::VEHICLE_CMD_RESULT_ACCEPTED
    }

    /// Disarmed, any mode is granted; land always; nothing leads out of termination.
    fn set_mode(&mut self, now: Time, mode: Mode) -> bool {
        let may = !self.armed || mode == Mode::Land || self.can_run(now, mode).is_ok();
        if !may || self.intended == Mode::Termination {
            return false;
        }
        self.intended = mode;
        if !mode.prevents_arming() || mode == Mode::Termination {
            self.after_disarming = mode;
        }
        self.failsafe.on_mode_change();
        true
    }

    fn arm(&mut self, now: Time) -> bool {
        if self.armed {
            return true;
        }
        let mode = if self.intended.prevents_arming() { Err(Denied::Mode) } else { Ok(()) };
        let checks = self.preflight(now).and(mode).and_then(|()| self.can_run(now, self.intended));
        if let Err(reason) = checks {
            tracing::warn!("arming denied: {reason}");
            return false;
        }
        self.armed = true;
        self.have_taken_off = false;
        self.auto_disarm = Lasting::new(false);
        self.warning_at_arming = self.battery.warning();
        self.last_arming = Reason::Command;
        self.failsafe.clear();
        true
    }

    fn disarm(&mut self, reason: Reason) {
        if !self.armed {
            return;
        }
        self.armed = false;
        self.have_taken_off = false;
        self.auto_disarm = Lasting::new(false);
        self.last_disarming = reason;
        self.intended = self.after_disarming;
        self.failsafe.clear();
        tracing::info!(?reason, "disarmed");
    }

    /// What the intended mode falls back to where it cannot go on.
    fn fallback(&self, now: Time) -> Action {
        let manual = self.rules.manual_control;
        match self.intended {
            Mode::Termination => Action::Terminate,
            Mode::Offboard if self.signal_lost(now) => match self.rules.loss_action {
                // NAV_RCL_ACT, of which the default is to return.
                Action::Position | Action::Altitude | Action::Stabilized if !manual => Action::Return,
                action => action,
            },
            mode if mode.is_manual() && !manual => Action::Return,
            _ => Action::None,
        }
    }

    /// COM_DISARM_LAND after a landing, COM_DISARM_PRFLT where no take-off followed arming, wherever the vehicle is.
    fn auto_disarm(&mut self, now: Time, landing: &Landing) {
        let rules = &self.rules;
        if self.have_taken_off {
            let enabled = rules.disarm_landed > Span::ZERO;
            if enabled && self.auto_disarm.update(now, landing.landed, rules.disarm_landed) {
                self.disarm(Reason::Landing);
            }
        } else if rules.disarm_preflight > Span::ZERO
            && self.auto_disarm.update(now, true, SPOOL_UP + rules.disarm_preflight)
        {
            self.disarm(Reason::PreflightInaction);
        }
    }

    /// Time goes on by `dt_s` of the vehicle's. Returns who commands the motors.
    pub fn update(&mut self, now: Time, dt_s: f64, landing: &Landing) -> Control {
        self.started.get_or_insert(now);
        self.battery.update(self.armed, dt_s);
        let warning = self.battery.warning();
        self.worst_warning = if self.armed { self.worst_warning.max(warning) } else { warning };
        if self.armed {
            if self.was_landed && !landing.landed && !self.have_taken_off {
                self.have_taken_off = true;
                self.auto_disarm = Lasting::new(false);
            }
            let action = match (self.worst_warning as usize).checked_sub(1) {
                Some(i) if self.worst_warning > self.warning_at_arming => {
                    self.rules.battery_actions.get(i).copied().unwrap_or(Action::Warn)
                }
                _ => Action::None,
            };
            let fallback = self.fallback(now);
            match self.failsafe.update(now, fallback, action) {
                Action::Disarm => self.disarm(Reason::Failsafe),
                Action::Terminate => self.intended = Mode::Termination,
                _ => {}
            }
        }
        self.was_landed = landing.landed;
        if self.armed {
            self.auto_disarm(now, landing);
        }
        match self.mode() {
            _ if !self.armed => Control::Off,
            Mode::Termination => Control::Off,
            Mode::Offboard => Control::Offboard,
            Mode::Land => Control::Land,
            Mode::Return => Control::Return,
            Mode::Position | Mode::Hold => Control::Hold,
            Mode::Altitude | Mode::Stabilized => Control::Altitude,
        }
    }
}
