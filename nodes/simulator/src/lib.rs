//! `simulator`: a quadrotor behind PX4's own topics, for laptops with nothing but Rust.
//!
//! In: `/fmu/in/offboard_control_mode`, `/fmu/in/vehicle_command`, `/fmu/in/actuator_motors`. Out: `/fmu/out/*` as PX4
//! writes them, in its frames and motor order, and `/clock`. Serves `set_entity_pose`, as Gazebo's bridge does.
//!
//! The physics are those of `spikewing-quad`, stepped faster than the control rate, with a ground at z = 0. The rules
//! are PX4's ([`autopilot`]): no offboard mode without a heartbeat, no arming outside it, the last motor command stays
//! while the heartbeat goes on, and a failsafe lands the vehicle when the heartbeat stops.
//!
//! **Failure.** Malformed setpoints stop the motor that they concern, as PX4 does; a pose to reset to that is not finite
//! is refused.

pub mod autopilot;
pub mod sensors;
mod settings;

use std::collections::VecDeque;

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_guide_policy::geometric::Geometric;
use spikewing_msgs::{AnyMessage, px4_msgs, ros_gz_interfaces, rosgraph_msgs::Clock};
use spikewing_px4_bridge::{
    frames,
    px4::{self, Release},
};
use spikewing_quad::{Disturbance, State, Vehicle, step};
use spikewing_runtime::{
    Context, Node, NodeKind, Outbox, Received, Span, Time,
    node::{BuildError, Request, Shutdown, Urgency},
    port::{Input, Interface, Output, Qos, Server},
};

use autopilot::{Autopilot, Control};
use sensors::{Sensors, normal};
use settings::Settings;

const HEARTBEAT: Input<px4_msgs::OffboardControlMode> =
    Input::new(px4::OFFBOARD_CONTROL_MODE, Qos::sensor(1));
const COMMAND: Input<px4_msgs::VehicleCommand> = Input::new(px4::VEHICLE_COMMAND, Qos::sensor(5));
const MOTORS: Input<px4_msgs::ActuatorMotors> = Input::new(px4::ACTUATOR_MOTORS, Qos::sensor(1));
const ODOMETRY: Output<px4_msgs::VehicleOdometry> = Output::new(px4::VEHICLE_ODOMETRY, Qos::px4_out(5));
const SENSORS: Output<px4_msgs::SensorCombined> = Output::new(px4::SENSOR_COMBINED, Qos::px4_out(5));
const LANDED: Output<px4_msgs::VehicleLandDetected> =
    Output::new(px4::VEHICLE_LAND_DETECTED, Qos::px4_out(5));
const CLOCK: Output<Clock> = Output::new("/clock", Qos::sensor(1));
const SET_POSE: Server<ros_gz_interfaces::SetEntityPose> = Server::new("set_entity_pose");

const TICK: &str = "physics";
/// Status and land detection are written this often, and at once when they change.
const STATUS_PERIOD: Span = Span::from_millis(100);
/// Speed of PX4's landing, m/s.
const LAND_SPEED: f64 = 0.5;
/// Longest that a stopping process waits for the vehicle to be disarmed.
const SHUTDOWN_LIMIT: Span = Span::from_millis(20_000);

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "simulator",
    about: "A simulated quadrotor behind PX4's own topics",
    urgency: Urgency::Control,
    declare: settings::declare,
    build: |context| Ok(Box::new(Simulator::new(context)?)),
};

/// The node's logic.
pub struct Simulator {
    settings: Settings,
    rng: Xoshiro256PlusPlus,
    /// Draws vehicles; a generator of its own, so that noise and resets are the same with and without.
    vehicle_rng: Xoshiro256PlusPlus,
    /// The one that flies: the nominal vehicle of the settings, or one drawn around it at the last reset.
    vehicle: Vehicle,
    /// Time from a motor setpoint to the motors.
    action_latency: Span,
    /// Setpoints on their way to the motors, with the time at which they arrive.
    underway: VecDeque<(Time, [f64; 4])>,
    state: State,
    disturbance: Disturbance,
    sensors: Sensors,
    autopilot: Autopilot,
    /// PX4's own controller, for failsafes.
    own: Geometric,
    /// Where it holds or from where it lands.
    own_setpoint: Option<Vector3<f64>>,
    motors: [f64; 4],
    last_tick: Option<Time>,
    ticks: u64,
    last_status: Option<(Time, Reported)>,
    reset_counter: u8,
    shutdown_since: Option<Time>,
}

/// What a companion must learn at once when it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reported {
    armed: bool,
    nav_state: u8,
    failsafe: bool,
    landed: bool,
}

