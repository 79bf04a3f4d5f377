//! The learner's parameters.

use std::path::PathBuf;

use spikewing_quad::reward::OrientationTerm;
use spikewing_rl::{
    CloningTarget, Config, Method, ObservationNoise, RewardDefinition,
    critic::CriticShape,
    dense::Backend,
    flight::FlightConfig,
    replay::Cut,
    schedule::{Cloning, Curriculum, JumpStart, SlopeLaw, SlopeSchedule},
};
use spikewing_runtime::{Declaration, Parameters, Span, node::BuildError};
use spikewing_snn::Surrogate;

/// Names of the surrogates, in the order of [`SURROGATES`].
const SURROGATE_NAMES: [&str; 4] = ["fast_sigmoid", "arctan", "sigmoid", "triangular"];
const SURROGATES: [Surrogate; 4] =
    [Surrogate::FastSigmoid, Surrogate::ArcTan, Surrogate::Sigmoid, Surrogate::Triangular];

/// Name of the secret key in a run folder; the public one beside it ends in `.pub`.
const KEY_FILE: &str = "learner.key";

/// Parameters as the learner uses them.
pub struct Settings {
    pub config: Config,
    pub seed: u64,
    pub vehicle: String,
    pub run_dir: Option<PathBuf>,
    /// Secret key that signs updates; none: they are not signed.
    pub key_file: Option<PathBuf>,
    pub resume: bool,
    pub start_from: Option<PathBuf>,
    pub updates_per_job: u64,
    pub update_ratio: f64,
    pub job_duration: Span,
    pub publish_every: u64,
    pub checkpoint_every: u64,
    pub evaluate_every: u64,
    pub evaluation_episodes: usize,
    pub evaluation_vehicles: Vec<String>,
    pub keep_checkpoints: usize,
    pub checkpoint_on_stop: bool,
    pub start_steps: u64,
    /// As the parameter has it: 0 for all cores, below 0 for all but so many.
    pub threads: i64,
    pub stop: Stop,
}

/// When the run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    pub updates: u64,
    pub steps: u64,
}

