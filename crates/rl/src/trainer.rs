//! TD3BC+JSRL for a spiking actor on sequences.
//!
//! The critics (privileged, without state) learn from single transitions by clipped double-Q learning with target
//! policy smoothing; the actor runs over whole sequences from zero membrane potentials and learns, after a warm-up, to
//! maximise λ_Q·Q₁(s, π) − λ_BC·‖π − a‖² by backpropagation through time with a surrogate gradient (section 4 of
//! the paper).

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use spikewing_quad::{OBSERVATION, Reward};
use spikewing_snn::{Adam, AdamOptions, Network, Shape, SnnError, Trace};

use crate::{
    Config, RewardDefinition, actor,
    batch::Batch,
    critic::{self, Critics},
    dense::DenseError,
    flight,
    replay::{ACTION, Episode, Replay, ReplayError, Step},
    schedule::Slope,
    trust::Trust,
};

/// Why an update failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The spiking network refused.
    #[error("actor: {0}")]
    Actor(#[from] SnnError),
    /// A critic refused.
    #[error("critic: {0}")]
    Critic(#[from] DenseError),
    /// A learner to go on from has other critics.
    #[error(
        "the learner that was to be gone on from has critics of another shape; set critic_hidden as it was there"
    )]
    CriticShape,
}

/// What becomes of another learner's experience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experience {
    /// It is taken over.
    Kept,
    /// It is left behind: what is flown now is another drone, say.
    Left,
}

/// What one update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateStats {
    /// Mean squared temporal-difference error of the first critic, scaled rewards.
    pub critic_loss: f32,
    /// −λ_Q·Q + λ_BC·‖π − a‖², mean over steps.
    pub actor_loss: f32,
    /// ‖π − a‖², mean over steps.
    pub bc_loss: f32,
    /// ‖π_t − π_{t−1}‖², mean over steps.
    pub action_change: f32,
    /// Mean action value, in rewards.
    pub q_mean: f32,
    /// Surrogate slope.
    pub slope: f64,
    /// λ_BC.
    pub lambda_bc: f64,
    /// Norm of the actor's gradient before clipping.
    pub actor_gradient_norm: f32,
    /// Share of neurons that fired, over the batch, both layers together.
    pub firing_rate: f32,
    /// Share of the judged steps at which the student imitated.
    pub imitated: f32,
    /// Mean reward of a step of differentiable flight.
    pub flight_reward: f32,
    /// Share of those flights that were lost.
    pub flights_lost: f32,
}

/// The learner: networks, replay buffer, schedules and random numbers. All state is here and serialises.
#[derive(Serialize, Deserialize)]
pub struct Trainer {
    config: Config,
    pub(crate) rng: Xoshiro256PlusPlus,
    pub(crate) actor: Network<f32>,
    target_actor: Network<f32>,
    actor_adam: Adam<f32>,
    pub(crate) critics: Critics,
    replay: Replay,
    slope: Slope,
    trust: Trust,
    updates: u64,
    episodes: u64,
    environment_steps: u64,
    #[serde(skip)]
    buffers: Buffers,
}

