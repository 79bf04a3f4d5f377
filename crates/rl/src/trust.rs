//! How far critics can be trusted: their error on what the student itself flew.
//!
//! Of each episode, for every step that the student flew, the first critic's Q(s, a) is held against what came of it,
//! G = r + γ G′, to the episode's end and there, where time was over, the critic's own value. The relative error is the root
//! mean square of Q − G by that of G. Critics of a drone that has become another, or that learned from a guide's flights
//! alone, are wrong there first.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use spikewing_quad::Reward;

use crate::{
    Config,
    critic::{self, Critics, INPUTS},
    dense::{DenseError, Scratch},
    replay::{ACTION, Episode, PRIVILEGED, Source},
};

/// Flights over which the error is averaged.
const FLIGHTS: usize = 5;
/// Steps that a student must have flown of an episode for it to count.
const FEWEST_STEPS: usize = 50;

/// The critics' error on the student's last flights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    errors: VecDeque<f64>,
}

impl Trust {
    /// Mean relative error over the last flights; none before there were so many.
    pub fn error(&self) -> Option<f64> {
        let n = self.errors.len();
        (n == FLIGHTS).then(|| self.errors.iter().sum::<f64>() / n as f64)
    }

    /// Whether it is below a limit.
    pub fn within(&self, limit: f64) -> bool {
        self.error().is_some_and(|error| error < limit)
    }

    /// Takes an episode; one that the student hardly flew changes nothing. A critic that refuses is wrong without limit.
    pub fn note(&mut self, config: &Config, critics: &Critics, reward: &Reward, episode: &Episode) {
        let error = relative_error(config, critics, reward, episode).unwrap_or(Some(f64::INFINITY));
        if let Some(error) = error {
            self.errors.push_back(error);
            if self.errors.len() > FLIGHTS {
                self.errors.pop_front();
            }
        }
    }
}

/// Of one episode.
fn relative_error(
    config: &Config,
    critics: &Critics,
    reward: &Reward,
    episode: &Episode,
) -> Result<Option<f64>, DenseError> {
    let steps = episode.len();
    let flown = episode.sources.iter().filter(|s| **s == Source::Student).count();
    if flown < FEWEST_STEPS {
        return Ok(None);
    }
    let mut rows = vec![0.0; steps * INPUTS];
    for (k, row) in rows.chunks_exact_mut(INPUTS).enumerate() {
        let (privileged, action) = row.split_at_mut(PRIVILEGED);
        episode.privileged(k, privileged);
        critic::scale_privileged(privileged);
        action[..ACTION].copy_from_slice(&episode.actions[k]);
    }
    let mut scratch = Scratch::default();
    critics.networks()[0].forward(&rows, &mut scratch)?;
    let values = scratch.output();
    // Where time was over the future goes on, for all that is known, as the critic says.
    let last = values.last().copied().map_or(0.0, f64::from);
    let mut to_come = if episode.terminates_at(steps - 1) { 0.0 } else { last };
    let (mut off, mut size) = (0.0, 0.0);
    for k in (0..steps).rev() {
        let r =
            config.reward_scale * reward.of_observation(&episode.observations[k + 1], &episode.actions[k]);
        to_come = r + config.discount * to_come;
        if episode.sources[k] == Source::Student {
            off += (f64::from(values[k]) - to_come).powi(2);
            size += to_come * to_come;
        }
    }
    Ok(Some((off / size.max(f64::MIN_POSITIVE)).sqrt()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::{critic::CriticShape, replay::End};

    fn episode(source: Source, end: End) -> Episode {
        let mut observation = [0.0; 18];
        (observation[3], observation[7], observation[11]) = (1.0, 1.0, 1.0);
        let n = 200;
        Episode {
            observations: vec![observation; n + 1],
            actions: vec![[0.3; ACTION]; n],
            sources: vec![source; n],
            advice: vec![None; n],
            end,
        }
    }

    #[test]
    fn critics_that_know_the_return_are_trusted_and_others_are_not() {
        let config = Config { discount: 0.9, ..Config::default() };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let shape = CriticShape { hidden: vec![4], ..CriticShape::default() };
        let mut critics = Critics::random(&shape, 1e-3, &mut rng).unwrap();
        let reward = Reward::start();
        let flight = episode(Source::Student, End::Truncated);
        let r = config.reward_scale * reward.of_observation(&flight.observations[1], &flight.actions[0]);
        // A hover that goes on for ever is worth r / (1 − γ).
        for (value, trusted) in [(r / (1.0 - config.discount), true), (0.0, false)] {
            critics.set_constant(value as f32);
            let mut trust = Trust::default();
            for flights in 0..FLIGHTS {
                assert!(!trust.within(0.5), "{flights} flights");
                trust.note(&config, &critics, &reward, &flight);
                trust.note(&config, &critics, &reward, &episode(Source::Guide, End::Truncated));
            }
            assert_eq!(trust.within(0.2), trusted, "{:?}", trust.error());
        }
        // The same value is wrong of a flight that ends.
        critics.set_constant((r / (1.0 - config.discount)) as f32);
        let end = relative_error(&config, &critics, &reward, &episode(Source::Student, End::Terminated));
        assert!(end.unwrap().unwrap() > 0.05);
    }
}
