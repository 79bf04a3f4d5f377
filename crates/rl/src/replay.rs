//! The replay buffer: whole episodes of observations and actions, cut into overlapping sequences.
//!
//! Only states and actions are stored; rewards are computed when a sequence is sampled, so that those of old experience
//! follow the curriculum. An episode of T control steps is T + 1 records: the last one carries the final observation
//! and says whether the episode was terminated (no future) or truncated (its time was over); its action was not flown.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use spikewing_quad::{OBSERVATION, Observation};

/// Motors.
pub const ACTION: usize = 4;

/// Past actions that the privileged observation holds.
pub const HISTORY: usize = 32;

/// Numbers in the privileged observation.
pub const PRIVILEGED: usize = OBSERVATION + HISTORY * ACTION;

/// Whose action it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The guide's.
    Guide,
    /// The student's.
    Student,
}

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// In a state without future: the drone left its envelope.
    Terminated,
    /// For another reason, its time was over for example: the future goes on.
    Truncated,
}

/// One record of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What was seen.
    pub observation: Observation,
    /// What was applied, [−1, 1]. Of the last record it is ignored.
    pub action: [f32; ACTION],
    /// Whose action it was.
    pub source: Source,
    /// What the guide would have done here, where it was asked.
    pub advice: Option<[f32; ACTION]>,
    /// Set on the last record of an episode.
    pub end: Option<End>,
}

/// Why a record is refused. The buffer is as it was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// NaN or infinite.
    #[error(
        "experience of actor {actor}, episode {episode}, step {step}: {field} is not finite; the record is dropped"
    )]
    NotFinite {
        /// Actor.
        actor: String,
        /// Episode.
        episode: u64,
        /// Step.
        step: u32,
        /// Which field.
        field: &'static str,
    },
    /// An action beyond the motors' range.
    #[error(
        "experience of actor {actor}, episode {episode}, step {step}: an action of {value} is outside [-1, 1]; the record is dropped"
    )]
    ActionRange {
        /// Actor.
        actor: String,
        /// Episode.
        episode: u64,
        /// Step.
        step: u32,
        /// The worst element.
        value: f32,
    },
}

/// One episode, complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// T + 1 observations.
    pub observations: Vec<Observation>,
    /// T actions.
    pub actions: Vec<[f32; ACTION]>,
    /// T sources.
    pub sources: Vec<Source>,
    /// T times what the guide would have done, where it was asked.
    pub advice: Vec<Option<[f32; ACTION]>>,
    /// How it ended.
    pub end: End,
}

impl Episode {
    /// Control steps flown.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether nothing was flown.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether the transition from `step` ends in a state without future.
    pub fn terminates_at(&self, step: usize) -> bool {
        self.end == End::Terminated && step + 1 == self.len()
    }

    /// The privileged observation at `step` (0 … T): the observation, then the last 32 actions, oldest first. Before the
    /// episode's start the history is filled with its first action.
    pub fn privileged(&self, step: usize, into: &mut [f32]) {
        let (observation, history) = into.split_at_mut(OBSERVATION);
        if let Some(seen) = self.observations.get(step) {
            observation.copy_from_slice(seen);
        }
        if let Some(past) = step.checked_sub(HISTORY).and_then(|from| self.actions.get(from..step)) {
            history.copy_from_slice(past.as_flattened());
            return;
        }
        let first = self.actions.first().copied().unwrap_or([0.0; ACTION]);
        for (i, slot) in history.chunks_exact_mut(ACTION).enumerate() {
            let action = (step + i).checked_sub(HISTORY).and_then(|k| self.actions.get(k)).unwrap_or(&first);
            slot.copy_from_slice(action);
        }
    }

    /// Sum of rewards over all steps, and over those that the student flew.
    pub fn returns(&self, reward: &spikewing_quad::Reward) -> (f64, f64) {
        let (mut all, mut student) = (0.0, 0.0);
        for k in 0..self.len() {
            let r = reward.of_observation(&self.observations[k + 1], &self.actions[k]);
            all += r;
            if self.sources[k] == Source::Student {
                student += r;
            }
        }
        (all, student)
    }

