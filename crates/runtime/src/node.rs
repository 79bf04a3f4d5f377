//! The seam between a node's logic and whatever carries its messages.
//!
//! A node's core is a plain struct that implements [`Node`]. It never waits, reads no clock and opens no socket: it is
//! handed the time and what arrived, and leaves what it wants done in an [`Outbox`]. So one core runs composed in
//! one process in lock-step, as a process of its own over DDS, or inside a sourced ROS 2, and a test drives it by
//! hand. One call is made at a time; a core needs no locks.
//!
//! Long work (a learner's updates, writing a checkpoint) goes into a [`Job`], which a transport runs on another thread
//! and whose result comes back through [`Node::on_job`]. Lock-step transports deliver the result at a fixed simulated
//! time after the start, whatever the thread's speed was, so that runs repeat bit for bit.

use std::any::Any;

use spikewing_msgs::{AnyMessage, Message, Service};

pub use crate::host::priority::Urgency;
use crate::{
    parameter::Parameters,
    port::{Client, Input, Interface, Output, Server},
    time::{Span, Time},
};

/// A node's logic. See the module's documentation for the rules.
pub trait Node: Send {
    /// What the node subscribes to, publishes, serves and calls. Asked once, after construction.
    fn interface(&self) -> Interface;

    /// The node may start: the transport is up. Called once, before anything else.
    fn on_start(&mut self, _now: Time, _out: &mut Outbox) {}

    /// A message arrived.
    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox);

    /// A timer declared in the interface fired.
    fn on_timer(&mut self, _now: Time, _timer: &'static str, _out: &mut Outbox) {}

    /// A service was called. `None` when the node does not know the service.
    fn on_request(&mut self, _now: Time, _request: &Request<'_>, _out: &mut Outbox) -> Option<AnyMessage> {
        None
    }

    /// An answer to [`Outbox::call`], or the reason why there is none.
    fn on_response(&mut self, _now: Time, _response: &Response<'_>, _out: &mut Outbox) {}

    /// A job finished.
    fn on_job(&mut self, _now: Time, _result: JobResult, _out: &mut Outbox) {}

    /// Parameters are about to change at run time; already checked against their declarations. An error refuses the
    /// whole set and must name what is wrong.
    fn on_parameters(&mut self, _now: Time, _new: &Parameters, _out: &mut Outbox) -> Result<(), String> {
        Ok(())
    }

    /// The process was asked to stop. Called again and again (with messages and timers going on in between) until it
    /// answers [`Shutdown::Done`]; a vehicle in the air lands meanwhile.
    fn on_shutdown(&mut self, _now: Time, _out: &mut Outbox) -> Shutdown {
        Shutdown::Done
    }

    /// The input on `topic` could not be decoded. Transports count and log it; a node may do more.
    fn on_malformed(&mut self, _now: Time, _topic: &str, _reason: &str, _out: &mut Outbox) {}
}

/// Whether a node may be stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It may.
    Done,
    /// It still has something to do, landing for example.
    Wait,
}

/// A message that arrived on one of the node's inputs.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The input's name before remapping.
    pub port: &'a str,
    /// The message.
    pub message: &'a AnyMessage,
}

impl<'a> Received<'a> {
    /// The message, if it arrived on this input.
    pub fn on<M: Message>(&self, port: &Input<M>) -> Option<&'a M> {
        if self.port == port.name { M::peel(self.message) } else { None }
    }
}

/// A call to one of the node's services.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The server's name before remapping.
    pub port: &'a str,
    /// The request message.
    pub message: &'a AnyMessage,
}

impl<'a> Request<'a> {
    /// The request, if it is for this server.
    pub fn on<S: Service>(&self, port: &Server<S>) -> Option<&'a S::Request> {
        if self.port == port.name { S::Request::peel(self.message) } else { None }
    }
}

/// An answer to one of the node's calls.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The client's name before remapping.
    pub port: &'a str,
    /// Number that [`Outbox::call`] gave.
    pub call: CallId,
    /// The response message, or why there is none (no server, time out).
    pub message: Result<&'a AnyMessage, &'a str>,
}

