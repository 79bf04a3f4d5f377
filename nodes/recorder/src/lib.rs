//! `recorder`: what flies by on the topics, into a bag (`flight.mcap`).
//!
//! In: every topic of the suite ([`topics`]), for one drone or several. Out: a file that opens in Foxglove, PlotJuggler and `ros2 bag`.
//! A process of its own in the launch files; a thread writes, so that no disk holds up the node, nor the node control.
//!
//! **Failure.** What the disk does not take in time is lost, counted and logged. A full disk ends the recording with what it has, and the node stays
//! so that nothing else ends with it. A killed recorder leaves a file that can be read up to its last half second.

mod node;
pub mod settings;
pub mod topics;

pub use node::Recorder;

use spikewing_runtime::{NodeKind, node::Urgency};

/// The kind of node.
pub const NODE: NodeKind = NodeKind {
    name: "recorder",
    about: "Records the flight into a bag",
    urgency: Urgency::Background,
    declare: settings::declare,
    build: |context| Ok(Box::new(Recorder::new(context)?)),
};