impl Simulator {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When the vehicle is not known.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let settings = Settings::read(context.parameters)?;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let sensors = Sensors::new(settings.noise, &mut rng);
        let mut simulator = Self {
            state: State::rest(&settings.vehicle, settings.start),
            disturbance: Disturbance::default(),
            sensors,
            autopilot: Autopilot::new(settings.loss_timeout, settings.loss_action),
            own: Geometric::for_vehicle(&settings.vehicle),
            own_setpoint: None,
            motors: [-1.0; 4],
            last_tick: None,
            ticks: 0,
            last_status: None,
            reset_counter: 0,
            shutdown_since: None,
            rng,
            vehicle_rng: Xoshiro256PlusPlus::seed_from_u64(!settings.seed),
            vehicle: settings.vehicle.clone(),
            action_latency: Span::ZERO,
            underway: VecDeque::new(),
            settings,
        };
        simulator.draw_vehicle();
        simulator.draw_disturbance();
        Ok(simulator)
    }

    /// The true state, for tests and for whoever runs in the same process.
    pub fn truth(&self) -> &State {
        &self.state
    }

    fn draw_disturbance(&mut self) {
        let own = &self.vehicle.simulation;
        let several = !self.settings.others.is_empty();
        let of = |parameter: f64, file: f64| if several { parameter.max(file) } else { parameter };
        self.disturbance = Disturbance {
            force_n: normal(&mut self.rng) * of(self.settings.force_std_n, own.force_std_n),
            torque_n_m: normal(&mut self.rng) * of(self.settings.torque_std_n_m, own.torque_std_n_m),
        };
    }

    fn draw_vehicle(&mut self) {
        let settings = &self.settings;
        if settings.randomisation.is_none() && settings.others.is_empty() {
            return;
        }
        let nominal = match settings.others.len() {
            0 => &settings.vehicle,
            // The last of the numbers is the vehicle itself.
            n => settings.others.get(self.vehicle_rng.random_range(0..=n)).unwrap_or(&settings.vehicle),
        };
        let drawn = settings.randomisation.sample(nominal, &mut self.vehicle_rng);
        self.vehicle = drawn.vehicle;
        // Counted on the node's clock, as setpoints are.
        self.action_latency = Span::from_seconds(drawn.action_latency_s / self.settings.real_time_factor);
    }

    fn on_motors(&mut self, now: Time, motors: [f64; 4]) {
        if self.action_latency > Span::ZERO {
            self.underway.push_back((now + self.action_latency, motors));
        } else {
            self.motors = motors;
        }
    }

    fn landed(&self) -> bool {
        self.state.position.z <= 1e-3 && self.state.velocity.norm() < 0.05 && self.thrust_share() < 0.5
    }

    /// Thrust over weight.
    fn thrust_share(&self) -> f64 {
        let v = &self.vehicle;
        self.state.rotors.iter().map(|&r| v.thrust_n(r)).sum::<f64>() / (v.mass_kg * v.gravity_m_s2)
    }

    fn action(&mut self, control: Control, dt_s: f64) -> [f64; 4] {
        match control {
            Control::Off => [-1.0; 4],
            Control::Offboard => {
                self.own_setpoint = None;
                self.motors
            }
            Control::Hold | Control::Land => {
                let mut setpoint = self.own_setpoint.unwrap_or(self.state.position);
                if control == Control::Land {
                    setpoint.z = (setpoint.z - LAND_SPEED * dt_s).max(-0.3);
                }
                self.own_setpoint = Some(setpoint);
                if control == Control::Land
                    && self.state.position.z <= 1e-3
                    && self.state.velocity.norm() < 0.05
                {
                    // Touch-down: PX4 takes the thrust away, and then disarms.
                    return [-1.0; 4];
                }
                self.own.command(&self.state.observation(&setpoint)).map(f64::from)
            }
        }
    }

    /// Moves time on from `since` by `passed` of the node's clock, in steps of the physics rate. Returns the specific
    /// force of the last step, body frame.
    fn advance(&mut self, control: Control, since: Time, passed: Span) -> Vector3<f64> {
        let dt_s = passed.seconds() * self.settings.real_time_factor;
        let steps = (dt_s * self.settings.physics_rate_hz).round().max(1.0);
        let h = dt_s / steps;
        let mut specific_force = Vector3::zeros();
        for k in 0..steps as u32 {
            let at = since + Span::from_seconds(passed.seconds() * f64::from(k) / steps);
            while let Some((_, motors)) = self.underway.pop_front_if(|(due, _)| *due <= at) {
                self.motors = motors;
            }
            let action = self.action(control, h);
            let before = self.state.velocity;
            self.state = step(&self.vehicle, &self.state, &action, &self.disturbance, h);
            if control == Control::Off {
                // An armed autopilot keeps the rotors at idle; a disarmed one stops them. The thrust curve has no
                // rotor at rest, so that a disarmed vehicle may only fall or stand.
                self.state.rotors = [self.vehicle.rotor_range[0]; 4];
            }
            self.ground();
            let gravity = Vector3::new(0.0, 0.0, self.vehicle.gravity_m_s2);
            let acceleration = (self.state.velocity - before) / h + gravity;
            specific_force = self.state.orientation.inverse_transform_vector(&acceleration);
        }
        specific_force
    }

    /// The ground takes what falls on it: the vehicle stands, level, with its heading.
    fn ground(&mut self) {
        if self.state.position.z > 0.0 || self.state.velocity.z > 0.0 {
            return;
        }
        self.state.position.z = 0.0;
        self.state.velocity = Vector3::zeros();
        self.state.body_rates = Vector3::zeros();
        let (_, _, yaw) = self.state.orientation.euler_angles();
        self.state.orientation = UnitQuaternion::from_euler_angles(0.0, 0.0, yaw);
    }

    fn place(&mut self, position: Vector3<f64>, orientation: UnitQuaternion<f64>) {
        self.draw_vehicle();
        let vehicle = self.vehicle.clone();
        let start = &self.settings.reset;
        let drawn = start.sample(&vehicle, &position, &mut self.rng);
        self.state = State { orientation: orientation * drawn.orientation, ..drawn };
        if !self.autopilot.armed() {
            self.state.rotors = [vehicle.rotor_range[0]; 4];
        }
        self.ground();
        self.motors = [vehicle.hover_action(); 4];
        self.underway.clear();
        self.draw_disturbance();
        self.sensors.clear();
        self.own_setpoint = None;
        self.reset_counter = self.reset_counter.wrapping_add(1);
    }

    fn publish_odometry(&mut self, now: Time, out: &mut Outbox) {
        let Some((held, seen)) = self.sensors.odometry(now, &self.state, &mut self.rng) else { return };
        let noise = self.sensors.noise();
        let variance = |std: f64| [(std * std).max(1e-8) as f32; 3];
        out.publish(
            &ODOMETRY,
            px4_msgs::VehicleOdometry {
                timestamp: microseconds(now),
                timestamp_sample: microseconds(held),
                pose_frame: px4_msgs::VehicleOdometry::POSE_FRAME_NED,
                position: frames::to_f32(&frames::world(&seen.position)),
                q: frames::quaternion_to_px4(&frames::orientation(&seen.orientation)),
                velocity_frame: px4_msgs::VehicleOdometry::VELOCITY_FRAME_NED,
                velocity: frames::to_f32(&frames::world(&seen.velocity)),
                angular_velocity: frames::to_f32(&frames::body(&seen.body_rates)),
                position_variance: variance(noise.position_m),
                orientation_variance: variance(noise.attitude_rad),
                velocity_variance: variance(noise.velocity_m_s),
                reset_counter: self.reset_counter,
                quality: 100,
            },
        );
    }

    fn publish_imu(&mut self, now: Time, specific_force: &Vector3<f64>, period: Span, out: &mut Outbox) {
        let (gyro, force) = self.sensors.imu(&self.state, specific_force, &mut self.rng);
        let dt_us = u32::try_from(period.nanoseconds() / 1000).unwrap_or(0);
        out.publish(
            &SENSORS,
            px4_msgs::SensorCombined {
                timestamp: microseconds(now),
                gyro_rad: frames::to_f32(&frames::body(&gyro)),
                gyro_integral_dt: dt_us,
                accelerometer_m_s2: frames::to_f32(&frames::body(&force)),
                accelerometer_integral_dt: dt_us,
                ..Default::default()
            },
        );
    }

    fn publish_status(&mut self, now: Time, out: &mut Outbox) {
        let reported = Reported {
            armed: self.autopilot.armed(),
            nav_state: self.autopilot.nav_state(),
            failsafe: self.autopilot.failsafe(),
            landed: self.landed(),
        };
        if self.last_status.is_some_and(|(at, last)| last == reported && now - at < STATUS_PERIOD) {
            return;
        }
        self.last_status = Some((now, reported));
        let arming_state = if reported.armed {
            px4_msgs::VehicleStatus::ARMING_STATE_ARMED
        } else {
            px4_msgs::VehicleStatus::ARMING_STATE_DISARMED
        };
        let timestamp = microseconds(now);
        match self.settings.release {
            Release::V1_16 => out.publish(
                &px4::written(&px4::STATUS_V1),
                px4_msgs::VehicleStatus {
                    timestamp,
                    arming_state,
                    nav_state: reported.nav_state,
                    failsafe: reported.failsafe,
                    pre_flight_checks_pass: true,
                    system_id: autopilot::SYSTEM,
                    component_id: autopilot::COMPONENT,
                    vehicle_type: 1,
                    ..Default::default()
                },
            ),
            Release::V1_18 => out.publish(
                &px4::written(&px4::STATUS_V4),
                px4_msgs::VehicleStatusV4 {
                    timestamp,
                    arming_state,
                    nav_state: reported.nav_state,
                    failsafe: reported.failsafe,
                    pre_flight_checks_pass: true,
                    system_id: autopilot::SYSTEM,
                    component_id: autopilot::COMPONENT,
                    vehicle_type: 1,
                    ..Default::default()
                },
            ),
        }
        out.publish(
            &LANDED,
            px4_msgs::VehicleLandDetected {
                timestamp,
                landed: reported.landed,
                maybe_landed: reported.landed,
                ground_contact: reported.landed,
                ..Default::default()
            },
        );
    }

    fn on_command(&mut self, now: Time, command: &px4_msgs::VehicleCommand, out: &mut Outbox) {
        let Some(result) = self.autopilot.on_command(now, command, self.landed()) else { return };
        let ack = px4_msgs::VehicleCommandAck {
            timestamp: microseconds(now),
            command: command.command,
            result,
            target_system: command.source_system,
            target_component: command.source_component,
            from_external: false,
            ..Default::default()
        };
        let port = match self.settings.release {
            Release::V1_16 => px4::written(&px4::ACK),
            Release::V1_18 => px4::written(&px4::ACK_V1),
        };
        out.publish(&port, ack);
        self.publish_status(now, out);
    }
}

