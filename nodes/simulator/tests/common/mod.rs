//! A companion computer, played by the test, before the simulator's PX4.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several tests, and a failed one should say where"
)]

use nalgebra::{UnitQuaternion, Vector3};
use spikewing_msgs::{
    geometry_msgs,
    px4_msgs::{
        ActuatorMotors, OffboardControlMode, VehicleCommand, VehicleCommandAck, VehicleLandDetected,
        VehicleOdometry, VehicleStatus, VehicleThrustSetpoint,
    },
    ros_gz_interfaces::{SetEntityPose, SetEntityPose_Request},
};
use spikewing_px4_bridge::px4;
use spikewing_quad::Vehicle;
use spikewing_runtime::{Span, parameter::Value, rig::Rig};
use spikewing_simulator::NODE;

pub const STATUS: &str = px4::STATUS_V1.name;
pub const ACK: &str = px4::ACK.name;
pub const ODOMETRY: &str = px4::VEHICLE_ODOMETRY;
pub const SENSORS: &str = px4::SENSOR_COMBINED;
pub const LANDED: &str = px4::VEHICLE_LAND_DETECTED;

pub struct Companion {
    pub rig: Rig,
    /// Whether it writes `vehicle_thrust_setpoint` with its motor commands.
    pub writes_thrust: bool,
}

/// Parameters without any noise.
pub fn quiet() -> Vec<(&'static str, Value)> {
    [
        "noise.position",
        "noise.attitude",
        "noise.velocity",
        "noise.body_rates",
        "noise.gyro",
        "noise.accelerometer",
        "noise.gyro_bias",
        "noise.accelerometer_bias",
    ]
    .map(|name| (name, Value::Float(0.0)))
    .to_vec()
}

/// PX4's control of a motor at hover.
pub fn hover(vehicle: &str) -> f32 {
    ((Vehicle::find(vehicle).unwrap().hover_action() + 1.0) / 2.0) as f32
}

/// The first four motors, in PX4's order.
pub fn four(u: [f32; 4]) -> [f32; 12] {
    let mut control = [f32::NAN; 12];
    control[..4].copy_from_slice(&u);
    control
}

