//! Envelope, episodes, services, landing and arming: what the authority does, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Cockpit, Pose};
use spikewing_msgs::{
    geometry_msgs, spikewing_msgs as sw,
    std_srvs::{Trigger, Trigger_Response},
};
use spikewing_runtime::{Parameters, node::Shutdown, parameter::Value};
use spikewing_supervisor::NODE;

const GUIDE: u8 = sw::MotorCommand::SOURCE_GUIDE;
const STUDENT: u8 = sw::MotorCommand::SOURCE_STUDENT;
const NOBODY: u8 = sw::MotorCommand::SOURCE_SUPERVISOR;

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

#[test]
fn each_limit_of_the_envelope_ends_the_episode_as_terminated() {
    let inside = Pose { roll: 1.35, velocity: [2.2; 3], rates: [29.0; 3], ..Pose::at(0.15) };
    let outside = [
        (Pose::at(0.25), "position"),
        (Pose { position: [0.0, -0.25, 1.0], ..Pose::at(0.0) }, "position"),
        (Pose { position: [0.0, 0.0, 0.75], ..Pose::at(0.0) }, "position"),
        (Pose { roll: 1.45, ..Pose::at(0.0) }, "tilt"),
        (Pose { roll: -1.45, ..Pose::at(0.0) }, "tilt"),
        (Pose { velocity: [2.4; 3], ..Pose::at(0.0) }, "faster"),
        (Pose { rates: [0.0, 0.0, -31.0], ..Pose::at(0.0) }, "turns"),
    ];
    for (pose, word) in outside {
        let mut cockpit = Cockpit::flying(&[("envelope.lookahead_s", Value::Float(0.0))]);
        cockpit.period_at(inside, Some(0.1), Some(0.2));
        assert_eq!(cockpit.state(), sw::Authority::STUDENT, "inside");
        let before = cockpit.authority();
        cockpit.period_at(pose, Some(0.1), Some(0.2));
        let after = cockpit.authority();
        assert_eq!((after.state, after.previous), (sw::Authority::RECOVER, sw::Authority::STUDENT));
        assert!(after.reason.contains(word), "{}", after.reason);
        assert_eq!(after.envelope_violations, before.envelope_violations + 1);
        assert_eq!(after.takeovers, before.takeovers + 1);
        assert_eq!(cockpit.commands().last().unwrap().source, GUIDE, "in the same period");
        let experience = cockpit.experience();
        let last = experience.last().unwrap();
        assert!(last.terminated && !last.truncated);
        let steps: Vec<u32> = experience.iter().map(|e| e.step).collect();
        assert_eq!(steps, (0..=last.step).collect::<Vec<_>>());
        let seen = [pose.position[0], pose.position[1], pose.position[2] - 1.0];
        assert!(seen.iter().zip(last.observation).all(|(a, b)| (a - f64::from(b)).abs() < 1e-6));
    }
}

