//! From the types that a node declares to the codecs and names on the wire; shared by the transports between processes.

use std::any::TypeId;

use spikewing_msgs::{AnyMessage, Message, cdr};

/// Turns a sample (CDR with its header) into a message.
pub type Decoder = fn(&[u8]) -> Result<AnyMessage, cdr::CdrError>;

fn decode<M: Message>(bytes: &[u8]) -> Result<AnyMessage, cdr::CdrError> {
    cdr::decode::<M>(bytes).map(Message::wrap)
}

/// The decoder of a Rust message type.
pub fn decoder_of(message: TypeId) -> Option<Decoder> {
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            if message == TypeId::of::<$ty>() {
                return Some(decode::<$ty>);
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    None
}

/// The decoder of a ROS type, e.g. `std_srvs/srv/Trigger_Request`. Where several Rust types share one ROS type, the
/// first; services never do.
pub fn decoder_named(ros_type: &str) -> Option<Decoder> {
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            if ros_type == <$ty as Message>::TYPE {
                return Some(decode::<$ty>);
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    None
}

/// The name that DDS knows a ROS type by: `nav_msgs/msg/Odometry` becomes `nav_msgs::msg::dds_::Odometry_`.
pub fn dds_type_name(ros_type: &str) -> String {
    match ros_type.rsplit_once('/') {
        Some((path, name)) => format!("{}::dds_::{name}_", path.replace('/', "::")),
        None => format!("{ros_type}_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spikewing_msgs::{spikewing_msgs::MotorCommand, std_srvs};

    #[test]
    fn every_type_has_a_decoder_and_a_name() {
        let message = MotorCommand { motors: [0.1, 0.2, 0.3, 0.4], ..MotorCommand::default() };
        let bytes = cdr::encode(&message).unwrap();
        let decoded = decoder_of(TypeId::of::<MotorCommand>()).unwrap()(&bytes).unwrap();
        assert_eq!(MotorCommand::peel(&decoded), Some(&message));
        assert!(decoder_of(TypeId::of::<String>()).is_none());
        assert!(decoder_named("std_srvs/srv/Trigger_Response").is_some());
        assert!(decoder_named("std_srvs/srv/Nothing").is_none());
        assert_eq!(dds_type_name("nav_msgs/msg/Odometry"), "nav_msgs::msg::dds_::Odometry_");
        assert_eq!(dds_type_name(std_srvs::Trigger_Request::TYPE), "std_srvs::srv::dds_::Trigger_Request_");
    }
}
