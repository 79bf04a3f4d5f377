//! The learner's settings: section 4 of the paper, and what it leaves open.

use serde::{Deserialize, Serialize};
use spikewing_quad::{OBSERVATION, reward::OrientationTerm};
use spikewing_snn::Surrogate;

use crate::{
    critic::CriticShape,
    flight::FlightConfig,
    replay::Cut,
    schedule::{Cloning, Curriculum, JumpStart, SlopeLaw, SlopeSchedule},
};

/// Which terms the actor learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Reinforcement learning and behavioural cloning, jump-started by the guide: the paper's method.
    Td3bcJsrl,
    /// The same without jump-start.
    Td3bc,
    /// Behavioural cloning alone.
    Bc,
    /// Reinforcement learning alone.
    Td3,
    /// Backpropagation through the student's own flight in the equations of motion, from states that were visited
    /// ([`crate::flight`]), and cloning, jump-started by the guide. No critics.
    AnchoredBptt,
}

impl Method {
    /// Names as the command line has them, in the order of the variants.
    pub const NAMES: [&'static str; 5] = ["td3bc_jsrl", "td3bc", "bc", "td3", "anchored_bptt"];

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Td3bcJsrl, Self::Td3bc, Self::Bc, Self::Td3, Self::AnchoredBptt]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(method, _)| method)
    }

    /// Whether critics are trained and followed.
    pub fn reinforces(self) -> bool {
        !matches!(self, Self::Bc | Self::AnchoredBptt)
    }

    /// Whether the student learns from differentiable flight.
    pub fn flies(self) -> bool {
        self == Self::AnchoredBptt
    }

    /// Whether the stored actions are imitated.
    pub fn clones(self) -> bool {
        self != Self::Td3
    }

    /// Whether the guide withdraws step by step.
    pub fn jump_starts(self) -> bool {
        matches!(self, Self::Td3bcJsrl | Self::AnchoredBptt)
    }
}

/// What the actor imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloningTarget {
    /// The action that was applied, whoever's it was: the paper's term. While the student flies it pulls towards its own
    /// past.
    Applied,
    /// What the guide would have done in that state; the applied action where the guide was not asked. The guide
    /// computes along anyway, to be ready to take over.
    Guide,
}

/// Where the student imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloningFilter {
    /// Everywhere: the paper's term.
    #[default]
    None,
    /// Where the first critic values what is imitated more than what the student does, once the student follows the critics
    /// (Q-filter; Nair et al. 2018, arXiv 1709.10089).
    Critic,
}

/// Which reward is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardDefinition {
    /// The published coefficients, with their curriculum.
    Published,
    /// The coefficients in the authors' code, which do not change.
    AuthorsCode,
}

/// Noise added to what the actor sees when a sequence is sampled. Stored observations come from a state estimator and
/// are cleaner than what the policy must cope with; the critics see them as they are. Each sequence gets a share of it
/// that is drawn uniformly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationNoise {
    /// Standard deviation, m.
    pub position_m: f64,
    /// Of each element of the rotation matrix.
    pub rotation: f64,
    /// m/s
    pub velocity_m_s: f64,
    /// rad/s
    pub body_rates_rad_s: f64,
}

impl ObservationNoise {
    /// None.
    pub const NONE: Self = Self { position_m: 0.0, rotation: 0.0, velocity_m_s: 0.0, body_rates_rad_s: 0.0 };
    /// That of the paper's most likely simulator, `l2f0`.
    pub const L2F0: Self =
        Self { position_m: 0.05, rotation: 0.001, velocity_m_s: 0.1, body_rates_rad_s: 0.2 };

    /// Standard deviations of a share of it, by element of the observation.
    pub(crate) fn deviations(&self, share: f32) -> [f32; OBSERVATION] {
        std::array::from_fn(|i| {
            share
                * match i {
                    0..3 => self.position_m,
                    3..12 => self.rotation,
                    12..15 => self.velocity_m_s,
                    _ => self.body_rates_rad_s,
                } as f32
        })
    }
}