#[test]
fn after_a_recovery_the_next_episode_starts_at_the_setpoint() {
    let mut cockpit = Cockpit::flying(&[("episode.settle_s", Value::Float(0.1))]);
    let episode = cockpit.authority().episode_id;
    cockpit.period(0.25, Some(0.1), Some(0.2));
    for _ in 0..30 {
        cockpit.period(0.22, Some(0.1), Some(0.2));
    }
    assert_eq!((cockpit.state(), cockpit.authority().episode_id), (sw::Authority::RECOVER, episode));
    // Near, but too fast; then settled for long enough.
    let fast = Pose { velocity: [0.5, 0.0, 0.0], ..Pose::at(0.0) };
    for _ in 0..30 {
        cockpit.period_at(fast, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.authority().episode_id, episode);
    for _ in 0..9 {
        cockpit.period(0.1, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.authority().episode_id, episode);
    for _ in 0..3 {
        cockpit.period(0.1, Some(0.1), Some(0.2));
    }
    assert_eq!((cockpit.state(), cockpit.authority().episode_id), (sw::Authority::GUIDE, episode + 1));
}

#[test]
fn on_violation_reset_the_vehicle_is_put_back_and_an_episode_starts() {
    let mut cockpit = Cockpit::flying(&[("on_violation", text("reset"))]);
    let episode = cockpit.authority().episode_id;
    let calls = |c: &Cockpit| c.rig.calls::<sw::ResetVehicle>("px4_bridge/reset_vehicle").count();
    cockpit.period(0.25, Some(0.1), Some(0.2));
    assert_eq!((calls(&cockpit), cockpit.state()), (1, sw::Authority::GUIDE));
    assert_eq!(cockpit.rig.calls::<Trigger>("state_estimator/reset").count(), 1);
    let (_, request) = cockpit.rig.calls::<sw::ResetVehicle>("px4_bridge/reset_vehicle").last().unwrap();
    assert_eq!(request.pose.position.to_array(), [0.0, 0.0, 1.0]);
    // Not there yet: it asks again once a second.
    for _ in 0..95 {
        cockpit.period(0.25, Some(0.1), Some(0.2));
    }
    assert_eq!(calls(&cockpit), 1);
    for _ in 0..10 {
        cockpit.period(0.25, Some(0.1), Some(0.2));
    }
    assert_eq!((calls(&cockpit), cockpit.authority().episode_id), (2, episode));
    for _ in 0..5 {
        cockpit.period(0.05, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.authority().episode_id, episode + 1);
}

#[test]
fn a_reset_that_is_waited_for_is_forgotten_when_no_episode_follows() {
    for end in ["~/land", "~/stop", "disarmed"] {
        let mut cockpit = Cockpit::flying(&[("on_violation", text("reset"))]);
        let episode = cockpit.authority().episode_id;
        cockpit.period(0.25, Some(0.1), Some(0.2));
        match end {
            "disarmed" => {
                // Not armed again by itself.
                cockpit.autopilot(sw::VehicleStatus { connected: true, ..Default::default() });
                assert!(cockpit.ask("~/land").success);
            }
            service => assert!(cockpit.ask(service).success),
        }
        let state = cockpit.state();
        for _ in 0..150 {
            cockpit.period(0.0, Some(0.1), Some(0.2));
        }
        assert_eq!((cockpit.state(), cockpit.authority().episode_id), (state, episode), "{end}");
        assert_eq!(cockpit.rig.calls::<sw::ResetVehicle>("px4_bridge/reset_vehicle").count(), 1, "{end}");
    }
}

#[test]
fn an_episode_that_is_over_is_truncated_and_the_jump_start_is_obeyed() {
    let mut cockpit = Cockpit::flying(&[]);
    let jump =
        |guide_steps, episode_steps| sw::JumpStart { guide_steps, episode_steps, ..Default::default() };
    // What makes no sense is not taken.
    cockpit.rig.message("learner/jump_start", jump(10, 0));
    cockpit.rig.message("learner/jump_start", jump(90, 80));
    cockpit.rig.message("learner/jump_start", jump(20, 70));
    cockpit.rig.forget();
    for _ in 0..70 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    let experience = cockpit.experience();
    let (first, second): (Vec<_>, Vec<_>) = experience.iter().partition(|e| e.episode_id == 1);
    let end = first.last().unwrap();
    assert!(end.truncated && !end.terminated && end.step == 70, "{end:?}");
    let guided = second.iter().take_while(|e| e.source == GUIDE).count();
    assert!((20..=21).contains(&guided), "{guided} steps of the guide");
    let sources: Vec<u8> = second[guided..].iter().map(|e| e.source).collect();
    assert!(sources.iter().all(|s| *s == STUDENT), "{sources:?}");
    // What the guide would have done is there whoever flew; at an episode's end nothing is done any more.
    assert!(experience.iter().filter(|e| !e.truncated).all(|e| e.guide_action == [0.1; 4]));
}

#[test]
fn stop_holds_the_position_under_the_guide_until_told_otherwise() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.period(0.15, Some(0.1), Some(0.2));
    let answer = cockpit.ask("~/stop");
    assert!(answer.success, "{}", answer.message);
    for _ in 0..100 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.state(), sw::Authority::HOLD);
    assert_eq!(cockpit.guide_setpoint(), Some([0.15, 0.0, 1.0]), "where it was stopped");
    assert!(cockpit.commands().iter().rev().take(100).all(|c| c.source == GUIDE));
    assert!(cockpit.experience().last().unwrap().truncated);
    assert!(cockpit.ask("~/start_episode").success);
    for _ in 0..80 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.state(), sw::Authority::STUDENT);
}

