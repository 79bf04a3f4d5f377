//! Runs one node core in a process of its own, whatever carries its messages; see the transports for the guarantees.

pub mod clock;
pub mod doorbell;
pub mod inbox;
pub mod jobs;
pub mod parameters;
pub mod plan;
pub mod priority;
mod pulse;
pub mod throttle;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use spikewing_msgs::{AnyMessage, Message, builtin_interfaces, rosgraph_msgs};

use crate::{
    NodeKind, NodeOptions, console, instance,
    local::{chain, panic_message},
    node::{CallId, Context, Effect, Finish, JobResult, Node, Outbox, Received, Request, Response, Shutdown},
    rosout,
    time::Time,
};
use clock::{Clock, Due};
use doorbell::{Button, Doorbell};
use inbox::{Inbox, Item};
use jobs::Jobs;
use parameters::ParameterServer;
use plan::{PARAMETER_EVENTS, PULSE, Plan, ROSOUT};
use pulse::Pulse;
use throttle::Throttle;

/// A call that is not answered within this time has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a node that is to stop is asked whether it may.
const SHUTDOWN_POLL: Duration = Duration::from_millis(20);
/// A node that may not stop by then is stopped.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);
/// Longest sleep: how late a request to stop may be seen.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// A node on simulated time complains when `/clock` stays silent for longer.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Log records published between two events of the node.
const RECORDS_AT_ONCE: usize = 8;

/// Why a node could not run as a process of its own.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The node refused its parameters or files.
    #[error("node {node}: {reason}")]
    Build {
        /// Full name.
        node: String,
        /// The node's words.
        reason: String,
    },
    /// A port's type is not among the generated messages.
    #[error("port {port}: no codec for {ros_type}; add its interface file to msgs/ and build again")]
    Type {
        /// Port.
        port: &'static str,
        /// ROS type.
        ros_type: &'static str,
    },
    /// A timer would never rest.
    #[error("timer {timer} has the period {seconds} s; it must be positive")]
    Timer {
        /// Timer.
        timer: &'static str,
        /// Its period.
        seconds: f64,
    },
    /// What carries the node's messages stopped working.
    #[error("node {node} lost its connection: {reason}")]
    Lost {
        /// Full name.
        node: String,
        /// Why.
        reason: String,
    },
    /// The node panicked: a defect of ours.
    #[error("node {node} failed: {reason} (this is a defect; please report it)")]
    Panicked {
        /// Full name.
        node: String,
        /// The panic's message.
        reason: String,
    },
}

/// What carries messages between processes. No call may block.
pub trait Wire {
    /// What is needed to answer a request.
    type Reply;
    /// Moves everything that has arrived into the inbox.
    fn collect(&mut self, inbox: &mut Inbox<Self::Reply>);
    /// Publishes a sample (CDR with its header) on an output.
    fn publish(&mut self, output: usize, bytes: Vec<u8>);
    /// Sends a request.
    fn call(&mut self, client: usize, call: CallId, bytes: Vec<u8>);
    /// Nobody waits for the answer to this call any longer.
    fn forget(&mut self, client: usize, call: CallId);
    /// Answers a request.
    fn respond(&mut self, server: usize, reply: Self::Reply, bytes: Vec<u8>);
    /// Decodes a request, where the wire has more than one form of them.
    fn decode_request(
        &self,
        plan: &plan::ServicePlan,
        reply: &mut Self::Reply,
        bytes: &[u8],
    ) -> Result<AnyMessage, spikewing_msgs::cdr::CdrError>;
    /// Retries what could not be sent. Returns when it wants to be called again.
    fn tend(&mut self) -> Option<Duration>;
    /// Why nothing will arrive any more, when the wire itself has failed.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// Builds a node of this kind.
pub fn build(kind: &NodeKind, options: &NodeOptions) -> Result<Box<dyn Node>, HostError> {
    let context = Context { instance: instance::of_this_start(), ..options.context() };
    let failed = |reason| HostError::Build { node: options.full_name(), reason };
    catch_unwind(AssertUnwindSafe(|| (kind.build)(&context)))
        .map_err(|panic| failed(panic_message(panic.as_ref())))?
        .map_err(|e| failed(chain(e.as_ref())))
}

/// A node core and everything around it.
pub struct Host<W: Wire> {
    name: String,
    node: Box<dyn Node>,
    plan: Plan,
    wire: W,
    bell: Arc<Doorbell>,
    log: Arc<Button>,
    inbox: Inbox<W::Reply>,
    outbox: Outbox,
    clock: Clock,
    timers: Vec<Due>,
    jobs: Jobs,
    calls: BTreeMap<CallId, (usize, Instant)>,
    /// Calls that failed before they were sent.
    failed_calls: Vec<(CallId, &'static str, String)>,
    parameters: ParameterServer,
    malformed: BTreeMap<String, Throttle>,
    pulse: Pulse,
    log_lost: Throttle,
    finish: Option<Finish>,
    started: bool,
}

impl<W: Wire> Host<W> {
    /// Puts a node and a wire together.
    pub fn new(
        node: Box<dyn Node>,
        plan: Plan,
        wire: W,
        options: &NodeOptions,
        bell: &Arc<Doorbell>,
    ) -> Self {
        let name = options.full_name();
        let log = Button::new(bell);
        rosout::attach(&log);
        Self {
            inbox: Inbox::new(plan.inputs.iter().map(|i| i.qos.depth)),
            timers: plan.timers.iter().map(|t| Due::new(t.period)).collect(),
            parameters: ParameterServer::new(name.clone(), options.parameters.clone(), options.use_sim_time),
            clock: Clock::new(options.use_sim_time),
            jobs: Jobs::new(bell),
            bell: Arc::clone(bell),
            log,
            name,
            node,
            plan,
            wire,
            outbox: Outbox::new(),
            calls: BTreeMap::new(),
            failed_calls: Vec::new(),
            malformed: BTreeMap::new(),
            pulse: Pulse::from_env(),
            log_lost: Throttle::default(),
            finish: None,
            started: false,
        }
    }

