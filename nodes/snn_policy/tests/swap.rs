//! Swapping weights while the student flies: what takes over, what is refused, and that the tick allocates nothing.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use rand::SeedableRng;
use spikewing_msgs::{Message, geometry_msgs, nav_msgs::Odometry, spikewing_msgs as sw};
use spikewing_runtime::{
    Context, Node, NodeOptions, Outbox, Received, Span, Time,
    node::{Effect, JobResult},
    parameter::Value,
};
use spikewing_snn::{
    Network, Shape,
    policy::{Metadata, Policy},
};
use spikewing_snn_policy::{NODE, sha256};

/// Counts this thread's allocations.
struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Rig {
    node: Box<dyn Node>,
    out: Outbox,
    now: Time,
    status: sw::PolicyStatus,
}

impl Rig {
    fn new(settings: &[(&str, Value)]) -> Self {
        let mut options = NodeOptions::of(&NODE);
        for (name, value) in settings {
            options.parameters.set(name, value.clone()).unwrap();
        }
        let context =
            Context { parameters: &options.parameters, name: &options.name, namespace: &options.namespace };
        let node = (NODE.build)(&context).unwrap();
        Self {
            node,
            out: Outbox::new(),
            now: Time::from_nanoseconds(1_000_000_000),
            status: Default::default(),
        }
    }

    fn message<M: Message>(&mut self, port: &str, message: M) {
        let message = message.wrap();
        self.node.on_message(self.now, &Received { port, message: &message }, &mut self.out);
        self.settle();
    }

