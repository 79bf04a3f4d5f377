//! Swapping weights while the student flies: what takes over, what is refused, and that the tick allocates nothing.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use rand::SeedableRng;
use spikewing_msgs::{
    Message, geometry_msgs,
    nav_msgs::Odometry,
    spikewing_msgs as sw,
    std_srvs::{Trigger, Trigger_Request, Trigger_Response},
};
use spikewing_runtime::{Received, Span, parameter::Value, rig::Rig};
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

struct Student {
    rig: Rig,
}

impl Student {
    fn new(settings: &[(&str, Value)]) -> Self {
        let mut student = Self { rig: Rig::build(&NODE, settings).unwrap() };
        student.rig.finish_jobs();
        student
    }

    /// A message, and all the work that follows from it.
    fn message<M: Message>(&mut self, port: &str, message: M) {
        self.rig.message(port, message);
        self.rig.finish_jobs();
    }

    fn swap(&mut self, request: sw::SwapPolicy_Request) -> sw::SwapPolicy_Response {
        let answer = self.rig.request::<sw::SwapPolicy>("~/swap_policy", request).unwrap();
        self.rig.finish_jobs();
        answer
    }

    fn roll_back(&mut self) -> Trigger_Response {
        self.rig.request::<Trigger>("~/rollback", Trigger_Request::default()).unwrap()
    }

    /// State of each policy that is known, with its version.
    fn list(&mut self) -> Vec<(String, u64)> {
        let list = |student: &mut Self| {
            let request = sw::ListPolicies_Request::default();
            let answer = student.rig.request::<sw::ListPolicies>("~/list_policies", request).unwrap();
            student.rig.finish_jobs();
            answer
        };
        let all = list(self);
        assert!([all.names.len(), all.versions.len(), all.sha256.len()] == [all.states.len(); 3]);
        all.states.into_iter().zip(all.versions).collect()
    }

    fn status(&mut self) -> sw::PolicyStatus {
        self.rig.with(|node, now, out| node.on_timer(now, "status", out));
        self.rig.last::<sw::PolicyStatus>("policy/status").unwrap().clone()
    }

    /// One odometry; returns the commands that it got, and how many allocations the tick made.
    fn tick(&mut self, x: f64) -> (Vec<sw::MotorCommand>, u64) {
        self.rig.pass(Span::from_millis(10));
        self.rig.forget();
        let mut odometry = Odometry::default();
        odometry.header.stamp = self.rig.now().to_msg();
        odometry.pose.pose.position = geometry_msgs::Point::new(x, 0.1, 1.0);
        let message = odometry.wrap();
        let made = self.rig.with(|node, now, out| {
            let received = Received { port: "odometry", message: &message };
            let before = ALLOCATIONS.with(Cell::get);
            node.on_message(now, &received, out);
            ALLOCATIONS.with(Cell::get) - before
        });
        (self.rig.sent("student/command").cloned().collect(), made)
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
    let mut student = Student::new(&[]);
    student.message("policy/update", update(7, policy(3).to_bytes()));
    assert_eq!(student.status().shadow_version, 7);
    let mut versions = Vec::new();
    for k in 0..60 {
        let (commands, _) = student.tick(f64::from(k) * 0.001);
        assert_eq!(commands.len(), 1, "one command for each odometry");
        versions.push(commands[0].policy_version);
    }
    assert!(versions[..50].iter().all(|v| *v == 1), "{versions:?}");
    assert!(versions[50..].iter().all(|v| *v == 7), "{versions:?}");
    let status = student.status();
    assert_eq!((status.swaps, status.active_version, status.shadow_version), (1, 7, 0));
    assert_eq!((status.ticks, status.missed_ticks), (60, 0));
}

#[test]
fn the_shadow_is_warm_when_it_takes_over() {
    // A node that flew the new policy all along gives the same commands as one that swapped to it.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.safetensors");
    policy(3).save(&path).unwrap();
    let mut always = Student::new(&[("policy_file", Value::Text(path.display().to_string()))]);
    let mut swapped = Student::new(&[]);
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
    let mut student = Student::new(&[("exploration_noise", Value::Float(0.1))]);
    student.message(
        "authority",
        sw::Authority { state: sw::Authority::STUDENT, episode_id: 1, ..Default::default() },
    );
    student.tick(0.0);
    student.message("policy/update", update(2, policy(3).to_bytes()));
    for k in 0..80 {
        let (_, allocations) = student.tick(f64::from(k) * 0.001);
        assert_eq!(allocations, 0, "step {k}");
    }
    assert_eq!(student.status().swaps, 1);
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
    let mut student = Student::new(&[]);
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
        student.message("policy/update", bad);
        let status = student.status();
        assert_eq!(status.refused, k as u64 + 1);
        assert!(status.last_refusal.contains(word), "expected `{word}`: {}", status.last_refusal);
        assert_eq!((status.active_version, status.shadow_version), (1, 0));
        assert_eq!(student.tick(0.0).0[0].policy_version, 1);
    }
}

