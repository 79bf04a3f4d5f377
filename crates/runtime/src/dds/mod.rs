//! The DDS transport: a node as a process of its own, on the wire a ROS 2 node, with nothing installed but this program.
//!
//! It stands on RustDDS, in plain Rust. Topics, services, parameters, `/rosout`, `/parameter_events` and the graph
//! have the names, types and encodings of ROS 2, so `ros2 topic`, `ros2 param` and other nodes work with it.
//!
//! **Threads.** The *control thread* is the caller's. It alone touches the node, one call at a time, so a core needs
//! no locks. It sleeps on one condition variable with the time of the next timer as the limit; it does not poll.
//! RustDDS has two threads of its own: one moves datagrams between the sockets and the topic caches and rings the
//! control thread's bell, one does discovery. Where the system
//! allows it, all of them run in real time. Jobs run on threads of their own, which give way to everything else.
//!
//! **Order.** Samples are handed to the node in the order in which they were received, over all inputs. Due timers
//! run first, each at most once; periods that passed unnoticed are skipped. What the node leaves in its outbox is
//! carried out in order before the next call.
//!
//! **No backlog.** An input holds at most as many samples as its depth says and the newest win: a node that was slow
//! for a moment sees the present, not the past. Publishing never waits: a best-effort sample that the network cannot
//! take is dropped, a reliable one is kept (as many as the depth says, the oldest give way) and tried again.
//!
//! **Failure.** A sample that does not decode strictly is counted, logged at most once a second per topic and
//! reported to the node; nothing stops. A call without an answer fails after 2 s. A panic in the node ends the run
//! with an error that names it. When `stop` is set the node is asked every 20 ms whether it may stop, while messages
//! and timers go on, and is stopped after 25 s in any case.
//!
//! **Reach.** Only this machine unless `ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET`. Participants on one machine find each
//! other by unicast to `127.0.0.1`, so a loopback interface without multicast, as Linux has it, is enough; this works
//! for up to twelve participants in a domain. The sockets are bound to all addresses all the same: the range
//! is about finding each other and no firewall.

mod config;
mod endpoint;
mod graph;
mod raw;
mod service;
mod wire;

use std::{
    collections::BTreeMap,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

pub use config::{DdsConfig, DiscoveryRange, ServiceMapping};
use wire::DdsWire;

pub use crate::host::HostError;
use crate::{
    NodeKind, NodeOptions,
    host::{self, Host, doorbell::Doorbell, plan::Plan},
    node::{Finish, Node},
};

/// How long the last samples get to arrive when a node ends.
const SETTLE: Duration = Duration::from_millis(300);

/// Why a node could not run over DDS.
#[derive(Debug, thiserror::Error)]
pub enum DdsError {
    /// The node itself.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An environment variable is wrong.
    #[error("{variable}={value}: expected {expected}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is understood.
        expected: &'static str,
    },
    /// Security is asked for and cannot be had.
    #[error("ROS_SECURITY_STRATEGY=Enforce: {reason}")]
    Security {
        /// What is missing.
        reason: String,
    },
    /// There is no loopback interface.
    #[error(
        "no loopback interface (127.0.0.1): {source}; bring it up (`ip link set lo up`) or set ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"
    )]
    NoLoopback {
        /// Why.
        source: std::io::Error,
    },
    /// The domain could not be joined.
    #[error(
        "cannot join DDS domain {domain_id}: {reason}; is UDP allowed here, and are less than 120 participants running?"
    )]
    Participant {
        /// Domain.
        domain_id: u16,
        /// RustDDS's words.
        reason: String,
    },
    /// An endpoint could not be made.
    #[error("{what}: {reason}")]
    Endpoint {
        /// Which.
        what: String,
        /// RustDDS's words.
        reason: String,
    },
}

/// Runs one node as this process, configured by the environment, until it ends the run or `stop` is set and it has
/// stopped cleanly.
///
/// # Errors
/// When the node refuses its parameters, the network cannot be used, or the node fails.
pub fn run(kind: &NodeKind, options: &NodeOptions, stop: &AtomicBool) -> Result<Finish, DdsError> {
    for ignored in DdsConfig::ignored_variables() {
        tracing::warn!(node = options.full_name(), "{ignored}");
    }
    run_with(kind, options, &DdsConfig::of_enclave(options.enclave.as_deref())?, stop)
}

/// The services that can be called in this domain, by absolute name, with their ROS types. Looks for them until `enough`
/// says so, or no other one has come for `quiet`, but not longer than `limit`.
///
/// # Errors
/// When the network cannot be used.
pub fn services(
    config: &DdsConfig,
    limit: Duration,
    quiet: Duration,
    enough: impl Fn(&BTreeMap<String, String>) -> bool,
) -> Result<BTreeMap<String, String>, DdsError> {
    let participant = config.participant()?;
    let begin = Instant::now();
    let (mut known, mut changed) = (BTreeMap::new(), begin);
    loop {
        let now = graph::services(&participant);
        if now != known {
            (known, changed) = (now, Instant::now());
        }
        let silent = !known.is_empty() && changed.elapsed() >= quiet;
        if enough(&known) || silent || begin.elapsed() >= limit {
            return Ok(known);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Like [`run`], configured by hand.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    kind: &NodeKind,
    options: &NodeOptions,
    config: &DdsConfig,
    stop: &AtomicBool,
) -> Result<Finish, DdsError> {
    run_node(host::build(kind, options)?, options, config, stop)
}

/// Like [`run_with`], for a node that is built already.
///
/// # Errors
/// As [`run`].
pub fn run_node(
    node: Box<dyn Node>,
    options: &NodeOptions,
    config: &DdsConfig,
    stop: &AtomicBool,
) -> Result<Finish, DdsError> {
    let plan = Plan::new(&node.interface(), options)?;
    let participant = config.participant()?;
    let bell = Doorbell::new();
    let wire = DdsWire::new(&participant, config, &plan, options, &bell)?;
    let secured = config.enclave.map_or("no", |_| "yes");
    tracing::info!(node = options.full_name(), domain = config.domain_id, range = ?config.range, secured, "up on DDS");
    let mut host = Host::new(node, plan, wire, options, &bell);
    let finish = host.run(stop);
    host.wire_mut().settle(SETTLE);
    Ok(finish?)
}
