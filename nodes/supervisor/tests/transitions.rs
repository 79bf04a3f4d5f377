//! The ways from one state of authority to another that keep a vehicle from falling, one by one.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Cockpit, Pose};
use spikewing_msgs::{geometry_msgs, spikewing_msgs as sw};
use spikewing_runtime::{Span, parameter::Value};
use sw::Authority as A;

const GUIDE: u8 = sw::MotorCommand::SOURCE_GUIDE;
const STUDENT: u8 = sw::MotorCommand::SOURCE_STUDENT;

/// The bridge's word on a vehicle that flies under our command.
fn ours() -> sw::VehicleStatus {
    sw::VehicleStatus {
        connected: true,
        armed: true,
        mode: sw::VehicleStatus::MODE_OFFBOARD,
        ..Default::default()
    }
}

fn parked() -> sw::VehicleStatus {
    sw::VehicleStatus { mode: sw::VehicleStatus::MODE_HOLD, handed_over: true, ..ours() }
}

fn fly(cockpit: &mut Cockpit, periods: usize) {
    for _ in 0..periods {
        cockpit.period(0.0, Some(0.1), Some(0.2));
    }
}

fn never_armed(cockpit: &Cockpit) -> bool {
    cockpit.rig.sent::<sw::Authority>("authority").all(|a| !matches!(a.state, A::ARMING | A::DISARMED))
}

#[test]
fn a_new_process_takes_a_flying_vehicle_over_within_three_tenths_of_a_second() {
    for status in [ours(), parked()] {
        let mut cockpit = Cockpit::new(&[]);
        let start = cockpit.rig.now();
        // The autopilot is heard last.
        fly(&mut cockpit, 20);
        assert!(cockpit.commands().is_empty());
        cockpit.autopilot(status);
        fly(&mut cockpit, 1);
        assert!(cockpit.rig.now() - start < Span::from_millis(300));
        let first = &cockpit.commands()[0];
        assert_eq!((first.source, cockpit.state()), (GUIDE, A::GUIDE));
        assert!(never_armed(&cockpit), "it says nothing before it knows, and then the truth");
    }
}

#[test]
fn commands_carry_when_the_autopilot_said_that_it_obeys_and_authority_says_who_is_adrift() {
    let heard = |c: &Cockpit| spikewing_runtime::Time::from(&c.commands().last().unwrap().autopilot_stamp);
    let mut cockpit = Cockpit::flying(&[]);
    let stamp = cockpit.rig.now() - Span::from_millis(300);
    cockpit.autopilot(sw::VehicleStatus { autopilot_stamp: stamp.to_msg(), ..ours() });
    fly(&mut cockpit, 30);
    assert_eq!(heard(&cockpit), stamp, "a bridge that is started anew goes on with it");
    assert!(!cockpit.authority().adrift);
    // In another mode it obeys nobody.
    cockpit.autopilot(sw::VehicleStatus { autopilot_stamp: stamp.to_msg(), ..parked() });
    fly(&mut cockpit, 5);
    assert_eq!(heard(&cockpit), spikewing_runtime::Time::ZERO);
    cockpit.autopilot(ours());
    // Nobody can fly on this: silence is meant, and nobody stands in.
    cockpit.freeze();
    fly(&mut cockpit, 20);
    assert!(cockpit.authority().adrift, "{}", cockpit.authority().reason);
    cockpit.thaw();
    fly(&mut cockpit, 5);
    assert!(!cockpit.authority().adrift);
}

#[test]
fn a_new_process_lands_what_stands_armed_on_the_ground() {
    let mut cockpit = Cockpit::new(&[]);
    cockpit.autopilot(sw::VehicleStatus { landed: true, ..ours() });
    fly(&mut cockpit, 3);
    assert_eq!(cockpit.state(), A::LAND);
}

