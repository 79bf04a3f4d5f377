//! The learner's parameters.

use std::path::PathBuf;

use spikewing_quad::reward::OrientationTerm;
use spikewing_rl::{
    CloningFilter, CloningTarget, Config, Experience, Method, ObservationNoise, RewardDefinition,
    critic::CriticShape,
    dense::Backend,
    flight::{FlightConfig, ModelCorrection},
    replay::Cut,
    schedule::{Cloning, Curriculum, JumpStart, SlopeLaw, SlopeSchedule},
};
use spikewing_runtime::{Parameter, Parameters, Span, node::BuildError, parameters};
use spikewing_snn::Surrogate;

/// Name of the secret key in a run folder; the public one beside it ends in `.pub`.
const KEY_NAME: &str = "learner.key";

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
    pub start_from_experience: Experience,
    pub updates_per_job: u64,
    pub update_ratio: f64,
    pub job_duration: Span,
    pub publish_every: u64,
    pub checkpoint_every: u64,
    pub evaluate_every: u64,
    pub curve_every: u64,
    pub probe_every: u64,
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

/// How the surrogate slope goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    Adaptive,
    Interval,
    Fixed,
}

/// More than any run has.
const BIG: f64 = 1e12;

parameters! {
    const METHOD: Parameter<Method> = Parameter::choice("method", "td3bc_jsrl", &[("td3bc_jsrl", Method::Td3bcJsrl), ("td3bc", Method::Td3bc), ("bc", Method::Bc), ("td3", Method::Td3), ("anchored_bptt", Method::AnchoredBptt)])
        .about("What the student learns from: reinforcement and cloning with jump-start (the paper's), without it, cloning alone, reinforcement alone, or backpropagation through the student's own flight in the equations of motion (anchored_bptt; with cloning and jump-start, without critics).");
    const SEED: Parameter<u64> = Parameter::whole("seed", 1)
        .range(0.0, 1e15)
        .about("Seed of weights, sampling and smoothing noise.");
    const VEHICLE: Parameter<String> = Parameter::text("vehicle", "crazyflie")
        .about("Vehicle that the policies are made for: a built-in one or the path of a vehicle file.");
    const RUN_DIR: Parameter<Option<PathBuf>> = Parameter::path("run_dir")
        .about("Folder for checkpoints, metrics and the best policy; empty: none are written.");
    const KEY_FILE: Parameter<Option<PathBuf>> = Parameter::path("key_file")
        .about("Secret key that signs updates (ed25519); it is made if it is not there, for its owner alone, with the public key beside it, ending in .pub, which students are given as learner_key_file. Empty: learner.key in the run folder; without a run folder updates are not signed.");
    const RESUME: Parameter<bool> = Parameter::flag("resume", true)
        .about("Go on from the newest whole checkpoint in the run folder, if there is one.");
    const START_FROM: Parameter<Option<PathBuf>> = Parameter::path("start_from")
        .about("What training starts from; empty: random weights. A policy file: its weights. A checkpoint, or a run folder and the newest one in it: the whole learner, critics, optimisers and all, under the settings here.");
    const START_FROM_EXPERIENCE: Parameter<bool> = Parameter::flag("start_from_experience", false)
        .about("Whether a learner that start_from names brings its experience along; false where what flies now is another drone.");
    const UPDATES_PER_JOB: Parameter<u64> = Parameter::whole("updates_per_job", 10)
        .range(1.0, 10_000.0)
        .unit("updates")
        .about("Updates that are made in one go on the learner's thread.");
    const UPDATE_RATIO: Parameter<f64> = Parameter::float("update_ratio", 0.04)
        .range(0.0, 100.0)
        .unit("updates/step")
        .about("Updates per step of experience; 0: as many as the machine can.");
    const JOB_DURATION_S: Parameter<f64> = Parameter::float("job_duration_s", 2.0)
        .range(0.001, 1000.0)
        .unit("s")
        .about("In composed runs, simulated time after which the updates of a job are there.");
    const THREADS: Parameter<i64> = Parameter::whole("threads", 0)
        .range(-1024.0, 1024.0)
        .about("Threads that learn; 0: one per core, -1: one less, so that control has a core to itself, and so on, but at least one. The result is the same.");
    const PUBLISH_EVERY_UPDATES: Parameter<u64> = Parameter::whole("publish_every_updates", 40)
        .range(1.0, BIG)
        .unit("updates")
        .about("Updates between two publications of the weights.");
    const CHECKPOINT_EVERY_UPDATES: Parameter<u64> = Parameter::whole("checkpoint_every_updates", 2000)
        .range(1.0, BIG)
        .unit("updates")
        .about("Updates between two checkpoints.");
    const EVALUATE_EVERY_UPDATES: Parameter<u64> = Parameter::whole("evaluate_every_updates", 200)
        .range(1.0, BIG)
        .unit("updates")
        .about("Updates between two evaluations in the embedded dynamics, which the adaptive slope follows and by which the best policy is kept.");
    const CURVE_EVERY_UPDATES: Parameter<u64> = Parameter::whole("curve_every_updates", 0)
        .range(0.0, BIG)
        .unit("updates")
        .about("Updates between two points of the learning curve (`curve_return` in the metrics): evaluations of the same kind that steer nothing; 0: none.");
    const PROBE_EVERY_UPDATES: Parameter<u64> = Parameter::whole("probe_every_updates", 0)
        .range(0.0, BIG)
        .unit("updates")
        .about("Updates between two looks at the layers (`layers.csv` in the run folder: firing rate, norm of the gradient, its cosine to that of slope 100); 0: none. It steers nothing.");
    const EVALUATION_EPISODES: Parameter<usize> = Parameter::whole("evaluation_episodes", 5)
        .range(1.0, 1000.0)
        .about("Episodes of such an evaluation.");
    const EVALUATION_VEHICLES: Parameter<Vec<String>> = Parameter::texts("evaluation_vehicles", &[])
        .about("Further airframes (names or files) that the best policy must fly: it is the one with the best mean return over `vehicle` and these.");
    const KEEP_CHECKPOINTS: Parameter<usize> = Parameter::whole("keep_checkpoints", 2)
        .range(1.0, 1000.0)
        .about("Checkpoints that are kept.");
    const CHECKPOINT_ON_STOP: Parameter<bool> = Parameter::flag("checkpoint_on_stop", true)
        .about("Write a checkpoint when stopped. `spikewing train` does not: it resumes at the last regular one, to make the same weights as a run that was never stopped.");
    const START_STEPS: Parameter<u64> = Parameter::whole("start_steps", 1500)
        .range(0.0, BIG)
        .unit("steps")
        .about("Steps of experience before the first update.");
    const STOP_AFTER_UPDATES: Parameter<u64> = Parameter::whole("stop_after_updates", 0)
        .range(0.0, BIG)
        .unit("updates")
        .about("The run ends after so many updates; 0: never.");
    const STOP_AFTER_STEPS: Parameter<u64> = Parameter::whole("stop_after_steps", 0)
        .range(0.0, BIG)
        .unit("steps")
        .about("The run ends after so many steps of experience; 0: never.");
    const HIDDEN: Parameter<String> = Parameter::text("hidden", "256-128")
        .about("Neurons in the spiking layers, first to last, joined by `-`. The student's node must start from a policy of that shape (its `policy_file`); without one it flies the paper's.");
    const CRITIC_HIDDEN: Parameter<String> = Parameter::text("critic_hidden", "128-128")
        .about("Neurons in the critics' hidden layers, joined by `-`.");
    const CRITIC_BACKEND: Parameter<Backend> = Parameter::choice("critic_backend", "native", &[("native", Backend::Native), ("dfdx", Backend::Dfdx)])
        .about("What computes the critics: hand-written passes, or dfdx, which gives the same up to rounding and is slower.");
    const ACTOR_LEARNING_RATE: Parameter<f64> = Parameter::float("actor_learning_rate", 0.001)
        .range(1e-7, 1.0)
        .about("Learning rate of the spiking network.");
    const CRITIC_LEARNING_RATE: Parameter<f64> = Parameter::float("critic_learning_rate", 0.0003)
        .range(1e-7, 1.0)
        .about("Learning rate of the critics.");
    const ACTOR_CLIP_NORM: Parameter<f64> = Parameter::float("actor_clip_norm", 1.0)
        .range(1e-6, 1e6)
        .about("Gradients of the actor with a larger norm are scaled down to it.");
    const DISCOUNT: Parameter<f64> = Parameter::float("discount", 0.99)
        .range(0.0, 0.99999)
        .about("γ, discount per control step.");
    const TAU: Parameter<f64> = Parameter::float("tau", 0.01)
        .range(1e-6, 1.0)
        .about("τ, share of the way that target networks go at an update.");
    const ALPHA: Parameter<f64> = Parameter::float("alpha", 2.0)
        .range(0.0, 1000.0)
        .about("α, weight of the action value: λ_Q = α / mean|Q|.");
    const POLICY_NOISE: Parameter<f64> = Parameter::float("policy_noise", 0.2)
        .range(0.0, 2.0)
        .about("Standard deviation of the noise on target actions.");
    const POLICY_NOISE_CLIP: Parameter<f64> = Parameter::float("policy_noise_clip", 0.5)
        .range(0.0, 2.0)
        .about("That noise is clipped to this.");
    const POLICY_DELAY: Parameter<u64> = Parameter::whole("policy_delay", 1)
        .range(1.0, 100.0)
        .about("Updates of the critics for one of the actor.");
    const CRITIC_WARMUP_UPDATES: Parameter<u64> = Parameter::whole("critic_warmup_updates", 1000)
        .range(0.0, BIG)
        .unit("updates")
        .about("The actor only imitates for so many updates, until the critics have something to say.");
    const CRITIC_TRUST: Parameter<f64> = Parameter::float("critic_trust", 0.0)
        .range(0.0, 1000.0)
        .about("The actor follows the critics only while their mean relative error on the student's own last 5 flights is below this, 0.2 for example; 0: whatever it is.");
    const WARMUP_STEPS: Parameter<usize> = Parameter::whole("warmup_steps", 50)
        .range(0.0, 10_000.0)
        .unit("steps")
        .about("Steps of a sequence, and of an episode, that only warm the hidden state.");
    const SEQUENCE_LENGTH: Parameter<usize> = Parameter::whole("sequence_length", 100)
        .range(2.0, 10_000.0)
        .unit("steps")
        .about("Transitions in a training sequence.");
    const SEQUENCE_STRIDE: Parameter<usize> = Parameter::whole("sequence_stride", 50)
        .range(1.0, 10_000.0)
        .unit("steps")
        .about("Transitions from one sequence's start to the next one's.");
    const SEQUENCE_SHORTEST: Parameter<usize> = Parameter::whole("sequence_shortest", 60)
        .range(1.0, 10_000.0)
        .unit("steps")
        .about("Episodes shorter than this are not learned from.");
    const BATCH: Parameter<usize> = Parameter::whole("batch", 32)
        .range(1.0, 4096.0)
        .unit("sequences")
        .about("Sequences in a batch.");
    const CRITIC_STEPS: Parameter<usize> = Parameter::whole("critic_steps", 16)
        .range(0.0, 1000.0)
        .unit("steps")
        .about("Transitions of each sequence that the critics learn from at an update, drawn from those after the warm-up; 0: all of those.");
    const REPLAY_STEPS: Parameter<usize> = Parameter::whole("replay_steps", 1_000_000)
        .range(1000.0, 1e8)
        .unit("steps")
        .about("Steps that the replay buffer holds, about 120 bytes each.");
    const UPDATES_PER_EPOCH: Parameter<u64> = Parameter::whole("updates_per_epoch", 100)
        .range(1.0, BIG)
        .unit("updates")
        .about("Updates in an epoch.");
    const SURROGATE: Parameter<Surrogate> = Parameter::choice("surrogate", "fast_sigmoid", &[("fast_sigmoid", Surrogate::FastSigmoid), ("arctan", Surrogate::ArcTan), ("sigmoid", Surrogate::Sigmoid), ("triangular", Surrogate::Triangular)])
        .about("Stand-in for the derivative of a spike.");
    const TRUNCATE_STEPS: Parameter<usize> = Parameter::whole("truncate_steps", 0)
        .range(0.0, 10_000.0)
        .unit("steps")
        .about("Backpropagation through time is cut at every multiple of so many steps; 0: it goes through the whole sequence.");
    const SMOOTHNESS: Parameter<f64> = Parameter::float("smoothness", 0.0)
        .range(0.0, 1000.0)
        .about("λ_S, weight of the mean squared change of the action from step to step in the student's loss.");
    const BC_ENABLED: Parameter<bool> = Parameter::flag("bc.enabled", true)
        .about("Whether methods that imitate do; false is the paper's ablation without the BC term.");
    const BC_START: Parameter<f64> = Parameter::float("bc.start", 0.2)
        .range(0.0, 1000.0)
        .about("λ_BC at the start.");
    const BC_DECAY: Parameter<f64> = Parameter::float("bc.decay", 0.99)
        .range(0.0, 1.0)
        .about("Factor of λ_BC per epoch.");
    const BC_FLOOR: Parameter<f64> = Parameter::float("bc.floor", 0.0)
        .range(0.0, 1000.0)
        .about("λ_BC does not fall below this.");
    const BC_TARGET: Parameter<CloningTarget> = Parameter::choice("bc.target", "guide", &[("guide", CloningTarget::Guide), ("applied", CloningTarget::Applied)])
        .about("What is imitated: what the guide would have done in that state, or the action that was applied (the paper's).");
    const BC_FILTER: Parameter<CloningFilter> = Parameter::choice("bc.filter", "none", &[("none", CloningFilter::None), ("critic", CloningFilter::Critic)])
        .about("Where it is imitated: everywhere (the paper's), or where the critic values what is imitated more than what the student does, once the student follows the critics.");
    const SLOPE_SCHEDULE: Parameter<Schedule> = Parameter::choice("slope.schedule", "adaptive", &[("adaptive", Schedule::Adaptive), ("interval", Schedule::Interval), ("fixed", Schedule::Fixed)])
        .about("How the surrogate slope goes.");
    const SLOPE_FIXED: Parameter<f64> = Parameter::float("slope.fixed", 10.0)
        .range(1.0, 100.0)
        .about("Slope of the schedule `fixed`.");
    const SLOPE_START: Parameter<f64> = Parameter::float("slope.start", 2.0)
        .range(1.0, 100.0)
        .about("Slope of the schedule `adaptive` before the first return.");
    const SLOPE_RETURN_SCALE: Parameter<f64> = Parameter::float("slope.return_scale", 400.0)
        .range(1.0, 1e6)
        .about("Return that is worth a slope of 100 in the schedule `adaptive`.");
    const SLOPE_LAW: Parameter<SlopeLaw> = Parameter::choice("slope.law", "published", &[("published", SlopeLaw::Published), ("normalised", SlopeLaw::Normalised), ("cubic", SlopeLaw::Cubic)])
        .about("How the schedule `adaptive` follows from the returns: the published equation (mean of half the return and half its rise), or the authors' code, the return held to [0, return_scale], as it is or its cube.");
    const SLOPE_INTERVAL_UPDATES: Parameter<u64> = Parameter::whole("slope.interval_updates", 500)
        .range(1.0, BIG)
        .unit("updates")
        .about("Updates between two steps of the schedule `interval`.");
    const SLOPE_INTERVAL_STEPS: Parameter<u64> = Parameter::whole("slope.interval_steps", 20)
        .range(1.0, 1000.0)
        .about("Steps of the schedule `interval` from 1 to 100.");
    const JUMP_START_ENABLED: Parameter<bool> = Parameter::flag("jump_start.enabled", true)
        .about("Whether methods with jump-start do; false is the paper's ablation: the guide flies the warm-up only from the start.");
    const JUMP_START_EPISODES: Parameter<u64> = Parameter::whole("jump_start.episodes", 40)
        .range(0.0, BIG)
        .about("Episodes until the guide flies the warm-up only.");
    const EPISODE_STEPS: Parameter<u32> = Parameter::whole("episode_steps", 500)
        .range(10.0, 1e6)
        .unit("steps")
        .about("Control steps of an episode.");
    const CURRICULUM_EPOCHS_PER_STAGE: Parameter<u64> = Parameter::whole("curriculum.epochs_per_stage", 0)
        .range(0.0, BIG)
        .unit("epochs")
        .about("Epochs in each of the six stages of the reward; 0: the start coefficients throughout.");
    const REWARD_DEFINITION: Parameter<RewardDefinition> = Parameter::choice("reward.definition", "published", &[("published", RewardDefinition::Published), ("authors_code", RewardDefinition::AuthorsCode)])
        .about("Coefficients of the reward that is learned from: the published ones with their curriculum, or those in the authors' code, which do not change.");
    const REWARD_ORIENTATION: Parameter<OrientationTerm> = Parameter::choice("reward.orientation", "full", &[("full", OrientationTerm::Full), ("yaw", OrientationTerm::Yaw)])
        .about("Orientation term of the reward that is learned from: 1 − q_w² (every rotation), or the published 2·acos(1 − q_z²) (yaw only).");
    const REWARD_SCALE: Parameter<f64> = Parameter::float("reward.scale", 0.1)
        .range(1e-6, 1e3)
        .about("Rewards are multiplied by this for the critics.");
    const FLIGHT_HORIZON: Parameter<usize> = Parameter::whole("flight.horizon", 50)
        .range(1.0, 1000.0)
        .unit("steps")
        .about("Method anchored_bptt: steps that a differentiable flight goes on from its anchor.");
    const FLIGHT_FLIGHTS: Parameter<usize> = Parameter::whole("flight.flights", 32)
        .range(1.0, 4096.0)
        .about("… flights at an update.");
    const FLIGHT_WEIGHT: Parameter<f64> = Parameter::float("flight.weight", 1.0)
        .range(0.0, 1e6)
        .about("… weight of their mean negative reward in the student's loss.");
    const FLIGHT_TERMINAL: Parameter<f64> = Parameter::float("flight.terminal", 10.0)
        .range(1.0, 1e4)
        .about("… how much more the last step's reward weighs than any other's: it stands for what comes after.");
    const FLIGHT_DISTANCE: Parameter<f64> = Parameter::float("flight.distance", 0.0)
        .range(0.0, 1000.0)
        .unit("1/m")
        .about("… cost of a metre between drone and setpoint, in rewards, beside the reward's own square of it.");
    const FLIGHT_SETPOINT_JUMP: Parameter<f64> = Parameter::float("flight.setpoint_jump", 0.2)
        .range(0.0, 10.0)
        .unit("m")
        .about("… in half of the flights the setpoint jumps at the anchor, each coordinate by up to this.");
    const FLIGHT_MOVING: Parameter<f64> = Parameter::float("flight.moving", 0.0)
        .range(0.0, 1.0)
        .about("… share of the flights in which the setpoint begins to move, or turns, shortly before the anchor or after it.");
    const FLIGHT_SETPOINT_SPEED: Parameter<f64> = Parameter::float("flight.setpoint_speed", 0.6)
        .range(0.0, 20.0)
        .unit("m/s")
        .about("… by up to this along each horizontal axis, a third of it vertically.");
    const FLIGHT_LATENCY_STEPS: Parameter<usize> = Parameter::whole("flight.latency_steps", 0)
        .range(0.0, 50.0)
        .unit("steps")
        .about("… commands take up to so many steps to the motors, drawn for each flight.");
    const FLIGHT_VARIATION: Parameter<f64> = Parameter::float("flight.variation", 0.0)
        .range(0.0, 3.0)
        .about("… how far airframes are from the one that fits: 1 draws mass, motors, thrust, wind and trim as the guide's training does.");
    const FLIGHT_CORRECTION: Parameter<ModelCorrection> = Parameter::choice("flight.correction", "none", &[("none", ModelCorrection::None), ("fitted", ModelCorrection::Fitted)])
        .about("… whether the model is corrected by what was flown: the motors' lag and a residual of forces and torques, fitted to each recorded episode for the flights that start in it.");
    const FLIGHT_RECENT_STEPS: Parameter<usize> = Parameter::whole("flight.recent_steps", 0)
        .range(0.0, 1e8)
        .unit("steps")
        .about("… they start in the newest so many recorded steps alone, so that a drone that has changed is learned about within seconds; 0: in all.");
    const OBSERVATION_NOISE: Parameter<f64> = Parameter::float("observation_noise", 1.0)
        .range(0.0, 10.0)
        .about("Noise on what the actor sees in training, as a multiple of the evaluation simulator's (0.05 m, 0.1 m/s, 0.2 rad/s).");
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let noise = p.get(&OBSERVATION_NOISE)?;
        let full = ObservationNoise::L2F0;
        let config = Config {
            method: p.get(&METHOD)?,
            hidden: widths(p, &HIDDEN)?,
            critic: CriticShape { hidden: widths(p, &CRITIC_HIDDEN)?, backend: p.get(&CRITIC_BACKEND)? },
            actor_learning_rate: p.get(&ACTOR_LEARNING_RATE)?,
            critic_learning_rate: p.get(&CRITIC_LEARNING_RATE)?,
            actor_clip_norm: p.get(&ACTOR_CLIP_NORM)?,
            discount: p.get(&DISCOUNT)?,
            tau: p.get(&TAU)?,
            alpha: p.get(&ALPHA)?,
            policy_noise: p.get(&POLICY_NOISE)?,
            policy_noise_clip: p.get(&POLICY_NOISE_CLIP)?,
            policy_delay: p.get(&POLICY_DELAY)?,
            critic_warmup_updates: p.get(&CRITIC_WARMUP_UPDATES)?,
            critic_trust: p.get(&CRITIC_TRUST)?,
            warmup_steps: p.get(&WARMUP_STEPS)?,
            cut: Cut {
                length: p.get(&SEQUENCE_LENGTH)?,
                stride: p.get(&SEQUENCE_STRIDE)?,
                shortest: p.get(&SEQUENCE_SHORTEST)?,
            },
            batch: p.get(&BATCH)?,
            critic_steps: p.get(&CRITIC_STEPS)?,
            replay_steps: p.get(&REPLAY_STEPS)?,
            updates_per_epoch: p.get(&UPDATES_PER_EPOCH)?,
            cloning: Cloning { start: p.get(&BC_START)?, decay: p.get(&BC_DECAY)?, floor: p.get(&BC_FLOOR)? },
            cloning_enabled: p.get(&BC_ENABLED)?,
            smoothness: p.get(&SMOOTHNESS)?,
            surrogate: p.get(&SURROGATE)?,
            truncate_steps: p.get(&TRUNCATE_STEPS)?,
            cloning_target: p.get(&BC_TARGET)?,
            cloning_filter: p.get(&BC_FILTER)?,
            slope: match p.get(&SLOPE_SCHEDULE)? {
                Schedule::Fixed => SlopeSchedule::Fixed { slope: p.get(&SLOPE_FIXED)? },
                Schedule::Interval => SlopeSchedule::Interval {
                    updates: p.get(&SLOPE_INTERVAL_UPDATES)?,
                    steps: p.get(&SLOPE_INTERVAL_STEPS)?,
                },
                Schedule::Adaptive => SlopeSchedule::Adaptive {
                    start: p.get(&SLOPE_START)?,
                    return_scale: p.get(&SLOPE_RETURN_SCALE)?,
                    law: p.get(&SLOPE_LAW)?,
                },
            },
            jump_start: JumpStart {
                episode_steps: p.get(&EPISODE_STEPS)?,
                warmup_steps: u32::try_from(p.get(&WARMUP_STEPS)?)?,
                episodes: p.get(&JUMP_START_EPISODES)?,
            },
            jump_start_enabled: p.get(&JUMP_START_ENABLED)?,
            reward: p.get(&REWARD_DEFINITION)?,
            curriculum: Curriculum { epochs_per_stage: p.get(&CURRICULUM_EPOCHS_PER_STAGE)? },
            orientation: p.get(&REWARD_ORIENTATION)?,
            reward_scale: p.get(&REWARD_SCALE)?,
            observation_noise: ObservationNoise {
                position_m: noise * full.position_m,
                rotation: noise * full.rotation,
                velocity_m_s: noise * full.velocity_m_s,
                body_rates_rad_s: noise * full.body_rates_rad_s,
            },
            // The desk knows the airframes.
            flight: FlightConfig {
                horizon: p.get(&FLIGHT_HORIZON)?,
                flights: p.get(&FLIGHT_FLIGHTS)?,
                weight: p.get(&FLIGHT_WEIGHT)?,
                terminal: p.get(&FLIGHT_TERMINAL)?,
                distance: p.get(&FLIGHT_DISTANCE)?,
                setpoint_jump_m: p.get(&FLIGHT_SETPOINT_JUMP)?,
                moving: p.get(&FLIGHT_MOVING)?,
                setpoint_speed_m_s: p.get(&FLIGHT_SETPOINT_SPEED)?,
                latency_steps: p.get(&FLIGHT_LATENCY_STEPS)?,
                variation: p.get(&FLIGHT_VARIATION)?,
                correction: p.get(&FLIGHT_CORRECTION)?,
                recent_steps: p.get(&FLIGHT_RECENT_STEPS)?,
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
        let run_dir = p.get(&RUN_DIR)?;
        let key_file = p.get(&KEY_FILE)?.or_else(|| run_dir.as_ref().map(|dir| dir.join(KEY_NAME)));
        Ok(Self {
            config,
            key_file,
            seed: p.get(&SEED)?,
            vehicle: p.get(&VEHICLE)?,
            run_dir,
            resume: p.get(&RESUME)?,
            start_from: p.get(&START_FROM)?,
            start_from_experience: match p.get(&START_FROM_EXPERIENCE)? {
                true => Experience::Kept,
                false => Experience::Left,
            },
            updates_per_job: p.get(&UPDATES_PER_JOB)?,
            update_ratio: p.get(&UPDATE_RATIO)?,
            job_duration: Span::from_seconds(p.get(&JOB_DURATION_S)?),
            publish_every: p.get(&PUBLISH_EVERY_UPDATES)?,
            checkpoint_every: p.get(&CHECKPOINT_EVERY_UPDATES)?,
            evaluate_every: p.get(&EVALUATE_EVERY_UPDATES)?,
            curve_every: p.get(&CURVE_EVERY_UPDATES)?,
            probe_every: p.get(&PROBE_EVERY_UPDATES)?,
            evaluation_episodes: p.get(&EVALUATION_EPISODES)?,
            evaluation_vehicles: p.get(&EVALUATION_VEHICLES)?,
            keep_checkpoints: p.get(&KEEP_CHECKPOINTS)?,
            checkpoint_on_stop: p.get(&CHECKPOINT_ON_STOP)?,
            start_steps: p.get(&START_STEPS)?,
            threads: p.get(&THREADS)?,
            stop: Stop { updates: p.get(&STOP_AFTER_UPDATES)?, steps: p.get(&STOP_AFTER_STEPS)? },
        })
    }
}

/// Widths of layers as in `256-128`.
fn widths(p: &Parameters, parameter: &Parameter<String>) -> Result<Vec<usize>, BuildError> {
    let (name, text) = (parameter.name, p.get(parameter)?);
    let widths: Option<Vec<usize>> = text.split('-').map(|w| w.trim().parse().ok()).collect();
    widths.filter(|w| (1..=16).contains(&w.len()) && w.iter().all(|n| (1..=65_536).contains(n))).ok_or_else(
        || {
            format!("{name} = `{text}` must be 1 to 16 widths of 1 to 65536, joined by `-`, as in 256-128")
                .into()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers stand here for the reader, and in the trainer for whoever uses it by itself.
    #[test]
    fn defaults_are_those_of_the_trainer() {
        let settings = Settings::read(&Parameters::defaults(declare())).unwrap();
        assert_eq!(format!("{:?}", settings.config), format!("{:?}", Config::default()));
    }
}
