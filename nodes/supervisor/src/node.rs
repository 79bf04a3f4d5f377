//! The supervisor as a node: its ports, and what each of them leads to.

use spikewing_msgs::{
    AnyMessage, geometry_msgs,
    nav_msgs::Odometry,
    spikewing_msgs as sw,
    std_srvs::{Trigger, Trigger_Response},
};
use spikewing_runtime::{
    Node, Outbox, Parameters, Received, Span, Time,
    node::{Request, Response, Shutdown},
    port::{Client, Input, Interface, Output, Qos, Server},
};

use crate::{
    flight::Supervisor,
    phase::{EndKind, From, Phase},
};

pub(crate) const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
pub(crate) const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("setpoint", Qos::sensor(1));
pub(crate) const MOVED_SETPOINT: Output<geometry_msgs::PoseStamped> = Output::new("setpoint", Qos::sensor(1));
pub(crate) const GUIDE: Input<sw::MotorCommand> = Input::new("guide/command", Qos::sensor(1));
pub(crate) const STUDENT: Input<sw::MotorCommand> = Input::new("student/command", Qos::sensor(1));
pub(crate) const JUMP_START: Input<sw::JumpStart> = Input::new("learner/jump_start", Qos::latched());
pub(crate) const STATUS: Input<sw::VehicleStatus> = Input::new("vehicle/status", Qos::sensor(1));
pub(crate) const COMMAND: Output<sw::MotorCommand> = Output::new("command", Qos::sensor(1));
pub(crate) const AUTHORITY: Output<sw::Authority> = Output::new("authority", Qos::latched());
pub(crate) const EXPERIENCE: Output<sw::Experience> = Output::new("experience", Qos::reliable(1000));
pub(crate) const GUIDE_SETPOINT: Output<geometry_msgs::PoseStamped> =
    Output::new("guide/setpoint", Qos::sensor(1));
pub(crate) const ARM: Server<Trigger> = Server::new("~/arm");
pub(crate) const START: Server<Trigger> = Server::new("~/start_episode");
pub(crate) const STOP: Server<Trigger> = Server::new("~/stop");
pub(crate) const LAND: Server<Trigger> = Server::new("~/land");
pub(crate) const RESET: Client<sw::ResetVehicle> = Client::new("px4_bridge/reset_vehicle");
pub(crate) const RESET_ESTIMATE: Client<Trigger> = Client::new("state_estimator/reset");

const WATCHDOG: &str = "watchdog";
/// Longest that a stopping process takes to land.
const SHUTDOWN_LIMIT: Span = Span::from_millis(15_000);

impl Node for Supervisor {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SETPOINT)
            .input(&GUIDE)
            .input(&STUDENT)
            .input(&JUMP_START)
            .input(&STATUS)
            .output(&COMMAND)
            .output(&AUTHORITY)
            .output(&EXPERIENCE)
            .output(&GUIDE_SETPOINT)
            .output(&MOVED_SETPOINT)
            .server(&ARM)
            .server(&START)
            .server(&STOP)
            .server(&LAND)
            .client(&RESET)
            .client(&RESET_ESTIMATE)
            .timer(WATCHDOG, Span::from_nanoseconds(self.settings.period.nanoseconds() / 2))
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&ODOMETRY) {
            self.on_odometry(now, m, out);
        } else if let Some(m) = message.on(&GUIDE) {
            self.on_offer(now, m, From::Guide, out);
        } else if let Some(m) = message.on(&STUDENT) {
            self.on_offer(now, m, From::Student, out);
        } else if let Some(m) = message.on(&STATUS) {
            self.on_status(now, m, out);
        } else if let Some(m) = message.on(&SETPOINT) {
            self.on_setpoint(m);
        } else if let Some(m) = message.on(&JUMP_START)
            && m.episode_steps > 0
            && m.guide_steps <= m.episode_steps
        {
            self.settings.guide_steps = m.guide_steps;
            self.settings.episode_steps = m.episode_steps;
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        if !self.announced {
            self.announce(now, out);
        }
        if self.pending {
            let late = Span::from_nanoseconds(self.settings.period.nanoseconds() * 3 / 2);
            if self.odometry_received.is_some_and(|at| now - at >= late) {
                self.decide(now, out);
            }
        }
        if self.phase.flies() && !self.odometry_fresh(now) && self.episode.is_some() {
            tracing::error!("no odometry: nothing is commanded, the autopilot's failsafe takes over");
            self.end_episode(now, EndKind::Truncated, out);
            self.enter(now, Phase::Recover, "no odometry", out);
        }
        if self.phase == Phase::Disarmed && self.settings.auto_arm && self.shutdown_since.is_none() {
            // Not ready yet is no error while it starts up.
            let _ = self.arm(now, out);
        }
        if self.phase == Phase::Arming && now - self.phase_since >= self.settings.arming_timeout {
            let said = self.status.as_ref().map_or("", |s| s.message.as_str());
            let reason = format!("arming took too long; the autopilot said: `{said}`");
            tracing::error!("{reason}");
            self.settings.auto_arm = false;
            self.enter(now, Phase::Disarmed, &reason, out);
        }
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let answer = if request.on(&ARM).is_some() {
            self.arm(now, out)
        } else if request.on(&START).is_some() {
            self.resume(now, out)
        } else if request.on(&STOP).is_some() {
            self.stop(now, out)
        } else if request.on(&LAND).is_some() {
            self.land(now, "asked to land", out)
        } else {
            return None;
        };
        let (success, message) = match answer {
            Ok(text) => (true, text.to_owned()),
            Err(text) => (false, text),
        };
        Some(Trigger_Response { success, message }.into())
    }

    fn on_response(&mut self, _now: Time, response: &Response<'_>, _out: &mut Outbox) {
        match response.on(&RESET) {
            Some(Ok(answer)) if !answer.success => tracing::warn!("no reset: {}", answer.message),
            Some(Err(reason)) => tracing::warn!("no reset: {reason}"),
            _ => {}
        }
    }

    fn on_parameters(&mut self, _now: Time, new: &Parameters, _out: &mut Outbox) -> Result<(), String> {
        self.settings.student_enabled = new.boolean("student_enabled").map_err(|e| e.to_string())?;
        Ok(())
    }

    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        // Whatever the answer, the autopilot's failsafe lands when this process is gone.
        let _ = self.land(now, "asked to stop the process", out);
        let armed = self.status.as_ref().is_some_and(|s| s.armed && s.connected);
        if (self.phase.flies() || armed) && self.odometry_fresh(now) && now - since < SHUTDOWN_LIMIT {
            Shutdown::Wait
        } else {
            Shutdown::Done
        }
    }
}
