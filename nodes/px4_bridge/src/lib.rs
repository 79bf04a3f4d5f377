//! `px4_bridge`: PX4 over uXRCE-DDS, and everything that is PX4's own.
//!
//! In: `/fmu/out/*` (px4_msgs), `command`, `authority`. Out: `/fmu/in/*`, `imu`, `vehicle/odometry`, `vehicle/status`.
//! Serves `~/reset_vehicle` (simulators), which it passes on to `set_entity_pose`.
//!
//! **Liveness.** PX4 has no time limit on motor setpoints: the last one stays while the heartbeat goes on. So the
//! heartbeat is sent on the arrival of a command and never by a timer of its own. A stale command means no heartbeat,
//! and PX4's own failsafe has the vehicle after its time limit.
//!
//! **Failure.** Messages with NaN, or of another frame than we know, are dropped and counted. Refused requests are
//! repeated, with PX4's reason in `vehicle/status`, and given up after `max_attempts`; a new arming request starts over.

mod clock;
pub mod frames;
mod measurements;
mod offboard;
pub mod px4;

use spikewing_msgs::{
    AnyMessage, geometry_msgs, nav_msgs::Odometry, px4_msgs, ros_gz_interfaces, sensor_msgs::Imu,
    spikewing_msgs as sw, std_msgs::Header,
};
use spikewing_runtime::{
    Context, Declaration, Node, NodeKind, Outbox, Parameters, Received, Span, Time,
    node::{BuildError, Request, Response, Shutdown, Urgency},
    parameter::ParameterError,
    port::{Client, Input, Interface, Output, Qos, Server},
};

use clock::ClockMap;
use offboard::{Intent, Offboard, Seen};
use px4::Release;

const COMMAND: Input<sw::MotorCommand> = Input::new("command", Qos::sensor(1));
const AUTHORITY: Input<sw::Authority> = Input::new("authority", Qos::latched());
const PX4_ODOMETRY: Input<px4_msgs::VehicleOdometry> = Input::new(px4::VEHICLE_ODOMETRY, Qos::sensor(1));
const PX4_SENSORS: Input<px4_msgs::SensorCombined> = Input::new(px4::SENSOR_COMBINED, Qos::sensor(5));
const PX4_LANDED: Input<px4_msgs::VehicleLandDetected> =
    Input::new(px4::VEHICLE_LAND_DETECTED, Qos::sensor(1));

const HEARTBEAT: Output<px4_msgs::OffboardControlMode> =
    Output::new(px4::OFFBOARD_CONTROL_MODE, Qos::sensor(1));
const REQUEST: Output<px4_msgs::VehicleCommand> = Output::new(px4::VEHICLE_COMMAND, Qos::sensor(5));
const THRUST: Output<px4_msgs::VehicleThrustSetpoint> = Output::new(px4::THRUST_SETPOINT, Qos::sensor(1));
const MOTORS: Output<px4_msgs::ActuatorMotors> = Output::new(px4::ACTUATOR_MOTORS, Qos::sensor(1));
const IMU: Output<Imu> = Output::new("imu", Qos::sensor(5));
const ODOMETRY: Output<Odometry> = Output::new("vehicle/odometry", Qos::sensor(1));
const STATUS: Output<sw::VehicleStatus> = Output::new("vehicle/status", Qos::sensor(1));

const RESET: Server<sw::ResetVehicle> = Server::new("~/reset_vehicle");
const SET_POSE: Client<ros_gz_interfaces::SetEntityPose> = Client::new("set_entity_pose");

const TICK: &str = "state machine";
const TICK_PERIOD: Span = Span::from_millis(20);
/// Heartbeats are sent at most this often; PX4 wants more than 2 Hz, and a flooded link starves its answers.
const HEARTBEAT_PERIOD: Span = Span::from_millis(50);
/// Without a status for so long the autopilot counts as gone. It sends five a second.
const STATUS_TIMEOUT: Span = Span::from_millis(1500);
/// Longest that a stopping process waits for the vehicle to be disarmed.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "px4_bridge",
    about: "PX4 over uXRCE-DDS: frames, offboard heartbeat, arming, motors",
    urgency: Urgency::Control,
    declare,
    build: |context| Ok(Box::new(Bridge::new(context)?)),
};