/// What the bridge says of a vehicle that flies under our command.
fn armed() -> sw::VehicleStatus {
    sw::VehicleStatus {
        connected: true,
        armed: true,
        mode: sw::VehicleStatus::MODE_OFFBOARD,
        ..Default::default()
    }
}

/// Brings a vehicle into a state.
fn in_state(state: u8) -> Cockpit {
    let mut cockpit = Cockpit::flying(&[]);
    match state {
        sw::Authority::GUIDE => {
            while cockpit.state() != state {
                cockpit.period(0.0, Some(0.1), Some(0.2));
            }
        }
        sw::Authority::RECOVER => cockpit.period(0.25, Some(0.1), Some(0.2)),
        sw::Authority::HOLD => assert!(cockpit.ask("~/stop").success),
        _ => {}
    }
    assert_eq!(cockpit.state(), state);
    cockpit
}

#[test]
fn it_lands_from_anywhere_and_is_disarmed_on_the_ground() {
    use sw::Authority as A;
    for state in [A::GUIDE, A::STUDENT, A::RECOVER, A::HOLD] {
        let mut cockpit = in_state(state);
        assert!(cockpit.ask("~/land").success);
        assert_eq!((cockpit.state(), cockpit.authority().previous), (A::LAND, state));
        // It sinks at the asked speed under the guide; the vehicle follows.
        let (mut z, start) = (1.0, cockpit.rig.now());
        while z > 0.0 {
            let pose = Pose { position: [0.0, 0.0, z], velocity: [0.0, 0.0, -0.4], ..Pose::at(0.0) };
            cockpit.period_at(pose, Some(-0.1), Some(0.2));
            let sunk = 0.4 * (cockpit.rig.now() - start).seconds();
            let asked = cockpit.guide_setpoint().unwrap()[2];
            assert!((asked - (1.0 - sunk).max(z - 0.5)).abs() < 1e-9, "{asked} at {z}");
            assert_eq!(cockpit.commands().last().unwrap().source, GUIDE);
            z = 1.0 - 0.4 * (cockpit.rig.now() - start).seconds();
        }
        // On the ground: it no longer follows, the guide takes thrust away, and the land detector says so.
        let ground = Pose { position: [0.0; 3], ..Pose::at(0.0) };
        for _ in 0..110 {
            cockpit.period_at(ground, Some(-0.3), Some(0.2));
        }
        assert!(cockpit.commands().iter().all(|c| c.source != NOBODY || c.motors == [-1.0; 4]));
        assert_eq!(cockpit.commands().last().unwrap().source, GUIDE, "two signs are not enough");
        cockpit.autopilot(sw::VehicleStatus { landed: true, ..armed() });
        for _ in 0..60 {
            cockpit.period_at(ground, Some(-0.3), Some(0.2));
        }
        let last = cockpit.commands().pop().unwrap();
        assert_eq!((last.source, last.motors), (NOBODY, [-1.0; 4]));
        // Disarming is the autopilot's.
        assert_eq!(cockpit.state(), A::LAND);
        cockpit.autopilot(sw::VehicleStatus { landed: true, armed: false, ..armed() });
        assert_eq!((cockpit.state(), cockpit.authority().reason.as_str()), (A::DISARMED, "landed"));
        cockpit.rig.forget();
        for _ in 0..100 {
            cockpit.period_at(ground, Some(-0.1), Some(0.2));
        }
        assert!(cockpit.commands().is_empty(), "and does not take off again by itself");
    }
}

