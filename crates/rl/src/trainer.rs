//! TD3BC+JSRL for a spiking actor on sequences.
//!
//! The critics (privileged, without state) learn from single transitions by clipped double-Q learning with target
//! policy smoothing; the actor runs over whole sequences from zero membrane potentials and learns, after a warm-up, to
//! maximise λ_Q·Q₁(s, π) − λ_BC·‖π − a‖² by backpropagation through time with a surrogate gradient (section 4 of
//! the paper).

use ndarray::{Array3, s};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use spikewing_quad::{OBSERVATION, Reward};
use spikewing_snn::{
    Adam, AdamOptions, BackwardOptions, Gradients, Network, Shape, SnnError, Surrogate, Trace, Workspace,
};

use crate::{
    CloningTarget, Config,
    critic::{self, Critic, CriticAdam, CriticError},
    replay::{ACTION, Episode, PRIVILEGED, Replay, ReplayError, Sequence, Step},
    schedule::Slope,
};

/// Why an update failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The spiking network refused.
    #[error("actor: {0}")]
    Actor(#[from] SnnError),
    /// A critic refused.
    #[error(transparent)]
    Critic(#[from] CriticError),
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
}

/// The learner: networks, replay buffer, schedules and random numbers. All state is here and serialises.
#[derive(Serialize, Deserialize)]
pub struct Trainer {
    config: Config,
    rng: Xoshiro256PlusPlus,
    actor: Network<f32>,
    target_actor: Network<f32>,
    actor_adam: Adam<f32>,
    critics: [Critic; 2],
    target_critics: [Critic; 2],
    critic_adams: [CriticAdam; 2],
    replay: Replay,
    slope: Slope,
    updates: u64,
    episodes: u64,
    environment_steps: u64,
    #[serde(skip)]
    buffers: Buffers,
}

/// Memory that is used again by the next update; no state.
#[derive(Default)]
struct Buffers {
    trace: Trace<f32>,
    target_trace: Trace<f32>,
    workspace: Workspace<f32>,
    gradients: Option<Gradients<f32>>,
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

/// A sampled batch.
struct Batch<'a> {
    sequences: Vec<Sequence<'a>>,
    /// What the actor sees, `[length + 1, batch, 18]`; beyond a sequence's end its last observation.
    input: Array3<f32>,
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
        let critics = [Critic::random(&mut rng), Critic::random(&mut rng)];
        Ok(Self {
            actor_adam: Adam::new(&actor, options),
            target_actor: actor.clone(),
            actor,
            target_critics: critics.clone(),
            critics,
            critic_adams: std::array::from_fn(|_| CriticAdam::new(config.critic_learning_rate)),
            replay: Replay::new(config.replay_steps, config.cut),
            slope: Slope::new(config.slope),
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
        let finished = self.replay.push(actor, episode_id, step, record)?;
        self.environment_steps += 1;
        self.episodes += u64::from(finished.is_some());
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
        if self.config.method.clones() { self.config.cloning.at(self.epoch()) } else { 0.0 }
    }
    /// Curriculum stage now.
    pub fn stage(&self) -> usize {
        self.config.curriculum.stage(self.epoch())
    }
    /// The reward that is learned from now.
    pub fn reward(&self) -> Reward {
        Reward::stage(self.stage()).with_orientation(self.config.orientation)
    }
    /// Steps of the next episode that the guide should fly.
    pub fn guide_steps(&self) -> u32 {
        let jump = &self.config.jump_start;
        if self.config.method.jump_starts() { jump.guide_steps(self.episodes) } else { jump.warmup_steps }
    }
    /// Takes the return of an evaluation for the adaptive slope.
    pub fn note_evaluation(&mut self, episode_return: f64) {
        self.slope.note(episode_return);
    }
    /// Whether there is enough experience for an update.
    pub fn ready(&self) -> bool {
        self.replay.sequences() >= self.config.batch.min(8)
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
        let follows = self.config.method.reinforces()
            && (self.updates >= self.config.critic_warmup_updates || !self.config.method.clones());
        let batch = sample(&self.config, &self.replay, &mut self.rng);
        let mut stats = UpdateStats { slope, lambda_bc, ..UpdateStats::default() };
        if self.config.method.reinforces() {
            let learning = CriticLearning {
                config: &self.config,
                target_actor: &self.target_actor,
                targets: &self.target_critics,
                reward: &reward,
            };
            stats.critic_loss = learning.step(
                &batch,
                &mut self.critics,
                &mut self.critic_adams,
                &mut self.buffers.target_trace,
                &mut self.rng,
            )?;
            for (target, critic) in self.target_critics.iter_mut().zip(&self.critics) {
                target.soft_update_from(critic, self.config.tau as f32);
            }
        }
        self.updates += 1;
        if self.updates.is_multiple_of(self.config.policy_delay.max(1)) {
            let critic = follows.then_some(&self.critics[0]);
            let loss =
                actor_gradient(&self.config, &self.actor, critic, &batch, &mut stats, &mut self.buffers)?;
            if let (true, Some(gradients)) = (loss.is_finite(), &self.buffers.gradients) {
                stats.actor_gradient_norm = gradients.norm();
                self.actor_adam.step(&mut self.actor, gradients)?;
            }
            self.target_actor.soft_update_from(&self.actor, self.config.tau as f32)?;
        }
        Ok(Some(stats))
    }
}

fn sample<'a>(config: &Config, replay: &'a Replay, rng: &mut Xoshiro256PlusPlus) -> Batch<'a> {
    let n = replay.sequences();
    let sequences: Vec<Sequence<'a>> =
        (0..config.batch).filter_map(|_| replay.sequence(rng.random_range(0..n))).collect();
    let length = config.cut.length + 1;
    let mut input = Array3::zeros((length, sequences.len(), OBSERVATION));
    let noise = &config.observation_noise;
    for (b, sequence) in sequences.iter().enumerate() {
        // From none to all of it: the policy must hover with a good estimate as well as with a bad one.
        let share = rng.random::<f32>();
        for t in 0..length {
            let seen = &sequence.episode.observations[sequence.start + t.min(sequence.length)];
            for (i, &value) in seen.iter().enumerate() {
                let std = match i {
                    0..3 => noise.position_m,
                    3..12 => noise.rotation,
                    12..15 => noise.velocity_m_s,
                    _ => noise.body_rates_rad_s,
                };
                let added =
                    if std > 0.0 { share * std as f32 * rng.sample::<f32, _>(StandardNormal) } else { 0.0 };
                input[(t, b, i)] = value + added;
            }
        }
    }
    Batch { sequences, input }
}