#[test]
fn who_was_disarmed_stays_so_until_asked() {
    for (why, landed) in [("kill switch", false), ("by landing", true), ("", false)] {
        let mut cockpit = Cockpit::flying(&[]);
        let off = sw::VehicleStatus { armed: false, landed, disarm_reason: why.into(), ..ours() };
        cockpit.autopilot(off);
        assert_eq!(cockpit.state(), A::DISARMED);
        assert!(cockpit.authority().reason.contains(why));
        cockpit.rig.forget();
        fly(&mut cockpit, 300);
        // … nor is a vehicle that somebody else arms taken.
        cockpit.autopilot(ours());
        fly(&mut cockpit, 50);
        assert!(cockpit.commands().is_empty() && cockpit.state() == A::DISARMED, "{why}");
        cockpit.autopilot(sw::VehicleStatus { armed: false, landed: true, ..ours() });
        fly(&mut cockpit, 1);
        assert!(cockpit.ask("~/arm").success);
    }
    // A process that starts after that does not arm by itself either.
    let mut cockpit = Cockpit::new(&[]);
    let off = sw::VehicleStatus { armed: false, landed: true, disarm_reason: "kill switch".into(), ..ours() };
    cockpit.autopilot(off);
    fly(&mut cockpit, 100);
    assert_eq!(cockpit.state(), A::DISARMED);
    assert!(cockpit.authority().reason.contains("kill switch"), "{}", cockpit.authority().reason);
}

#[test]
fn stop_calls_an_arming_off() {
    let mut cockpit = Cockpit::new(&[]);
    cockpit.status(false);
    fly(&mut cockpit, 5);
    assert_eq!(cockpit.state(), A::ARMING);
    assert!(cockpit.ask("~/stop").success);
    assert_eq!(cockpit.state(), A::DISARMED);
    cockpit.rig.forget();
    cockpit.autopilot(ours());
    fly(&mut cockpit, 50);
    assert!(cockpit.commands().is_empty(), "armed too late: nobody asks for it any more");
}

#[test]
fn a_vehicle_that_is_armed_in_another_mode_gets_no_idle_motors_while_offboard_is_asked_for() {
    let mut cockpit = Cockpit::new(&[("auto_arm", Value::Bool(false))]);
    cockpit.autopilot(sw::VehicleStatus { mode: sw::VehicleStatus::MODE_HOLD, ..ours() });
    fly(&mut cockpit, 5);
    assert!(cockpit.ask("~/arm").success);
    fly(&mut cockpit, 20);
    let commands = cockpit.commands();
    assert!(!commands.is_empty() && commands.iter().all(|c| c.source == GUIDE));
}

#[test]
fn without_a_fresh_status_nothing_is_commanded_and_with_one_it_flies_on() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.bridge_lives = false;
    fly(&mut cockpit, 130);
    cockpit.rig.forget();
    fly(&mut cockpit, 30);
    let reason = "no fresh vehicle/status";
    assert!(cockpit.commands().is_empty());
    assert_eq!(cockpit.rig.sent::<sw::Experience>("experience").count(), 0);
    cockpit.autopilot(ours());
    cockpit.bridge_lives = true;
    fly(&mut cockpit, 3);
    assert_eq!(cockpit.commands()[0].source, GUIDE, "{reason}");
    // Somebody took it meanwhile: it is his.
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.bridge_lives = false;
    fly(&mut cockpit, 150);
    cockpit.autopilot(sw::VehicleStatus { mode: sw::VehicleStatus::MODE_HOLD, ..ours() });
    assert_eq!(cockpit.state(), A::DISARMED);
}

#[test]
fn the_bridges_own_hold_takes_nothing_away() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.autopilot(parked());
    fly(&mut cockpit, 20);
    assert_eq!(cockpit.state(), A::RECOVER, "the guide commands, nobody learns from what is not applied");
    assert_eq!(cockpit.commands().last().unwrap().source, GUIDE);
    assert_eq!(cockpit.authority().policy_version, 0, "not the policy's fault");
    cockpit.autopilot(ours());
    fly(&mut cockpit, 70);
    assert_eq!(cockpit.state(), A::STUDENT);
    // Landed by it: that is the end.
    cockpit.autopilot(sw::VehicleStatus { landed: true, ..parked() });
    assert_eq!(cockpit.state(), A::DISARMED);
}

