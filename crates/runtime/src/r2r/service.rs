//! The services that a node offers and calls, inside rcl.

use std::{
    fmt::Debug,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use r2r::{Client, Node, QosProfile, ServiceRequest};
use spikewing_msgs::{Message, Service};

use super::{
    R2rError,
    calls::{Answer, Appearance, Calls, Line},
    typesupport::{self, Adapter, Sample},
};
use crate::host::plan::ServicePlan;

/// Sends one answer, CDR with its header. Dropping it leaves the caller without one.
pub struct Reply(Box<dyn FnOnce(Vec<u8>) -> Result<(), String> + Send>);

impl Reply {
    /// Answers.
    ///
    /// # Errors
    /// When the rmw cannot read the bytes or cannot send them; nothing is sent then.
    pub fn send(self, bytes: Vec<u8>) -> Result<(), String> {
        (self.0)(bytes)
    }
}

/// A request: CDR with its header or why there is none, and the way back.
type Arrived = (Result<Vec<u8>, String>, Reply);

/// Takes the next request of a service, whatever its type is.
type Take = Box<dyn FnMut(&mut Context<'_>) -> Option<Arrived>>;

/// An offered service.
pub struct ServerEnd(Take);

impl ServerEnd {
    /// Offers a service, unless its package isn't installed.
    pub fn new(node: &mut Node, plan: &ServicePlan) -> Result<Option<Self>, R2rError> {
        macro_rules! entry {
            ($service:ty, $name:expr) => {
                if plan.ros_type == $name {
                    return offer::<$service>(node, plan);
                }
            };
        }
        spikewing_msgs::for_each_service!(entry);
        Err(unknown(plan))
    }

    /// The oldest request that has arrived.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Option<Arrived> {
        (self.0)(context)
    }
}

/// Calls a service.
pub fn client(node: &mut Node, plan: &ServicePlan) -> Result<Calls, R2rError> {
    macro_rules! entry {
        ($service:ty, $name:expr) => {
            if plan.ros_type == $name {
                return connect::<$service>(node, plan);
            }
        };
    }
    spikewing_msgs::for_each_service!(entry);
    Err(unknown(plan))
}

fn unknown(plan: &ServicePlan) -> R2rError {
    R2rError::ros(&plan.service)(format!("no codec for {}", plan.ros_type))
}

/// Finds the type and compares its installed definition with ours: it is the rmw that translates between the two. A
/// package that isn't installed is no error, as a drone has no use for the simulator's: the reason is handed back.
fn prepare<S: Service>(plan: &ServicePlan) -> Result<Result<(), String>, R2rError> {
    if let Err(missing) = Adapter::<S>::ready() {
        return Ok(Err(missing));
    }
    let compare = || {
        typesupport::agrees::<S::Request>()?;
        typesupport::agrees::<S::Response>()
    };
    compare().map_err(|reason| R2rError::Definition { name: plan.service.clone(), reason })?;
    Ok(Ok(()))
}

fn offer<S: Service + Clone + Debug>(
    node: &mut Node,
    plan: &ServicePlan,
) -> Result<Option<ServerEnd>, R2rError> {
    if let Err(missing) = prepare::<S>(plan)? {
        tracing::warn!(service = plan.service, "not offered: {missing}");
        return Ok(None);
    }
    // The name as the node wrote it: rcl itself knows the namespace and the remappings.
    let mut requests = node
        .create_service::<Adapter<S>>(plan.port, QosProfile::services_default())
        .map_err(R2rError::ros(&plan.service))?;
    Ok(Some(ServerEnd(Box::new(move |context| match Pin::new(&mut requests).poll_next(context) {
        Poll::Ready(Some(mut request)) => {
            let sample = std::mem::take(&mut request.message);
            Some((sample.cdr, Reply(Box::new(move |bytes| respond(request, bytes)))))
        }
        _ => None,
    }))))
}

fn respond<S: Service + Clone + Debug>(
    request: ServiceRequest<Adapter<S>>,
    bytes: Vec<u8>,
) -> Result<(), String> {
    typesupport::message(S::Response::TYPE)?.accepts(&bytes)?;
    request.respond(Sample::new(bytes)).map_err(|e| e.to_string())
}

fn connect<S: Service + Clone + Debug>(node: &mut Node, plan: &ServicePlan) -> Result<Calls, R2rError> {
    if let Err(missing) = prepare::<S>(plan)? {
        return Ok(Calls::new(Box::new(Missing(missing))));
    }
    let client = node
        .create_client::<Adapter<S>>(plan.port, QosProfile::services_default())
        .map_err(R2rError::ros(&plan.service))?;
    Ok(Calls::new(Box::new(Connection::<S>(client))))
}

/// A service whose package isn't installed: every call fails, and says so.
struct Missing(String);

impl Line for Missing {
    fn server(&self) -> Result<Appearance, String> {
        Ok(Box::pin(std::future::ready(Ok(()))))
    }

    fn send(&self, _bytes: Vec<u8>) -> Result<Answer, String> {
        Err(self.0.clone())
    }
}

struct Connection<S: Service + Clone + Debug>(Client<Adapter<S>>);

impl<S: Service + Clone + Debug> Line for Connection<S> {
    fn server(&self) -> Result<Appearance, String> {
        let found = Node::is_available(&self.0).map_err(|e| e.to_string())?;
        Ok(Box::pin(async move { found.await.map_err(|e| e.to_string()) }))
    }

    fn send(&self, bytes: Vec<u8>) -> Result<Answer, String> {
        typesupport::message(S::Request::TYPE)?.accepts(&bytes)?;
        let answer = self.0.request(&Sample::new(bytes)).map_err(|e| e.to_string())?;
        Ok(Box::pin(async move { answer.await.map_err(|e| e.to_string())?.cdr }))
    }
}
