//! The node's logic.

use std::{collections::BTreeMap, path::PathBuf};

use spikewing_bag::{Limits, Losses, Recording, Topic, schema_text};
use spikewing_runtime::{
    Context, Node, Outbox, Received, Span, Time,
    node::{BuildError, Finish, Shutdown},
    port::{Interface, TopicEnd},
};

use crate::{
    settings::{ALSO, DRONES, FILE, FILE_MB, FILES, SKIP},
    topics::{OF_A_DRONE, Recorded, SHARED},
};

const CHECK: &str = "check";
const CHECK_PERIOD: Span = Span::from_millis(1000);
/// A recorder that is to stop goes on while others still fly: until nothing was heard for so long.
const SILENCE: Span = Span::from_millis(600);
const MEGABYTE: u64 = 1_000_000;

/// The node's logic.
pub struct Recorder {
    topics: Vec<Recorded>,
    numbers: BTreeMap<&'static str, usize>,
    /// From the start on: a node that is only looked at makes no file.
    recording: Option<Recording>,
    path: PathBuf,
    described: Vec<Topic>,
    limits: Limits,
    told: Losses,
    heard: Option<Time>,
    stopping_since: Option<Time>,
}

impl Recorder {
    /// From resolved parameters.
    ///
    /// # Errors
    /// When a parameter names what does not exist.
    pub fn new(context: &Context<'_>) -> Result<Self, BuildError> {
        let p = context.parameters;
        let topics = chosen(p.get(&DRONES)?, &p.get(&SKIP)?, &p.get(&ALSO)?)?;
        let described = topics.iter().map(|topic| Topic {
            name: absolute(context.namespace, topic.name),
            ros_type: topic.ros_type.to_owned(),
            schema: schema_text(topic.ros_type, topic.definition),
            retention: topic.retention(),
        });
        let path = p.get(&FILE)?.unwrap_or_else(|| PathBuf::from("flight.mcap"));
        let limits =
            Limits { file_bytes: u64::from(p.get(&FILE_MB)?) * MEGABYTE, files: p.get(&FILES)? as usize };
        Ok(Self {
            numbers: topics.iter().enumerate().map(|(number, topic)| (topic.name, number)).collect(),
            described: described.collect(),
            topics,
            recording: None,
            path,
            limits,
            told: Losses::default(),
            heard: None,
            stopping_since: None,
        })
    }
}

/// What is recorded.
fn chosen(drones: u32, skip: &[String], also: &[String]) -> Result<Vec<Recorded>, String> {
    let known = |name: &str| SHARED.iter().chain(&OF_A_DRONE).any(|t| t.name == name);
    if let Some(unknown) = skip.iter().find(|name| !known(name)) {
        return Err(format!("parameter skip: there is no topic `{unknown}`; `spikewing topics` names them"));
    }
    let mut topics: Vec<Recorded> = SHARED.iter().chain(&OF_A_DRONE).copied().collect();
    topics.extend(
        (0..drones).flat_map(|i| OF_A_DRONE.iter().map(move |topic| topic.within(&format!("drone_{i}")))),
    );
    topics.retain(|t| {
        !skip.iter().any(|s| {
            t.name == s
                || t.name.split_once('/').is_some_and(|(_, rest)| rest == s && t.name.starts_with("drone_"))
        })
    });
    for line in also {
        let (name, ros_type) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("parameter also: `{line}`: expected `NAME TYPE`"))?;
        let topic = Recorded::named(name, ros_type.trim()).map_err(|e| format!("parameter also: {e}"))?;
        if topics.iter().any(|t| t.name == topic.name) {
            return Err(format!("parameter also: `{name}` is recorded anyway"));
        }
        topics.push(topic);
    }
    Ok(topics)
}

/// A topic's absolute name.
fn absolute(namespace: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{}/{name}", namespace.trim_end_matches('/'))
    }
}

impl Node for Recorder {
    fn interface(&self) -> Interface {
        let mut interface = Interface::new().timer(CHECK, CHECK_PERIOD);
        interface.inputs = self
            .topics
            .iter()
            .map(|t| TopicEnd { name: t.name, ros_type: t.ros_type, message: t.message, qos: t.qos })
            .collect();
        interface
    }

    fn on_start(&mut self, _now: Time, out: &mut Outbox) {
        match Recording::start(&self.path, std::mem::take(&mut self.described), self.limits) {
            Ok(recording) => {
                tracing::info!("records into {}", recording.path().display());
                self.recording = Some(recording);
            }
            Err(error) => {
                out.finish(Finish::Failure(format!("parameter file: {}: {error}", self.path.display())));
            }
        }
    }

    fn on_message(&mut self, now: Time, received: &Received<'_>, _out: &mut Outbox) {
        let (Some(&topic), Some(recording)) = (self.numbers.get(received.port), &self.recording) else {
            return;
        };
        self.heard = Some(now);
        match received.message.encode() {
            Ok(bytes) => {
                let time = u64::try_from(now.nanoseconds()).unwrap_or(0);
                recording.write(topic, time, time, bytes);
            }
            Err(error) => tracing::warn!(topic = received.port, "not recorded: {error}"),
        }
    }

    fn on_timer(&mut self, _now: Time, _timer: &'static str, _out: &mut Outbox) {
        let Some(losses) = self.recording.as_ref().map(Recording::losses) else { return };
        if let Some(reason) = losses.stopped.as_ref().filter(|_| self.told.stopped.is_none()) {
            tracing::error!("nothing is recorded any more: {reason}; what was recorded stays");
        } else if losses.messages > self.told.messages && losses.stopped.is_none() {
            tracing::warn!(
                "{} messages are not in the bag: the disk did not follow",
                losses.messages - self.told.messages
            );
        }
        self.told = losses;
    }

    fn on_shutdown(&mut self, now: Time, _out: &mut Outbox) -> Shutdown {
        let since = *self.stopping_since.get_or_insert(now);
        let heard = self.heard.map_or(since, |heard| heard.max(since));
        if now - heard < SILENCE { Shutdown::Wait } else { Shutdown::Done }
    }
}
