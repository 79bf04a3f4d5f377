//! What Spikewing's nodes share: the [`node::Node`] trait, typed [`port`]s, declared [`parameter`]s, [`time`], and the
//! transports that carry a node's messages.

pub mod node;
pub mod parameter;
pub mod port;
pub mod time;

pub use node::{Context, Node, NodeKind, Outbox, Received};
pub use parameter::{Declaration, Parameters};
pub use time::{Span, Time};