    /// Memory that it takes, bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.observations.capacity() * size_of::<Observation>()
            + (self.actions.capacity()) * size_of::<[f32; ACTION]>()
            + self.sources.capacity() * size_of::<Source>()
            + self.advice.capacity() * size_of::<Option<[f32; ACTION]>>()
    }

    fn shrink(&mut self) {
        self.observations.shrink_to_fit();
        self.actions.shrink_to_fit();
        self.sources.shrink_to_fit();
        self.advice.shrink_to_fit();
    }

    /// Share of the steps that the guide flew.
    pub fn guide_share(&self) -> f64 {
        let guide = self.sources.iter().filter(|s| **s == Source::Guide).count();
        guide as f64 / self.len().max(1) as f64
    }
}

/// Sequence length and overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Transitions in a sequence.
    pub length: usize,
    /// Transitions from one sequence's start to the next one's.
    pub stride: usize,
    /// Shorter sequences (of episodes that ended early) are not used.
    pub shortest: usize,
}

/// An episode that is being flown.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    actor: String,
    episode_id: u64,
    next_step: u32,
    episode: Episode,
}

/// Episodes, the oldest first, within a capacity of steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replay {
    cut: Cut,
    capacity_steps: usize,
    episodes: VecDeque<Episode>,
    /// Number of the first episode in `episodes` since the start.
    first: u64,
    /// (episode number, first transition)
    sequences: VecDeque<(u64, u32)>,
    steps: usize,
    open: Vec<Open>,
}

/// A sequence within an episode.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// The episode.
    pub episode: &'a Episode,
    /// Its number since the start.
    pub number: u64,
    /// First transition.
    pub start: usize,
    /// Transitions.
    pub length: usize,
}

impl Replay {
    /// An empty buffer.
    pub fn new(capacity_steps: usize, cut: Cut) -> Self {
        Self {
            cut,
            capacity_steps,
            episodes: VecDeque::new(),
            first: 0,
            sequences: VecDeque::new(),
            steps: 0,
            open: Vec::new(),
        }
    }

    /// The complete episodes of another buffer, cut as this one cuts; what is too old for its capacity is forgotten.
    #[must_use]
    pub fn with_episodes_of(mut self, other: Self) -> Self {
        for episode in other.episodes {
            self.store(episode);
        }
        self
    }

    /// Steps in complete episodes.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Steps that fit.
    pub fn capacity_steps(&self) -> usize {
        self.capacity_steps
    }

    /// Sequences that can be sampled.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// Episodes held.
    pub fn episodes(&self) -> impl DoubleEndedIterator<Item = &Episode> {
        self.episodes.iter()
    }