#[test]
fn services_that_make_no_sense_now_say_why() {
    let refused = |answer: Trigger_Response, word: &str| {
        assert!(!answer.success && answer.message.contains(word), "expected `{word}`: {}", answer.message);
    };
    let mut cockpit = Cockpit::new(&[("auto_arm", Value::Bool(false))]);
    refused(cockpit.ask("~/start_episode"), "~/arm first");
    refused(cockpit.ask("~/stop"), "nothing flies");
    refused(cockpit.ask("~/arm"), "no odometry");
    cockpit.period(0.0, None, None);
    refused(cockpit.ask("~/arm"), "guide/command");
    cockpit.period(0.0, Some(0.1), None);
    refused(cockpit.ask("~/arm"), "vehicle/status");
    cockpit.autopilot(sw::VehicleStatus { connected: false, ..Default::default() });
    refused(cockpit.ask("~/arm"), "PX4 connected");
    cockpit.status(false);
    // The bridge dies: its last word is no longer true.
    cockpit.bridge_lives = false;
    for _ in 0..300 {
        cockpit.period(0.0, Some(0.1), None);
    }
    refused(cockpit.ask("~/arm"), "vehicle/status");
    cockpit.autopilot(sw::VehicleStatus { connected: true, landed: false, ..Default::default() });
    cockpit.period_at(Pose { velocity: [2.0, 0.0, 0.0], ..Pose::at(0.0) }, Some(0.1), None);
    refused(cockpit.ask("~/arm"), "moves");
    cockpit.status(false);
    cockpit.period(0.0, Some(0.1), None);
    assert!(cockpit.ask("~/arm").success);
    refused(cockpit.ask("~/arm"), "already");
    assert!(cockpit.ask("~/land").success);
    assert_eq!(cockpit.state(), sw::Authority::DISARMED, "arming is called off");
}

#[test]
fn while_it_arms_the_motors_idle_and_it_gives_up_with_the_autopilots_words() {
    let mut cockpit = Cockpit::new(&[("arming_timeout_s", Value::Float(2.0))]);
    cockpit.status(false);
    for k in 0..250 {
        if k % 20 == 0 {
            cockpit.autopilot(sw::VehicleStatus {
                connected: true,
                landed: true,
                message: "no position".into(),
                ..Default::default()
            });
        }
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    let commands = cockpit.commands();
    assert!(commands.len() > 150 && commands.iter().all(|c| c.motors == [-1.0; 4] && c.source == NOBODY));
    let authority = cockpit.authority();
    assert_eq!(authority.state, sw::Authority::DISARMED);
    assert!(authority.reason.contains("no position"), "{}", authority.reason);
}

#[test]
fn whoever_takes_the_vehicle_keeps_it() {
    for (status, words) in [
        (
            sw::VehicleStatus { mode: sw::VehicleStatus::MODE_LAND, armed: true, ..Default::default() },
            "left offboard",
        ),
        (
            sw::VehicleStatus { mode: sw::VehicleStatus::MODE_OFFBOARD, armed: false, ..Default::default() },
            "disarmed",
        ),
    ] {
        let mut cockpit = Cockpit::flying(&[("auto_arm", Value::Bool(true))]);
        cockpit.autopilot(sw::VehicleStatus { connected: true, ..status });
        let authority = cockpit.authority();
        assert_eq!(authority.state, sw::Authority::DISARMED);
        assert!(authority.reason.contains(words), "{}", authority.reason);
        assert!(cockpit.experience().last().unwrap().truncated);
        cockpit.rig.forget();
        cockpit.period(0.0, Some(0.1), Some(0.2));
        assert!(cockpit.commands().iter().all(|c| c.source == NOBODY));
    }
}

#[test]
fn blind_means_nothing_is_commanded() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.rig.forget();
    for _ in 0..50 {
        // Both policies talk on, about old odometry.
        cockpit.wait(10);
        cockpit.offer("guide/command", 0.1, 1.0);
        cockpit.offer("student/command", 0.2, 1.0);
    }
    assert!(cockpit.commands().is_empty());
    assert!(cockpit.authority().reason.contains("no odometry"), "{}", cockpit.authority().reason);
    assert!(cockpit.experience().last().unwrap().truncated);
}

