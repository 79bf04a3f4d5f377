//! The guide's replay memory: a ring of steps from which single transitions are drawn.
//!
//! An episode of T steps takes 32 records that only hold what the history was before it, T steps, and one record with
//! the last observation. Episodes are never split at the ring's end, so that the 32 actions before any step lie in
//! front of it. What is written over part of an older episode takes the steps whose history it destroyed along.

use rand::{Rng, RngExt};
use spikewing_quad::Observation;

use super::flight::Flown;
use crate::replay::{ACTION, End, HISTORY};

/// What can be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing: part of a history, or the end of an episode.
    None,
    /// A step that leads to the next record.
    Step,
    /// A step that leads to the next record, which has no future.
    LastStep,
}

/// A ring of steps.
#[derive(Debug)]
pub struct Memory {
    capacity: usize,
    observations: Vec<Observation>,
    actions: Vec<[f32; ACTION]>,
    uses: Vec<Use>,
    next: usize,
    steps: usize,
}

/// A transition in the memory.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// Before it.
    pub observation: &'a Observation,
    /// The 32 actions before it, oldest first.
    pub history: &'a [[f32; ACTION]],
    /// What was done.
    pub action: &'a [f32; ACTION],
    /// Where it led to.
    pub next_observation: &'a Observation,
    /// The 32 actions before that.
    pub next_history: &'a [[f32; ACTION]],
    /// Whether that has no future.
    pub terminal: bool,
}

impl Memory {
    /// Holds about so many steps.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, observations: Vec::new(), actions: Vec::new(), uses: Vec::new(), next: 0, steps: 0 }
    }

    /// Steps that can be drawn.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Takes an episode; the oldest ones go. One that is larger than the memory is not kept.
    pub fn push(&mut self, flown: &Flown) {
        let length = HISTORY + flown.observations.len();
        if flown.actions.is_empty() || length > self.capacity {
            return;
        }
        if self.next + length > self.capacity {
            self.next = 0;
        }
        let last = flown.actions.len() - 1;
        let first = flown.observations[0];
        let before = (0..HISTORY).map(|_| (first, flown.before, Use::None));
        let steps = flown.observations.iter().enumerate().map(|(k, seen)| {
            let action = flown.actions.get(k).copied().unwrap_or(flown.before);
            let use_of = match (k.cmp(&last), flown.end) {
                (std::cmp::Ordering::Greater, _) => Use::None,
                (std::cmp::Ordering::Equal, End::Terminated) => Use::LastStep,
                _ => Use::Step,
            };
            (*seen, action, use_of)
        });
        for (observation, action, use_of) in before.chain(steps) {
            self.write(observation, action, use_of);
        }
        // Steps whose history began in what is overwritten now.
        for i in self.next..(self.next + HISTORY).min(self.uses.len()) {
            self.steps -= usize::from(self.uses[i] != Use::None);
            self.uses[i] = Use::None;
        }
    }

    fn write(&mut self, observation: Observation, action: [f32; ACTION], use_of: Use) {
        let i = self.next;
        self.next += 1;
        self.steps += usize::from(use_of != Use::None);
        if i < self.uses.len() {
            self.steps -= usize::from(self.uses[i] != Use::None);
            (self.observations[i], self.actions[i], self.uses[i]) = (observation, action, use_of);
        } else {
            self.observations.push(observation);
            self.actions.push(action);
            self.uses.push(use_of);
        }
    }

    /// Draws a transition uniformly; `None` while there is none.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<Transition<'_>> {
        if self.steps == 0 {
            return None;
        }
        loop {
            let i = rng.random_range(0..self.uses.len());
            if self.uses[i] != Use::None {
                return Some(self.at(i));
            }
        }
    }

    fn at(&self, i: usize) -> Transition<'_> {
        Transition {
            observation: &self.observations[i],
            history: &self.actions[i - HISTORY..i],
            action: &self.actions[i],
            next_observation: &self.observations[i + 1],
            next_history: &self.actions[i + 1 - HISTORY..=i],
            terminal: self.uses[i] == Use::LastStep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use spikewing_quad::OBSERVATION;

    /// Observation and action tell which episode and step they are of.
    fn flown(episode: usize, steps: usize, end: End) -> Flown {
        let mark = |k: usize| (episode * 1000 + k) as f32;
        let mut observations = vec![[0.0; OBSERVATION]; steps + 1];
        observations.iter_mut().enumerate().for_each(|(k, o)| o[0] = mark(k));
        Flown {
            before: [mark(0) - 0.5; ACTION],
            observations,
            actions: (0..steps).map(|k| [mark(k); ACTION]).collect(),
            end,
            episode_return: 0.0,
        }
    }

    proptest! {
        #[test]
        fn what_is_drawn_was_flown(
            seed in 0_u64..1000,
            lengths in prop::collection::vec((1_usize..90, any::<bool>()), 1..40),
            capacity in 130_usize..700,
        ) {
            let mut memory = Memory::new(capacity);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            for (episode, (steps, crash)) in lengths.iter().enumerate() {
                memory.push(&flown(episode, *steps, if *crash { End::Terminated } else { End::Truncated }));
                prop_assert!(memory.uses.len() <= capacity);
                prop_assert_eq!(memory.steps(), memory.uses.iter().filter(|u| **u != Use::None).count());
                for _ in 0..20 {
                    let Some(t) = memory.draw(&mut rng) else { continue };
                    let mark = t.observation[0] as usize;
                    let (of, k) = (mark / 1000, mark % 1000);
                    prop_assert_eq!(t.action[0], mark as f32);
                    prop_assert_eq!(t.next_observation[0], (mark + 1) as f32);
                    prop_assert_eq!(t.terminal, lengths[of].1 && k + 1 == lengths[of].0);
                    prop_assert_eq!(t.next_history[HISTORY - 1], *t.action);
                    for (i, past) in t.history.iter().enumerate() {
                        let expected = (k + i).checked_sub(HISTORY).map_or(of as f32 * 1000.0 - 0.5, |k| (of * 1000 + k) as f32);
                        prop_assert_eq!(past[0], expected);
                    }
                }
            }
        }
    }
}