fn declare() -> Vec<Declaration> {
    vec![
        Declaration::choice("px4_version", "1.16", px4::RELEASES)
            .describe("PX4 release, which decides message layouts and topic names."),
        Declaration::float("command_timeout_s", 0.05).range(0.005, 1.0).unit("s").describe(
            "A command older than this is stale: heartbeat and motor setpoints stop, and PX4's failsafe takes over.",
        ),
        Declaration::float("heartbeat_lead_s", 1.2).range(1.0, 10.0).unit("s").describe(
            "How long the heartbeat is streamed before offboard mode is asked for. PX4 wants more than 1 s.",
        ),
        Declaration::float("request_period_s", 0.5)
            .range(0.1, 10.0)
            .unit("s")
            .describe("Time between two attempts of a refused or unanswered request."),
        Declaration::integer("max_attempts", 20)
            .range(1.0, 1000.0)
            .describe("Attempts before a request is given up until the next arming request."),
        Declaration::integer("target_system", 1)
            .range(0.0, 255.0)
            .describe("MAVLink system id of the autopilot."),
        Declaration::text("entity", "x500_0")
            .describe("Name of the vehicle in the simulated world, for resets."),
    ]
}

/// The node's logic.
pub struct Bridge {
    release: Release,
    command_timeout: Span,
    entity: String,
    offboard: Offboard,
    clock: ClockMap,
    seen: Seen,
    intent: Intent,
    nav_state: u8,
    failsafe: bool,
    preflight_ok: bool,
    landed: bool,
    last_heartbeat: Option<Time>,
    shutdown_since: Option<Time>,
    dropped: u64,
}