/// Writes the critic's input of a step: scaled privileged observation and action.
fn push_input(rows: &mut Vec<f32>, episode: &Episode, step: usize, action: &[f32]) {
    let from = rows.len();
    rows.resize(from + PRIVILEGED, 0.0);
    episode.privileged(step, &mut rows[from..]);
    critic::scale_privileged(&mut rows[from..]);
    rows.extend_from_slice(action);
}

struct CriticLearning<'a> {
    config: &'a Config,
    target_actor: &'a Network<f32>,
    targets: &'a [Critic; 2],
    reward: &'a Reward,
}

impl CriticLearning<'_> {
    fn step(
        &self,
        batch: &Batch<'_>,
        critics: &mut [Critic; 2],
        adams: &mut [CriticAdam; 2],
        trace: &mut Trace<f32>,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<f32, TrainError> {
        let config = self.config;
        self.target_actor.forward_into(batch.input.view(), trace)?;
        let next_actions = trace.actions();
        let rows = batch.sequences.len() * config.critic_steps;
        let mut now = Vec::with_capacity(rows * critic::INPUTS);
        let mut next = Vec::with_capacity(rows * critic::INPUTS);
        let (mut rewards, mut futures) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let clip = config.policy_noise_clip as f32;
        for (b, sequence) in batch.sequences.iter().enumerate() {
            // The target actor's next action means something only once its hidden state is warm.
            let first = config.warmup_steps.min(sequence.length - 1);
            for _ in 0..config.critic_steps {
                let t = rng.random_range(first..sequence.length);
                let (episode, k) = (sequence.episode, sequence.start + t);
                push_input(&mut now, episode, k, &episode.actions[k]);
                let smoothed: [f32; ACTION] = std::array::from_fn(|i| {
                    let noise = config.policy_noise as f32 * rng.sample::<f32, _>(StandardNormal);
                    (next_actions[(t + 1, b, i)] + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)
                });
                push_input(&mut next, episode, k + 1, &smoothed);
                let r = self.reward.of_observation(&episode.observations[k + 1], &episode.actions[k]);
                rewards.push((r * config.reward_scale) as f32);
                futures.push(if episode.terminates_at(k) { 0.0 } else { config.discount as f32 });
            }
        }
        let [t1, t2] = self.targets;
        let (q1, q2) = rayon::join(|| t1.values(next.clone()), || t2.values(next.clone()));
        let targets: Vec<f32> = q1?
            .iter()
            .zip(&q2?)
            .zip(rewards.iter().zip(&futures))
            .map(|((a, b), (r, future))| r + future * a.min(*b))
            .collect();
        let [c1, c2] = critics;
        let (g1, g2) = rayon::join(
            || c1.gradients(now.clone(), targets.clone()),
            || c2.gradients(now.clone(), targets.clone()),
        );
        let (g1, g2) = (g1?, g2?);
        adams[0].step(c1, &g1);
        adams[1].step(c2, &g2);
        Ok(g1.loss)
    }
}

