//! PX4's rules as a companion computer meets them: arming, offboard mode, heartbeat, failsafe, landing.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{ACK, Companion, STATUS, four, hover};
use proptest::prelude::*;
use spikewing_msgs::px4_msgs::{
    OffboardControlMode, VehicleCommand, VehicleCommandAck as Ack, VehicleStatus, VehicleStatusV4,
};
use spikewing_px4_bridge::px4;
use spikewing_runtime::{Span, node::Shutdown, parameter::Value};

const ACCEPTED: Option<u8> = Some(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
const REJECTED: Option<u8> = Some(Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED);
const UNSUPPORTED: Option<u8> = Some(Ack::VEHICLE_CMD_RESULT_UNSUPPORTED);
const OFFBOARD: u8 = VehicleStatus::NAVIGATION_STATE_OFFBOARD;
const LAND: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LAND;
const LOITER: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;

#[test]
fn offboard_mode_wants_a_heartbeat_that_streams_for_a_second() {
    // Armed and in hold, on the ground.
    let armed = || {
        let mut px4 = Companion::new(&[("com_disarm_prflt", Value::Float(-1.0))]);
        px4.pass(3000);
        assert_eq!(px4.arm(), ACCEPTED);
        px4
    };
    let mut px4 = armed();
    assert_eq!(px4.offboard(), REJECTED, "no heartbeat");
    px4.heartbeat();
    assert_eq!(px4.offboard(), REJECTED, "one heartbeat");
    px4.stream(960, None);
    assert_eq!(px4.offboard(), REJECTED, "not for long enough");
    px4.stream(100, None);
    assert_eq!(px4.offboard(), ACCEPTED);
    px4.pass(10);
    assert_eq!(px4.status().nav_state, OFFBOARD);

    let mut slow = armed();
    for _ in 0..10 {
        slow.heartbeat();
        slow.pass(600);
    }
    slow.heartbeat();
    assert_eq!(slow.offboard(), REJECTED, "1.7 Hz is no stream");

    let mut other = armed();
    for _ in 0..100 {
        let mode = OffboardControlMode { position: true, ..Default::default() };
        other.rig.message(px4::OFFBOARD_CONTROL_MODE, mode);
        other.pass(20);
    }
    assert_eq!(other.offboard(), REJECTED, "not for direct motor control");
}

#[test]
fn disarmed_it_grants_any_mode_and_arms_where_the_mode_can_run() {
    let mut px4 = Companion::new(&[]);
    px4.pass(100);
    // Even offboard mode, without a heartbeat; but it does not arm there.
    assert_eq!(px4.offboard(), ACCEPTED);
    assert_eq!(px4.arm(), REJECTED, "no heartbeat");
    px4.stream(500, None);
    assert_eq!(px4.arm(), REJECTED, "not for long enough");
    px4.stream(600, None);
    px4.pass(600);
    assert_eq!(px4.arm(), REJECTED, "it has stopped");
    assert!(!px4.is_armed());
    px4.stream(1500, None);
    assert_eq!(px4.arm(), ACCEPTED);
    // The status came with the acknowledgement, not at the next period.
    let (at, status) = px4.rig.sent_at::<VehicleStatus>(STATUS).last().unwrap();
    assert_eq!((at, status.arming_state), (px4.rig.now(), VehicleStatus::ARMING_STATE_ARMED));
    assert_eq!(status.latest_arming_reason, 4, "by a command");
    assert_eq!(px4.arm(), ACCEPTED, "armed already");

    // Land and return prevent arming.
    for sub in [5.0, 6.0] {
        let mut px4 = Companion::new(&[]);
        px4.pass(100);
        assert_eq!(px4.mode(4.0, sub), ACCEPTED);
        assert_eq!(px4.arm(), REJECTED);
        assert_eq!(px4.mode(4.0, 3.0), ACCEPTED);
        assert_eq!(px4.arm(), ACCEPTED, "in hold");
    }
}

#[test]
fn commands_for_others_are_not_answered_and_not_obeyed() {
    let mut px4 = Companion::new(&[]);
    px4.stream(1100, None);
    let offboard = VehicleCommand {
        command: u32::from(VehicleCommand::VEHICLE_CMD_DO_SET_MODE),
        param1: 1.0,
        param2: 6.0,
        source_system: 7,
        source_component: 191,
        ..Default::default()
    };
    for (target_system, target_component) in [(2, 1), (1, 100), (255, 0)] {
        assert_eq!(px4.send(VehicleCommand { target_system, target_component, ..offboard.clone() }), None);
        px4.pass(10);
        assert_eq!(px4.status().nav_state, LOITER);
    }
    // To everybody.
    assert_eq!(px4.send(offboard), ACCEPTED);
    let ack = px4.rig.last::<Ack>(ACK).unwrap();
    assert_eq!((ack.target_system, ack.target_component), (7, 191), "the answer goes to who asked");
    assert_eq!(ack.command, u32::from(VehicleCommand::VEHICLE_CMD_DO_SET_MODE));
}

#[test]
fn what_it_cannot_do_is_unsupported() {
    let mut px4 = Companion::armed(&[]);
    for (command, param1, param2) in
        [(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 2.0, 0.0), (60_000, 0.0, 0.0)]
    {
        assert_eq!(px4.command(command, param1, param2), UNSUPPORTED);
    }
    // A mode that is none, or not modelled, is "temporarily" rejected.
    assert_eq!(px4.mode(4.0, 0.0), REJECTED);
    assert_eq!(px4.mode(99.0, 0.0), REJECTED);
    assert_eq!((px4.is_armed(), px4.status().nav_state), (true, OFFBOARD));
}

#[test]
fn the_last_motor_command_stays_while_the_heartbeat_goes_on() {
    let mut px4 = Companion::armed(&[]);
    px4.motors(four([0.9; 4]));
    px4.stream(1500, None);
    let (height, climb) = (px4.height(), -px4.odometry().velocity[2]);
    assert!(height > 1.0 && climb > 1.0, "{height} m, {climb} m/s");
    assert!(px4.is_armed() && px4.status().nav_state == OFFBOARD && !px4.landed());
    px4.stream(500, None);
    assert!(px4.height() > height + 0.5, "it climbs on, with a command of two seconds ago");
}

#[test]
fn a_heartbeat_that_stops_leads_to_the_failsafe_after_its_time_limit() {
    for (action, loss_s) in [("land", 1.0), ("hold", 0.5)] {
        let mut px4 = Companion::hovering(
            2.0,
            &[("com_obl_rc_act", Value::Text(action.into())), ("com_of_loss_t", Value::Float(loss_s))],
        );
        px4.heartbeat();
        let last = px4.rig.now();
        px4.rig.forget();
        px4.pass((loss_s * 1000.0) as i64);
        let calm = px4.rig.sent::<VehicleStatus>(STATUS).all(|s| s.nav_state == OFFBOARD && !s.failsafe);
        assert!(calm, "{action}: too early");
        px4.pass(10);
        let (at, status) =
            px4.rig.sent_at::<VehicleStatus>(STATUS).find(|(_, s)| s.nav_state != OFFBOARD).unwrap();
        let delay = (at - last).seconds() - loss_s;
        assert!((0.0..0.0101).contains(&delay), "{action}: {delay} s late");
        let (nav_state, failsafe) = (status.nav_state, status.failsafe);
        px4.pass(3000);
        match action {
            "land" => {
                assert_eq!((nav_state, failsafe), (LAND, true));
                px4.pass(6000);
                assert!(px4.landed() && !px4.is_armed(), "it has landed and disarmed");
                assert!(!px4.status().failsafe, "what the failsafe wanted is done");
            }
            "hold" => {
                assert_eq!((nav_state, failsafe), (LOITER, true));
                assert!(px4.is_armed() && (px4.height() - 2.0).abs() < 0.2, "{} m", px4.height());
                // The companion is back: with its heartbeat the cause is gone, and offboard mode goes on by itself.
                px4.stream(60, Some(four([hover("crazyflie"); 4])));
                assert_eq!((px4.status().nav_state, px4.status().failsafe), (OFFBOARD, false));
            }
            _ => unreachable!(),
        }
    }
}

#[test]
fn a_short_gap_in_the_heartbeat_is_forgiven_in_flight() {
    let mut px4 = Companion::hovering(2.0, &[]);
    px4.pass(900);
    px4.stream(500, None);
    assert!(px4.status().nav_state == OFFBOARD && !px4.status().failsafe);
}

#[test]
fn it_lands_and_disarms_when_it_is_told_to() {
    let mut px4 = Companion::hovering(1.5, &[]);
    assert_eq!(px4.command(VehicleCommand::VEHICLE_CMD_NAV_LAND, 0.0, 0.0), ACCEPTED);
    px4.pass(10);
    assert_eq!(px4.status().nav_state, LAND);
    // The companion's setpoints no longer count, heartbeat or not.
    px4.stream(2000, Some(four([1.0; 4])));
    assert!(px4.height() < 1.0, "{} m", px4.height());
    px4.stream(6000, Some(four([1.0; 4])));
    assert!(px4.landed() && !px4.is_armed());
    // The mode in which it was armed is the one that it goes back to.
    assert_eq!(px4.status().nav_state, OFFBOARD);
}

#[test]
fn only_force_disarms_in_the_air() {
    let mut px4 = Companion::hovering(3.0, &[]);
    assert_eq!(px4.disarm(0.0), REJECTED);
    assert_eq!(px4.disarm(1.0), REJECTED);
    assert!(px4.is_armed());
    px4.stream(200, None);
    assert!(px4.height() > 2.8);
    assert_eq!(px4.disarm(21196.0), ACCEPTED);
    assert!(!px4.is_armed());
    px4.stream(500, Some(four([1.0; 4])));
    let sink = px4.odometry().velocity[2];
    assert!(sink > 3.0, "it falls at {sink} m/s whatever is commanded");
}

#[test]
fn px4_1_18_has_other_layouts_and_topics() {
    let mut px4 = Companion::new(&[("px4_version", Value::Text("1.18".into()))]);
    px4.stream(1100, None);
    let command = |command: u16, param1, param2| VehicleCommand {
        command: u32::from(command),
        param1,
        param2,
        ..Default::default()
    };
    px4.rig.message(px4::VEHICLE_COMMAND, command(VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0));
    px4.rig
        .message(px4::VEHICLE_COMMAND, command(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0));
    let acks: Vec<u8> = px4.rig.sent::<Ack>(px4::ACK_V1.name).map(|a| a.result).collect();
    assert_eq!(acks, [0, 0]);
    let status = px4.rig.last::<VehicleStatusV4>(px4::STATUS_V4.name).unwrap();
    assert_eq!(status.arming_state, VehicleStatusV4::ARMING_STATE_ARMED);
    assert_eq!(status.nav_state, VehicleStatusV4::NAVIGATION_STATE_OFFBOARD);
}

#[test]
fn a_stopping_simulator_waits_until_the_vehicle_is_disarmed() {
    let mut px4 = Companion::hovering(1.0, &[]);
    assert_eq!(px4.rig.shutdown(), Shutdown::Wait);
    px4.pass(12_000);
    assert!(!px4.is_armed());
    assert_eq!(px4.rig.shutdown(), Shutdown::Done);
}

#[derive(Clone, Debug)]
enum Event {
    Pass(i64),
    Heartbeat(bool),
    Motors([f32; 4]),
    Command(u16, f32, f32),
    Place([f64; 3]),
}

fn event() -> impl Strategy<Value = Event> {
    let control =
        prop_oneof![6 => 0.0_f32..1.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => -9.0_f32..9.0];
    let commands = prop::sample::select(vec![
        (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0),
        (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0),
        (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, 0.0),
        (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, 21196.0),
        (VehicleCommand::VEHICLE_CMD_NAV_LAND, f32::NAN, 0.0),
        (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, f32::NAN, f32::INFINITY),
    ]);
    let metre = prop_oneof![6 => -3.0_f64..3.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
    prop_oneof![
        6 => (0_i64..300).prop_map(Event::Pass),
        4 => any::<bool>().prop_map(Event::Heartbeat),
        4 => prop::array::uniform4(control).prop_map(Event::Motors),
        3 => commands.prop_map(|(c, a, b)| Event::Command(c, a, b)),
        1 => prop::array::uniform3(metre).prop_map(Event::Place),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The state stays a state, above the ground; and nobody flies without the rules being kept.
    #[test]
    fn whatever_arrives_the_rules_hold(events in prop::collection::vec(event(), 0..80), armed in any::<bool>()) {
        let mut px4 = if armed { Companion::armed(&[]) } else { Companion::new(&[]) };
        let mut beat = px4.rig.now();
        px4.pass(110);
        for event in events {
            match event {
                Event::Pass(ms) => px4.pass(ms),
                Event::Heartbeat(stream) => {
                    if stream { px4.stream(200, None) } else { px4.heartbeat() }
                    beat = px4.rig.now();
                }
                Event::Motors(u) => px4.motors(four(u)),
                Event::Command(c, a, b) => drop(px4.command(c, a, b)),
                Event::Place(p) => {
                    let sound = p.iter().all(|x| x.is_finite());
                    let granted = px4.place(p, nalgebra::UnitQuaternion::identity());
                    prop_assert_eq!(sound, granted);
                }
            }
            px4.pass(10);
            let m = px4.odometry();
            let numbers = m.position.iter().chain(&m.q).chain(&m.velocity).chain(&m.angular_velocity);
            prop_assert!(numbers.clone().all(|v| v.is_finite()), "{m:?}");
            prop_assert!(m.position[2] <= 0.0, "below the ground: {m:?}");
            let fresh = px4.rig.now() - beat <= Span::from_millis(1010);
            // Disarmed it may stay in the mode without a heartbeat.
            prop_assert!(!px4.is_armed() || px4.status().nav_state != OFFBOARD || fresh);
        }
    }
}
