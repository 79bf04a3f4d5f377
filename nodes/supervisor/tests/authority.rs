//! Whatever arrives, the supervisor commands what is finite, in range and allowed, once per odometry.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Cockpit, Pose, answers};
use proptest::prelude::*;
use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{Span, Time};

#[test]
fn the_guide_warms_the_student_up_and_then_the_student_flies() {
    let commands = Cockpit::flying(&[]).commands();
    let first = commands.iter().position(|c| c.source == sw::MotorCommand::SOURCE_STUDENT).unwrap();
    let guide = commands[..first].iter().filter(|c| c.source == sw::MotorCommand::SOURCE_GUIDE).count();
    assert!((50..=51).contains(&guide), "{guide} steps of the guide");
    assert!(commands.windows(2).all(|w| answers(&w[0]) < answers(&w[1])), "one command for each odometry");
}

#[test]
fn a_silent_student_costs_two_periods() {
    let mut cockpit = Cockpit::flying(&[]);
    let lost = cockpit.rig.now();
    let before = cockpit.commands().len();
    for _ in 0..10 {
        cockpit.period(0.0, Some(0.1), None);
    }
    let commands = cockpit.commands();
    let guide = commands[before..].iter().find(|c| c.source == sw::MotorCommand::SOURCE_GUIDE).unwrap();
    let delay = answers(guide) - lost;
    assert!(delay <= Span::from_millis(20), "{delay:?}");
    assert_ne!(cockpit.state(), sw::Authority::STUDENT);
    assert!(cockpit.experience().iter().any(|e| e.truncated), "the episode ended");
}

#[test]
fn nobody_fit_means_nothing_is_commanded_and_no_episode_starts() {
    let mut cockpit = Cockpit::flying(&[]);
    for _ in 0..4 {
        cockpit.period(0.0, None, None);
    }
    let before = cockpit.commands().len();
    let episode = cockpit.authority().episode_id;
    for _ in 0..40 {
        cockpit.period(0.0, None, None);
    }
    assert_eq!(cockpit.commands().len(), before);
    let authority = cockpit.authority();
    assert_eq!(authority.episode_id, episode);
    assert!(authority.reason.contains("no fresh guide"), "{}", authority.reason);
    // When the guide is back it flies, and says so. It is waited for from its first answer on.
    for _ in 0..4 {
        cockpit.period(0.3, Some(0.1), None);
    }
    assert_eq!(cockpit.commands().len(), before + 3);
    assert!(cockpit.authority().reason.contains("again"), "{}", cockpit.authority().reason);
}

#[test]
fn a_cold_or_broken_student_does_not_fly() {
    for (motors, warmth) in [(0.2, 0.5), (f32::NAN, 1.0), (1.5, 1.0), (0.2, f32::NAN)] {
        let mut cockpit = Cockpit::flying(&[]);
        for _ in 0..6 {
            cockpit.wait(10);
            cockpit.odometry(Pose::at(0.0));
            cockpit.offer("guide/command", 0.1, 1.0);
            cockpit.offer("student/command", motors, warmth);
        }
        assert_ne!(cockpit.state(), sw::Authority::STUDENT, "{motors} {warmth}");
        assert_eq!(cockpit.commands().last().unwrap().source, sw::MotorCommand::SOURCE_GUIDE);
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
    Ask(&'static str),
}

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![5 => -1.0_f32..1.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => -3.0_f32..3.0]
}

fn event() -> impl Strategy<Value = Event> {
    let services = prop::sample::select(vec!["~/arm", "~/start_episode", "~/stop", "~/land"]);
    prop_oneof![
        4 => (0_i64..40).prop_map(Event::Wait),
        6 => prop_oneof![8 => -0.5_f64..0.5, 1 => -5.0_f64..5.0, 1 => Just(f64::NAN)].prop_map(Event::Odometry),
        5 => (number(), number()).prop_map(|(m, w)| Event::Guide(m, w)),
        5 => (number(), prop_oneof![3 => Just(1.0_f32), 1 => number()]).prop_map(|(m, w)| Event::Student(m, w)),
        2 => any::<bool>().prop_map(Event::Status),
        1 => prop_oneof![4 => -1.0_f64..1.0, 1 => Just(f64::NAN)].prop_map(Event::Setpoint),
        1 => services.prop_map(Event::Ask),
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_commands_are_sound(events in prop::collection::vec(event(), 0..300), flying in any::<bool>()) {
        let mut cockpit = if flying { Cockpit::flying(&[]) } else { Cockpit::new(&[]) };
        cockpit.rig.forget();
        for event in events {
            match event {
                Event::Wait(ms) => cockpit.wait(ms),
                Event::Odometry(x) => cockpit.odometry(Pose::at(x)),
                Event::Guide(m, w) => cockpit.offer("guide/command", m, w),
                Event::Student(m, w) => cockpit.offer("student/command", m, w),
                Event::Status(armed) => cockpit.status(armed),
                Event::Setpoint(x) => cockpit.setpoint(x),
                Event::Ask(service) => drop(cockpit.ask(service)),
            }
            cockpit.rig.with(|node, now, out| node.on_timer(now, "watchdog", out));
        }
        let mut last = Time::ZERO;
        for command in &cockpit.commands() {
            prop_assert!(command.motors.iter().all(|m| (-1.0..=1.0).contains(m)), "{command:?}");
            let stamp = answers(command);
            prop_assert!(stamp > last, "two commands for one odometry");
            last = stamp;
            if command.source == sw::MotorCommand::SOURCE_STUDENT {
                prop_assert!(command.warmth >= 1.0);
            }
        }
        let experience = cockpit.experience();
        prop_assert!(experience.iter().all(|e| e.observation.iter().all(|v| v.is_finite())));
        // Steps of an episode are numbered without gaps, and it ends once.
        for pair in experience.windows(2) {
            if pair[0].episode_id == pair[1].episode_id {
                prop_assert_eq!(pair[1].step, pair[0].step + 1);
                prop_assert!(!pair[0].terminated && !pair[0].truncated);
            } else {
                prop_assert!(pair[0].terminated || pair[0].truncated);
            }
        }
    }
}
