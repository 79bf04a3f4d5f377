//! Heartbeat, arming and motors: what PX4 gets, and when it gets nothing.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use spikewing_msgs::{
    px4_msgs::{
        ActuatorMotors, OffboardControlMode, VehicleCommand, VehicleCommandAck as Ack, VehicleLandDetected,
        VehicleStatus, VehicleStatusV4,
    },
    spikewing_msgs as sw,
};
use spikewing_px4_bridge::NODE;
use spikewing_runtime::{Span, parameter::Value, rig::Rig};

const HEARTBEAT: &str = "/fmu/in/offboard_control_mode";
const MOTORS: &str = "/fmu/in/actuator_motors";
const REQUEST: &str = "/fmu/in/vehicle_command";
const STATUS: &str = "/fmu/out/vehicle_status_v1";
const ACK: &str = "/fmu/out/vehicle_command_ack";
const LOITER: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LOITER;
const OFFBOARD: u8 = VehicleStatus::NAVIGATION_STATE_OFFBOARD;
const MANUAL: u8 = VehicleStatus::NAVIGATION_STATE_MANUAL;
const LAND: u8 = VehicleStatus::NAVIGATION_STATE_AUTO_LAND;

struct Bridge(Rig);

impl Bridge {
    fn new(settings: &[(&str, Value)]) -> Self {
        Self(Rig::build(&NODE, settings).unwrap())
    }

    /// The supervisor arms, and PX4 answers with its status.
    fn arming(settings: &[(&str, Value)]) -> Self {
        let mut bridge = Self::new(settings);
        bridge.authority(sw::Authority::ARMING);
        bridge.px4(false, LOITER);
        bridge
    }

    fn authority(&mut self, state: u8) {
        self.0.message("authority", sw::Authority { state, ..Default::default() });
    }

    fn px4(&mut self, armed: bool, nav_state: u8) {
        let arming_state =
            if armed { VehicleStatus::ARMING_STATE_ARMED } else { VehicleStatus::ARMING_STATE_DISARMED };
        self.0.message(STATUS, VehicleStatus { arming_state, nav_state, ..Default::default() });
    }

    fn landed(&mut self, landed: bool) {
        self.0
            .message("/fmu/out/vehicle_land_detected", VehicleLandDetected { landed, ..Default::default() });
    }

    /// Commands at 100 Hz.
    fn command(&mut self, ms: i64, motors: [f32; 4]) {
        for _ in 0..ms / 10 {
            self.0.message("command", sw::MotorCommand { motors, ..Default::default() });
            self.0.pass(Span::from_millis(10));
        }
    }

    fn pass(&mut self, ms: i64) {
        self.0.pass(Span::from_millis(ms));
    }

    /// PX4's answer to the last request.
    fn answer(&mut self, result: u8) {
        let request = self.requests().pop().unwrap();
        self.0.message(ACK, ack(&request, result));
    }

    fn heartbeats(&self) -> usize {
        self.0.sent::<OffboardControlMode>(HEARTBEAT).count()
    }

    fn motors(&self) -> Vec<ActuatorMotors> {
        self.0.sent(MOTORS).cloned().collect()
    }

    fn requests(&self) -> Vec<VehicleCommand> {
        self.0.sent(REQUEST).cloned().collect()
    }

    /// What the supervisor hears, after a status of PX4.
    fn status(&mut self, armed: bool, nav_state: u8) -> sw::VehicleStatus {
        self.px4(armed, nav_state);
        self.0.last::<sw::VehicleStatus>("vehicle/status").unwrap().clone()
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
    (u16::try_from(request.command).unwrap(), request.param1, request.param2)
}

const SET_OFFBOARD: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0);
const ARM: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0);
const DISARM: (u16, f32, f32) = (VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 0.0, 0.0);

