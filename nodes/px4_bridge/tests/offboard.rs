//! Heartbeat, arming and motors: what PX4 gets, and when it gets nothing.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use spikewing_msgs::{
    builtin_interfaces,
    px4_msgs::{
        ActuatorMotors, FailsafeFlags, OffboardControlMode, VehicleCommand, VehicleCommandAck as Ack,
        VehicleLandDetected, VehicleOdometry, VehicleStatus, VehicleStatusV2, VehicleStatusV4,
        VehicleThrustSetpoint,
    },
    spikewing_msgs as sw,
};
use spikewing_px4_bridge::NODE;
use spikewing_runtime::{Span, parameter::Value, rig::Rig};

const HEARTBEAT: &str = "fmu/in/offboard_control_mode";
const MOTORS: &str = "fmu/in/actuator_motors";
const THRUST: &str = "fmu/in/vehicle_thrust_setpoint";
const REQUEST: &str = "fmu/in/vehicle_command";
const STATUS: &str = "fmu/out/vehicle_status_v1";
const ACK: &str = "fmu/out/vehicle_command_ack";
const LOITER: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
const OFFBOARD: u8 = VehicleStatus::NAVIGATION_STATE_OFFBOARD;
const MANUAL: u8 = VehicleStatus::NAVIGATION_STATE_MANUAL;
const LAND: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LAND;

/// A supervisor and a PX4 around the bridge. PX4's status is repeated twice a second, as the real one does.
struct Bridge {
    rig: Rig,
    px4: Option<VehicleStatus>,
    asked: i32,
    passed_ms: i64,
}

impl Bridge {
    fn new(settings: &[(&str, Value)]) -> Self {
        Self { rig: Rig::build(&NODE, settings).unwrap(), px4: None, asked: 0, passed_ms: 0 }
    }

    /// The supervisor arms, and PX4 answers with its status.
    fn arming(settings: &[(&str, Value)]) -> Self {
        let mut bridge = Self::new(settings);
        bridge.ask_to_arm();
        bridge.px4(false, LOITER);
        bridge
    }

    fn authority(&mut self, state: u8) {
        self.rig.message("authority", sw::Authority { state, ..Default::default() });
    }

    /// Each asking has its own time; a repetition has not.
    fn ask_to_arm(&mut self) {
        self.asked += 1;
        self.repeat_asking();
    }

    fn repeat_asking(&mut self) {
        let since = builtin_interfaces::Time { sec: self.asked, nanosec: 0 };
        self.rig.message(
            "authority",
            sw::Authority { state: sw::Authority::ARMING, since, ..Default::default() },
        );
    }

    /// PX4 is in a mode that was asked for.
    fn px4(&mut self, armed: bool, nav_state: u8) {
        self.px4_intends(armed, nav_state, nav_state);
    }

    fn px4_intends(&mut self, armed: bool, nav_state: u8, intended: u8) {
        let arming_state =
            if armed { VehicleStatus::ARMING_STATE_ARMED } else { VehicleStatus::ARMING_STATE_DISARMED };
        self.say(VehicleStatus {
            arming_state,
            nav_state,
            nav_state_user_intention: intended,
            system_id: 1,
            pre_flight_checks_pass: true,
            ..Default::default()
        });
    }

    fn say(&mut self, status: VehicleStatus) {
        self.rig.message(STATUS, status.clone());
        self.px4 = Some(status);
    }

    /// PX4's status no longer arrives.
    fn px4_silent(&mut self) {
        self.px4 = None;
    }

    /// Landed or not by the land detector, and at rest or not by the odometry.
    fn landed(&mut self, landed: bool) {
        self.rig
            .message("fmu/out/vehicle_land_detected", VehicleLandDetected { landed, ..Default::default() });
        let velocity = if landed { [0.1, 0.0, 0.1] } else { [0.0, 0.0, 0.6] };
        self.rig.message(
            "fmu/out/vehicle_odometry",
            VehicleOdometry {
                q: [1.0, 0.0, 0.0, 0.0],
                velocity,
                pose_frame: 1,
                velocity_frame: 1,
                ..Default::default()
            },
        );
    }

    /// Commands at 100 Hz.
    fn command(&mut self, ms: i64, motors: [f32; 4]) {
        for _ in 0..ms / 10 {
            self.rig.message("command", sw::MotorCommand { motors, ..Default::default() });
            self.pass(10);
        }
    }

    fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 10 {
            self.rig.pass(Span::from_millis(10));
            self.passed_ms += 10;
            if self.passed_ms % 500 == 0
                && let Some(status) = &self.px4
            {
                self.rig.message(STATUS, status.clone());
            }
        }
    }

    /// PX4's answer to the last request.
    fn answer(&mut self, result: u8) {
        let request = self.requests().pop().unwrap();
        self.rig.message(ACK, ack(&request, result));
    }

    fn heartbeats(&self) -> usize {
        self.rig.sent::<OffboardControlMode>(HEARTBEAT).count()
    }

    fn motors(&self) -> Vec<ActuatorMotors> {
        self.rig.sent(MOTORS).cloned().collect()
    }

    fn requests(&self) -> Vec<VehicleCommand> {
        self.rig.sent(REQUEST).cloned().collect()
    }

    fn asked_for(&self) -> Vec<(u16, f32, f32)> {
        self.requests().iter().map(command).collect()
    }

    /// What the supervisor hears, after a status of PX4.
    fn status(&mut self, armed: bool, nav_state: u8) -> sw::VehicleStatus {
        self.px4(armed, nav_state);
        self.told()
    }

    /// What the supervisor heard last.
    fn told(&self) -> sw::VehicleStatus {
        self.rig.last::<sw::VehicleStatus>("vehicle/status").unwrap().clone()
    }
}

