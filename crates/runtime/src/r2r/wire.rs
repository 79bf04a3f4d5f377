//! One node's ends inside rcl.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

use futures_core::Stream;
use r2r::{PublisherUntyped, QosProfile};
use spikewing_msgs::{AnyMessage, cdr::CdrError};

use super::{
    R2rError,
    calls::Calls,
    definition,
    lane::Lane,
    qos::Watch,
    service::{self, Reply, ServerEnd},
};
use crate::{
    NodeOptions,
    host::{
        Wire,
        doorbell::{Button, Doorbell},
        inbox::{Inbox, Item},
        plan::{Plan, ServicePlan, TopicPlan},
        throttle::Throttle,
    },
    local::panic_message,
    node::CallId,
    port::{Durability, Qos, Reliability},
};

/// Answers among the keys of a lane, of which the others are outputs.
const ANSWERS: usize = usize::MAX;

/// How long rcl waits for samples before it looks whether to stop, and whether servers have appeared.
const SPIN: Duration = Duration::from_millis(10);

type Samples = Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>;

/// A node's topics and services inside rcl.
pub struct R2rWire {
    inputs: Vec<(usize, Samples)>,
    outputs: Vec<Output>,
    /// Writes what may be lost.
    prompt: Lane,
    /// Writes what waits for readers: reliable samples and answers.
    patient: Lane,
    slow: Throttle,
    servers: Vec<(String, Option<ServerEnd>)>,
    clients: Vec<(String, Calls)>,
    /// Answers that were found by other means than [`Wire::collect`].
    answered: Vec<(usize, CallId, Vec<u8>)>,
    waker: Waker,
    rcl: Rcl,
}

/// A publisher that another thread writes with.
struct Published(PublisherUntyped);

// SAFETY: `rcl_publish_serialized_message` may be called from any thread, for different messages even at once; what r2r
// adds is a counted reference, which it makes with atomic operations.
unsafe impl Send for Published {}
// SAFETY: as above.
unsafe impl Sync for Published {}

impl Published {
    fn publish(&self, bytes: &[u8]) {
        if let Err(error) = self.0.publish_raw(bytes) {
            tracing::debug!("a sample could not be published: {error}");
        }
    }
}

/// A publisher, and how much of it may wait.
struct Output {
    publisher: Arc<Published>,
    qos: Qos,
    depth: usize,
}

/// The thread that spins rcl, and how it fares.
struct Rcl {
    spinning: Arc<AtomicBool>,
    panicked: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl R2rWire {
    /// Makes a node and all its ends.
    pub fn new(plan: &Plan, options: &NodeOptions, bell: &Arc<Doorbell>) -> Result<Self, R2rError> {
        definition::writable(plan)?;
        let context = context()?;
        let namespace = if options.namespace == "/" { "" } else { &options.namespace };
        let mut node = r2r::Node::create(context, &options.name, namespace)
            .map_err(R2rError::ros(&options.full_name()))?;
        // Ends are made by the names that the node gave them. rcl knows the namespace and the remappings too and
        // would apply them a second time: two topics that are swapped would be swapped back.
        let mut inputs: Vec<(usize, Samples)> = Vec::new();
        for index in definition::readable(plan)? {
            let Some(end) = plan.inputs.get(index) else { continue };
            let samples = node
                .subscribe_raw(given(end, options), end.ros_type, profile(end.qos))
                .map_err(R2rError::ros(&end.topic))?;
            inputs.push((index, Box::pin(samples)));
        }
        let mut outputs = Vec::new();
        for end in &plan.outputs {
            let publisher = node
                .create_publisher_untyped(given(end, options), end.ros_type, profile(end.qos))
                .map_err(R2rError::ros(&end.topic))?;
            outputs.push(Output {
                publisher: Arc::new(Published(publisher)),
                qos: end.qos,
                depth: end.qos.depth,
            });
        }
        let mut servers = Vec::new();
        for end in &plan.servers {
            servers.push((end.service.clone(), ServerEnd::new(&mut node, end)?));
        }
        let mut clients = Vec::new();
        for end in &plan.clients {
            clients.push((end.service.clone(), service::client(&mut node, end)?));
        }
        Ok(Self {
            inputs,
            outputs,
            servers,
            clients,
            answered: Vec::new(),
            waker: Waker::from(Button::new(bell)),
            prompt: Lane::start("prompt")?,
            patient: Lane::start("patient")?,
            slow: Throttle::default(),
            rcl: Rcl::spin(node, Watch::new(plan), bell)?,
        })
    }
}

/// The name under which rcl resolves to the end's topic: as the node wrote it, or the topic itself where the node puts a
/// port into another namespace (PX4's).
fn given<'a>(end: &'a TopicPlan, options: &NodeOptions) -> &'a str {
    if options.resolve(end.port) == end.topic { end.port } else { &end.topic }
}

/// Starts rcl. r2r panics on arguments that rcl does not take: caught, and without the noise of a panic.
fn context() -> Result<r2r::Context, R2rError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let context = catch_unwind(AssertUnwindSafe(r2r::Context::create));
    std::panic::set_hook(hook);
    context
        .map_err(|panic| R2rError::Arguments { reason: panic_message(panic.as_ref()) })?
        .map_err(R2rError::ros("start of rcl"))
}