    /// The wire.
    pub fn wire_mut(&mut self) -> &mut W {
        &mut self.wire
    }

    /// Runs until the node ends the run, or `stop` is set and the node has stopped cleanly.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Finish, HostError> {
        let begin = Instant::now();
        let (mut stopping, mut next_poll): (Option<Instant>, Instant) = (None, begin);
        let mut waited_for_clock = Throttle::default();
        loop {
            let deaf = || "what it sends does not come back to it".to_owned();
            if let Some(reason) = self.wire.lost().or_else(|| self.pulse.deaf().then(deaf)) {
                return Err(HostError::Lost { node: self.name.clone(), reason });
            }
            self.wire.collect(&mut self.inbox);
            while let Some(item) = self.inbox.pop(|i| is_builtin(&self.plan, i)) {
                self.builtin(item)?;
            }
            let now = self.clock.now();
            let mut busy = false;
            match now {
                Some(now) if !self.started => {
                    self.started = true;
                    let announcement = self.parameters.announcement(now);
                    self.publish_builtin(PARAMETER_EVENTS, announcement);
                    self.ask(now, |n, now, out| n.on_start(now, out))?;
                }
                Some(now) => busy = self.turn(now)?,
                None if begin.elapsed() > CLOCK_PATIENCE && waited_for_clock.count().is_some() => {
                    tracing::warn!(
                        node = self.name,
                        "use_sim_time is set, but nobody publishes /clock; the node waits"
                    );
                }
                None => {}
            }
            self.publish_log();
            if let Some(finish) = self.finish.take() {
                return Ok(finish);
            }
            let instant = Instant::now();
            if let Some(beat) = self.pulse.beat(instant) {
                self.publish_builtin(PULSE, beat);
                self.tell_what_was_not_logged();
            }
            if stop.load(Ordering::Relaxed) {
                let since = *stopping.get_or_insert(instant);
                if instant >= next_poll {
                    next_poll = instant + SHUTDOWN_POLL;
                    let now = now.unwrap_or(Time::ZERO);
                    let done = !self.started
                        || self.ask(now, |n, now, out| n.on_shutdown(now, out))? == Shutdown::Done;
                    if done {
                        return Ok(self.finish.take().unwrap_or(Finish::Success));
                    }
                    if instant - since > SHUTDOWN_LIMIT {
                        tracing::error!(
                            node = self.name,
                            "stopped after {} s although it was not done",
                            SHUTDOWN_LIMIT.as_secs()
                        );
                        return Ok(Finish::Success);
                    }
                }
            }
            if !busy {
                let deadline = self.sleep_until(instant, stopping.map(|_| next_poll));
                self.bell.wait_until(deadline);
            }
        }
    }

    /// Does at most one of each kind of work. Returns whether there may be more.
    fn turn(&mut self, now: Time) -> Result<bool, HostError> {
        let mut busy = false;
        for index in 0..self.timers.len() {
            let fires = self.timers.get_mut(index).is_some_and(|t| t.fires(now));
            if let (true, Some(name)) = (fires, self.plan.timers.get(index).map(|t| t.name)) {
                busy = true;
                self.ask(now, |n, now, out| n.on_timer(now, name, out))?;
            }
        }
        if let Some(JobResult { name, result }) = self.jobs.finished() {
            busy = true;
            self.ask(now, |n, now, out| n.on_job(now, JobResult { name, result }, out))?;
        }
        let instant = Instant::now();
        let late: Vec<CallId> =
            self.calls.iter().filter(|(_, (_, deadline))| *deadline <= instant).map(|(id, _)| *id).collect();
        for call in late {
            let Some((client, _)) = self.calls.remove(&call) else { continue };
            self.wire.forget(client, call);
            let Some(plan) = self.plan.clients.get(client) else { continue };
            let (port, service) = (plan.port, &plan.service);
            let reason =
                format!("no answer from {service} within {} s; is its node running?", CALL_TIMEOUT.as_secs());
            self.failed_calls.push((call, port, reason));
        }
        for (call, port, reason) in std::mem::take(&mut self.failed_calls) {
            busy = true;
            let response = Response { port, call, message: Err(&reason) };
            self.ask(now, |n, now, out| n.on_response(now, &response, out))?;
        }
        if let Some(item) = self.inbox.pop(|_| true) {
            busy = true;
            self.handle(now, item)?;
        }
        Ok(busy)
    }

