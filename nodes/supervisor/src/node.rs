//! The supervisor as a node: its ports, and what each of them leads to.

use spikewing_msgs::{
    AnyMessage, geometry_msgs,
    nav_msgs::Odometry,
    sensor_msgs, spikewing_msgs as sw,
    std_msgs::Header,
    std_srvs::{Trigger, Trigger_Response},
};
use spikewing_quad::Setpoint;
use spikewing_runtime::{
    Node, Outbox, Parameters, Received, Span, Time,
    node::{Request, Response, Shutdown},
    port::{Client, Input, Interface, Output, Qos, Server},
};

use crate::{
    authority::{Authority, Errand},
    flight::Supervisor,
    inputs::From,
    settings::STUDENT_ENABLED,
    situation::Autopilot,
};

pub(crate) const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
pub(crate) const SETPOINT: Input<geometry_msgs::PoseStamped> = Input::new("setpoint", Qos::sensor(1));
pub(crate) const GUIDE: Input<sw::MotorCommand> = Input::new("guide/command", Qos::sensor(1));
pub(crate) const STUDENT: Input<sw::MotorCommand> = Input::new("student/command", Qos::sensor(1));
pub(crate) const JUMP_START: Input<sw::JumpStart> = Input::new("learner/jump_start", Qos::latched());
pub(crate) const STATUS: Input<sw::VehicleStatus> = Input::new("vehicle/status", Qos::sensor(1));
pub(crate) const IMU: Input<sensor_msgs::Imu> = Input::new("imu", Qos::sensor(5));
pub(crate) const RIVAL: Input<sw::Authority> = Input::new("authority", Qos::latched());
pub(crate) const COMMAND: Output<sw::MotorCommand> = Output::new("command", Qos::sensor(1));
pub(crate) const AUTHORITY: Output<sw::Authority> = Output::new("authority", Qos::latched());
pub(crate) const EXPERIENCE: Output<sw::Experience> = Output::new("experience", Qos::reliable(1000));
pub(crate) const TARGET: Output<geometry_msgs::PoseStamped> = Output::new("target", Qos::latched());
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
/// Authority and setpoint are said again this often, so that silence means something.
const REPEAT: Span = Span::from_millis(500);
/// A process that was just started finds out who flies before it says that nobody does.
const FIRST_WORD: Span = Span::from_millis(500);

/// A setpoint in the world.
pub(crate) fn pose(now: Time, at: &Setpoint) -> geometry_msgs::PoseStamped {
    let mut message =
        geometry_msgs::PoseStamped { header: Header::new(now.to_msg(), "map"), ..Default::default() };
    let (p, [x, y, z, w]) = (&at.position, at.orientation());
    message.pose.position = geometry_msgs::Point::new(p.x, p.y, p.z);
    message.pose.orientation = geometry_msgs::Quaternion { x, y, z, w };
    message
}

impl Supervisor {
    fn on_odometry(&mut self, now: Time, m: &Odometry, out: &mut Outbox) {
        if self.pending && self.inputs.odometry_fresh(now) {
            // The last one got no decision; late is better than never.
            self.decide(now, out);
        }
        if matches!(self.standing.state(), Authority::Guide(Errand::Reset(_))) {
            self.inputs.expect_jump();
        }
        let vehicle = match self.inputs.on_odometry(now, m) {
            Ok(vehicle) => vehicle,
            Err(reason) => return self.drop_message(ODOMETRY.name, reason),
        };
        self.watch(now, out);
        self.judge(now, &vehicle, out);
        self.fly_guide(now, &vehicle, out);
        self.pending = true;
        if self.inputs.answered(now) {
            self.decide(now, out);
        }
    }

    fn on_offer(&mut self, now: Time, m: &sw::MotorCommand, from: From, out: &mut Outbox) {
        if let Err(reason) = self.inputs.on_offer(now, m, from) {
            let topic = match from {
                From::Guide => GUIDE.name,
                From::Student => STUDENT.name,
            };
            return self.drop_message(topic, reason);
        }
        if self.pending && self.inputs.answered(now) {
            self.decide(now, out);
        }
    }