    /// Carries out jobs at once, and keeps the last status.
    fn settle(&mut self) {
        loop {
            let effects: Vec<Effect> = self.out.drain().collect();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Spawn(job) => {
                        let result = JobResult { name: job.name, result: Ok((job.work)()) };
                        self.node.on_job(self.now, result, &mut self.out);
                    }
                    Effect::Publish { message, .. } => {
                        if let Some(status) = sw::PolicyStatus::peel(&message) {
                            self.status = status.clone();
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn status(&mut self) -> sw::PolicyStatus {
        self.node.on_timer(self.now, "status", &mut self.out);
        self.settle();
        self.status.clone()
    }

    /// One odometry; returns the commands that it got, and how many allocations the tick made.
    fn tick(&mut self, x: f64) -> (Vec<sw::MotorCommand>, u64) {
        self.now = self.now + Span::from_millis(10);
        let mut odometry = Odometry::default();
        odometry.header.stamp = self.now.to_msg();
        odometry.pose.pose.position = geometry_msgs::Point::new(x, 0.1, 1.0);
        let message = odometry.wrap();
        let received = Received { port: "odometry", message: &message };
        let before = ALLOCATIONS.with(Cell::get);
        self.node.on_message(self.now, &received, &mut self.out);
        let made = ALLOCATIONS.with(Cell::get) - before;
        let commands = self.out.drain().filter_map(|effect| match effect {
            Effect::Publish { message, .. } => sw::MotorCommand::peel(&message).cloned(),
            _ => None,
        });
        (commands.collect(), made)
    }
}

fn policy(seed: u64) -> Policy {
    let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
    let network = Network::random(&Shape::paper(), &mut rng).unwrap();
    Policy::spiking(network, Metadata::student("crazyflie")).unwrap()
}

fn update(version: u64, data: Vec<u8>) -> sw::PolicyUpdate {
    let sha256 = sha256(&data);
    sw::PolicyUpdate { version, format: "safetensors".into(), sha256, data, ..Default::default() }
}

#[test]
fn a_new_policy_runs_in_shadow_and_takes_over_between_two_ticks() {
    let mut rig = Rig::new(&[]);
    rig.message("policy/update", update(7, policy(3).to_bytes()));
    assert_eq!(rig.status().shadow_version, 7);
    let mut versions = Vec::new();
    for k in 0..60 {
        let (commands, _) = rig.tick(f64::from(k) * 0.001);
        assert_eq!(commands.len(), 1, "one command for each odometry");
        versions.push(commands[0].policy_version);
    }
    assert!(versions[..50].iter().all(|v| *v == 1), "{versions:?}");
    assert!(versions[50..].iter().all(|v| *v == 7), "{versions:?}");
    let status = rig.status();
    assert_eq!((status.swaps, status.active_version, status.shadow_version), (1, 7, 0));
    assert_eq!((status.ticks, status.missed_ticks), (60, 0));
}

#[test]
fn the_shadow_is_warm_when_it_takes_over() {
    // A node that flew the new policy all along gives the same commands as one that swapped to it.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.safetensors");
    policy(3).save(&path).unwrap();
    let mut always = Rig::new(&[("policy_file", Value::Text(path.display().to_string()))]);
    let mut swapped = Rig::new(&[]);
    swapped.message("policy/update", update(2, policy(3).to_bytes()));
    for k in 0..100 {
        let x = (f64::from(k) * 0.1).sin() * 0.1;
        let (a, b) = (always.tick(x).0, swapped.tick(x).0);
        if k >= 50 {
            assert_eq!(a[0].motors, b[0].motors, "step {k}");
        }
    }
}

#[test]
fn the_control_tick_allocates_nothing_even_while_weights_are_swapped() {
    let mut rig = Rig::new(&[("exploration_noise", Value::Float(0.1))]);
    rig.message(
        "authority",
        sw::Authority { state: sw::Authority::STUDENT, episode_id: 1, ..Default::default() },
    );
    rig.tick(0.0);
    rig.message("policy/update", update(2, policy(3).to_bytes()));
    for k in 0..80 {
        let (_, allocations) = rig.tick(f64::from(k) * 0.001);
        assert_eq!(allocations, 0, "step {k}");
    }
    assert_eq!(rig.status().swaps, 1);
}

#[test]
fn bad_policies_change_nothing_and_are_told() {
    let good = policy(3).to_bytes();
    let mut wrong_hash = update(5, good.clone());
    wrong_hash.sha256 = sha256(b"something else");
    let other_vehicle = {
        let mut p = policy(3);
        p.metadata.vehicle = "x500".into();
        p.to_bytes()
    };
    let other_shape = {
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
        let shape = Shape { inputs: 18, hidden: vec![16, 8], outputs: 4 };
        let network = Network::random(&shape, &mut rng).unwrap();
        Policy::spiking(network, Metadata::student("crazyflie")).unwrap().to_bytes()
    };
    let cut = good[..good.len() / 2].to_vec();
    let mut rig = Rig::new(&[]);
    let cases = [
        (wrong_hash, "sha256"),
        (update(5, cut), "safetensors"),
        (update(5, other_vehicle), "vehicle"),
        (update(5, other_shape), "18"),
        (update(5, Vec::new()), "safetensors"),
        (sw::PolicyUpdate { format: "onnx".into(), ..update(5, good.clone()) }, "onnx"),
        (update(0, good), "not above"),
    ];
    for (k, (bad, word)) in cases.into_iter().enumerate() {
        rig.message("policy/update", bad);
        let status = rig.status();
        assert_eq!(status.refused, k as u64 + 1);
        assert!(status.last_refusal.contains(word), "expected `{word}`: {}", status.last_refusal);
        assert_eq!((status.active_version, status.shadow_version), (1, 0));
        assert_eq!(rig.tick(0.0).0[0].policy_version, 1);
    }
}

#[test]
fn a_policy_that_loses_authority_is_rolled_back() {
    let mut rig = Rig::new(&[("rollback_after", Value::Integer(2))]);
    rig.message("policy/update", update(2, policy(3).to_bytes()));
    for _ in 0..55 {
        rig.tick(0.0);
    }
    assert_eq!(rig.status().active_version, 2);
    for _ in 0..2 {
        for state in [sw::Authority::STUDENT, sw::Authority::RECOVER] {
            rig.message("authority", sw::Authority { state, episode_id: 0, ..Default::default() });
        }
    }
    for _ in 0..55 {
        rig.tick(0.0);
    }
    let status = rig.status();
    assert_eq!((status.active_version, status.rollbacks), (1, 1));
}

#[test]
fn nan_gets_no_command_and_leaves_the_membranes_alone() {
    let (mut hurt, mut calm) = (Rig::new(&[]), Rig::new(&[]));
    for k in 0..40 {
        let x = f64::from(k) * 0.002;
        assert!(hurt.tick(f64::NAN).0.is_empty());
        assert_eq!(hurt.tick(x).0[0].motors, calm.tick(x).0[0].motors);
    }
}
