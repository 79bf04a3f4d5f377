//! What must hold whatever arrives, in whatever order.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use proptest::prelude::*;
use spikewing_msgs::{
    builtin_interfaces,
    px4_msgs::{
        ActuatorMotors, OffboardControlMode, VehicleCommand, VehicleCommandAck, VehicleLandDetected,
        VehicleStatus, VehicleThrustSetpoint,
    },
    spikewing_msgs as sw,
};
use spikewing_px4_bridge::NODE;
use spikewing_runtime::{Span, Time, rig::Rig};

/// How old a status may be that the supervisor vouches for, and how long such a word counts after the start.
const VOUCHED: Span = Span::from_millis(600);
/// `stand_in_s` and `command_timeout_s`: without the supervisor the guide is flown for no longer.
const STAND_IN: Span = Span::from_millis(570);
/// `status_timeout_s`.
const STATUS_TIMEOUT: Span = Span::from_millis(1250);

#[derive(Clone, Debug)]
enum Event {
    Commands {
        count: u8,
        instance: u64,
        /// Age of the status that the supervisor vouches for, ms.
        vouched: Option<i64>,
    },
    /// The guide's, the supervisor's beside it or not.
    Guide {
        count: u8,
        beside: bool,
    },
    Nothing {
        ms: i64,
    },
    Authority {
        state: u8,
        asked: i32,
        adrift: bool,
    },
    Status {
        armed: bool,
        mode: u8,
        intended: u8,
    },
    /// The last request is answered, and granted ones are obeyed by the status.
    Answer {
        result: u8,
    },
    Landed(bool),
}

fn mode() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(14_u8), 2 => Just(4), 1 => Just(18), 1 => Just(0), 1 => Just(2), 1 => Just(12)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..80_u8, prop_oneof![9 => Just(1_u64), 1 => Just(2)], prop::option::of(-100..1500_i64))
            .prop_map(|(count, instance, vouched)| Event::Commands { count, instance, vouched }),
        4 => (1..80_u8, any::<bool>()).prop_map(|(count, beside)| Event::Guide { count, beside }),
        2 => (1..2500_i64).prop_map(|ms| Event::Nothing { ms }),
        3 => (0..7_u8, 0..4, prop::bool::weighted(0.1))
            .prop_map(|(state, asked, adrift)| Event::Authority { state, asked, adrift }),
        5 => (any::<bool>(), mode(), mode())
            .prop_map(|(armed, mode, intended)| Event::Status { armed, mode, intended }),
        3 => prop_oneof![4 => Just(0_u8), 1 => Just(1), 1 => Just(2), 1 => Just(5)].prop_map(|result| Event::Answer { result }),
        1 => any::<bool>().prop_map(Event::Landed),
    ]
}

/// What the world knows, beside the bridge.
#[derive(Default)]
struct Truth {
    status: Option<(Time, bool, u8)>,
    /// The last commands' times; heartbeat and motors may come at these instants only.
    command: Option<Time>,
    guide: Option<Time>,
    /// When the autopilot was armed and in offboard mode by the last command's account, and when that was first acted on.
    vouched: Option<Time>,
    resumed: Option<Time>,
    state: Option<u8>,
    adrift: bool,
    asked: i32,
    /// For each asking: whether the vehicle was seen armed, or arming was granted.
    spent: std::collections::BTreeSet<i32>,
    last_request: Option<VehicleCommand>,
}

fn arms(request: &VehicleCommand) -> bool {
    request.command == u32::from(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM) && request.param1 == 1.0
}

