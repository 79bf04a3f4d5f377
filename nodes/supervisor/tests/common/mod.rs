//! A supervisor with everything around it played by the test.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several tests, and a failed one should say where"
)]

use spikewing_msgs::{
    geometry_msgs,
    nav_msgs::Odometry,
    sensor_msgs, spikewing_msgs as sw,
    std_srvs::{Trigger, Trigger_Request, Trigger_Response},
};
use spikewing_runtime::{Context, NodeOptions, Span, Time, parameter::Value, rig::Rig};
use spikewing_supervisor::NODE;

/// Where the vehicle is said to be, and how it moves.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    pub position: [f64; 3],
    /// Rotation about the x axis, rad.
    pub roll: f64,
    /// Rotation about the z axis, rad: 0 faces east.
    pub yaw: f64,
    pub velocity: [f64; 3],
    pub rates: [f64; 3],
}

impl Pose {
    /// At rest, level, beside the setpoint by `x` metres.
    pub fn at(x: f64) -> Self {
        Self { position: [x, 0.0, 1.0], roll: 0.0, yaw: 0.0, velocity: [0.0; 3], rates: [0.0; 3] }
    }
}

pub struct Cockpit {
    pub rig: Rig,
    /// The autopilot's last status, which the bridge repeats while it lives.
    status: Option<sw::VehicleStatus>,
    pub bridge_lives: bool,
    since_status: i64,
    /// No two estimates are alike.
    noise: f64,
    frozen: bool,
    /// How old odometry is when it arrives.
    pub age: Span,
    /// What the estimator says of its position.
    pub position_std_m: f64,
    pub heading_std_rad: f64,
}

impl Cockpit {
    /// Arms by itself, and takes every calm moment for the start of an episode.
    pub fn new(settings: &[(&str, Value)]) -> Self {
        Self::around(Rig::build(&NODE, &Self::settings(settings)).unwrap())
    }

    /// A later start of the process than the first.
    pub fn started_as(instance: u64) -> Self {
        let mut options = NodeOptions::of(&NODE);
        for (name, value) in Self::settings(&[]) {
            options.parameters.set(name, value).unwrap();
        }
        let context = Context { instance, ..options.context() };
        Self::around(Rig::of((NODE.build)(&context).unwrap()))
    }

