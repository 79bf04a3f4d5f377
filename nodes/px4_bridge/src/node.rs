//! The node: what arrives, what is known of PX4, and what is sent on.

use spikewing_msgs::{
    AnyMessage, builtin_interfaces, geometry_msgs, nav_msgs::Odometry, px4_msgs, ros_gz_interfaces,
    sensor_msgs::Imu, spikewing_msgs as sw, std_msgs::Header,
};
use spikewing_runtime::{
    Context, Node, NodeKind, Outbox, Received, Span, Time,
    instance::{Admission, Sole},
    node::{BuildError, Request, Response, Shutdown, Urgency},
    port::{Client, Input, Interface, Output, Qos, Server},
};

use crate::{
    clock::ClockMap,
    frames,
    ground::Ground,
    health::{self, Health},
    link::Link,
    measurements,
    offboard::{Autopilot, Intent, Offboard, Situation},
    origin::{Footing, Origin},
    px4::{self, Release},
    requests::Mode,
    settings::{self, Settings},
};

const COMMAND: Input<sw::MotorCommand> = Input::new("command", Qos::sensor(1));
const GUIDE: Input<sw::MotorCommand> = Input::new("guide/command", Qos::sensor(1));
const AUTHORITY: Input<sw::Authority> = Input::new("authority", Qos::latched());
const PX4_ODOMETRY: Input<px4_msgs::VehicleOdometry> = Input::new(px4::VEHICLE_ODOMETRY, Qos::sensor(1));
const PX4_SENSORS: Input<px4_msgs::SensorCombined> = Input::new(px4::SENSOR_COMBINED, Qos::sensor(5));
const PX4_LANDED: Input<px4_msgs::VehicleLandDetected> =
    Input::new(px4::VEHICLE_LAND_DETECTED, Qos::sensor(1));
/// Unversioned, though its layout is not that of every release: 1.17's where nobody says otherwise.
const PX4_FLAGS: Input<px4_msgs::FailsafeFlags> = Input::new(px4::FAILSAFE_FLAGS, Qos::sensor(1));
const PX4_FLAGS_V16: Input<px4_msgs::FailsafeFlagsV16> = Input::new(px4::FAILSAFE_FLAGS, Qos::sensor(1));
const PX4_FLAGS_V18: Input<px4_msgs::FailsafeFlagsV18> = Input::new(px4::FAILSAFE_FLAGS, Qos::sensor(1));

const HEARTBEAT: Output<px4_msgs::OffboardControlMode> =
    Output::new(px4::OFFBOARD_CONTROL_MODE, Qos::sensor(1));
const REQUEST: Output<px4_msgs::VehicleCommand> = Output::new(px4::VEHICLE_COMMAND, Qos::sensor(5));
const MOTORS: Output<px4_msgs::ActuatorMotors> = Output::new(px4::ACTUATOR_MOTORS, Qos::sensor(1));
const THRUST: Output<px4_msgs::VehicleThrustSetpoint> = Output::new(px4::THRUST_SETPOINT, Qos::sensor(1));
const IMU: Output<Imu> = Output::new("imu", Qos::sensor(5));
const ODOMETRY: Output<Odometry> = Output::new("vehicle/odometry", Qos::sensor(1));
const STATUS: Output<sw::VehicleStatus> = Output::new("vehicle/status", Qos::sensor(1));

const RESET: Server<sw::ResetVehicle> = Server::new("~/reset_vehicle");
const SET_POSE: Client<ros_gz_interfaces::SetEntityPose> = Client::new("set_entity_pose");

const TICK: &str = "state machine";
const TICK_PERIOD: Span = Span::from_millis(20);
/// `vehicle/status` is repeated this often, so that the bridge's silence is noticed.
const STATUS_PERIOD: Span = Span::from_millis(100);
/// Heartbeats are sent at most this often; PX4 wants more than 2 Hz, and a flooded link starves its answers.
const HEARTBEAT_PERIOD: Span = Span::from_millis(50);
/// Without a status for so long the autopilot counts as gone. It sends two a second or more.
const GONE: Span = Span::from_millis(1500);
/// A supervisor that is started anew may be obeyed when the old one has been silent for so long.
const SUCCESSION: Span = Span::from_millis(100);
/// Stamps further from the node's clock are not of this moment: a process that was stopped goes on with what had piled up.
const PAST: Span = Span::from_millis(150);
const AHEAD: Span = Span::from_millis(50);
/// Longest that a stopping process waits for the vehicle to be disarmed.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "px4_bridge",
    about: "PX4 over uXRCE-DDS: frames, offboard heartbeat, arming, motors",
    urgency: Urgency::Control,
    declare: settings::declare,
    build: |context| Ok(Box::new(Bridge::new(context)?)),
};