fn check(rig: &mut Rig, truth: &mut Truth) -> Result<(), TestCaseError> {
    for (at, _) in rig.sent_at::<OffboardControlMode>("fmu/in/offboard_control_mode") {
        prop_assert!([truth.command, truth.guide].contains(&Some(at)), "a heartbeat without a command");
        prop_assert_ne!(truth.state, Some(sw::Authority::DISARMED));
    }
    let motors = rig.sent_at::<ActuatorMotors>("fmu/in/actuator_motors").count();
    let thrust = rig.sent_at::<VehicleThrustSetpoint>("fmu/in/vehicle_thrust_setpoint").count();
    prop_assert_eq!(motors, thrust);
    for (at, _) in rig.sent_at::<ActuatorMotors>("fmu/in/actuator_motors") {
        if truth.command != Some(at) {
            prop_assert_eq!(Some(at), truth.guide, "motors without a command");
            prop_assert!(at - truth.command.unwrap() <= STAND_IN, "the guide stands in for too long");
            prop_assert!(!truth.adrift && truth.state != Some(sw::Authority::LAND), "silence was meant");
        }
        let Some((seen, armed, mode)) = truth.status else {
            let age = at - truth.vouched.unwrap();
            prop_assert!((Span::ZERO..=VOUCHED).contains(&age), "motors on another's word, {:?} old", age);
            let since = *truth.resumed.get_or_insert(at);
            prop_assert!(at - since <= VOUCHED, "motors on another's word for too long");
            continue;
        };
        prop_assert!(at - seen <= STATUS_TIMEOUT, "motors on a stale status");
        prop_assert!(armed && mode == 14, "motors, but armed {} in mode {}", armed, mode);
    }
    for request in rig.sent::<VehicleCommand>("fmu/in/vehicle_command").cloned().collect::<Vec<_>>() {
        if arms(&request) {
            prop_assert_eq!(truth.state, Some(sw::Authority::ARMING), "arming that nobody asked for");
            prop_assert!(!truth.spent.contains(&truth.asked), "armed twice for one asking");
        }
        truth.last_request = Some(request);
    }
    rig.forget();
    Ok(())
}

