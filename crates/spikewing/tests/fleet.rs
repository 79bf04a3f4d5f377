//! Several drones, each in a namespace of its own, and one learner.
//!
//! Over DDS it takes a minute and wants a network of its own:
//! `.ci/loopback cargo test -p spikewing --test fleet -- --ignored`

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{options, run};
use spikewing::{fleet, registry};
use spikewing_msgs::{Message, spikewing_msgs as sw};
use spikewing_runtime::{
    Node, NodeOptions, Outbox, Received, Time,
    dds::{self, DdsConfig},
    local::Composition,
    parameter::Value,
    port::{Input, Interface, Qos},
};

/// What the drones share; every other topic is one drone's.
const SHARED: [&str; 6] =
    ["/clock", "/experience", "/policy/update", "/learner/jump_start", "/learner/status", "/diagnostics"];

#[derive(Default)]
struct Seen {
    /// Steps by actor.
    experience: BTreeMap<String, usize>,
    swaps: BTreeMap<String, u64>,
    student: BTreeMap<String, usize>,
    strays: Vec<String>,
}

#[test]
fn two_drones_fly_apart_and_one_learner_takes_the_experience_of_both() {
    let settings = [
        ("online_learner", "jump_start.episodes", Value::Integer(0)),
        ("online_learner", "start_steps", Value::Integer(300)),
        ("online_learner", "batch", Value::Integer(8)),
        ("online_learner", "publish_every_updates", Value::Integer(10)),
        ("online_learner", "evaluation_episodes", Value::Integer(1)),
    ];
    let one: Vec<NodeOptions> =
        registry::NODES.into_iter().map(|kind| options(kind, "train.yaml", &settings)).collect();
    let mut composition = Composition::new();
    for (kind, options) in fleet::nodes(&one, 2).unwrap() {
        composition.add(kind, &options).unwrap();
    }
    let seen = Rc::<RefCell<Seen>>::default();
    let into = Rc::clone(&seen);
    composition.observe(move |_, topic, message| {
        let mut s = into.borrow_mut();
        let drone = topic.split('/').nth(1).unwrap_or_default().to_owned();
        if !drone.starts_with("drone_") && !SHARED.contains(&topic) && !s.strays.iter().any(|t| t == topic) {
            s.strays.push(topic.to_owned());
        }
        if let Some(m) = sw::Experience::peel(message) {
            *s.experience.entry(m.actor_id.clone()).or_default() += 1;
        } else if let Some(m) = sw::PolicyStatus::peel(message) {
            s.swaps.insert(drone, m.swaps);
        } else if let Some(m) = sw::MotorCommand::peel(message)
            && topic.matches('/').count() == 2
            && m.source == sw::MotorCommand::SOURCE_STUDENT
        {
            *s.student.entry(drone).or_default() += 1;
        }
    });
    run(composition, 40.0);
    let s = seen.borrow();
    assert!(s.strays.is_empty(), "topics that the drones would mix up: {:?}", s.strays);
    for drone in ["drone_0", "drone_1"] {
        let experience = s.experience.get(&format!("/{drone}")).copied().unwrap_or_default();
        assert!(experience > 500, "{drone}: {experience} steps of experience");
        assert!(s.swaps.get(drone).is_some_and(|n| *n >= 3), "{drone}: {:?}", s.swaps);
        assert!(s.student.get(drone).is_some_and(|n| *n > 100), "{drone}: {:?}", s.student);
    }
}

const DOMAIN: u16 = 117;
const COMMANDS: [Input<sw::MotorCommand>; 2] =
    [Input::new("/drone_0/command", Qos::sensor(50)), Input::new("/drone_1/command", Qos::sensor(50))];
const POLICIES: [Input<sw::PolicyStatus>; 2] = [
    Input::new("/drone_0/policy/status", Qos::latched()),
    Input::new("/drone_1/policy/status", Qos::latched()),
];
const VEHICLES: [Input<sw::VehicleStatus>; 2] = [
    Input::new("/drone_0/vehicle/status", Qos::sensor(5)),
    Input::new("/drone_1/vehicle/status", Qos::sensor(5)),
];

