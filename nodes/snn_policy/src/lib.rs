//! `snn_policy`: the spiking student. One network step per odometry; new weights are swapped in while it flies.
//!
//! In: `odometry`, `setpoint`, `policy/update`, `authority`. Out: `student/command`, `policy/status`. Serves
//! `~/swap_policy`, `~/list_policies`, `~/rollback`.
//!
//! **Swapping.** A new policy is verified in a job (size, sha256, signature, shapes, finite values, specification,
//! self-test), then runs in shadow on live observations until its membrane potentials are warm, then takes over between
//! two ticks. The control tick allocates nothing, locks nothing and waits for nothing; a take-over exchanges two values.
//! A refused policy changes nothing, and `policy/status` says why. The last policy is kept for `~/rollback`.
//!
//! **Failure.** An odometry with NaN gets no command (the guide takes over), and leaves the membrane potentials alone.

mod node;
mod settings;
mod verify;

pub use node::SnnPolicy;
pub use verify::{Demands, Origin, Verified, sha256};

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "snn_policy",
    about: "The spiking student: one network step per odometry, weights swapped in flight",
    urgency: Urgency::Control,
    declare: settings::declare,
    build: |context| Ok(Box::new(SnnPolicy::new(context)?)),
};
