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
    policy::{Announcement, Metadata, Policy, SecretKey, sha256, sha256_of_hex},
};
use spikewing_snn_policy::NODE;

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
    /// Holds the learner's public key.
    _run_dir: tempfile::TempDir,
}

impl Student {
    fn new(settings: &[(&str, Value)]) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let key_file = run_dir.path().join("learner.pub");
        std::fs::write(&key_file, learner().public().to_string()).unwrap();
        let mut all = vec![("learner_key_file", Value::Text(key_file.display().to_string()))];
        all.extend(settings.iter().cloned());
        let mut student = Self { rig: Rig::build(&NODE, &all).unwrap(), _run_dir: run_dir };
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

fn learner() -> SecretKey {
    SecretKey::from_hex(&"5a".repeat(32)).unwrap()
}

/// An update as whoever holds `key` announces it.
fn announced(key: Option<&SecretKey>, version: u64, data: Vec<u8>) -> sw::PolicyUpdate {
    let sha256 = sha256(&data);
    let announcement =
        Announcement { version, parent_version: version / 2, sha256: sha256_of_hex(&sha256).unwrap() };
    sw::PolicyUpdate {
        version,
        parent_version: version / 2,
        format: "safetensors".into(),
        sha256,
        data,
        signature: key.map_or(Vec::new(), |key| announcement.sign(key).to_vec()),
        ..Default::default()
    }
}

fn update(version: u64, data: Vec<u8>) -> sw::PolicyUpdate {
    announced(Some(&learner()), version, data)
}

impl Student {
    fn ticks(&mut self, count: u32) {
        for _ in 0..count {
            self.tick(0.0);
        }
    }

    /// The student has authority, or loses it.
    fn authority(&mut self, state: u8) {
        let policy_version = self.status().active_version;
        self.message("authority", sw::Authority { state, policy_version, ..Default::default() });
    }

    /// Has authority for so many ticks.
    fn flies(&mut self, ticks: u32) {
        self.authority(sw::Authority::STUDENT);
        self.ticks(ticks);
    }