/// What was heard of each drone.
#[derive(Default)]
struct Heard {
    commands: [usize; 2],
    /// Longest time between two commands, and when the last one came.
    gap: [Duration; 2],
    last: [Option<Instant>; 2],
    swaps: [u64; 2],
    armed: [bool; 2],
}

struct Watcher(Arc<Mutex<Heard>>);

impl Node for Watcher {
    fn interface(&self) -> Interface {
        (0..2)
            .fold(Interface::new(), |all, i| all.input(&COMMANDS[i]).input(&POLICIES[i]).input(&VEHICLES[i]))
    }

    fn on_message(&mut self, _now: Time, message: &Received<'_>, _out: &mut Outbox) {
        let mut h = self.0.lock().unwrap();
        for i in 0..2 {
            if message.on(&COMMANDS[i]).is_some() {
                h.commands[i] += 1;
                let gap = h.last[i].map_or(Duration::ZERO, |at| at.elapsed());
                h.gap[i] = h.gap[i].max(gap);
                h.last[i] = Some(Instant::now());
            } else if let Some(m) = message.on(&POLICIES[i]) {
                h.swaps[i] = m.swaps;
            } else if let Some(m) = message.on(&VEHICLES[i]) {
                h.armed[i] = m.armed;
            }
        }
    }
}

struct Fleet {
    launch: Child,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
}

impl Fleet {
    fn start(run_dir: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let launch = Command::new(env!("CARGO_BIN_EXE_spikewing"))
            .arg("launch")
            .arg(root.join("launch/fleet_sim.launch.yaml"))
            .args(["n:=2".to_owned(), format!("run_dir:={}", run_dir.display())])
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

    fn until(&self, what: &str, done: impl Fn(&Heard) -> bool) {
        let begin = Instant::now();
        while !done(&self.heard.lock().unwrap()) {
            assert!(begin.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` of a node of the first drone.
    fn kill(&self, node: &str) {
        let parent = format!("PPid:\t{}\n", self.launch.id());
        let ours = |pid: &str| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let arguments = read("cmdline");
            read("status").contains(&parent)
                && arguments.split('\0').any(|a| a == node)
                && arguments.contains("__ns:=/drone_0")
        };
        let entries = std::fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut pids = pids.filter(|pid| pid.parse::<u32>().is_ok());
        let pid = pids.find(|pid| ours(pid)).unwrap_or_else(|| panic!("no process of {node}"));
        // SAFETY: sends a signal to a process that our own child started.
        unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // SAFETY: signals our own child.
        unsafe { libc::kill(libc::pid_t::try_from(self.launch.id()).unwrap(), libc::SIGINT) };
        let _ = self.launch.wait();
    }
}

#[test]
#[ignore = "a minute over DDS, in a network of its own"]
fn a_killed_node_of_one_drone_does_not_disturb_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path());
    fleet.until("both fly", |h| h.armed == [true, true] && h.commands.iter().all(|n| *n > 300));
    fleet.until("both fly the learner's weights", |h| h.swaps.iter().all(|n| *n > 0));
    for node in ["state_estimator", "guide_policy", "snn_policy", "supervisor", "px4_bridge", "simulator"] {
        {
            let mut h = fleet.heard.lock().unwrap();
            h.gap = [Duration::ZERO; 2];
            h.commands = [0; 2];
        }
        fleet.kill(node);
        fleet.until("the other flies on", |h| h.commands[1] > 300);
        let h = fleet.heard.lock().unwrap();
        println!("{node} of drone_0 killed: drone_1 had a command every {:?} at the latest", h.gap[1]);
        assert!(h.armed[1], "{node}: drone_1 was disarmed");
        // A busy machine delays it; had it lost its own node it would be silent for longer.
        assert!(h.gap[1] < Duration::from_secs(1), "{node}: {:?} without a command", h.gap[1]);
    }
}