    /// The sequence of that number.
    pub fn sequence(&self, index: usize) -> Option<Sequence<'_>> {
        let &(number, start) = self.sequences.get(index)?;
        let episode = self.episodes.get(usize::try_from(number - self.first).ok()?)?;
        let start = start as usize;
        Some(Sequence { episode, number, start, length: self.cut.length.min(episode.len() - start) })
    }

    /// How many of the newest sequences reach back so many steps.
    pub fn sequences_of_newest(&self, steps: usize) -> usize {
        let mut back = 0;
        let first = self.episodes.iter().rev().take_while(|episode| {
            let reached = back < steps;
            back += episode.len();
            reached
        });
        let oldest = self.first + (self.episodes.len() - first.count()) as u64;
        // Of the oldest episode only what lies within.
        let skipped = back.saturating_sub(steps) as u32;
        self.sequences
            .iter()
            .rev()
            .take_while(|(number, start)| *number > oldest || (*number == oldest && *start >= skipped))
            .count()
    }

    /// Takes one record. Returns the episode when it is complete. A record out of order (a lost message, an actor that
    /// was started again) closes the actor's episode as truncated where it was, and begins a new one if it is a first
    /// step.
    ///
    /// # Errors
    /// When the record holds a number that cannot be.
    pub fn push(
        &mut self,
        actor: &str,
        episode_id: u64,
        step: u32,
        record: &Step,
    ) -> Result<Option<&Episode>, ReplayError> {
        check(actor, episode_id, step, record)?;
        let slot = self.open.iter().position(|o| o.actor == actor);
        let in_order = slot.is_some_and(|i| {
            let open = &self.open[i];
            open.episode_id == episode_id && open.next_step == step
        });
        let mut closed = false;
        if let Some(i) = slot.filter(|_| !in_order) {
            // What was flown up to the gap is still experience: its last record becomes the final observation.
            let mut broken = self.open.swap_remove(i).episode;
            broken.actions.pop();
            broken.sources.pop();
            broken.advice.pop();
            broken.end = End::Truncated;
            closed = self.store(broken);
        }
        if !in_order {
            if step != 0 || record.end.is_some() {
                return Ok(if closed { self.episodes.back() } else { None });
            }
            self.open.push(Open {
                actor: actor.to_owned(),
                episode_id,
                next_step: 0,
                episode: Episode {
                    observations: Vec::with_capacity(512),
                    actions: Vec::with_capacity(512),
                    sources: Vec::with_capacity(512),
                    advice: Vec::with_capacity(512),
                    end: End::Truncated,
                },
            });
        }
        let Some(i) = self.open.iter().position(|o| o.actor == actor) else { return Ok(None) };
        let open = &mut self.open[i];
        open.next_step = step.saturating_add(1);
        open.episode.observations.push(record.observation);
        if let Some(end) = record.end {
            let mut episode = self.open.swap_remove(i).episode;
            episode.end = end;
            closed |= self.store(episode);
        } else {
            open.episode.actions.push(record.action);
            open.episode.sources.push(record.source);
            open.episode.advice.push(record.advice);
        }
        Ok(if closed { self.episodes.back() } else { None })
    }

    /// Memory that complete episodes and their cut take, bytes.
    pub fn bytes(&self) -> usize {
        let episodes: usize = self.episodes.iter().map(Episode::bytes).sum();
        episodes + self.sequences.capacity() * size_of::<(u64, u32)>()
    }

    fn store(&mut self, mut episode: Episode) -> bool {
        let length = episode.len();
        if length == 0 || length > self.capacity_steps {
            return false;
        }
        // Episodes are collected with room to spare, for crashes are short.
        episode.shrink();
        let number = self.first + self.episodes.len() as u64;
        for start in starts(length, &self.cut) {
            self.sequences.push_back((number, start as u32));
        }
        self.steps += length;
        self.episodes.push_back(episode);
        while self.steps > self.capacity_steps {
            let Some(oldest) = self.episodes.pop_front() else { break };
            self.steps -= oldest.len();
            while self.sequences.front().is_some_and(|(n, _)| *n == self.first) {
                self.sequences.pop_front();
            }
            self.first += 1;
        }
        true
    }
}

