//! A flight that goes on from an anchor, forwards and backwards.

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{
    Disturbance, OBSERVATION, Observation, Reward, State,
    differentiable::{Adjoint, Jacobian, STATE, pull_observation},
};
use spikewing_snn::closed_loop::World;

use super::{Model, anchor::Anchor, path::Path};
use crate::{Config, replay::ACTION};

/// A flight beyond this is over: there is nothing to learn from how it goes on.
const LOST_M: f64 = 3.0;
const LOST_RADPS: f64 = 60.0;

/// Below this a distance counts as its square, m: where the setpoint is, a distance has no derivative.
const NEAR_M: f64 = 0.02;

/// A flight.
pub struct Flight<'a> {
    model: &'a Model<'a>,
    reward: &'a Reward,
    config: &'a Config,
    rng: Xoshiro256PlusPlus,
    deviations: [f32; OBSERVATION],
    path: Path,
    /// Weight of a step's reward, and of a step's change of the action, in the loss.
    share: f64,
    smoothness: f64,
    before: [f32; ACTION],
    /// Commands that were underway at the anchor, the oldest first.
    underway: Vec<[f32; ACTION]>,
    states: Vec<State>,
    jacobians: Vec<Jacobian>,
    actions: Vec<[f32; ACTION]>,
    /// Steps after which the flight was lost.
    lost: Option<usize>,
    reward_sum: f64,
    /// ∂L/∂x of the state after the step that is pulled next.
    adjoint: Adjoint,
    /// ∂L/∂a of each step, as far as it comes from what the command did when it arrived.
    arrived: Vec<[f32; ACTION]>,
    /// ∂L/∂a of the step that is pulled next, as far as it comes from the change to the step after it.
    pending: [f32; ACTION],
}

impl<'a> Flight<'a> {
    pub fn start(
        anchor: &Anchor<'_>,
        model: &'a Model<'a>,
        config: &'a Config,
        reward: &'a Reward,
        flights: usize,
    ) -> Self {
        let settings = &config.flight;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(anchor.seed);
        let deviations = config.observation_noise.deviations(rng.random());
        let recorded = anchor.setpoint_velocity(settings.period_s);
        let path = Path::draw(settings, config.warmup_steps, recorded, &mut rng);
        let latency = match settings.latency_steps {
            0 => 0,
            most => rng.random_range(0..=most),
        };
        let n = (flights * settings.horizon) as f64;
        Self {
            reward,
            config,
            rng,
            deviations,
            path,
            share: settings.weight / n,
            smoothness: config.smoothness / n,
            before: if anchor.step > 0 { anchor.action_before(1) } else { [0.0; ACTION] },
            underway: (1..=latency).rev().map(|steps| anchor.action_before(steps)).collect(),
            states: vec![anchor.state(model.rotors)],
            model,
            jacobians: Vec::with_capacity(settings.horizon),
            actions: Vec::with_capacity(settings.horizon),
            lost: None,
            reward_sum: 0.0,
            adjoint: [0.0; STATE],
            arrived: vec![[0.0; ACTION]; settings.horizon],
            pending: [0.0; ACTION],
        }
    }

    /// Steps flown.
    pub fn flown(&self) -> usize {
        self.actions.len()
    }

    /// Sum of the rewards.
    pub fn reward_sum(&self) -> f64 {
        self.reward_sum
    }

    /// Whether it ended before its time.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// What is seen of an observation that was recorded some steps before the anchor.
    pub fn recorded(&mut self, o: &Observation, steps_before: usize) -> Observation {
        let moved = self.path.moved_before(steps_before);
        let mut o = *o;
        for axis in 0..3 {
            o[axis] -= moved[axis] as f32;
        }
        self.noisy(&o)
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

    /// The command that reaches the motors at a step whose own command is `now`.
    fn arriving(&self, step: usize, now: [f32; ACTION]) -> [f32; ACTION] {
        match step.checked_sub(self.underway.len()) {
            None => self.underway[step],
            Some(sent) => self.actions.get(sent).copied().unwrap_or(now),
        }
    }

    /// What acts on the vehicle in a state beside its rotors.
    fn disturbance(&self, state: &State) -> Disturbance {
        let mut d = self.model.disturbance;
        if let Some(residual) = self.model.residual {
            let more = residual.at(&self.model.vehicle, state);
            d.force_n += more.force_n;
            d.torque_n_m += more.torque_n_m;
        }
        d
    }

    /// Distance to the setpoint, smoothed where it is near, and its derivative.
    fn distance(offset: &Vector3<f64>) -> (f64, Vector3<f64>) {
        let smooth = (offset.norm_squared() + NEAR_M * NEAR_M).sqrt();
        (smooth - NEAR_M, offset / smooth)
    }
}

impl World<f32> for Flight<'_> {
    fn observe(&mut self, step: usize, observation: &mut [f32]) {
        let step = step.min(self.flown());
        let seen = self.states[step].observation(&self.path.at(step));
        let seen = self.noisy(&seen);
        observation.copy_from_slice(&seen);
    }

    fn act(&mut self, step: usize, action: &[f32]) {
        if self.lost.is_some() {
            return;
        }
        let settings = &self.config.flight;
        let action: [f32; ACTION] = std::array::from_fn(|i| action[i]);
        let arriving = self.arriving(step, action).map(f64::from);
        let state = &self.states[step];
        let (next, jacobian) =
            self.model.plant.step(state, &arriving, &self.disturbance(state), settings.period_s);
        let setpoint = self.path.at(step + 1);
        let offset = next.position - setpoint;
        let within = |v: Vector3<f64>, limit: f64| v.norm() <= limit;
        // What is not a number is within nothing.
        if !within(offset, LOST_M) || !within(next.body_rates, LOST_RADPS) {
            self.lost = Some(step);
            return;
        }
        self.reward_sum += self.reward.of_state(&next, &setpoint, &action.map(f64::from))
            - settings.distance * Self::distance(&offset).0;
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
        let setpoint = self.path.at(step + 1);
        let velocity = self.path.velocity(step);
        let next = &self.states[step + 1];
        let (by_state, by_action) = self.reward.gradient(next, &setpoint, &velocity, &action);
        let mut adjoint: Adjoint = std::array::from_fn(|i| self.adjoint[i] - share * by_state[i]);
        let (_, by_offset) = Self::distance(&(next.position - setpoint));
        let distance = share * self.config.flight.distance as f32;
        for axis in 0..3 {
            adjoint[axis] += distance * by_offset[axis] as f32;
        }
        let pulled = self.jacobians[step].pull(&adjoint);
        self.adjoint = pulled.state;
        if let Some(residual) = self.model.residual {
            let (model, state) = (self.model, &self.states[step]);
            residual.pull(&model.vehicle, state, &pulled.force, &pulled.torque, &mut self.adjoint);
        }
        if let Some(sent) = step.checked_sub(self.underway.len()) {
            self.arrived[sent] = pulled.action;
        }
        let smoothness = 2.0 * self.smoothness as f32;
        let (before, through) = (*self.before(step), self.arrived[step]);
        for i in 0..ACTION {
            let change = smoothness * (action[i] - before[i]);
            gradient[i] = through[i] - share * by_action[i] + change + self.pending[i];
            self.pending[i] = -change;
        }
    }

    fn pull_observation(&mut self, step: usize, gradient: &[f32]) {
        if step < self.flown()
            && let Some(gradient) = gradient.first_chunk()
        {
            pull_observation(&self.states[step], gradient, &mut self.adjoint);
        }
    }
}

#[cfg(test)]
mod tests;
