//! The vehicle in its world: rigid body, motors on their way, a ground, and what a reset draws.

use std::collections::VecDeque;

use nalgebra::{UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{Disturbance, State, Vehicle, step};
use spikewing_runtime::{Span, Time};

use crate::{
    own_modes::IDLE,
    sensors::normal,
    settings::{Settings, World},
};

/// Motor commands for a vehicle in a state, at each step of the physics.
pub trait Motors {
    /// In [−1, 1]; `None`: the rotors stand still. `companion`: what arrived from it.
    fn command(&mut self, state: &State, companion: &[f64; 4], dt_s: f64) -> Option<[f64; 4]>;
}

/// The vehicle.
pub struct Body {
    /// The one that flies: the nominal vehicle of the settings, or one drawn around it at the last reset.
    pub vehicle: Vehicle,
    /// Where it is.
    pub state: State,
    /// The companion's last motor commands that arrived.
    motors: [f64; 4],
    /// Setpoints on their way to the motors, with the time at which they arrive.
    underway: VecDeque<(Time, [f64; 4])>,
    /// Time from a motor setpoint to the motors.
    action_latency: Span,
    disturbance: Disturbance,
    /// Draws vehicles; a generator of its own, so that noise and resets are the same with and without.
    vehicle_rng: Xoshiro256PlusPlus,
}

impl Body {
    /// At rest at the start.
    pub fn new(settings: &Settings, rng: &mut Xoshiro256PlusPlus) -> Self {
        let world = &settings.world;
        let mut body = Self {
            state: State { orientation: world.heading(), ..State::rest(&world.vehicle, world.start) },
            vehicle: world.vehicle.clone(),
            motors: IDLE,
            underway: VecDeque::new(),
            action_latency: Span::ZERO,
            disturbance: Disturbance::default(),
            vehicle_rng: Xoshiro256PlusPlus::seed_from_u64(!settings.seed),
        };
        body.draw_vehicle(world);
        body.draw_disturbance(world, rng);
        body
    }

    fn draw_disturbance(&mut self, world: &World, rng: &mut Xoshiro256PlusPlus) {
        let own = &self.vehicle.simulation;
        let several = !world.others.is_empty();
        let of = |parameter: f64, file: f64| if several { parameter.max(file) } else { parameter };
        self.disturbance = Disturbance {
            force_n: normal(rng) * of(world.force_std_n, own.force_std_n),
            torque_n_m: normal(rng) * of(world.torque_std_n_m, own.torque_std_n_m),
        };
    }

    fn draw_vehicle(&mut self, world: &World) {
        if world.randomisation.is_none() && world.others.is_empty() {
            return;
        }
        let nominal = match world.others.len() {
            0 => &world.vehicle,
            // The last of the numbers is the vehicle itself.
            n => world.others.get(self.vehicle_rng.random_range(0..=n)).unwrap_or(&world.vehicle),
        };
        let drawn = world.randomisation.sample(nominal, &mut self.vehicle_rng);
        self.vehicle = drawn.vehicle;
        // Counted on the node's clock, as setpoints are.
        self.action_latency = Span::from_seconds(drawn.action_latency_s / world.real_time_factor);
    }

    /// Motor commands of the companion, in [−1, 1].
    pub fn on_motors(&mut self, now: Time, motors: [f64; 4]) {
        if self.action_latency > Span::ZERO {
            self.underway.push_back((now + self.action_latency, motors));
        } else {
            self.motors = motors;
        }
    }

    /// Moves time on from `since` by `passed` of the node's clock, in steps of the physics rate. Returns the specific
    /// force of the last step, body frame.
    pub fn advance(
        &mut self,
        world: &World,
        motors: &mut dyn Motors,
        since: Time,
        passed: Span,
    ) -> Vector3<f64> {
        let dt_s = passed.seconds() * world.real_time_factor;
        let steps = (dt_s * world.physics_rate_hz).round().max(1.0);
        let h = dt_s / steps;
        let mut specific_force = Vector3::zeros();
        for k in 0..steps as u32 {
            let at = since + Span::from_seconds(passed.seconds() * f64::from(k) / steps);
            while let Some((_, motors)) = self.underway.pop_front_if(|(due, _)| *due <= at) {
                self.motors = motors;
            }
            let command = motors.command(&self.state, &self.motors, h);
            let before = self.state.velocity;
            self.state = step(&self.vehicle, &self.state, &command.unwrap_or(IDLE), &self.disturbance, h);
            if command.is_none() {
                // An armed autopilot keeps the rotors at idle; a disarmed one stops them. The thrust curve has no
                // rotor at rest, so that a disarmed vehicle may only fall or stand.
                self.state.rotors = [self.vehicle.rotor_range[0]; 4];
            }
            self.ground();
            let gravity = Vector3::new(0.0, 0.0, self.vehicle.gravity_m_s2);
            let acceleration = (self.state.velocity - before) / h + gravity;
            specific_force = self.state.orientation.inverse_transform_vector(&acceleration);
        }
        specific_force
    }

    /// The ground takes what falls on it: the vehicle stands, level, with its heading.
    fn ground(&mut self) {
        if self.state.position.z > 0.0 {
            return;
        }
        if self.state.velocity.z > 0.0 {
            self.state.position.z = 0.0;
            return;
        }
        self.state.position.z = 0.0;
        self.state.velocity = Vector3::zeros();
        self.state.body_rates = Vector3::zeros();
        let (_, _, yaw) = self.state.orientation.euler_angles();
        self.state.orientation = UnitQuaternion::from_euler_angles(0.0, 0.0, yaw);
    }

    /// Whether it stands on the ground.
    pub fn stands(&self) -> bool {
        self.state.position.z <= 1e-3
    }

    /// A reset: there, with the spread of the settings.
    pub fn place(
        &mut self,
        world: &World,
        position: Vector3<f64>,
        orientation: UnitQuaternion<f64>,
        armed: bool,
        rng: &mut Xoshiro256PlusPlus,
    ) {
        self.draw_vehicle(world);
        let drawn = world.reset.sample(&self.vehicle, &position, rng);
        self.state = State { orientation: orientation * drawn.orientation, ..drawn };
        if !armed {
            self.state.rotors = [self.vehicle.rotor_range[0]; 4];
        }
        self.ground();
        self.motors = [self.vehicle.hover_action(); 4];
        self.underway.clear();
        self.draw_disturbance(world, rng);
    }
}
