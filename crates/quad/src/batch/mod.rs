//! Many vehicles at once: the numbers of sixteen vehicles lie side by side, a register steps as many as it holds, and
//! threads (the current rayon pool's) share the blocks.
//!
//! A batch of `f64` flies what the single simulator flies, to the last bit: vehicle `i` of `n` begins with episode `i` of
//! the seed and goes on with `i + n`, `i + 2 n`, …, and each is the flight of
//! [`Evaluation::episode`](crate::protocol::Evaluation::episode) of that number. A batch of `f32` flies the same starts at
//! twice the speed, within 2e-3 after 200 steps. Neither depends on the number of threads. Where vehicles are drawn whose motors
//! are faster than a step, all fly the parts of a step that the fastest needs, and the last bit is the single simulator's no more.
//!
//! ```
//! use spikewing_quad::{Vehicle, batch::{Batch, End, Setup}};
//!
//! let mut batch = Batch::<f32>::new(Setup::recovery(Vehicle::find("l2f0")?), 100);
//! let hover = batch.setup().vehicle.hover_action() as f32;
//! let mut observations = vec![[0.0; 18]; batch.len()];
//! for _ in 0..50 {
//!     batch.observe(&mut observations);
//!     batch.advance(&vec![[hover; 4]; batch.len()]);
//!     assert!(batch.rewards().iter().all(|r| *r <= 1.0));
//!     batch.reset_finished();
//! }
//! # Ok::<(), spikewing_quad::QuadError>(())
//! ```

mod block;
mod flight;

use nalgebra::Vector3;
use rayon::prelude::*;

pub use crate::lanes::Scalar;

use crate::{
    dynamics::Disturbance,
    episode::Episode,
    lanes::{LANES, Pack},
    model::{Form, Model},
    protocol::Protocol,
    reward::{Reward, Termination},
    state::{Observation, State},
    vehicle::{ROTORS, Vehicle},
};
use block::{Block, Episodes};
use flight::{Judged, Observe, Step};

/// Blocks that one task steps (1024 vehicles, about 15 µs): enough work to be worth handing to a thread.
const TASK: usize = 64;

/// What a batch flies.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The nominal vehicle with its starts, noise, disturbances and randomisation.
    pub vehicle: Vehicle,
    /// Where episodes start; the setpoint is the origin.
    pub protocol: Protocol,
    /// Reward of a step.
    pub reward: Reward,
    /// What ends an episode early.
    pub termination: Termination,
    /// Steps of a whole episode.
    pub steps: u32,
    /// Control period, s.
    pub dt_s: f64,
    /// Seed of starts, noise, disturbances and randomisation.
    pub seed: u64,
}

impl Setup {
    /// Episodes of 500 steps from a vehicle's start distribution, in the paper's box, with the start coefficients.
    pub fn recovery(vehicle: Vehicle) -> Self {
        Self {
            vehicle,
            protocol: Protocol::Recovery,
            reward: Reward::start(),
            termination: Termination::paper(),
            steps: 500,
            dt_s: 0.01,
            seed: 1,
        }
    }
}

/// How an episode stands after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    #[default]
    Going,
    /// It crossed a limit, or its state is no longer finite.
    Terminated,
    /// It lasted all its steps.
    Truncated,
}

/// Many vehicles, each in its own episode.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    setup: Setup,
    count: usize,
    model: Model<f64>,
    idle: [T; ROTORS],
    form: Form,
    parts: u32,
    now: usize,
    blocks: Vec<Block<T>>,
    episodes: Vec<Episodes<T>>,
    rewards: Vec<Pack<T>>,
    finished: Vec<Pack<T>>,
    ends: Vec<[End; LANES]>,
}

impl<T: Scalar> Batch<T> {
    /// `count` vehicles, in episodes 0 … `count` − 1.
    pub fn new(setup: Setup, count: usize) -> Self {
        let blocks = count.div_ceil(LANES);
        let randomisation = &setup.vehicle.simulation.randomisation;
        let longest_delay = (randomisation.action_latency_s / setup.dt_s).round().max(0.0) as usize;
        let hover = State::hover(&setup.vehicle, Vector3::zeros());
        let form = Form::of(&setup.vehicle);
        let mut batch = Self {
            count,
            model: Model::of(&setup.vehicle),
            idle: [T::of(setup.vehicle.hover_action()); ROTORS],
            form: if randomisation.drag_linear_max > 0.0 { form.max(Form::Drag) } else { form },
            parts: setup
                .vehicle
                .parts_of_step(setup.dt_s * (1.0 / (1.0 - randomisation.motor_time_constant))),
            now: 0,
            blocks: vec![Block::filled(&hover); blocks],
            episodes: vec![Episodes::new(longest_delay); blocks],
            rewards: vec![[T::default(); LANES]; blocks],
            finished: vec![[T::default(); LANES]; blocks],
            ends: vec![[End::Truncated; LANES]; blocks],
            setup,
        };
        batch.begin(|_, lane, at| (at * LANES + lane) as u64);
        batch.ends.as_flattened_mut().fill(End::Going);
        batch
    }

