//! A batch of sequences from the replay buffer: what the actor sees of them, and the transitions that critics learn from.
//!
//! Sequences are filled in by several threads. Each has a random number generator of its own, seeded from the learner's,
//! so that the numbers do not depend on which thread is how fast.

use ndarray::{Array3, ArrayView3, ArrayViewMut2, Axis};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use spikewing_quad::{OBSERVATION, Reward};

use crate::{
    Config, ObservationNoise,
    critic::{self, Transitions},
    replay::{ACTION, Episode, PRIVILEGED, Replay, Sequence},
};

/// A step of one of the batch's sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Step within the sequence.
    pub step: usize,
    /// Number of the sequence in the batch.
    pub sequence: usize,
}

/// A sampled batch.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The sequences.
    pub sequences: Vec<Sequence<'a>>,
    /// What the actor sees, `[length + 1, batch, 18]`; beyond a sequence's end its last observation.
    pub input: Array3<f32>,
    /// Transitions for the critics, with the noise that smooths the target policy.
    transitions: Vec<(Place, [f32; ACTION])>,
}

impl<'a> Batch<'a> {
    /// Nothing.
    pub fn empty() -> Self {
        Self { sequences: Vec::new(), input: Array3::zeros((0, 0, OBSERVATION)), transitions: Vec::new() }
    }

    /// Draws sequences with replacement.
    pub fn sample(config: &Config, replay: &'a Replay, rng: &mut Xoshiro256PlusPlus) -> Self {
        let n = replay.sequences();
        let sequences: Vec<Sequence<'a>> = if n == 0 {
            Vec::new()
        } else {
            (0..config.batch).filter_map(|_| replay.sequence(rng.random_range(0..n))).collect()
        };
        let seeds: Vec<u64> = sequences.iter().map(|_| rng.random()).collect();
        let length = config.cut.length + 1;
        let mut input = Array3::zeros((length, sequences.len(), OBSERVATION));
        let parts: Vec<ArrayViewMut2<'_, f32>> = input.axis_iter_mut(Axis(1)).collect();
        let chosen: Vec<Vec<(Place, [f32; ACTION])>> = parts
            .into_par_iter()
            .zip(&sequences)
            .zip(&seeds)
            .enumerate()
            .map(|(b, ((seen, sequence), seed))| {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(*seed);
                observe(seen, sequence, &config.observation_noise, &mut rng);
                if config.method.reinforces() { choose(config, sequence, b, &mut rng) } else { Vec::new() }
            })
            .collect();
        Self { sequences, input, transitions: chosen.into_iter().flatten().collect() }
    }

    /// Every step that the actor is judged by: after the warm-up, to the sequence's end.
    pub fn judged(&self, warmup_steps: usize) -> Vec<Place> {
        self.sequences
            .iter()
            .enumerate()
            .flat_map(|(sequence, s)| (warmup_steps..s.length).map(move |step| Place { step, sequence }))
            .collect()
    }

    /// Writes the critic's input at a place: scaled privileged observation and an action.
    pub fn critic_input(&self, place: Place, action: [f32; ACTION], into: &mut [f32]) {
        let sequence = &self.sequences[place.sequence];
        write_critic_input(sequence.episode, sequence.start + place.step, action, into);
    }

    /// The transitions under a target policy and a reward. `next_actions` `[length + 1, batch, 4]` are the target
    /// policy's at every step.
    pub fn transitions<'b>(
        &'b self,
        config: &'b Config,
        reward: &'b Reward,
        next_actions: ArrayView3<'b, f32>,
    ) -> SequenceTransitions<'b> {
        SequenceTransitions { batch: self, config, reward, next_actions }
    }
}

/// Copies a sequence's observations, with noise. Each sequence gets a share of the noise between none and all of it: the
/// policy must hover with a good estimate as well as with a bad one.
fn observe(
    mut into: ArrayViewMut2<'_, f32>,
    sequence: &Sequence<'_>,
    noise: &ObservationNoise,
    rng: &mut Xoshiro256PlusPlus,
) {
    let share = rng.random::<f32>();
    let std = noise.deviations(share);
    let noisy = *noise != ObservationNoise::NONE;
    for (t, mut row) in into.outer_iter_mut().enumerate() {
        let seen = &sequence.episode.observations[sequence.start + t.min(sequence.length)];
        for ((into, &value), std) in row.iter_mut().zip(seen).zip(std) {
            *into = if noisy { value + std * rng.sample::<f32, _>(StandardNormal) } else { value };
        }
    }
}

/// Chooses a sequence's transitions. The target policy's next action means something only once its hidden state is warm.
fn choose(
    config: &Config,
    sequence: &Sequence<'_>,
    number: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> Vec<(Place, [f32; ACTION])> {
    let first = config.warmup_steps.min(sequence.length.saturating_sub(1));
    let (std, clip) = (config.policy_noise as f32, config.policy_noise_clip as f32);
    let chosen = |step: usize, rng: &mut Xoshiro256PlusPlus| {
        let noise = std::array::from_fn(|_| (std * rng.sample::<f32, _>(StandardNormal)).clamp(-clip, clip));
        (Place { step, sequence: number }, noise)
    };
    match config.critic_steps {
        0 => (first..sequence.length).map(|step| chosen(step, rng)).collect(),
        n => (0..n)
            .map(|_| {
                let step = rng.random_range(first..sequence.length);
                chosen(step, rng)
            })
            .collect(),
    }
}

fn write_critic_input(episode: &Episode, step: usize, action: [f32; ACTION], into: &mut [f32]) {
    let (privileged, last) = into.split_at_mut(PRIVILEGED);
    episode.privileged(step, privileged);
    critic::scale_privileged(privileged);
    last.copy_from_slice(&action);
}

/// A batch's transitions as the critics take them.
#[derive(Debug)]
pub struct SequenceTransitions<'a> {
    batch: &'a Batch<'a>,
    config: &'a Config,
    reward: &'a Reward,
    next_actions: ArrayView3<'a, f32>,
}

