//! `spikewing topics`: every topic and service of the suite with its type and its quality of service.

use std::{collections::BTreeMap, fmt::Write};

use clap::Args;
use spikewing::registry;
use spikewing_runtime::{
    NodeOptions,
    port::{Durability, Qos, Reliability},
};

use crate::Failure;

/// List every topic and service, with type and quality of service
#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// As the page msgs/TOPICS.md
    #[arg(long)]
    markdown: bool,
}

/// Everyone who has to do with one topic.
#[derive(Default)]
struct Ends {
    publishers: Vec<(&'static str, Qos)>,
    subscribers: Vec<(&'static str, Qos)>,
}

/// By name and type: PX4 has one name for several layouts.
type Topics = BTreeMap<(String, &'static str), Ends>;
/// Name and type to server and clients.
type Services = BTreeMap<(String, &'static str), (Vec<&'static str>, Vec<&'static str>)>;

impl TopicsArgs {
    /// Prints the list.
    pub fn run(self) -> Result<(), Failure> {
        let (topics, services) = collect()?;
        print!("{}", if self.markdown { page(&topics, &services) } else { plain(&topics, &services) });
        Ok(())
    }
}

fn collect() -> Result<(Topics, Services), Failure> {
    let (mut topics, mut services) = (Topics::new(), Services::new());
    for kind in registry::NODES {
        let options = NodeOptions::of(kind);
        let interface = (kind.build)(&options.context())?.interface();
        for (ends, publishes) in [(&interface.outputs, true), (&interface.inputs, false)] {
            for end in ends {
                let topic = topics.entry((shown(end.name, kind.name), end.ros_type)).or_default();
                let list = if publishes { &mut topic.publishers } else { &mut topic.subscribers };
                list.push((kind.name, end.qos));
            }
        }
        for end in &interface.servers {
            services.entry((shown(end.name, kind.name), end.ros_type)).or_default().0.push(kind.name);
        }
        for end in &interface.clients {
            services.entry((shown(end.name, kind.name), end.ros_type)).or_default().1.push(kind.name);
        }
    }
    Ok((topics, services))
}

/// A node's private names stand under the node's own.
fn shown(name: &str, node: &str) -> String {
    name.strip_prefix("~/").map_or_else(|| name.to_owned(), |rest| format!("{node}/{rest}"))
}

fn words(qos: Qos) -> String {
    let reliability = match qos.reliability {
        Reliability::BestEffort => "best effort",
        Reliability::Reliable => "reliable",
    };
    let durability = match qos.durability {
        Durability::Volatile => "volatile",
        Durability::TransientLocal => "transient local",
    };
    format!("{reliability}, {durability}, {}", qos.depth)
}

/// Names, and the quality of service where it is one for all; else behind each name.
fn side(ends: &[(&'static str, Qos)]) -> (String, String) {
    let same = ends.iter().all(|(_, qos)| Some(qos) == ends.first().map(|(_, qos)| qos));
    let names: Vec<String> = ends
        .iter()
        .map(|(name, qos)| if same { (*name).to_owned() } else { format!("{name} ({})", words(*qos)) })
        .collect();
    let qos = ends.first().filter(|_| same).map(|(_, qos)| words(*qos)).unwrap_or_default();
    (names.join(", "), qos)
}

fn plain(topics: &Topics, services: &Services) -> String {
    let mut text = String::new();
    for ((name, ros_type), ends) in topics {
        let _ = writeln!(text, "{name}  {ros_type}");
        for (verb, ends) in [("published by", &ends.publishers), ("heard by", &ends.subscribers)] {
            for (node, qos) in ends {
                let _ = writeln!(text, "    {verb} {node}: {}", words(*qos));
            }
        }
    }
    for ((name, ros_type), (servers, clients)) in services {
        let _ = writeln!(text, "{name}  {ros_type}");
        for (verb, nodes) in [("offered by", servers), ("called by", clients)] {
            for node in nodes {
                let _ = writeln!(text, "    {verb} {node}");
            }
        }
    }
    text
}

const HEAD: &str = "# Topics, services and their quality of service

Made by `spikewing topics --markdown`, and checked by a test. Names are relative: a namespace puts them under itself. Quality of
service is written as reliability, durability, depth (keep last). With parameters other than the defaults a node may use others
of PX4's versioned names.

**To hear a topic** ask for no more than its publisher offers: a *best effort* topic is heard by best-effort subscriptions alone (in
rclpy `qos_profile_sensor_data`; `ros2 topic echo` finds that out by itself), and a *transient local* one gives a late subscription its last
sample only if that asks for transient local too. **To be heard**, offer no less than the subscriber asks for: where transient local is asked
for (`policy/update`), a volatile publisher is not heard. Nodes warn of a publisher that they cannot hear, and say which.

";

fn page(topics: &Topics, services: &Services) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(
        "| topic | type | published by | offered | heard by | asked for |\n|---|---|---|---|---|---|\n",
    );
    for ((name, ros_type), ends) in topics {
        let (publishers, offered) = side(&ends.publishers);
        let (subscribers, asked) = side(&ends.subscribers);
        let _ =
            writeln!(text, "| `{name}` | {ros_type} | {publishers} | {offered} | {subscribers} | {asked} |");
    }
    text.push_str(
        "\nEvery node also publishes `/rosout` (reliable, transient local, 100) and `/parameter_events` (reliable, volatile, 100), and \
         with `use_sim_time` listens to `/clock` (best effort, volatile, 1).\n\n| service | type | offered by | called by |\n|---|---|---|---|\n",
    );
    for ((name, ros_type), (servers, clients)) in services {
        let _ = writeln!(text, "| `{name}` | {ros_type} | {} | {} |", servers.join(", "), clients.join(", "));
    }
    text.push_str("\nEvery node offers the six parameter services of ROS 2 under its own name.\n");
    text
}
