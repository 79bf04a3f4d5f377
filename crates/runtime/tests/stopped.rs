//! A process that is stopped for a moment and goes on (SIGSTOP, a debugger, a container's freezer) hears and is heard
//! as before. It stops the whole test process, so it is alone in this file.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod toy;

use std::{
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

const PING: Output<MotorCommand> = Output::new("ping", Qos::sensor(1));
const PING_IN: Input<MotorCommand> = Input::new("ping", Qos::sensor(1));
const PATIENCE: Duration = Duration::from_secs(20);

fn listener(config: DdsConfig, name: &str) -> (Running, Receiver<u64>) {
    let (sender, heard) = mpsc::channel();
    let interface = Interface::new().input(&PING_IN);
    let running = Running::start(config, named(name), interface, move |_, call, _| {
        if let Call::Message(message) = call
            && let Some(ping) = message.on(&PING_IN)
        {
            let _ = sender.send(ping.policy_version);
        }
    });
    (running, heard)
}

/// Another process stops this one for 50 ms, as a person or a debugger would.
fn stop_for_a_moment() {
    let begin = Instant::now();
    let script = format!("kill -STOP {0}; sleep 0.05; kill -CONT {0}", std::process::id());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    assert!(begin.elapsed() >= Duration::from_millis(50), "it was not stopped");
}

#[test]
fn a_process_that_was_stopped_hears_is_heard_and_finds_others() {
    let config = DdsConfig { domain_id: 114, ..DdsConfig::default() };
    let mut version = 0;
    let interface = Interface::new().output(&PING).timer("tick", Span::from_millis(10));
    let _speaker = Running::start(config, named("speaker"), interface, move |_, call, out| {
        if let Call::Timer = call {
            version += 1;
            out.publish(&PING, MotorCommand { policy_version: version, ..MotorCommand::default() });
        }
    });
    let (_early, early) = listener(config, "early");
    for round in 0..3 {
        early.recv_timeout(PATIENCE).expect("nothing heard before");
        stop_for_a_moment();
        while early.try_recv().is_ok() {}
        early.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("deaf after stop {round}"));
    }
    let (_late, late) = listener(config, "late");
    late.recv_timeout(PATIENCE).expect("a newcomer is not found after a stop");
}