    fn on_setpoint(&mut self, m: &geometry_msgs::PoseStamped) {
        let q = &m.pose.orientation;
        let goal = match self.target.asked(m.pose.position.to_array(), [q.x, q.y, q.z, q.w]) {
            Ok(goal) => goal,
            Err(reason) => return self.drop_message(SETPOINT.name, &reason.to_string()),
        };
        match self.settings.fence.outside(&goal.position) {
            None => {
                self.target.aim(goal);
                if !self.standing.state().flies() {
                    self.target.arrive();
                }
            }
            Some(how) => self.drop_message(SETPOINT.name, &format!("the setpoint is refused: {how}")),
        }
    }

    fn on_rival(&mut self, now: Time, m: &sw::Authority) {
        // Nobody names a start 0 but a publisher that knows of none: a test, or a person on the command line.
        if m.instance == self.instance || m.instance == 0 {
            return;
        }
        if self.inputs.rival(now).is_none() {
            tracing::error!("another supervisor publishes `authority`, too: stop one of them");
        }
        self.inputs.on_rival(now, m.instance);
    }
}

impl Node for Supervisor {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&ODOMETRY)
            .input(&SETPOINT)
            .input(&GUIDE)
            .input(&STUDENT)
            .input(&JUMP_START)
            .input(&STATUS)
            .input(&IMU)
            .input(&RIVAL)
            .output(&COMMAND)
            .output(&AUTHORITY)
            .output(&EXPERIENCE)
            .output(&GUIDE_SETPOINT)
            .output(&TARGET)
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
        } else if let Some(m) = message.on(&IMU) {
            self.inputs.on_imu(now, m);
        } else if let Some(m) = message.on(&STATUS) {
            self.inputs.on_status(now, m);
            self.listen(now, m, out);
            self.watch(now, out);
        } else if let Some(m) = message.on(&SETPOINT) {
            self.on_setpoint(m);
        } else if let Some(m) = message.on(&RIVAL) {
            self.on_rival(now, m);
        } else if let Some(m) = message.on(&JUMP_START)
            && m.episode_steps > 0
            && m.guide_steps <= m.episode_steps
        {
            self.settings.guide_steps = m.guide_steps;
            self.settings.episode_steps = m.episode_steps;
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        let started = *self.started.get_or_insert(now);
        if self.pending {
            let late = Span::from_nanoseconds(self.settings.period.nanoseconds() * 3 / 2);
            if self.inputs.received().is_some_and(|at| now - at >= late) {
                self.decide(now, out);
            }
        }
        self.watch(now, out);
        let due = |last: Option<Time>| last.is_none_or(|last| now - last >= REPEAT);
        // A word before the first status could only be a guess.
        let knows = self.inputs.situation(now).autopilot != Autopilot::Silent || now - started >= FIRST_WORD;
        if due(self.announced) && knows {
            self.announce(now, out);
        }
        if due(self.target_published) {
            self.publish_target(now, out);
        }
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let answer = if request.on(&ARM).is_some() {
            self.arm(now, out)
        } else if request.on(&START).is_some() {
            self.ask_for_episode(now, out)
        } else if request.on(&STOP).is_some() {
            self.ask_to_stop(now, out)
        } else if request.on(&LAND).is_some() {
            self.ask_to_land(now, "asked to land", out)
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
        let enabled = new.get(&STUDENT_ENABLED).map_err(|e| e.to_string())?;
        self.inputs.enable_student(enabled);
        Ok(())
    }

    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        let first = self.shutdown_since.is_none();
        let since = *self.shutdown_since.get_or_insert(now);
        if first {
            // Whatever the answer, the autopilot lands when this process is gone.
            let _ = self.ask_to_land(now, "asked to stop the process", out);
        }
        let armed = self.inputs.status(now).is_some_and(|s| s.armed);
        let flies = self.standing.state().flies() && self.adrift().is_none();
        if (flies || armed) && self.inputs.odometry_fresh(now) && now - since < SHUTDOWN_LIMIT {
            Shutdown::Wait
        } else {
            Shutdown::Done
        }
    }
}
