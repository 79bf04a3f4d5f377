//! Differentiable flight: the student learns by backpropagation through its own closed loop (`anchored_bptt`).
//!
//! A flight starts at a state that was really visited, with the membranes that the recorded observations before it leave,
//! and goes on for a short horizon in the equations of motion, the student acting on what it sees there. The loss is the
//! negative reward of those steps, and its gradient is exact through the equations ([`spikewing_quad::differentiable`]) and
//! goes through the spikes by the surrogate ([`spikewing_snn::closed_loop`]). No critic has to learn first.
//!
//! Where several airframes are flown, each anchor goes on with the one whose prediction fits the recorded steps best.
//!
//! Related: short-horizon policy learning through differentiable simulation (SHAC, Xu et al. 2022; "Learning on the Fly",
//! arXiv 2508.21065; anchoring at visited states, arXiv 2602.10111), there with networks without state.

use nalgebra::{Matrix3, Rotation3, UnitQuaternion, Vector3};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use spikewing_quad::{
    Disturbance, OBSERVATION, Observation, Reward, State, Vehicle,
    differentiable::{Adjoint, Jacobian, Plant, STATE, pull_observation},
};
use spikewing_snn::{
    BackwardOptions, Gradients, Network,
    closed_loop::{self, World},
};

use crate::{
    Config, TrainError,
    replay::{ACTION, Episode, Replay},
};

/// Recorded steps by which an anchor's airframe and the motion of its setpoint are told.
const LOOK_BACK: usize = 24;

/// A setpoint slower than this stands still, m/s: what the estimate's noise alone can look like.
const STILL_MPS: f64 = 0.05;

/// A flight beyond this is over: there is nothing to learn from how it goes on.
const LOST_M: f64 = 3.0;
const LOST_RADPS: f64 = 60.0;

/// Settings of differentiable flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightConfig {
    /// Airframes, whose equations the flights follow.
    pub vehicles: Vec<Vehicle>,
    /// Steps of a flight.
    pub horizon: usize,
    /// Flights at an update.
    pub flights: usize,
    /// Weight of the negative reward, mean over steps, in the actor's loss.
    pub weight: f64,
    /// How much more the reward of the last step weighs than that of each other: it stands for what comes after.
    pub terminal: f64,
    /// In half of the flights the setpoint jumps at the anchor, each coordinate by up to this, m.
    pub setpoint_jump_m: f64,
    /// Control period, s.
    pub period_s: f64,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self {
            vehicles: Vec::new(),
            horizon: 50,
            flights: 32,
            weight: 1.0,
            terminal: 10.0,
            setpoint_jump_m: 0.2,
            period_s: 0.01,
        }
    }
}

/// Memory that is used again by the next update; no state.
#[derive(Debug, Default)]
pub struct Buffers {
    closed_loop: closed_loop::Buffers<f32>,
    gradients: Option<Gradients<f32>>,
    airframes: Vec<Airframe>,
}

impl Buffers {
    /// The gradient that [`differentiate`] left.
    pub fn gradients(&self) -> Option<&Gradients<f32>> {
        self.gradients.as_ref()
    }

    /// Share of neurons that fired, all layers together.
    pub fn firing_rate(&self) -> f64 {
        let rates = self.closed_loop.firing_rates();
        rates.iter().sum::<f64>() / rates.len().max(1) as f64
    }
}

#[derive(Debug)]
struct Airframe {
    vehicle: Vehicle,
    plant: Plant,
}

/// What the flights of an update came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlightStats {
    /// Mean reward of a step.
    pub reward: f64,
    /// Share of flights that were lost.
    pub lost: f64,
}

