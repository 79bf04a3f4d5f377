//! From the types that a node declares to the codecs and names on the wire; shared by the transports between processes.

use std::any::TypeId;

use spikewing_msgs::{AnyMessage, Message, cdr};

/// Turns a sample (CDR with its header) into a message.
pub type Decoder = fn(&[u8]) -> Result<AnyMessage, cdr::CdrError>;

fn decode<M: Message>(bytes: &[u8]) -> Result<AnyMessage, cdr::CdrError> {
    cdr::decode::<M>(bytes).map(Message::wrap)
}

/// One of our message types, for whom the Rust type is no help.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Turns a sample into a message.
    pub decode: Decoder,
    /// Every leaf of the message: path and type.
    pub layout: &'static [(&'static str, &'static str)],
    /// Text of the interface file.
    pub definition: &'static str,
}

impl Codec {
    const fn of<M: Message>() -> Self {
        Self { decode: decode::<M>, layout: M::LAYOUT, definition: M::DEFINITION }
    }
}

/// The codec of a Rust message type.
pub fn codec_of(message: TypeId) -> Option<Codec> {
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            if message == TypeId::of::<$ty>() {
                return Some(Codec::of::<$ty>());
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    None
}

/// The codec of a ROS type, e.g. `std_srvs/srv/Trigger_Request`. Where several Rust types share one ROS type, the
/// first; services never do.
pub fn codec_named(ros_type: &str) -> Option<Codec> {
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            if ros_type == <$ty as Message>::TYPE {
                return Some(Codec::of::<$ty>());
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
        let codec = codec_of(TypeId::of::<MotorCommand>()).unwrap();
        let decoded = (codec.decode)(&bytes).unwrap();
        assert_eq!(MotorCommand::peel(&decoded), Some(&message));
        let leaf = |path: &str| codec.layout.iter().find(|(name, _)| *name == path).map(|(_, kind)| *kind);
        assert_eq!(leaf("header.stamp.nanosec"), Some("uint32"));
        assert_eq!(leaf("motors"), Some("float32[4]"));
        assert!(codec_of(TypeId::of::<String>()).is_none());
        assert!(codec_named("std_srvs/srv/Trigger_Response").is_some());
        assert!(codec_named("std_srvs/srv/Nothing").is_none());
        let array = codec_named("diagnostic_msgs/msg/DiagnosticArray").unwrap();
        assert!(array.layout.contains(&("status[].values[].key", "string")), "{:?}", array.layout);
        assert_eq!(dds_type_name("nav_msgs/msg/Odometry"), "nav_msgs::msg::dds_::Odometry_");
        assert_eq!(dds_type_name(std_srvs::Trigger_Request::TYPE), "std_srvs::srv::dds_::Trigger_Request_");
    }
}
