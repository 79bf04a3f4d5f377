//! `snn_policy`: the spiking student. One network step per odometry; new weights are swapped in while it flies.
//!
//! In: `odometry`, `target`, `policy/update`, `authority`. Out: `student/command`, `policy/status`. Serves
//! `~/swap_policy`, `~/list_policies`, `~/rollback`.
//!
//! **Swapping.** A new policy is verified in a job (size, sha256, signature, shapes, finite values, specification,
//! self-test), then runs in shadow on live observations until its membrane potentials are warm, then takes over between
//! two ticks. The control tick allocates nothing, locks nothing and waits for nothing; a take-over exchanges two values.
//! A refused policy changes nothing, and `policy/status` says why. The policy that warms up is never thrown away for a newer
//! one; the newest that is verified meanwhile is next. See `roster.rs` for what is kept to go back to, and what is barred.
//!
//! **Whose weights fly.** An update on `policy/update` must be signed by the learner (`learner_key_file`) or by a trusted key;
//! its signature covers version, parent and sha256. A version counts only once somebody trusted has announced it. A person
//! who calls `~/swap_policy` is trusted, unless `trusted_keys` is set: then files must be signed, too.
//!
//! **Failure.** An odometry with NaN gets no command (the guide takes over), and leaves the membrane potentials alone.

mod cadence;
mod intake;
mod latency;
mod node;
mod roster;
mod settings;
mod verify;

pub use node::SnnPolicy;
pub use verify::{Demands, Origin, Proposal, Updates, Verdict, Verified};

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "snn_policy",
    about: "The spiking student: one network step per odometry, weights swapped in flight",
    urgency: Urgency::Control,
    declare: settings::declare,
    build: |context| Ok(Box::new(SnnPolicy::new(context)?)),
};
