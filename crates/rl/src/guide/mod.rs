//! A guide by TD3: a privileged feed-forward policy that hovers, made from nothing but the simulation.
//!
//! The actor (146-64-64-4, tanh) sees the observation with noise, as it will in flight, and the last 32 actions; the
//! critics, the student learner's own ([`crate::critic`]), see the state without noise. Episodes start wherever the
//! vehicle's start distribution says, on an airframe that is drawn anew for each of them, and end when the drone leaves
//! the box. Flights and updates take turns; the same seed makes the same weights, whatever the number of threads.

mod airframe;
mod flight;
mod learn;
mod memory;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use spikewing_quad::{Reward, Vehicle, reward::OrientationTerm};
use spikewing_snn::{Linear, Mlp, SnnError};

use crate::{
    ObservationNoise,
    critic::{self, CriticShape, Critics},
    dense::{Activation, Backend, Dense, DenseAdam, DenseError},
    replay::{ACTION, PRIVILEGED},
};

pub use airframe::{Variation, noise_of, start_of};
pub use flight::GuidePilot;

/// Updates that a call makes at most.
const UPDATES_AT_ONCE: usize = 50;

/// Settings of a guide's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuideConfig {
    /// Neurons in the actor's hidden layers.
    pub hidden: Vec<usize>,
    /// The critics' shape.
    pub critic: CriticShape,
    /// Learning rate of the actor at the start; at the end it is a tenth of it.
    pub actor_learning_rate: f64,
    /// Learning rate of the critics.
    pub critic_learning_rate: f64,
    /// γ, discount per control step.
    pub discount: f64,
    /// τ, share of the way that target networks go at an update.
    pub tau: f64,
    /// Standard deviation of the noise on target actions.
    pub policy_noise: f64,
    /// It is clipped to this.
    pub policy_noise_clip: f64,
    /// Updates of the critics for one of the actor.
    pub policy_delay: u64,
    /// Each episode's exploration noise has a standard deviation drawn between these.
    pub exploration: [f64; 2],
    /// Transitions in a batch.
    pub batch: usize,
    /// Updates to be made.
    pub updates: u64,
    /// Steps that the memory holds.
    pub memory_steps: usize,
    /// Steps flown before the first update.
    pub start_steps: usize,
    /// Steps flown for each update.
    pub steps_per_update: f64,
    /// Episodes flown at once between updates.
    pub episodes_per_round: usize,
    /// Share of the start distribution's width that episodes start from at first; it grows to all of it …
    pub first_reach: f64,
    /// … over this share of the updates.
    pub widening: f64,
    /// Control steps of an episode.
    pub episode_steps: usize,
    /// Control period, s.
    pub dt_s: f64,
    /// Reward learned from.
    pub reward: Reward,
    /// Weight of ‖a_t − a_{t−1}‖² in the reward: the guide should not shake the drone.
    pub action_change: f64,
    /// Weight of ‖p − p*‖, 1/m: what a square leaves of the last centimetres is lost in the noise.
    pub distance: f64,
    /// In half of the episodes the setpoint moves, each coordinate by up to this, m/s, and turns every second or two: a guide
    /// that only knows setpoints at rest lags behind one that moves.
    pub setpoint_speed_m_s: f64,
    /// Rewards are multiplied by this for the critics.
    pub reward_scale: f64,
    /// Noise on what the actor sees; each row gets a share of it between none and all.
    pub observation_noise: ObservationNoise,
    /// How airframes differ from the file.
    pub variation: Variation,
}