/// Where sequences start in an episode: every stride, and one that ends with the episode.
fn starts(length: usize, cut: &Cut) -> Vec<usize> {
    if length < cut.shortest {
        return Vec::new();
    }
    let last = length.saturating_sub(cut.length);
    let mut starts: Vec<usize> = (0..=last).step_by(cut.stride.max(1)).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

fn check(actor: &str, episode: u64, step: u32, record: &Step) -> Result<(), ReplayError> {
    let actor = || actor.to_owned();
    if record.observation.iter().any(|v| !v.is_finite()) {
        return Err(ReplayError::NotFinite { actor: actor(), episode, step, field: "observation" });
    }
    if record.action.iter().any(|v| !v.is_finite()) {
        return Err(ReplayError::NotFinite { actor: actor(), episode, step, field: "action" });
    }
    if record.advice.iter().flatten().any(|v| !v.is_finite()) {
        return Err(ReplayError::NotFinite { actor: actor(), episode, step, field: "guide_action" });
    }
    if let Some(&value) = record.action.iter().chain(record.advice.iter().flatten()).find(|v| v.abs() > 1.0) {
        return Err(ReplayError::ActionRange { actor: actor(), episode, step, value });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CUT: Cut = Cut { length: 100, stride: 50, shortest: 60 };

    fn record(step: u32, end: Option<End>) -> Step {
        let mut observation = [0.0; OBSERVATION];
        observation[0] = step as f32;
        Step { observation, action: [step as f32 * 1e-3; 4], source: Source::Guide, advice: None, end }
    }

    fn fly(replay: &mut Replay, episode: u64, steps: u32, end: End) {
        for step in 0..steps {
            assert!(replay.push("a", episode, step, &record(step, None)).unwrap().is_none());
        }
        assert!(replay.push("a", episode, steps, &record(steps, Some(end))).unwrap().is_some());
    }

    #[test]
    fn sequences_overlap_by_half_and_reach_the_end() {
        assert_eq!(starts(500, &CUT), [0, 50, 100, 150, 200, 250, 300, 350, 400]);
        assert_eq!(starts(120, &CUT), [0, 20]);
        assert_eq!(starts(70, &CUT), [0]);
        assert!(starts(59, &CUT).is_empty());
    }

    #[test]
    fn the_history_is_oldest_first_and_filled_before_the_start() {
        let mut replay = Replay::new(10_000, CUT);
        fly(&mut replay, 1, 100, End::Terminated);
        let episode = replay.episodes().next().unwrap();
        let mut seen = [0.0; PRIVILEGED];
        episode.privileged(40, &mut seen);
        assert_eq!(seen[0], 40.0);
        assert_eq!(seen[OBSERVATION], 8e-3);
        assert_eq!(seen[PRIVILEGED - 1], 39e-3);
        episode.privileged(1, &mut seen);
        assert_eq!(seen[OBSERVATION], 0.0);
        assert!(episode.terminates_at(99) && !episode.terminates_at(98));
    }

    #[test]
    fn old_episodes_leave_with_their_sequences() {
        let mut replay = Replay::new(1000, CUT);
        for episode in 0..7 {
            fly(&mut replay, episode, 300, End::Truncated);
        }
        assert_eq!(replay.steps(), 900);
        assert_eq!(replay.sequences(), 15);
        for i in 0..replay.sequences() {
            assert_eq!(replay.sequence(i).unwrap().length, 100);
        }
        assert!(replay.sequence(15).is_none());
    }

    #[test]
    fn a_gap_ends_the_episode_where_it_was() {
        let mut replay = Replay::new(1000, CUT);
        for step in 0..80 {
            replay.push("a", 1, step, &record(step, None)).unwrap();
        }
        assert!(replay.push("a", 1, 90, &record(90, None)).unwrap().is_some());
        let episode = replay.episodes().next().unwrap();
        assert_eq!((episode.len(), episode.observations.len(), episode.end), (79, 80, End::Truncated));
    }

    /// Two million steps, the paper's largest buffer, are well within a gibibyte, whether episodes are whole or crashes.
    #[test]
    fn a_step_takes_little_memory() {
        for steps in [500, 20] {
            let mut replay = Replay::new(1_000_000, CUT);
            (0..20).for_each(|episode| fly(&mut replay, episode, steps, End::Truncated));
            let per_step = replay.bytes() as f64 / replay.steps() as f64;
            println!("episodes of {steps} steps: {per_step:.1} bytes per step");
            assert!(per_step * 2e6 < 0.5 * 1024_f64.powi(3), "{per_step} bytes per step");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let mut replay = Replay::new(1000, CUT);
        let mut bad = record(0, None);
        bad.observation[3] = f32::NAN;
        assert!(matches!(replay.push("a", 1, 0, &bad), Err(ReplayError::NotFinite { .. })));
        let mut bad = record(0, None);
        bad.action[1] = 1.5;
        assert!(matches!(replay.push("a", 1, 0, &bad), Err(ReplayError::ActionRange { .. })));
        assert_eq!(replay.steps(), 0);
    }

    proptest! {
        #[test]
        fn any_stream_keeps_the_buffer_sound(
            stream in prop::collection::vec((0_u8..3, 0_u64..3, 0_u32..200, 0_u8..6), 0..400)
        ) {
            let mut replay = Replay::new(500, Cut { length: 10, stride: 5, shortest: 3 });
            let mut in_order = 0;
            for (actor, episode, step, kind) in stream {
                let end = match kind { 0 => Some(End::Terminated), 1 => Some(End::Truncated), _ => None };
                let step = if kind > 3 { in_order } else { step };
                in_order = step + 1;
                let _ = replay.push(&actor.to_string(), episode, step, &record(step, end));
                prop_assert!(replay.steps() <= 500);
                prop_assert_eq!(replay.steps(), replay.episodes().map(Episode::len).sum::<usize>());
                for i in 0..replay.sequences() {
                    let s = replay.sequence(i).unwrap();
                    prop_assert!(s.length >= 3 && s.start + s.length <= s.episode.len());
                    prop_assert_eq!(s.episode.observations.len(), s.episode.len() + 1);
                }
            }
        }
    }
}