/// Whether the guide may be flown without the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StandIn {
    Granted,
    Refused,
}

/// PX4's status, of whatever release.
#[derive(Clone, Copy, Debug, Default)]
struct Px4Status {
    armed: bool,
    nav_state: u8,
    intended: u8,
    failsafe: bool,
    preflight_ok: bool,
    disarm_reason: u8,
    system: u8,
}

macro_rules! status {
    ($m:expr) => {
        Px4Status {
            armed: $m.arming_state == px4_msgs::VehicleStatus::ARMING_STATE_ARMED,
            nav_state: $m.nav_state,
            intended: $m.nav_state_user_intention,
            failsafe: $m.failsafe,
            preflight_ok: $m.pre_flight_checks_pass,
            disarm_reason: $m.latest_disarming_reason,
            system: $m.system_id,
        }
    };
}

/// The node's logic.
pub(crate) struct Bridge {
    release: Option<Release>,
    px4_namespace: String,
    entity: String,
    offboard: Offboard,
    link: Link,
    clock: ClockMap,
    origin: Origin,
    ground: Ground,
    health: Health,
    supervisor: Sole,
    /// `None`: `authority` was not heard yet.
    intent: Option<Intent>,
    px4: Px4Status,
    received: Option<Time>,
    command: Option<Time>,
    /// When the autopilot was last armed and in offboard mode, by the supervisor's account.
    vouched: Option<Time>,
    guides: Sole,
    guide: Option<Time>,
    stand_in: StandIn,
    last_heartbeat: Option<Time>,
    last_status: Option<Time>,
    shutdown_since: Option<Time>,
    note: String,
    dropped: u64,
}