impl Rcl {
    fn spin(mut node: r2r::Node, mut watch: Watch, bell: &Arc<Doorbell>) -> Result<Self, R2rError> {
        let spinning = Arc::new(AtomicBool::new(true));
        let panicked = Arc::new(Mutex::new(None));
        let (go_on, died, bell) = (Arc::clone(&spinning), Arc::clone(&panicked), Arc::clone(bell));
        let thread = std::thread::Builder::new().name("rcl".into()).spawn(move || {
            let spun = catch_unwind(AssertUnwindSafe(|| {
                while go_on.load(Ordering::Relaxed) {
                    node.spin_once(SPIN);
                    watch.look(&node);
                }
            }));
            if let Err(panic) = spun {
                *died.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic_message(panic.as_ref()));
                bell.ring();
            }
        })?;
        Ok(Self { spinning, panicked, thread: Some(thread) })
    }
}

impl Drop for Rcl {
    fn drop(&mut self) {
        self.spinning.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, was reported.
            let _ = thread.join();
        }
    }
}

fn profile(qos: Qos) -> QosProfile {
    let profile = QosProfile::default().keep_last(qos.depth);
    let profile = match qos.reliability {
        Reliability::BestEffort => profile.best_effort(),
        Reliability::Reliable => profile.reliable(),
    };
    match qos.durability {
        Durability::Volatile => profile.volatile(),
        Durability::TransientLocal => profile.transient_local(),
    }
}

/// Lets calls go on; what was answered is put aside.
fn advance(
    (client, (name, calls)): (usize, &mut (String, Calls)),
    waker: &Waker,
    answered: &mut Vec<(usize, CallId, Vec<u8>)>,
) {
    calls.advance(&mut Context::from_waker(waker), |call, answer| match answer {
        Ok(bytes) => answered.push((client, call, bytes)),
        // The node hears of it when the time for an answer is over.
        Err(reason) => tracing::warn!(service = name, "a call failed: {reason}"),
    });
}

impl R2rWire {
    /// Lets the lanes write what waits.
    pub fn settle(&self, limit: Duration) {
        self.prompt.settle(limit);
        self.patient.settle(limit);
    }
}

impl Wire for R2rWire {
    type Reply = Reply;

    fn collect(&mut self, inbox: &mut Inbox<Reply>) {
        let mut context = Context::from_waker(&self.waker);
        for (input, samples) in &mut self.inputs {
            while let Poll::Ready(Some(bytes)) = samples.as_mut().poll_next(&mut context) {
                inbox.push(Item::Message { input: *input, bytes });
            }
        }
        for (server, (name, end)) in self.servers.iter_mut().enumerate() {
            while let Some((bytes, reply)) = end.as_mut().and_then(|e| e.poll(&mut context)) {
                inbox.push(match bytes {
                    Ok(bytes) => Item::Request { server, reply, bytes },
                    Err(reason) => Item::Malformed { topic: name.clone(), reason },
                });
            }
        }
        for client in self.clients.iter_mut().enumerate() {
            advance(client, &self.waker, &mut self.answered);
        }
        for (client, call, bytes) in self.answered.drain(..) {
            inbox.push(Item::Response { client, call, bytes });
        }
    }

    fn publish(&mut self, output: usize, bytes: Vec<u8>) {
        let Some(Output { publisher, qos, depth }) = self.outputs.get(output) else { return };
        let lane = match qos.reliability {
            Reliability::BestEffort => &self.prompt,
            Reliability::Reliable => &self.patient,
        };
        let publisher = Arc::clone(publisher);
        lane.push(output, *depth, move || publisher.publish(&bytes));
    }

    fn call(&mut self, client: usize, call: CallId, bytes: Vec<u8>) {
        if let Some(end) = self.clients.get_mut(client) {
            end.1.call(call, bytes);
            advance((client, end), &self.waker, &mut self.answered);
        }
    }

    fn forget(&mut self, client: usize, call: CallId) {
        if let Some((_, calls)) = self.clients.get_mut(client) {
            calls.forget(call);
        }
    }

    fn respond(&mut self, server: usize, reply: Reply, bytes: Vec<u8>) {
        let service = self.servers.get(server).map(|(name, _)| name.clone()).unwrap_or_default();
        self.patient.push(ANSWERS, usize::MAX, move || {
            if let Err(reason) = reply.send(bytes) {
                tracing::error!(service, "not answered: {reason}");
            }
        });
    }

    fn decode_request(
        &self,
        plan: &ServicePlan,
        _reply: &mut Reply,
        bytes: &[u8],
    ) -> Result<AnyMessage, CdrError> {
        (plan.decode_request)(bytes)
    }

    fn tend(&mut self) -> Option<Duration> {
        if self.prompt.given_way() + self.patient.given_way() > 0
            && let Some(total) = self.slow.count()
        {
            tracing::warn!(total, "the middleware holds writes up; the oldest samples are dropped");
        }
        None
    }

    fn lost(&self) -> Option<String> {
        self.rcl.panicked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
