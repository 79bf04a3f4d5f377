//! A test bench for one core: no transport, no thread, and time goes on only when the test says so.
//!
//! Timers fire when they are due, jobs come back after their simulated duration as they do in a composed run, and
//! everything that the core leaves in its outbox is kept with its time. Ports are given by their names before
//! remapping; one that the core does not declare, or with another type, is a mistake in the test, and panics.
//!
//! ```
//! use spikewing_msgs::std_msgs::Header;
//! use spikewing_runtime::{Node, Outbox, Received, Span, Time, port::{Input, Interface, Output, Qos}, rig::Rig};
//! const IN: Input<Header> = Input::new("in", Qos::sensor(1));
//! const OUT: Output<Header> = Output::new("out", Qos::sensor(1));
//! struct Echo;
//! impl Node for Echo {
//!     fn interface(&self) -> Interface {
//!         Interface::new().input(&IN).output(&OUT)
//!     }
//!     fn on_message(&mut self, _: Time, message: &Received<'_>, out: &mut Outbox) {
//!         if let Some(header) = message.on(&IN) {
//!             out.publish(&OUT, header.clone());
//!         }
//!     }
//! }
//! let mut rig = Rig::of(Box::new(Echo));
//! rig.pass(Span::from_millis(10));
//! rig.message("in", Header::default());
//! assert_eq!(rig.sent::<Header>("out").count(), 1);
//! ```

use spikewing_msgs::{Message, Service};

use crate::{
    NodeKind, NodeOptions, Span, Time,
    local::START,
    node::{
        BuildError, CallId, Effect, Finish, Job, JobResult, Node, Outbox, Received, Request, Response,
        Shutdown,
    },
    parameter::Value,
    port::{Interface, Timer},
};

/// One core on the bench.
pub struct Rig {
    node: Box<dyn Node>,
    interface: Interface,
    out: Outbox,
    now: Time,
    /// Each with the time when it is due.
    timers: Vec<(Timer, Time)>,
    jobs: Vec<(Time, Job)>,
    effects: Vec<(Time, Effect)>,
}

/// What comes next as time goes on; at one instant timers go first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Timer(usize),
    Job(usize),
}

impl Rig {
    /// A node of that kind with its default parameters but for `settings`, started.
    ///
    /// # Errors
    /// When a parameter is refused, or the node refuses to be built.
    pub fn build(kind: &NodeKind, settings: &[(&str, Value)]) -> Result<Self, BuildError> {
        let mut options = NodeOptions::of(kind);
        for (name, value) in settings {
            options.parameters.set(name, value.clone())?;
        }
        Ok(Self::of((kind.build)(&options.context())?))
    }

    /// A core, started.
    pub fn of(node: Box<dyn Node>) -> Self {
        let interface = node.interface();
        let timers = interface.timers.iter().map(|timer| (*timer, START + timer.period)).collect();
        let (jobs, effects) = (Vec::new(), Vec::new());
        let mut rig = Self { node, interface, out: Outbox::new(), now: START, timers, jobs, effects };
        rig.with(|node, now, out| node.on_start(now, out));
        rig
    }

    /// The time that the node is told.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Calls the core by hand, and keeps what it leaves.
    pub fn with<T>(&mut self, f: impl FnOnce(&mut dyn Node, Time, &mut Outbox) -> T) -> T {
        let value = f(self.node.as_mut(), self.now, &mut self.out);
        for effect in self.out.drain() {
            match effect {
                Effect::Spawn(job) => self.jobs.push((self.now + job.simulated_duration, job)),
                effect => self.effects.push((self.now, effect)),
            }
        }
        value
    }

    /// A message arrives on the input of that name.
    ///
    /// # Panics
    /// When the node has no such input.
    pub fn message<M: Message>(&mut self, port: &str, message: M) {
        let fits = self.interface.inputs.iter().any(|end| end.name == port && end.ros_type == M::TYPE);
        assert!(fits, "the node has no input {port} of type {}", M::TYPE);
        let message = message.wrap();
        self.with(|node, now, out| node.on_message(now, &Received { port, message: &message }, out));
    }

    /// A service is called; `None` when the node does not answer.
    ///
    /// # Panics
    /// When the node does not offer it.
    pub fn request<S: Service>(&mut self, port: &str, request: S::Request) -> Option<S::Response> {
        let fits = self.interface.servers.iter().any(|e| e.name == port && e.ros_type == S::SERVICE_TYPE);
        assert!(fits, "the node has no service {port} of type {}", S::SERVICE_TYPE);
        let message = request.wrap();
        let request = Request { port, message: &message };
        let answer = self.with(|node, now, out| node.on_request(now, &request, out))?;
        S::Response::peel(&answer).cloned()
    }