/// All settings of a [`crate::Trainer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Which terms the actor learns from.
    pub method: Method,
    /// Neurons in the hidden spiking layers.
    pub hidden: Vec<usize>,
    /// The critics' shape.
    pub critic: CriticShape,
    /// Learning rate of the actor.
    pub actor_learning_rate: f64,
    /// Learning rate of the critics.
    pub critic_learning_rate: f64,
    /// Gradients of the actor with a larger norm are scaled down to it.
    pub actor_clip_norm: f64,
    /// γ, discount per control step.
    pub discount: f64,
    /// τ, share of the way that targets go to their networks at an update.
    pub tau: f64,
    /// α, weight of the action value: λ_Q = α / mean|Q|.
    pub alpha: f64,
    /// Standard deviation of the noise on target actions.
    pub policy_noise: f64,
    /// It is clipped to this.
    pub policy_noise_clip: f64,
    /// Updates of the critics for one of the actor.
    pub policy_delay: u64,
    /// Updates before the actor follows the critics: it only imitates until they have something to say.
    pub critic_warmup_updates: u64,
    /// The actor follows the critics only while their relative error on the student's own last flights
    /// ([`crate::trust`]) is below this; 0: from the warm-up on, whatever it is.
    pub critic_trust: f64,
    /// Steps at the start of a sequence that only warm the hidden state.
    pub warmup_steps: usize,
    /// How episodes are cut.
    pub cut: Cut,
    /// Sequences in a batch.
    pub batch: usize,
    /// Transitions of each sequence that the critics learn from at an update, drawn from those after the warm-up; 0: all
    /// of those.
    pub critic_steps: usize,
    /// Steps that the replay buffer holds.
    pub replay_steps: usize,
    /// Updates in an epoch.
    pub updates_per_epoch: u64,
    /// λ_BC
    pub cloning: Cloning,
    /// Whether the cloning term is there at all, for methods that have it: the paper's ablation switches it off.
    pub cloning_enabled: bool,
    /// What is imitated.
    pub cloning_target: CloningTarget,
    /// Where it is imitated.
    pub cloning_filter: CloningFilter,
    /// λ_S, weight of the mean squared change of the action from step to step.
    pub smoothness: f64,
    /// Stand-in for the spike's derivative.
    pub surrogate: Surrogate,
    /// The gradient's path through time is cut at every multiple of this many steps; 0: never.
    pub truncate_steps: usize,
    /// Surrogate slope.
    pub slope: SlopeSchedule,
    /// Jump-start.
    pub jump_start: JumpStart,
    /// Whether the guide withdraws step by step, for methods that have it; without, it flies the warm-up only from the
    /// start: the paper's other ablation.
    pub jump_start_enabled: bool,
    /// Reward curriculum.
    pub curriculum: Curriculum,
    /// The reward that is learned from.
    pub reward: RewardDefinition,
    /// Its orientation term.
    pub orientation: OrientationTerm,
    /// Rewards are multiplied by this for the critics, so that values are of order one to ten.
    pub reward_scale: f64,
    /// Noise added to what the actor sees.
    pub observation_noise: ObservationNoise,
    /// Differentiable flight, for the method that has it.
    pub flight: FlightConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            method: Method::Td3bcJsrl,
            hidden: vec![256, 128],
            critic: CriticShape::default(),
            actor_learning_rate: 1e-3,
            critic_learning_rate: 3e-4,
            actor_clip_norm: 1.0,
            discount: 0.99,
            tau: 0.01,
            alpha: 2.0,
            policy_noise: 0.2,
            policy_noise_clip: 0.5,
            policy_delay: 1,
            critic_warmup_updates: 1000,
            critic_trust: 0.0,
            warmup_steps: 50,
            cut: Cut { length: 100, stride: 50, shortest: 60 },
            batch: 32,
            critic_steps: 16,
            replay_steps: 1_000_000,
            updates_per_epoch: 100,
            cloning: Cloning { start: 0.2, decay: 0.99, floor: 0.0 },
            cloning_enabled: true,
            cloning_target: CloningTarget::Guide,
            cloning_filter: CloningFilter::None,
            smoothness: 0.0,
            surrogate: Surrogate::FastSigmoid,
            truncate_steps: 0,
            slope: SlopeSchedule::Adaptive { start: 2.0, return_scale: 400.0, law: SlopeLaw::Published },
            jump_start: JumpStart { episode_steps: 500, warmup_steps: 50, episodes: 40 },
            jump_start_enabled: true,
            curriculum: Curriculum { epochs_per_stage: 0 },
            reward: RewardDefinition::Published,
            orientation: OrientationTerm::Full,
            reward_scale: 0.1,
            observation_noise: ObservationNoise::L2F0,
            flight: FlightConfig::default(),
        }
    }
}

impl Config {
    /// Whether the actor imitates.
    pub fn clones(&self) -> bool {
        self.method.clones() && self.cloning_enabled
    }

    /// Whether the guide withdraws step by step.
    pub fn jump_starts(&self) -> bool {
        self.method.jump_starts() && self.jump_start_enabled
    }
}