/// Memory that is used again by the next update; no state.
#[derive(Default)]
struct Buffers {
    target_trace: Trace<f32>,
    actor: actor::Buffers,
    critics: critic::Buffers,
    flight: flight::Buffers,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("updates", &self.updates)
            .field("episodes", &self.episodes)
            .field("environment_steps", &self.environment_steps)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A new learner with random networks.
    ///
    /// # Errors
    /// When the configured shape cannot be.
    pub fn new(config: Config, seed: u64) -> Result<Self, TrainError> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let shape = Shape { inputs: OBSERVATION, hidden: config.hidden.clone(), outputs: ACTION };
        let actor = Network::random(&shape, &mut rng)?;
        let options = AdamOptions {
            learning_rate: config.actor_learning_rate,
            clip_norm: Some(config.actor_clip_norm),
            ..AdamOptions::default()
        };
        let critics = Critics::random(&config.critic, config.critic_learning_rate, &mut rng)?;
        Ok(Self {
            actor_adam: Adam::new(&actor, options),
            target_actor: actor.clone(),
            actor,
            critics,
            replay: Replay::new(config.replay_steps, config.cut),
            slope: Slope::new(config.slope),
            trust: Trust::default(),
            updates: 0,
            episodes: 0,
            environment_steps: 0,
            buffers: Buffers::default(),
            rng,
            config,
        })
    }

    /// Starts the actor from given weights instead of random ones.
    ///
    /// # Errors
    /// When the network is of another shape.
    pub fn start_from(&mut self, network: &Network<f32>) -> Result<(), TrainError> {
        self.actor.copy_from(network)?;
        self.target_actor.copy_from(network)?;
        Ok(())
    }

    /// Goes on with what another learner learned: actor, critics, targets, optimisers, slope, how far its critics can be
    /// trusted, and its experience if that is wanted. Schedules, settings and random numbers stay this one's.
    ///
    /// # Errors
    /// When its networks are of other shapes.
    pub fn start_from_learner(&mut self, other: Self, experience: Experience) -> Result<(), TrainError> {
        self.start_from(&other.actor)?;
        if !other.critics.is_shaped_as(&self.critics) {
            return Err(TrainError::CriticShape);
        }
        let options = self.actor_adam.options;
        self.target_actor = other.target_actor;
        self.actor_adam = other.actor_adam;
        self.actor_adam.options = options;
        self.critics.go_on_from(other.critics);
        (self.slope, self.trust) = (self.slope.going_on_from(other.slope), other.trust);
        if experience == Experience::Kept {
            self.replay =
                Replay::new(self.config.replay_steps, self.config.cut).with_episodes_of(other.replay);
        }
        Ok(())
    }

    /// Takes one record of experience; returns the episode when it is complete.
    ///
    /// # Errors
    /// When the record holds a number that cannot be; nothing is changed.
    pub fn push(
        &mut self,
        actor: &str,
        episode_id: u64,
        step: u32,
        record: &Step,
    ) -> Result<Option<&Episode>, ReplayError> {
        let reward = self.reward();
        let finished = self.replay.push(actor, episode_id, step, record)?;
        self.environment_steps += 1;
        self.episodes += u64::from(finished.is_some());
        if self.config.critic_trust > 0.0
            && self.config.method.reinforces()
            && let Some(episode) = finished
        {
            self.trust.note(&self.config, &self.critics, &reward, episode);
        }
        Ok(finished)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// The actor as it is now.
    pub fn policy(&self) -> &Network<f32> {
        &self.actor
    }
    /// The replay buffer.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }
    /// Updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }
    /// Episodes completed.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }
    /// Records taken.
    pub fn environment_steps(&self) -> u64 {
        self.environment_steps
    }
    /// Epochs completed.
    pub fn epoch(&self) -> u64 {
        self.updates / self.config.updates_per_epoch.max(1)
    }
    /// Surrogate slope now.
    pub fn slope(&self) -> f64 {
        self.slope.at(self.updates)
    }
    /// λ_BC now; 0 where the method does not clone.
    pub fn lambda_bc(&self) -> f64 {
        if self.config.clones() { self.config.cloning.at(self.epoch()) } else { 0.0 }
    }
    /// Curriculum stage now.
    pub fn stage(&self) -> usize {
        self.config.curriculum.stage(self.epoch())
    }
    /// The reward that is learned from now.
    pub fn reward(&self) -> Reward {
        let reward = match self.config.reward {
            RewardDefinition::Published => Reward::stage(self.stage()),
            RewardDefinition::AuthorsCode => Reward::authors_code(),
        };
        reward.with_orientation(self.config.orientation)
    }
    /// Steps of the next episode that the guide should fly.
    pub fn guide_steps(&self) -> u32 {
        let jump = &self.config.jump_start;
        if self.config.jump_starts() { jump.guide_steps(self.episodes) } else { jump.warmup_steps }
    }
    /// Takes the return of an evaluation for the adaptive slope.
    pub fn note_evaluation(&mut self, episode_return: f64) {
        self.slope.note(episode_return);
    }
    /// Relative error of the critics on the student's last flights, where it is looked at ([`crate::trust`]).
    pub fn critic_error(&self) -> Option<f64> {
        self.trust.error()
    }
    /// Whether there is enough experience for an update.
    pub fn ready(&self) -> bool {
        self.replay.sequences() >= self.config.batch.min(8)
    }

    /// Whether the actor follows the critics by now, and still.
    pub(crate) fn follows(&self) -> bool {
        let config = &self.config;
        let trusted = config.critic_trust <= 0.0 || self.trust.within(config.critic_trust);
        let warm = self.updates >= config.critic_warmup_updates || !config.clones();
        config.method.reinforces() && trusted && warm
    }

    /// One update of critics and actor; `None` while there is too little experience.
    ///
    /// # Errors
    /// When a network refuses; nothing random was lost, the same call can be made again.
    pub fn update(&mut self) -> Result<Option<UpdateStats>, TrainError> {
        if !self.ready() {
            return Ok(None);
        }
        let (slope, lambda_bc, reward) = (self.slope(), self.lambda_bc(), self.reward());
        let follows = self.follows();
        let (config, buffers) = (&self.config, &mut self.buffers);
        let reinforces = config.method.reinforces();
        let tau = config.tau as f32;
        // A student that neither imitates nor follows critics learns from its flights alone.
        let only_flies = config.method.flies() && lambda_bc <= 0.0;
        let batch =
            if only_flies { Batch::empty() } else { Batch::sample(config, &self.replay, &mut self.rng) };
        let mut stats = UpdateStats { slope, lambda_bc, ..UpdateStats::default() };
        if reinforces {
            self.target_actor.forward_into(batch.input.view(), &mut buffers.target_trace)?;
            let transitions = batch.transitions(config, &reward, buffers.target_trace.actions());
            stats.critic_loss = self.critics.learn(&transitions, tau, &mut buffers.critics)?;
        }
        self.updates += 1;
        if self.updates.is_multiple_of(config.policy_delay.max(1)) {
            let critics = follows.then_some((&self.critics, &mut buffers.critics));
            let mut loss = 0.0;
            if !only_flies {
                loss = actor::differentiate(
                    config,
                    &self.actor,
                    critics,
                    &batch,
                    &mut stats,
                    &mut buffers.actor,
                )?;
            }
            if config.method.flies()
                && let Some(flown) = flight::differentiate(
                    config,
                    &self.actor,
                    &self.replay,
                    &reward,
                    slope,
                    &mut self.rng,
                    &mut buffers.flight,
                )?
            {
                loss -= (config.flight.weight * flown.reward) as f32;
                stats.flight_reward = flown.reward as f32;
                stats.flights_lost = flown.lost as f32;
                if only_flies {
                    (stats.actor_loss, stats.firing_rate) = (loss, buffers.flight.firing_rate() as f32);
                } else if let (Some(sum), Some(share)) =
                    (&mut buffers.actor.gradients, buffers.flight.gradients())
                {
                    sum.add(share)?;
                }
            }
            let gradients =
                if only_flies { buffers.flight.gradients() } else { buffers.actor.gradients.as_ref() };
            if let (true, Some(gradients)) = (loss.is_finite(), gradients) {
                stats.actor_gradient_norm = gradients.norm();
                self.actor_adam.step(&mut self.actor, gradients)?;
            }
            self.target_actor.soft_update_from(&self.actor, tau)?;
        }
        Ok(Some(stats))
    }
}
