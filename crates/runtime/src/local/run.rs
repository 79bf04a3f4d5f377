//! The lock-step run itself: takes what is due, calls the nodes, carries out what they left.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use super::{
    Composition, Ended, LocalError, Report, START,
    agenda::{JobReceiver, Later, Now, Planned},
    panic_message,
};
use crate::{
    node::{Effect, Finish, Job, JobResult, Node, Outbox, Received, Request, Response, Shutdown},
    time::{Span, Time},
};

/// Longest simulated time that nodes get to stop cleanly.
const SHUTDOWN_LIMIT: Span = Span::from_millis(30_000);
const SHUTDOWN_POLL: Span = Span::from_millis(20);

/// A composition that runs.
pub(super) struct Run<'a> {
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

impl<'a> Run<'a> {
    /// Ready to start.
    pub(super) fn new(composition: Composition<'a>) -> Self {
        Self {
            composition,
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
    }

    /// Runs until a node ends the run, all nodes have stopped after `stop` was set, or `end` is reached.
    pub(super) fn run(mut self, stop: &AtomicBool, end: Option<Time>) -> Result<Report, LocalError> {
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

fn start_job(job: Job) -> JobReceiver {
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
