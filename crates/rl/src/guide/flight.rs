//! Episodes for the guide's learner, and the guide as a pilot.

use nalgebra::Vector3;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::{
    OBSERVATION, Observation, State, Vehicle,
    protocol::Pilot,
    reward::{BOX_M, terminated},
    simulation::{AngleDistribution, StartDistribution},
    step,
};
use spikewing_snn::Mlp;

use super::{GuideConfig, start_of};
use crate::{
    critic,
    dense::{Dense, DenseError, Scratch},
    replay::{ACTION, End, HISTORY, PRIVILEGED},
};

/// One episode.
#[derive(Clone, Debug)]
pub struct Flown {
    /// What the history holds before the first action: the start's rotor speeds as an action.
    pub before: [f32; ACTION],
    /// T + 1 observations without noise.
    pub observations: Vec<Observation>,
    /// T actions.
    pub actions: Vec<[f32; ACTION]>,
    /// How it ended.
    pub end: End,
    /// Sum of rewards.
    pub episode_return: f64,
}

/// The last 32 actions, newest last.
#[derive(Clone, Debug)]
pub struct Past {
    privileged: [f32; PRIVILEGED],
}

impl Past {
    /// Filled with one action.
    pub fn filled(action: [f32; ACTION]) -> Self {
        let mut privileged = [0.0; PRIVILEGED];
        privileged[OBSERVATION..].chunks_exact_mut(ACTION).for_each(|slot| slot.copy_from_slice(&action));
        Self { privileged }
    }

    /// Takes the newest action.
    pub fn push(&mut self, action: [f32; ACTION]) {
        self.privileged.copy_within(OBSERVATION + ACTION.., OBSERVATION);
        self.privileged[PRIVILEGED - ACTION..].copy_from_slice(&action);
    }

    /// The privileged observation of what is seen now.
    pub fn with(&mut self, seen: &Observation) -> &[f32; PRIVILEGED] {
        self.privileged[..OBSERVATION].copy_from_slice(seen);
        &self.privileged
    }
}

/// Adds noise in place.
pub fn add_noise(seen: &mut [f32], std: &[f32; OBSERVATION], rng: &mut impl Rng) {
    for (value, std) in seen.iter_mut().zip(std) {
        *value += std * rng.sample::<f32, _>(StandardNormal);
    }
}

/// The action that a start's rotor speeds correspond to.
pub fn action_of_rotors(vehicle: &Vehicle, state: &State) -> [f32; ACTION] {
    state.rotors.map(|r| vehicle.action_of_rotor(r) as f32)
}

/// A start whose distance from hover is a share of what the distribution says.
fn draw_start(vehicle: &Vehicle, start: &StartDistribution, difficulty: f64, rng: &mut impl Rng) -> State {
    let nearer = StartDistribution {
        max_position_m: difficulty * start.max_position_m,
        max_angle_rad: difficulty * start.max_angle_rad,
        // Rejection takes long where the angle is small.
        angle: if difficulty < 0.3 { AngleDistribution::UniformAngle } else { start.angle },
        max_velocity_m_s: difficulty * start.max_velocity_m_s,
        max_body_rate_rad_s: difficulty * start.max_body_rate_rad_s,
        ..start.clone()
    };
    let mut state = nearer.sample(vehicle, &Vector3::zeros(), rng);
    let hover = vehicle.hover_rotor();
    state.rotors = state.rotors.map(|r| hover + difficulty * (r - hover));
    state
}

/// A setpoint that wanders in the horizontal plane and slowly up and down, on straight lines.
#[derive(Clone, Debug)]
struct Wandering {
    at: Vector3<f64>,
    velocity: Vector3<f64>,
    speed_m_s: f64,
    steps_left: usize,
}

impl Wandering {
    /// Half of them stay where they are.
    fn new(speed_m_s: f64, rng: &mut impl Rng) -> Self {
        let speed_m_s = if rng.random::<bool>() { speed_m_s } else { 0.0 };
        Self { at: Vector3::zeros(), velocity: Vector3::zeros(), speed_m_s, steps_left: 0 }
    }

