//! What a node needs from the wire, with resolved names and codecs.

use crate::{
    NodeOptions,
    codec::{self, Codec, Decoder},
    port::{Interface, Qos, Timer},
};

use super::{HostError, parameters, pulse};

/// Index of the output `/rosout` among a plan's outputs, counted from the node's own.
pub const ROSOUT: usize = 0;
/// Index of the output `/parameter_events`.
pub const PARAMETER_EVENTS: usize = 1;
/// Index of the output on which the node hears itself.
pub const PULSE: usize = 2;

/// A topic end.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// The port's name before remapping.
    pub port: &'static str,
    /// Absolute topic name.
    pub topic: String,
    /// ROS type.
    pub ros_type: &'static str,
    /// Quality of service.
    pub qos: Qos,
    /// How samples are read.
    pub decode: Decoder,
    /// Every leaf of the message: path and type.
    #[cfg_attr(
        not(feature = "r2r"),
        allow(dead_code, reason = "other transports carry our own definitions")
    )]
    pub layout: &'static [(&'static str, &'static str)],
    /// Text of the interface file.
    #[cfg_attr(not(feature = "r2r"), allow(dead_code, reason = "as above"))]
    pub definition: &'static str,
}

/// A service end.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// The port's name before remapping.
    pub port: &'static str,
    /// Absolute service name.
    pub service: String,
    /// ROS type, e.g. `std_srvs/srv/Trigger`.
    pub ros_type: &'static str,
    /// How requests are read.
    pub decode_request: Decoder,
    /// How responses are read.
    pub decode_response: Decoder,
}

/// Everything a node and its host need from the wire. The node's own ends come first, in the order of its interface;
/// what every ROS node has follows.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Subscriptions; then the node's pulse, and `/clock` when the node lives on simulated time.
    pub inputs: Vec<TopicPlan>,
    /// Publications; the last three are `/rosout`, `/parameter_events` and the node's pulse.
    pub outputs: Vec<TopicPlan>,
    /// Offered services; the last six are the parameter services.
    pub servers: Vec<ServicePlan>,
    /// Called services.
    pub clients: Vec<ServicePlan>,
    /// Timers.
    pub timers: Vec<Timer>,
    /// How many inputs, outputs and servers are the node's own.
    pub own: (usize, usize, usize),
}

impl Plan {
    /// From what the node declares.
    pub fn new(interface: &Interface, options: &NodeOptions) -> Result<Self, HostError> {
        let topics = |ends: &[crate::port::TopicEnd]| {
            ends.iter()
                .map(|end| {
                    let codec = codec::codec_of(end.message)
                        .ok_or(HostError::Type { port: end.name, ros_type: end.ros_type })?;
                    let name = interface.resolve(options, end.name);
                    Ok(topic(end.name, name, end.ros_type, end.qos, codec))
                })
                .collect::<Result<Vec<_>, HostError>>()
        };
        let services = |ends: &[crate::port::ServiceEnd]| {
            ends.iter()
                .map(|end| service(end.name, end.ros_type, options))
                .collect::<Result<Vec<_>, HostError>>()
        };
        let (mut inputs, mut outputs) = (topics(&interface.inputs)?, topics(&interface.outputs)?);
        let (mut servers, clients) = (services(&interface.servers)?, services(&interface.clients)?);
        for timer in &interface.timers {
            if timer.period <= crate::time::Span::ZERO {
                return Err(HostError::Timer { timer: timer.name, seconds: timer.period.seconds() });
            }
        }
        let own = (inputs.len(), outputs.len(), servers.len());
        let (name, ros_type) = pulse::TOPIC;
        let mut itself = builtin(name, ros_type, Qos::sensor(1))?;
        itself.topic = options.resolve(name);
        inputs.push(itself.clone());
        if options.use_sim_time {
            inputs.push(builtin("/clock", "rosgraph_msgs/msg/Clock", Qos::sensor(1))?);
        }
        let rosout = Qos { durability: crate::port::Durability::TransientLocal, ..Qos::reliable(100) };
        outputs.push(builtin("/rosout", "rcl_interfaces/msg/Log", rosout)?);
        outputs.push(builtin("/parameter_events", "rcl_interfaces/msg/ParameterEvent", Qos::reliable(100))?);
        outputs.push(itself);
        for (name, ros_type) in parameters::SERVICES {
            servers.push(service(name, ros_type, options)?);
        }
        Ok(Self { inputs, outputs, servers, clients, timers: interface.timers.clone(), own })
    }
}

fn builtin(name: &'static str, ros_type: &'static str, qos: Qos) -> Result<TopicPlan, HostError> {
    let codec = codec::codec_named(ros_type).ok_or(HostError::Type { port: name, ros_type })?;
    Ok(topic(name, name.to_owned(), ros_type, qos, codec))
}

fn topic(port: &'static str, topic: String, ros_type: &'static str, qos: Qos, codec: Codec) -> TopicPlan {
    let Codec { decode, layout, definition } = codec;
    TopicPlan { port, topic, ros_type, qos, decode, layout, definition }
}

fn service(
    port: &'static str,
    ros_type: &'static str,
    options: &NodeOptions,
) -> Result<ServicePlan, HostError> {
    let decoder = |part: &str| {
        let codec = codec::codec_named(&format!("{ros_type}_{part}"));
        codec.map(|c| c.decode).ok_or(HostError::Type { port, ros_type })
    };
    let (decode_request, decode_response) = (decoder("Request")?, decoder("Response")?);
    Ok(ServicePlan {
        port,
        service: options.resolve_service(port),
        ros_type,
        decode_request,
        decode_response,
    })
}
