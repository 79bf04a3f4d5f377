//! Ports: the typed ends of topics and services that a node declares once, as constants, and uses everywhere.
//!
//! ```
//! use spikewing_msgs::nav_msgs::Odometry;
//! use spikewing_runtime::port::{Input, Qos};
//! const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
//! ```

use std::{any::TypeId, marker::PhantomData};

use spikewing_msgs::{Message, Service};

/// Whether samples may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// A lost sample is gone.
    BestEffort,
    /// A lost sample is sent again.
    Reliable,
}

/// Whether a reader that joins late gets the last samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It does not.
    Volatile,
    /// The writer keeps them for it.
    TransientLocal,
}

/// Quality of service of a topic end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Qos {
    /// Whether samples may be lost.
    pub reliability: Reliability,
    /// Whether late readers get the last samples.
    pub durability: Durability,
    /// Samples kept.
    pub depth: usize,
}

impl Qos {
    /// Best effort, volatile, keep last `depth`: streams in which only the newest counts.
    pub const fn sensor(depth: usize) -> Self {
        Self { reliability: Reliability::BestEffort, durability: Durability::Volatile, depth }
    }

    /// Reliable, volatile, keep last `depth`.
    pub const fn reliable(depth: usize) -> Self {
        Self { reliability: Reliability::Reliable, durability: Durability::Volatile, depth }
    }

    /// Reliable, transient local, keep last one: state that a late joiner must have.
    pub const fn latched() -> Self {
        Self { reliability: Reliability::Reliable, durability: Durability::TransientLocal, depth: 1 }
    }

    /// Best effort, transient local: what PX4 writes.
    pub const fn px4_out(depth: usize) -> Self {
        Self { reliability: Reliability::BestEffort, durability: Durability::TransientLocal, depth }
    }
}

/// What a node subscribes to. The name is relative to the node's namespace, absolute with a leading `/`, or private
/// with a leading `~/`.
#[derive(Debug)]
pub struct Input<M> {
    /// Topic name before remapping.
    pub name: &'static str,
    /// Quality of service that the reader asks for.
    pub qos: Qos,
    message: PhantomData<fn() -> M>,
}

/// What a node publishes.
#[derive(Debug)]
pub struct Output<M> {
    /// Topic name before remapping.
    pub name: &'static str,
    /// Quality of service that the writer offers.
    pub qos: Qos,
    message: PhantomData<fn() -> M>,
}

/// A service that a node offers.
#[derive(Debug)]
pub struct Server<S> {
    /// Service name before remapping.
    pub name: &'static str,
    service: PhantomData<fn() -> S>,
}

/// A service that a node calls.
#[derive(Debug)]
pub struct Client<S> {
    /// Service name before remapping.
    pub name: &'static str,
    service: PhantomData<fn() -> S>,
}

impl<M: Message> Input<M> {
    /// An input called `name`.
    pub const fn new(name: &'static str, qos: Qos) -> Self {
        Self { name, qos, message: PhantomData }
    }
}

impl<M: Message> Output<M> {
    /// An output called `name`.
    pub const fn new(name: &'static str, qos: Qos) -> Self {
        Self { name, qos, message: PhantomData }
    }
}

impl<S: Service> Server<S> {
    /// A server called `name`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, service: PhantomData }
    }
}

impl<S: Service> Client<S> {
    /// A client called `name`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, service: PhantomData }
    }
}

/// A topic end without its Rust type, for transports. `message` tells a transport which codec to use
/// (see `spikewing_msgs::for_each_message`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicEnd {
    /// Name before remapping.
    pub name: &'static str,
    /// ROS type.
    pub ros_type: &'static str,
    /// Rust type. Several Rust types may share a ROS type (PX4 releases).
    pub message: TypeId,
    /// Quality of service.
    pub qos: Qos,
}

/// A service end without its Rust type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceEnd {
    /// Name before remapping.
    pub name: &'static str,
    /// ROS type.
    pub ros_type: &'static str,
    /// Rust type of the service marker.
    pub service: TypeId,
}

/// A timer that fires every `period` of the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Handed to `Node::on_timer`.
    pub name: &'static str,
    /// Time between two calls.
    pub period: crate::time::Span,
}

/// Everything by which a node touches the world.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Subscriptions.
    pub inputs: Vec<TopicEnd>,
    /// Publications.
    pub outputs: Vec<TopicEnd>,
    /// Services offered.
    pub servers: Vec<ServiceEnd>,
    /// Services called.
    pub clients: Vec<ServiceEnd>,
    /// Timers.
    pub timers: Vec<Timer>,
    /// Ports whose names begin so stand in that namespace instead of the node's.
    pub elsewhere: Vec<(&'static str, String)>,
}

impl Interface {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscription.
    pub fn input<M: Message>(mut self, port: &Input<M>) -> Self {
        self.inputs.push(TopicEnd {
            name: port.name,
            ros_type: M::TYPE,
            message: TypeId::of::<M>(),
            qos: port.qos,
        });
        self
    }

    /// Adds a publication.
    pub fn output<M: Message>(mut self, port: &Output<M>) -> Self {
        self.outputs.push(TopicEnd {
            name: port.name,
            ros_type: M::TYPE,
            message: TypeId::of::<M>(),
            qos: port.qos,
        });
        self
    }

    /// Adds an offered service.
    pub fn server<S: Service>(mut self, port: &Server<S>) -> Self {
        self.servers.push(ServiceEnd {
            name: port.name,
            ros_type: S::SERVICE_TYPE,
            service: TypeId::of::<S>(),
        });
        self
    }

    /// Adds a called service.
    pub fn client<S: Service>(mut self, port: &Client<S>) -> Self {
        self.clients.push(ServiceEnd {
            name: port.name,
            ros_type: S::SERVICE_TYPE,
            service: TypeId::of::<S>(),
        });
        self
    }

    /// Ports whose names begin with `prefix` stand in that namespace (`px4_1`, `/px4_1`), not in the node's; an empty
    /// one changes nothing. Remappings go before.
    pub fn within(mut self, prefix: &'static str, namespace: &str) -> Self {
        let namespace = namespace.trim_matches('/');
        if !namespace.is_empty() {
            self.elsewhere.push((prefix, format!("/{namespace}")));
        }
        self
    }

    /// The absolute name of one of these ports, after namespaces and remappings.
    pub fn resolve(&self, options: &crate::NodeOptions, name: &str) -> String {
        let elsewhere = self.elsewhere.iter().find(|(prefix, _)| name.starts_with(prefix));
        match elsewhere {
            Some((_, namespace)) if !options.remapped(name) => format!("{namespace}/{name}"),
            _ => options.resolve(name),
        }
    }

    /// Adds a timer.
    pub fn timer(mut self, name: &'static str, period: crate::time::Span) -> Self {
        self.timers.push(Timer { name, period });
        self
    }
}