#[test]
fn a_policy_whose_commands_do_not_arrive_is_not_to_blame() {
    for (lives, blamed) in [(true, true), (false, false)] {
        let mut cockpit = Cockpit::flying(&[]);
        fly(&mut cockpit, 30);
        cockpit.bridge_lives = lives;
        fly(&mut cockpit, 25);
        cockpit.period_at(Pose { roll: 1.5, ..Pose::at(0.0) }, Some(0.1), Some(0.2));
        assert_eq!(cockpit.state(), A::RECOVER);
        let end = cockpit.experience().iter().rev().find(|e| e.terminated || e.truncated).cloned().unwrap();
        assert_eq!((cockpit.authority().envelope_violations == 1, end.terminated), (blamed, blamed));
    }
}

#[test]
fn frozen_odometry_is_found_though_its_stamps_go_on() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.freeze();
    fly(&mut cockpit, 6);
    assert_eq!(cockpit.commands().last().unwrap().source, GUIDE);
    fly(&mut cockpit, 10);
    cockpit.rig.forget();
    fly(&mut cockpit, 20);
    assert!(cockpit.commands().is_empty(), "nobody can fly on it");
    cockpit.thaw();
    fly(&mut cockpit, 4);
    assert!(!cockpit.commands().is_empty() && cockpit.commands().iter().all(|c| c.source == GUIDE));
}

#[test]
fn odometry_that_is_late_or_of_the_future_is_found() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.age = Span::from_millis(80);
    fly(&mut cockpit, 20);
    assert_eq!(cockpit.state(), A::RECOVER);
    assert!(cockpit.authority().reason.contains("late"), "{}", cockpit.authority().reason);
    cockpit.age = Span::from_millis(200);
    fly(&mut cockpit, 40);
    cockpit.rig.forget();
    fly(&mut cockpit, 20);
    assert!(cockpit.commands().is_empty());
    // One message of next year stops nothing.
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.age = Span::from_seconds(-3e7);
    fly(&mut cockpit, 1);
    cockpit.age = Span::ZERO;
    fly(&mut cockpit, 10);
    assert_eq!(cockpit.state(), A::STUDENT);
}

#[test]
fn doubt_that_lasts_ends_the_flight() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.position_std_m = 0.7;
    fly(&mut cockpit, 10);
    assert_eq!(cockpit.state(), A::RECOVER);
    fly(&mut cockpit, 300);
    assert_eq!(cockpit.state(), A::LAND);
    // What is lost altogether, for more than a moment, is not even landed here.
    cockpit.position_std_m = 3.0;
    cockpit.rig.forget();
    fly(&mut cockpit, 40);
    assert!(cockpit.commands().len() > 30, "half a second of it is flown through");
    fly(&mut cockpit, 20);
    cockpit.rig.forget();
    fly(&mut cockpit, 20);
    assert!(cockpit.commands().is_empty());
}

#[test]
fn a_heading_that_ekf2_does_not_know_well_yet_is_flown_with_and_one_it_has_lost_is_not() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.heading_std_rad = 0.35;
    fly(&mut cockpit, 500);
    assert_eq!(cockpit.state(), A::STUDENT);
    cockpit.heading_std_rad = 0.7;
    fly(&mut cockpit, 10);
    assert_eq!(cockpit.state(), A::RECOVER);
    cockpit.heading_std_rad = 1.3;
    cockpit.rig.forget();
    fly(&mut cockpit, 80);
    cockpit.rig.forget();
    fly(&mut cockpit, 20);
    assert!(cockpit.commands().is_empty());
}