/// Flies from anchors drawn from the replay buffer and leaves the gradient of the loss in `buffers`. `None` while there
/// is nothing to start from.
///
/// # Errors
/// When the network refuses.
pub fn differentiate(
    config: &Config,
    actor: &Network<f32>,
    replay: &Replay,
    reward: &Reward,
    slope: f64,
    rng: &mut Xoshiro256PlusPlus,
    buffers: &mut Buffers,
) -> Result<Option<FlightStats>, TrainError> {
    let settings = &config.flight;
    if buffers.airframes.len() != settings.vehicles.len() {
        let airframe = |v: &Vehicle| Airframe { plant: Plant::new(v), vehicle: v.clone() };
        buffers.airframes = settings.vehicles.iter().map(airframe).collect();
    }
    let warm = config.warmup_steps;
    let anchors: Vec<Anchor<'_>> =
        (0..settings.flights).filter_map(|_| Anchor::draw(replay, warm, rng)).collect();
    if anchors.is_empty() || buffers.airframes.is_empty() {
        return Ok(None);
    }
    let airframes = &buffers.airframes;
    let mut worlds: Vec<Flight<'_>> = anchors
        .par_iter()
        .map(|anchor| Flight::start(anchor, airframes, config, reward, anchors.len()))
        .collect();
    let mut seen = Array3::zeros((warm, anchors.len(), OBSERVATION));
    for (i, (anchor, world)) in anchors.iter().zip(&mut worlds).enumerate() {
        for (t, o) in anchor.before(warm).iter().enumerate() {
            for (j, value) in world.noisy(o).into_iter().enumerate() {
                seen[(t, i, j)] = value;
            }
        }
    }
    let options = BackwardOptions { surrogate: config.surrogate, ..BackwardOptions::new(slope as f32) };
    let gradients = buffers.gradients.get_or_insert_with(|| Gradients::zeros_like(actor));
    let (horizon, memory) = (settings.horizon, &mut buffers.closed_loop);
    actor.closed_loop(seen.view(), horizon, &mut worlds, &options, memory, gradients)?;
    let steps: f64 = worlds.iter().map(|w| w.flown() as f64).sum::<f64>().max(1.0);
    let n = worlds.len() as f64;
    Ok(Some(FlightStats {
        reward: worlds.iter().map(|w| w.reward_sum).sum::<f64>() / steps,
        lost: worlds.iter().filter(|w| w.lost.is_some()).count() as f64 / n,
    }))
}

/// A recorded state from which a flight goes on.
struct Anchor<'a> {
    episode: &'a Episode,
    step: usize,
    seed: u64,
}

impl<'a> Anchor<'a> {
    /// A step of the replay buffer that has the warm-up before it.
    fn draw(replay: &'a Replay, warm: usize, rng: &mut Xoshiro256PlusPlus) -> Option<Self> {
        let n = replay.sequences();
        if n == 0 {
            return None;
        }
        let (index, share, seed) = (rng.random_range(0..n), rng.random::<f64>(), rng.random());
        let sequence = replay.sequence(index)?;
        let room = sequence.length.checked_sub(warm)?;
        let step = sequence.start + warm + (share * (room + 1) as f64) as usize;
        let step = step.min(sequence.start + sequence.length);
        Some(Self { episode: sequence.episode, step, seed })
    }

    /// What was seen in the steps before it.
    fn before(&self, steps: usize) -> &[Observation] {
        &self.episode.observations[self.step - steps..self.step]
    }

    /// First step of those that are looked back at.
    fn first(&self) -> usize {
        self.step.saturating_sub(LOOK_BACK)
    }

    /// The setpoint's velocity: what the position error's change leaves over when the vehicle's own velocity is taken off.
    fn setpoint_velocity(&self, period_s: f64) -> Vector3<f64> {
        let (first, last) = (self.first(), self.step);
        if last == first {
            return Vector3::zeros();
        }
        let observations = &self.episode.observations;
        let velocity = |o: &Observation| Vector3::new(o[12], o[13], o[14]).cast::<f64>();
        let position = |o: &Observation| Vector3::new(o[0], o[1], o[2]).cast::<f64>();
        let n = (last - first) as f64;
        let flown = (first..last)
            .map(|t| (velocity(&observations[t]) + velocity(&observations[t + 1])) / 2.0)
            .sum::<Vector3<f64>>()
            / n;
        let moved = position(&observations[last]) - position(&observations[first]);
        let velocity = flown - moved / (n * period_s);
        if velocity.norm() < STILL_MPS { Vector3::zeros() } else { velocity }
    }