impl Bridge {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When a parameter is missing, which is a defect of ours.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let p: &Parameters = context.parameters;
        let count = |name: &str| -> Result<u64, ParameterError> { Ok(p.count(name)? as u64) };
        Ok(Self {
            release: Release::from_name(p.text("px4_version")?),
            command_timeout: Span::from_seconds(p.float("command_timeout_s")?),
            entity: p.text("entity")?.to_owned(),
            offboard: Offboard::new(
                Span::from_seconds(p.float("heartbeat_lead_s")?),
                Span::from_seconds(p.float("request_period_s")?),
                count("max_attempts")?,
                u8::try_from(count("target_system")?)?,
            ),
            clock: ClockMap::default(),
            seen: Seen::default(),
            intent: Intent::Disarmed,
            nav_state: 0,
            failsafe: false,
            preflight_ok: false,
            landed: true,
            last_heartbeat: None,
            shutdown_since: None,
            dropped: 0,
        })
    }

    fn drop_message(&mut self, topic: &str, what: &str) {
        self.dropped += 1;
        // The first few and then ever fewer, so that a broken sensor does not flood the log.
        if self.dropped.is_power_of_two() {
            tracing::warn!(topic, dropped = self.dropped, "{what}; the message is dropped");
        }
    }

    fn on_command(&mut self, now: Time, command: &sw::MotorCommand, out: &mut Outbox) {
        if command.motors.iter().any(|m| !m.is_finite() || m.abs() > 1.0) {
            self.drop_message(COMMAND.name, "a motor command is not within [-1, 1]");
            return;
        }
        self.seen.command = Some(now);
        if self.intent == Intent::Fly && !self.offboard.given_up() {
            if self.last_heartbeat.is_none_or(|last| now - last >= HEARTBEAT_PERIOD) {
                self.last_heartbeat = Some(now);
                self.offboard.heartbeat_sent(now);
                out.publish(
                    &HEARTBEAT,
                    px4_msgs::OffboardControlMode {
                        timestamp: microseconds(now),
                        direct_actuator: true,
                        ..Default::default()
                    },
                );
            }
            if self.seen.armed && self.nav_state == px4::OFFBOARD {
                out.publish(
                    &MOTORS,
                    px4_msgs::ActuatorMotors {
                        timestamp: microseconds(now),
                        timestamp_sample: microseconds(now),
                        reversible_flags: 0,
                        control: frames::motors_to_px4(&command.motors),
                    },
                );
                // PX4's land detector reads the throttle here, and takes none for landed.
                let mean = command.motors.iter().map(|u| (u + 1.0) / 2.0).sum::<f32>() / 4.0;
                out.publish(
                    &THRUST,
                    px4_msgs::VehicleThrustSetpoint {
                        timestamp: microseconds(now),
                        timestamp_sample: microseconds(now),
                        xyz: [0.0, 0.0, -mean],
                    },
                );
            }
        }
    }

    fn on_status(
        &mut self,
        now: Time,
        armed: bool,
        nav_state: u8,
        failsafe: bool,
        preflight_ok: bool,
        out: &mut Outbox,
    ) {
        self.seen.status = Some(now);
        self.seen.armed = armed;
        self.seen.offboard = nav_state == px4::OFFBOARD;
        self.seen.landing = px4::lands(nav_state);
        self.nav_state = nav_state;
        self.failsafe = failsafe;
        self.preflight_ok = preflight_ok;
        self.publish_status(now, out);
    }

    fn publish_status(&mut self, now: Time, out: &mut Outbox) {
        use px4_msgs::VehicleStatus as Px4;
        let mode = match self.nav_state {
            Px4::NAVIGATION_STATE_OFFBOARD => sw::VehicleStatus::MODE_OFFBOARD,
            Px4::NAVIGATION_STATE_AUTO_LOITER | Px4::NAVIGATION_STATE_POSCTL => sw::VehicleStatus::MODE_HOLD,
            state if px4::lands(state) => sw::VehicleStatus::MODE_LAND,
            _ => sw::VehicleStatus::MODE_OTHER,
        };
        out.publish(
            &STATUS,
            sw::VehicleStatus {
                header: Header::new(now.to_msg(), ""),
                connected: self.connected(now),
                armed: self.seen.armed,
                mode,
                nav_state: self.nav_state,
                failsafe: self.failsafe,
                preflight_ok: self.preflight_ok,
                landed: self.landed,
                message: self.offboard.message().to_owned(),
                ..Default::default()
            },
        );
    }

    fn connected(&self, now: Time) -> bool {
        self.seen.status.is_some_and(|at| now - at < STATUS_TIMEOUT)
    }

    fn on_odometry(&mut self, now: Time, m: &px4_msgs::VehicleOdometry, out: &mut Outbox) {
        match measurements::odometry(m) {
            Ok(mut message) => {
                message.header.stamp = self.clock.node_time(m.timestamp_sample, now).to_msg();
                out.publish(&ODOMETRY, message);
            }
            Err(reason) => self.drop_message(px4::VEHICLE_ODOMETRY, reason),
        }
    }

    fn on_sensors(&mut self, now: Time, m: &px4_msgs::SensorCombined, out: &mut Outbox) {
        match measurements::imu(m) {
            Ok(mut message) => {
                message.header.stamp = self.clock.node_time(m.timestamp, now).to_msg();
                out.publish(&IMU, message);
            }
            Err(reason) => self.drop_message(px4::SENSOR_COMBINED, reason),
        }
    }

    fn reset(&mut self, pose: &geometry_msgs::Pose, out: &mut Outbox) -> sw::ResetVehicle_Response {
        let (p, q) = (&pose.position, &pose.orientation);
        if ![p.x, p.y, p.z, q.x, q.y, q.z, q.w].iter().all(|v| v.is_finite()) {
            return sw::ResetVehicle_Response { success: false, message: "the pose is not finite".into() };
        }
        out.call(
            &SET_POSE,
            ros_gz_interfaces::SetEntityPose_Request {
                entity: ros_gz_interfaces::Entity {
                    id: 0,
                    name: self.entity.clone(),
                    kind: ros_gz_interfaces::Entity::MODEL,
                },
                pose: pose.clone(),
            },
        );
        sw::ResetVehicle_Response { success: true, message: "asked the simulator".into() }
    }
}