/// The action that the actor should imitate at a step of a sequence.
fn imitated(config: &Config, sequence: &Sequence<'_>, t: usize) -> [f32; ACTION] {
    let k = sequence.start + t;
    let applied = sequence.episode.actions[k];
    match config.cloning_target {
        CloningTarget::Applied => applied,
        CloningTarget::Guide => sequence.episode.advice[k].unwrap_or(applied),
    }
}

/// Leaves the actor's gradient in `buffers.gradients`; returns the loss.
fn actor_gradient(
    config: &Config,
    actor: &Network<f32>,
    critic: Option<&Critic>,
    batch: &Batch<'_>,
    stats: &mut UpdateStats,
    buffers: &mut Buffers,
) -> Result<f32, TrainError> {
    let length = config.cut.length;
    let lambda_bc = stats.lambda_bc as f32;
    actor.forward_into(batch.input.slice(s![..length, .., ..]), &mut buffers.trace)?;
    let actions = buffers.trace.actions();
    // (step in the sequence, sequence) of every step that has a loss.
    let judged: Vec<(usize, usize)> = batch
        .sequences
        .iter()
        .enumerate()
        .flat_map(|(b, sequence)| (config.warmup_steps..sequence.length).map(move |t| (t, b)))
        .collect();
    let n = judged.len().max(1) as f32;
    let mut gradient = Array3::<f32>::zeros((length, batch.sequences.len(), ACTION));
    let mut bc = 0.0;
    for &(t, b) in &judged {
        let sequence = &batch.sequences[b];
        for (i, &imitated) in imitated(config, sequence, t).iter().enumerate() {
            let off = actions[(t, b, i)] - imitated;
            bc += off * off / n;
            gradient[(t, b, i)] = 2.0 * lambda_bc * off / n;
        }
    }
    let mut loss = lambda_bc * bc;
    if let Some(critic) = critic.filter(|_| !judged.is_empty()) {
        let mut rows = Vec::with_capacity(judged.len() * critic::INPUTS);
        for &(t, b) in &judged {
            let sequence = &batch.sequences[b];
            let action: [f32; ACTION] = std::array::from_fn(|i| actions[(t, b, i)]);
            push_input(&mut rows, sequence.episode, sequence.start + t, &action);
        }
        let half = judged.len() / 2;
        let (q, dq) = if half == 0 {
            critic.values_and_action_gradient(rows)?
        } else {
            // Rows do not depend on each other: each core takes half of them.
            let tail = rows.split_off(half * critic::INPUTS);
            let (a, b) = rayon::join(
                || critic.values_and_action_gradient(rows),
                || critic.values_and_action_gradient(tail),
            );
            let ((mut q, mut dq), (q2, dq2)) = (a?, b?);
            q.extend(q2);
            dq.extend(dq2);
            (q, dq)
        };
        let size = q.iter().map(|v| v.abs()).sum::<f32>() / n;
        let lambda_q = config.alpha as f32 / size.max(1e-3);
        let mean = q.iter().sum::<f32>() / n;
        loss -= lambda_q * mean;
        stats.q_mean = mean / config.reward_scale as f32;
        for (&(t, b), dq) in judged.iter().zip(dq.chunks_exact(ACTION)) {
            for (i, dq) in dq.iter().enumerate() {
                gradient[(t, b, i)] -= lambda_q * dq / n;
            }
        }
    }
    let options = BackwardOptions {
        surrogate: Surrogate::FastSigmoid,
        first_step: config.warmup_steps,
        ..BackwardOptions::new(stats.slope as f32)
    };
    let gradients = buffers.gradients.get_or_insert_with(|| Gradients::zeros_like(actor));
    actor.backward_into(&buffers.trace, gradient.view(), &options, &mut buffers.workspace, gradients)?;
    let rates = buffers.trace.firing_rates();
    stats.firing_rate = (rates.iter().sum::<f64>() / rates.len().max(1) as f64) as f32;
    stats.bc_loss = bc;
    stats.actor_loss = loss;
    Ok(loss)
}