impl SequenceTransitions<'_> {
    /// The episode, and the step within it.
    fn step(&self, row: usize) -> (&Episode, usize) {
        let place = self.batch.transitions[row].0;
        let sequence = &self.batch.sequences[place.sequence];
        (sequence.episode, sequence.start + place.step)
    }
}

impl Transitions for SequenceTransitions<'_> {
    fn len(&self) -> usize {
        self.batch.transitions.len()
    }

    fn now(&self, row: usize, into: &mut [f32]) {
        let (episode, k) = self.step(row);
        write_critic_input(episode, k, episode.actions[k], into);
    }

    fn next(&self, row: usize, into: &mut [f32]) {
        let (episode, k) = self.step(row);
        let (place, noise) = self.batch.transitions[row];
        let smoothed = std::array::from_fn(|i| {
            (self.next_actions[(place.step + 1, place.sequence, i)] + noise[i]).clamp(-1.0, 1.0)
        });
        write_critic_input(episode, k + 1, smoothed, into);
    }

    fn reward_and_future(&self, row: usize) -> (f32, f32) {
        let (episode, k) = self.step(row);
        let reward = self.reward.of_observation(&episode.observations[k + 1], &episode.actions[k]);
        let future = if episode.terminates_at(k) { 0.0 } else { self.config.discount as f32 };
        ((reward * self.config.reward_scale) as f32, future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{Cut, End, Source, Step};

    fn replay(steps: u32, end: End) -> Replay {
        let mut replay = Replay::new(10_000, Cut { length: 100, stride: 50, shortest: 60 });
        for step in 0..=steps {
            let mut observation = [0.0; OBSERVATION];
            observation[0] = step as f32 * 1e-3;
            let end = (step == steps).then_some(end);
            let action = [step as f32 * 1e-3; ACTION];
            replay
                .push("a", 1, step, &Step { observation, action, source: Source::Guide, advice: None, end })
                .unwrap();
        }
        replay
    }

    #[test]
    fn every_step_after_the_warm_up_is_learned_from_once() {
        let replay = replay(160, End::Terminated);
        let config = Config { batch: 3, critic_steps: 0, policy_noise: 0.0, ..Config::default() };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let batch = Batch::sample(&config, &replay, &mut rng);
        let actions = Array3::from_elem((101, 3, ACTION), 0.25);
        let reward = Reward::start();
        let transitions = batch.transitions(&config, &reward, actions.view());
        assert_eq!(transitions.len(), 150);
        let places: Vec<Place> = batch.transitions.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, batch.judged(50));
        let (mut now, mut next) = ([0.0; critic::INPUTS], [0.0; critic::INPUTS]);
        for (row, place) in places.iter().enumerate() {
            let k = batch.sequences[place.sequence].start + place.step;
            transitions.now(row, &mut now);
            transitions.next(row, &mut next);
            // Positions are scaled by two; the action is the newest of the next step's history.
            assert_eq!((now[0], next[0]), (k as f32 * 1e-3 * 2.0, (k + 1) as f32 * 1e-3 * 2.0));
            assert_eq!(now[PRIVILEGED], next[PRIVILEGED - 1]);
            assert_eq!(next[PRIVILEGED], 0.25);
            let future = transitions.reward_and_future(row).1;
            assert_eq!(future, if k == 159 { 0.0 } else { 0.99 });
        }
    }

    #[test]
    fn old_experience_is_rewarded_by_the_stage_of_today() {
        let replay = replay(160, End::Truncated);
        let config = Config { batch: 2, policy_noise: 0.0, ..Config::default() };
        let batch = Batch::sample(&config, &replay, &mut Xoshiro256PlusPlus::seed_from_u64(2));
        let actions = Array3::zeros((101, 2, ACTION));
        let of = |stage: usize| {
            let reward = Reward::stage(stage);
            batch.transitions(&config, &reward, actions.view()).reward_and_future(0).0
        };
        let stages: Vec<f32> = (0..6).map(of).collect();
        assert!(stages.windows(2).all(|w| w[1] < w[0]), "{stages:?}");
    }

    #[test]
    fn noise_is_that_of_the_seed_and_has_its_size() {
        let replay = replay(160, End::Truncated);
        let config = Config { batch: 64, ..Config::default() };
        let sample =
            |seed| Batch::sample(&config, &replay, &mut Xoshiro256PlusPlus::seed_from_u64(seed)).input;
        assert_eq!(sample(3), sample(3));
        let input = sample(3);
        let mut squares = 0.0;
        for y in input.index_axis(Axis(2), 1) {
            squares += f64::from(y * y) / (101.0 * 64.0);
        }
        // A share u of σ, u uniform: σ/√3.
        assert!((squares.sqrt() - 0.05 / 3.0_f64.sqrt()).abs() < 0.004, "{}", squares.sqrt());
    }
}