#[test]
fn setpoints_stay_within_the_fence_and_move_no_faster_than_they_may() {
    let mut cockpit = Cockpit::flying(&[("setpoint_speed", Value::Float(1.0))]);
    cockpit.rig.forget();
    for far in [1000.0, -21.0, f64::NAN] {
        cockpit.setpoint(far);
        fly(&mut cockpit, 60);
    }
    let target = |c: &Cockpit| {
        c.rig.sent::<geometry_msgs::PoseStamped>("target").map(|m| m.pose.position.x).collect::<Vec<f64>>()
    };
    assert!(target(&cockpit).iter().all(|x| *x == 0.0), "{:?}", target(&cockpit));
    cockpit.setpoint(0.15);
    fly(&mut cockpit, 30);
    let way = target(&cockpit);
    assert!(way.windows(2).all(|w| (w[1] - w[0]).abs() <= 0.01 + 1e-9), "{way:?}");
    assert!((way.last().unwrap() - 0.15).abs() < 1e-9);
}

#[test]
fn a_vehicle_outside_the_fence_lands() {
    let mut cockpit = Cockpit::flying(&[("fence.ceiling", Value::Float(1.2))]);
    let high = Pose { position: [0.0, 0.0, 1.25], ..Pose::at(0.0) };
    cockpit.period_at(high, Some(0.1), Some(0.2));
    assert_eq!(cockpit.state(), A::LAND);
    assert!(cockpit.authority().reason.contains("fence.ceiling"));
}

#[test]
fn a_setpoint_outside_the_fence_is_no_way_to_start() {
    let settings = [("fence.ceiling", Value::Float(0.5))];
    let error = spikewing_runtime::rig::Rig::build(&spikewing_supervisor::NODE, &settings).err().unwrap();
    assert!(error.to_string().contains("fence.ceiling"), "{error}");
}

#[test]
fn a_critical_battery_lands_and_complaints_are_named() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.autopilot(sw::VehicleStatus { battery_warning: 1, failsafes: "wind".into(), ..ours() });
    assert_eq!(cockpit.state(), A::STUDENT);
    let reason = cockpit.authority().reason;
    assert!(reason.contains("battery low") && reason.contains("wind"), "{reason}");
    cockpit.autopilot(sw::VehicleStatus { battery_warning: 2, ..ours() });
    assert_eq!(cockpit.state(), A::LAND);
    assert!(cockpit.authority().reason.contains("critical"));
}

#[test]
fn the_guide_has_it_before_it_meets_the_ground() {
    let settings = [("envelope.position", Value::Float(2.0)), ("envelope.brake", Value::Float(4.0))];
    let mut cockpit = Cockpit::new(&settings);
    cockpit.status(false);
    let ground = Pose { position: [0.0; 3], ..Pose::at(0.0) };
    for _ in 0..10 {
        cockpit.period_at(ground, Some(0.1), Some(0.2));
    }
    // Landed where it is armed: that is the ground.
    cockpit.autopilot(sw::VehicleStatus { landed: true, ..ours() });
    cockpit.status(true);
    let mut z = 0.0;
    while z < 1.0 {
        z += 0.01;
        let up = Pose { position: [0.0, 0.0, z], velocity: [0.0, 0.0, 1.0], ..Pose::at(0.0) };
        cockpit.period_at(up, Some(0.1), Some(0.2));
    }
    fly(&mut cockpit, 120);
    assert_eq!(cockpit.state(), A::STUDENT);
    // Sinking at 1 m/s it needs 0.15 m to react and 0.125 m to stop.
    let mut lost_at = None;
    for k in 0..90 {
        let z = 1.0 - 0.01 * f64::from(k);
        let down = Pose { position: [0.0, 0.0, z], velocity: [0.0, 0.0, -1.0], ..Pose::at(0.0) };
        cockpit.period_at(down, Some(0.1), Some(0.2));
        if cockpit.state() != A::STUDENT {
            lost_at.get_or_insert(z);
        }
    }
    let lost_at = lost_at.unwrap();
    assert!((0.25..0.28).contains(&lost_at), "{lost_at}");
}