    /// A call of the node is answered, or fails for a reason.
    pub fn respond<S: Service>(&mut self, port: &str, call: CallId, response: Result<S::Response, &str>) {
        let response = response.map(Message::wrap);
        let message = response.as_ref().map_err(|reason| *reason);
        let response = Response { port, call, message };
        self.with(|node, now, out| node.on_response(now, &response, out));
    }

    /// The process is asked to stop.
    pub fn shutdown(&mut self) -> Shutdown {
        self.with(|node, now, out| node.on_shutdown(now, out))
    }

    /// Lets time pass in which the process is stopped: no timer fires, no job ends.
    pub fn skip(&mut self, span: Span) {
        self.now = self.now + span;
        for (timer, due) in &mut self.timers {
            *due = (*due).max(self.now + timer.period);
        }
    }

    /// Time goes on; timers and jobs come when they are due.
    pub fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while let Some((at, next)) = self.next().filter(|(at, _)| *at <= end) {
            self.now = at.max(self.now);
            match next {
                Next::Timer(index) => {
                    let (timer, due) = &mut self.timers[index];
                    // A timer without a period would stop time here; transports refuse it.
                    *due = at + timer.period.max(Span::from_nanoseconds(1));
                    let name = timer.name;
                    self.with(|node, now, out| node.on_timer(now, name, out));
                }
                Next::Job(index) => self.finish_job(index),
            }
        }
        self.now = end;
    }

    fn next(&self) -> Option<(Time, Next)> {
        let timers = self.timers.iter().enumerate().map(|(i, (_, at))| (*at, Next::Timer(i)));
        let jobs = self.jobs.iter().enumerate().map(|(i, (at, _))| (*at, Next::Job(i)));
        timers.chain(jobs).min()
    }

    fn finish_job(&mut self, index: usize) {
        let (_, job) = self.jobs.remove(index);
        let result = JobResult { name: job.name, result: Ok((job.work)()) };
        self.with(|node, now, out| node.on_job(now, result, out));
    }

    /// Does all jobs now, and those that follow from them.
    pub fn finish_jobs(&mut self) {
        while !self.jobs.is_empty() {
            self.finish_job(0);
        }
    }

    /// Jobs that are not done.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// What was published on an output since the last [`Rig::forget`], with its time.
    ///
    /// # Panics
    /// When the node has no such output.
    pub fn sent_at<M: Message>(&self, port: &'static str) -> impl Iterator<Item = (Time, &M)> {
        let fits = self.interface.outputs.iter().any(|end| end.name == port && end.ros_type == M::TYPE);
        assert!(fits, "the node has no output {port} of type {}", M::TYPE);
        self.effects.iter().filter_map(move |(at, effect)| match effect {
            Effect::Publish { port: on, message } if *on == port => Some((*at, M::peel(message)?)),
            _ => None,
        })
    }

    /// What was published on an output since the last [`Rig::forget`].
    ///
    /// # Panics
    /// When the node has no such output.
    pub fn sent<M: Message>(&self, port: &'static str) -> impl Iterator<Item = &M> {
        self.sent_at(port).map(|(_, message)| message)
    }

    /// The last message that was published on an output since the last [`Rig::forget`].
    ///
    /// # Panics
    /// When the node has no such output.
    pub fn last<M: Message>(&self, port: &'static str) -> Option<&M> {
        self.sent(port).last()
    }

    /// Calls that the node made of a service since the last [`Rig::forget`], and their numbers.
    ///
    /// # Panics
    /// When the node is no client of it.
    pub fn calls<S: Service>(&self, port: &'static str) -> impl Iterator<Item = (CallId, &S::Request)> {
        let fits = self.interface.clients.iter().any(|e| e.name == port && e.ros_type == S::SERVICE_TYPE);
        assert!(fits, "the node does not call {port} of type {}", S::SERVICE_TYPE);
        self.effects.iter().filter_map(move |(_, effect)| match effect {
            Effect::Call { port: on, call, request } if *on == port => {
                Some((*call, S::Request::peel(request)?))
            }
            _ => None,
        })
    }

    /// How the node ended the run, if it did.
    pub fn finished(&self) -> Option<&Finish> {
        self.effects.iter().find_map(|(_, effect)| match effect {
            Effect::Finish(finish) => Some(finish),
            _ => None,
        })
    }

    /// Forgets what was published, called and finished so far.
    pub fn forget(&mut self) {
        self.effects.clear();
    }
}