    fn sleep_until(&mut self, instant: Instant, poll: Option<Instant>) -> Instant {
        let mut deadline = instant + LONGEST_SLEEP;
        if let (Some(now), Clock::Wall { .. }) = (self.clock.now(), &self.clock) {
            for wait in self.timers.iter().filter_map(|t| t.wait(now)) {
                deadline = deadline.min(instant + wait);
            }
        }
        for (_, at) in self.calls.values() {
            deadline = deadline.min(*at);
        }
        if let Some(wait) = self.wire.tend() {
            deadline = deadline.min(instant + wait);
        }
        poll.map_or(deadline, |at| deadline.min(at))
    }

    /// Something for the node.
    fn handle(&mut self, now: Time, item: Item<W::Reply>) -> Result<(), HostError> {
        match item {
            Item::Message { input, bytes } => {
                let Some(plan) = self.plan.inputs.get(input) else { return Ok(()) };
                let port = plan.port;
                match (plan.decode)(&bytes) {
                    Ok(message) => {
                        let received = Received { port, message: &message };
                        self.ask(now, |n, now, out| n.on_message(now, &received, out))
                    }
                    Err(error) => {
                        let topic = plan.topic.clone();
                        self.malformed(now, &topic, port, &error.to_string())
                    }
                }
            }
            Item::Request { server, mut reply, bytes } => {
                let Some(plan) = self.plan.servers.get(server).cloned() else { return Ok(()) };
                match self.wire.decode_request(&plan, &mut reply, &bytes) {
                    Ok(message) => {
                        let request = Request { port: plan.port, message: &message };
                        match self.ask(now, |n, now, out| n.on_request(now, &request, out))? {
                            Some(answer) => self.respond(server, reply, &answer),
                            None => tracing::error!(node = self.name, "does not answer {}", plan.service),
                        }
                        Ok(())
                    }
                    Err(error) => self.malformed(now, &plan.service, plan.port, &error.to_string()),
                }
            }
            Item::Response { client, call, bytes } => {
                let Some(plan) = self.plan.clients.get(client) else { return Ok(()) };
                if self.calls.remove(&call).is_none() {
                    return Ok(());
                }
                let port = plan.port;
                let decoded = (plan.decode_response)(&bytes).map_err(|e| e.to_string());
                let message = decoded.as_ref().map_err(String::as_str);
                let response = Response { port, call, message };
                self.ask(now, |n, now, out| n.on_response(now, &response, out))
            }
            Item::Malformed { topic, reason } => self.malformed(now, &topic.clone(), &topic, &reason),
        }
    }

    fn malformed(&mut self, now: Time, topic: &str, port: &str, reason: &str) -> Result<(), HostError> {
        if let Some(total) = self.malformed.entry(topic.to_owned()).or_default().count() {
            tracing::warn!(node = self.name, topic, total, "ignored a sample: {reason}");
        }
        self.ask(now, |n, now, out| n.on_malformed(now, port, reason, out))
    }

