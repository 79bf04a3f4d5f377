//! Publishers whose quality of service does not fit what a node asks for, found by looking at the graph.
//!
//! r2r hands out nothing by which rcl could tell of *subscribers* that ask for more than a node offers; rclcpp and rclpy
//! tell their own users.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use r2r::qos::{DurabilityPolicy, ReliabilityPolicy};

use crate::{
    host::plan::Plan,
    port::{Durability, Qos, Reliability},
};

/// How often the publishers of one topic are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Looks at one topic after the other.
pub struct Watch {
    topics: Vec<(String, Qos)>,
    next: usize,
    looked: Instant,
    known: BTreeSet<(usize, Vec<u8>)>,
}

impl Watch {
    /// For all inputs of a node.
    pub fn new(plan: &Plan) -> Self {
        let topics = plan.inputs.iter().map(|end| (end.topic.clone(), end.qos)).collect();
        Self { topics, next: 0, looked: Instant::now(), known: BTreeSet::new() }
    }

    /// Warns once of each publisher that is not heard.
    pub fn look(&mut self, node: &r2r::Node) {
        if self.looked.elapsed() < LOOK || self.topics.is_empty() {
            return;
        }
        self.looked = Instant::now();
        let index = self.next % self.topics.len();
        self.next = index + 1;
        let Some((topic, asked)) = self.topics.get(index) else { return };
        let Ok(publishers) = node.get_publishers_info_by_topic(topic, false) else { return };
        for publisher in publishers {
            let Some(lacks) = lacks(*asked, &publisher.qos_profile) else { continue };
            if self.known.insert((index, publisher.endpoint_gid.to_vec())) {
                tracing::warn!(
                    topic,
                    "{}{}{} is not heard: it publishes {lacks}",
                    publisher.node_namespace,
                    if publisher.node_namespace.ends_with('/') { "" } else { "/" },
                    publisher.node_name
                );
            }
        }
    }
}

fn lacks(asked: Qos, offered: &r2r::QosProfile) -> Option<&'static str> {
    if asked.reliability == Reliability::Reliable && offered.reliability == ReliabilityPolicy::BestEffort {
        return Some("best effort, but reliable is asked for");
    }
    if asked.durability == Durability::TransientLocal && offered.durability == DurabilityPolicy::Volatile {
        return Some("volatile, but transient local is asked for");
    }
    None
}
