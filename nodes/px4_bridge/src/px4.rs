//! What differs between PX4 releases: message versions, and with them topic names.
//!
//! Names are relative: to the namespace that PX4's client was started with (`uxrce_dds_client start -n px4_1`), which is
//! the node's own unless `px4_namespace` says otherwise.

use spikewing_msgs::px4_msgs;
use spikewing_runtime::port::{Input, Output, Qos};

/// A supported release, by the version of its status message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 1.16.
    V1_16,
    /// 1.17.
    V1_17,
    /// The development tree between 1.17 and 1.18, as of March 2026.
    V1_17Plus,
    /// 1.18.
    V1_18,
}

/// Name of the parameter `px4_version` for finding out by listening.
pub const AUTO: &str = "auto";
/// All names of the parameter `px4_version`, and what they mean.
pub const VERSIONS: &[(&str, Option<Release>)] = &[
    (AUTO, None),
    ("1.16", Some(Release::V1_16)),
    ("1.17", Some(Release::V1_17)),
    ("1.17+", Some(Release::V1_17Plus)),
    ("1.18", Some(Release::V1_18)),
];

impl Release {
    /// From the parameter; the declaration admits no other.
    pub fn from_name(name: &str) -> Self {
        match name {
            "1.18" => Self::V1_18,
            "1.17+" => Self::V1_17Plus,
            "1.17" => Self::V1_17,
            _ => Self::V1_16,
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1_16 => "1.16",
            Self::V1_17 => "1.17",
            Self::V1_17Plus => "1.17+",
            Self::V1_18 => "1.18",
        })
    }
}

/// PX4's `nav_state` of offboard control.
pub const OFFBOARD: u8 = px4_msgs::VehicleStatus::NAVIGATION_STATE_OFFBOARD;

/// Heartbeat of offboard control.
pub const OFFBOARD_CONTROL_MODE: &str = "fmu/in/offboard_control_mode";
/// Commands.
pub const VEHICLE_COMMAND: &str = "fmu/in/vehicle_command";
/// Motor setpoints.
pub const ACTUATOR_MOTORS: &str = "fmu/in/actuator_motors";
/// Thrust along the body axes: what PX4's land detector takes for the throttle.
pub const THRUST_SETPOINT: &str = "fmu/in/vehicle_thrust_setpoint";
/// State estimate.
pub const VEHICLE_ODOMETRY: &str = "fmu/out/vehicle_odometry";
/// Gyro and accelerometer.
pub const SENSOR_COMBINED: &str = "fmu/out/sensor_combined";
/// Landed or not.
pub const VEHICLE_LAND_DETECTED: &str = "fmu/out/vehicle_land_detected";
/// What PX4 thinks is wrong.
pub const FAILSAFE_FLAGS: &str = "fmu/out/failsafe_flags";

/// Status in the layout of 1.16 and 1.17; the topic carries the message's version.
pub const STATUS_V1: Input<px4_msgs::VehicleStatus> = Input::new("fmu/out/vehicle_status_v1", Qos::sensor(5));
/// Status in the layout of March 2026.
pub const STATUS_V2: Input<px4_msgs::VehicleStatusV2> =
    Input::new("fmu/out/vehicle_status_v2", Qos::sensor(5));
/// Status in the layout of 1.18.
pub const STATUS_V4: Input<px4_msgs::VehicleStatusV4> =
    Input::new("fmu/out/vehicle_status_v4", Qos::sensor(5));
/// Acknowledgements, name up to 1.17.
pub const ACK: Input<px4_msgs::VehicleCommandAck> = Input::new("fmu/out/vehicle_command_ack", Qos::sensor(5));
/// Acknowledgements, name after 1.17.
pub const ACK_V1: Input<px4_msgs::VehicleCommandAck> =
    Input::new("fmu/out/vehicle_command_ack_v1", Qos::sensor(5));

/// The writing end of one of PX4's outputs.
pub const fn written<M: spikewing_msgs::Message>(input: &Input<M>) -> Output<M> {
    Output::new(input.name, Qos::px4_out(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_the_message_versions() {
        let v1 = px4_msgs::VehicleStatus::MESSAGE_VERSION;
        let v2 = px4_msgs::VehicleStatusV2::MESSAGE_VERSION;
        let v4 = px4_msgs::VehicleStatusV4::MESSAGE_VERSION;
        assert_eq!(STATUS_V1.name, format!("fmu/out/vehicle_status_v{v1}"));
        assert_eq!(STATUS_V2.name, format!("fmu/out/vehicle_status_v{v2}"));
        assert_eq!(STATUS_V4.name, format!("fmu/out/vehicle_status_v{v4}"));
    }
}
