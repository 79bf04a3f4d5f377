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

/// `status_timeout_s`.
const STATUS_TIMEOUT: Span = Span::from_millis(1250);

#[derive(Clone, Debug)]
enum Event {
    Commands {
        count: u8,
        instance: u64,
    },
    Nothing {
        ms: i64,
    },
    Authority {
        state: u8,
        asked: i32,
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
        6 => (1..80_u8, prop_oneof![9 => Just(1_u64), 1 => Just(2)])
            .prop_map(|(count, instance)| Event::Commands { count, instance }),
        2 => (1..2500_i64).prop_map(|ms| Event::Nothing { ms }),
        3 => (0..7_u8, 0..4).prop_map(|(state, asked)| Event::Authority { state, asked }),
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
    state: u8,
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
        prop_assert_eq!(Some(at), truth.command, "a heartbeat without a command");
        prop_assert_ne!(truth.state, sw::Authority::DISARMED);
    }
    let motors = rig.sent_at::<ActuatorMotors>("fmu/in/actuator_motors").count();
    let thrust = rig.sent_at::<VehicleThrustSetpoint>("fmu/in/vehicle_thrust_setpoint").count();
    prop_assert_eq!(motors, thrust);
    for (at, _) in rig.sent_at::<ActuatorMotors>("fmu/in/actuator_motors") {
        prop_assert_eq!(Some(at), truth.command, "motors without a command");
        let (seen, armed, mode) = truth.status.unwrap();
        prop_assert!(at - seen <= STATUS_TIMEOUT, "motors on a stale status");
        prop_assert!(armed && mode == 14, "motors, but armed {} in mode {}", armed, mode);
    }
    for request in rig.sent::<VehicleCommand>("fmu/in/vehicle_command").cloned().collect::<Vec<_>>() {
        if arms(&request) {
            prop_assert_eq!(truth.state, sw::Authority::ARMING, "arming that nobody asked for");
            prop_assert!(!truth.spent.contains(&truth.asked), "armed twice for one asking");
        }
        truth.last_request = Some(request);
    }
    rig.forget();
    Ok(())
}

fn run(events: &[Event]) -> Result<(), TestCaseError> {
    let mut rig = Rig::build(&NODE, &[]).unwrap();
    let mut truth = Truth { state: sw::Authority::DISARMED, ..Default::default() };
    for event in events {
        match event {
            Event::Commands { count, instance } => {
                for _ in 0..*count {
                    truth.command = Some(rig.now());
                    let motors = [0.1, 0.2, 0.3, 0.4];
                    rig.message(
                        "command",
                        sw::MotorCommand { motors, instance: *instance, ..Default::default() },
                    );
                    check(&mut rig, &mut truth)?;
                    rig.pass(Span::from_millis(10));
                    check(&mut rig, &mut truth)?;
                }
            }
            Event::Nothing { ms } => rig.pass(Span::from_millis(*ms)),
            Event::Authority { state, asked } => {
                // The supervisor's, whoever commands: a refused one changes nothing, which is tested elsewhere.
                rig.pass(Span::from_millis(150));
                check(&mut rig, &mut truth)?;
                (truth.state, truth.asked) = (*state, *asked);
                let since = builtin_interfaces::Time { sec: *asked, nanosec: 0 };
                rig.message(
                    "authority",
                    sw::Authority { state: *state, since, instance: 1, ..Default::default() },
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
                    if arms(&request) && *result == 0 && truth.state == sw::Authority::ARMING {
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
    let mut flew = 0;
    for _ in 0..200 {
        let events = streams.new_tree(&mut runner).unwrap().current();
        let mut rig = Rig::build(&NODE, &[]).unwrap();
        for event in &events {
            match event {
                Event::Commands { count, .. } => {
                    for _ in 0..*count {
                        rig.message("command", sw::MotorCommand { instance: 1, ..Default::default() });
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
        }
        flew += usize::from(rig.sent::<ActuatorMotors>("fmu/in/actuator_motors").next().is_some());
    }
    assert!(flew > 20, "{flew} of 200 random flights commanded motors");
}
