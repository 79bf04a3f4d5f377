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

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use spikewing_msgs::AnyMessage;

use crate::{
    NodeKind,
    node::{
        CallId, Context, Effect, Finish, Job, JobResult, Node, Outbox, Received, Request, Response, Shutdown,
    },
    options::NodeOptions,
    time::{Span, Time},
};

/// Time at which a composed run starts; zero would mean "not set" to PX4.
pub const START: Time = Time::from_nanoseconds(1_000_000_000);

/// Longest simulated time that nodes get to stop cleanly.
const SHUTDOWN_LIMIT: Span = Span::from_millis(30_000);
const SHUTDOWN_POLL: Span = Span::from_millis(20);

/// Why a composed run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A node refused its parameters or files.
    #[error("node {node}: {reason}")]
    Build {
        /// Full name.
        node: String,
        /// The node's words.
        reason: String,
    },
    /// Two ends of a topic disagree.
    #[error("topic {topic}: {node} uses {used}, but {other} uses {known}; remap one of them")]
    TypeMismatch {
        /// Topic.
        topic: String,
        /// Node that was added later.
        node: String,
        /// Its type.
        used: &'static str,
        /// Node that was there.
        other: String,
        /// Its type.
        known: &'static str,
    },
    /// Two nodes offer the same service, or have the same name.
    #[error("{what} is there twice: in {node} and in {other}; give one of them another name or namespace")]
    Duplicate {
        /// Service or node name.
        what: String,
        /// One of them.
        node: String,
        /// The other.
        other: String,
    },
    /// A timer would fire without time going on.
    #[error("node {node}: timer {timer} has the period {seconds} s; it must be positive")]
    Timer {
        /// Full name.
        node: String,
        /// Timer.
        timer: &'static str,
        /// Its period.
        seconds: f64,
    },
    /// A node panicked: a defect of ours.
    #[error("node {node} failed at {time_s:.3} s: {reason} (this is a defect; please report it)")]
    Panicked {
        /// Full name.
        node: String,
        /// Simulated time.
        time_s: f64,
        /// The panic's message.
        reason: String,
    },
    /// A node ended the run with an error.
    #[error("node {node}: {reason}")]
    Failed {
        /// Full name.
        node: String,
        /// The node's words.
        reason: String,
    },
}

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

/// What happens in the present instant.
enum Now {
    Message {
        topic: usize,
        message: AnyMessage,
    },
    Request {
        server: usize,
        port: &'static str,
        client: usize,
        client_port: &'static str,
        call: CallId,
        request: AnyMessage,
    },
    Response {
        client: usize,
        port: &'static str,
        call: CallId,
        response: Result<AnyMessage, String>,
    },
}

/// What happens later; ordered by time, then by when it was planned.
struct Later {
    at: Time,
    sequence: u64,
    what: Planned,
}

enum Planned {
    Timer { node: usize, index: usize },
    Job { node: usize, name: &'static str, result: mpsc::Receiver<Result<Box<dyn Any + Send>, String>> },
    ShutdownPoll,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
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
        let context =
            Context { parameters: &options.parameters, name: &options.name, namespace: &options.namespace };
        let node = (kind.build)(&context)
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
            let topic = self.topic(options.resolve(end.name), end.ros_type, index, &name)?;
            self.topics[topic].readers.push((index, end.name));
        }
        let mut outputs = Vec::new();
        for end in &interface.outputs {
            outputs.push((end.name, self.topic(options.resolve(end.name), end.ros_type, index, &name)?));
        }
        for end in &interface.servers {
            let service = options.resolve(end.name);
            if let Some((other, _)) = self.servers.insert(service.clone(), (index, end.name)) {
                let other = self.nodes.get(other).map_or(name.clone(), |n| n.name.clone());
                return Err(LocalError::Duplicate { what: format!("service {service}"), node: name, other });
            }
        }
        let clients = interface.clients.iter().map(|c| (c.name, options.resolve(c.name))).collect();
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
        Run {
            composition: self,
            now: START,
            queue: VecDeque::with_capacity(64),
            agenda: BinaryHeap::new(),
            sequence: 0,
            outbox: Outbox::new(),
            finish: None,
            messages: 0,
            waited: Duration::ZERO,
            stopping: None,
        }
        .run(stop, end)
    }
}

