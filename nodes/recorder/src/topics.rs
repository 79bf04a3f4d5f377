//! What is recorded: every topic of the suite. A test holds the list beside what the nodes declare.

use std::any::TypeId;

use spikewing_bag::Retention;
use spikewing_msgs::{
    Message, diagnostic_msgs, geometry_msgs, nav_msgs, px4_msgs, rcl_interfaces, rosgraph_msgs, sensor_msgs,
    spikewing_msgs as ours,
};
use spikewing_runtime::port::{Durability, Qos, Reliability};

/// A topic and its type.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Relative to the namespace, or absolute.
    pub name: &'static str,
    /// The type's name.
    pub ros_type: &'static str,
    /// Its definition.
    pub definition: &'static str,
    /// Its Rust type.
    pub message: TypeId,
    /// What is asked for: no more than publishers offer.
    pub qos: Qos,
}

impl Recorded {
    const fn of<M: Message>(name: &'static str, qos: Qos) -> Self {
        Self { name, ros_type: M::TYPE, definition: M::DEFINITION, message: TypeId::of::<M>(), qos }
    }

    /// Whether its last message holds on.
    pub fn retention(&self) -> Retention {
        match self.qos.durability {
            Durability::TransientLocal => Retention::Latched,
            Durability::Volatile => Retention::Stream,
        }
    }

    /// A further topic of a type that the suite knows.
    ///
    /// # Errors
    /// When the type is not known.
    pub fn named(name: &str, ros_type: &str) -> Result<Self, String> {
        // Ports have names for as long as the program runs.
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        macro_rules! entry {
            ($ty:ty, $known:expr) => {
                if ros_type == $known {
                    return Ok(Self::of::<$ty>(name, STREAM));
                }
            };
        }
        spikewing_msgs::for_each_message!(entry);
        Err(format!(
            "`{name}`: this suite has no type `{ros_type}` (a type is written as geometry_msgs/msg/Vector3)"
        ))
    }

    /// The same topic in a namespace.
    pub fn within(&self, namespace: &str) -> Self {
        let name = Box::leak(format!("{namespace}/{}", self.name).into_boxed_str());
        Self { name, ..*self }
    }
}

/// Several, so that a busy machine loses none.
const STREAM: Qos = Qos::sensor(50);
const EVERY: Qos = Qos::reliable(1000);
/// The last hundred of every node.
const LOGS: Qos = Qos { reliability: Reliability::Reliable, durability: Durability::Volatile, depth: 100 };

/// Topics that there is one of, whatever the namespace.
pub const SHARED: [Recorded; 4] = [
    Recorded::of::<rosgraph_msgs::Clock>("/clock", STREAM),
    Recorded::of::<diagnostic_msgs::DiagnosticArray>("/diagnostics", EVERY),
    Recorded::of::<rcl_interfaces::Log>("/rosout", LOGS),
    Recorded::of::<rcl_interfaces::ParameterEvent>("/parameter_events", LOGS),
];

/// Topics of a drone.
pub const OF_A_DRONE: [Recorded; 30] = [
    Recorded::of::<ours::Authority>("authority", Qos::latched()),
    Recorded::of::<ours::MotorCommand>("command", STREAM),
    Recorded::of::<ours::Experience>("experience", EVERY),
    Recorded::of::<ours::MotorCommand>("guide/command", STREAM),
    Recorded::of::<geometry_msgs::PoseStamped>("guide/setpoint", STREAM),
    Recorded::of::<sensor_msgs::Imu>("imu", STREAM),
    Recorded::of::<ours::JumpStart>("learner/jump_start", Qos::latched()),
    Recorded::of::<ours::LearnerStatus>("learner/status", EVERY),
    Recorded::of::<geometry_msgs::PoseStamped>("mocap/pose", STREAM),
    Recorded::of::<nav_msgs::Odometry>("odometry", STREAM),
    Recorded::of::<ours::PolicyStatus>("policy/status", Qos::latched()),
    Recorded::of::<ours::PolicyUpdate>("policy/update", Qos::latched()),
    Recorded::of::<geometry_msgs::PoseStamped>("setpoint", STREAM),
    Recorded::of::<ours::MotorCommand>("student/command", STREAM),
    Recorded::of::<geometry_msgs::PoseStamped>("target", Qos::latched()),
    Recorded::of::<nav_msgs::Odometry>("vehicle/odometry", STREAM),
    Recorded::of::<ours::VehicleStatus>("vehicle/status", STREAM),
    Recorded::of::<px4_msgs::ActuatorMotors>("fmu/in/actuator_motors", STREAM),
    Recorded::of::<px4_msgs::OffboardControlMode>("fmu/in/offboard_control_mode", STREAM),
    Recorded::of::<px4_msgs::VehicleCommand>("fmu/in/vehicle_command", STREAM),
    Recorded::of::<px4_msgs::VehicleThrustSetpoint>("fmu/in/vehicle_thrust_setpoint", STREAM),
    Recorded::of::<px4_msgs::SensorCombined>("fmu/out/sensor_combined", STREAM),
    Recorded::of::<px4_msgs::VehicleCommandAck>("fmu/out/vehicle_command_ack", STREAM),
    Recorded::of::<px4_msgs::VehicleCommandAck>("fmu/out/vehicle_command_ack_v1", STREAM),
    Recorded::of::<px4_msgs::VehicleLandDetected>("fmu/out/vehicle_land_detected", STREAM),
    Recorded::of::<px4_msgs::VehicleOdometry>("fmu/out/vehicle_odometry", STREAM),
    Recorded::of::<px4_msgs::VehicleStatus>("fmu/out/vehicle_status_v1", STREAM),
    Recorded::of::<px4_msgs::VehicleStatusV2>("fmu/out/vehicle_status_v2", STREAM),
    Recorded::of::<px4_msgs::VehicleStatusV4>("fmu/out/vehicle_status_v4", STREAM),
    Recorded::of::<px4_msgs::FailsafeFlags>("fmu/out/failsafe_flags", STREAM),
];
