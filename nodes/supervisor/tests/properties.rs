//! What holds at every moment, whatever happens: one source at a time, nothing stale, nothing without the autopilot's fresh
//! word, no arming that nobody asked for, no idle motors for a vehicle that flies.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Cockpit, Pose};
use proptest::prelude::*;
use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{Span, Time, parameter::Value};

#[derive(Clone, Debug)]
enum Event {
    Wait(i64),
    /// Odometry at an offset, with a sinking speed, m and m/s.
    Odometry(f64, f64),
    /// Who, motors, warmth, and which process of that name.
    Offer(&'static str, f32, f32, u64),
    /// Connected, armed, mode, landed, handed over, battery.
    Status(bool, bool, u8, bool, bool, u8),
    Setpoint(f64),
    Imu(f64),
    /// Periods of an ordinary flight.
    Fly(u8),
    Ask(&'static str),
    /// Another supervisor speaks.
    Rival(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let mode = prop_oneof![6 => Just(sw::VehicleStatus::MODE_OFFBOARD), 1 => 0_u8..4];
    let status = (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
        mode,
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop_oneof![8 => Just(0_u8), 1 => 0_u8..4],
    );
    let who = prop::sample::select(vec!["guide/command", "student/command"]);
    let number = prop_oneof![8 => -1.0_f32..1.0, 1 => Just(f32::NAN), 1 => -2.0_f32..2.0];
    prop_oneof![
        4 => prop_oneof![4 => 1_i64..30, 1 => 30_i64..1500].prop_map(Event::Wait),
        6 => (prop_oneof![8 => -0.2_f64..0.2, 1 => -30.0_f64..30.0], -1.0_f64..1.0)
            .prop_map(|(x, w)| Event::Odometry(x, w)),
        8 => (who, number, prop_oneof![4 => Just(1.0_f32), 1 => 0.0_f32..1.0], prop_oneof![9 => Just(1_u64), 1 => 0_u64..3])
            .prop_map(|(who, m, w, i)| Event::Offer(who, m, w, i)),
        4 => status.prop_map(|(c, a, m, l, h, b)| Event::Status(c, a, m, l, h, b)),
        1 => prop_oneof![2 => -30.0_f64..30.0, 1 => Just(f64::NAN)].prop_map(Event::Setpoint),
        2 => prop_oneof![Just(9.81_f64), Just(1.0_f64)].prop_map(Event::Imu),
        4 => (1_u8..80).prop_map(Event::Fly),
        2 => prop::sample::select(vec!["~/arm", "~/start_episode", "~/stop", "~/land"]).prop_map(Event::Ask),
        1 => (0_u64..4).prop_map(Event::Rival),
    ]
}

/// What an onlooker knows.
#[derive(Default)]
struct Onlooker {
    state: u8,
    status: Option<(Time, sw::VehicleStatus)>,
    /// When a policy last spoke soundly: guide, student.
    spoke: [Option<Time>; 2],
    asked_to_arm: bool,
    answered: Option<Time>,
    /// It flew, and the autopilot disarmed or somebody took it: only ~/arm ends that.
    lost: bool,
    arrived: u64,
}

impl Onlooker {
    /// Looks at what the node has just published.
    fn look(&mut self, cockpit: &mut Cockpit) -> Result<(), TestCaseError> {
        let now = cockpit.rig.now();
        let announced: Vec<sw::Authority> = cockpit.rig.sent("authority").cloned().collect();
        let commands = cockpit.commands();
        cockpit.rig.forget();
        for a in &announced {
            let flies = |state| !matches!(state, sw::Authority::DISARMED | sw::Authority::ARMING);
            if a.state == sw::Authority::ARMING && self.state != a.state {
                prop_assert!(self.asked_to_arm, "armed without being asked: {}", a.reason);
                self.asked_to_arm = false;
                self.lost = false;
            }
            prop_assert!(!(self.lost && flies(a.state)), "it was lost, and flies again: {}", a.reason);
            if flies(self.state) && a.state == sw::Authority::DISARMED {
                self.lost = true;
            }
            self.state = a.state;
        }
        prop_assert!(commands.len() as u64 <= self.arrived.max(1), "two commands for one odometry");
        for c in &commands {
            let stamp = common::answers(c);
            prop_assert!(self.answered.is_none_or(|last| stamp > last), "one odometry is answered twice");
            self.answered = Some(stamp);
            prop_assert!(c.motors.iter().all(|m| (-1.0..=1.0).contains(m)), "{c:?}");
            let (at, status) = self.status.as_ref().unwrap();
            let at_command = Time::from(&c.header.stamp);
            prop_assert!(status.connected && at_command - *at <= Span::from_millis(1200), "no fresh status");
            let ours = status.mode == sw::VehicleStatus::MODE_OFFBOARD || status.handed_over;
            let arming = self.state == sw::Authority::ARMING;
            prop_assert!(
                arming || (status.armed && ours),
                "commanded in state {} with {status:?}",
                self.state
            );
            prop_assert!(self.state != sw::Authority::DISARMED);
            let spoke = match c.source {
                sw::MotorCommand::SOURCE_GUIDE => self.spoke[0],
                sw::MotorCommand::SOURCE_STUDENT => self.spoke[1],
                _ => {
                    prop_assert_eq!(c.motors, [-1.0; 4]);
                    let down = self.state == sw::Authority::LAND;
                    prop_assert!(down || !status.armed, "idle motors for a vehicle that flies");
                    continue;
                }
            };
            prop_assert!(spoke.is_some_and(|at| at_command - at <= Span::from_millis(40)), "a stale command");
            prop_assert!(
                c.source != sw::MotorCommand::SOURCE_STUDENT || self.state == sw::Authority::STUDENT
            );
        }
        self.arrived = 0;
        let _ = now;
        Ok(())
    }

    fn on(&mut self, cockpit: &mut Cockpit, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Wait(ms) => {
                for _ in 0..*ms {
                    cockpit.wait(1);
                    self.look(cockpit)?;
                }
            }
            Event::Odometry(x, w) => {
                self.arrived += 2;
                cockpit.odometry(Pose { velocity: [0.0, 0.0, -*w], ..Pose::at(*x) });
            }
            Event::Offer(who, motors, warmth, instance) => {
                let m = sw::MotorCommand {
                    motors: [*motors; 4],
                    warmth: *warmth,
                    odometry_stamp: cockpit.rig.now().to_msg(),
                    instance: *instance,
                    ..Default::default()
                };
                if motors.abs() <= 1.0 {
                    self.spoke[usize::from(*who == "student/command")] = Some(cockpit.rig.now());
                }
                cockpit.rig.message(who, m);
            }
            Event::Status(connected, armed, mode, landed, handed_over, battery_warning) => {
                let status = sw::VehicleStatus {
                    connected: *connected,
                    armed: *armed,
                    mode: *mode,
                    landed: *landed,
                    handed_over: *handed_over,
                    battery_warning: *battery_warning,
                    ..Default::default()
                };
                let now = cockpit.rig.now();
                let known =
                    |(at, s): &(Time, sw::VehicleStatus)| s.connected && now - *at <= Span::from_millis(700);
                // The first words of a bridge that was started again.
                if *connected || !self.status.as_ref().is_some_and(known) {
                    self.status = Some((now, status.clone()));
                }
                cockpit.rig.message("vehicle/status", status);
            }
            Event::Setpoint(x) => cockpit.setpoint(*x),
            Event::Imu(force) => cockpit.imu(*force),
            Event::Fly(periods) => {
                for _ in 0..*periods {
                    self.on(cockpit, &Event::Wait(10))?;
                    if *periods % 7 == 0 {
                        self.on(
                            cockpit,
                            &Event::Status(true, true, sw::VehicleStatus::MODE_OFFBOARD, false, false, 0),
                        )?;
                    }
                    self.on(cockpit, &Event::Odometry(0.0, 0.0))?;
                    self.on(cockpit, &Event::Offer("guide/command", 0.1, 1.0, 1))?;
                    self.on(cockpit, &Event::Offer("student/command", 0.2, 1.0, 1))?;
                }
            }
            Event::Ask(service) => {
                // The answer comes with what it leads to.
                let asked = *service == "~/arm";
                self.asked_to_arm |= asked;
                let answer = cockpit.ask(service);
                self.look(cockpit)?;
                if asked && !answer.success {
                    self.asked_to_arm = false;
                }
            }
            Event::Rival(instance) => {
                cockpit.rig.message("authority", sw::Authority { instance: *instance, ..Default::default() });
            }
        }
        self.look(cockpit)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_must_hold_holds_at_every_moment(events in prop::collection::vec(event(), 0..150), asked in any::<bool>()) {
        let mut cockpit = Cockpit::new(&[("auto_arm", Value::Bool(false))]);
        cockpit.bridge_lives = false;
        let mut onlooker = Onlooker::default();
        if asked {
            let m = sw::VehicleStatus::MODE_OFFBOARD;
            onlooker.on(&mut cockpit, &Event::Status(true, false, m, true, false, 0))?;
            onlooker.on(&mut cockpit, &Event::Fly(3))?;
            onlooker.on(&mut cockpit, &Event::Ask("~/arm"))?;
            onlooker.on(&mut cockpit, &Event::Status(true, true, m, false, false, 0))?;
            onlooker.on(&mut cockpit, &Event::Fly(70))?;
        }
        for event in &events {
            onlooker.on(&mut cockpit, event)?;
        }
    }
}
