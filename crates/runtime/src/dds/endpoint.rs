//! Readers and writers of raw samples.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use rustdds::{
    DomainParticipant, Duration, GUID, Publisher, QosPolicies, QosPolicyBuilder, RTPSEntity, SampleIdentity,
    Subscriber, Timestamp, TopicKind, WriteOptionsBuilder,
    dds::result::{CreateError, WriteError},
    no_key, policy,
};

use super::{
    DdsError,
    raw::{Incoming, Outgoing, RawAdapter},
};
use crate::{
    host::{
        doorbell::{Button, Doorbell},
        throttle::Throttle,
    },
    port::{Durability, Qos, Reliability},
};

/// What services are called with, both ways.
pub const SERVICE_QOS: Qos = Qos::reliable(10);

fn policies(qos: Qos) -> QosPolicies {
    let builder = QosPolicyBuilder::new()
        .durability(match qos.durability {
            Durability::Volatile => policy::Durability::Volatile,
            Durability::TransientLocal => policy::Durability::TransientLocal,
        })
        .history(policy::History::KeepLast { depth: i32::try_from(qos.depth.max(1)).unwrap_or(i32::MAX) });
    match qos.reliability {
        // A write never waits: what does not fit is kept here and tried again.
        Reliability::Reliable => builder.reliable(Duration::ZERO),
        Reliability::BestEffort => builder.best_effort(),
    }
    .build()
}

/// What makes endpoints.
pub struct Factory {
    participant: DomainParticipant,
    publisher: Publisher,
    subscriber: Subscriber,
    bell: Arc<Doorbell>,
}

impl Factory {
    /// For a participant; readers ring the bell.
    pub fn new(participant: &DomainParticipant, bell: &Arc<Doorbell>) -> Result<Self, DdsError> {
        let made = |what: &str, error: CreateError| DdsError::Endpoint {
            what: what.to_owned(),
            reason: error.to_string(),
        };
        let qos = policies(Qos::reliable(1));
        Ok(Self {
            publisher: participant.create_publisher(&qos).map_err(|e| made("publisher", e))?,
            subscriber: participant.create_subscriber(&qos).map_err(|e| made("subscriber", e))?,
            participant: participant.clone(),
            bell: Arc::clone(bell),
        })
    }

    fn topic(&self, name: &str, ty: String, qos: &QosPolicies) -> Result<rustdds::Topic, DdsError> {
        self.participant
            .create_topic(name.to_owned(), ty, qos, TopicKind::NoKey)
            .map_err(|e| failed(name, &e))
    }

    /// A reader of a DDS topic.
    pub fn reader(&self, name: &str, ty: String, qos: Qos) -> Result<Reader, DdsError> {
        let policies = policies(qos);
        let topic = self.topic(name, ty, &policies)?;
        let reader = self
            .subscriber
            .create_simple_datareader_no_key::<Incoming, RawAdapter>(&topic, Some(policies))
            .map_err(|e| failed(name, &e))?;
        let button = Button::new(&self.bell);
        Ok(Reader { name: name.to_owned(), reader, waker: Waker::from(Arc::clone(&button)), button })
    }

    /// A writer of a DDS topic.
    pub fn writer(&self, name: &str, ty: String, qos: Qos) -> Result<Writer, DdsError> {
        let policies = policies(qos);
        let topic = self.topic(name, ty, &policies)?;
        let writer = self
            .publisher
            .create_datawriter_no_key::<Outgoing, RawAdapter>(&topic, Some(policies))
            .map_err(|e| failed(name, &e))?;
        Ok(Writer {
            name: name.to_owned(),
            writer,
            depth: qos.depth.max(1),
            backlog: VecDeque::new(),
            lost: Throttle::default(),
        })
    }
}

fn failed(name: &str, error: &CreateError) -> DdsError {
    DdsError::Endpoint { what: format!("topic {name}"), reason: error.to_string() }
}

