//! `supervisor`: who flies. The one writer of `command`.
//!
//! In: `odometry`, `setpoint`, `guide/command`, `student/command`, `learner/jump_start`, `vehicle/status`. Out:
//! `command`, `authority`, `experience`, `guide/setpoint` (landing and holding), `setpoint` (one that wanders, where asked
//! for). Serves `~/arm`, `~/start_episode`, `~/stop`, `~/land`; calls `px4_bridge/reset_vehicle` and `state_estimator/reset`.
//!
//! One decision per odometry: as soon as both policies have answered it, and at the latest after one and a half control
//! periods. The student flies only while its command is fresh (two periods), finite, in range and warm, and the vehicle
//! is inside the envelope; otherwise the guide flies.
//!
//! **Failure.** Student gone: the guide has the vehicle within two control periods. Guide gone too, or no odometry:
//! nothing is commanded, the bridge's heartbeat stops, and the autopilot's failsafe lands. This process gone: likewise.

mod envelope;
mod episode;
mod flight;
mod inputs;
mod node;
mod phase;
mod requests;
mod settings;
mod wander;

pub use envelope::{Envelope, Vehicle};
pub use flight::Supervisor;
pub use settings::OnViolation;

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "supervisor",
    about: "Who flies: guide, student or nobody; episodes and the flight envelope",
    urgency: Urgency::Control,
    declare: settings::declare,
    build: |context| Ok(Box::new(Supervisor::new(context)?)),
};