fn microseconds(now: Time) -> u64 {
    u64::try_from(now.nanoseconds() / 1000).unwrap_or(0)
}

impl Node for Simulator {
    fn interface(&self) -> Interface {
        let base = Interface::new()
            .input(&HEARTBEAT)
            .input(&COMMAND)
            .input(&MOTORS)
            .output(&ODOMETRY)
            .output(&SENSORS)
            .output(&LANDED)
            .output(&CLOCK)
            .server(&SET_POSE)
            .timer(TICK, self.settings.tick);
        match self.settings.release {
            Release::V1_16 => base.output(&px4::written(&px4::STATUS_V1)).output(&px4::written(&px4::ACK)),
            Release::V1_18 => base.output(&px4::written(&px4::STATUS_V4)).output(&px4::written(&px4::ACK_V1)),
        }
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&MOTORS) {
            self.on_motors(now, frames::motors_from_px4(&m.control).map(f64::from));
        } else if let Some(m) = message.on(&HEARTBEAT) {
            self.autopilot.on_heartbeat(now, m.direct_actuator);
        } else if let Some(m) = message.on(&COMMAND) {
            self.on_command(now, m, out);
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, out: &mut Outbox) {
        // After a pause of the process physics go on from where they were, not through all that was missed.
        let period = self.settings.tick;
        let passed = self.last_tick.map_or(period, |last| (now - last).min(period * 10));
        self.last_tick = Some(now);
        if passed <= Span::ZERO {
            return;
        }
        let landed = self.landed();
        let control =
            self.autopilot.update(now, landed, self.settings.disarm_landed, self.settings.disarm_preflight);
        let specific_force = self.advance(control, now - passed, passed);
        if !self.state.is_finite() {
            tracing::error!("the simulated state is no longer finite; the vehicle is put back to its start");
            self.place(self.settings.start, UnitQuaternion::identity());
        }
        self.ticks += 1;
        out.publish(&CLOCK, Clock { clock: now.to_msg() });
        self.publish_imu(now, &specific_force, period, out);
        self.publish_status(now, out);
        if self.ticks.is_multiple_of(self.settings.odometry_every) {
            self.publish_odometry(now, out);
        }
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, _out: &mut Outbox) -> Option<AnyMessage> {
        let request = request.on(&SET_POSE)?;
        let (p, q) = (&request.pose.position, &request.pose.orientation);
        let quaternion = Quaternion::new(q.w, q.x, q.y, q.z);
        let position = Vector3::new(p.x, p.y, p.z);
        let sound = position.iter().all(|v| v.is_finite()) && (quaternion.norm() - 1.0).abs() < 0.1;
        if sound {
            self.place(position, UnitQuaternion::new_normalize(quaternion));
        } else {
            tracing::warn!(
                "set_entity_pose: the pose is not finite or its quaternion not of unit length; refused"
            );
        }
        Some(ros_gz_interfaces::SetEntityPose_Response { success: sound }.into())
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        if self.autopilot.armed() && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