/// The declared parameters.
pub fn declare() -> Vec<Declaration> {
    let d = Config::default();
    let Cut { length, stride, shortest } = d.cut;
    let int = |name, default: usize| Declaration::integer(name, i64::try_from(default).unwrap_or(i64::MAX));
    let big = 1e12;
    vec![
        Declaration::choice("method", "td3bc_jsrl", &Method::NAMES).describe(
            "What the student learns from: reinforcement and cloning with jump-start (the paper's), without it, cloning alone, reinforcement alone, or backpropagation through the student's own flight in the equations of motion (anchored_bptt; with cloning and jump-start, without critics).",
        ),
        Declaration::integer("seed", 1).range(0.0, 1e15).describe("Seed of weights, sampling and smoothing noise."),
        Declaration::text("vehicle", "crazyflie").describe("Vehicle that the policies are made for."),
        Declaration::text("run_dir", "").describe("Folder for checkpoints, metrics and the best policy; empty: none are written."),
        Declaration::text("key_file", "").describe("Secret key that signs updates (ed25519); it is made if it is not there, for its owner alone, with the public key beside it, ending in .pub, which students are given as learner_key_file. Empty: learner.key in the run folder; without a run folder updates are not signed."),
        Declaration::boolean("resume", true).describe("Go on from the newest whole checkpoint in the run folder, if there is one."),
        Declaration::text("start_from", "").describe("Policy whose weights training starts from; empty: random weights."),
        int("updates_per_job", 10).range(1.0, 10_000.0).unit("updates").describe("Updates that are made in one go on the learner's thread."),
        Declaration::float("update_ratio", 0.04).range(0.0, 100.0).unit("updates/step").describe("Updates per step of experience; 0: as many as the machine can."),
        Declaration::float("job_duration_s", 2.0).range(0.001, 1000.0).unit("s").describe("In composed runs, simulated time after which the updates of a job are there."),
        Declaration::integer("threads", 0).range(-1024.0, 1024.0).describe("Threads that learn; 0: one per core, -1: one less, so that control has a core to itself, and so on, but at least one. The result is the same."),
        int("publish_every_updates", 40).range(1.0, big).unit("updates").describe("Updates between two publications of the weights."),
        int("checkpoint_every_updates", 2000).range(1.0, big).unit("updates").describe("Updates between two checkpoints."),
        int("evaluate_every_updates", 200).range(1.0, big).unit("updates").describe("Updates between two evaluations in the embedded dynamics, which the adaptive slope follows and by which the best policy is kept."),
        int("evaluation_episodes", 5).range(1.0, 1000.0).describe("Episodes of such an evaluation."),
        Declaration::texts("evaluation_vehicles", &[]).describe("Further airframes (names or files) that the best policy must fly: it is the one with the best mean return over `vehicle` and these."),
        int("keep_checkpoints", 2).range(1.0, 1000.0).describe("Checkpoints that are kept."),
        Declaration::boolean("checkpoint_on_stop", true).describe("Write a checkpoint when stopped. `spikewing train` does not: it resumes at the last regular one, to make the same weights as a run that was never stopped."),
        int("start_steps", 1500).range(0.0, big).unit("steps").describe("Steps of experience before the first update."),
        int("stop_after_updates", 0).range(0.0, big).unit("updates").describe("The run ends after so many updates; 0: never."),
        int("stop_after_steps", 0).range(0.0, big).unit("steps").describe("The run ends after so many steps of experience; 0: never."),
        Declaration::text("hidden", &dashed(&d.hidden)).describe("Neurons in the spiking layers, first to last, joined by `-`. The student's node must start from a policy of that shape (its `policy_file`); without one it flies the paper's."),
        Declaration::text("critic_hidden", &dashed(&d.critic.hidden)).describe("Neurons in the critics' hidden layers, joined by `-`."),
        Declaration::choice("critic_backend", "native", &Backend::NAMES).describe("What computes the critics: hand-written passes, or dfdx, which gives the same up to rounding and is slower."),
        Declaration::float("actor_learning_rate", d.actor_learning_rate).range(1e-7, 1.0).describe("Learning rate of the spiking network."),
        Declaration::float("critic_learning_rate", d.critic_learning_rate).range(1e-7, 1.0).describe("Learning rate of the critics."),
        Declaration::float("actor_clip_norm", d.actor_clip_norm).range(1e-6, 1e6).describe("Gradients of the actor with a larger norm are scaled down to it."),
        Declaration::float("discount", d.discount).range(0.0, 0.99999).describe("γ, discount per control step."),
        Declaration::float("tau", d.tau).range(1e-6, 1.0).describe("τ, share of the way that target networks go at an update."),
        Declaration::float("alpha", d.alpha).range(0.0, 1000.0).describe("α, weight of the action value: λ_Q = α / mean|Q|."),
        Declaration::float("policy_noise", d.policy_noise).range(0.0, 2.0).describe("Standard deviation of the noise on target actions."),
        Declaration::float("policy_noise_clip", d.policy_noise_clip).range(0.0, 2.0).describe("That noise is clipped to this."),
        int("policy_delay", d.policy_delay as usize).range(1.0, 100.0).describe("Updates of the critics for one of the actor."),
        int("critic_warmup_updates", d.critic_warmup_updates as usize).range(0.0, big).unit("updates").describe("The actor only imitates for so many updates, until the critics have something to say."),
        int("warmup_steps", d.warmup_steps).range(0.0, 10_000.0).unit("steps").describe("Steps of a sequence, and of an episode, that only warm the hidden state."),
        int("sequence_length", length).range(2.0, 10_000.0).unit("steps").describe("Transitions in a training sequence."),
        int("sequence_stride", stride).range(1.0, 10_000.0).unit("steps").describe("Transitions from one sequence's start to the next one's."),
        int("sequence_shortest", shortest).range(1.0, 10_000.0).unit("steps").describe("Episodes shorter than this are not learned from."),
        int("batch", d.batch).range(1.0, 4096.0).unit("sequences").describe("Sequences in a batch."),
        int("critic_steps", d.critic_steps).range(0.0, 1000.0).unit("steps").describe("Transitions of each sequence that the critics learn from at an update, drawn from those after the warm-up; 0: all of those."),
        int("replay_steps", d.replay_steps).range(1000.0, 1e8).unit("steps").describe("Steps that the replay buffer holds, about 120 bytes each."),
        int("updates_per_epoch", d.updates_per_epoch as usize).range(1.0, big).unit("updates").describe("Updates in an epoch."),
        Declaration::choice("surrogate", "fast_sigmoid", &SURROGATE_NAMES).describe("Stand-in for the derivative of a spike."),
        int("truncate_steps", d.truncate_steps).range(0.0, 10_000.0).unit("steps").describe("Backpropagation through time is cut at every multiple of so many steps; 0: it goes through the whole sequence."),
        Declaration::float("smoothness", d.smoothness).range(0.0, 1000.0).describe("λ_S, weight of the mean squared change of the action from step to step in the student's loss."),
        Declaration::boolean("bc.enabled", d.cloning_enabled).describe("Whether methods that imitate do; false is the paper's ablation without the BC term."),
        Declaration::float("bc.start", d.cloning.start).range(0.0, 1000.0).describe("λ_BC at the start."),
        Declaration::float("bc.decay", d.cloning.decay).range(0.0, 1.0).describe("Factor of λ_BC per epoch."),
        Declaration::float("bc.floor", d.cloning.floor).range(0.0, 1000.0).describe("λ_BC does not fall below this."),
        Declaration::choice("bc.target", "guide", &["guide", "applied"]).describe("What is imitated: what the guide would have done in that state, or the action that was applied (the paper's)."),
        Declaration::choice("slope.schedule", "adaptive", &["adaptive", "interval", "fixed"]).describe("How the surrogate slope goes."),
        Declaration::float("slope.fixed", 10.0).range(1.0, 100.0).describe("Slope of the schedule `fixed`."),
        Declaration::float("slope.start", 2.0).range(1.0, 100.0).describe("Slope of the schedule `adaptive` before the first return."),
        Declaration::float("slope.return_scale", 400.0).range(1.0, 1e6).describe("Return that is worth a slope of 100 in the schedule `adaptive`."),
        Declaration::choice("slope.law", "published", &SlopeLaw::NAMES).describe("How the schedule `adaptive` follows from the returns: the published equation (mean of half the return and half its rise), or the authors' code, the return held to [0, return_scale], as it is or its cube."),
        int("slope.interval_updates", 500).range(1.0, big).unit("updates").describe("Updates between two steps of the schedule `interval`."),
        int("slope.interval_steps", 20).range(1.0, 1000.0).describe("Steps of the schedule `interval` from 1 to 100."),
        Declaration::boolean("jump_start.enabled", d.jump_start_enabled).describe("Whether methods with jump-start do; false is the paper's ablation: the guide flies the warm-up only from the start."),
        int("jump_start.episodes", d.jump_start.episodes as usize).range(0.0, big).describe("Episodes until the guide flies the warm-up only."),
        int("episode_steps", d.jump_start.episode_steps as usize).range(10.0, 1e6).unit("steps").describe("Control steps of an episode."),
        int("curriculum.epochs_per_stage", d.curriculum.epochs_per_stage as usize).range(0.0, big).unit("epochs").describe("Epochs in each of the six stages of the reward; 0: the start coefficients throughout."),
        Declaration::choice("reward.definition", "published", &["published", "authors_code"]).describe("Coefficients of the reward that is learned from: the published ones with their curriculum, or those in the authors' code, which do not change."),
        Declaration::choice("reward.orientation", "full", &["full", "yaw"]).describe("Orientation term of the reward that is learned from: 1 − q_w² (every rotation), or the published 2·acos(1 − q_z²) (yaw only)."),
        Declaration::float("reward.scale", d.reward_scale).range(1e-6, 1e3).describe("Rewards are multiplied by this for the critics."),
        int("flight.horizon", d.flight.horizon).range(1.0, 1000.0).unit("steps").describe("Method anchored_bptt: steps that a differentiable flight goes on from its anchor."),
        int("flight.flights", d.flight.flights).range(1.0, 4096.0).describe("… flights at an update."),
        Declaration::float("flight.weight", d.flight.weight).range(0.0, 1e6).describe("… weight of their mean negative reward in the student's loss."),
        Declaration::float("flight.terminal", d.flight.terminal).range(1.0, 1e4).describe("… how much more the last step's reward weighs than any other's: it stands for what comes after."),
        Declaration::float("flight.setpoint_jump", d.flight.setpoint_jump_m).range(0.0, 10.0).unit("m").describe("… in half of the flights the setpoint jumps at the anchor, each coordinate by up to this."),
        Declaration::float("observation_noise", 1.0).range(0.0, 10.0).describe("Noise on what the actor sees in training, as a multiple of the evaluation simulator's (0.05 m, 0.1 m/s, 0.2 rad/s)."),
    ]
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let count = |name: &str| p.count(name).map(|n| n as u64);
        let method = p.text("method")?;
        let noise = p.float("observation_noise")?;
        let full = ObservationNoise::L2F0;
        let path = |name: &str| -> Result<Option<PathBuf>, BuildError> {
            Ok(Some(p.text(name)?).filter(|t| !t.is_empty()).map(PathBuf::from))
        };
        let config = Config {
            method: Method::from_name(method).ok_or_else(|| format!("method `{method}` is not known"))?,
            hidden: widths(p, "hidden")?,
            critic: CriticShape {
                hidden: widths(p, "critic_hidden")?,
                backend: Backend::from_name(p.text("critic_backend")?).unwrap_or_default(),
            },
            actor_learning_rate: p.float("actor_learning_rate")?,
            critic_learning_rate: p.float("critic_learning_rate")?,
            actor_clip_norm: p.float("actor_clip_norm")?,
            discount: p.float("discount")?,
            tau: p.float("tau")?,
            alpha: p.float("alpha")?,
            policy_noise: p.float("policy_noise")?,
            policy_noise_clip: p.float("policy_noise_clip")?,
            policy_delay: count("policy_delay")?,
            critic_warmup_updates: count("critic_warmup_updates")?,
            warmup_steps: p.count("warmup_steps")?,
            cut: Cut {
                length: p.count("sequence_length")?,
                stride: p.count("sequence_stride")?,
                shortest: p.count("sequence_shortest")?,
            },
            batch: p.count("batch")?,
            critic_steps: p.count("critic_steps")?,
            replay_steps: p.count("replay_steps")?,
            updates_per_epoch: count("updates_per_epoch")?,
            cloning: Cloning {
                start: p.float("bc.start")?,
                decay: p.float("bc.decay")?,
                floor: p.float("bc.floor")?,
            },
            cloning_enabled: p.boolean("bc.enabled")?,
            smoothness: p.float("smoothness")?,
            surrogate: surrogate(p.text("surrogate")?),
            truncate_steps: p.count("truncate_steps")?,
            cloning_target: match p.text("bc.target")? {
                "applied" => CloningTarget::Applied,
                _ => CloningTarget::Guide,
            },
            slope: match p.text("slope.schedule")? {
                "fixed" => SlopeSchedule::Fixed { slope: p.float("slope.fixed")? },
                "interval" => SlopeSchedule::Interval {
                    updates: count("slope.interval_updates")?,
                    steps: count("slope.interval_steps")?,
                },
                _ => SlopeSchedule::Adaptive {
                    start: p.float("slope.start")?,
                    return_scale: p.float("slope.return_scale")?,
                    law: SlopeLaw::from_name(p.text("slope.law")?).unwrap_or_default(),
                },
            },
            jump_start: JumpStart {
                episode_steps: u32::try_from(p.count("episode_steps")?)?,
                warmup_steps: u32::try_from(p.count("warmup_steps")?)?,
                episodes: count("jump_start.episodes")?,
            },
            jump_start_enabled: p.boolean("jump_start.enabled")?,
            reward: match p.text("reward.definition")? {
                "authors_code" => RewardDefinition::AuthorsCode,
                _ => RewardDefinition::Published,
            },
            curriculum: Curriculum { epochs_per_stage: count("curriculum.epochs_per_stage")? },
            orientation: match p.text("reward.orientation")? {
                "yaw" => OrientationTerm::Yaw,
                _ => OrientationTerm::Full,
            },
            reward_scale: p.float("reward.scale")?,
            observation_noise: ObservationNoise {
                position_m: noise * full.position_m,
                rotation: noise * full.rotation,
                velocity_m_s: noise * full.velocity_m_s,
                body_rates_rad_s: noise * full.body_rates_rad_s,
            },
            // The desk knows the airframes.
            flight: FlightConfig {
                horizon: p.count("flight.horizon")?,
                flights: p.count("flight.flights")?,
                weight: p.float("flight.weight")?,
                terminal: p.float("flight.terminal")?,
                setpoint_jump_m: p.float("flight.setpoint_jump")?,
                ..FlightConfig::default()
            },
        };
        if config.warmup_steps >= config.cut.length {
            let (warmup, length) = (config.warmup_steps, config.cut.length);
            return Err(format!("warmup_steps = {warmup} must be below sequence_length = {length}").into());
        }
        if !config.method.reinforces() && !config.clones() {
            return Err("method bc with bc.enabled = false has nothing to learn from".into());
        }
        let run_dir = path("run_dir")?;
        let key_file = path("key_file")?.or_else(|| run_dir.as_ref().map(|dir| dir.join(KEY_FILE)));
        Ok(Self {
            config,
            key_file,
            seed: count("seed")?,
            vehicle: p.text("vehicle")?.to_owned(),
            run_dir,
            resume: p.boolean("resume")?,
            start_from: path("start_from")?,
            updates_per_job: count("updates_per_job")?,
            update_ratio: p.float("update_ratio")?,
            job_duration: Span::from_seconds(p.float("job_duration_s")?),
            publish_every: count("publish_every_updates")?,
            checkpoint_every: count("checkpoint_every_updates")?,
            evaluate_every: count("evaluate_every_updates")?,
            evaluation_episodes: p.count("evaluation_episodes")?,
            evaluation_vehicles: p.texts("evaluation_vehicles")?.to_vec(),
            keep_checkpoints: p.count("keep_checkpoints")?,
            checkpoint_on_stop: p.boolean("checkpoint_on_stop")?,
            start_steps: count("start_steps")?,
            threads: p.integer("threads")?,
            stop: Stop { updates: count("stop_after_updates")?, steps: count("stop_after_steps")? },
        })
    }
}

fn surrogate(name: &str) -> Surrogate {
    SURROGATE_NAMES.iter().position(|n| *n == name).map_or(Surrogate::default(), |i| SURROGATES[i])
}

fn dashed(widths: &[usize]) -> String {
    widths.iter().map(ToString::to_string).collect::<Vec<_>>().join("-")
}

/// Widths of layers as in `256-128`.
fn widths(p: &Parameters, name: &str) -> Result<Vec<usize>, BuildError> {
    let text = p.text(name)?;
    let widths: Option<Vec<usize>> = text.split('-').map(|w| w.trim().parse().ok()).collect();
    widths.filter(|w| (1..=16).contains(&w.len()) && w.iter().all(|n| (1..=65_536).contains(n))).ok_or_else(
        || {
            format!("{name} = `{text}` must be 1 to 16 widths of 1 to 65536, joined by `-`, as in 256-128")
                .into()
        },
    )
}