    fn settings<'a>(settings: &[(&'a str, Value)]) -> Vec<(&'a str, Value)> {
        let mut all = vec![
            ("auto_arm", Value::Bool(true)),
            ("episode.settle_s", Value::Float(0.0)),
            // A test may put the vehicle outside without a jump that nobody would believe.
            ("envelope.position", Value::Float(0.2)),
            ("envelope.tilt", Value::Float(1.4)),
            ("envelope.speed", Value::Float(4.0)),
            ("envelope.body_rate", Value::Float(30.0)),
        ];
        all.extend(settings.iter().cloned());
        all
    }

    fn around(rig: Rig) -> Self {
        Self {
            rig,
            status: None,
            bridge_lives: true,
            since_status: 0,
            noise: 0.0,
            frozen: false,
            age: Span::ZERO,
            position_std_m: 0.0,
            heading_std_rad: 0.0,
        }
    }

    /// Odometry repeats itself to the last bit from now on.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    pub fn thaw(&mut self) {
        self.frozen = false;
    }

    /// Armed, in an episode, the student flying.
    pub fn flying(settings: &[(&str, Value)]) -> Self {
        let mut cockpit = Self::new(settings);
        cockpit.status(false);
        for _ in 0..10 {
            cockpit.period(0.0, Some(0.1), Some(0.2));
        }
        assert_eq!(cockpit.state(), sw::Authority::ARMING);
        cockpit.status(true);
        for _ in 0..60 {
            cockpit.period(0.0, Some(0.1), Some(0.2));
        }
        // Later still where it has to settle first.
        for _ in 0..20 {
            if cockpit.state() != sw::Authority::STUDENT {
                cockpit.period(0.0, Some(0.1), Some(0.2));
            }
        }
        assert_eq!(cockpit.state(), sw::Authority::STUDENT);
        cockpit
    }

    pub fn wait(&mut self, milliseconds: i64) {
        self.rig.pass(Span::from_millis(milliseconds));
        self.since_status += milliseconds;
        if self.bridge_lives
            && self.since_status >= 100
            && let Some(status) = self.status.clone()
        {
            self.autopilot(status);
        }
    }

    /// The autopilot's status: armed in offboard mode, or standing on the ground.
    pub fn status(&mut self, armed: bool) {
        let mode = if armed { sw::VehicleStatus::MODE_OFFBOARD } else { sw::VehicleStatus::MODE_HOLD };
        self.autopilot(sw::VehicleStatus {
            connected: true,
            armed,
            mode,
            landed: !armed,
            ..Default::default()
        });
    }

    pub fn autopilot(&mut self, status: sw::VehicleStatus) {
        self.since_status = 0;
        self.status = Some(status.clone());
        self.rig.message("vehicle/status", status);
    }

    /// What the inertial sensors feel along the body's z axis, m/s².
    pub fn imu(&mut self, force_z: f64) {
        let mut m = sensor_msgs::Imu::default();
        m.linear_acceleration.z = force_z;
        self.rig.message("imu", m);
    }

    pub fn odometry(&mut self, pose: Pose) {
        let mut m = Odometry::default();
        m.header.stamp = (self.rig.now() + self.age * -1).to_msg();
        m.pose.covariance[0] = self.position_std_m * self.position_std_m;
        m.pose.covariance[35] = self.heading_std_rad * self.heading_std_rad;
        let [x, y, z] = pose.position;
        m.pose.pose.position = geometry_msgs::Point::new(x, y, z);
        let ((sr, cr), (sy, cy)) = ((pose.roll / 2.0).sin_cos(), (pose.yaw / 2.0).sin_cos());
        m.pose.pose.orientation =
            geometry_msgs::Quaternion { x: cy * sr, y: sy * sr, z: sy * cr, w: cy * cr };
        let [x, y, z] = pose.velocity;
        m.twist.twist.linear = geometry_msgs::Vector3::new(x, y, z);
        let [x, y, z] = pose.rates;
        if !self.frozen {
            self.noise = if self.noise > 1e-9 { 0.0 } else { self.noise + 1e-10 };
        }
        m.twist.twist.angular = geometry_msgs::Vector3::new(x, y, z + self.noise);
        self.rig.message("odometry", m);
    }

    /// A policy's answer to the odometry of now.
    pub fn offer(&mut self, port: &str, motors: f32, warmth: f32) {
        self.answer(0, self.rig.now() + self.age * -1, port, motors, warmth);
    }

    /// The same from another process of that name.
    pub fn offer_of(&mut self, instance: u64, port: &str, motors: f32, warmth: f32) {
        self.answer(instance, self.rig.now(), port, motors, warmth);
    }

    /// A policy's answer to odometry of some milliseconds ago.
    pub fn offer_before(&mut self, milliseconds: i64, port: &str, motors: f32) {
        self.answer(0, self.rig.now() + Span::from_millis(-milliseconds), port, motors, 1.0);
    }

    fn answer(&mut self, instance: u64, stamp: Time, port: &str, motors: f32, warmth: f32) {
        let m = sw::MotorCommand {
            motors: [motors; 4],
            warmth,
            odometry_stamp: stamp.to_msg(),
            instance,
            ..Default::default()
        };
        self.rig.message(port, m);
    }

    /// One control period in which both policies answer (or not), beside the setpoint by `x` metres.
    pub fn period(&mut self, x: f64, guide: Option<f32>, student: Option<f32>) {
        self.period_at(Pose::at(x), guide, student);
    }

    pub fn period_at(&mut self, pose: Pose, guide: Option<f32>, student: Option<f32>) {
        self.wait(10);
        self.odometry(pose);
        if let Some(motors) = guide {
            self.offer("guide/command", motors, 1.0);
        }
        if let Some(motors) = student {
            self.offer("student/command", motors, 1.0);
        }
    }

    pub fn setpoint(&mut self, x: f64) {
        let mut m = geometry_msgs::PoseStamped::default();
        m.pose.position = geometry_msgs::Point::new(x, 0.0, 1.0);
        self.rig.message("setpoint", m);
    }

    /// Calls a service.
    pub fn ask(&mut self, service: &str) -> Trigger_Response {
        self.rig.request::<Trigger>(service, Trigger_Request::default()).unwrap()
    }

    pub fn commands(&self) -> Vec<sw::MotorCommand> {
        self.rig.sent("command").cloned().collect()
    }

    pub fn experience(&self) -> Vec<sw::Experience> {
        self.rig.sent("experience").cloned().collect()
    }

    pub fn authority(&self) -> sw::Authority {
        self.rig.last::<sw::Authority>("authority").cloned().unwrap_or_default()
    }

    pub fn state(&self) -> u8 {
        self.authority().state
    }

    /// Where the guide was last told to go.
    pub fn guide_setpoint(&self) -> Option<[f64; 3]> {
        let m = self.rig.last::<geometry_msgs::PoseStamped>("guide/setpoint")?;
        Some(m.pose.position.to_array())
    }
}

/// The time of the odometry that a command answers.
pub fn answers(command: &sw::MotorCommand) -> Time {
    Time::from(&command.odometry_stamp)
}
