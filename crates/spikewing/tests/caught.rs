//! Whatever flies it, and whatever is killed, the drone is caught: judged by the simulator's own state.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use std::{cell::RefCell, rc::Rc};

use common::{compose, options, run};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{AnyMessage, Message, nav_msgs::Odometry, px4_msgs, spikewing_msgs as sw};
use spikewing_runtime::{
    Context, Node, NodeKind, NodeOptions, Outbox, Received, Span, Time,
    local::Composition,
    node::{Request, Response},
    parameter::Value,
    port::{Input, Interface, Output, Qos},
};

const ODOMETRY: Input<Odometry> = Input::new("odometry", Qos::sensor(1));
const COMMAND: Output<sw::MotorCommand> = Output::new("student/command", Qos::sensor(1));

/// A student that says the same whatever it sees.
struct Constant([f32; 4]);

impl Node for Constant {
    fn interface(&self) -> Interface {
        Interface::new().input(&ODOMETRY).output(&COMMAND)
    }
    fn on_message(&mut self, _: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(m) = message.on(&ODOMETRY) {
            let odometry_stamp = m.header.stamp.clone();
            let command = sw::MotorCommand {
                motors: self.0,
                warmth: 1.0,
                odometry_stamp,
                policy_version: 7,
                ..Default::default()
            };
            out.publish(&COMMAND, command);
        }
    }
}

/// What became of the vehicle.
#[derive(Clone, Debug, Default)]
struct Fate {
    tilt_rad: f64,
    /// Speed with which it met the ground.
    impact_m_s: f64,
    /// Times the student lost it.
    losses: u64,
    blamed: u64,
    student_steps: u64,
    /// Time and state of every change of authority.
    authority: Vec<(Time, u8, String)>,
    commands: Vec<(Time, sw::MotorCommand)>,
    heights: Vec<(Time, f64)>,
}

impl Fate {
    fn fell(&self) -> bool {
        self.tilt_rad > std::f64::consts::FRAC_PI_2 || self.impact_m_s > 1.0
    }
}

fn watch(composition: &mut Composition<'_>) -> Rc<RefCell<Fate>> {
    let fate = Rc::<RefCell<Fate>>::default();
    let seen = Rc::clone(&fate);
    let mut above = false;
    composition.observe(move |now, topic, message| {
        let mut f = seen.borrow_mut();
        if let Some(m) = px4_msgs::VehicleOdometry::peel(message) {
            let [w, x, y, z] = m.q.map(f64::from);
            let q = UnitQuaternion::new_normalize(Quaternion::new(w, x, y, z));
            f.tilt_rad = f.tilt_rad.max((q * Vector3::z()).z.clamp(-1.0, 1.0).acos());
            let (height, sinks) = (-f64::from(m.position[2]), f64::from(m.velocity[2]));
            f.heights.push((now, height));
            if above && height < 0.03 {
                f.impact_m_s = f.impact_m_s.max(sinks);
            }
            above = height >= 0.03;
        } else if let Some(m) = sw::Authority::peel(message) {
            if f.authority.last().is_none_or(|(_, state, reason)| *state != m.state || *reason != m.reason) {
                let lost = f.authority.last().is_some_and(|(_, state, _)| *state == sw::Authority::STUDENT);
                f.losses += u64::from(lost && m.state == sw::Authority::RECOVER);
                f.blamed += u64::from(lost && m.policy_version == 7);
                f.authority.push((now, m.state, m.reason.clone()));
            }
        } else if let (Some(m), "/command") = (sw::MotorCommand::peel(message), topic) {
            f.student_steps += u64::from(m.source == sw::MotorCommand::SOURCE_STUDENT);
            f.commands.push((now, m.clone()));
        }
    });
    fate
}

const FLYING: [&str; 5] = ["simulator", "px4_bridge", "state_estimator", "guide_policy", "supervisor"];

fn vehicle(name: &str) -> Vec<(&'static str, &'static str, Value)> {
    ["simulator", "guide_policy", "supervisor"]
        .map(|node| (node, "vehicle", Value::Text(name.into())))
        .to_vec()
}

#[test]
fn a_student_that_says_the_same_whatever_happens_crashes_nothing() {
    let students = [
        [0.9, 0.9, -0.9, -0.9],
        [1.0, -1.0, -1.0, 1.0],
        [0.4, 0.4, -1.0, 0.4],
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.3, 0.3, -0.1, -0.1],
        [-1.0, -1.0, 0.2, 0.2],
        [-1.0; 4],
        [1.0; 4],
        [0.0; 4],
        [1.0, 1.0, -1.0, -1.0],
        [-1.0, 1.0, 1.0, -1.0],
        [1.0, -1.0, 1.0, -1.0],
        [-1.0, 0.4, 0.4, 0.4],
        [0.5, 0.3, 0.3, 0.3],
    ];
    for name in ["crazyflie", "x500"] {
        for motors in students {
            let mut composition = compose(&FLYING, "hover.yaml", &vehicle(name), &[]);
            let options =
                NodeOptions { name: "constant".into(), namespace: "/".into(), ..Default::default() };
            composition.add_node(Box::new(Constant(motors)), &options).unwrap();
            let fate = watch(&mut composition);
            run(composition, 30.0);
            let f = fate.borrow();
            println!(
                "{name} {motors:?}: tilt {:.2} rad, impact {:.2} m/s, {} losses, {} steps",
                f.tilt_rad, f.impact_m_s, f.losses, f.student_steps
            );
            assert!(!f.fell(), "{name} {motors:?}: {:?}", f.authority);
            assert!(f.losses >= 3 && f.losses == f.blamed, "it was tried, and blamed: {f:?}");
        }
    }
}