    fn loses(&mut self, times: u32) {
        for _ in 0..times {
            self.authority(sw::Authority::STUDENT);
            self.authority(sw::Authority::RECOVER);
        }
    }
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
    let wrong_hash = sw::PolicyUpdate { data: good.clone(), ..update(5, b"something else".to_vec()) };
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
fn a_policy_that_loses_authority_is_rolled_back_and_not_tried_again() {
    let mut student = Student::new(&[("rollback_after", Value::Integer(2))]);
    student.message("policy/update", update(2, policy(3).to_bytes()));
    student.ticks(55);
    assert_eq!(student.status().active_version, 2);
    student.loses(2);
    student.ticks(55);
    let status = student.status();
    assert_eq!((status.active_version, status.rollbacks, status.proven_version), (1, 1, 0));
    assert!(
        status.barred[0].contains("version 2") && status.barred[0].contains("2 times"),
        "{:?}",
        status.barred
    );
    // The same weights under another version and with other words around them.
    let mut same = policy(3);
    same.metadata.training_run = Some("another".into());
    student.message("policy/update", update(9, same.to_bytes()));
    let status = student.status();
    assert_eq!((status.shadow_version, status.refused), (0, 1));
    assert!(status.last_refusal.contains("not tried again"), "{}", status.last_refusal);
}

#[test]
fn two_bad_swaps_do_not_lose_the_policy_that_proved_itself() {
    let mut student =
        Student::new(&[("rollback_after", Value::Integer(2)), ("prove_steps", Value::Integer(100))]);
    student.message("policy/update", update(2, policy(3).to_bytes()));
    student.flies(200);
    for version in [3, 4] {
        student.message("policy/update", update(version, policy(version + 10).to_bytes()));
        student.ticks(55);
        assert_eq!((student.status().active_version, student.status().proven_version), (version, 2));
    }
    student.loses(2);
    student.ticks(55);
    assert_eq!(student.status().active_version, 2, "not version 3, which proved nothing");
}

#[test]
fn who_lost_authority_too_often_and_has_nobody_behind_does_not_fly() {
    let mut student =
        Student::new(&[("rollback_after", Value::Integer(2)), ("warmup_steps", Value::Integer(5))]);
    student.ticks(10);
    student.loses(2);
    assert_eq!(
        student.tick(0.0).0[0].warmth,
        0.0,
        "never warm: the supervisor leaves the vehicle to the guide"
    );
    student.message("policy/update", update(2, policy(3).to_bytes()));
    student.ticks(10);
    assert_eq!(student.tick(0.0).0[0].warmth, 1.0);
}

#[test]
fn a_loss_that_is_not_the_policys_is_not_blamed_on_it() {
    let mut student = Student::new(&[("rollback_after", Value::Integer(1))]);
    student.message("policy/update", update(2, policy(3).to_bytes()));
    student.flies(55);
    student.authority(sw::Authority::STUDENT);
    // The odometry failed, for example.
    student.message("authority", sw::Authority { state: sw::Authority::RECOVER, ..Default::default() });
    assert_eq!(student.status().rollbacks, 0);
    student.loses(1);
    assert_eq!(student.status().rollbacks, 1);
}

#[test]
fn the_setpoints_orientation_is_the_heading() {
    // A vehicle that faces north, north of a setpoint that wants it so, is to the student one that faces east, east of it.
    let seen = |heading: f64, x: f64, y: f64, wanted: f64| {
        let mut student = Student::new(&[]);
        let half = |angle: f64| geometry_msgs::Quaternion {
            z: (angle / 2.0).sin(),
            w: (angle / 2.0).cos(),
            ..Default::default()
        };
        let mut setpoint = geometry_msgs::PoseStamped::default();
        setpoint.pose.position.z = 1.0;
        setpoint.pose.orientation = half(wanted);
        student.message("target", setpoint);
        let mut motors = Vec::new();
        for _ in 0..30 {
            student.rig.pass(Span::from_millis(10));
            student.rig.forget();
            let mut odometry = Odometry::default();
            odometry.header.stamp = student.rig.now().to_msg();
            odometry.pose.pose.position = geometry_msgs::Point::new(x, y, 1.0);
            odometry.pose.pose.orientation = half(heading);
            student.message("odometry", odometry);
            motors.push(student.rig.last::<sw::MotorCommand>("student/command").unwrap().motors);
        }
        motors
    };
    let quarter = std::f64::consts::FRAC_PI_2;
    let (east, north) = (seen(0.0, 0.3, 0.0, 0.0), seen(quarter, 0.0, 0.3, quarter));
    for (a, b) in east.iter().flatten().zip(north.iter().flatten()) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
    assert_ne!(east, seen(0.0, 0.3, 0.0, quarter), "another heading, another command");
}

#[test]
fn a_strangers_weights_do_not_fly_and_his_numbers_do_not_count() {
    let stranger = SecretKey::from_hex(&"77".repeat(32)).unwrap();
    let mut student = Student::new(&[]);
    let good = policy(3).to_bytes();
    let genuine = update(2, policy(4).to_bytes());
    let strangers = [
        announced(None, 2, good.clone()),
        announced(Some(&stranger), 3, good.clone()),
        announced(Some(&stranger), u64::MAX, good.clone()),
        announced(None, 1 << 62, good.clone()),
        // What the learner signed, under another version, or around other weights.
        sw::PolicyUpdate { version: 1 << 60, ..genuine.clone() },
        sw::PolicyUpdate { sha256: sha256(&good), data: good.clone(), ..genuine.clone() },
        sw::PolicyUpdate { data: good, ..genuine.clone() },
    ];
    let count = strangers.len() as u64;
    for message in strangers {
        student.message("policy/update", message);
    }
    student.ticks(60);
    let status = student.status();
    assert_eq!((status.active_version, status.shadow_version, status.refused), (1, 0, count));
    student.message("policy/update", genuine);
    student.ticks(60);
    assert_eq!(student.status().active_version, 2, "the learner is not locked out");
}

#[test]
fn without_a_key_nobodys_updates_fly_but_a_person_may_swap() {
    for (settings, word) in [
        (vec![("learner_key_file", Value::Text(String::new()))], "no key is trusted"),
        (vec![("learner_key_file", Value::Text("/no/such/learner.pub".into()))], "/no/such/learner.pub"),
        (vec![("updates", Value::Text("none".into()))], "updates: none"),
    ] {
        let mut student = Student::new(&settings);
        student.message("policy/update", update(2, policy(3).to_bytes()));
        let status = student.status();
        assert!(status.last_refusal.contains(word), "{}", status.last_refusal);
        let bytes = sw::SwapPolicy_Request { data: policy(4).to_bytes(), ..Default::default() };
        let version = student.swap(bytes).version;
        student.ticks(60);
        assert_eq!(student.status().active_version, version);
    }
}

#[test]
fn with_trusted_keys_a_file_must_be_signed() {
    let key = SecretKey::from_hex(&"31".repeat(32)).unwrap();
    let keys = vec![key.public().to_string()];
    let mut student = Student::new(&[("trusted_keys", Value::Texts(keys))]);
    let swap = |student: &mut Student, policy: &Policy| {
        student.swap(sw::SwapPolicy_Request { data: policy.to_bytes(), ..Default::default() });
        student.status()
    };
    let mut signed = policy(3);
    let status = swap(&mut student, &signed);
    assert!(status.last_refusal.contains("not signed"), "{}", status.last_refusal);
    signed.sign(&key);
    let status = swap(&mut student, &signed);
    assert_eq!((status.refused, status.shadow_version > 1), (1, true), "{}", status.last_refusal);
    // Updates: the learner's, and those that this key announced.
    for (version, by) in [(20, &learner()), (21, &key)] {
        student.message("policy/update", announced(Some(by), version, policy(version).to_bytes()));
        student.ticks(110);
        assert_eq!(student.status().active_version, version);
    }
}

#[test]
fn unsigned_updates_are_taken_where_that_is_asked_for_and_lock_nobody_out() {
    let mut student = Student::new(&[("updates", Value::Text("any".into()))]);
    for version in [u64::MAX, 1 << 62, 2_000_000] {
        student.message("policy/update", announced(None, version, policy(3).to_bytes()));
    }
    assert_eq!((student.status().refused, student.status().shadow_version), (3, 0));
    student.message("policy/update", announced(None, 2, policy(3).to_bytes()));
    assert_eq!(student.status().shadow_version, 2);
}

#[test]
fn at_any_rate_of_updates_the_newest_that_is_ready_takes_over() {
    for every in [1, 7, 40, 60] {
        let mut student = Student::new(&[]);
        let (mut version, mut flown) = (1, Vec::new());
        for k in 0..400 {
            if k % every == 0 && k < 300 {
                version += 1;
                student.message("policy/update", update(version, policy(version).to_bytes()));
            }
            let command = student.tick(0.0).0.remove(0);
            if flown.last() != Some(&command.policy_version) {
                flown.push(command.policy_version);
            }
        }
        assert!(flown.len() > 5, "every {every} ticks: {flown:?}");
        assert!(flown.windows(2).all(|w| w[0] < w[1]), "{flown:?}");
        assert_eq!(flown.last(), Some(&version), "the newest flies in the end");
        let status = student.status();
        assert!(
            status.takeover_max >= 0.5 && status.takeover_max < 1.1,
            "two warm-ups at the most: {status:?}"
        );
    }
}

#[test]
fn a_flood_of_strangers_does_not_push_the_learners_update_out() {
    let mut student = Student::new(&[]);
    let flood = announced(None, 900, vec![7; 1000]);
    for k in 0..200 {
        // Jobs are not done in between: all of it waits.
        student.rig.message("policy/update", sw::PolicyUpdate { version: 900 + k, ..flood.clone() });
        if k == 197 {
            student.rig.message("policy/update", update(2, policy(3).to_bytes()));
        }
    }
    student.rig.finish_jobs();
    assert_eq!(student.status().shadow_version, 2);
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
    assert_eq!(states(student.list())[..3], ["active 1", "shadow 2", "waiting 3"]);
    student.ticks(101);
    assert_eq!(states(student.list())[..2], ["active 3", "previous 1"]);
    let missing = sw::SwapPolicy_Request { path: "/no/such.safetensors".into(), ..Default::default() };
    assert!(student.swap(missing).success, "it is read in a job; the status says what became of it");
    let status = student.status();
    assert!(status.last_refusal.contains("/no/such.safetensors"), "{}", status.last_refusal);

    let bytes = sw::SwapPolicy_Request { data: policy(4).to_bytes(), ..Default::default() };
    assert_eq!(student.swap(bytes).version, 5);
    student.flies(51);
    // Version 5 proves itself: it is the one to go back to from then on.
    student.flies(500);
    let bytes = sw::SwapPolicy_Request { data: policy(6).to_bytes(), ..Default::default() };
    assert_eq!(student.swap(bytes).version, 6);
    student.ticks(51);
    assert!(student.roll_back().success);
    assert_eq!(student.tick(0.0).0[0].policy_version, 6, "not before the other is warm");
    student.ticks(51);
    assert_eq!(states(student.list())[..1], ["active 5"]);
    assert_eq!(student.status().rollbacks, 1);
}

#[test]
fn two_proposals_at_once_get_two_versions_and_the_newer_one_flies() {
    let mut student = Student::new(&[]);
    let ask = |student: &mut Student, seed| {
        let request = sw::SwapPolicy_Request { data: policy(seed).to_bytes(), ..Default::default() };
        student.rig.request::<sw::SwapPolicy>("~/swap_policy", request).unwrap().version
    };
    // The first is still being verified when the others come; of those the newest is next.
    assert_eq!([ask(&mut student, 3), ask(&mut student, 4), ask(&mut student, 5)], [2, 3, 4]);
    student.rig.message("policy/update", update(4, policy(6).to_bytes()));
    student.rig.finish_jobs();
    let status = student.status();
    assert_eq!((status.shadow_version, status.waiting_version, status.refused), (2, 4, 0));
    student.ticks(51);
    assert_eq!(student.status().active_version, 2);
    student.ticks(51);
    assert_eq!(student.status().active_version, 4);
    assert_eq!(student.list().len(), 2, "active and previous");
}
