//! A run as a chain of segments, each from one checkpoint to the next.
//!
//! Every segment starts all nodes anew and lets the learner go on from the checkpoint on disk, in a run that was never
//! stopped just as in one that is resumed. So a run that was killed at any moment and resumed makes the same weights as
//! an uninterrupted one, to the last bit, and no node but the learner has state that must be saved. What it costs are the
//! few seconds of simulated flight from arming to the first episode.

use std::{
    cell::RefCell,
    path::Path,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use spikewing_msgs::{
    Message,
    spikewing_msgs::{LearnerStatus, PolicyStatus},
};
use spikewing_runtime::{
    NodeKind, NodeOptions, Time,
    local::{Composition, Ended, StopFlag},
    parameter::Value,
};

use crate::{Failure, progress::Progress};

/// What a whole run was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flown {
    /// Whether all updates were made.
    pub done: bool,
    /// Simulated time, s.
    pub simulated_s: f64,
    /// Time that flight waited for the learner, s.
    pub waited_s: f64,
}

/// A run that is about to be flown.
pub struct Run<'a> {
    /// The nodes and their options, in the order in which they are called.
    pub nodes: &'a [(&'static NodeKind, NodeOptions)],
    /// The run folder.
    pub dir: &'a Path,
    /// Updates to make in all.
    pub updates: u64,
    /// Longest wall time.
    pub limit: Option<Duration>,
    /// Set by Ctrl-C.
    pub stop: &'a StopFlag,
    /// Where progress is shown.
    pub progress: &'a Rc<RefCell<Progress>>,
}

impl Run<'_> {
    /// Flies from the newest checkpoint to the end, or until stopped.
    pub fn fly(&self) -> Result<Flown, Failure> {
        let started = Instant::now();
        let length = self.nodes.iter().find_map(|(_, n)| n.parameters.count("checkpoint_every_updates").ok());
        let length = length.map_or(self.updates, |n| n as u64).max(1);
        let mut flown = Flown::default();
        loop {
            let made = spikewing_online_learner::updates_in(self.dir)?;
            if made >= self.updates {
                return Ok(Flown { done: true, ..flown });
            }
            let end = self.updates.min((made / length + 1) * length);
            let report = self.segment(made, end, started)?;
            flown.simulated_s += report.simulated.seconds();
            flown.waited_s += report.waited.as_secs_f64();
            if report.ended != Ended::Finished {
                return Ok(flown);
            }
        }
    }

    fn segment(
        &self,
        made: u64,
        end: u64,
        started: Instant,
    ) -> Result<spikewing_runtime::local::Report, Failure> {
        let mut composition = Composition::new();
        for (kind, options) in self.nodes {
            composition.add(kind, &options_of_segment(options, made, end)?)?;
        }
        let (progress, flag, limit) = (Rc::clone(self.progress), Arc::clone(self.stop), self.limit);
        composition.observe(move |now: Time, _topic, message| {
            if let Some(status) = LearnerStatus::peel(message) {
                progress.borrow_mut().learner(now, status);
                if limit.is_some_and(|limit| started.elapsed() > limit) {
                    flag.store(true, Ordering::Relaxed);
                }
            } else if let Some(status) = PolicyStatus::peel(message) {
                progress.borrow_mut().policy(status);
            }
        });
        Ok(composition.run(self.stop, None)?)
    }
}

/// A node's options for the segment that starts after `made` updates and ends after `end`.
fn options_of_segment(options: &NodeOptions, made: u64, end: u64) -> Result<NodeOptions, Failure> {
    let mut options = options.clone();
    let whole = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    if options.parameters.declaration("stop_after_updates").is_ok() {
        let p = &mut options.parameters;
        p.set("resume", Value::Bool(made > 0))?;
        p.set("stop_after_updates", whole(end))?;
        // Checkpoints are the segments' ends: one in between could not be gone on from exactly.
        p.set("checkpoint_every_updates", whole(1_000_000_000_000))?;
        p.set("checkpoint_on_stop", Value::Bool(false))?;
    } else if let Ok(seed) = options.parameters.integer("seed") {
        // Other starts, noise and exploration in every segment; the learner's random numbers go on by themselves.
        options.parameters.set("seed", whole(seed_of_segment(seed.unsigned_abs(), made)))?;
    }
    Ok(options)
}

/// The seed itself for the first segment, and for the others a number within the parameter's range that depends on every
/// bit of both (SplitMix64's finaliser).
fn seed_of_segment(seed: u64, made: u64) -> u64 {
    if made == 0 {
        return seed;
    }
    let mut z = seed ^ made.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % 1_000_000_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_have_seeds_of_their_own() {
        assert_eq!(seed_of_segment(7, 0), 7);
        let mut seeds: Vec<u64> =
            (1..=2).flat_map(|seed| (0..50).map(move |k| seed_of_segment(seed, 1000 * k))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 100);
        assert!(seeds.iter().all(|s| *s < 1_000_000_000_000_000));
    }
}
