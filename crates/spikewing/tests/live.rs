//! Seven processes over DDS, live: weights are swapped in flight, and any node may be killed.
//!
//! Takes a minute and a half and wants a network of its own: `.ci/loopback cargo test -p spikewing --test live -- --ignored`

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{
    Node, NodeOptions, Outbox, Received, Time,
    dds::{self, DdsConfig},
    port::{Input, Interface, Qos},
};

const DOMAIN: u16 = 112;
const PERIOD_S: f64 = 0.01;
const PATIENCE: Duration = Duration::from_secs(60);

const COMMAND: Input<sw::MotorCommand> = Input::new("command", Qos::sensor(50));
const POLICY: Input<sw::PolicyStatus> = Input::new("policy/status", Qos::latched());
const LEARNER: Input<sw::LearnerStatus> = Input::new("learner/status", Qos::reliable(10));
const VEHICLE: Input<sw::VehicleStatus> = Input::new("vehicle/status", Qos::sensor(5));

/// What was heard.
#[derive(Default)]
struct Heard {
    policy: sw::PolicyStatus,
    learner: sw::LearnerStatus,
    vehicle: sw::VehicleStatus,
    /// Stamp of the state and source of the last commands.
    commands: Vec<(Time, u8)>,
    refused: u64,
}

/// Listens to the launch.
struct Watcher(Arc<Mutex<Heard>>);

impl Node for Watcher {
    fn interface(&self) -> Interface {
        Interface::new().input(&COMMAND).input(&POLICY).input(&LEARNER).input(&VEHICLE)
    }

    fn on_message(&mut self, _now: Time, message: &Received<'_>, _out: &mut Outbox) {
        let mut heard = self.0.lock().unwrap();
        if let Some(m) = message.on(&COMMAND) {
            heard.commands.push((Time::from(&m.odometry_stamp), m.source));
        } else if let Some(m) = message.on(&POLICY) {
            heard.policy = m.clone();
        } else if let Some(m) = message.on(&LEARNER) {
            heard.learner = m.clone();
        } else if let Some(m) = message.on(&VEHICLE) {
            heard.vehicle = m.clone();
        }
    }

    fn on_malformed(&mut self, _now: Time, _topic: &str, _reason: &str, _out: &mut Outbox) {
        self.0.lock().unwrap().refused += 1;
    }
}

struct Live {
    launch: Child,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
}

impl Live {
    fn start(run_dir: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let launch = Command::new(env!("CARGO_BIN_EXE_spikewing"))
            .arg("launch")
            .arg(root.join("launch/train_sim.launch.yaml"))
            .arg(format!("run_dir:={}", run_dir.display()))
            .env("ROS_DOMAIN_ID", DOMAIN.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (node, flag) = (Box::new(Watcher(Arc::clone(&heard))), Arc::clone(&stop));
        let options = NodeOptions { name: "watcher".into(), namespace: "/".into(), ..NodeOptions::default() };
        let config = DdsConfig { domain_id: DOMAIN, ..DdsConfig::default() };
        std::thread::spawn(move || dds::run_node(node, &options, &config, &flag));
        Self { launch, heard, stop }
    }

    /// Waits for something to be heard.
    fn until(&self, what: &str, done: impl Fn(&Heard) -> bool) -> Duration {
        let begin = Instant::now();
        while !done(&self.heard.lock().unwrap()) {
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }

    fn until_the_student_flies(&self) {
        self.heard.lock().unwrap().commands.clear();
        let steadily = |c: &[(Time, u8)]| {
            c.len() > 30 && c.iter().rev().take(30).all(|(_, s)| *s == sw::MotorCommand::SOURCE_STUDENT)
        };
        self.until("the student flies", |h| steadily(&h.commands));
    }

    /// The process of a node of this launch.
    fn process_of(&self, node: &str) -> libc::pid_t {
        let parent = format!("PPid:\t{}\n", self.launch.id());
        let ours = |pid: &str| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("status").contains(&parent) && read("cmdline").split('\0').any(|a| a == node)
        };
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        pids.filter(|pid| pid.parse::<u32>().is_ok()).find(|pid| ours(pid)).unwrap().parse().unwrap()
    }

    fn kill(&self, node: &str) {
        // SAFETY: sends a signal to a process that our own child started.
        unsafe { libc::kill(self.process_of(node), libc::SIGKILL) };
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // SAFETY: our child, not waited for yet.
        unsafe { libc::kill(self.launch.id().cast_signed(), libc::SIGINT) };
        let _ = self.launch.wait();
    }
}

/// Bytes that are no DDS, on the ports of every participant of the domain.
fn throw_garbage() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let base = 7400 + 250 * DOMAIN;
    for round in 0..2000_u32 {
        let noise = (0..round % 300).map(|i| (i.wrapping_mul(round | 1) >> 3) as u8);
        // Every second one begins as a message of the protocol does.
        let datagram: Vec<u8> = if round % 2 == 0 {
            b"RTPS\x02\x04\x01\x12".iter().copied().chain(noise).collect()
        } else {
            noise.collect()
        };
        let _ = socket.send_to(&datagram, ("127.0.0.1", base + u16::try_from(round % 40).unwrap()));
    }
}