impl Companion {
    /// Without noise, but for `settings`.
    pub fn new(settings: &[(&'static str, Value)]) -> Self {
        let mut all = quiet();
        all.extend(settings.iter().cloned());
        Self { rig: Rig::build(&NODE, &all).unwrap(), writes_thrust: true }
    }

    /// Armed in offboard mode, the motors idle.
    pub fn armed(settings: &[(&'static str, Value)]) -> Self {
        let mut companion = Self::new(settings);
        companion.stream(1100, Some(four([0.0; 4])));
        assert_eq!(companion.offboard(), Some(VehicleCommandAck::VEHICLE_CMD_RESULT_ACCEPTED));
        assert_eq!(companion.arm(), Some(VehicleCommandAck::VEHICLE_CMD_RESULT_ACCEPTED));
        companion
    }

    /// Armed, level and at rest in the air at a height, the motors at hover.
    pub fn hovering(height: f64, settings: &[(&'static str, Value)]) -> Self {
        let mut companion = Self::armed(settings);
        assert!(companion.place([0.0, 0.0, height], UnitQuaternion::identity()));
        companion.stream(20, Some(four([hover("crazyflie"); 4])));
        companion
    }

    pub fn pass(&mut self, ms: i64) {
        self.rig.pass(Span::from_millis(ms));
    }

    pub fn heartbeat(&mut self) {
        let mode = OffboardControlMode { direct_actuator: true, ..Default::default() };
        self.rig.message(px4::OFFBOARD_CONTROL_MODE, mode);
    }

    pub fn motors(&mut self, control: [f32; 12]) {
        self.rig.message(px4::ACTUATOR_MOTORS, ActuatorMotors { control, ..Default::default() });
        if self.writes_thrust {
            // Minus the mean, as PX4's own controllers would have it.
            let turning = control.iter().filter(|u| u.is_finite());
            let mean = turning.clone().sum::<f32>() / turning.count().max(1) as f32;
            let thrust = VehicleThrustSetpoint { xyz: [0.0, 0.0, -mean], ..Default::default() };
            self.rig.message(px4::THRUST_SETPOINT, thrust);
        }
    }

    /// Heartbeats at 50 Hz, and motor setpoints with them if there are any.
    pub fn stream(&mut self, ms: i64, control: Option<[f32; 12]>) {
        for _ in 0..ms / 20 {
            self.heartbeat();
            if let Some(control) = control {
                self.motors(control);
            }
            self.pass(20);
        }
    }

    /// Sends a command; returns the acknowledgement's result.
    pub fn send(&mut self, command: VehicleCommand) -> Option<u8> {
        let before = self.rig.sent::<VehicleCommandAck>(ACK).count();
        self.rig.message(px4::VEHICLE_COMMAND, command);
        let acks: Vec<_> = self.rig.sent::<VehicleCommandAck>(ACK).skip(before).collect();
        assert!(acks.len() <= 1);
        acks.first().map(|ack| ack.result)
    }

    pub fn command(&mut self, command: u16, param1: f32, param2: f32) -> Option<u8> {
        self.command3(u32::from(command), [param1, param2, 0.0])
    }

    /// A pilot, or a companion, asks for a mode by PX4's main and sub mode.
    pub fn mode(&mut self, main: f32, sub: f32) -> Option<u8> {
        self.command3(u32::from(VehicleCommand::VEHICLE_CMD_DO_SET_MODE), [1.0, main, sub])
    }

    pub fn command3(&mut self, command: u32, [param1, param2, param3]: [f32; 3]) -> Option<u8> {
        self.send(VehicleCommand {
            command,
            param1,
            param2,
            param3,
            target_system: 1,
            target_component: 1,
            source_system: 1,
            source_component: 191,
            from_external: true,
            ..Default::default()
        })
    }

    pub fn offboard(&mut self) -> Option<u8> {
        self.command(VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0)
    }

    pub fn arm(&mut self) -> Option<u8> {
        self.command(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0)
    }

    pub fn disarm(&mut self, param2: f32) -> Option<u8> {
        self.command(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, param2)
    }

    pub fn status(&self) -> VehicleStatus {
        self.rig.last::<VehicleStatus>(STATUS).unwrap().clone()
    }

    pub fn is_armed(&self) -> bool {
        self.status().arming_state == VehicleStatus::ARMING_STATE_ARMED
    }

    pub fn landed(&self) -> bool {
        self.rig.last::<VehicleLandDetected>(LANDED).unwrap().landed
    }

    pub fn odometry(&self) -> VehicleOdometry {
        self.rig.last::<VehicleOdometry>(ODOMETRY).unwrap().clone()
    }

    /// Height above the ground as PX4 tells it, m.
    pub fn height(&self) -> f64 {
        -f64::from(self.odometry().position[2])
    }

    /// Puts the vehicle there (world ENU, body FLU); whether that was granted.
    pub fn place(&mut self, position: [f64; 3], orientation: UnitQuaternion<f64>) -> bool {
        let q = orientation.quaternion();
        let q = geometry_msgs::Quaternion { x: q.i, y: q.j, z: q.k, w: q.w };
        self.place_raw(Vector3::from(position), q)
    }

    pub fn place_raw(&mut self, p: Vector3<f64>, orientation: geometry_msgs::Quaternion) -> bool {
        let pose = geometry_msgs::Pose { position: geometry_msgs::Point::new(p.x, p.y, p.z), orientation };
        let request = SetEntityPose_Request { pose, ..Default::default() };
        self.rig.request::<SetEntityPose>("set_entity_pose", request).unwrap().success
    }
}
