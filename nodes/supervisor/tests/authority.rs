//! Whatever arrives, the supervisor commands what is finite, in range and allowed, once per odometry.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use proptest::prelude::*;
use spikewing_msgs::{Message, geometry_msgs, nav_msgs::Odometry, spikewing_msgs as sw};
use spikewing_runtime::{
    Context, Node, NodeOptions, Outbox, Received, Span, Time, node::Effect, parameter::Value,
};
use spikewing_supervisor::NODE;

struct Rig {
    node: Box<dyn Node>,
    out: Outbox,
    now: Time,
    commands: Vec<sw::MotorCommand>,
    experience: Vec<sw::Experience>,
    authority: u8,
}

impl Rig {
    fn new() -> Self {
        let mut options = NodeOptions::of(&NODE);
        for (name, value) in [("auto_arm", Value::Bool(true)), ("episode.settle_s", Value::Float(0.0))] {
            options.parameters.set(name, value).unwrap();
        }
        let context =
            Context { parameters: &options.parameters, name: &options.name, namespace: &options.namespace };
        Self {
            node: (NODE.build)(&context).unwrap(),
            out: Outbox::new(),
            now: Time::from_nanoseconds(1_000_000_000),
            commands: Vec::new(),
            experience: Vec::new(),
            authority: 0,
        }
    }

    fn keep(&mut self) {
        for effect in self.out.drain() {
            let Effect::Publish { message, .. } = effect else { continue };
            if let Some(m) = sw::MotorCommand::peel(&message) {
                self.commands.push(m.clone());
            } else if let Some(m) = sw::Experience::peel(&message) {
                self.experience.push(m.clone());
            } else if let Some(m) = sw::Authority::peel(&message) {
                self.authority = m.state;
            }
        }
    }

    fn message<M: Message>(&mut self, port: &str, message: M) {
        let message = message.wrap();
        self.node.on_message(self.now, &Received { port, message: &message }, &mut self.out);
        self.keep();
    }

    fn timer(&mut self) {
        self.node.on_timer(self.now, "watchdog", &mut self.out);
        self.keep();
    }

    fn wait(&mut self, milliseconds: i64) {
        for _ in 0..milliseconds / 5 {
            self.now = self.now + Span::from_millis(5);
            self.timer();
        }
    }

    fn status(&mut self, armed: bool) {
        let mode = if armed { sw::VehicleStatus::MODE_OFFBOARD } else { sw::VehicleStatus::MODE_HOLD };
        let status = sw::VehicleStatus { connected: true, armed, mode, landed: !armed, ..Default::default() };
        self.message("vehicle/status", status);
    }

    fn odometry(&mut self, x: f64) {
        let mut m = Odometry::default();
        m.header.stamp = self.now.to_msg();
        m.pose.pose.position = geometry_msgs::Point::new(x, 0.0, 1.0);
        self.message("odometry", m);
    }

    fn offer(&mut self, port: &str, motors: f32, warmth: f32) {
        let m = sw::MotorCommand {
            motors: [motors; 4],
            warmth,
            odometry_stamp: self.now.to_msg(),
            ..Default::default()
        };
        self.message(port, m);
    }

    /// One control period in which both policies answer (or not).
    fn period(&mut self, x: f64, guide: Option<f32>, student: Option<f32>) {
        self.wait(10);
        self.odometry(x);
        if let Some(motors) = guide {
            self.offer("guide/command", motors, 1.0);
        }
        if let Some(motors) = student {
            self.offer("student/command", motors, 1.0);
        }
    }

    /// Armed, in an episode, the student flying.
    fn flying() -> Self {
        let mut rig = Self::new();
        rig.status(false);
        for _ in 0..10 {
            rig.period(0.0, Some(0.1), Some(0.2));
        }
        assert_eq!(rig.authority, sw::Authority::ARMING);
        rig.status(true);
        for _ in 0..60 {
            rig.period(0.0, Some(0.1), Some(0.2));
        }
        assert_eq!(rig.authority, sw::Authority::STUDENT);
        rig
    }
}

#[test]
fn the_guide_warms_the_student_up_and_then_the_student_flies() {
    let rig = Rig::flying();
    let first = rig.commands.iter().position(|c| c.source == sw::MotorCommand::SOURCE_STUDENT).unwrap();
    let guide = rig.commands[..first].iter().filter(|c| c.source == sw::MotorCommand::SOURCE_GUIDE).count();
    assert!((50..=51).contains(&guide), "{guide} steps of the guide");
    let stamps: Vec<Time> = rig.commands.iter().map(|c| Time::from(&c.odometry_stamp)).collect();
    assert!(stamps.windows(2).all(|w| w[0] < w[1]), "one command for each odometry");
}

