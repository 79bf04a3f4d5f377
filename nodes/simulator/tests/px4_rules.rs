//! What a real PX4 does to a companion, each test named after the rule: land detector, disarming by itself, failsafes,
//! pilots, refusals, and how often things are told. The rules' sources stand in README.md.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Companion, LANDED, ODOMETRY, STATUS, four, hover};
use spikewing_msgs::px4_msgs::{
    VehicleCommandAck as Ack, VehicleLandDetected, VehicleOdometry, VehicleStatus,
};
use spikewing_runtime::{Span, Time, parameter::Value};

const ACCEPTED: Option<u8> = Some(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
const REJECTED: Option<u8> = Some(Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED);
const OFFBOARD: u8 = VehicleStatus::NAVIGATION_STATE_OFFBOARD;
const LAND: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LAND;
const LOITER: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
const POSITION: u8 = VehicleStatus::NAVIGATION_STATE_POSCTL;
const RETURN: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_RTL;
const FORCE: f32 = 21196.0;

/// `latest_disarming_reason`.
const BY_COMMAND: u8 = 4;
const BY_LANDING: u8 = 6;
const BY_INACTION: u8 = 7;
const BY_FAILSAFE: u8 = 14;

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn calm() -> Option<[f32; 12]> {
    Some(four([hover("crazyflie"); 4]))
}

/// Flown with motors alone, without anybody writing the thrust setpoint.
fn without_thrust(settings: &[(&'static str, Value)]) -> Companion {
    let mut px4 = Companion::armed(settings);
    px4.writes_thrust = false;
    // A climb is motion, and so it is noticed.
    px4.stream(600, Some(four([0.9; 4])));
    assert!(!px4.landed());
    assert!(px4.place([0.0, 0.0, 2.0], nalgebra::UnitQuaternion::identity()));
    px4
}

#[test]
fn a_calm_hover_without_thrust_setpoint_is_taken_for_landed_and_disarmed() {
    let mut px4 = without_thrust(&[]);
    px4.stream(900, calm());
    assert!(!px4.landed());
    px4.stream(300, calm());
    assert!(px4.landed() && px4.height() > 1.5, "landed at {} m", px4.height());
    px4.stream(2000, calm());
    assert!(!px4.is_armed());
    assert_eq!(px4.status().latest_disarming_reason, BY_LANDING);
    px4.stream(1000, calm());
    assert!(px4.height() < 0.5, "and falls");
}

#[test]
fn with_a_thrust_setpoint_that_agrees_with_the_motors_a_calm_hover_goes_on() {
    let mut px4 = Companion::hovering(2.0, &[]);
    px4.stream(15_000, calm());
    assert!(px4.is_armed() && !px4.landed() && px4.height() > 1.0, "{} m", px4.height());
}

#[test]
fn a_take_off_that_is_not_noticed_ends_in_preflight_disarming_in_the_air() {
    // Forced to the air without a climb: no throttle, no motion, so PX4 still thinks that it stands.
    let mut px4 = Companion::new(&[]);
    px4.writes_thrust = false;
    px4.stream(1100, calm());
    assert_eq!((px4.offboard(), px4.arm()), (ACCEPTED, ACCEPTED));
    assert!(px4.place([0.0, 0.0, 2.0], nalgebra::UnitQuaternion::identity()));
    px4.stream(10_500, calm());
    assert!(px4.is_armed() && px4.landed() && px4.height() > 1.0);
    px4.stream(1000, calm());
    assert!(!px4.is_armed());
    assert_eq!(px4.status().latest_disarming_reason, BY_INACTION);
}

#[test]
fn whoever_does_not_take_off_is_disarmed_after_com_disarm_prflt_and_the_spool_up() {
    for (preflight, armed) in [(10.0, false), (-1.0, true)] {
        let mut px4 = Companion::armed(&[("com_disarm_prflt", Value::Float(preflight))]);
        px4.stream(10_500, Some(four([0.0; 4])));
        assert!(px4.is_armed(), "not yet");
        px4.stream(1500, Some(four([0.0; 4])));
        assert_eq!(px4.is_armed(), armed, "no take-off within {preflight} s");
    }
}

#[test]
fn whoever_has_landed_is_disarmed_after_com_disarm_land() {
    for (after, armed) in [(2.0, false), (-1.0, true)] {
        let mut px4 = Companion::armed(&[("com_disarm_land", Value::Float(after))]);
        px4.stream(500, Some(four([0.9; 4])));
        assert!(!px4.landed());
        px4.stream(3600, Some(four([0.0; 4])));
        assert!(px4.landed() && px4.is_armed(), "a second of calm, and then two");
        px4.stream(2000, Some(four([0.0; 4])));
        assert_eq!(px4.is_armed(), armed, "landed, com_disarm_land = {after}");
    }
}

#[test]
fn throttle_alone_ends_landed_before_the_vehicle_moves() {
    let mut px4 = Companion::armed(&[]);
    px4.stream(400, Some(four([0.0; 4])));
    assert!(px4.landed());
    px4.stream(40, Some(four([0.2; 4])));
    assert!(!px4.landed() && px4.height() < 0.01);
}

#[test]
fn disarming_is_denied_in_the_air_and_granted_on_what_may_be_the_ground() {
    let mut px4 = Companion::hovering(2.0, &[]);
    px4.stream(200, calm());
    assert_eq!(px4.disarm(0.0), REJECTED);
    assert_eq!(px4.disarm(FORCE), ACCEPTED);
    px4.pass(10);
    assert_eq!(px4.status().latest_disarming_reason, BY_COMMAND);
}

#[test]
fn a_vehicle_armed_again_in_the_air_counts_as_standing_until_it_takes_off() {
    let mut px4 = Companion::hovering(40.0, &[]);
    px4.stream(200, calm());
    assert_eq!(px4.disarm(FORCE), ACCEPTED);
    px4.stream(1100, calm());
    assert!(px4.landed(), "disarmed is landed, whatever the height: {} m", px4.height());
}

#[test]
fn each_action_of_com_obl_rc_act_is_what_px4_does() {
    for (action, nav_state, armed) in [
        ("position", POSITION, true),
        ("altitude", VehicleStatus::NAVIGATION_STATE_ALTCTL, true),
        ("stabilized", VehicleStatus::NAVIGATION_STATE_STAB, true),
        ("return", RETURN, true),
        ("land", LAND, true),
        ("hold", LOITER, true),
        ("terminate", VehicleStatus::NAVIGATION_STATE_TERMINATION, true),
        ("disarm", OFFBOARD, false),
    ] {
        let mut px4 = Companion::hovering(3.0, &[("com_obl_rc_act", text(action))]);
        px4.pass(1100);
        assert_eq!((px4.status().nav_state, px4.is_armed()), (nav_state, armed), "{action}");
        assert_eq!(px4.status().failsafe, armed, "{action}");
        px4.pass(1000);
        match action {
            "terminate" | "disarm" => assert!(px4.height() < 1.0, "{action}: {} m", px4.height()),
            _ => assert!(px4.height() > 2.0, "{action}: {} m", px4.height()),
        }
        if action == "disarm" {
            assert_eq!(px4.status().latest_disarming_reason, BY_FAILSAFE);
        }
    }
}

#[test]
fn a_failsafe_to_position_mode_returns_where_no_pilot_is() {
    let settings = [("com_obl_rc_act", text("position")), ("manual_control", Value::Bool(false))];
    let mut px4 = Companion::hovering(2.0, &settings);
    px4.pass(1100);
    assert_eq!(px4.status().nav_state, RETURN);
    px4.pass(15_000);
    assert!(px4.landed() && !px4.is_armed(), "home, down, disarmed");
}

#[test]
fn offboard_goes_on_by_itself_when_the_heartbeat_is_back() {
    let mut px4 = Companion::hovering(3.0, &[("com_obl_rc_act", text("land"))]);
    px4.pass(1300);
    assert_eq!(px4.status().nav_state, LAND);
    px4.stream(60, calm());
    assert_eq!((px4.status().nav_state, px4.status().failsafe), (OFFBOARD, false));
}

#[test]
fn a_pilot_takes_over_and_no_motor_setpoint_counts_any_more() {
    for (main, sub, nav_state) in [(4.0, 3.0, LOITER), (3.0, 0.0, POSITION), (4.0, 6.0, LAND)] {
        let mut px4 = Companion::hovering(3.0, &[]);
        px4.stream(200, calm());
        assert_eq!(px4.mode(main, sub), ACCEPTED);
        px4.stream(1500, Some(four([1.0; 4])));
        assert_eq!(px4.status().nav_state, nav_state);
        assert!(px4.height() < 3.2, "it climbed to {} m on the companion's motors", px4.height());
        assert!(!px4.status().failsafe);
    }
}

#[test]
fn a_pilots_mode_is_denied_in_flight_without_manual_control() {
    let mut px4 = Companion::hovering(3.0, &[("manual_control", Value::Bool(false))]);
    assert_eq!(px4.mode(3.0, 0.0), REJECTED);
    assert_eq!(px4.mode(4.0, 3.0), ACCEPTED, "hold needs none");
}

#[test]
fn termination_is_for_good() {
    let mut px4 = Companion::hovering(3.0, &[]);
    assert_eq!(px4.command3(185, [1.0, 0.0, 0.0]), ACCEPTED);
    px4.pass(20);
    assert_eq!(px4.status().nav_state, VehicleStatus::NAVIGATION_STATE_TERMINATION);
    assert_eq!(px4.mode(4.0, 3.0), REJECTED);
    px4.stream(1500, Some(four([1.0; 4])));
    assert!(px4.height() < 0.1, "it fell");
}

#[test]
fn an_empty_battery_is_held_for_com_fail_act_t_and_then_landed() {
    let mut px4 = Companion::hovering(3.0, &[]);
    assert_eq!(px4.command3(420, [100.0, 1.0, 0.0]), ACCEPTED);
    px4.stream(100, calm());
    assert_eq!((px4.status().nav_state, px4.status().failsafe), (LOITER, true));
    px4.stream(4800, calm());
    assert_eq!(px4.status().nav_state, LOITER);
    px4.stream(400, calm());
    assert_eq!(px4.status().nav_state, LAND);
    px4.stream(14_000, calm());
    assert!(px4.landed() && !px4.is_armed());
    assert!(!px4.status().pre_flight_checks_pass);
    assert_eq!(px4.arm(), REJECTED, "battery critical");
    assert_eq!(px4.command3(420, [100.0, 0.0, 0.0]), ACCEPTED);
    px4.stream(1100, None);
    assert_eq!(px4.arm(), ACCEPTED);
}

#[test]
fn a_pilot_may_prevent_the_battery_failsafe() {
    let mut px4 = Companion::hovering(3.0, &[]);
    assert_eq!(px4.command3(420, [100.0, 1.0, 0.0]), ACCEPTED);
    px4.stream(1000, calm());
    assert_eq!(px4.mode(3.0, 0.0), ACCEPTED);
    px4.stream(8000, calm());
    let status = px4.status();
    assert_eq!((status.nav_state, status.failsafe), (POSITION, false));
    assert!(status.failsafe_and_user_took_over);
}

#[test]
fn a_battery_drains_with_armed_time_and_warns_first() {
    let settings = [("battery.drain_s", Value::Float(10.0)), ("com_low_bat_act", text("land"))];
    let mut px4 = Companion::hovering(3.0, &settings);
    px4.stream(9000, calm());
    assert_eq!(px4.status().nav_state, OFFBOARD, "low: a message only");
    px4.stream(500, calm());
    assert!(px4.status().failsafe, "critical");
}

#[test]
fn a_missing_sensor_denies_arming_with_nothing_but_temporarily_rejected() {
    let mut px4 = Companion::new(&[]);
    px4.stream(1100, None);
    assert_eq!(px4.command3(420, [0.0, 1.0, 0.0]), ACCEPTED);
    px4.stream(600, None);
    assert!(!px4.status().pre_flight_checks_pass);
    assert_eq!(px4.arm(), REJECTED);
    assert_eq!(px4.command3(420, [0.0, 0.0, 0.0]), ACCEPTED);
    px4.stream(600, None);
    assert!(px4.status().pre_flight_checks_pass);
    assert_eq!(px4.arm(), ACCEPTED);
}

#[test]
fn status_comes_twice_a_second_and_land_detected_once_and_both_when_they_change() {
    let mut px4 = Companion::armed(&[]);
    px4.stream(1000, Some(four([0.0; 4])));
    px4.rig.forget();
    px4.stream(6000, Some(four([0.0; 4])));
    let (status, landed) =
        (px4.rig.sent::<VehicleStatus>(STATUS).count(), px4.rig.sent::<VehicleLandDetected>(LANDED).count());
    assert!((11..=13).contains(&status) && (5..=7).contains(&landed), "{status}, {landed} in 6 s");
    px4.rig.forget();
    let before = px4.rig.now();
    px4.stream(20, Some(four([0.9; 4])));
    let (at, m) = px4.rig.sent_at::<VehicleLandDetected>(LANDED).next().unwrap();
    assert!(!m.landed && at - before <= Span::from_millis(20));
}

/// Under `realism: px4`.
fn real(settings: &[(&'static str, Value)]) -> Companion {
    let mut all = vec![("realism", text("px4")), ("ekf.settling_s", Value::Float(0.0))];
    all.extend(settings.iter().cloned());
    Companion::new(&all)
}

#[test]
fn real_odometry_comes_8_8_8_16_ms_apart_a_little_late() {
    let mut px4 = real(&[]);
    px4.pass(4000);
    let held: Vec<u64> =
        px4.rig.sent::<VehicleOdometry>(ODOMETRY).map(|m| m.timestamp_sample).skip(5).take(200).collect();
    let steps: Vec<u64> = held.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(steps.windows(4).all(|w| w.iter().sum::<u64>() == 40_000), "{:?}", &steps[..12]);
    assert!(steps.iter().all(|s| *s == 8000 || *s == 16_000));
    let ages: Vec<u64> = px4
        .rig
        .sent_at::<VehicleOdometry>(ODOMETRY)
        .map(|(at, m)| at.nanoseconds() as u64 / 1000 - m.timestamp_sample)
        .collect();
    assert!(ages.iter().all(|a| *a <= 20_000) && ages.iter().any(|a| *a > 4000), "{:?}", ages.iter().max());
}

#[test]
fn real_velocity_on_the_ground_with_turning_motors_is_not_still() {
    let mut px4 = real(&[]);
    px4.stream(1100, Some(four([0.0; 4])));
    assert_eq!((px4.offboard(), px4.arm()), (ACCEPTED, ACCEPTED));
    px4.stream(1000, Some(four([0.0; 4])));
    px4.rig.forget();
    px4.stream(6000, Some(four([0.0; 4])));
    let speed = |m: &VehicleOdometry| m.velocity.iter().map(|v| v * v).sum::<f32>().sqrt();
    let speeds: Vec<f32> = px4.rig.sent::<VehicleOdometry>(ODOMETRY).map(speed).collect();
    let mean = speeds.iter().sum::<f32>() / speeds.len() as f32;
    assert!((0.1..0.3).contains(&mean), "{mean} m/s");
    assert!(px4.landed(), "the land detector has a margin for it");
}

#[test]
fn a_real_estimator_must_settle_before_arming() {
    let mut px4 = Companion::new(&[("realism", text("px4"))]);
    px4.stream(2000, None);
    assert_eq!((px4.offboard(), px4.arm()), (ACCEPTED, REJECTED));
    assert!(!px4.status().pre_flight_checks_pass);
    px4.stream(4000, None);
    assert_eq!(px4.arm(), ACCEPTED);
}

#[test]
fn a_jump_of_the_estimate_counts_up_its_reset_counter() {
    let mut px4 = real(&[("ekf.resets_every_s", Value::Float(1.0))]);
    px4.pass(10_000);
    let all: Vec<&VehicleOdometry> = px4.rig.sent(ODOMETRY).collect();
    let jumps: Vec<f32> = all
        .windows(2)
        .filter(|w| w[0].reset_counter != w[1].reset_counter)
        .map(|w| (w[0].position[0] - w[1].position[0]).abs())
        .collect();
    assert!((3..30).contains(&jumps.len()), "{}", jumps.len());
    let smooth = all.windows(2).filter(|w| w[0].reset_counter == w[1].reset_counter);
    assert!(smooth.map(|w| (w[0].position[0] - w[1].position[0]).abs()).all(|d| d < 0.02));
}

#[test]
fn an_unsynchronised_clock_runs_slow_and_stamps_with_it() {
    let mut px4 = Companion::new(&[
        ("px4_clock.rate_error", Value::Float(-0.009)),
        ("px4_clock.offset_s", Value::Float(500.0)),
    ]);
    let start = px4.rig.now();
    px4.pass(10_000);
    let first = px4.rig.sent::<VehicleOdometry>(ODOMETRY).next().unwrap().timestamp;
    let passed = (px4.odometry().timestamp - first) as f64 * 1e-6;
    assert!((passed - 9.9).abs() < 0.02, "{passed} s");
    assert!(Time::from_nanoseconds(first as i64 * 1000) > start + Span::from_millis(490_000));
}