fn run(events: &[Event]) -> Result<(), TestCaseError> {
    let mut rig = Rig::build(&NODE, &[]).unwrap();
    rig.pass(Span::from_millis(2000));
    let mut truth = Truth::default();
    for event in events {
        match event {
            Event::Commands { count, instance, vouched } => {
                for _ in 0..*count {
                    let now = rig.now();
                    let heard = vouched.map(|age| now - Span::from_millis(age));
                    truth.command = Some(now);
                    truth.vouched = heard;
                    let motors = [0.1, 0.2, 0.3, 0.4];
                    let autopilot_stamp = heard.unwrap_or(Time::ZERO).to_msg();
                    rig.message(
                        "command",
                        sw::MotorCommand {
                            motors,
                            instance: *instance,
                            autopilot_stamp,
                            ..Default::default()
                        },
                    );
                    check(&mut rig, &mut truth)?;
                    rig.pass(Span::from_millis(10));
                    check(&mut rig, &mut truth)?;
                }
            }
            Event::Guide { count, beside } => {
                for _ in 0..*count {
                    if *beside {
                        truth.command = Some(rig.now());
                        truth.vouched = None;
                        rig.message("command", sw::MotorCommand { instance: 1, ..Default::default() });
                        check(&mut rig, &mut truth)?;
                    }
                    truth.guide = Some(rig.now());
                    rig.message(
                        "guide/command",
                        sw::MotorCommand { odometry_stamp: rig.now().to_msg(), ..Default::default() },
                    );
                    check(&mut rig, &mut truth)?;
                    rig.pass(Span::from_millis(10));
                    check(&mut rig, &mut truth)?;
                }
            }
            Event::Nothing { ms } => rig.pass(Span::from_millis(*ms)),
            Event::Authority { state, asked, adrift } => {
                // The supervisor's, whoever commands: a refused one changes nothing, which is tested elsewhere.
                rig.pass(Span::from_millis(150));
                check(&mut rig, &mut truth)?;
                (truth.state, truth.asked, truth.adrift) = (Some(*state), *asked, *adrift);
                let since = builtin_interfaces::Time { sec: *asked, nanosec: 0 };
                rig.message(
                    "authority",
                    sw::Authority {
                        state: *state,
                        since,
                        instance: 1,
                        adrift: *adrift,
                        ..Default::default()
                    },
                );
            }
            Event::Status { armed, mode, intended } => {
                truth.status = Some((rig.now(), *armed, *mode));
                rig.message(
                    "fmu/out/vehicle_status_v1",
                    VehicleStatus {
                        arming_state: if *armed { 2 } else { 1 },
                        nav_state: *mode,
                        nav_state_user_intention: *intended,
                        system_id: 1,
                        ..Default::default()
                    },
                );
            }
            Event::Answer { result } => {
                if let Some(request) = truth.last_request.take() {
                    if arms(&request) && *result == 0 && truth.state == Some(sw::Authority::ARMING) {
                        truth.spent.insert(truth.asked);
                    }
                    rig.message(
                        "fmu/out/vehicle_command_ack",
                        VehicleCommandAck {
                            command: request.command,
                            result: *result,
                            target_system: request.source_system,
                            target_component: request.source_component,
                            ..Default::default()
                        },
                    );
                }
            }
            Event::Landed(landed) => rig.message(
                "fmu/out/vehicle_land_detected",
                VehicleLandDetected { landed: *landed, ..Default::default() },
            ),
        }
        check(&mut rig, &mut truth)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_sent_that_may_not_be(events in prop::collection::vec(event(), 1..60)) {
        run(&events)?;
    }
}

/// The same streams reach the states in which something is sent: the properties above are not empty.
#[test]
fn the_random_flights_fly() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let streams = prop::collection::vec(event(), 60);
    let (mut flew, mut resumed, mut guided) = (0, 0, 0);
    for _ in 0..200 {
        let events = streams.new_tree(&mut runner).unwrap().current();
        let mut rig = Rig::build(&NODE, &[]).unwrap();
        rig.pass(Span::from_millis(2000));
        let (mut heard, mut on_word, mut by_guide) = (false, 0, 0);
        for event in &events {
            let before = rig.sent::<ActuatorMotors>("fmu/in/actuator_motors").count();
            let alone = matches!(event, Event::Guide { beside: false, .. });
            match event {
                Event::Commands { count, vouched, .. } => {
                    for _ in 0..*count {
                        let heard = vouched.map_or(Time::ZERO, |age| rig.now() - Span::from_millis(age));
                        let autopilot_stamp = heard.to_msg();
                        rig.message(
                            "command",
                            sw::MotorCommand { instance: 1, autopilot_stamp, ..Default::default() },
                        );
                        rig.pass(Span::from_millis(10));
                    }
                }
                Event::Guide { count, .. } => {
                    for _ in 0..*count {
                        let odometry_stamp = rig.now().to_msg();
                        rig.message(
                            "guide/command",
                            sw::MotorCommand { odometry_stamp, ..Default::default() },
                        );
                        rig.pass(Span::from_millis(10));
                    }
                }
                Event::Authority { state, .. } => {
                    rig.message(
                        "authority",
                        sw::Authority { state: *state, instance: 1, ..Default::default() },
                    );
                }
                Event::Status { armed, mode, intended } => rig.message(
                    "fmu/out/vehicle_status_v1",
                    VehicleStatus {
                        arming_state: if *armed { 2 } else { 1 },
                        nav_state: *mode,
                        nav_state_user_intention: *intended,
                        ..Default::default()
                    },
                ),
                _ => {}
            }
            heard |= matches!(event, Event::Status { .. });
            let sent = rig.sent::<ActuatorMotors>("fmu/in/actuator_motors").count() - before;
            on_word += if heard { 0 } else { sent };
            by_guide += if alone { sent } else { 0 };
        }
        resumed += usize::from(on_word > 0);
        guided += usize::from(by_guide > 0);
        flew += usize::from(rig.sent::<ActuatorMotors>("fmu/in/actuator_motors").next().is_some());
    }
    assert!(flew > 20, "{flew} of 200 random flights commanded motors");
    assert!(resumed > 10 && guided > 5, "{resumed} on another's word, {guided} by the guide");
}