fn ack(request: &VehicleCommand, result: u8) -> Ack {
    Ack {
        command: request.command,
        result,
        target_system: request.source_system,
        target_component: request.source_component,
        ..Default::default()
    }
}

fn command(request: &VehicleCommand) -> (u16, f32, f32) {
    // Sub-modes show behind the point, but for 3, holding.
    let sub = if request.param3 == 3.0 { 0.0 } else { request.param3 / 100.0 };
    (u16::try_from(request.command).unwrap(), request.param1, request.param2 + sub)
}

const SET_OFFBOARD: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0);
const ARM: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0);
const HOLD: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 4.0);
/// AUTO with the sub-mode for landing: see [`command`].
const LAND_BY_ITSELF: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 4.06);
const DISARM: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, 0.0);

#[test]
fn the_heartbeat_lives_on_commands_and_on_nothing_else() {
    let mut bridge = Bridge::arming(&[]);
    bridge.pass(3000);
    assert_eq!(bridge.heartbeats(), 0, "no command yet");
    bridge.command(2000, [0.0; 4]);
    let beats = bridge.heartbeats();
    assert!((35..=41).contains(&beats), "{beats} heartbeats in 2 s: PX4 wants more than 4 and no flood");
    let modes: Vec<&OffboardControlMode> = bridge.rig.sent(HEARTBEAT).collect();
    assert!(modes.iter().all(|m| m.direct_actuator && !m.position && !m.velocity && !m.attitude));
    bridge.rig.forget();
    bridge.pass(5000);
    assert_eq!(bridge.heartbeats(), 0, "the command is stale");
    assert!(bridge.motors().is_empty() && bridge.requests().is_empty());
}

#[test]
fn nothing_is_sent_when_nobody_wants_to_fly() {
    let mut bridge = Bridge::new(&[]);
    bridge.px4(false, LOITER);
    bridge.command(3000, [0.0; 4]);
    bridge.authority(sw::Authority::DISARMED);
    bridge.command(3000, [0.0; 4]);
    assert_eq!((bridge.heartbeats(), bridge.motors().len(), bridge.requests().len()), (0, 0, 0));
}

#[test]
fn a_command_that_is_no_command_keeps_nothing_alive() {
    for bad in [f32::NAN, f32::INFINITY, 1.01, -1.01] {
        let mut bridge = Bridge::arming(&[]);
        bridge.command(2000, [0.0, 0.0, bad, 0.0]);
        assert_eq!((bridge.heartbeats(), bridge.requests().len()), (0, 0), "{bad}");
    }
}

