//! `guide_policy`: the privileged teacher, which starts every episode and catches the drone.
//!
//! In: `odometry`, `target`, `guide/setpoint` (the supervisor's, which overrides while it is fresh), `command` (for the
//! action history). Out: `guide/command`. Serves `~/load_policy`.
//!
//! A geometric controller ([`geometric`]) that needs no training, or a learned network on the observation and the last
//! 32 applied actions ([`history`]), by parameter.
//!
//! **Failure.** An odometry with NaN gets no command. A policy file that is refused leaves the guide as it was.

pub mod geometric;
pub mod history;
mod node;

pub use node::{GuidePolicy, MlpPilot};

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "guide_policy",
    about: "The privileged teacher: starts every episode and catches the drone",
    urgency: Urgency::Control,
    declare: node::declare,
    build: |context| Ok(Box::new(GuidePolicy::new(context)?)),
};
