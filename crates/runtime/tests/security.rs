//! DDS security with credentials as `ros2 security` makes them: whoever has none neither hears nor speaks.
//!
//! Needs the feature and the program `openssl`: `cargo test -p spikewing-runtime --features security --test security`

#![cfg(feature = "security")]
#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod toy;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use spikewing_msgs::spikewing_msgs::MotorCommand;
use spikewing_runtime::{
    Span,
    dds::DdsConfig,
    port::{Input, Interface, Output, Qos},
};
use toy::{Call, Running, named};

const DOMAIN: u16 = 115;
const PATIENCE: Duration = Duration::from_secs(30);
const COMMAND: Output<MotorCommand> = Output::new("command", Qos::sensor(5));
const COMMAND_IN: Input<MotorCommand> = Input::new("command", Qos::sensor(5));

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A keystore of its own authority with two enclaves, protected as `ros2 security create_keystore` does.
fn keystore(folder: &Path) -> [&'static Path; 2] {
    std::fs::create_dir_all(folder).unwrap();
    openssl(folder, "ecparam -name prime256v1 -out curve.pem");
    openssl(
        folder,
        "req -x509 -newkey param:curve.pem -nodes -keyout ca.key.pem -out ca.cert.pem -days 30 -subj /CN=sros2CA",
    );
    let governance = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_governance.xsd">
  <domain_access_rules><domain_rule>
    <domains><id>{DOMAIN}</id></domains>
    <allow_unauthenticated_participants>false</allow_unauthenticated_participants>
    <enable_join_access_control>true</enable_join_access_control>
    <discovery_protection_kind>ENCRYPT</discovery_protection_kind>
    <liveliness_protection_kind>ENCRYPT</liveliness_protection_kind>
    <rtps_protection_kind>ENCRYPT</rtps_protection_kind>
    <topic_access_rules><topic_rule>
      <topic_expression>*</topic_expression>
      <enable_discovery_protection>true</enable_discovery_protection>
      <enable_liveliness_protection>true</enable_liveliness_protection>
      <enable_read_access_control>true</enable_read_access_control>
      <enable_write_access_control>true</enable_write_access_control>
      <metadata_protection_kind>ENCRYPT</metadata_protection_kind>
      <data_protection_kind>ENCRYPT</data_protection_kind>
    </topic_rule></topic_access_rules>
  </domain_rule></domain_access_rules>
</dds>
"#
    );
    std::fs::write(folder.join("governance.xml"), governance).unwrap();
    sign(folder, "governance");
    ["/drone/speaker", "/drone/listener"].map(|enclave| {
        let place = folder.join("enclaves").join(enclave.trim_matches('/'));
        std::fs::create_dir_all(&place).unwrap();
        let permissions = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_permissions.xsd">
  <permissions><grant name="{enclave}">
    <subject_name>CN={enclave}</subject_name>
    <validity><not_before>2020-01-01T00:00:00</not_before><not_after>2100-01-01T00:00:00</not_after></validity>
    <allow_rule>
      <domains><id>{DOMAIN}</id></domains>
      <publish><topics><topic>*</topic></topics></publish>
      <subscribe><topics><topic>*</topic></topics></subscribe>
    </allow_rule>
    <default>DENY</default>
  </grant></permissions>
</dds>
"#
        );
        std::fs::write(folder.join("permissions.xml"), permissions).unwrap();
        sign(folder, "permissions");
        // A slash within a name has to be escaped.
        let subject = format!("/CN={}", enclave.replace('/', "\\/"));
        openssl(folder, &format!("req -newkey param:curve.pem -nodes -keyout key.pem -out request.pem -subj {subject}"));
        openssl(folder, "x509 -req -days 30 -in request.pem -CA ca.cert.pem -CAkey ca.key.pem -CAcreateserial -out cert.pem");
        for (from, to) in [
            ("ca.cert.pem", "identity_ca.cert.pem"),
            ("ca.cert.pem", "permissions_ca.cert.pem"),
            ("cert.pem", "cert.pem"),
            ("key.pem", "key.pem"),
            ("governance.p7s", "governance.p7s"),
            ("permissions.p7s", "permissions.p7s"),
        ] {
            std::fs::copy(folder.join(from), place.join(to)).unwrap();
        }
        &*Box::leak(place.into_boxed_path())
    })
}

fn sign(folder: &Path, document: &str) {
    openssl(
        folder,
        &format!(
            "smime -sign -in {document}.xml -text -out {document}.p7s -signer ca.cert.pem -inkey ca.key.pem"
        ),
    );
}

fn with(enclave: Option<&'static Path>) -> DdsConfig {
    DdsConfig { domain_id: DOMAIN, enclave, ..DdsConfig::default() }
}

fn speaker(name: &str, enclave: Option<&'static Path>, number: u64) -> Running {
    let interface = Interface::new().output(&COMMAND).timer("tick", Span::from_millis(20));
    Running::start(with(enclave), named(name), interface, move |_, call, out| {
        if let Call::Timer = call {
            out.publish(&COMMAND, MotorCommand { policy_version: number, ..MotorCommand::default() });
        }
    })
}

fn listener(name: &str, enclave: Option<&'static Path>) -> (Running, Receiver<u64>) {
    let (sender, heard) = mpsc::channel();
    let interface = Interface::new().input(&COMMAND_IN);
    let running = Running::start(with(enclave), named(name), interface, move |_, call, _| {
        if let Call::Message(message) = call
            && let Some(command) = message.on(&COMMAND_IN)
        {
            let _ = sender.send(command.policy_version);
        }
    });
    (running, heard)
}

#[test]
fn who_has_no_credentials_neither_hears_nor_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| -> PathBuf { dir.path().join(name) };
    let [speaks, listens] = keystore(&of("ours"));
    let [stranger, _] = keystore(&of("another"));
    let _ours = speaker("ours", Some(speaks), 1);
    let _without = speaker("without", None, 2);
    let _foreign = speaker("foreign", Some(stranger), 3);
    let (_listener, heard) = listener("listener", Some(listens));
    let (_spy, overheard) = listener("spy", None);
    let begin = Instant::now();
    heard.recv_timeout(PATIENCE).expect("the two with credentials do not talk");
    println!("authenticated and heard after {:.1?}", begin.elapsed());
    std::thread::sleep(Duration::from_secs(4));
    let (heard, overheard): (Vec<u64>, Vec<u64>) =
        (heard.try_iter().collect(), overheard.try_iter().collect());
    assert!(heard.len() > 50 && heard.iter().all(|&number| number == 1), "{heard:?}");
    assert!(!overheard.is_empty(), "without credentials they hear each other");
    assert!(overheard.iter().all(|&number| number == 2), "{overheard:?}");
}
