//! The composed transport: many nodes in one process, in lock-step, on simulated time.
//!
//! **Order.** Whatever a node leaves in its outbox is carried out first in, first out, in the same simulated instant;
//! only when nothing is left does time move to the next timer or job. Nodes at one instant run in the order in which
//! they were added. Nothing depends on the wall clock or on thread timing, so one seed gives one run, bit for bit.
//!
//! **Concurrency.** All nodes run on the calling thread, one call at a time. Jobs run on threads of their own while
//! simulated time goes on; their result is delivered exactly [`crate::node::Job::simulated_duration`] after the start,
//! and the transport waits for the thread if it is not done by then. The learner thus works on one core while the next
//! episode flies on the other.
//!
//! **Failure.** A panic in a node ends the run with an error that names the node; the other nodes are dropped in order.

mod agenda;
mod error;
mod run;

pub(crate) use error::panic_message;
pub use error::{LocalError, chain};

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use spikewing_msgs::AnyMessage;

use self::run::Run;
use crate::{
    NodeKind,
    node::Node,
    options::NodeOptions,
    time::{Span, Time},
};

/// Time at which a composed run starts; zero would mean "not set" to PX4.
pub const START: Time = Time::from_nanoseconds(1_000_000_000);
/// Sees every message as it is delivered: time, topic, message.
pub type Observer<'a> = Box<dyn FnMut(Time, &str, &AnyMessage) + 'a>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A node said that the work is done.
    Finished,
    /// It was asked to stop, and every node stopped cleanly.
    Stopped,
    /// The time limit was reached.
    TimeLimit,
}

/// What a run was.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// Simulated time that passed.
    pub simulated: Span,
    /// Messages delivered.
    pub messages: u64,
    /// Wall time spent waiting for jobs.
    pub waited: Duration,
}

/// Nodes that run together.
#[derive(Default)]
pub struct Composition<'a> {
    nodes: Vec<Hosted>,
    topics: Vec<Topic>,
    servers: BTreeMap<String, (usize, &'static str)>,
    observers: Vec<Observer<'a>>,
    pace: Option<f64>,
}

struct Hosted {
    name: String,
    node: Box<dyn Node>,
    /// Output name to topic.
    outputs: Vec<(&'static str, usize)>,
    /// Client name to absolute service name.
    clients: Vec<(&'static str, String)>,
    timers: Vec<crate::port::Timer>,
}

struct Topic {
    name: String,
    ros_type: &'static str,
    first_user: usize,
    /// Node and the name of its input.
    readers: Vec<(usize, &'static str)>,
}
impl<'a> Composition<'a> {
    /// No nodes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Simulated seconds per second of wall time; without it, as fast as it goes.
    pub fn paced(mut self, real_time_factor: f64) -> Self {
        self.pace = (real_time_factor > 0.0 && real_time_factor.is_finite()).then_some(real_time_factor);
        self
    }

    /// Adds somebody who sees every message.
    pub fn observe(&mut self, observer: impl FnMut(Time, &str, &AnyMessage) + 'a) {
        self.observers.push(Box::new(observer));
    }

    /// Builds and adds a node.
    ///
    /// # Errors
    /// When the node refuses its parameters, or does not fit to the others.
    pub fn add(&mut self, kind: &NodeKind, options: &NodeOptions) -> Result<(), LocalError> {
        let node = (kind.build)(&options.context())
            .map_err(|e| LocalError::Build { node: options.full_name(), reason: chain(e.as_ref()) })?;
        self.add_node(node, options)
    }

    /// Adds a node that is built already.
    ///
    /// # Errors
    /// When the node does not fit to the others.
    pub fn add_node(&mut self, node: Box<dyn Node>, options: &NodeOptions) -> Result<(), LocalError> {
        let name = options.full_name();
        let index = self.nodes.len();
        if let Some(other) = self.nodes.iter().find(|n| n.name == name) {
            return Err(LocalError::Duplicate {
                what: format!("node {name}"),
                node: name,
                other: other.name.clone(),
            });
        }
        let interface = node.interface();
        for timer in &interface.timers {
            if timer.period <= Span::ZERO {
                let seconds = timer.period.seconds();
                return Err(LocalError::Timer { node: name, timer: timer.name, seconds });
            }
        }
        for end in &interface.inputs {
            let topic = self.topic(interface.resolve(options, end.name), end.ros_type, index, &name)?;
            self.topics[topic].readers.push((index, end.name));
        }
        let mut outputs = Vec::new();
        for end in &interface.outputs {
            outputs.push((
                end.name,
                self.topic(interface.resolve(options, end.name), end.ros_type, index, &name)?,
            ));
        }
        for end in &interface.servers {
            let service = options.resolve_service(end.name);
            if let Some((other, _)) = self.servers.insert(service.clone(), (index, end.name)) {
                let other = self.nodes.get(other).map_or(name.clone(), |n| n.name.clone());
                return Err(LocalError::Duplicate { what: format!("service {service}"), node: name, other });
            }
        }
        let clients = interface.clients.iter().map(|c| (c.name, options.resolve_service(c.name))).collect();
        self.nodes.push(Hosted { name, node, outputs, clients, timers: interface.timers });
        Ok(())
    }

    fn topic(
        &mut self,
        name: String,
        ros_type: &'static str,
        user: usize,
        user_name: &str,
    ) -> Result<usize, LocalError> {
        if let Some(index) = self.topics.iter().position(|t| t.name == name) {
            let known = &self.topics[index];
            if known.ros_type != ros_type {
                return Err(LocalError::TypeMismatch {
                    topic: name,
                    node: user_name.to_owned(),
                    used: ros_type,
                    other: self.nodes.get(known.first_user).map_or(user_name.to_owned(), |n| n.name.clone()),
                    known: known.ros_type,
                });
            }
            return Ok(index);
        }
        self.topics.push(Topic { name, ros_type, first_user: user, readers: Vec::new() });
        Ok(self.topics.len() - 1)
    }

    /// Runs until a node ends the run, `stop` is set and all nodes have stopped cleanly, or `limit` of simulated time
    /// has passed.
    ///
    /// # Errors
    /// When a node fails.
    pub fn run(self, stop: &AtomicBool, limit: Option<Span>) -> Result<Report, LocalError> {
        let end = limit.map(|limit| START + limit);
        Run::new(self).run(stop, end)
    }
}

/// A flag that signals set, shared with the run that it stops.
pub type StopFlag = Arc<AtomicBool>;