#[test]
fn it_streams_then_asks_for_offboard_mode_then_arms_then_flies() {
    let mut bridge = Bridge::arming(&[]);
    bridge.command(1190, [-1.0; 4]);
    assert!(bridge.requests().is_empty(), "PX4 wants a stream of more than 1 s first");
    bridge.command(40, [-1.0; 4]);
    assert_eq!(bridge.requests().iter().map(command).collect::<Vec<_>>(), [SET_OFFBOARD]);
    let request = bridge.requests().pop().unwrap();
    assert_eq!((request.target_system, request.target_component, request.from_external), (1, 1, true));
    bridge.answer(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
    bridge.px4(false, OFFBOARD);
    bridge.command(40, [-1.0; 4]);
    assert_eq!(bridge.requests().iter().map(command).collect::<Vec<_>>(), [SET_OFFBOARD, ARM]);
    assert!(bridge.motors().is_empty(), "not armed yet");
    bridge.answer(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
    bridge.px4(true, OFFBOARD);
    bridge.command(3000, [1.0, 0.5, -0.5, -1.0]);
    assert_eq!(bridge.requests().len(), 2, "nothing more to ask");
    let motors = bridge.motors();
    assert_eq!(motors.len(), 300, "one for each command");
    // PX4's order: front right, rear left, front left, rear right.
    assert_eq!(motors[0].control[..4], [1.0, 0.25, 0.0, 0.75]);
    assert!(motors[0].control[4..].iter().all(|u| u.is_nan()) && motors[0].reversible_flags == 0);
    assert_eq!(bridge.status(true, OFFBOARD).message, "");
}

#[test]
fn a_refused_request_is_repeated_and_given_up_with_the_reason() {
    let mut bridge = Bridge::arming(&[("max_attempts", Value::Integer(3))]);
    bridge.px4(false, OFFBOARD);
    bridge.command(1240, [-1.0; 4]);
    for attempt in 1..=3 {
        assert_eq!(bridge.requests().len(), attempt);
        bridge.answer(Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED);
        let said = bridge.status(false, OFFBOARD).message;
        assert!(said.contains("arming") && said.contains("temporarily rejected, attempt"), "{said}");
        bridge.command(500, [-1.0; 4]);
    }
    let times: Vec<_> = bridge.rig.sent_at::<VehicleCommand>(REQUEST).map(|(at, _)| at).collect();
    assert!(times.windows(2).all(|w| w[1] - w[0] >= Span::from_millis(500)), "{times:?}");
    let said = bridge.status(false, OFFBOARD).message;
    assert!(said.starts_with("gave up after 3 attempts: PX4: arming"), "{said}");
    bridge.rig.forget();
    bridge.command(5000, [-1.0; 4]);
    assert_eq!((bridge.requests().len(), bridge.heartbeats()), (0, 0), "given up is given up");

    // Asked again, it starts over, and streams first.
    bridge.ask_to_arm();
    bridge.command(1150, [-1.0; 4]);
    assert!(bridge.requests().is_empty(), "the heartbeat had stopped");
    bridge.command(90, [-1.0; 4]);
    assert_eq!(bridge.requests().len(), 1);
}

#[test]
fn the_reason_is_that_of_the_request_that_failed() {
    let mut bridge = Bridge::arming(&[("max_attempts", Value::Integer(2))]);
    bridge.command(1240, [-1.0; 4]);
    bridge.answer(Ack::VEHICLE_CMD_RESULT_DENIED);
    let said = bridge.status(false, LOITER).message;
    assert!(said.contains("offboard mode denied"), "{said}");
    bridge.command(500, [-1.0; 4]);
    bridge.px4(false, OFFBOARD);
    // Nobody answers to the arming.
    bridge.command(2000, [-1.0; 4]);
    assert_eq!(bridge.status(false, OFFBOARD).message, "gave up after 2 attempts: no answer");
}

#[test]
fn answers_to_others_are_not_ours() {
    let mut bridge = Bridge::arming(&[]);
    bridge.command(1240, [-1.0; 4]);
    let ours = bridge.requests().pop().unwrap();
    let denied = ack(&ours, Ack::VEHICLE_CMD_RESULT_DENIED);
    for other in [
        Ack { target_component: 190, ..denied.clone() },
        Ack { target_system: 255, ..denied.clone() },
        Ack { command: u32::from(VehicleCommand::VEHICLE_CMD_NAV_LAND), ..denied.clone() },
        Ack { result: Ack::VEHICLE_CMD_RESULT_IN_PROGRESS, ..denied.clone() },
    ] {
        bridge.rig.message(ACK, other);
        assert_eq!(bridge.status(false, LOITER).message, "");
    }
    bridge.rig.message(ACK, denied);
    assert_ne!(bridge.status(false, LOITER).message, "");
}

/// Armed, in offboard mode, commanded.
fn flying() -> Bridge {
    let mut bridge = Bridge::arming(&[]);
    bridge.command(1240, [-1.0; 4]);
    bridge.px4(true, OFFBOARD);
    bridge.landed(false);
    bridge.authority(sw::Authority::GUIDE);
    bridge.command(100, [0.2; 4]);
    bridge.rig.forget();
    bridge
}

#[test]
fn whoever_takes_the_vehicle_out_of_offboard_mode_keeps_it() {
    let mut bridge = flying();
    bridge.px4(true, MANUAL);
    bridge.command(3000, [0.2; 4]);
    assert_eq!((bridge.requests().len(), bridge.motors().len()), (0, 0));
}

#[test]
fn it_disarms_on_the_ground_only_and_leaves_it_to_px4_for_a_while() {
    let mut bridge = flying();
    bridge.landed(true);
    bridge.command(1000, [0.2; 4]);
    bridge.authority(sw::Authority::DISARMED);
    bridge.command(3000, [0.2; 4]);
    assert!(!bridge.asked_for().contains(&DISARM), "motors turn: the land detector alone is no ground");
    let mut bridge = flying();
    for step in 0..50 {
        bridge.landed(true);
        bridge.command(100, [-1.0; 4]);
        if step == 10 {
            bridge.authority(sw::Authority::DISARMED);
        }
    }
    let asked: Vec<_> =
        bridge.rig.sent_at::<VehicleCommand>(REQUEST).map(|(at, r)| (at, command(r))).collect();
    assert_eq!(asked[0].1, DISARM);
    assert!(asked.iter().all(|(_, what)| *what == DISARM));
    bridge.px4(false, OFFBOARD);
    bridge.rig.forget();
    bridge.pass(3000);
    assert!(bridge.requests().is_empty());
    // A pilot who arms by hand is left alone.
    bridge.px4(true, MANUAL);
    bridge.pass(3000);
    assert!(bridge.requests().is_empty());
}

#[test]
fn when_commands_stop_px4_is_asked_to_fly_by_itself_at_once() {
    let mut bridge = flying();
    bridge.pass(150);
    let asked: Vec<_> =
        bridge.rig.sent_at::<VehicleCommand>(REQUEST).map(|(at, r)| (at, command(r))).collect();
    let (at, what) = asked[0];
    assert_eq!(what, HOLD);
    let last = bridge.rig.sent_at::<ActuatorMotors>(MOTORS).last().map_or(at, |(at, _)| at);
    assert!(at - last <= Span::from_millis(130), "{:?} after the last command", at - last);
    // PX4 obeys; the supervisor hears whose doing it is.
    bridge.px4(true, LOITER);
    let told = bridge.told();
    assert!(told.handed_over && told.mode == sw::VehicleStatus::MODE_HOLD, "{told:?}");
    bridge.rig.forget();
    bridge.pass(5000);
    assert!(bridge.requests().is_empty() && bridge.heartbeats() == 0);
    // Nobody comes back: it lands.
    bridge.pass(6000);
    assert_eq!(bridge.asked_for()[0], LAND_BY_ITSELF);
}

#[test]
fn it_takes_the_vehicle_back_when_commands_are_back_and_nobody_else_took_it() {
    let mut bridge = flying();
    bridge.pass(200);
    bridge.px4(true, LOITER);
    bridge.pass(1000);
    bridge.rig.forget();
    bridge.command(1300, [0.2; 4]);
    assert_eq!(bridge.asked_for(), [SET_OFFBOARD]);
    assert!(bridge.motors().is_empty() && bridge.told().handed_over);
    bridge.px4(true, OFFBOARD);
    bridge.command(100, [0.2; 4]);
    assert!(bridge.motors().len() >= 9);
    assert!(!bridge.told().handed_over);
    // But not when a pilot takes it meanwhile.
    bridge.pass(200);
    bridge.px4(true, LOITER);
    bridge.pass(500);
    bridge.px4(true, MANUAL);
    bridge.rig.forget();
    bridge.command(5000, [0.2; 4]);
    assert_eq!((bridge.requests().len(), bridge.heartbeats(), bridge.motors().len()), (0, 0, 0));
    assert!(
        !bridge.told().handed_over && bridge.told().message.contains("manual"),
        "{}",
        bridge.told().message
    );
}

#[test]
fn px4s_own_failsafe_for_want_of_a_heartbeat_ends_with_the_heartbeat() {
    let mut bridge = flying();
    bridge.pass(200);
    // PX4 was faster than our request: it lands by its failsafe, and offboard is what was asked for last.
    bridge.px4_intends(true, LAND, OFFBOARD);
    bridge.rig.forget();
    bridge.command(300, [0.2; 4]);
    assert!(bridge.heartbeats() > 3 && bridge.requests().is_empty() && bridge.motors().is_empty());
    bridge.px4(true, OFFBOARD);
    bridge.command(100, [0.2; 4]);
    assert!(bridge.motors().len() >= 9);
}

#[test]
fn a_hold_that_is_refused_becomes_a_landing() {
    let mut bridge = flying();
    bridge.pass(110);
    assert_eq!(bridge.asked_for(), [HOLD]);
    bridge.answer(Ack::VEHICLE_CMD_RESULT_DENIED);
    bridge.pass(40);
    assert_eq!(bridge.asked_for(), [HOLD, LAND_BY_ITSELF]);
}

#[test]
fn no_motors_and_no_heartbeat_without_a_fresh_status() {
    let mut bridge = flying();
    bridge.px4_silent();
    bridge.command(1500, [0.2; 4]);
    bridge.rig.forget();
    bridge.command(3000, [0.2; 4]);
    assert_eq!((bridge.requests().len(), bridge.heartbeats(), bridge.motors().len()), (0, 0, 0));
    assert!(bridge.told().message.contains("status has stopped"), "{}", bridge.told().message);
    // It was an outage.
    bridge.px4(true, OFFBOARD);
    bridge.command(100, [0.2; 4]);
    assert!(bridge.motors().len() >= 9);
    // It was the pilot.
    bridge.px4_silent();
    bridge.command(1500, [0.2; 4]);
    bridge.px4(true, MANUAL);
    bridge.rig.forget();
    bridge.command(3000, [0.2; 4]);
    assert_eq!((bridge.requests().len(), bridge.heartbeats(), bridge.motors().len()), (0, 0, 0));
}

#[test]
fn a_kill_switch_is_never_undone() {
    for seen in [true, false] {
        let mut bridge = Bridge::arming(&[]);
        bridge.px4(false, OFFBOARD);
        bridge.command(1240, [-1.0; 4]);
        assert_eq!(bridge.asked_for(), [ARM]);
        bridge.answer(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
        if seen {
            bridge.px4(true, OFFBOARD);
            bridge.command(100, [0.0; 4]);
        }
        // Killed: between two statuses, or in flight. Arming stays asked for.
        bridge.px4(false, OFFBOARD);
        bridge.rig.forget();
        bridge.command(10_000, [0.0; 4]);
        bridge.repeat_asking();
        bridge.command(10_000, [0.0; 4]);
        assert!(bridge.requests().is_empty() && bridge.motors().is_empty(), "seen armed: {seen}");
        bridge.authority(sw::Authority::GUIDE);
        bridge.command(10_000, [0.0; 4]);
        assert!(bridge.requests().is_empty() && bridge.motors().is_empty());
    }
}

#[test]
fn an_arming_that_was_asked_for_and_granted_unheard_is_not_asked_for_again() {
    for (pause_ms, hears) in [(100, true), (500, true), (500, false)] {
        let mut bridge = Bridge::arming(&[]);
        bridge.px4(false, OFFBOARD);
        bridge.command(1240, [-1.0; 4]);
        assert_eq!(bridge.asked_for(), [ARM]);
        bridge.pass(pause_ms);
        if hears {
            bridge.answer(Ack::VEHICLE_CMD_RESULT_ACCEPTED);
        }
        // Granted, and killed by a person between two statuses.
        bridge.px4(false, OFFBOARD);
        bridge.rig.forget();
        bridge.command(10_000, [0.0; 4]);
        assert!(bridge.requests().is_empty(), "{pause_ms} ms, {hears}: {:?}", bridge.asked_for());
    }
}

#[test]
fn a_bridge_that_is_started_in_flight_takes_over() {
    let mut bridge = Bridge::new(&[]);
    bridge.authority(sw::Authority::STUDENT);
    bridge.command(300, [0.2; 4]);
    assert!(bridge.heartbeats() > 3 && bridge.motors().is_empty(), "a heartbeat before the first status");
    bridge.px4(true, OFFBOARD);
    bridge.command(20, [0.2; 4]);
    assert_eq!(bridge.motors().len(), 2, "motors with the first status");
    assert!(bridge.requests().is_empty());
    // Into PX4's failsafe, which ends by itself; and not into a pilot's flight.
    for (nav_state, intended, beats) in
        [(LAND, OFFBOARD, true), (MANUAL, MANUAL, false), (LOITER, LOITER, false)]
    {
        let mut late = Bridge::new(&[]);
        late.authority(sw::Authority::GUIDE);
        late.px4_intends(true, nav_state, intended);
        late.command(3000, [0.2; 4]);
        assert_eq!(late.heartbeats() > 0, beats, "{nav_state}");
        assert!(late.requests().is_empty() && late.motors().is_empty());
    }
}

/// A supervisor that vouches for a status that is so old.
fn vouch(bridge: &mut Bridge, ms: i64, age_ms: i64, motors: [f32; 4]) {
    for _ in 0..ms / 10 {
        let heard = bridge.rig.now() - Span::from_millis(age_ms);
        let command = sw::MotorCommand { motors, autopilot_stamp: heard.to_msg(), ..Default::default() };
        bridge.rig.message("command", command);
        bridge.pass(10);
    }
}

#[test]
fn a_bridge_that_is_started_in_flight_goes_on_with_the_status_that_the_one_before_heard() {
    let started = || {
        let mut bridge = Bridge::new(&[]);
        bridge.pass(2000);
        bridge
    };
    // At once, before `authority` or PX4 are heard.
    let mut bridge = started();
    vouch(&mut bridge, 100, 200, [0.2; 4]);
    assert_eq!((bridge.motors().len(), bridge.heartbeats()), (10, 2));
    assert!(bridge.requests().is_empty(), "nothing is asked for on another's word");
    bridge.px4(true, OFFBOARD);
    bridge.command(100, [0.2; 4]);
    assert_eq!(bridge.motors().len(), 20, "without a gap");
    // PX4's own first status decides: it was disarmed, or somebody has taken it.
    for (armed, nav_state) in [(false, OFFBOARD), (true, MANUAL), (true, LOITER)] {
        let mut bridge = started();
        vouch(&mut bridge, 100, 200, [0.2; 4]);
        bridge.px4(armed, nav_state);
        bridge.rig.forget();
        vouch(&mut bridge, 1000, 200, [0.2; 4]);
        assert_eq!((bridge.motors().len(), bridge.heartbeats()), (0, 0), "{armed} {nav_state}");
    }
    // What is too old, of the future, or none at all is no word.
    for age_ms in [610, -50, 2010] {
        let mut bridge = started();
        bridge.authority(sw::Authority::GUIDE);
        vouch(&mut bridge, 1000, age_ms, [0.2; 4]);
        assert!(bridge.motors().is_empty(), "{age_ms} ms");
    }
    // However fresh the word stays, without PX4's own it ends, and does not begin anew.
    let mut bridge = started();
    vouch(&mut bridge, 5000, 100, [0.2; 4]);
    assert!((58..=62).contains(&bridge.motors().len()), "{}", bridge.motors().len());
    bridge.rig.forget();
    bridge.pass(1000);
    vouch(&mut bridge, 1000, 100, [0.2; 4]);
    assert!(bridge.motors().is_empty());
    // Who does not fly is not believed.
    for state in [sw::Authority::DISARMED, sw::Authority::ARMING] {
        let mut bridge = started();
        bridge.authority(state);
        vouch(&mut bridge, 1000, 100, [0.2; 4]);
        assert!(bridge.motors().is_empty(), "{state}");
    }
}

#[test]
fn a_new_bridge_takes_nothing_that_flies_for_landed() {
    let mut bridge = Bridge::new(&[]);
    bridge.px4(false, OFFBOARD);
    assert!(bridge.told().landed, "a disarmed vehicle stands");
    bridge.px4(true, OFFBOARD);
    assert!(!bridge.told().landed, "the land detector has not spoken yet");
    bridge.landed(true);
    bridge.px4(true, OFFBOARD);
    assert!(bridge.told().landed);
}

#[test]
fn px4s_failsafe_that_a_new_bridge_finds_is_nobodys_taking() {
    let mut bridge = Bridge::new(&[]);
    bridge.px4_intends(true, LOITER, OFFBOARD);
    assert!(bridge.told().handed_over, "PX4 flies because nobody commanded: who is started anew may go on");
    bridge.px4(true, LOITER);
    assert!(!bridge.told().handed_over, "somebody asked for it");
    bridge.px4_intends(false, LOITER, OFFBOARD);
    assert!(!bridge.told().handed_over);
}

#[test]
fn a_failsafe_for_want_of_a_heartbeat_that_could_not_be_sent_is_ended_by_it() {
    // PX4's status was missing, so that no heartbeat was sent.
    let mut bridge = flying();
    bridge.px4_silent();
    bridge.command(1500, [0.2; 4]);
    bridge.px4_intends(true, LOITER, OFFBOARD);
    bridge.rig.forget();
    bridge.command(300, [0.2; 4]);
    assert!(bridge.heartbeats() > 3 && bridge.requests().is_empty() && bridge.motors().is_empty());
    assert!(bridge.told().handed_over, "the supervisor goes on commanding");
    bridge.px4(true, OFFBOARD);
    bridge.command(100, [0.2; 4]);
    assert!(bridge.motors().len() >= 9);
    // The process was stopped: no timer, no message.
    for (intended, back) in [(OFFBOARD, true), (LOITER, false)] {
        let mut bridge = flying();
        bridge.rig.skip(Span::from_millis(700));
        bridge.px4_intends(true, LOITER, intended);
        bridge.rig.forget();
        bridge.command(300, [0.2; 4]);
        assert_eq!(bridge.heartbeats() > 3, back, "{intended}");
        assert!(bridge.requests().is_empty() && bridge.motors().is_empty());
    }
    // A short pause, which PX4 did not notice: nothing is handed over before what piled up is heard.
    let mut bridge = flying();
    bridge.rig.skip(Span::from_millis(400));
    bridge.pass(50);
    bridge.command(500, [0.2; 4]);
    assert!(bridge.requests().is_empty(), "{:?}", bridge.asked_for());
    assert!(bridge.motors().len() >= 49);
    // A failsafe of another cause is PX4's to end.
    let mut bridge = flying();
    bridge.command(2000, [0.2; 4]);
    bridge.px4_intends(true, LAND, OFFBOARD);
    bridge.rig.forget();
    bridge.command(300, [0.2; 4]);
    assert_eq!((bridge.heartbeats(), bridge.motors().len()), (0, 0));
}

/// The guide commands beside the supervisor, or in its stead.
fn guide(bridge: &mut Bridge, ms: i64, age_ms: i64, motors: [f32; 4]) {
    for _ in 0..ms / 10 {
        let stamp = bridge.rig.now() - Span::from_millis(age_ms);
        let command = sw::MotorCommand { motors, odometry_stamp: stamp.to_msg(), ..Default::default() };
        bridge.rig.message("guide/command", command);
        bridge.pass(10);
    }
}

const GUIDES: [f32; 4] = [0.6; 4];

fn guides(bridge: &Bridge) -> usize {
    bridge.motors().iter().filter(|m| m.control[0] == 0.8).count()
}

#[test]
fn the_guide_is_flown_while_a_supervisor_is_started_anew() {
    let mut bridge = flying();
    guide(&mut bridge, 300, 5, GUIDES);
    let (at, first) = bridge.rig.sent_at::<ActuatorMotors>(MOTORS).next().unwrap();
    assert!(first.control[0] == 0.8 && bridge.rig.now() - at > Span::from_millis(230), "from 0.05 s on");
    assert!(bridge.heartbeats() >= 4 && bridge.requests().is_empty());
    assert!(bridge.told().message.contains("the supervisor is silent"), "{}", bridge.told().message);
    assert!(!bridge.told().handed_over);
    // It is back: its commands alone are flown.
    bridge.rig.forget();
    for _ in 0..20 {
        bridge.command(10, [0.2; 4]);
        guide(&mut bridge, 10, 5, GUIDES);
    }
    assert_eq!((guides(&bridge), bridge.motors().len()), (0, 20));
    // It does not come back: PX4 is asked to hold within a stated time.
    let mut bridge = flying();
    guide(&mut bridge, 1500, 5, GUIDES);
    let (asked, _) = bridge.rig.sent_at::<VehicleCommand>(REQUEST).next().unwrap();
    let (last, _) = bridge.rig.sent_at::<ActuatorMotors>(MOTORS).last().unwrap();
    assert_eq!(bridge.asked_for()[0], HOLD);
    assert!((49..=52).contains(&guides(&bridge)), "{}: half a second", guides(&bridge));
    assert!(asked - last <= Span::from_millis(20));
}

#[test]
fn the_guide_stands_in_for_nobody_who_meant_to_be_silent() {
    use sw::Authority as A;
    let silent = |what: &str, before: &dyn Fn(&mut Bridge), age_ms: i64, motors: [f32; 4]| {
        let mut bridge = flying();
        before(&mut bridge);
        bridge.rig.forget();
        guide(&mut bridge, 1000, age_ms, motors);
        assert_eq!(bridge.motors().len(), 0, "{what}");
    };
    let nothing = |_: &mut Bridge| {};
    silent("stale", &nothing, 200, GUIDES);
    silent("of the future", &nothing, -100, GUIDES);
    silent("no number", &nothing, 5, [f32::NAN; 4]);
    silent("beyond the range", &nothing, 5, [1.01; 4]);
    for (state, adrift) in [(A::RECOVER, true), (A::LAND, false), (A::DISARMED, false), (A::ARMING, false)] {
        let word =
            move |b: &mut Bridge| b.rig.message("authority", A { state, adrift, ..Default::default() });
        silent(&format!("{state}, adrift {adrift}"), &word, 5, GUIDES);
    }
    silent("a pilot took it", &|b| b.px4(true, MANUAL), 5, GUIDES);
    silent("killed", &|b| b.px4(false, OFFBOARD), 5, GUIDES);
    silent(
        "PX4 is silent",
        &|b| {
            b.px4_silent();
            b.command(1500, [0.2; 4]);
        },
        5,
        GUIDES,
    );
    // While it stands in, too.
    for (armed, nav_state) in [(true, MANUAL), (false, OFFBOARD), (true, LOITER)] {
        let mut bridge = flying();
        guide(&mut bridge, 200, 5, GUIDES);
        bridge.px4(armed, nav_state);
        bridge.rig.forget();
        guide(&mut bridge, 1000, 5, GUIDES);
        assert_eq!((bridge.motors().len(), bridge.heartbeats()), (0, 0), "{armed} {nav_state}");
    }
    // And never where nobody wants it.
    let mut bridge = Bridge::new(&[("stand_in_s", Value::Float(0.0))]);
    bridge.px4(true, OFFBOARD);
    bridge.authority(A::GUIDE);
    bridge.command(100, [0.2; 4]);
    bridge.rig.forget();
    guide(&mut bridge, 1000, 5, GUIDES);
    assert!(guides(&bridge) == 0 && bridge.asked_for()[0] == HOLD);
}

#[test]
fn what_had_piled_up_in_a_process_that_was_stopped_is_not_flown() {
    let mut bridge = flying();
    for age_ms in [3000, 160, -60] {
        let stamp = (bridge.rig.now() - Span::from_millis(age_ms)).to_msg();
        let header = spikewing_msgs::std_msgs::Header::new(stamp, "");
        bridge.rig.message("command", sw::MotorCommand { header, motors: [1.0; 4], ..Default::default() });
    }
    assert!(bridge.motors().iter().all(|m| m.control[0] < 0.7));
}

#[test]
fn thrust_goes_with_every_motor_command_and_agrees_with_it() {
    let mut bridge = flying();
    for motors in [[-1.0; 4], [0.0, 0.5, -0.5, 0.2], [1.0; 4]] {
        bridge.rig.forget();
        bridge.command(100, motors);
        let thrust: Vec<&VehicleThrustSetpoint> = bridge.rig.sent(THRUST).collect();
        assert_eq!((thrust.len(), bridge.motors().len()), (10, 10));
        let mean = motors.iter().map(|m| (m + 1.0) / 2.0).sum::<f32>() / 4.0;
        assert!(
            (thrust[0].xyz[2] + mean).abs() < 1e-6 && thrust[0].xyz[..2] == [0.0, 0.0],
            "{:?}",
            thrust[0]
        );
        assert_eq!(thrust[0].timestamp, bridge.motors()[0].timestamp);
    }
}

#[test]
fn a_second_supervisor_is_refused() {
    let mut bridge = flying();
    bridge.rig.forget();
    for _ in 0..20 {
        bridge.command(10, [0.2; 4]);
        bridge
            .rig
            .message("command", sw::MotorCommand { motors: [1.0; 4], instance: 9, ..Default::default() });
        bridge.rig.message(
            "authority",
            sw::Authority { state: sw::Authority::DISARMED, instance: 9, ..Default::default() },
        );
    }
    assert!(bridge.motors().iter().all(|m| m.control[0] < 0.7));
    assert_eq!(bridge.motors().len(), 20);
    assert!(bridge.told().message.contains("second supervisor"), "{}", bridge.told().message);
}

#[test]
fn what_px4_thinks_is_wrong_is_named() {
    let mut bridge = Bridge::arming(&[]);
    bridge.rig.message(
        "fmu/out/failsafe_flags",
        FailsafeFlags { battery_warning: 2, geofence_breached: true, ..Default::default() },
    );
    bridge.px4(false, OFFBOARD);
    bridge.command(1240, [-1.0; 4]);
    bridge.answer(Ack::VEHICLE_CMD_RESULT_TEMPORARILY_REJECTED);
    bridge.say(VehicleStatus {
        nav_state: OFFBOARD,
        nav_state_user_intention: OFFBOARD,
        latest_disarming_reason: 8,
        pre_flight_checks_pass: false,
        system_id: 1,
        ..Default::default()
    });
    let told = bridge.told();
    assert_eq!((told.failsafes.as_str(), told.battery_warning), ("battery critical, geofence breached", 2));
    assert_eq!(told.disarm_reason, "by the kill switch");
    for part in ["arming temporarily rejected", "battery critical", "preflight checks fail"] {
        assert!(told.message.contains(part), "{part}: {}", told.message);
    }
}

#[test]
fn a_link_that_is_set_up_wrongly_is_named_within_two_seconds() {
    let silent = |settings: &[(&str, Value)]| {
        let mut bridge = Bridge::new(settings);
        bridge.pass(100);
        bridge
    };
    let mut nobody = silent(&[]);
    nobody.pass(1900);
    assert!(nobody.told().message.contains("MicroXRCEAgent"), "{}", nobody.told().message);
    assert!(!nobody.told().connected);

    let mut release = silent(&[("px4_version", Value::Text("1.18".into()))]);
    release.px4(true, OFFBOARD);
    release.pass(200);
    let said = release.told();
    assert!(said.message.contains("px4_version is 1.18, but PX4 speaks as 1.17"), "{}", said.message);
    assert!(!said.connected && !said.armed, "what is read as another release is not believed");

    let mut system = silent(&[("target_system", Value::Integer(3))]);
    system.px4(false, LOITER);
    system.pass(200);
    assert!(system.told().message.contains("target_system is 3, but PX4's system id (MAV_SYS_ID) is 1"));

    let mut unknown = silent(&[]);
    for _ in 0..20 {
        unknown.landed(true);
        unknown.pass(100);
    }
    assert!(unknown.told().message.contains("no vehicle_status"), "{}", unknown.told().message);

    let mut fine = silent(&[]);
    fine.px4(false, LOITER);
    fine.pass(3000);
    assert_eq!((fine.told().message.as_str(), fine.told().connected), ("", true));
    fine.px4_silent();
    fine.pass(3000);
    assert!(fine.told().message.contains("no longer heard"), "{}", fine.told().message);
}

#[test]
fn requests_go_to_the_system_that_speaks() {
    let mut bridge = Bridge::new(&[]);
    bridge.ask_to_arm();
    bridge.say(VehicleStatus { nav_state: LOITER, system_id: 2, ..Default::default() });
    bridge.command(1240, [-1.0; 4]);
    let request = bridge.requests().pop().unwrap();
    assert_eq!((request.target_system, request.source_system), (2, 2));
}

#[test]
fn a_silent_autopilot_is_told() {
    let mut bridge = flying();
    assert!(bridge.status(true, OFFBOARD).connected);
    bridge.px4_silent();
    bridge.rig.forget();
    bridge.pass(1400);
    assert!(bridge.rig.sent::<sw::VehicleStatus>("vehicle/status").all(|s| s.connected));
    assert!(
        bridge.rig.sent::<sw::VehicleStatus>("vehicle/status").count() >= 13,
        "the bridge itself is not silent"
    );
    bridge.pass(300);
    assert!(!bridge.told().connected);
    assert!(bridge.status(true, OFFBOARD).connected);
}

#[test]
fn modes_are_told_in_our_words() {
    let mut bridge = Bridge::new(&[]);
    for (nav_state, mode) in [
        (OFFBOARD, sw::VehicleStatus::MODE_OFFBOARD),
        (LOITER, sw::VehicleStatus::MODE_HOLD),
        (LAND, sw::VehicleStatus::MODE_LAND),
        (VehicleStatus::NAVIGATION_STATE_DESCEND, sw::VehicleStatus::MODE_LAND),
        (MANUAL, sw::VehicleStatus::MODE_OTHER),
    ] {
        let status = bridge.status(true, nav_state);
        assert_eq!((status.mode, status.nav_state, status.armed), (mode, nav_state, true));
    }
}

/// Arms over the topics of a release, with the release found out by listening or named.
fn speaks<S: spikewing_msgs::Message>(status_topic: &str, ack_topic: &str, version: &str, status: S) {
    let mut rig = Rig::build(&NODE, &[("px4_version", Value::Text(version.into()))]).unwrap();
    rig.message("authority", sw::Authority { state: sw::Authority::ARMING, ..Default::default() });
    rig.message(status_topic, status.clone());
    let told = rig.last::<sw::VehicleStatus>("vehicle/status").unwrap();
    assert!(!told.armed && told.failsafe && told.connected, "{status_topic}, {version}");
    for step in 0..124 {
        rig.message("command", sw::MotorCommand::default());
        rig.pass(Span::from_millis(10));
        if step % 50 == 0 {
            rig.message(status_topic, status.clone());
        }
    }
    let request = rig.last::<VehicleCommand>(REQUEST).unwrap().clone();
    rig.message(ack_topic, ack(&request, Ack::VEHICLE_CMD_RESULT_FAILED));
    rig.message(status_topic, status);
    assert!(rig.last::<sw::VehicleStatus>("vehicle/status").unwrap().message.contains("failed"));
}

#[test]
fn every_release_is_understood_named_or_not() {
    let (arming_state, nav_state) = (VehicleStatusV4::ARMING_STATE_DISARMED, LOITER);
    for version in ["auto", "1.16", "1.17"] {
        let status =
            VehicleStatus { arming_state, nav_state, failsafe: true, system_id: 1, ..Default::default() };
        speaks("fmu/out/vehicle_status_v1", "fmu/out/vehicle_command_ack", version, status);
    }
    for version in ["auto", "1.17+"] {
        let status =
            VehicleStatusV2 { arming_state, nav_state, failsafe: true, system_id: 1, ..Default::default() };
        speaks("fmu/out/vehicle_status_v2", "fmu/out/vehicle_command_ack_v1", version, status);
    }
    for version in ["auto", "1.18"] {
        let status =
            VehicleStatusV4 { arming_state, nav_state, failsafe: true, system_id: 1, ..Default::default() };
        speaks("fmu/out/vehicle_status_v4", "fmu/out/vehicle_command_ack_v1", version, status);
    }
}

#[test]
fn a_stopping_bridge_waits_for_the_landing_and_no_longer() {
    use spikewing_runtime::node::Shutdown;
    let mut bridge = flying();
    assert_eq!(bridge.rig.shutdown(), Shutdown::Wait);
    bridge.command(1000, [0.0; 4]);
    bridge.px4(true, OFFBOARD);
    assert_eq!(bridge.rig.shutdown(), Shutdown::Wait);
    bridge.px4(false, OFFBOARD);
    assert_eq!(bridge.rig.shutdown(), Shutdown::Done);
    let mut orphan = flying();
    orphan.pass(200);
    assert_eq!(orphan.rig.shutdown(), Shutdown::Done, "nobody commands: PX4's failsafe has it");
}
