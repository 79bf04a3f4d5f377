//! Who is matched with whom, and the note by which ROS 2 tools learn our node's name.

use std::collections::{BTreeMap, BTreeSet};

use rustdds::{
    DomainParticipant, DomainParticipantStatusEvent, DomainParticipantStatusListener, GUID, RTPSEntity,
    StatusEvented,
};
use spikewing_msgs::rmw_dds_common::{Gid, NodeEntitiesInfo, ParticipantEntitiesInfo};

use crate::NodeOptions;

/// The topic on which participants tell which endpoints belong to which node.
pub const DISCOVERY_INFO: (&str, &str) = ("ros_discovery_info", "rmw_dds_common/msg/ParticipantEntitiesInfo");

fn gid(guid: GUID) -> Gid {
    Gid { data: guid.to_bytes() }
}

/// What tells ROS 2 tools that these endpoints are this node's.
pub fn node_info(
    participant: &DomainParticipant,
    options: &NodeOptions,
    readers: &[GUID],
    writers: &[GUID],
) -> ParticipantEntitiesInfo {
    let node = NodeEntitiesInfo {
        node_namespace: options.namespace.clone(),
        node_name: options.name.clone(),
        reader_gid_seq: readers.iter().copied().map(gid).collect(),
        writer_gid_seq: writers.iter().copied().map(gid).collect(),
    };
    ParticipantEntitiesInfo { gid: gid(participant.guid()), node_entities_info_seq: vec![node] }
}

/// The services that others offer, as far as they have been discovered: absolute name and ROS type.
pub fn services(participant: &DomainParticipant) -> BTreeMap<String, String> {
    let of_request = |topic: &str, dds_type: &str| {
        let service = topic.strip_prefix("rq")?.strip_suffix("Request")?;
        let (package, name) = dds_type.strip_suffix("_Request_")?.split_once("::srv::dds_::")?;
        Some((service.to_owned(), format!("{package}/srv/{name}")))
    };
    let readers = participant.discovered_readers();
    let topics = readers.iter().map(|reader| &reader.subscription_topic_data);
    topics.filter_map(|topic| of_request(&topic.topic_name, topic.type_name())).collect()
}

/// Which remote endpoints our own are matched with.
pub struct Matches {
    listener: DomainParticipantStatusListener,
    peers: BTreeMap<GUID, BTreeSet<GUID>>,
    names: BTreeMap<GUID, String>,
}

impl Matches {
    /// Nobody yet.
    pub fn new(participant: &DomainParticipant) -> Self {
        Self { listener: participant.status_listener(), peers: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// Gives one of our endpoints a name for messages.
    pub fn name(&mut self, endpoint: GUID, name: &str) {
        self.names.insert(endpoint, name.to_owned());
    }

    /// Takes the news from discovery.
    pub fn update(&mut self) {
        while let Some(event) = self.listener.try_recv_status() {
            match event {
                DomainParticipantStatusEvent::RemoteReaderMatched { local_writer, remote_reader } => {
                    self.peers.entry(local_writer).or_default().insert(remote_reader);
                }
                DomainParticipantStatusEvent::RemoteWriterMatched { local_reader, remote_writer } => {
                    self.peers.entry(local_reader).or_default().insert(remote_writer);
                }
                DomainParticipantStatusEvent::ReaderLost { guid, .. }
                | DomainParticipantStatusEvent::WriterLost { guid, .. } => {
                    for peers in self.peers.values_mut() {
                        peers.remove(&guid);
                    }
                }
                DomainParticipantStatusEvent::ParticipantLost { id, .. } => {
                    for peers in self.peers.values_mut() {
                        peers.retain(|peer| peer.prefix != id);
                    }
                }
                DomainParticipantStatusEvent::RemoteReaderQosIncompatible { local_writer: ours, .. }
                | DomainParticipantStatusEvent::RemoteWriterQosIncompatible { local_reader: ours, .. } => {
                    if let Some(name) = self.names.get(&ours) {
                        tracing::warn!(
                            topic = name,
                            "another node asks for a quality of service that does not fit ours"
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether one of our endpoints has a peer; in the participant of `of`, if given.
    pub fn has_peer(&self, endpoint: GUID, of: Option<GUID>) -> bool {
        self.peers.get(&endpoint).is_some_and(|peers| {
            of.map_or(!peers.is_empty(), |guid| peers.iter().any(|peer| peer.prefix == guid.prefix))
        })
    }
}