/// A node that is killed, and started again as another process.
struct Reborn {
    kind: &'static NodeKind,
    options: NodeOptions,
    inner: Box<dyn Node>,
    dead: [Time; 2],
    starts: u64,
}

impl Reborn {
    fn new(kind: &'static NodeKind, options: NodeOptions, dead_s: [f64; 2]) -> Self {
        let inner = (kind.build)(&options.context()).unwrap();
        Self { kind, options, inner, dead: dead_s.map(|s| Time::ZERO + Span::from_seconds(s)), starts: 1 }
    }

    fn alive(&mut self, now: Time, out: &mut Outbox) -> Option<&mut Box<dyn Node>> {
        if now < self.dead[0] {
            return Some(&mut self.inner);
        }
        if now < self.dead[1] {
            return None;
        }
        if self.starts == 1 {
            self.starts = 2;
            let context = Context { instance: 2, ..self.options.context() };
            self.inner = (self.kind.build)(&context).unwrap();
            self.inner.on_start(now, out);
        }
        Some(&mut self.inner)
    }
}

impl Node for Reborn {
    fn interface(&self) -> Interface {
        self.inner.interface()
    }
    fn on_start(&mut self, now: Time, out: &mut Outbox) {
        self.inner.on_start(now, out);
    }
    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        if let Some(node) = self.alive(now, out) {
            node.on_message(now, message, out);
        }
    }
    fn on_timer(&mut self, now: Time, timer: &'static str, out: &mut Outbox) {
        if let Some(node) = self.alive(now, out) {
            node.on_timer(now, timer, out);
        }
    }
    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        self.alive(now, out)?.on_request(now, request, out)
    }
    fn on_response(&mut self, now: Time, response: &Response<'_>, out: &mut Outbox) {
        if let Some(node) = self.alive(now, out) {
            node.on_response(now, response, out);
        }
    }
}

#[test]
fn a_supervisor_that_is_started_again_takes_the_flying_vehicle_over() {
    for name in ["crazyflie", "x500"] {
        let (dies, back) = (10.0, 10.2);
        let mut composition = compose(&FLYING[..4], "hover.yaml", &vehicle(name), &[]);
        let kind = &spikewing_supervisor::NODE;
        let options = options(kind, "hover.yaml", &vehicle(name));
        let node = Reborn::new(kind, options.clone(), [dies, back]);
        composition.add_node(Box::new(node), &options).unwrap();
        let fate = watch(&mut composition);
        run(composition, 25.0);
        let f = fate.borrow();
        let again = f.commands.iter().find(|(at, _)| at.seconds() > dies + 0.05).unwrap();
        println!("{name}: commanded again {:.3} s after the start", again.0.seconds() - back);
        assert!(again.0.seconds() - back <= 0.3, "{:?}", f.authority);
        let after = f.commands.iter().filter(|(at, _)| at.seconds() > back);
        assert!(after.clone().all(|(_, c)| c.motors != [-1.0; 4]), "idle motors to a vehicle that flies");
        assert!(
            f.authority
                .iter()
                .filter(|(at, ..)| at.seconds() > back)
                .all(|(_, state, _)| { !matches!(*state, sw::Authority::DISARMED | sw::Authority::ARMING) })
        );
        assert!(!f.fell(), "tilt {} rad, impact {} m/s", f.tilt_rad, f.impact_m_s);
        let last = f.heights.iter().rev().take(100).map(|(_, z)| (z - 1.0).abs()).fold(0.0, f64::max);
        assert!(last < 0.15, "it is {last} m off at the end");
    }
}

#[test]
fn the_shipped_student_keeps_its_authority() {
    let flights = 10;
    let policy = format!("{}/../../policies/crazyflie/student.safetensors", env!("CARGO_MANIFEST_DIR"));
    let (mut losses, mut reasons) = (0, Vec::new());
    for seed in 1..=flights {
        let mut settings = vehicle("crazyflie");
        settings.push(("simulator", "seed", Value::Integer(seed)));
        settings.push(("snn_policy", "policy_file", Value::Text(policy.clone())));
        let nodes =
            ["simulator", "px4_bridge", "state_estimator", "guide_policy", "snn_policy", "supervisor"];
        let mut composition = compose(&nodes, "hover.yaml", &settings, &[]);
        let fate = watch(&mut composition);
        run(composition, 120.0);
        let f = fate.borrow();
        assert!(f.student_steps > 11_000, "{} steps", f.student_steps);
        losses += f.losses;
        reasons.extend(f.authority.iter().filter(|a| a.1 == sw::Authority::RECOVER).map(|a| a.2.clone()));
    }
    println!("{losses} losses in {flights} flights of 120 s: {reasons:?}");
    assert_eq!(losses, 0, "{reasons:?}");
}