    /// The recorded state at a step, with rotors that followed the recorded actions; the setpoint is the origin.
    fn state(&self, step: usize, rotors: [f64; ACTION]) -> State {
        let o = self.episode.observations[step].map(f64::from);
        let matrix = Matrix3::from_row_slice(&o[3..12]);
        let rotation = Rotation3::from_matrix_unchecked(matrix);
        State {
            position: Vector3::new(o[0], o[1], o[2]),
            orientation: UnitQuaternion::from_rotation_matrix(&rotation),
            velocity: Vector3::new(o[12], o[13], o[14]),
            body_rates: Vector3::new(o[15], o[16], o[17]),
            rotors,
        }
    }

    /// The airframe that predicts the recorded body rates and velocities best, and its rotors at the anchor.
    fn airframe<'b>(&self, airframes: &'b [Airframe], period_s: f64) -> (&'b Airframe, [f64; ACTION]) {
        let mut best = (f64::INFINITY, &airframes[0], [0.0; ACTION]);
        for airframe in airframes {
            let vehicle = &airframe.vehicle;
            let mut rotors = [vehicle.hover_rotor(); ACTION];
            let mut error = 0.0;
            for step in 0..self.step {
                let action = self.episode.actions[step].map(f64::from);
                if airframes.len() > 1 && step >= self.first() {
                    let state = self.state(step, rotors);
                    let next =
                        spikewing_quad::step(vehicle, &state, &action, &Disturbance::default(), period_s);
                    let seen = self.state(step + 1, rotors);
                    error += (next.body_rates - seen.body_rates).norm_squared()
                        + (next.velocity - seen.velocity).norm_squared();
                }
                rotors = follow(vehicle, rotors, &action, period_s);
            }
            if error < best.0 {
                best = (error, airframe, rotors);
            }
        }
        (best.1, best.2)
    }
}

/// Rotors after a period of following a command with first-order lag.
fn follow(vehicle: &Vehicle, rotors: [f64; ACTION], action: &[f64; ACTION], period_s: f64) -> [f64; ACTION] {
    let lag = vehicle.motor_time_constant_s;
    std::array::from_fn(|i| {
        let command = vehicle.rotor_of_action(action[i]);
        let constant = if command >= rotors[i] { lag.rising } else { lag.falling };
        let share = if constant > 0.0 { 1.0 - (-period_s / constant).exp() } else { 1.0 };
        rotors[i] + (command - rotors[i]) * share
    })
}

/// A flight that goes on from an anchor.
struct Flight<'a> {
    plant: &'a Plant,
    reward: &'a Reward,
    config: &'a Config,
    rng: Xoshiro256PlusPlus,
    deviations: [f32; OBSERVATION],
    setpoint: Vector3<f64>,
    setpoint_velocity: Vector3<f64>,
    /// Weight of a step's reward, and of a step's change of the action, in the loss.
    share: f64,
    smoothness: f64,
    before: [f32; ACTION],
    states: Vec<State>,
    jacobians: Vec<Jacobian>,
    actions: Vec<[f32; ACTION]>,
    /// Steps after which the flight was lost.
    lost: Option<usize>,
    reward_sum: f64,
    /// ∂L/∂x of the state after the step that is pulled next.
    adjoint: Adjoint,
    /// ∂L/∂a of the step that is pulled next, as far as it comes from the change to the step after it.
    pending: [f32; ACTION],
}

