//! What Spikewing's nodes share: the [`node::Node`] trait, typed [`port`]s, declared [`parameter`]s, [`time`], and the
//! transports that carry a node's messages.

pub mod args;
pub mod codec;
pub mod console;
pub mod dds;
mod host;
pub mod instance;
pub mod launch;
pub mod local;
pub mod names;
pub mod node;
pub mod options;
pub mod parameter;
pub mod parameter_file;
pub mod port;
pub mod process;
#[cfg(feature = "r2r")]
pub mod r2r;
/// What of it needs no ROS 2 is tested without one.
#[cfg(all(test, not(feature = "r2r")))]
#[allow(dead_code, reason = "what is tested alone calls not everything")]
mod r2r {
    mod calls;
    mod environment;
    mod lane;
    mod layout;
    mod symbols;
}
pub mod rig;
pub mod rosout;
pub mod time;
pub mod yaml;

pub use host::{doorbell::Doorbell, jobs::Jobs, priority};
pub use node::{Context, Node, NodeKind, Outbox, Received};
pub use options::NodeOptions;
pub use parameter::{Declaration, Parameter, Parameters};
pub use process::main;
pub use time::{Span, Time};