#[test]
fn a_silent_student_costs_two_periods() {
    let mut rig = Rig::flying();
    let lost = rig.now;
    let before = rig.commands.len();
    for _ in 0..10 {
        rig.period(0.0, Some(0.1), None);
    }
    let guide = rig.commands[before..].iter().find(|c| c.source == sw::MotorCommand::SOURCE_GUIDE).unwrap();
    let delay = Time::from(&guide.odometry_stamp) - lost;
    assert!(delay <= Span::from_millis(20), "{delay:?}");
    assert_ne!(rig.authority, sw::Authority::STUDENT);
    assert!(rig.experience.iter().any(|e| e.truncated), "the episode ended");
}

#[test]
fn nobody_fit_means_nothing_is_commanded() {
    let mut rig = Rig::flying();
    for _ in 0..4 {
        rig.period(0.0, None, None);
    }
    let before = rig.commands.len();
    for _ in 0..20 {
        rig.period(0.0, None, None);
    }
    assert_eq!(rig.commands.len(), before);
}

#[test]
fn leaving_the_envelope_ends_the_episode_as_terminated() {
    let mut rig = Rig::flying();
    rig.period(0.7, Some(0.1), Some(0.2));
    assert_eq!(rig.authority, sw::Authority::RECOVER);
    let last = rig.experience.last().unwrap();
    assert!(last.terminated && !last.truncated);
    assert!((last.observation[0] - 0.7).abs() < 1e-6);
    let steps: Vec<u32> = rig.experience.iter().map(|e| e.step).collect();
    assert_eq!(steps, (0..=last.step).collect::<Vec<_>>());
    assert_eq!(rig.commands.last().unwrap().source, sw::MotorCommand::SOURCE_GUIDE);
}

#[test]
fn a_cold_or_broken_student_does_not_fly() {
    for (motors, warmth) in [(0.2, 0.5), (f32::NAN, 1.0), (1.5, 1.0), (0.2, f32::NAN)] {
        let mut rig = Rig::flying();
        for _ in 0..6 {
            rig.wait(10);
            rig.odometry(0.0);
            rig.offer("guide/command", 0.1, 1.0);
            rig.offer("student/command", motors, warmth);
        }
        assert_ne!(rig.authority, sw::Authority::STUDENT, "{motors} {warmth}");
        assert_eq!(rig.commands.last().unwrap().source, sw::MotorCommand::SOURCE_GUIDE);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Wait(i64),
    Odometry(f64),
    Guide(f32, f32),
    Student(f32, f32),
    Status(bool),
    Setpoint(f64),
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![5 => -1.0_f32..1.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => -3.0_f32..3.0]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_i64..40).prop_map(Event::Wait),
        6 => prop_oneof![8 => -0.5_f64..0.5, 1 => -5.0_f64..5.0, 1 => Just(f64::NAN)].prop_map(Event::Odometry),
        5 => (number(), number()).prop_map(|(m, w)| Event::Guide(m, w)),
        5 => (number(), prop_oneof![3 => Just(1.0_f32), 1 => number()]).prop_map(|(m, w)| Event::Student(m, w)),
        2 => any::<bool>().prop_map(Event::Status),
        1 => prop_oneof![4 => -1.0_f64..1.0, 1 => Just(f64::NAN)].prop_map(Event::Setpoint),
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_commands_are_sound(events in prop::collection::vec(event(), 0..300), flying in any::<bool>()) {
        let mut rig = if flying { Rig::flying() } else { Rig::new() };
        let start = rig.commands.len();
        for event in events {
            match event {
                Event::Wait(ms) => rig.wait(ms),
                Event::Odometry(x) => rig.odometry(x),
                Event::Guide(m, w) => rig.offer("guide/command", m, w),
                Event::Student(m, w) => rig.offer("student/command", m, w),
                Event::Status(armed) => rig.status(armed),
                Event::Setpoint(x) => {
                    let mut m = geometry_msgs::PoseStamped::default();
                    m.pose.position = geometry_msgs::Point::new(x, 0.0, 1.0);
                    rig.message("setpoint", m);
                }
            }
            rig.timer();
        }
        let mut last = Time::ZERO;
        for command in &rig.commands[start..] {
            prop_assert!(command.motors.iter().all(|m| (-1.0..=1.0).contains(m)), "{command:?}");
            let stamp = Time::from(&command.odometry_stamp);
            prop_assert!(stamp > last, "two commands for one odometry");
            last = stamp;
            if command.source == sw::MotorCommand::SOURCE_STUDENT {
                prop_assert!(command.warmth >= 1.0);
            }
        }
        prop_assert!(rig.experience.iter().all(|e| e.observation.iter().all(|v| v.is_finite())));
    }
}