#[test]
fn odometry_that_is_late_or_none_changes_nothing() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.rig.forget();
    cockpit.odometry(Pose::at(0.0));
    cockpit.odometry(Pose::at(9.0));
    assert_eq!(cockpit.state_or_same(), None, "the same stamp twice");
    cockpit.odometry(Pose::at(f64::NAN));
    let mut zero = spikewing_msgs::nav_msgs::Odometry::default();
    zero.pose.pose.orientation.w = 0.0;
    zero.header.stamp = (cockpit.rig.now() + spikewing_runtime::Span::from_millis(1)).to_msg();
    cockpit.rig.message("odometry", zero);
    assert_eq!(cockpit.state_or_same(), None);
    assert!(cockpit.experience().iter().all(|e| !e.terminated && !e.truncated));
}

impl Cockpit {
    /// The state that was announced since the last `forget`, if any.
    fn state_or_same(&self) -> Option<u8> {
        self.rig.last::<sw::Authority>("authority").map(|a| a.state)
    }
}

#[test]
fn the_student_can_be_forbidden_in_flight() {
    let mut cockpit = Cockpit::flying(&[]);
    let mut parameters = Parameters::defaults((NODE.declare)());
    parameters.set("student_enabled", Value::Bool(false)).unwrap();
    cockpit.rig.with(|node, now, out| node.on_parameters(now, &parameters, out)).unwrap();
    for _ in 0..100 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    assert!(cockpit.commands().iter().rev().take(99).all(|c| c.source == GUIDE));
}

#[test]
fn a_stopping_supervisor_lands_first() {
    let mut cockpit = Cockpit::flying(&[]);
    assert_eq!(cockpit.rig.shutdown(), Shutdown::Wait);
    assert_eq!(cockpit.state(), sw::Authority::LAND);
    cockpit.period(0.0, Some(0.1), Some(0.2));
    assert_eq!(cockpit.rig.shutdown(), Shutdown::Wait);
    cockpit.status(false);
    assert_eq!(cockpit.rig.shutdown(), Shutdown::Done);
    let mut blind = Cockpit::flying(&[]);
    blind.wait(500);
    assert_eq!(blind.rig.shutdown(), Shutdown::Done, "without odometry it cannot land: the failsafe does");
}

#[test]
fn a_setpoint_that_wanders_is_published_and_experience_is_relative_to_it() {
    let settings = [
        ("episode.setpoint_speed", Value::Float(0.6)),
        ("episode_steps", Value::Integer(100)),
        ("envelope.position", Value::Float(0.6)),
        ("envelope.lookahead_s", Value::Float(0.0)),
    ];
    let mut cockpit = Cockpit::flying(&settings);
    // Several episodes, of which about half move it; the vehicle stays where it is.
    for _ in 0..2000 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    let published: Vec<[f64; 3]> = cockpit
        .rig
        .sent::<geometry_msgs::PoseStamped>("target")
        .map(|m| m.pose.position.to_array())
        .collect();
    let farthest = published.iter().map(|p| p[0].abs()).fold(0.0, f64::max);
    assert!((0.05..=1.0).contains(&farthest), "{farthest}");
    let steps = published.windows(2).map(|w| (w[1][0] - w[0][0]).abs());
    // Home again when an episode ends; else never faster than asked.
    assert!(steps.filter(|s| *s > 0.0061).count() <= 20);
    // Every step but an episode's first is judged by the setpoint published before it.
    let experience = cockpit.experience();
    let moved = experience.iter().filter(|e| e.observation[0].abs() > 0.01).count();
    assert!(moved > 200, "{moved}");
    let last = experience.last().unwrap();
    let errors: Vec<f32> = published.iter().map(|p| -p[0] as f32).collect();
    assert!(errors.iter().any(|e| (e - last.observation[0]).abs() < 1e-6));
}