#[test]
fn a_policy_that_loses_authority_is_rolled_back() {
    let mut student = Student::new(&[("rollback_after", Value::Integer(2))]);
    student.message("policy/update", update(2, policy(3).to_bytes()));
    for _ in 0..55 {
        student.tick(0.0);
    }
    assert_eq!(student.status().active_version, 2);
    for _ in 0..2 {
        for state in [sw::Authority::STUDENT, sw::Authority::RECOVER] {
            student.message("authority", sw::Authority { state, episode_id: 0, ..Default::default() });
        }
    }
    for _ in 0..55 {
        student.tick(0.0);
    }
    let status = student.status();
    assert_eq!((status.active_version, status.rollbacks), (1, 1));
}

#[test]
fn nan_gets_no_command_and_leaves_the_membranes_alone() {
    let (mut hurt, mut calm) = (Student::new(&[]), Student::new(&[]));
    for k in 0..40 {
        let x = f64::from(k) * 0.002;
        assert!(hurt.tick(f64::NAN).0.is_empty());
        assert_eq!(hurt.tick(x).0[0].motors, calm.tick(x).0[0].motors);
    }
}

#[test]
fn policies_are_swapped_listed_and_rolled_back_by_service() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.safetensors");
    policy(3).save(&path).unwrap();
    let mut student = Student::new(&[("policy_dir", Value::Text(dir.path().display().to_string()))]);
    let states = |list: Vec<(String, u64)>| -> Vec<String> {
        list.iter().map(|(state, version)| format!("{state} {version}")).collect()
    };
    assert_eq!(states(student.list()), ["active 1", "file 0"]);
    let none = student.roll_back();
    assert!(!none.success && none.message.contains("no previous"), "{}", none.message);
    let empty = student.swap(sw::SwapPolicy_Request::default());
    assert!(!empty.success && empty.message.contains("path"), "{}", empty.message);

    let by_path = sw::SwapPolicy_Request { path: path.display().to_string(), ..Default::default() };
    assert_eq!((student.swap(by_path.clone()).success, student.swap(by_path).version), (true, 3));
    assert_eq!(states(student.list())[..2], ["active 1", "shadow 3"], "the newest of two");
    for _ in 0..51 {
        student.tick(0.0);
    }
    assert_eq!(states(student.list())[..2], ["active 3", "previous 1"]);
    let missing = sw::SwapPolicy_Request { path: "/no/such.safetensors".into(), ..Default::default() };
    assert!(student.swap(missing).success, "it is read in a job; the status says what became of it");
    let status = student.status();
    assert!(status.last_refusal.contains("/no/such.safetensors"), "{}", status.last_refusal);

    let bytes = sw::SwapPolicy_Request { data: policy(4).to_bytes(), ..Default::default() };
    assert_eq!(student.swap(bytes).version, 4);
    for _ in 0..51 {
        student.tick(0.0);
    }
    assert!(student.roll_back().success);
    assert_eq!(student.tick(0.0).0[0].policy_version, 4, "not before the other is warm");
    for _ in 0..51 {
        student.tick(0.0);
    }
    assert_eq!(states(student.list())[..2], ["active 3", "previous 4"]);
    assert_eq!(student.status().rollbacks, 1);
}

#[test]
fn two_proposals_at_once_get_two_versions_and_the_newer_one_flies() {
    let mut student = Student::new(&[]);
    let ask = |student: &mut Student, seed| {
        let request = sw::SwapPolicy_Request { data: policy(seed).to_bytes(), ..Default::default() };
        student.rig.request::<sw::SwapPolicy>("~/swap_policy", request).unwrap().version
    };
    // The first is still being verified when the others come; only the newest of those matters.
    assert_eq!([ask(&mut student, 3), ask(&mut student, 4), ask(&mut student, 5)], [2, 3, 4]);
    student.rig.message("policy/update", update(4, policy(6).to_bytes()));
    student.rig.finish_jobs();
    let status = student.status();
    assert_eq!((status.shadow_version, status.refused), (4, 0));
    for _ in 0..51 {
        student.tick(0.0);
    }
    assert_eq!(student.status().active_version, 4);
    assert_eq!(student.list().len(), 2, "active and previous");
}
