//! `simulator`: a quadrotor behind PX4's own topics, for laptops with nothing but Rust.
//!
//! In: `fmu/in/offboard_control_mode`, `fmu/in/vehicle_command`, `fmu/in/actuator_motors`,
//! `fmu/in/vehicle_thrust_setpoint`. Out: `fmu/out/*` as PX4 writes them, in its frames and motor order, and `/clock`.
//! Serves `set_entity_pose`, as Gazebo's bridge does.
//!
//! The physics are those of `spikewing-quad`, stepped faster than the control rate, with a ground at z = 0 ([`body`]).
//! The rules are PX4's: modes, arming and disarming ([`autopilot`]), failsafes ([`failsafe`]), the land detector that
//! reads the throttle ([`land_detector`]). Data are ideal but for white noise, or as EKF2's ([`ekf`]).
//!
//! **Failure.** Malformed setpoints stop the motor that they concern, as PX4 does; a pose to reset to that is not finite
//! is refused.

pub mod autopilot;
pub mod battery;
pub mod body;
pub mod ekf;
pub mod face;
pub mod failsafe;
pub mod land_detector;
pub mod own_modes;
pub mod sensors;
mod settings;

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_msgs::{AnyMessage, px4_msgs, ros_gz_interfaces, rosgraph_msgs::Clock};
use spikewing_px4_bridge::{frames, px4};
use spikewing_quad::State;
use spikewing_runtime::{
    Context, Node, NodeKind, Outbox, Received, Span, Time,
    node::{BuildError, Request, Shutdown, Urgency},
    port::{Input, Interface, Output, Qos, Server},
};

use autopilot::{Autopilot, Control};
use body::{Body, Motors};
use ekf::Ekf;
use face::Face;
use land_detector::{LandDetector, Landing, Senses};
use own_modes::OwnModes;
use sensors::{Sample, Sensors};
use settings::{Realism, Settings};

const HEARTBEAT: Input<px4_msgs::OffboardControlMode> =
    Input::new(px4::OFFBOARD_CONTROL_MODE, Qos::sensor(1));
const COMMAND: Input<px4_msgs::VehicleCommand> = Input::new(px4::VEHICLE_COMMAND, Qos::sensor(5));
const MOTORS: Input<px4_msgs::ActuatorMotors> = Input::new(px4::ACTUATOR_MOTORS, Qos::sensor(1));
const THRUST: Input<px4_msgs::VehicleThrustSetpoint> = Input::new(px4::THRUST_SETPOINT, Qos::sensor(1));
const CLOCK: Output<Clock> = Output::new("/clock", Qos::sensor(1));
const SET_POSE: Server<ros_gz_interfaces::SetEntityPose> = Server::new("set_entity_pose");

const TICK: &str = "physics";
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
    body: Body,
    sensors: Sensors,
    /// The errors under `realism: px4`.
    ekf: Option<Ekf>,
    autopilot: Autopilot,
    land_detector: LandDetector,
    landing: Landing,
    own: OwnModes,
    face: Face,
    /// Minus z of the last thrust setpoint, by whoever wrote it.
    throttle: f64,
    specific_force: Vector3<f64>,
    last_tick: Option<Time>,
    ticks: u64,
    shutdown_since: Option<Time>,
}

/// The motors under the control of one tick.
struct Steering<'a> {
    control: Control,
    own: &'a mut OwnModes,
    landed: bool,
    throttle: &'a mut f64,
}