impl<'a> Flight<'a> {
    fn start(
        anchor: &Anchor<'_>,
        airframes: &'a [Airframe],
        config: &'a Config,
        reward: &'a Reward,
        flights: usize,
    ) -> Self {
        let settings = &config.flight;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(anchor.seed);
        let (airframe, rotors) = anchor.airframe(airframes, settings.period_s);
        let deviations = config.observation_noise.deviations(rng.random());
        let jumps = rng.random::<bool>();
        let jump = Vector3::from_fn(|_, _| settings.setpoint_jump_m * (2.0 * rng.random::<f64>() - 1.0));
        let n = (flights * settings.horizon) as f64;
        Self {
            plant: &airframe.plant,
            reward,
            config,
            rng,
            deviations,
            setpoint: if jumps { jump } else { Vector3::zeros() },
            setpoint_velocity: anchor.setpoint_velocity(settings.period_s),
            share: settings.weight / n,
            smoothness: config.smoothness / n,
            before: match anchor.step.checked_sub(1) {
                Some(step) => anchor.episode.actions[step],
                None => [0.0; ACTION],
            },
            states: vec![anchor.state(anchor.step, rotors)],
            jacobians: Vec::with_capacity(settings.horizon),
            actions: Vec::with_capacity(settings.horizon),
            lost: None,
            reward_sum: 0.0,
            adjoint: [0.0; STATE],
            pending: [0.0; ACTION],
        }
    }

    fn flown(&self) -> usize {
        self.actions.len()
    }

    fn setpoint_at(&self, step: usize) -> Vector3<f64> {
        self.setpoint + self.setpoint_velocity * (step as f64 * self.config.flight.period_s)
    }

    fn noisy(&mut self, o: &Observation) -> Observation {
        std::array::from_fn(|i| o[i] + self.deviations[i] * self.rng.sample::<f32, _>(StandardNormal))
    }

    fn step_share(&self, step: usize) -> f64 {
        let last = step + 1 == self.config.flight.horizon;
        if last { self.share * self.config.flight.terminal.max(1.0) } else { self.share }
    }

    fn before(&self, step: usize) -> &[f32; ACTION] {
        step.checked_sub(1).map_or(&self.before, |s| &self.actions[s])
    }
}

impl World<f32> for Flight<'_> {
    fn observe(&mut self, step: usize, observation: &mut [f32]) {
        let state = self.states[step.min(self.flown())];
        let seen = state.observation(&self.setpoint_at(step.min(self.flown())));
        let seen = self.noisy(&seen);
        observation.copy_from_slice(&seen);
    }

    fn act(&mut self, step: usize, action: &[f32]) {
        if self.lost.is_some() {
            return;
        }
        let action: [f32; ACTION] = std::array::from_fn(|i| action[i]);
        let wide = action.map(f64::from);
        let (next, jacobian) =
            self.plant.step(&self.states[step], &wide, &Disturbance::default(), self.config.flight.period_s);
        let setpoint = self.setpoint_at(step + 1);
        let within = |v: Vector3<f64>, limit: f64| v.norm() <= limit;
        // What is not a number is within nothing.
        if !within(next.position - setpoint, LOST_M) || !within(next.body_rates, LOST_RADPS) {
            self.lost = Some(step);
            return;
        }
        self.reward_sum += self.reward.of_state(&next, &setpoint, &wide);
        self.states.push(next);
        self.jacobians.push(jacobian);
        self.actions.push(action);
    }

    fn pull_action(&mut self, step: usize, gradient: &mut [f32]) {
        if step >= self.flown() {
            gradient.fill(0.0);
            return;
        }
        let (share, action) = (self.step_share(step) as f32, self.actions[step]);
        let setpoint = self.setpoint_at(step + 1);
        let (by_state, by_action) =
            self.reward.gradient(&self.states[step + 1], &setpoint, &self.setpoint_velocity, &action);
        let next: Adjoint = std::array::from_fn(|i| self.adjoint[i] - share * by_state[i]);
        let (state, through) = self.jacobians[step].pull(&next);
        let smoothness = 2.0 * self.smoothness as f32;
        let before = *self.before(step);
        for i in 0..ACTION {
            let change = smoothness * (action[i] - before[i]);
            gradient[i] = through[i] - share * by_action[i] + change + self.pending[i];
            self.pending[i] = -change;
        }
        self.adjoint = state;
    }

    fn pull_observation(&mut self, step: usize, gradient: &[f32]) {
        if step < self.flown()
            && let Some(gradient) = gradient.first_chunk()
        {
            pull_observation(&self.states[step], gradient, &mut self.adjoint);
        }
    }
}
