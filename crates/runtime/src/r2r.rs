//! The r2r transport: a node inside a sourced ROS 2, over rcl and whichever rmw is set. Feature `r2r`.
//!
//! **What it carries.** All topics, `/rosout` and `/parameter_events`, as raw CDR from our own strict codec: what our
//! encoder did not make is never published, and what arrives is decoded as strictly as over DDS. rcl needs the message
//! types compiled in, so the build must see them: `IDL_PACKAGE_FILTER` with `spikewing_msgs`, `px4_msgs` and what they
//! depend on.
//!
//! **What it does not carry yet.** Services and the parameter services: r2r offers servers for types known at its own
//! compile time only. A call fails at once with an error that says so; parameters are set at start.
//!
//! **Threads.** As in [`crate::dds`], the caller's thread alone touches the node and sleeps on one bell. A second thread
//! spins rcl and moves samples into r2r's channels; those hold ten samples and drop the newest, so the bell is rung for
//! each and the channels are emptied at once into queues in which the newest wins.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

use futures_core::Stream;
use r2r::{PublisherUntyped, QosProfile};
use spikewing_msgs::{AnyMessage, cdr::CdrError};

pub use crate::host::HostError;
use crate::{
    NodeKind, NodeOptions,
    host::{
        self, Host, Wire,
        doorbell::{Button, Doorbell},
        inbox::{Inbox, Item},
        plan::{Plan, ServicePlan},
    },
    node::{CallId, Finish},
    port::{Durability, Qos, Reliability},
};

/// How long rcl waits for samples before it looks whether to stop.
const SPIN: Duration = Duration::from_millis(10);

/// Why a node could not run inside ROS 2.
#[derive(Debug, thiserror::Error)]
pub enum R2rError {
    /// The node itself.
    #[error(transparent)]
    Host(#[from] HostError),
    /// rcl or the rmw refused.
    #[error(
        "{what}: {reason}; is ROS 2 sourced, and was this program built with the package's messages (IDL_PACKAGE_FILTER)?"
    )]
    Ros {
        /// What was asked for.
        what: String,
        /// rcl's words.
        reason: String,
    },
    /// The thread that spins rcl could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Runs one node as this process until it ends the run or `stop` is set and it has stopped cleanly.
///
/// # Errors
/// When the node refuses its parameters, ROS 2 is not there, or the node fails.
pub fn run(kind: &NodeKind, options: &NodeOptions, stop: &AtomicBool) -> Result<Finish, R2rError> {
    let node = host::build(kind, options)?;
    let plan = Plan::new(&node.interface(), options)?;
    let bell = Doorbell::new();
    let wire = R2rWire::new(&plan, options, &bell)?;
    let unserved = plan.own.2;
    if unserved > 0 {
        tracing::warn!(node = options.full_name(), unserved, "services are not carried over r2r yet");
    }
    tracing::info!(node = options.full_name(), "up inside ROS 2");
    Ok(Host::new(node, plan, wire, options, &bell).run(stop)?)
}

type Samples = Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>;

/// A node's topics inside rcl.
struct R2rWire {
    inputs: Vec<Samples>,
    outputs: Vec<PublisherUntyped>,
    waker: Waker,
    spinning: Arc<AtomicBool>,
    spinner: Option<JoinHandle<()>>,
}

impl R2rWire {
    fn new(plan: &Plan, options: &NodeOptions, bell: &Arc<Doorbell>) -> Result<Self, R2rError> {
        let ros = |what: &str| {
            let what = what.to_owned();
            move |error: r2r::Error| R2rError::Ros { what, reason: error.to_string() }
        };
        // r2r panics on arguments that rcl does not understand.
        let context = catch_unwind(AssertUnwindSafe(r2r::Context::create))
            .map_err(|_| R2rError::Ros {
                what: "start of rcl".into(),
                reason: "it does not understand this program's arguments".into(),
            })?
            .map_err(ros("start of rcl"))?;
        let namespace = if options.namespace == "/" { "" } else { &options.namespace };
        let mut node =
            r2r::Node::create(context, &options.name, namespace).map_err(ros(&options.full_name()))?;
        let mut inputs: Vec<Samples> = Vec::new();
        for end in &plan.inputs {
            let samples =
                node.subscribe_raw(&end.topic, end.ros_type, profile(end.qos)).map_err(ros(&end.topic))?;
            inputs.push(Box::pin(samples));
        }
        let mut outputs = Vec::new();
        for end in &plan.outputs {
            let publisher = node
                .create_publisher_untyped(&end.topic, end.ros_type, profile(end.qos))
                .map_err(ros(&end.topic))?;
            outputs.push(publisher);
        }
        let spinning = Arc::new(AtomicBool::new(true));
        let go_on = Arc::clone(&spinning);
        let spinner = std::thread::Builder::new().name("rcl".into()).spawn(move || {
            while go_on.load(Ordering::Relaxed) {
                node.spin_once(SPIN);
            }
        })?;
        Ok(Self { inputs, outputs, waker: Waker::from(Button::new(bell)), spinning, spinner: Some(spinner) })
    }
}

impl Drop for R2rWire {
    fn drop(&mut self) {
        self.spinning.store(false, Ordering::Relaxed);
        if let Some(spinner) = self.spinner.take() {
            // It was ended above; its panic, if it had one, is on standard error.
            let _ = spinner.join();
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

/// Requests never arrive, so that nobody is answered.
enum Nobody {}

impl Wire for R2rWire {
    type Reply = Nobody;

    fn collect(&mut self, inbox: &mut Inbox<Nobody>) {
        let mut context = Context::from_waker(&self.waker);
        for (input, samples) in self.inputs.iter_mut().enumerate() {
            while let Poll::Ready(Some(bytes)) = samples.as_mut().poll_next(&mut context) {
                inbox.push(Item::Message { input, bytes });
            }
        }
    }

    fn publish(&mut self, output: usize, bytes: Vec<u8>) {
        let Some(publisher) = self.outputs.get(output) else { return };
        if let Err(error) = publisher.publish_raw(&bytes) {
            tracing::debug!("a sample could not be published: {error}");
        }
    }

    fn call(&mut self, client: usize, _call: CallId, _bytes: Vec<u8>) {
        tracing::warn!(client, "a service was called; services are not carried over r2r yet");
    }

    fn forget(&mut self, _client: usize, _call: CallId) {}

    fn respond(&mut self, _server: usize, reply: Nobody, _bytes: Vec<u8>) {
        match reply {}
    }

    fn decode_request(
        &self,
        _plan: &ServicePlan,
        reply: &mut Nobody,
        _bytes: &[u8],
    ) -> Result<AnyMessage, CdrError> {
        match *reply {}
    }

    fn tend(&mut self) -> Option<Duration> {
        None
    }
}