#[test]
fn the_heartbeat_lives_on_commands_and_on_nothing_else() {
    let mut bridge = Bridge::arming(&[]);
    bridge.pass(3000);
    assert_eq!(bridge.heartbeats(), 0, "no command yet");
    bridge.command(2000, [0.0; 4]);
    let beats = bridge.heartbeats();
    assert!((35..=41).contains(&beats), "{beats} heartbeats in 2 s: PX4 wants more than 4 and no flood");
    let modes: Vec<&OffboardControlMode> = bridge.0.sent(HEARTBEAT).collect();
    assert!(modes.iter().all(|m| m.direct_actuator && !m.position && !m.velocity && !m.attitude));
    bridge.0.forget();
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
        assert!(
            said.contains("arming")
                && said.contains("temporarily rejected, attempt")
                && said.contains("preflight"),
            "{said}"
        );
        bridge.command(500, [-1.0; 4]);
    }
    let times: Vec<_> = bridge.0.sent_at::<VehicleCommand>(REQUEST).map(|(at, _)| at).collect();
    assert!(times.windows(2).all(|w| w[1] - w[0] >= Span::from_millis(500)), "{times:?}");
    let said = bridge.status(false, OFFBOARD).message;
    assert!(said.starts_with("gave up after 3 attempts: PX4: arming"), "{said}");
    bridge.0.forget();
    bridge.command(5000, [-1.0; 4]);
    assert_eq!((bridge.requests().len(), bridge.heartbeats()), (0, 0), "given up is given up");

    // Asked again, it starts over, and streams first.
    bridge.authority(sw::Authority::ARMING);
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
        bridge.0.message(ACK, other);
        assert_eq!(bridge.status(false, LOITER).message, "");
    }
    bridge.0.message(ACK, denied);
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
    bridge.0.forget();
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
fn it_disarms_on_the_ground_only_and_only_what_it_flew() {
    let mut bridge = flying();
    bridge.authority(sw::Authority::DISARMED);
    bridge.pass(3000);
    assert!(bridge.requests().is_empty(), "it is in the air");
    bridge.landed(true);
    bridge.pass(40);
    assert_eq!(bridge.requests().iter().map(command).collect::<Vec<_>>(), [DISARM]);
    bridge.px4(false, OFFBOARD);
    bridge.pass(3000);
    assert_eq!(bridge.requests().len(), 1);
    // After the autopilot's own landing too.
    bridge.px4(true, LAND);
    bridge.pass(400);
    assert_eq!(bridge.requests().iter().map(command).collect::<Vec<_>>(), [DISARM; 2]);
    // A pilot who arms by hand is left alone.
    bridge.0.forget();
    bridge.px4(true, MANUAL);
    bridge.pass(3000);
    assert!(bridge.requests().is_empty());
}

#[test]
fn a_silent_autopilot_is_told() {
    let mut bridge = flying();
    assert!(bridge.status(true, OFFBOARD).connected);
    bridge.pass(1400);
    assert!(bridge.0.sent::<sw::VehicleStatus>("vehicle/status").all(|s| s.connected));
    bridge.pass(200);
    assert!(!bridge.0.last::<sw::VehicleStatus>("vehicle/status").unwrap().connected);
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

#[test]
fn px4_1_18_speaks_on_other_topics_and_is_understood() {
    let mut rig = Rig::build(&NODE, &[("px4_version", Value::Text("1.18".into()))]).unwrap();
    let armed = VehicleStatusV4::ARMING_STATE_ARMED;
    rig.message("authority", sw::Authority { state: sw::Authority::ARMING, ..Default::default() });
    rig.message(
        "/fmu/out/vehicle_status_v4",
        VehicleStatusV4 { arming_state: armed, nav_state: LOITER, failsafe: true, ..Default::default() },
    );
    let status = rig.last::<sw::VehicleStatus>("vehicle/status").unwrap();
    assert!(status.armed && status.failsafe);
    for _ in 0..124 {
        rig.message("command", sw::MotorCommand::default());
        rig.pass(Span::from_millis(10));
    }
    let request = rig.last::<VehicleCommand>(REQUEST).unwrap().clone();
    rig.message("/fmu/out/vehicle_command_ack_v1", ack(&request, Ack::VEHICLE_CMD_RESULT_FAILED));
    rig.message("/fmu/out/vehicle_status_v4", VehicleStatusV4::default());
    assert!(rig.last::<sw::VehicleStatus>("vehicle/status").unwrap().message.contains("failed"));
}

#[test]
fn a_stopping_bridge_waits_for_the_landing_and_no_longer() {
    use spikewing_runtime::node::Shutdown;
    let mut bridge = flying();
    assert_eq!(bridge.0.shutdown(), Shutdown::Wait);
    bridge.command(1000, [0.0; 4]);
    bridge.px4(true, OFFBOARD);
    assert_eq!(bridge.0.shutdown(), Shutdown::Wait);
    bridge.px4(false, OFFBOARD);
    assert_eq!(bridge.0.shutdown(), Shutdown::Done);
    let mut orphan = flying();
    orphan.pass(200);
    assert_eq!(orphan.0.shutdown(), Shutdown::Done, "nobody commands: PX4's failsafe has it");
}