impl Bridge {
    fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context)?;
        Ok(Self {
            release: settings.release,
            px4_namespace: settings.px4_namespace,
            entity: settings.entity,
            offboard: Offboard::new(settings.limits, settings.handover),
            link: Link::new(settings.release, settings.system),
            clock: ClockMap::default(),
            origin: Origin::default(),
            ground: Ground::default(),
            health: Health::default(),
            supervisor: Sole::new(SUCCESSION),
            intent: None,
            px4: Px4Status::default(),
            received: None,
            command: None,
            vouched: None,
            guides: Sole::new(SUCCESSION),
            guide: None,
            stand_in: StandIn::Refused,
            last_heartbeat: None,
            last_status: None,
            shutdown_since: None,
            note: String::new(),
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

    fn note(&mut self, note: String) {
        tracing::warn!("{note}");
        self.note = note;
    }

    fn situation(&self, now: Time) -> Situation {
        let intent = self.intent.unwrap_or(Intent::Disarmed);
        Situation {
            now,
            intent,
            // Commands of a supervisor that says it does not fly are none.
            command_age: self.command.filter(|_| intent != Intent::Disarmed).map(|at| now - at),
            guide_age: self.guide.filter(|_| self.stand_in == StandIn::Granted).map(|at| now - at),
            vouched: self.vouched,
            autopilot: self.received.map(|received| Autopilot {
                received,
                armed: self.px4.armed,
                mode: Mode::of(self.px4.nav_state),
                intended: Mode::of(self.px4.intended),
            }),
            grounded: self.ground.certain(now),
        }
    }

    /// Whether a message is the supervisor's, there being one only.
    fn of_supervisor(&mut self, now: Time, instance: u64) -> bool {
        match self.supervisor.admit(now, instance) {
            Admission::Known => true,
            Admission::Successor => {
                tracing::warn!("another supervisor than before commands");
                true
            }
            Admission::Refused(count) => {
                if count.is_power_of_two() {
                    self.note(
                        "a second supervisor commands beside the first: it is refused; stop one of them"
                            .into(),
                    );
                }
                false
            }
        }
    }

    fn on_command(&mut self, now: Time, command: &sw::MotorCommand, out: &mut Outbox) {
        if let Err(reason) = sound(now, command, &command.header.stamp) {
            return self.drop_message(COMMAND.name, reason);
        }
        if !self.of_supervisor(now, command.instance) {
            return;
        }
        self.command = Some(now);
        self.vouched = Some(Time::from(&command.autopilot_stamp)).filter(|at| *at > Time::ZERO);
        if self.intent.is_none() && self.vouched.is_some() {
            // Only who flies vouches; its `authority` is under way.
            self.intent = Some(Intent::Fly);
        }
        self.ground.commanded(now, &command.motors);
        self.step(now, out);
        if !self.offboard.stands_in() {
            self.pass_on(now, &command.motors, out);
        }
    }

    /// The guide's commands go to the supervisor; they are flown here while that is silent.
    fn on_guide(&mut self, now: Time, command: &sw::MotorCommand, out: &mut Outbox) {
        if let Err(reason) = sound(now, command, &command.odometry_stamp) {
            return self.drop_message(GUIDE.name, reason);
        }
        if let Admission::Refused(_) = self.guides.admit(now, command.instance) {
            return;
        }
        self.guide = Some(now);
        self.step(now, out);
        if self.offboard.stands_in() {
            self.ground.commanded(now, &command.motors);
            self.pass_on(now, &command.motors, out);
        }
    }

    /// Heartbeat and motors, as far as they may be sent.
    fn pass_on(&mut self, now: Time, motors: &[f32; 4], out: &mut Outbox) {
        let situation = self.situation(now);
        if self.offboard.heartbeat(&situation)
            && self.last_heartbeat.is_none_or(|last| now - last >= HEARTBEAT_PERIOD)
        {
            self.last_heartbeat = Some(now);
            out.publish(
                &HEARTBEAT,
                px4_msgs::OffboardControlMode {
                    timestamp: microseconds(now),
                    direct_actuator: true,
                    ..Default::default()
                },
            );
        }
        if self.offboard.motors(&situation) {
            let (timestamp, control) = (microseconds(now), frames::motors_to_px4(motors));
            out.publish(
                &MOTORS,
                px4_msgs::ActuatorMotors {
                    timestamp,
                    timestamp_sample: timestamp,
                    reversible_flags: 0,
                    control,
                },
            );
            let xyz = [0.0, 0.0, -frames::throttle(&control)];
            out.publish(
                &THRUST,
                px4_msgs::VehicleThrustSetpoint { timestamp, timestamp_sample: timestamp, xyz },
            );
        }
    }

    fn step(&mut self, now: Time, out: &mut Outbox) {
        let wanted = self.offboard.step(&self.situation(now));
        if let Some(wanted) = wanted {
            let request = wanted.message(self.link.system());
            out.publish(&REQUEST, px4_msgs::VehicleCommand { timestamp: microseconds(now), ..request });
        }
    }

    fn on_authority(&mut self, now: Time, m: &sw::Authority) {
        if !self.of_supervisor(now, m.instance) {
            return;
        }
        let intent = match m.state {
            sw::Authority::DISARMED => Intent::Disarmed,
            sw::Authority::ARMING => Intent::Arm { asked: Time::from(&m.since) },
            _ => Intent::Fly,
        };
        if self.intent.is_some_and(|before| before != intent) {
            self.note.clear();
        }
        self.intent = Some(intent);
        // Where nobody could fly, or it lands, silence is meant, or PX4 does it better.
        let flown = intent == Intent::Fly && m.state != sw::Authority::LAND && !m.adrift;
        self.stand_in = if flown { StandIn::Granted } else { StandIn::Refused };
    }

    fn on_status(&mut self, now: Time, release: Release, status: Px4Status, out: &mut Outbox) {
        if !self.link.status(now, release, status.system) {
            return;
        }
        self.received = Some(now);
        self.px4 = status;
        self.step(now, out);
        self.publish_status(now, out);
    }

    /// What a person should know, the weightiest first.
    fn message(&mut self, now: Time) -> String {
        let trouble = self.link.trouble(now).unwrap_or_default();
        let mut said = [trouble.as_str(), self.offboard.reason(), &self.note]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        if self.offboard.refused() {
            let troubles = self.health.line();
            if !troubles.is_empty() {
                said = format!("{said}; PX4 says: {troubles}");
            }
            if !self.px4.preflight_ok {
                said.push_str("; PX4's preflight checks fail: `commander check` in its console names them");
            }
        }
        said
    }

    fn publish_status(&mut self, now: Time, out: &mut Outbox) {
        self.last_status = Some(now);
        let mode = match Mode::of(self.px4.nav_state) {
            Mode::Offboard => sw::VehicleStatus::MODE_OFFBOARD,
            Mode::Hold | Mode::Other(px4_msgs::VehicleStatus::NAVIGATION_STATE_POSCTL) => {
                sw::VehicleStatus::MODE_HOLD
            }
            mode if mode.lands() => sw::VehicleStatus::MODE_LAND,
            _ => sw::VehicleStatus::MODE_OTHER,
        };
        let message = self.message(now);
        out.publish(
            &STATUS,
            sw::VehicleStatus {
                header: Header::new(now.to_msg(), ""),
                connected: self.received.is_some_and(|at| now - at < GONE),
                armed: self.px4.armed,
                mode,
                nav_state: self.px4.nav_state,
                failsafe: self.px4.failsafe,
                preflight_ok: self.px4.preflight_ok,
                landed: self.ground.landed(self.px4.armed),
                message,
                handed_over: self.offboard.handed_over(&self.situation(now)),
                autopilot_stamp: self.received.unwrap_or(Time::ZERO).to_msg(),
                battery_warning: self.health.battery_warning,
                failsafes: self.health.line(),
                disarm_reason: health::disarm_reason(self.px4.disarm_reason),
            },
        );
    }

    fn on_odometry(&mut self, now: Time, m: &px4_msgs::VehicleOdometry, out: &mut Outbox) {
        self.link.heard(now);
        let stamp = self.clock.node_time(m.timestamp_sample, now);
        let place = frames::finite(&m.position).zip(frames::finite(&m.velocity));
        let Some((position, velocity)) = place else {
            return self.drop_message(px4::VEHICLE_ODOMETRY, measurements::NOT_FINITE);
        };
        let footing = if self.px4.armed { Footing::Armed } else { Footing::Disarmed };
        // A velocity in another frame predicts nothing; one sample later the difference is small.
        let ned = m.velocity_frame == px4_msgs::VehicleOdometry::VELOCITY_FRAME_NED;
        let velocity = if ned { velocity } else { nalgebra::Vector3::zeros() };
        let (position, jumped) = self.origin.place(stamp, m.reset_counter, position, velocity, footing);
        if let Some(metres) = jumped {
            self.note(format!("PX4's estimate jumped by {metres:.2} m: the setpoint moves along"));
        }
        match measurements::odometry(m, &position) {
            Ok(mut message) => {
                message.header.stamp = stamp.to_msg();
                let v = &message.twist.twist.linear;
                self.ground.moved(now, &[v.x, v.y, v.z]);
                out.publish(&ODOMETRY, message);
            }
            Err(reason) => self.drop_message(px4::VEHICLE_ODOMETRY, reason),
        }
    }

    fn on_sensors(&mut self, now: Time, m: &px4_msgs::SensorCombined, out: &mut Outbox) {
        self.link.heard(now);
        match measurements::imu(m) {
            Ok(mut message) => {
                message.header.stamp = self.clock.node_time(m.timestamp, now).to_msg();
                out.publish(&IMU, message);
            }
            Err(reason) => self.drop_message(px4::SENSOR_COMBINED, reason),
        }
    }

    fn reset(
        &mut self,
        now: Time,
        pose: &geometry_msgs::Pose,
        out: &mut Outbox,
    ) -> sw::ResetVehicle_Response {
        let (p, q) = (&pose.position, &pose.orientation);
        if ![p.x, p.y, p.z, q.x, q.y, q.z, q.w].iter().all(|v| v.is_finite()) {
            return sw::ResetVehicle_Response { success: false, message: "the pose is not finite".into() };
        }
        self.origin.vehicle_is_put(now);
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

/// Whether a command is one of this moment, within its range.
fn sound(
    now: Time,
    command: &sw::MotorCommand,
    stamp: &builtin_interfaces::Time,
) -> Result<(), &'static str> {
    if command.motors.iter().any(|m| !m.is_finite() || m.abs() > 1.0) {
        return Err("a motor command is not within [-1, 1]");
    }
    let age = now - Time::from(stamp);
    // Zero claims nothing.
    let of_now = Time::from(stamp) == Time::ZERO || (AHEAD * -1..=PAST).contains(&age);
    if of_now { Ok(()) } else { Err("a motor command is not of this moment, by its stamp") }
}

fn microseconds(now: Time) -> u64 {
    u64::try_from(now.nanoseconds() / 1000).unwrap_or(0)
}

impl Node for Bridge {
    fn interface(&self) -> Interface {
        let base = Interface::new()
            .input(&COMMAND)
            .input(&GUIDE)
            .input(&AUTHORITY)
            .input(&PX4_ODOMETRY)
            .input(&PX4_SENSORS)
            .input(&PX4_LANDED)
            .input(&px4::STATUS_V1)
            .input(&px4::STATUS_V2)
            .input(&px4::STATUS_V4)
            .input(&px4::ACK)
            .input(&px4::ACK_V1)
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
        let base = match self.release {
            Some(Release::V1_16) => base.input(&PX4_FLAGS_V16),
            Some(Release::V1_18) => base.input(&PX4_FLAGS_V18),
            None | Some(Release::V1_17 | Release::V1_17Plus) => base.input(&PX4_FLAGS),
        };
        base.within("fmu/", &self.px4_namespace)
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&COMMAND) {
            self.on_command(now, m, out);
        } else if let Some(m) = message.on(&GUIDE) {
            self.on_guide(now, m, out);
        } else if let Some(m) = message.on(&PX4_ODOMETRY) {
            self.on_odometry(now, m, out);
        } else if let Some(m) = message.on(&PX4_SENSORS) {
            self.on_sensors(now, m, out);
        } else if let Some(m) = message.on(&AUTHORITY) {
            self.on_authority(now, m);
        } else if let Some(m) = message.on(&px4::STATUS_V1) {
            // 1.16 and 1.17 have the same status.
            let named = self.release.filter(|r| *r == Release::V1_16);
            self.on_status(now, named.unwrap_or(Release::V1_17), status!(m), out);
        } else if let Some(m) = message.on(&px4::STATUS_V2) {
            self.on_status(now, Release::V1_17Plus, status!(m), out);
        } else if let Some(m) = message.on(&px4::STATUS_V4) {
            self.on_status(now, Release::V1_18, status!(m), out);
        } else if let Some(m) = message.on(&px4::ACK).or_else(|| message.on(&px4::ACK_V1)) {
            self.link.heard(now);
            self.offboard.on_ack(now, m, self.link.system());
        } else if let Some(m) = message.on(&PX4_LANDED) {
            self.link.heard(now);
            self.ground.detected(now, m.landed);
        } else if let Some(m) = message.on(&PX4_FLAGS) {
            self.health = m.into();
        } else if let Some(m) = message.on(&PX4_FLAGS_V16) {
            self.health = m.into();
        } else if let Some(m) = message.on(&PX4_FLAGS_V18) {
            self.health = m.into();
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        self.step(now, out);
        if self.last_status.is_none_or(|at| now - at >= STATUS_PERIOD) {
            self.publish_status(now, out);
        }
    }

    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let request = request.on(&RESET)?;
        Some(self.reset(now, &request.pose, out).into())
    }

    fn on_response(&mut self, _now: Time, response: &Response<'_>, _out: &mut Outbox) {
        match response.on(&SET_POSE) {
            Some(Ok(answer)) if !answer.success => {
                self.note(format!("the simulator did not move `{}`; is that its name there?", self.entity));
            }
            Some(Err(reason)) => self.note(format!("no reset: {reason}")),
            _ => {}
        }
    }

    fn on_malformed(&mut self, now: Time, topic: &str, _reason: &str, _out: &mut Outbox) {
        self.link.heard(now);
        self.link.unreadable(topic);
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        let connected = self.received.is_some_and(|at| now - at < GONE);
        let commanded = self.command.is_some_and(|at| now - at < SUCCESSION);
        let flying = self.px4.armed && connected && commanded;
        if flying && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
