//! The r2r transport: a node inside a sourced ROS 2, over rcl and whichever rmw is set. Feature `r2r`.
//!
//! **What it carries.** Everything that a node declares: its topics, the services it offers and calls, the six parameter
//! services, `/rosout`, `/parameter_events` and `/clock`. All of it crosses as CDR of our own strict codec: what our
//! encoder did not make is never sent, and what arrives is decoded as strictly as over DDS. Remappings and the
//! namespace are rcl's own business: it reads the same arguments.
//!
//! **Types.** r2r needs the types of *topics* compiled in, so the build must see them (`.cargo/config.toml` names their
//! packages). Types of *services* are found at start in the libraries of the sourced ROS 2. The installed definition of
//! every type is compared with ours, leaf by leaf: a node does not start beside a package by which its bytes would be read as
//! something else. Where it listens for several releases of PX4, those that are not installed are left out. A service whose
//! package isn't installed is not offered, and calling it fails.
//!
//! **Threads.** As in [`crate::dds`], the caller's thread alone touches the node and sleeps on one bell. A second thread
//! spins rcl and moves what arrives into r2r's channels; those hold ten samples and drop the newest, so the bell is rung
//! for each and the channels are emptied at once into queues in which the newest wins. A service takes up to ten requests
//! between two looks of the node, more go unanswered. Two more threads write: one what may be lost, one what waits for
//! readers, so that the node's thread never waits inside a middleware. Only requests of the node's own are sent from it.
//!
//! **Fast DDS** is told to use UDP alone, to announce itself and to beat often, unless the user has configured it: see
//! [`environment`].
//!
//! **Calls.** A request waits until its server is there and fails after 2 s in all, like over DDS. r2r remembers a request
//! that was never answered, some hundred bytes, until the node ends.
//!
//! **Failure.** r2r panics where rcl refuses arguments, and would where a lock was poisoned: the first is reported as an
//! error at start, the second ends the run with one. Bytes that do not decode are counted and reported to the
//! node; nothing stops. rcl has no signal handlers here: SIGINT and SIGTERM let the node finish first, as everywhere.

pub(crate) mod calls;
pub mod environment;
pub(crate) mod lane;
pub(crate) mod layout;
pub(crate) mod symbols;

mod definition;
mod qos;
mod service;
mod typesupport;
mod wire;

use std::{sync::atomic::AtomicBool, time::Duration};

pub use crate::host::HostError;
use crate::{
    NodeKind, NodeOptions,
    host::{self, Host, doorbell::Doorbell, plan::Plan},
    node::Finish,
};
use wire::R2rWire;

/// How long the last samples get to arrive when a node ends: rcl takes its publishers down without waiting for anyone.
const SETTLE: Duration = Duration::from_millis(300);

/// Why a node could not run inside ROS 2.
#[derive(Debug, thiserror::Error)]
pub enum R2rError {
    /// The node itself.
    #[error(transparent)]
    Host(#[from] HostError),
    /// rcl or the rmw refused.
    #[error(
        "{what}: {reason}; is ROS 2 sourced, and was this program built with the package's messages (IDL_PACKAGE_FILTER)?"
    )]
    Ros {
        /// What was asked for.
        what: String,
        /// rcl's words.
        reason: String,
    },
    /// The installed definition of a topic's or service's type is another one than ours.
    #[error(
        "{name}: {reason}; its bytes would be read as something else. Build the sourced package and this program from the same interface files"
    )]
    Definition {
        /// Absolute name of the topic or service.
        name: String,
        /// The type, and what differs.
        reason: String,
    },
    /// The installed `px4_msgs` belongs to another PX4.
    #[error(
        "{name}: {reason}. Wanted is: {wanted} Check out the branch of px4_msgs that is your PX4's release (release/1.16 for PX4 1.16; `main` belongs to PX4's own main), build it, and build this program again"
    )]
    Px4Messages {
        /// Absolute name of the topic.
        name: String,
        /// The type, and what differs.
        reason: String,
        /// The releases that our definition stands for.
        wanted: String,
    },
    /// rcl does not take this program's arguments.
    #[error("rcl refuses this program's arguments: {reason}")]
    Arguments {
        /// rcl's words.
        reason: String,
    },
    /// The thread that spins rcl could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl R2rError {
    /// For `map_err`: what was asked for.
    fn ros<E: ToString>(what: &str) -> impl FnOnce(E) -> Self {
        move |reason| Self::Ros { what: what.to_owned(), reason: reason.to_string() }
    }
}

/// Runs one node as this process until it ends the run or `stop` is set and it has stopped cleanly.
///
/// # Errors
/// When the node refuses its parameters, ROS 2 is not there, or the node fails.
pub fn run(kind: &NodeKind, options: &NodeOptions, stop: &AtomicBool) -> Result<Finish, R2rError> {
    let node = host::build(kind, options)?;
    let plan = Plan::new(&node.interface(), options)?;
    let bell = Doorbell::new();
    let wire = R2rWire::new(&plan, options, &bell);
    environment::loaded();
    let wire = wire?;
    tracing::info!(node = options.full_name(), "up inside ROS 2");
    let mut host = Host::new(node, plan, wire, options, &bell);
    let finish = host.run(stop);
    host.wire_mut().settle(SETTLE);
    std::thread::sleep(SETTLE);
    Ok(finish?)
}
