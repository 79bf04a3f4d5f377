//! A node made of closures, and a thread that runs it over DDS.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use spikewing_msgs::AnyMessage;
use spikewing_runtime::{
    Node, NodeOptions, Outbox, Parameters, Received, Time,
    dds::{self, DdsConfig, DdsError},
    node::{Finish, Request, Response, Shutdown},
    port::Interface,
};

/// What a closure node is called with.
#[allow(dead_code, reason = "no test file needs them all")]
pub enum Call<'a> {
    Start,
    Message(&'a Received<'a>),
    Timer,
    Request(&'a Request<'a>, &'a mut Option<AnyMessage>),
    Response(&'a Response<'a>),
    Parameters(&'a Parameters),
    Malformed(&'a str),
    Shutdown(&'a mut Shutdown),
}

pub struct Toy<F> {
    pub interface: Interface,
    pub act: F,
}

impl<F: FnMut(Time, Call<'_>, &mut Outbox) + Send> Node for Toy<F> {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }
    fn on_start(&mut self, now: Time, out: &mut Outbox) {
        (self.act)(now, Call::Start, out);
    }
    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        (self.act)(now, Call::Message(message), out);
    }
    fn on_timer(&mut self, now: Time, _: &'static str, out: &mut Outbox) {
        (self.act)(now, Call::Timer, out);
    }
    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        let mut answer = None;
        (self.act)(now, Call::Request(request, &mut answer), out);
        answer
    }
    fn on_response(&mut self, now: Time, response: &Response<'_>, out: &mut Outbox) {
        (self.act)(now, Call::Response(response), out);
    }
    fn on_parameters(&mut self, now: Time, new: &Parameters, out: &mut Outbox) -> Result<(), String> {
        (self.act)(now, Call::Parameters(new), out);
        Ok(())
    }
    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        let mut answer = Shutdown::Done;
        (self.act)(now, Call::Shutdown(&mut answer), out);
        answer
    }
    fn on_malformed(&mut self, now: Time, _: &str, reason: &str, out: &mut Outbox) {
        (self.act)(now, Call::Malformed(reason), out);
    }
}

/// A node that runs on a thread; stopped when dropped.
pub struct Running {
    pub stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Finish, DdsError>>>,
}

impl Running {
    pub fn start(
        config: DdsConfig,
        options: NodeOptions,
        interface: Interface,
        act: impl FnMut(Time, Call<'_>, &mut Outbox) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let node = Box::new(Toy { interface, act });
        let thread = std::thread::spawn(move || dds::run_node(node, &options, &config, &flag));
        Self { stop, thread: Some(thread) }
    }

    #[allow(dead_code, reason = "no test file needs them all")]
    pub fn join(mut self) -> Finish {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn named(name: &str) -> NodeOptions {
    NodeOptions { name: name.into(), namespace: "/".into(), ..NodeOptions::default() }
}