    /// Something for the host itself: the clock and the parameter services.
    fn builtin(&mut self, item: Item<W::Reply>) -> Result<(), HostError> {
        match item {
            Item::Message { input, bytes } => {
                let decoded = self.plan.inputs.get(input).map(|plan| (plan.decode)(&bytes));
                if let Some(Ok(message)) = &decoded
                    && let Some(beat) = builtin_interfaces::Time::peel(message)
                {
                    self.pulse.heard(beat);
                } else if let Some(Ok(message)) = &decoded
                    && let Some(clock) = rosgraph_msgs::Clock::peel(message)
                    && self.clock.set(Time::from(&clock.clock))
                {
                    tracing::warn!(node = self.name, "simulated time went back; timers start anew");
                }
                Ok(())
            }
            Item::Request { server, mut reply, bytes } => {
                let Some(plan) = self.plan.servers.get(server) else { return Ok(()) };
                let request = match self.wire.decode_request(plan, &mut reply, &bytes) {
                    Ok(request) => request,
                    Err(error) => {
                        tracing::warn!(node = self.name, "ignored a request to {}: {error}", plan.service);
                        return Ok(());
                    }
                };
                let now = self.clock.now().unwrap_or(Time::ZERO);
                let (name, started) = (self.name.clone(), self.started);
                let (node, outbox) = (self.node.as_mut(), &mut self.outbox);
                let answered = catch_unwind(AssertUnwindSafe(|| {
                    let mut ask = |new: &crate::Parameters| {
                        if started {
                            node.on_parameters(now, new, outbox)
                        } else {
                            Err("not started yet".to_owned())
                        }
                    };
                    self.parameters.answer(now, &request, &mut ask)
                }));
                let answered = answered.map_err(|panic| {
                    let reason = panic_message(panic.as_ref());
                    HostError::Panicked { node: name, reason }
                })?;
                if let Some((response, event)) = answered {
                    self.respond(server, reply, &response);
                    if let Some(event) = event {
                        self.publish_builtin(PARAMETER_EVENTS, event);
                    }
                }
                self.carry_out();
                Ok(())
            }
            Item::Response { .. } | Item::Malformed { .. } => Ok(()),
        }
    }

    /// Calls the node and carries out what it left in the outbox.
    fn ask<T>(
        &mut self,
        now: Time,
        f: impl FnOnce(&mut dyn Node, Time, &mut Outbox) -> T,
    ) -> Result<T, HostError> {
        let (node, outbox) = (self.node.as_mut(), &mut self.outbox);
        let value = catch_unwind(AssertUnwindSafe(|| f(node, now, outbox))).map_err(|panic| {
            HostError::Panicked { node: self.name.clone(), reason: panic_message(panic.as_ref()) }
        })?;
        self.carry_out();
        Ok(value)
    }

    fn carry_out(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        for effect in outbox.drain() {
            match effect {
                Effect::Publish { port, message } => {
                    match self.plan.outputs.iter().position(|o| o.port == port) {
                        Some(output) => self.publish(output, &message),
                        None => tracing::error!(node = self.name, port, "published on an undeclared output"),
                    }
                }
                Effect::Call { port, call, request } => self.call(port, call, &request),
                Effect::Spawn(job) => self.jobs.start(job),
                Effect::Finish(finish) => {
                    self.finish.get_or_insert(finish);
                }
            }
        }
        self.outbox = outbox;
    }

    fn publish(&mut self, output: usize, message: &AnyMessage) {
        match message.encode() {
            Ok(bytes) => self.wire.publish(output, bytes),
            Err(error) => tracing::error!(node = self.name, "not published: {error}"),
        }
    }

    fn publish_builtin(&mut self, index: usize, message: impl Message) {
        self.publish(self.plan.own.1 + index, &message.wrap());
    }

    fn publish_log(&mut self) {
        if !self.log.take() {
            return;
        }
        for _ in 0..RECORDS_AT_ONCE {
            let Some(mut record) = rosout::take(&self.log) else { return };
            record.stamp = self.clock.now().unwrap_or(Time::ZERO).to_msg();
            record.name = self.name.trim_start_matches('/').replace('/', ".");
            self.publish_builtin(ROSOUT, record);
        }
        self.log.press();
    }

    fn tell_what_was_not_logged(&mut self) {
        let lost = console::losses().into_iter().chain(rosout::losses()).sum::<usize>();
        if lost > 0 && self.log_lost.count().is_some() {
            tracing::warn!(
                node = self.name,
                "lines of this log were lost ({lost}): whoever reads it is too slow"
            );
        }
    }

    fn call(&mut self, port: &'static str, call: CallId, request: &AnyMessage) {
        let Some(client) = self.plan.clients.iter().position(|c| c.port == port) else {
            self.failed_calls.push((call, port, format!("no client {port} is declared")));
            return;
        };
        match request.encode() {
            Ok(bytes) => {
                self.calls.insert(call, (client, Instant::now() + CALL_TIMEOUT));
                self.wire.call(client, call, bytes);
            }
            Err(error) => self.failed_calls.push((call, port, error.to_string())),
        }
    }

    fn respond(&mut self, server: usize, reply: W::Reply, response: &AnyMessage) {
        match response.encode() {
            Ok(bytes) => self.wire.respond(server, reply, bytes),
            Err(error) => tracing::error!(node = self.name, "not answered: {error}"),
        }
    }
}

impl<W: Wire> Drop for Host<W> {
    fn drop(&mut self) {
        self.pulse.stopping();
        rosout::detach(&self.log);
    }
}

fn is_builtin<R>(plan: &Plan, item: &Item<R>) -> bool {
    match item {
        Item::Message { input, .. } => *input >= plan.own.0,
        Item::Request { server, .. } => *server >= plan.own.2,
        Item::Response { .. } | Item::Malformed { .. } => false,
    }
}