struct Run<'a> {
    composition: Composition<'a>,
    now: Time,
    queue: VecDeque<Now>,
    agenda: BinaryHeap<Reverse<Later>>,
    sequence: u64,
    outbox: Outbox,
    finish: Option<(usize, Finish)>,
    messages: u64,
    waited: Duration,
    /// Since when the nodes are asked to stop.
    stopping: Option<Time>,
}

impl Run<'_> {
    fn run(mut self, stop: &AtomicBool, end: Option<Time>) -> Result<Report, LocalError> {
        let wall_start = Instant::now();
        for node in 0..self.composition.nodes.len() {
            for index in 0..self.composition.nodes[node].timers.len() {
                let period = self.composition.nodes[node].timers[index].period;
                self.plan(self.now + period, Planned::Timer { node, index });
            }
            self.call(node, |n, now, out| n.on_start(now, out))?;
        }
        loop {
            while let Some(event) = self.queue.pop_front() {
                self.handle_now(event)?;
                if let Some(report) = self.finished()? {
                    return Ok(report);
                }
            }
            if stop.load(Ordering::Relaxed) && self.stopping.is_none() {
                self.stopping = Some(self.now);
                self.plan(self.now, Planned::ShutdownPoll);
            }
            let Some(Reverse(next)) = self.agenda.pop() else {
                return Ok(self.report(Ended::Finished));
            };
            if end.is_some_and(|end| next.at > end) {
                return Ok(self.report(Ended::TimeLimit));
            }
            self.now = self.now.max(next.at);
            if let Some(factor) = self.composition.pace {
                let due = Duration::from_secs_f64(((self.now - START).seconds() / factor).max(0.0));
                if let Some(wait) = due.checked_sub(wall_start.elapsed()) {
                    std::thread::sleep(wait);
                }
            }
            if self.handle_later(next)? {
                return Ok(self.report(Ended::Stopped));
            }
            if let Some(report) = self.finished()? {
                return Ok(report);
            }
        }
    }

    fn report(&self, ended: Ended) -> Report {
        Report { ended, simulated: self.now - START, messages: self.messages, waited: self.waited }
    }

    fn finished(&mut self) -> Result<Option<Report>, LocalError> {
        match self.finish.take() {
            None => Ok(None),
            Some((_, Finish::Success)) => Ok(Some(self.report(Ended::Finished))),
            Some((node, Finish::Failure(reason))) => {
                Err(LocalError::Failed { node: self.composition.nodes[node].name.clone(), reason })
            }
        }
    }

    fn plan(&mut self, at: Time, what: Planned) {
        self.sequence += 1;
        self.agenda.push(Reverse(Later { at, sequence: self.sequence, what }));
    }

    fn handle_now(&mut self, event: Now) -> Result<(), LocalError> {
        match event {
            Now::Message { topic, message } => {
                self.messages += 1;
                for observer in &mut self.composition.observers {
                    observer(self.now, &self.composition.topics[topic].name, &message);
                }
                for reader in 0..self.composition.topics[topic].readers.len() {
                    let (node, port) = self.composition.topics[topic].readers[reader];
                    let received = Received { port, message: &message };
                    self.call(node, |n, now, out| n.on_message(now, &received, out))?;
                }
            }
            Now::Request { server, port, client, client_port, call, request } => {
                let request = Request { port, message: &request };
                let answer = self.call(server, |n, now, out| n.on_request(now, &request, out))?;
                let response = answer.ok_or_else(|| format!("the server does not answer {port}"));
                self.queue.push_back(Now::Response { client, port: client_port, call, response });
            }
            Now::Response { client, port, call, response } => {
                let message = response.as_ref().map_err(String::as_str);
                let response = Response { port, call, message };
                self.call(client, |n, now, out| n.on_response(now, &response, out))?;
            }
        }
        Ok(())
    }

    /// Returns whether all nodes have stopped.
    fn handle_later(&mut self, later: Later) -> Result<bool, LocalError> {
        match later.what {
            Planned::Timer { node, index } => {
                let timer = self.composition.nodes[node].timers[index];
                self.plan(later.at + timer.period, Planned::Timer { node, index });
                self.call(node, |n, now, out| n.on_timer(now, timer.name, out))?;
            }
            Planned::Job { node, name, result } => {
                let wait = Instant::now();
                let result =
                    result.recv().unwrap_or_else(|_| Err("its thread ended without a result".into()));
                self.waited += wait.elapsed();
                self.call(node, |n, now, out| n.on_job(now, JobResult { name, result }, out))?;
            }
            Planned::ShutdownPoll => {
                let mut all_done = true;
                for node in 0..self.composition.nodes.len() {
                    let answer = self.call(node, |n, now, out| n.on_shutdown(now, out))?;
                    all_done &= answer == Shutdown::Done;
                }
                let since = self.stopping.unwrap_or(self.now);
                if all_done || self.now - since >= SHUTDOWN_LIMIT {
                    return Ok(true);
                }
                self.plan(self.now + SHUTDOWN_POLL, Planned::ShutdownPoll);
            }
        }
        Ok(false)
    }

    /// Calls a node and carries out what it left in the outbox.
    fn call<T>(
        &mut self,
        node: usize,
        f: impl FnOnce(&mut dyn Node, Time, &mut Outbox) -> T,
    ) -> Result<T, LocalError> {
        let now = self.now;
        let outbox = &mut self.outbox;
        let core = self.composition.nodes[node].node.as_mut();
        let value = catch_unwind(AssertUnwindSafe(|| f(core, now, outbox))).map_err(|panic| {
            LocalError::Panicked {
                node: self.composition.nodes[node].name.clone(),
                time_s: now.seconds(),
                reason: panic_message(panic.as_ref()),
            }
        })?;
        let mut outbox = std::mem::take(&mut self.outbox);
        for effect in outbox.drain() {
            self.carry_out(node, effect);
        }
        self.outbox = outbox;
        Ok(value)
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let hosted = &self.composition.nodes[node];
        match effect {
            Effect::Publish { port, message } => {
                match hosted.outputs.iter().find(|(name, _)| *name == port) {
                    Some(&(_, topic)) => self.queue.push_back(Now::Message { topic, message }),
                    None => tracing::error!(
                        node = hosted.name,
                        port,
                        "published on an output that is not declared"
                    ),
                }
            }
            Effect::Call { port, call, request } => {
                let service = hosted.clients.iter().find(|(name, _)| *name == port).map(|(_, s)| s);
                let server = service.and_then(|s| self.composition.servers.get(s).copied());
                self.queue.push_back(match server {
                    Some((server, server_port)) => Now::Request {
                        server,
                        port: server_port,
                        client: node,
                        client_port: port,
                        call,
                        request,
                    },
                    None => {
                        let response =
                            Err(format!("no node serves {}", service.map_or(port, String::as_str)));
                        Now::Response { client: node, port, call, response }
                    }
                });
            }
            Effect::Spawn(job) => {
                let at = self.now + job.simulated_duration.max(Span::ZERO);
                let name = job.name;
                let result = start_job(job);
                self.plan(at, Planned::Job { node, name, result });
            }
            Effect::Finish(finish) => {
                if self.finish.is_none() {
                    self.finish = Some((node, finish));
                }
            }
        }
    }
}

fn start_job(job: Job) -> mpsc::Receiver<Result<Box<dyn Any + Send>, String>> {
    let (sender, receiver) = mpsc::channel();
    let failed = sender.clone();
    let work = move || {
        let result = catch_unwind(AssertUnwindSafe(job.work)).map_err(|panic| panic_message(panic.as_ref()));
        // The receiver is gone only when the run has ended.
        let _ = sender.send(result);
    };
    if let Err(error) = std::thread::Builder::new().name(job.name.to_owned()).spawn(work) {
        let _ = failed.send(Err(format!("cannot start a thread: {error}")));
    }
    receiver
}

/// The message that a panic carried.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A flag that signals set, shared with the run that it stops.
pub type StopFlag = Arc<AtomicBool>;