#[test]
fn without_speed_nobody_moves_the_setpoint() {
    let mut cockpit = Cockpit::flying(&[]);
    for _ in 0..200 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
    let target = cockpit.rig.sent::<geometry_msgs::PoseStamped>("target");
    assert!(target.into_iter().all(|m| m.pose.position.to_array() == [0.0, 0.0, 1.0]));
}

/// Heading of the setpoint that is flown, rad.
fn target_heading(c: &Cockpit) -> f64 {
    let q = &c.rig.last::<geometry_msgs::PoseStamped>("target").unwrap().pose.orientation;
    2.0 * q.z.atan2(q.w)
}

#[test]
fn a_vehicle_that_faces_west_takes_off_facing_west_until_asked_otherwise() {
    let west = Pose { yaw: 3.0, ..Pose::at(0.0) };
    let mut c = Cockpit::new(&[]);
    c.status(false);
    for _ in 0..10 {
        c.period_at(west, Some(0.1), Some(0.2));
    }
    c.status(true);
    for _ in 0..10 {
        c.period_at(west, Some(0.1), Some(0.2));
    }
    assert!((target_heading(&c) - 3.0).abs() < 1e-6, "{}", target_heading(&c));
    // What is learned from is seen in the frame of that heading: the vehicle faces along x there.
    let seen = c.experience().last().unwrap().observation;
    assert!((seen[3] - 1.0).abs() < 1e-5, "{seen:?}");
    // Somebody wants it to face east: it turns there, at its rate.
    let mut east = geometry_msgs::PoseStamped::default();
    east.pose.position.z = 1.0;
    east.pose.orientation.w = 1.0;
    c.rig.message("setpoint", east);
    for _ in 0..100 {
        c.period_at(west, Some(0.1), Some(0.2));
    }
    assert!((target_heading(&c) - 2.2).abs() < 0.02, "{}", target_heading(&c));
}

#[test]
fn a_turn_that_grows_is_seen_before_it_is_fast_and_one_that_ends_is_let_be() {
    let settings = [("envelope.body_rate", Value::Float(9.0)), ("envelope.lookahead_s", Value::Float(0.15))];
    let turning = |rates: &[f64]| {
        let mut cockpit = Cockpit::flying(&settings);
        for rate in rates {
            let pose = Pose { rates: [*rate, 0.0, 0.0], ..Pose::at(0.0) };
            cockpit.period_at(pose, Some(0.1), Some(0.2));
        }
        cockpit.state() == sw::Authority::STUDENT
    };
    // 250 rad/s²: 11.5 rad/s after another 0.03 s.
    assert!(!turning(&[1.5, 4.0]));
    assert!(turning(&[1.0, 2.0, 3.0, 4.0, 5.0, 5.8, 6.4]));
    assert!(turning(&[1.0, 2.0, 3.0, 4.0, 5.0, 5.8, 6.4, 7.0, 7.4, 7.0, 4.0]), "a correction");
    assert!(
        !turning(&[1.0, 2.0, 3.0, 4.0, 5.0, 5.8, 6.4, 7.0, 7.6, 8.1, 8.4, 8.6, 8.8, 8.9, 9.1]),
        "too fast is too fast"
    );
}
