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
pub struct Reply(Box<dyn FnOnce(Vec<u8>) -> Result<(), String>>);

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
    /// Offers a service.
    pub fn new(node: &mut Node, plan: &ServicePlan) -> Result<Self, R2rError> {
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

/// Finds the type and compares its installed definition with ours: it is the rmw that translates between the two.
fn prepare<S: Service>(plan: &ServicePlan) -> Result<(), R2rError> {
    let check = || {
        Adapter::<S>::ready()?;
        typesupport::message(S::Request::TYPE)?.agrees(S::Request::TYPE, plan.decode_request)?;
        typesupport::message(S::Response::TYPE)?.agrees(S::Response::TYPE, plan.decode_response)
    };
    check().map_err(R2rError::ros(&plan.service))
}

fn offer<S: Service + Clone + Debug>(node: &mut Node, plan: &ServicePlan) -> Result<ServerEnd, R2rError> {
    prepare::<S>(plan)?;
    // The name as the node wrote it: rcl itself knows the namespace and the remappings.
    let mut requests = node
        .create_service::<Adapter<S>>(plan.port, QosProfile::services_default())
        .map_err(|e| R2rError::ros(&plan.service)(e.to_string()))?;
    Ok(ServerEnd(Box::new(move |context| match Pin::new(&mut requests).poll_next(context) {
        Poll::Ready(Some(mut request)) => {
            let sample = std::mem::take(&mut request.message);
            Some((sample.cdr, Reply(Box::new(move |bytes| respond(request, bytes)))))
        }
        _ => None,
    })))
}

fn respond<S: Service + Clone + Debug>(
    request: ServiceRequest<Adapter<S>>,
    bytes: Vec<u8>,
) -> Result<(), String> {
    typesupport::message(S::Response::TYPE)?.accepts(&bytes)?;
    request.respond(Sample::new(bytes)).map_err(|e| e.to_string())
}

fn connect<S: Service + Clone + Debug>(node: &mut Node, plan: &ServicePlan) -> Result<Calls, R2rError> {
    prepare::<S>(plan)?;
    let client = node
        .create_client::<Adapter<S>>(plan.port, QosProfile::services_default())
        .map_err(|e| R2rError::ros(&plan.service)(e.to_string()))?;
    Ok(Calls::new(Box::new(Connection::<S>(client))))
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
