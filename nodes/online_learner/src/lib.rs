//! `online_learner`: learns from what is flown, and publishes weights.
//!
//! In: `experience`, `policy/status` (the version that flies). Out: `policy/update`, `learner/status`, `learner/jump_start`. Serves `~/pause`, `~/checkpoint`.
//!
//! The node only queues experience; learning, and all files, are the business of a job on another thread that owns the
//! learner while it works. In composed runs a job's result arrives at a fixed simulated time, so that runs repeat.
//!
//! **Failure.** Records with NaN or out of range are refused and counted. After a crash a new process goes on from the
//! newest whole checkpoint, with versions above all that were published before it. A disk that is full ends the run with
//! an error; the last checkpoint stays.

mod desk;
mod layers;
mod node;
mod settings;

pub use desk::updates_in;
pub use node::OnlineLearner;

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "online_learner",
    about: "Learns from what is flown (TD3BC+JSRL), and publishes weights",
    urgency: Urgency::Background,
    declare: settings::declare,
    build: |context| Ok(Box::new(OnlineLearner::new(context)?)),
};