#[test]
fn a_second_student_of_the_same_name_is_not_heard_while_the_first_speaks() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.rig.forget();
    for _ in 0..20 {
        cockpit.period(0.0, Some(0.1), Some(0.2));
        cockpit.offer_of(9, "student/command", -0.9, 1.0);
    }
    let commands = cockpit.commands();
    assert!(commands.iter().all(|c| c.source == STUDENT && c.motors == [0.2; 4]));
    // The first is gone: the second succeeds it.
    cockpit.wait(400);
    for _ in 0..80 {
        cockpit.period(0.0, Some(0.1), None);
        cockpit.offer_of(9, "student/command", -0.9, 1.0);
    }
    assert_eq!(cockpit.commands().last().unwrap().motors, [-0.9; 4]);
}

#[test]
fn of_two_supervisors_the_one_that_was_started_first_flies() {
    let rival = |instance| sw::Authority { instance, state: A::STUDENT, ..Default::default() };
    // Tests are the first start there can be: nobody is older.
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.rig.message("authority", rival(5));
    fly(&mut cockpit, 10);
    assert_eq!(cockpit.state(), A::STUDENT, "the other one is younger");
    assert!(!cockpit.ask("~/arm").success);
    let mut young = Cockpit::started_as(7);
    young.rig.message("authority", rival(5));
    young.autopilot(ours());
    fly(&mut young, 50);
    assert!(young.commands().is_empty(), "the elder flies it");
    assert!(young.ask("~/arm").message.contains("another supervisor"));
    // The elder dies.
    fly(&mut young, 150);
    assert_eq!(young.commands()[0].source, GUIDE);
}

#[test]
fn what_was_taken_for_the_ground_and_falls_is_flown_again() {
    let mut cockpit = Cockpit::flying(&[]);
    assert!(cockpit.ask("~/land").success);
    cockpit.autopilot(sw::VehicleStatus { landed: true, ..ours() });
    for _ in 0..200 {
        cockpit.period(0.0, Some(-0.3), Some(0.2));
    }
    assert_eq!(cockpit.commands().last().unwrap().motors, [-1.0; 4], "three signs say that it stands");
    cockpit.autopilot(ours());
    for _ in 0..2 {
        cockpit.period_at(Pose { velocity: [0.0, 0.0, -0.8], ..Pose::at(0.0) }, Some(0.1), Some(0.2));
    }
    assert_eq!(cockpit.commands().last().unwrap().source, GUIDE);
    assert!(cockpit.authority().reason.contains("falls"));
}

#[test]
fn a_landing_that_finds_no_ground_is_left_to_the_autopilot() {
    let mut cockpit = Cockpit::flying(&[]);
    assert!(cockpit.ask("~/land").success);
    for _ in 0..900 {
        // It hangs somewhere: thrust is not taken away, nothing says that it stands.
        cockpit.period(0.0, Some(0.15), Some(0.2));
    }
    assert_eq!(cockpit.state(), A::LAND);
    assert!(
        cockpit.authority().reason.contains("the autopilot takes over"),
        "{}",
        cockpit.authority().reason
    );
    assert!(
        cockpit.commands().iter().all(|c| c.motors != [-1.0; 4] || c.source == 3 && c.header.stamp.sec < 2)
    );
}

#[test]
fn under_px4s_pattern_of_8_8_8_16_milliseconds_the_student_flies_on() {
    let mut cockpit = Cockpit::flying(&[]);
    cockpit.rig.forget();
    for k in 0..200 {
        cockpit.wait(if k % 4 == 3 { 16 } else { 8 });
        cockpit.odometry(Pose::at(0.0));
        cockpit.wait(1);
        cockpit.offer_before(1, "guide/command", 0.1);
        cockpit.offer_before(1, "student/command", 0.2);
    }
    let commands = cockpit.commands();
    assert!(commands.iter().all(|c| c.source == STUDENT), "{}", cockpit.authority().reason);
    assert!(commands.len() >= 199);
}
