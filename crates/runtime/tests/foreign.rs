//! A live exchange with a foreign DDS: every message type, over topics, both ways.
//!
//! A node of ours sends back what arrives; Eclipse Cyclone DDS sends a message of each type and compares what comes back
//! field for field. Needs a Python with PyPI's `cyclonedds`, and a loopback interface with multicast:
//! `SPIKEWING_CYCLONEDDS_PYTHON=/path/to/python .ci/loopback cargo test -p spikewing-runtime --test foreign -- --ignored`

mod toy;

use std::{collections::BTreeMap, path::Path, process::Command};

use spikewing_msgs::Message;
use spikewing_runtime::{
    dds::DdsConfig,
    node::Effect,
    port::{Input, Interface, Output, Qos},
};
use toy::{Call, Running, named};

const DOMAIN: u16 = 111;
/// Only this machine; found by number of the participant, and by multicast.
const CYCLONE: &str = r#"<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo" multicast="true"/></Interfaces></General><Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>30</MaxAutoParticipantIndex><Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"#;

#[test]
#[ignore = "needs SPIKEWING_CYCLONEDDS_PYTHON and a loopback with multicast"]
fn every_message_goes_to_cyclone_dds_and_back() {
    let python = std::env::var("SPIKEWING_CYCLONEDDS_PYTHON").unwrap();
    let mut interface = Interface::new();
    let mut back_of = BTreeMap::new();
    let mut exchanged = Vec::new();
    macro_rules! enter {
        ($message:ty, $name:expr) => {
            // The file's own name: two releases of PX4 lay one type out differently.
            let rust = std::any::type_name::<$message>().rsplit("::").next().unwrap();
            let (folder, _) = $name.rsplit_once('/').unwrap();
            let key = format!("{folder}/{rust}");
            let topic = key.replace('/', "_").to_lowercase();
            let there: &'static str = format!("there/{topic}").leak();
            let back: &'static str = format!("back/{topic}").leak();
            interface =
                interface
                    .input(&Input::<$message>::new(there, Qos::reliable(5)))
                    .output(&Output::<$message>::new(back, Qos::reliable(5)));
            back_of.insert(there, back);
            let topics = [there, back].map(|name| format!("rt/{name}"));
            exchanged.push((key, <$message as Message>::TYPE, topics[0].clone(), topics[1].clone()));
        };
    }
    spikewing_msgs::for_each_message!(enter);
    assert!(exchanged.len() > 60);

    let config = DdsConfig { domain_id: DOMAIN, ..DdsConfig::default() };
    let _echo = Running::start(config, named("echo"), interface, move |_, call, out| match call {
        Call::Message(received) => {
            let message = received.message.clone();
            out.push(Effect::Publish { port: back_of[received.port], message });
        }
        Call::Malformed(reason) => panic!("{reason}"),
        _ => {}
    });
    let msgs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../msgs");
    let output = Command::new(python)
        .arg(msgs.join("tests/interop/peer.py"))
        .arg("live")
        .arg(&msgs)
        .arg(serde_json::to_string(&exchanged).unwrap())
        .env("ROS_DOMAIN_ID", DOMAIN.to_string())
        .env("CYCLONEDDS_URI", CYCLONE)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
}
