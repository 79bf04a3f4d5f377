//! The ROS 2 messages and services that Spikewing speaks.
//!
//! `spikewing_msgs` comes from `msg/` and `srv/` (a colcon package too), the standard and `px4_msgs` types from
//! `interfaces/`; all Rust types are generated from those files when this crate is built.
//! [`cdr`] puts them on the wire and reads them back; [`AnyMessage`] holds any of them.

pub mod cdr;
mod convert;

use serde::{Serialize, de::DeserializeOwned};

/// A message, or the request or response of a service.
pub trait Message:
    Clone + std::fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// ROS type name, e.g. `nav_msgs/msg/Odometry`.
    const TYPE: &'static str;
    /// Text of the interface file.
    const DEFINITION: &'static str;
    /// Every leaf in the order of the wire: its path (`header.stamp.sec`, `status[].level`) and its type (`float32[4]`).
    const LAYOUT: &'static [(&'static str, &'static str)];
    /// Puts the message into the enum over all messages.
    fn wrap(self) -> AnyMessage;
    /// The message inside, if it is of this type.
    fn peel(any: &AnyMessage) -> Option<&Self>;
}

/// A service: its two message types and its name.
pub trait Service: 'static {
    /// What the client sends.
    type Request: Message;
    /// What the server answers.
    type Response: Message;
    /// ROS type name, e.g. `std_srvs/srv/Trigger`.
    const SERVICE_TYPE: &'static str;
}

#[allow(clippy::doc_markdown, clippy::derivable_impls, non_camel_case_types)]
mod generated {
    use crate::{Message, cdr};
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}
pub use generated::*;