impl GuideConfig {
    /// For a vehicle. The noise is its file's, where it has any.
    pub fn for_vehicle(vehicle: &Vehicle) -> Self {
        let mut reward = Reward::end().with_orientation(OrientationTerm::Full);
        reward.coefficients.position = 2.0;
        reward.coefficients.orientation = 0.5;
        // What costs nothing must be what hovers, or the guide sinks or climbs for its reward.
        reward.coefficients.action_baseline = (vehicle.hover_action() + 1.0) / 2.0;
        // Living must pay everywhere in the box: where it does not, dying soon is best, and that is learned first.
        reward.coefficients.survival = 2.0;
        Self {
            hidden: vec![64, 64],
            critic: CriticShape { hidden: vec![64, 64], backend: Backend::Native },
            actor_learning_rate: 3e-4,
            critic_learning_rate: 1e-3,
            discount: 0.98,
            tau: 0.005,
            policy_noise: 0.2,
            policy_noise_clip: 0.5,
            policy_delay: 4,
            exploration: [0.05, 0.4],
            batch: 256,
            updates: 120_000,
            memory_steps: 1_000_000,
            start_steps: 3_000,
            steps_per_update: 8.0,
            episodes_per_round: 8,
            first_reach: 0.2,
            widening: 0.3,
            episode_steps: 500,
            dt_s: 0.01,
            reward,
            action_change: 1.0,
            distance: 1.5,
            setpoint_speed_m_s: 0.6,
            reward_scale: 0.1,
            observation_noise: noise_of(vehicle),
            variation: Variation::default(),
        }
    }
}

/// What a training has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuideStats {
    /// Updates made.
    pub updates: u64,
    /// Control steps flown.
    pub steps: u64,
    /// Episodes flown.
    pub episodes: u64,
    /// Mean return of the last round's episodes, exploration noise and all.
    pub flown_return: f64,
    /// Their mean length, steps.
    pub flown_length: f64,
    /// Mean squared temporal-difference error of the first critic, scaled rewards.
    pub critic_loss: f32,
    /// Mean action value, in rewards.
    pub q_mean: f32,
}

/// The guide's learner.
#[derive(Debug)]
pub struct GuideTrainer {
    config: GuideConfig,
    /// Every episode flies one of them.
    vehicles: Vec<Vehicle>,
    rng: Xoshiro256PlusPlus,
    actor: Dense,
    target_actor: Dense,
    actor_adam: DenseAdam,
    critics: Critics,
    memory: memory::Memory,
    /// Updates that what was flown allows but that were not made.
    due: f64,
    stats: GuideStats,
    buffers: learn::Buffers,
    critic_buffers: critic::Buffers,
}

