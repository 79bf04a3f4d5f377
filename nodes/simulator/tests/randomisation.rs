//! Vehicles drawn at every reset, by seed.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use spikewing_msgs::{
    Message,
    px4_msgs::{ActuatorMotors, OffboardControlMode, VehicleCommand},
    ros_gz_interfaces::SetEntityPose_Request,
};
use spikewing_px4_bridge::px4;
use spikewing_runtime::{Node, NodeOptions, Outbox, Received, Span, Time, node::Request, parameter::Value};
use spikewing_simulator::{NODE, Simulator};

struct Rig {
    node: Simulator,
    out: Outbox,
    now: Time,
}

impl Rig {
    fn new(parameters: &[(&str, Value)]) -> Result<Self, String> {
        let mut options = NodeOptions::of(&NODE);
        for (name, value) in parameters {
            options.parameters.set(name, value.clone()).map_err(|e| e.to_string())?;
        }
        let node = Simulator::new(&options.context()).map_err(|e| e.to_string())?;
        Ok(Self { node, out: Outbox::new(), now: Time::from_nanoseconds(1_000_000_000) })
    }

    fn message<M: Message>(&mut self, port: &str, message: M) {
        let message = message.wrap();
        self.node.on_message(self.now, &Received { port, message: &message }, &mut self.out);
    }

    fn tick(&mut self) {
        self.now = self.now + Span::from_millis(5);
        self.message(
            px4::OFFBOARD_CONTROL_MODE,
            OffboardControlMode { direct_actuator: true, ..Default::default() },
        );
        self.node.on_timer(self.now, "physics", &mut self.out);
        self.out.drain();
    }

    fn command(&mut self, command: u16, param1: f32, param2: f32) {
        let command = VehicleCommand { command: command.into(), param1, param2, ..Default::default() };
        self.message(px4::VEHICLE_COMMAND, command);
    }

    fn motors(&mut self, throttle: f32) {
        let mut control = [f32::NAN; 12];
        control[..4].fill(throttle);
        self.message(px4::ACTUATOR_MOTORS, ActuatorMotors { control, ..Default::default() });
    }

    /// Armed in offboard mode, put 50 m up.
    fn lift(&mut self) {
        (0..250).for_each(|_| self.tick());
        self.command(VehicleCommand::VEHICLE_CMD_DO_SET_MODE, 1.0, 6.0);
        self.command(VehicleCommand::VEHICLE_CMD_COMPONENT_ARM_DISARM, 1.0, 0.0);
        self.reset();
    }

    fn reset(&mut self) {
        let mut request = SetEntityPose_Request::default();
        request.pose.position.z = 50.0;
        request.pose.orientation.w = 1.0;
        let message = request.into();
        let request = Request { port: "set_entity_pose", message: &message };
        self.node.on_request(self.now, &request, &mut self.out).unwrap();
        self.out.drain();
    }

    /// Height lost or won in half a second at full throttle.
    fn climb(&mut self) -> f64 {
        let before = self.node.truth().position.z;
        self.motors(1.0);
        (0..100).for_each(|_| self.tick());
        self.node.truth().position.z - before
    }
}

fn climbs(parameters: &[(&str, Value)]) -> Vec<f64> {
    let mut rig = Rig::new(parameters).unwrap();
    rig.lift();
    (0..4)
        .map(|_| {
            rig.reset();
            rig.climb()
        })
        .collect()
}

#[test]
fn every_reset_draws_a_vehicle_from_the_seed() {
    let mass = ("randomisation.mass", Value::Float(0.2));
    let nominal = climbs(&[]);
    assert!(nominal.windows(2).all(|w| w[0] == w[1]), "without randomisation all are alike: {nominal:?}");
    assert!(nominal[0] > 0.5, "{nominal:?}");
    let drawn = climbs(std::slice::from_ref(&mass));
    assert_eq!(drawn, climbs(std::slice::from_ref(&mass)), "the same seed");
    assert!(drawn.windows(2).all(|w| (w[0] - w[1]).abs() > 1e-4), "{drawn:?}");
    assert_ne!(drawn, climbs(&[mass, ("seed", Value::Integer(2))]), "another seed");
}

#[test]
fn the_action_latency_delays_what_the_motors_do() {
    let mut rig = Rig::new(&[("randomisation.action_latency", Value::Float(0.2))]).unwrap();
    rig.lift();
    let mut delays = Vec::new();
    for _ in 0..8 {
        rig.reset();
        rig.motors(1.0);
        let hover = rig.node.truth().rotors[0];
        let ticks = (0..50).take_while(|_| {
            rig.tick();
            (rig.node.truth().rotors[0] - hover).abs() < 1e-9
        });
        delays.push(5 * ticks.count());
    }
    assert!(delays.iter().all(|d| *d <= 200), "{delays:?} ms");
    assert!(delays.iter().max().unwrap() - delays.iter().min().unwrap() > 20, "{delays:?} ms");
}

#[test]
fn what_could_not_hover_is_refused() {
    let parameters = [("randomisation.mass", Value::Float(0.5)), ("randomisation.thrust", Value::Float(0.4))];
    let error = Rig::new(&parameters).err().unwrap();
    assert!(error.contains("randomisation.mass") && error.contains("cannot hover"), "{error}");
}

#[test]
fn resets_fly_one_of_several_vehicles() {
    let texts = |names: &[&str]| Value::Texts(names.iter().map(|n| (*n).to_owned()).collect());
    let mut rig = Rig::new(&[("randomisation.vehicles", texts(&["l2f2"]))]).unwrap();
    rig.lift();
    let mut climbs: Vec<f64> = (0..20)
        .map(|_| {
            rig.reset();
            rig.climb()
        })
        .collect();
    climbs.sort_by(f64::total_cmp);
    let (lightest, heaviest) = (climbs[19], climbs[0]);
    assert!(lightest - heaviest > 0.1, "{climbs:?}");
    assert!(climbs.iter().all(|c| (c - lightest).abs() < 1e-9 || (c - heaviest).abs() < 1e-9), "{climbs:?}");
    let error = Rig::new(&[("randomisation.vehicles", texts(&["l2f3"]))]).err().unwrap();
    assert!(error.contains("l2f3"), "{error}");
}