    fn advance(&mut self, dt_s: f64, rng: &mut impl Rng) {
        if self.speed_m_s <= 0.0 {
            return;
        }
        if self.steps_left == 0 {
            self.steps_left = rng.random_range(50..250);
            let mut along = |speed: f64| speed * (2.0 * rng.random::<f64>() - 1.0);
            self.velocity =
                Vector3::new(along(self.speed_m_s), along(self.speed_m_s), along(self.speed_m_s / 3.0));
        }
        self.steps_left -= 1;
        self.at += self.velocity * dt_s;
    }
}

/// Flies one episode with exploration noise. `reach` in [0, 1] limits how far from hover it starts: half of the episodes
/// start there, the others nearer, so that there is always something to learn from a flight that lasts.
pub fn fly(
    config: &GuideConfig,
    vehicle: &Vehicle,
    actor: &Dense,
    reach: f64,
    seed: u64,
) -> Result<Flown, DenseError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let origin = Vector3::zeros();
    let airframe = config.variation.draw(vehicle, &mut rng);
    let disturbance = airframe.simulation.sample_disturbance(&mut rng);
    let difficulty = if rng.random::<bool>() { reach } else { reach * rng.random::<f64>() };
    let mut state = draw_start(&airframe, &start_of(vehicle), difficulty, &mut rng);
    let std = config.observation_noise.deviations(rng.random());
    let [least, most] = config.exploration;
    let exploration = (least + (most - least) * rng.random::<f64>()) as f32;
    let before = action_of_rotors(&airframe, &state);
    let mut past = Past::filled(before);
    let mut scratch = Scratch::default();
    let mut setpoint = Wandering::new(config.setpoint_speed_m_s, &mut rng);
    let mut flown = Flown {
        before,
        observations: vec![state.observation(&origin)],
        actions: Vec::new(),
        end: End::Truncated,
        episode_return: 0.0,
    };
    for _ in 0..config.episode_steps {
        let mut input = *past.with(&state.observation(&setpoint.at));
        add_noise(&mut input[..OBSERVATION], &std, &mut rng);
        critic::scale_privileged(&mut input);
        actor.forward(&input, &mut scratch)?;
        let mut action = [0.0; ACTION];
        for (a, &mean) in action.iter_mut().zip(scratch.output()) {
            *a = (mean + exploration * rng.sample::<f32, _>(StandardNormal)).clamp(-1.0, 1.0);
        }
        setpoint.advance(config.dt_s, &mut rng);
        state = step(&airframe, &state, &action.map(f64::from), &disturbance, config.dt_s);
        past.push(action);
        let over = terminated(&state, &setpoint.at, BOX_M);
        if !state.is_finite() {
            // The transition into what is no state teaches nothing.
            flown.end = End::Truncated;
            break;
        }
        flown.actions.push(action);
        flown.observations.push(state.observation(&setpoint.at));
        flown.episode_return += config.reward.of_state(&state, &setpoint.at, &action.map(f64::from));
        if over {
            flown.end = End::Terminated;
            break;
        }
    }
    Ok(flown)
}

/// A guide as a pilot for evaluation; it keeps its own history.
#[derive(Clone, Debug)]
pub struct GuidePilot {
    mlp: Mlp,
    past: Past,
}

impl GuidePilot {
    /// From a network on the privileged observation.
    pub fn new(mlp: Mlp) -> Self {
        Self { mlp, past: Past::filled([0.0; ACTION]) }
    }
}

impl Pilot for GuidePilot {
    fn reset(&mut self, vehicle: &Vehicle, state: &State) {
        self.past = Past::filled(action_of_rotors(vehicle, state));
    }

    fn act(&mut self, observation: &Observation, _step: usize) -> [f32; 4] {
        let mut action = [0.0; ACTION];
        if self.mlp.forward(self.past.with(observation), &mut action).is_err() {
            return [f32::NAN; ACTION];
        }
        self.past.push(action);
        action
    }
}

const _: () = assert!(PRIVILEGED == OBSERVATION + HISTORY * ACTION);