fn microseconds(now: Time) -> u64 {
    u64::try_from(now.nanoseconds() / 1000).unwrap_or(0)
}

impl Node for Bridge {
    fn interface(&self) -> Interface {
        let base = Interface::new()
            .input(&COMMAND)
            .input(&AUTHORITY)
            .input(&PX4_ODOMETRY)
            .input(&PX4_SENSORS)
            .input(&PX4_LANDED)
            .output(&HEARTBEAT)
            .output(&REQUEST)
            .output(&MOTORS)
            .output(&THRUST)
            .output(&IMU)
            .output(&ODOMETRY)
            .output(&STATUS)
            .server(&RESET)
            .client(&SET_POSE)
            .timer(TICK, TICK_PERIOD);
        match self.release {
            Release::V1_16 => base.input(&px4::STATUS_V1).input(&px4::ACK),
            Release::V1_18 => base.input(&px4::STATUS_V4).input(&px4::ACK_V1),
        }
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        use px4_msgs::VehicleStatus as V;
        if let Some(m) = message.on(&COMMAND) {
            self.on_command(now, m, out);
        } else if let Some(m) = message.on(&PX4_ODOMETRY) {
            self.on_odometry(now, m, out);
        } else if let Some(m) = message.on(&PX4_SENSORS) {
            self.on_sensors(now, m, out);
        } else if let Some(m) = message.on(&AUTHORITY) {
            let intent = if m.state == sw::Authority::DISARMED { Intent::Disarmed } else { Intent::Fly };
            if intent != self.intent || m.state == sw::Authority::ARMING {
                self.offboard.start_over();
            }
            self.intent = intent;
        } else if let Some(m) = message.on(&px4::STATUS_V1) {
            let armed = m.arming_state == V::ARMING_STATE_ARMED;
            self.on_status(now, armed, m.nav_state, m.failsafe, m.pre_flight_checks_pass, out);
        } else if let Some(m) = message.on(&px4::STATUS_V4) {
            let armed = m.arming_state == V::ARMING_STATE_ARMED;
            self.on_status(now, armed, m.nav_state, m.failsafe, m.pre_flight_checks_pass, out);
        } else if let Some(m) = message.on(&px4::ACK).or_else(|| message.on(&px4::ACK_V1)) {
            self.offboard.on_ack(m);
        } else if let Some(m) = message.on(&PX4_LANDED) {
            self.landed = m.landed;
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        self.seen.command_fresh = self.seen.command.is_some_and(|at| now - at <= self.command_timeout);
        if !self.seen.command_fresh {
            self.offboard.heartbeat_stopped();
        }
        if let Some(request) = self.offboard.poll(now, self.intent, &self.seen, self.landed) {
            out.publish(&REQUEST, px4_msgs::VehicleCommand { timestamp: microseconds(now), ..request });
        }
        if !self.connected(now) && self.seen.status.is_some() {
            self.publish_status(now, out);
        }
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let request = request.on(&RESET)?;
        Some(self.reset(&request.pose, out).into())
    }

    fn on_response(&mut self, _now: Time, response: &Response<'_>, _out: &mut Outbox) {
        match response.on(&SET_POSE) {
            Some(Ok(answer)) if !answer.success => {
                self.offboard
                    .note(format!("the simulator did not move `{}`; is that its name there?", self.entity));
            }
            Some(Err(reason)) => self.offboard.note(format!("no reset: {reason}")),
            _ => {}
        }
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let flying = self.seen.armed && self.connected(now) && self.seen.command_fresh;
        if flying && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