impl<'a> Response<'a> {
    /// The response, if it answers this client.
    pub fn on<S: Service>(&self, port: &Client<S>) -> Option<Result<&'a S::Response, &'a str>> {
        if self.port != port.name {
            return None;
        }
        match self.message {
            Ok(message) => Some(S::Response::peel(message).ok_or("the answer is of another type")),
            Err(reason) => Some(Err(reason)),
        }
    }
}

/// Tells one call of a service from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Work that takes long, done on a thread that control does not wait for.
pub struct Job {
    /// Handed back with the result.
    pub name: &'static str,
    /// Simulated time after which a lock-step transport delivers the result.
    pub simulated_duration: Span,
    /// The work; it may block.
    pub work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a job left.
pub struct JobResult {
    /// The job's name.
    pub name: &'static str,
    /// What the work returned, or the message of its panic.
    pub result: Result<Box<dyn Any + Send>, String>,
}

impl std::fmt::Debug for JobResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobResult").field("name", &self.name).field("ok", &self.result.is_ok()).finish()
    }
}

/// One thing a node wants done.
#[derive(Debug)]
pub enum Effect {
    /// Publish a message on the output of that name.
    Publish {
        /// The output's name before remapping.
        port: &'static str,
        /// What to publish.
        message: AnyMessage,
    },
    /// Call the service on the client of that name.
    Call {
        /// The client's name before remapping.
        port: &'static str,
        /// Number of the call.
        call: CallId,
        /// The request.
        request: AnyMessage,
    },
    /// Run a job.
    Spawn(Job),
    /// The node is done; the run may end (an exit status for the user).
    Finish(Finish),
}

/// How a run ends on a node's own wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// As intended.
    Success,
    /// With an error that the user must read.
    Failure(String),
}

/// Where a node leaves what it wants done. Effects are carried out in order after the call returns.
#[derive(Debug, Default)]
pub struct Outbox {
    effects: Vec<Effect>,
    next_call: u64,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Self {
        Self { effects: Vec::with_capacity(16), next_call: 0 }
    }

    /// Leaves an effect that was made elsewhere.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Publishes a message.
    pub fn publish<M: Message>(&mut self, port: &Output<M>, message: M) {
        self.effects.push(Effect::Publish { port: port.name, message: message.wrap() });
    }

    /// Calls a service; the answer comes to [`Node::on_response`].
    pub fn call<S: Service>(&mut self, port: &Client<S>, request: S::Request) -> CallId {
        self.next_call += 1;
        let call = CallId(self.next_call);
        self.effects.push(Effect::Call { port: port.name, call, request: request.wrap() });
        call
    }

    /// Starts a job.
    pub fn spawn(&mut self, job: Job) {
        self.effects.push(Effect::Spawn(job));
    }

    /// Ends the run.
    pub fn finish(&mut self, finish: Finish) {
        self.effects.push(Effect::Finish(finish));
    }

    /// Takes everything left so far, in order. The outbox keeps its memory.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.effects.drain(..)
    }

    /// Everything left so far.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The messages published on `port` so far; for tests.
    pub fn published<'a, M: Message>(&'a self, port: &'a Output<M>) -> impl Iterator<Item = &'a M> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish { port: name, message } if *name == port.name => M::peel(message),
            _ => None,
        })
    }
}

/// Why a node could not be built.
pub type BuildError = Box<dyn std::error::Error + Send + Sync>;

/// A kind of node: its name, what it takes, and how one is made.
#[derive(Clone, Copy)]
pub struct NodeKind {
    /// Name of the executable and the default node name.
    pub name: &'static str,
    /// One line on what it does.
    pub about: &'static str,
    /// What is lost when it comes late.
    pub urgency: Urgency,
    /// The parameters it takes.
    pub declare: fn() -> Vec<crate::parameter::Declaration>,
    /// Makes one from resolved parameters.
    pub build: fn(&Context<'_>) -> Result<Box<dyn Node>, BuildError>,
}

impl std::fmt::Debug for NodeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKind").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a node is built from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Resolved parameters.
    pub parameters: &'a Parameters,
    /// Node name after remapping, e.g. `supervisor`.
    pub name: &'a str,
    /// Namespace, e.g. `/` or `/drone_0`.
    pub namespace: &'a str,
    /// Which start of the node this is: see [`crate::instance`].
    pub instance: u64,
}