/// A sample and where it came from.
#[derive(Debug)]
pub struct Sample {
    /// When it came; orders samples of several readers.
    pub received: Timestamp,
    /// Its writer and number.
    pub identity: SampleIdentity,
    /// The sample that it belongs to, if it says so.
    pub related: Option<SampleIdentity>,
    /// CDR with its header.
    pub bytes: Vec<u8>,
}

/// Reads raw samples.
pub struct Reader {
    name: String,
    reader: no_key::SimpleDataReader<Incoming, RawAdapter>,
    button: Arc<Button>,
    waker: Waker,
}

impl Reader {
    /// Its identity.
    pub fn guid(&self) -> GUID {
        self.reader.guid()
    }

    /// The DDS topic.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands over everything that has come since the last call; `Err` is a sample that is none.
    pub fn take(&self, mut each: impl FnMut(Result<Sample, String>)) {
        if !self.button.take() {
            return;
        }
        // The waker is used up by each arrival. It is put in place before looking, so that nothing slips by.
        self.reader.drain_read_notifications();
        self.reader.set_waker(Some(self.waker.clone()));
        loop {
            match self.reader.try_take_one() {
                Ok(Some(change)) => each(Ok(Sample {
                    received: change.receive_instant,
                    identity: SampleIdentity {
                        writer_guid: change.writer_guid,
                        sequence_number: change.sequence_number,
                    },
                    related: change.related_sample_identity(),
                    bytes: change.sample.0,
                })),
                Ok(None) => return,
                Err(error) => each(Err(format!("{}: {error}", self.name))),
            }
        }
    }
}

/// Writes raw samples, without ever waiting.
pub struct Writer {
    name: String,
    writer: no_key::DataWriter<Outgoing, RawAdapter>,
    depth: usize,
    /// What the middleware had no room for; at most `depth`, the oldest give way.
    backlog: VecDeque<(Outgoing, Option<SampleIdentity>)>,
    lost: Throttle,
}

impl Writer {
    /// Its identity.
    pub fn guid(&self) -> GUID {
        self.writer.guid()
    }

    /// Sends a sample, as one that belongs to `related`. Returns its identity if it went at once.
    pub fn write(&mut self, encoded: Vec<u8>, related: Option<SampleIdentity>) -> Option<SampleIdentity> {
        let sample = Outgoing::new(encoded);
        if self.backlog.is_empty() {
            match self.try_write(sample, related) {
                Ok(identity) => return Some(identity),
                Err(Some(sample)) => self.backlog.push_back((sample, related)),
                Err(None) => {}
            }
            return None;
        }
        if self.backlog.len() >= self.depth {
            self.backlog.pop_front();
            if let Some(total) = self.lost.count() {
                tracing::warn!(
                    topic = self.name,
                    total,
                    "a reader does not keep up; the oldest samples are dropped"
                );
            }
        }
        self.backlog.push_back((sample, related));
        None
    }

    /// Sends what waits. Returns whether nothing is left.
    pub fn flush(&mut self) -> bool {
        while let Some((sample, related)) = self.backlog.pop_front() {
            if let Err(Some(sample)) = self.try_write(sample, related) {
                self.backlog.push_front((sample, related));
                return false;
            }
        }
        true
    }

    fn try_write(
        &mut self,
        sample: Outgoing,
        related: Option<SampleIdentity>,
    ) -> Result<SampleIdentity, Option<Outgoing>> {
        let options = WriteOptionsBuilder::new()
            .source_timestamp(Timestamp::now())
            .related_sample_identity_opt(related)
            .build();
        self.writer.write_with_options(sample, options).map_err(|error| match error {
            WriteError::WouldBlock { data } => Some(data),
            other => {
                if let Some(total) = self.lost.count() {
                    tracing::error!(topic = self.name, total, "not sent: {}", other.forget_data());
                }
                None
            }
        })
    }

    /// Waits until all readers have everything, but not longer than `limit`.
    pub fn settle(&mut self, limit: std::time::Duration) {
        self.flush();
        // Whoever has not taken it by then will not.
        let _ = self.writer.wait_for_acknowledgments(limit);
    }
}
