//! One node's endpoints on DDS.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustdds::{DomainParticipant, GUID, Timestamp};
use spikewing_msgs::{AnyMessage, cdr};

use super::{
    DdsError,
    config::{DdsConfig, ServiceMapping},
    endpoint::{Factory, Reader, Writer},
    graph::{self, Matches},
    service::{self, ClientEnd, Reply, ServerEnd},
};
use crate::{
    NodeOptions,
    codec::dds_type_name,
    host::{
        Wire,
        doorbell::Doorbell,
        inbox::{Inbox, Item},
        plan::{Plan, ServicePlan},
    },
    node::CallId,
    port::Qos,
};

/// How soon something that could not be sent is tried again.
const RETRY: Duration = Duration::from_millis(5);
/// How often discovery's news are read when nobody waits for them.
const NEWS: Duration = Duration::from_millis(250);

/// A node's endpoints.
pub struct DdsWire {
    inputs: Vec<Reader>,
    outputs: Vec<Writer>,
    servers: Vec<ServerEnd>,
    clients: Vec<ClientEnd>,
    matches: Matches,
    mapping: ServiceMapping,
    last_news: Instant,
    participant: DomainParticipant,
    lost: Option<String>,
    arrived: Vec<(Timestamp, Item<Reply>)>,
    _node_info: Writer,
    _factory: Factory,
}

impl DdsWire {
    /// Makes all endpoints and tells the graph whose they are.
    pub fn new(
        participant: &DomainParticipant,
        config: &DdsConfig,
        plan: &Plan,
        options: &NodeOptions,
        bell: &Arc<Doorbell>,
    ) -> Result<Self, DdsError> {
        let factory = Factory::new(participant, bell)?;
        let mut matches = Matches::new(participant);
        let (info_topic, info_type) = graph::DISCOVERY_INFO;
        let mut node_info = factory.writer(info_topic, dds_type_name(info_type), Qos::latched())?;
        let (mut readers, mut writers): (Vec<GUID>, Vec<GUID>) = (Vec::new(), vec![node_info.guid()]);
        let mut inputs = Vec::new();
        for end in &plan.inputs {
            let reader = factory.reader(&format!("rt{}", end.topic), dds_type_name(end.ros_type), end.qos)?;
            matches.name(reader.guid(), &end.topic);
            readers.push(reader.guid());
            inputs.push(reader);
        }
        let mut outputs = Vec::new();
        for end in &plan.outputs {
            let writer = factory.writer(&format!("rt{}", end.topic), dds_type_name(end.ros_type), end.qos)?;
            matches.name(writer.guid(), &end.topic);
            writers.push(writer.guid());
            outputs.push(writer);
        }
        let servers =
            plan.servers.iter().map(|s| ServerEnd::new(&factory, s)).collect::<Result<Vec<_>, _>>()?;
        let clients = plan
            .clients
            .iter()
            .map(|c| ClientEnd::new(&factory, c, config.mapping))
            .collect::<Result<Vec<_>, _>>()?;
        for (reader, writer) in
            servers.iter().map(ServerEnd::guids).chain(clients.iter().map(ClientEnd::guids))
        {
            readers.push(reader);
            writers.push(writer);
        }
        let info = graph::node_info(participant, options, &readers, &writers);
        match cdr::encode(&info) {
            Ok(bytes) => {
                node_info.write(bytes, None);
            }
            Err(error) => {
                return Err(DdsError::Endpoint { what: info_topic.to_owned(), reason: error.to_string() });
            }
        }
        Ok(Self {
            inputs,
            outputs,
            servers,
            clients,
            matches,
            mapping: config.mapping,
            last_news: Instant::now(),
            participant: participant.clone(),
            lost: None,
            arrived: Vec::new(),
            _node_info: node_info,
            _factory: factory,
        })
    }

    /// Lets reliable readers have the last samples, within `limit` altogether.
    pub fn settle(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        for output in &mut self.outputs {
            output.settle(end.saturating_duration_since(Instant::now()));
        }
    }
}

impl Wire for DdsWire {
    type Reply = Reply;

    fn collect(&mut self, inbox: &mut Inbox<Reply>) {
        let arrived = &mut self.arrived;
        let malformed =
            |topic: &str, reason| (Timestamp::now(), Item::Malformed { topic: topic.to_owned(), reason });
        for (input, reader) in self.inputs.iter().enumerate() {
            reader.take(|sample| {
                arrived.push(match sample {
                    Ok(sample) => (sample.received, Item::Message { input, bytes: sample.bytes }),
                    Err(reason) => malformed(reader.name(), reason),
                });
            });
        }
        for (server, end) in self.servers.iter().enumerate() {
            end.requests.take(|sample| {
                arrived.push(match sample {
                    Ok(sample) => (
                        sample.received,
                        Item::Request { server, reply: Reply::to(&sample), bytes: sample.bytes },
                    ),
                    Err(reason) => malformed(end.requests.name(), reason),
                });
            });
        }
        for (client, end) in self.clients.iter_mut().enumerate() {
            let mut samples = Vec::new();
            end.replies.take(|sample| samples.extend(sample.ok()));
            for sample in samples {
                let received = sample.received;
                if let Some((call, bytes)) = end.response(sample) {
                    arrived.push((received, Item::Response { client, call, bytes }));
                }
            }
        }
        // Several readers, one order.
        arrived.sort_by_key(|(received, _)| *received);
        for (_, item) in arrived.drain(..) {
            inbox.push(item);
        }
    }

    fn publish(&mut self, output: usize, bytes: Vec<u8>) {
        if let Some(writer) = self.outputs.get_mut(output) {
            writer.write(bytes, None);
        }
    }

    fn call(&mut self, client: usize, call: CallId, bytes: Vec<u8>) {
        if let Some(end) = self.clients.get_mut(client) {
            end.call(&mut self.matches, call, bytes);
        }
    }

    fn forget(&mut self, client: usize, call: CallId) {
        if let Some(end) = self.clients.get_mut(client) {
            end.forget(call);
        }
    }

    fn respond(&mut self, server: usize, reply: Reply, bytes: Vec<u8>) {
        if let Some(end) = self.servers.get_mut(server) {
            end.respond(&mut self.matches, reply, bytes);
        }
    }

    fn decode_request(
        &self,
        plan: &ServicePlan,
        reply: &mut Reply,
        bytes: &[u8],
    ) -> Result<AnyMessage, cdr::CdrError> {
        service::decode_request(plan, self.mapping, reply, bytes)
    }

    fn tend(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let mut idle = true;
        for output in &mut self.outputs {
            idle &= output.flush();
        }
        for server in &mut self.servers {
            idle &= server.tend(&self.matches);
        }
        for client in &mut self.clients {
            idle &= client.tend(&self.matches);
        }
        if !idle || now.duration_since(self.last_news) >= NEWS {
            self.last_news = now;
            self.matches.update();
            self.lost = self.participant.ended_thread().map(|thread| {
                format!("{thread} of the DDS transport has ended; the node must be started again")
            });
        }
        (!idle).then_some(RETRY)
    }

    fn lost(&self) -> Option<String> {
        self.lost.clone()
    }
}