    /// What it flies.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Vehicles.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no vehicle.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Moves every vehicle on by one control step; as [`crate::step`] does, for all.
    ///
    /// # Panics
    /// When there is not one action for each vehicle.
    pub fn step(&mut self, actions: &[[T; ROTORS]]) {
        self.fly(actions, false);
    }

    /// A step with its rewards and ends. A command that is not finite stops its motor.
    ///
    /// # Panics
    /// When there is not one action for each vehicle.
    pub fn advance(&mut self, actions: &[[T; ROTORS]]) {
        self.fly(actions, true);
    }

    /// Rewards of the last [`advance`](Self::advance).
    pub fn rewards(&self) -> &[T] {
        &self.rewards.as_flattened()[..self.count]
    }

    /// How episodes stand since the last [`advance`](Self::advance) or [`reset_finished`](Self::reset_finished).
    pub fn ends(&self) -> &[End] {
        &self.ends.as_flattened()[..self.count]
    }

    /// Begins the next episode of every vehicle whose episode ended. Returns how many did.
    pub fn reset_finished(&mut self) -> usize {
        let step = self.count as u64;
        self.begin(|episodes, lane, _| episodes.numbers[lane] + step)
    }

    /// What policies see, with the simulation's noise.
    ///
    /// # Panics
    /// When there is not one observation for each vehicle.
    pub fn observe(&mut self, observations: &mut [Observation]) {
        assert_eq!(observations.len(), self.count, "one observation for each vehicle");
        let simulation = &self.setup.vehicle.simulation;
        let noisy = simulation.is_noisy();
        let look = |blocks: &[Block<T>], episodes: &mut [Episodes<T>], seen: &mut [Observation]| {
            pulp::Arch::new().dispatch(Observe { blocks, observations: seen });
            if noisy {
                for (seen, episodes) in seen.chunks_mut(LANES).zip(episodes) {
                    for (seen, rng) in seen.iter_mut().zip(&mut episodes.rngs) {
                        *seen = simulation.add_noise(seen, rng);
                    }
                }
            }
        };
        if alone(self.blocks.len()) {
            return look(&self.blocks, &mut self.episodes, observations);
        }
        self.blocks
            .par_chunks(TASK)
            .zip(self.episodes.par_chunks_mut(TASK))
            .zip(observations.par_chunks_mut(TASK * LANES))
            .for_each(|((blocks, episodes), seen)| look(blocks, episodes, seen));
    }