impl GuideTrainer {
    /// A new learner with random networks.
    ///
    /// # Errors
    /// When a layer is empty.
    pub fn new(config: GuideConfig, vehicle: Vehicle, seed: u64) -> Result<Self, DenseError> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let widths: Vec<usize> =
            [PRIVILEGED].into_iter().chain(config.hidden.iter().copied()).chain([ACTION]).collect();
        let mut actor = Dense::random(&widths, Activation::Tanh, Activation::Tanh, &mut rng)?
            .with_backend(config.critic.backend);
        // At first it does about what hovers, whatever it sees: from there it is not far to flying.
        let hover = vehicle.hover_action().clamp(-0.95, 0.95).atanh() as f32;
        actor.set_output(0.1, hover);
        Ok(Self {
            critics: Critics::random(&config.critic, config.critic_learning_rate, &mut rng)?,
            actor_adam: DenseAdam::new(&actor, config.actor_learning_rate),
            target_actor: actor.clone(),
            actor,
            memory: memory::Memory::new(config.memory_steps),
            due: 0.0,
            stats: GuideStats::default(),
            buffers: learn::Buffers::default(),
            critic_buffers: critic::Buffers::default(),
            rng,
            vehicles: vec![vehicle],
            config,
        })
    }

    /// Flies these airframes, too: every episode draws one of all, so that one guide learns to fly them all. It tells them
    /// apart by what its last actions did.
    #[must_use]
    pub fn also(mut self, vehicles: impl IntoIterator<Item = Vehicle>) -> Self {
        self.vehicles.extend(vehicles);
        self
    }

    /// The settings.
    pub fn config(&self) -> &GuideConfig {
        &self.config
    }

    /// What was done so far.
    pub fn stats(&self) -> &GuideStats {
        &self.stats
    }

    /// Whether all updates are made.
    pub fn done(&self) -> bool {
        self.stats.updates >= self.config.updates
    }

    /// Flies a round of episodes if no update is due, and makes some of the updates that are: a few hundredths of a second
    /// of work, so that a caller can stop in time.
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn round(&mut self) -> Result<(), DenseError> {
        let enough = self.memory.steps() >= self.config.start_steps;
        if !enough || self.due < 1.0 {
            self.fly()?;
        }
        if self.memory.steps() < self.config.start_steps {
            return Ok(());
        }
        for _ in 0..UPDATES_AT_ONCE {
            if self.due < 1.0 || self.done() {
                break;
            }
            self.due -= 1.0;
            self.update()?;
        }
        Ok(())
    }

    fn fly(&mut self) -> Result<(), DenseError> {
        let seeds: Vec<(usize, u64)> = (0..self.config.episodes_per_round)
            .map(|_| match self.vehicles.len() {
                1 => (0, self.rng.random()),
                n => (self.rng.random_range(0..n), self.rng.random()),
            })
            .collect();
        let (config, vehicles, actor) = (&self.config, &self.vehicles, &self.actor);
        let progress = self.stats.updates as f64 / config.updates.max(1) as f64;
        let widening = progress / config.widening.max(1e-9);
        let reach = (config.first_reach + (1.0 - config.first_reach) * widening).min(1.0);
        let flown: Vec<flight::Flown> = seeds
            .par_iter()
            .map(|(which, seed)| flight::fly(config, &vehicles[*which], actor, reach, *seed))
            .collect::<Result<_, DenseError>>()?;
        let n = flown.len().max(1) as f64;
        self.stats.flown_return = flown.iter().map(|f| f.episode_return).sum::<f64>() / n;
        self.stats.flown_length = flown.iter().map(|f| f.actions.len() as f64).sum::<f64>() / n;
        for flown in &flown {
            self.stats.episodes += 1;
            self.stats.steps += flown.actions.len() as u64;
            self.due += flown.actions.len() as f64 / self.config.steps_per_update.max(1e-3);
            self.memory.push(flown);
        }
        Ok(())
    }

    fn update(&mut self) -> Result<(), DenseError> {
        let config = &self.config;
        learn::sample(config, &self.memory, &mut self.rng, &mut self.buffers);
        learn::next_actions(&self.target_actor, &mut self.buffers)?;
        let tau = config.tau as f32;
        self.stats.critic_loss =
            self.critics.learn(&learn::Rows(&self.buffers), tau, &mut self.critic_buffers)?;
        self.stats.updates += 1;
        if self.stats.updates.is_multiple_of(config.policy_delay.max(1)) {
            let critic = &self.critics.networks()[0];
            let q = learn::actor_gradient(&self.actor, critic, &mut self.buffers)?;
            self.stats.q_mean = q / config.reward_scale as f32;
            let left = 1.0 - self.stats.updates as f64 / config.updates.max(1) as f64;
            self.actor_adam.set_learning_rate(config.actor_learning_rate * (0.1 + 0.9 * left.max(0.0)));
            self.actor_adam.step(&mut self.actor, self.buffers.actor_gradient());
            self.target_actor.soft_update_from(&self.actor, tau);
        }
        Ok(())
    }

    /// The guide as it is now, on observations that are not scaled: the slowly moving average of the actor, which flies
    /// better than the actor itself.
    ///
    /// # Errors
    /// Never: the network's own layers fit each other.
    pub fn guide(&self) -> Result<Mlp, SnnError> {
        let mut scale = vec![1.0; PRIVILEGED];
        critic::scale_privileged(&mut scale);
        let widths = self.target_actor.widths();
        let layers = self
            .target_actor
            .layers()
            .zip(widths.windows(2))
            .enumerate()
            .map(|(i, ((weight, bias), pair))| {
                let (inputs, outputs) = (pair[0], pair[1]);
                let mut transposed = vec![0.0; weight.len()];
                for k in 0..inputs {
                    let factor = if i == 0 { scale[k] } else { 1.0 };
                    for j in 0..outputs {
                        transposed[j * inputs + k] = factor * weight[k * outputs + j];
                    }
                }
                Linear::new(inputs, outputs, transposed, bias.to_vec())
            })
            .collect::<Result<_, SnnError>>()?;
        Mlp::new(layers)
    }
}

#[cfg(test)]
mod tests;
