//! `supervisor`: who flies. The one writer of `command`.
//!
//! In: `odometry`, `setpoint`, `guide/command`, `student/command`, `learner/jump_start`, `vehicle/status`, `imu`,
//! `authority` (of other supervisors). Out: `command`, `authority`, `experience`, `target` (the setpoint that is flown),
//! `guide/setpoint` (landing and holding). Serves `~/arm`, `~/start_episode`, `~/stop`, `~/land`; calls
//! `px4_bridge/reset_vehicle` and `state_estimator/reset`.
//!
//! One decision per odometry: as soon as both policies have answered it, and at the latest after one and a half control
//! periods. All that is known is judged once as a situation, and `transitions.rs` has every way from one state of
//! authority to another. The student flies only while its command is fresh, finite, in range and warm, the data are sound
//! and the vehicle is inside the envelope and stays there; otherwise the guide flies.
//!
//! **Failure.** Student gone: the guide has the vehicle within two control periods. Guide gone too, no odometry or none
//! that can be flown, no fresh word of the autopilot: nothing is commanded, and the autopilot holds or lands. This process
//! gone: likewise; started again, it takes over a vehicle that flies.

mod authority;
mod envelope;
mod episode;
mod fence;
mod flight;
mod health;
mod inputs;
mod node;
mod requests;
mod settings;
mod shipped;
mod situation;
mod touchdown;
mod transitions;
mod wander;
mod watch;

pub use envelope::{Envelope, Vehicle};
pub use fence::Fence;
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