impl Motors for Steering<'_> {
    fn command(&mut self, state: &State, companion: &[f64; 4], dt_s: f64) -> Option<[f64; 4]> {
        match self.control {
            Control::Off => {
                self.own.release();
                None
            }
            Control::Offboard => {
                self.own.release();
                Some(*companion)
            }
            own => {
                let motors = self.own.command(own, state, self.landed, dt_s);
                // PX4's own controllers write the thrust setpoint themselves.
                *self.throttle = motors.iter().map(|u| (u + 1.0) / 2.0).sum::<f64>() / 4.0;
                Some(motors)
            }
        }
    }
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
        let mut land_detector = LandDetector::default();
        let world = &settings.world;
        let body = Body::new(&settings, &mut rng);
        let senses = senses(&body, &body.state, Control::Off, false, 0.0, world.vehicle.gravity_m_s2);
        Ok(Self {
            landing: land_detector.update(Time::ZERO, &senses),
            land_detector,
            sensors,
            ekf: (settings.realism == Realism::Px4).then(|| Ekf::new(settings.ekf, settings.seed)),
            autopilot: Autopilot::new(settings.rules),
            own: OwnModes::new(&world.vehicle, world.start),
            face: Face::new(settings.release, settings.px4_clock, settings.status_gap),
            throttle: 0.0,
            specific_force: Vector3::new(0.0, 0.0, world.vehicle.gravity_m_s2),
            last_tick: None,
            ticks: 0,
            shutdown_since: None,
            rng,
            body,
            settings,
        })
    }

    /// The true state, for tests and for whoever runs in the same process.
    pub fn truth(&self) -> &State {
        &self.body.state
    }

    fn place(&mut self, position: Vector3<f64>, orientation: UnitQuaternion<f64>) {
        let armed = self.autopilot.armed();
        self.body.place(&self.settings.world, position, orientation, armed, &mut self.rng);
        self.sensors.clear();
        self.own.release();
        self.face.count_reset();
    }

    /// What PX4 believes of the state.
    fn believed(&self) -> State {
        self.ekf.as_ref().map_or(self.body.state, |ekf| ekf.seen(&self.body.state))
    }

    /// Whether this tick takes a sample for the odometry.
    fn odometry_is_due(&self) -> bool {
        let ticks = self.settings.ticks_per_odometry;
        match self.settings.realism {
            Realism::Ideal => self.ticks.is_multiple_of(ticks as u64),
            // The estimator writes every 0.8 of the mean period, and the client's limit drops each fifth.
            Realism::Px4 => {
                let slot = (ticks * 0.8).round() as u64;
                self.ticks.is_multiple_of(slot) && !(self.ticks / slot).is_multiple_of(5)
            }
        }
    }

    fn publish_odometry(&mut self, now: Time, out: &mut Outbox) {
        if self.odometry_is_due() {
            let seen = self.sensors.noisy(&self.body.state, &mut self.rng);
            let (seen, wait) = match &mut self.ekf {
                Some(ekf) => {
                    // The gyro's noise alone is white.
                    let believed = ekf.seen(&self.body.state);
                    (State { body_rates: seen.body_rates, ..believed }, ekf.wait())
                }
                None => (seen, Span::ZERO),
            };
            self.sensors.send(now, Sample { held: now, seen, resets: self.face.resets() }, wait);
        }
        let variances = self.ekf.as_ref().map_or_else(|| self.sensors.variances(), Ekf::variances);
        while let Some(sample) = self.sensors.arrived(now) {
            self.face.odometry(now, &sample, &variances, out);
        }
    }

    fn on_command(&mut self, now: Time, command: &px4_msgs::VehicleCommand, out: &mut Outbox) {
        let Some(result) = self.autopilot.on_command(now, command, &self.landing) else { return };
        self.face.acknowledge(now, command, result, out);
        self.face.status(now, &self.autopilot, out);
    }

    /// The land detector, the rules, and with them the physics.
    fn step(&mut self, now: Time, passed: Span) {
        let dt_s = passed.seconds() * self.settings.world.real_time_factor;
        let armed = self.autopilot.armed();
        if let Some(ekf) = &mut self.ekf
            && ekf.update(dt_s, armed && self.body.stands())
        {
            self.face.count_reset();
        }
        let control = self.autopilot.update(now, dt_s, &self.landing);
        let mut steering = Steering {
            control,
            own: &mut self.own,
            landed: self.landing.landed,
            throttle: &mut self.throttle,
        };
        self.specific_force = self.body.advance(&self.settings.world, &mut steering, now - passed, passed);
        if !self.body.state.is_finite() {
            tracing::error!("the simulated state is no longer finite; the vehicle is put back to its start");
            self.place(self.settings.world.start, self.settings.world.heading());
        }
        let descends = self.own.descends();
        let force = self.specific_force.norm();
        let senses = Senses {
            armed: self.autopilot.armed(),
            ..senses(&self.body, &self.believed(), control, descends, self.throttle, force)
        };
        self.landing = self.land_detector.update(now, &senses);
    }
}

fn senses(
    body: &Body,
    believed: &State,
    control: Control,
    descends: bool,
    throttle: f64,
    specific_force: f64,
) -> Senses {
    Senses {
        armed: control != Control::Off,
        climb_rate_controlled: !matches!(control, Control::Off | Control::Offboard),
        descends,
        throttle,
        hover_throttle: (body.vehicle.hover_action() + 1.0) / 2.0,
        velocity: believed.velocity,
        body_rates: body.state.body_rates,
        specific_force,
    }
}

impl Node for Simulator {
    fn interface(&self) -> Interface {
        let base = Interface::new()
            .input(&HEARTBEAT)
            .input(&COMMAND)
            .input(&MOTORS)
            .input(&THRUST)
            .server(&SET_POSE)
            .timer(TICK, self.settings.tick);
        let base = if self.settings.publish_clock { base.output(&CLOCK) } else { base };
        self.face.interface(base)
    }

    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&MOTORS) {
            self.body.on_motors(now, frames::motors_from_px4(&m.control).map(f64::from));
        } else if let Some(m) = message.on(&THRUST) {
            self.throttle = -f64::from(m.xyz[2]);
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
        self.step(now, passed);
        self.ticks += 1;
        if self.settings.publish_clock {
            out.publish(&CLOCK, Clock { clock: now.to_msg() });
        }
        let (gyro, force) = self.sensors.imu(&self.body.state, &self.specific_force, &mut self.rng);
        self.face.imu(now, &gyro, &force, period, out);
        self.face.status(now, &self.autopilot, out);
        self.face.landing(now, &self.landing, out);
        self.publish_odometry(now, out);
    }

    fn on_request(&mut self, _now: Time, request: &Request<'_>, _out: &mut Outbox) -> Option<AnyMessage> {
        let request = request.on(&SET_POSE)?;
        let (p, q) = (&request.pose.position, &request.pose.orientation);
        let quaternion = Quaternion::new(q.w, q.x, q.y, q.z);
        let position = Vector3::new(p.x, p.y, p.z);
        let unit = (quaternion.norm() - 1.0).abs() < 0.1;
        let orientation = unit.then(|| UnitQuaternion::new_normalize(quaternion));
        let sound = orientation.filter(|_| position.iter().all(|v| v.is_finite()));
        if let Some(orientation) = sound {
            self.place(position, orientation);
        } else {
            tracing::warn!(
                "set_entity_pose: the pose is not finite or its quaternion not of unit length; refused"
            );
        }
        Some(ros_gz_interfaces::SetEntityPose_Response { success: sound.is_some() }.into())
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.shutdown_since.get_or_insert(now);
        if self.autopilot.armed() && now - since < SHUTDOWN_LIMIT { Shutdown::Wait } else { Shutdown::Done }
    }
}