    /// State of a vehicle.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn state(&self, vehicle: usize) -> State {
        self.blocks[self.block_of(vehicle)].state(vehicle % LANES)
    }

    /// Puts a vehicle into a state.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn set_state(&mut self, vehicle: usize, state: &State) {
        let at = self.block_of(vehicle);
        self.blocks[at].set_state(vehicle % LANES, state);
    }

    /// The disturbance of a vehicle's episode.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn disturbance(&self, vehicle: usize) -> Disturbance {
        self.blocks[self.block_of(vehicle)].disturbance(vehicle % LANES)
    }

    /// Disturbs a vehicle until its episode ends.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn set_disturbance(&mut self, vehicle: usize, disturbance: &Disturbance) {
        let at = self.block_of(vehicle);
        self.blocks[at].set_disturbance(vehicle % LANES, disturbance);
    }

    /// Gives a vehicle constants of its own. They stay through its resets, unless the setup draws vehicles.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn set_vehicle(&mut self, vehicle: usize, constants: &Vehicle) {
        let at = self.block_of(vehicle);
        self.form = self.form.max(Form::of(constants));
        self.parts = self.parts.max(constants.parts_of_step(self.setup.dt_s));
        self.episodes[at].set_vehicle(vehicle % LANES, constants, &self.setup.vehicle);
    }

    /// Number of the episode that a vehicle flies, and the steps that it has flown of it.
    ///
    /// # Panics
    /// When there is no such vehicle.
    pub fn episode(&self, vehicle: usize) -> (u64, u32) {
        let episodes = &self.episodes[self.block_of(vehicle)];
        (episodes.numbers[vehicle % LANES], episodes.lengths[vehicle % LANES])
    }

    fn block_of(&self, vehicle: usize) -> usize {
        assert!(vehicle < self.count, "vehicle {vehicle} of {}", self.count);
        vehicle / LANES
    }

    fn fly(&mut self, actions: &[[T; ROTORS]], judge: bool) {
        assert_eq!(actions.len(), self.count, "one action for each vehicle");
        let arch = pulp::Arch::new();
        let (setup, model, idle, now) = (&self.setup, &self.model, self.idle, self.now);
        let (form, parts) = (self.form, self.parts);
        let work = |actions, blocks, episodes: &mut [Episodes<T>], rewards, finished, ends: &mut [_]| {
            let mut judged = judge.then_some(Judged {
                reward: &setup.reward,
                termination: &setup.termination,
                rewards,
                finished,
            });
            let lent = judged.as_mut().map(|j| Judged {
                reward: j.reward,
                termination: j.termination,
                rewards: &mut *j.rewards,
                finished: &mut *j.finished,
            });
            arch.dispatch(Step {
                blocks,
                episodes: &mut *episodes,
                actions,
                model,
                idle,
                form,
                parts,
                part_s: setup.dt_s / f64::from(parts),
                now,
                judged: lent,
            });
            if let Some(judged) = judged {
                for ((episodes, finished), ends) in episodes.iter_mut().zip(&*judged.finished).zip(ends) {
                    episodes.count(finished, setup.steps, ends);
                }
            }
        };
        let (blocks, episodes) = (&mut self.blocks, &mut self.episodes);
        let (rewards, finished, ends) = (&mut self.rewards, &mut self.finished, &mut self.ends);
        if alone(blocks.len()) {
            work(actions, blocks, episodes, rewards, finished, ends);
        } else {
            actions
                .par_chunks(TASK * LANES)
                .zip(blocks.par_chunks_mut(TASK))
                .zip(episodes.par_chunks_mut(TASK))
                .zip(rewards.par_chunks_mut(TASK))
                .zip(finished.par_chunks_mut(TASK))
                .zip(ends.par_chunks_mut(TASK))
                .for_each(|(((((a, b), e), r), f), n)| work(a, b, e, r, f, n));
        }
        self.now += 1;
    }

    /// Begins an episode in every lane whose episode is not going on; `number` says which.
    fn begin(&mut self, number: impl Fn(&Episodes<T>, usize, usize) -> u64 + Sync) -> usize {
        let (setup, count) = (&self.setup, self.count);
        let work = |at: usize, block: &mut Block<T>, episodes: &mut Episodes<T>, ends: &mut [End; LANES]| {
            let mut begun = 0;
            for (lane, end) in ends.iter_mut().enumerate().take(count - at * LANES) {
                if *end == End::Going {
                    continue;
                }
                let number = number(episodes, lane, at);
                let origin = Vector3::zeros();
                let episode =
                    Episode::draw(&setup.vehicle, setup.protocol, &origin, setup.dt_s, setup.seed, number);
                episodes.begin(lane, number, &episode, block);
                if !setup.vehicle.simulation.randomisation.is_none() {
                    episodes.set_vehicle(lane, &episode.vehicle, &setup.vehicle);
                }
                *end = End::Going;
                begun += 1;
            }
            begun
        };
        let (blocks, episodes, ends) = (&mut self.blocks, &mut self.episodes, &mut self.ends);
        if alone(blocks.len()) {
            let all = blocks.iter_mut().zip(episodes).zip(ends).enumerate();
            return all.map(|(at, ((b, e), n))| work(at, b, e, n)).sum();
        }
        blocks
            .par_iter_mut()
            .zip(episodes)
            .zip(ends)
            .enumerate()
            .with_min_len(TASK)
            .map(|(at, ((b, e), n))| work(at, b, e, n))
            .sum()
    }
}

/// Whether handing blocks to other threads would cost more than it gains.
fn alone(blocks: usize) -> bool {
    blocks <= TASK || rayon::current_num_threads() == 1
}