#[test]
#[ignore = "takes a minute and a half, and a network of its own"]
fn weights_are_swapped_in_flight_and_any_node_may_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let live = Live::start(dir.path());
    let waited = live.until("ten swaps", |h| h.policy.swaps >= 10);
    {
        let heard = live.heard.lock().unwrap();
        let p = &heard.policy;
        println!("{} swaps in {waited:.1?}; {} of {} ticks missed", p.swaps, p.missed_ticks, p.ticks);
        assert!(p.ticks > 1000 && p.missed_ticks * 20 < p.ticks, "{p:?}");
    }

    throw_garbage();
    let ticks = live.heard.lock().unwrap().policy.ticks;
    live.until("flight after garbage", |h| h.policy.ticks > ticks + 300);

    live.until("a checkpoint", |h| h.learner.updates > 200);
    let before = live.heard.lock().unwrap().learner.clone();
    let (swaps, ticks) = {
        let policy = &live.heard.lock().unwrap().policy;
        (policy.swaps, policy.ticks)
    };
    live.kill("online_learner");
    live.until("flight without the learner", |h| h.policy.ticks > ticks + 100);
    live.heard.lock().unwrap().learner = sw::LearnerStatus::default();
    live.until("the learner is back", |h| h.learner.updates > 0);
    let after = live.heard.lock().unwrap().learner.clone();
    println!("the learner was killed after {} updates and goes on from {}", before.updates, after.updates);
    assert!(after.updates >= 200 && after.updates + 250 > before.updates, "{} updates", after.updates);
    live.until("a swap by the new learner", |h| h.policy.swaps > swaps);

    live.until_the_student_flies();
    live.kill("snn_policy");
    live.until("the guide flies", |h| {
        h.commands.last().is_some_and(|(_, s)| *s == sw::MotorCommand::SOURCE_GUIDE)
    });
    let handover = {
        let commands = &live.heard.lock().unwrap().commands;
        let student = commands.iter().rposition(|(_, s)| *s == sw::MotorCommand::SOURCE_STUDENT).unwrap();
        (commands[student + 1].0 - commands[student].0).seconds()
    };
    println!(
        "the guide's first command is for the state {:.1} periods after the student's last",
        handover / PERIOD_S
    );
    // Two periods, and what a busy machine takes on top.
    assert!(handover < 0.1, "{handover} s");
    live.until_the_student_flies();

    let flown = live.heard.lock().unwrap().commands.len();
    live.kill("supervisor");
    live.until("the next supervisor commands", |h| h.commands.len() > flown + 30);
    let gap = {
        let commands = &live.heard.lock().unwrap().commands[flown - 1..];
        commands.windows(2).map(|w| (w[1].0 - w[0].0).seconds()).fold(0.0, f64::max)
    };
    println!(
        "{gap:.3} s between the last command of the supervisor that was killed and the first of the next"
    );
    // 0.3 s, and what a busy machine takes on top.
    assert!(gap < 0.6, "{gap} s");
    live.until_the_student_flies();
    let vehicle = live.heard.lock().unwrap().vehicle.clone();
    assert!(vehicle.armed && !vehicle.failsafe, "{vehicle:?}");
    assert_eq!(live.heard.lock().unwrap().refused, 0);
}
