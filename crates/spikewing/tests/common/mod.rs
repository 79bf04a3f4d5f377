//! The seven nodes composed, for tests.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several tests, and a failed one should say where"
)]

use std::{path::Path, sync::atomic::AtomicBool};

pub use spikewing::registry::NODES;
use spikewing_msgs::AnyMessage;
use spikewing_runtime::{
    Node, NodeKind, NodeOptions, Outbox, Received, Span, Time, args,
    local::{Composition, Report},
    node::{Effect, JobResult, Request, Response, Shutdown},
    parameter::Value,
    port::Interface,
};

/// Parameters of a test: node, name, value.
pub type Settings<'a> = &'a [(&'a str, &'a str, Value)];

/// A node's options: a parameter file of the project, then the test's settings.
pub fn options(kind: &NodeKind, file: &str, settings: Settings<'_>) -> NodeOptions {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../params").join(file);
    let mut options = NodeOptions::of(kind);
    args::apply(&mut options, &args::Setting::File(path)).unwrap();
    if kind.name == "snn_policy" {
        // Nobody else speaks in one process, and a run without a folder has no key.
        options.parameters.set("updates", Value::Text("any".into())).unwrap();
    }
    for (node, name, value) in settings {
        if *node == kind.name {
            options.parameters.set(name, value.clone()).unwrap();
        }
    }
    options
}

/// A node of which a test has taken hold: it is dead from a time on, as after `kill -9`.
pub struct Mortal {
    inner: Box<dyn Node>,
    dies_at: Time,
}

impl Mortal {
    fn alive(&self, now: Time) -> bool {
        now < self.dies_at
    }
}

impl Node for Mortal {
    fn interface(&self) -> Interface {
        self.inner.interface()
    }
    fn on_start(&mut self, now: Time, out: &mut Outbox) {
        self.inner.on_start(now, out);
    }
    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if self.alive(now) {
            self.inner.on_message(now, message, out);
        }
    }
    fn on_timer(&mut self, now: Time, timer: &'static str, out: &mut Outbox) {
        if self.alive(now) {
            self.inner.on_timer(now, timer, out);
        }
    }
    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        if self.alive(now) { self.inner.on_request(now, request, out) } else { None }
    }
    fn on_response(&mut self, now: Time, response: &Response<'_>, out: &mut Outbox) {
        if self.alive(now) {
            self.inner.on_response(now, response, out);
        }
    }
    fn on_job(&mut self, now: Time, result: JobResult, out: &mut Outbox) {
        if self.alive(now) {
            self.inner.on_job(now, result, out);
        }
    }
    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        if self.alive(now) { self.inner.on_shutdown(now, out) } else { Shutdown::Done }
    }
}

/// Publishes one message over and over: a broken sensor, for example.
pub struct Nuisance {
    pub interface: Interface,
    pub make: fn(Time) -> Effect,
}

impl Node for Nuisance {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }
    fn on_message(&mut self, _: Time, _: &Received<'_>, _: &mut Outbox) {}
    fn on_timer(&mut self, now: Time, _: &'static str, out: &mut Outbox) {
        out.push((self.make)(now));
    }
}

/// Composes the nodes that `wanted` lists; those in `deaths` die at a time (s of simulated time).
pub fn compose<'a>(
    wanted: &[&str],
    file: &str,
    settings: Settings<'_>,
    deaths: &[(&str, f64)],
) -> Composition<'a> {
    let mut composition = Composition::new();
    for kind in NODES.into_iter().filter(|kind| wanted.contains(&kind.name)) {
        let options = options(kind, file, settings);
        match deaths.iter().find(|(name, _)| *name == kind.name) {
            None => composition.add(kind, &options).unwrap(),
            Some((_, at_s)) => {
                let inner = (kind.build)(&options.context()).unwrap();
                let dies_at = Time::ZERO + Span::from_seconds(*at_s);
                composition.add_node(Box::new(Mortal { inner, dies_at }), &options).unwrap();
            }
        }
    }
    composition
}

/// Runs for some simulated seconds.
pub fn run(composition: Composition<'_>, seconds: f64) -> Report {
    composition.run(&AtomicBool::new(false), Some(Span::from_seconds(seconds))).unwrap()
}

pub const ALL: [&str; 7] = [
    "simulator",
    "px4_bridge",
    "state_estimator",
    "guide_policy",
    "snn_policy",
    "supervisor",
    "online_learner",
];
