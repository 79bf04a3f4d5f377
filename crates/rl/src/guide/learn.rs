//! The guide's batches and its actor's gradient.

use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use spikewing_quad::OBSERVATION;

use super::{
    GuideConfig,
    flight::add_noise,
    memory::{Memory, Transition},
};
use crate::{
    critic::{INPUTS, Transitions, scale_privileged},
    dense::{Dense, DenseError, Scratch, Wanted},
    lanes,
    replay::{ACTION, PRIVILEGED},
};

/// Rows that one thread draws; each such part has a random number generator of its own.
const PART: usize = 64;

/// A batch and the memory it is worked on with, kept between updates.
#[derive(Debug, Default)]
pub struct Buffers {
    /// State and action, scaled, `[n, 150]`.
    now: Vec<f32>,
    /// The state that it led to and the target policy's action there, `[n, 150]`.
    next: Vec<f32>,
    /// The two states as the actor sees them, `[n, 146]`.
    seen_now: Vec<f32>,
    seen_next: Vec<f32>,
    /// Noise of the target policy, then its action, `[n, 4]`.
    smoothing: Vec<f32>,
    /// Scaled reward and what the future counts, `[n, 2]`.
    outcomes: Vec<f32>,
    lanes: Vec<Lane>,
    actor_gradient: Vec<f32>,
}

#[derive(Debug, Default)]
struct Lane {
    actor: Scratch,
    critic: Scratch,
    rows: Vec<f32>,
    ones: Vec<f32>,
    action_gradient: Vec<f32>,
    gradient: Vec<f32>,
    value: f64,
}

impl Buffers {
    /// What [`actor_gradient`] left.
    pub fn actor_gradient(&self) -> &[f32] {
        &self.actor_gradient
    }
}

/// The batch as the critics take it.
pub struct Rows<'a>(pub &'a Buffers);

impl Transitions for Rows<'_> {
    fn len(&self) -> usize {
        self.0.outcomes.len() / 2
    }
    fn now(&self, row: usize, into: &mut [f32]) {
        into.copy_from_slice(&self.0.now[row * INPUTS..][..INPUTS]);
    }
    fn next(&self, row: usize, into: &mut [f32]) {
        into.copy_from_slice(&self.0.next[row * INPUTS..][..INPUTS]);
    }
    fn reward_and_future(&self, row: usize) -> (f32, f32) {
        (self.0.outcomes[2 * row], self.0.outcomes[2 * row + 1])
    }
}

/// Draws a batch.
pub fn sample(config: &GuideConfig, memory: &Memory, rng: &mut Xoshiro256PlusPlus, buffers: &mut Buffers) {
    let n = config.batch;
    buffers.now.resize(n * INPUTS, 0.0);
    buffers.next.resize(n * INPUTS, 0.0);
    buffers.seen_now.resize(n * PRIVILEGED, 0.0);
    buffers.seen_next.resize(n * PRIVILEGED, 0.0);
    buffers.smoothing.resize(n * ACTION, 0.0);
    buffers.outcomes.resize(2 * n, 0.0);
    let seeds: Vec<u64> = (0..n.div_ceil(PART)).map(|_| rng.random()).collect();
    let parts = buffers
        .now
        .par_chunks_mut(PART * INPUTS)
        .zip(buffers.next.par_chunks_mut(PART * INPUTS))
        .zip(buffers.seen_now.par_chunks_mut(PART * PRIVILEGED))
        .zip(buffers.seen_next.par_chunks_mut(PART * PRIVILEGED))
        .zip(buffers.smoothing.par_chunks_mut(PART * ACTION))
        .zip(buffers.outcomes.par_chunks_mut(2 * PART))
        .zip(seeds);
    parts.for_each(|((((((now, next), seen_now), seen_next), smoothing), outcomes), seed)| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rows = now
            .chunks_exact_mut(INPUTS)
            .zip(next.chunks_exact_mut(INPUTS))
            .zip(seen_now.chunks_exact_mut(PRIVILEGED))
            .zip(seen_next.chunks_exact_mut(PRIVILEGED))
            .zip(smoothing.chunks_exact_mut(ACTION))
            .zip(outcomes.chunks_exact_mut(2));
        for (((((now, next), seen_now), seen_next), smoothing), outcome) in rows {
            let Some(t) = memory.draw(&mut rng) else { return };
            now[PRIVILEGED..].copy_from_slice(t.action);
            let std = config.observation_noise.deviations(rng.random());
            for (state, seen, observation, history) in [
                (now, seen_now, t.observation, t.history),
                (next, seen_next, t.next_observation, t.next_history),
            ] {
                let state = &mut state[..PRIVILEGED];
                state[..OBSERVATION].copy_from_slice(observation);
                state[OBSERVATION..].copy_from_slice(history.as_flattened());
                seen.copy_from_slice(state);
                add_noise(&mut seen[..OBSERVATION], &std, &mut rng);
                scale_privileged(state);
                scale_privileged(seen);
            }
            let clip = config.policy_noise_clip as f32;
            for noise in smoothing {
                let drawn = config.policy_noise as f32 * rng.sample::<f32, _>(StandardNormal);
                *noise = drawn.clamp(-clip, clip);
            }
            outcome[0] = reward(config, &t);
            outcome[1] = if t.terminal { 0.0 } else { config.discount as f32 };
        }
    });
}

fn reward(config: &GuideConfig, t: &Transition<'_>) -> f32 {
    let before = t.history.last().unwrap_or(t.action);
    let change: f64 = t.action.iter().zip(before).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let distance = t.next_observation[..3].iter().map(|p| f64::from(p * p)).sum::<f64>().sqrt();
    let reward = config.reward.of_observation(t.next_observation, t.action)
        - config.action_change * change
        - config.distance * distance;
    (reward * config.reward_scale) as f32
}

/// The target policy's smoothed actions in the next states.
pub fn next_actions(target_actor: &Dense, buffers: &mut Buffers) -> Result<(), DenseError> {
    let n = buffers.outcomes.len() / 2;
    let seen = &buffers.seen_next;
    lanes::run(n, ACTION, &mut buffers.smoothing, &mut buffers.lanes, |lane, rows, out| {
        let first = rows.start;
        for chunk in lanes::chunks(rows, n) {
            target_actor.forward(&seen[chunk.start * PRIVILEGED..chunk.end * PRIVILEGED], &mut lane.actor)?;
            let out = &mut out[(chunk.start - first) * ACTION..];
            for (noise, action) in out.iter_mut().zip(lane.actor.output()) {
                *noise = (*noise + action).clamp(-1.0, 1.0);
            }
        }
        Ok(())
    })?;
    let rows = buffers.next.chunks_exact_mut(INPUTS).zip(buffers.smoothing.chunks_exact(ACTION));
    for (row, action) in rows {
        row[PRIVILEGED..].copy_from_slice(action);
    }
    Ok(())
}

/// The gradient of −mean Q(s, π(seen)) with respect to the actor's parameters, left in the buffers; returns mean Q.
pub fn actor_gradient(actor: &Dense, critic: &Dense, buffers: &mut Buffers) -> Result<f32, DenseError> {
    let n = buffers.outcomes.len() / 2;
    let (seen, now) = (&buffers.seen_now, &buffers.now);
    let used = lanes::run(n, 0, &mut [], &mut buffers.lanes, |lane, rows, _| {
        lane.gradient.clear();
        lane.gradient.resize(actor.parameters().len(), 0.0);
        lane.value = 0.0;
        for chunk in lanes::chunks(rows, n) {
            let seen = &seen[chunk.start * PRIVILEGED..chunk.end * PRIVILEGED];
            actor.forward(seen, &mut lane.actor)?;
            lane.rows.clear();
            lane.rows.extend_from_slice(&now[chunk.start * INPUTS..chunk.end * INPUTS]);
            for (row, action) in
                lane.rows.chunks_exact_mut(INPUTS).zip(lane.actor.output().chunks_exact(ACTION))
            {
                row[PRIVILEGED..].copy_from_slice(action);
            }
            critic.forward(&lane.rows, &mut lane.critic)?;
            lane.value += lane.critic.output().iter().map(|q| f64::from(*q)).sum::<f64>();
            lane.ones.clear();
            lane.ones.resize(chunk.len(), -1.0 / n as f32);
            let wanted = Wanted { parameters: None, inputs: PRIVILEGED..INPUTS };
            critic.backward(&lane.rows, &lane.ones, &mut lane.critic, wanted)?;
            lane.action_gradient.clear();
            lane.action_gradient.extend_from_slice(lane.critic.input_gradient());
            let wanted = Wanted { parameters: Some(&mut lane.gradient), inputs: 0..0 };
            actor.backward(seen, &lane.action_gradient, &mut lane.actor, wanted)?;
        }
        Ok(())
    })?;
    buffers.actor_gradient.clear();
    buffers.actor_gradient.resize(actor.parameters().len(), 0.0);
    let mut value = 0.0;
    for lane in &buffers.lanes[..used] {
        value += lane.value;
        for (sum, part) in buffers.actor_gradient.iter_mut().zip(&lane.gradient) {
            *sum += part;
        }
    }
    Ok((value / n.max(1) as f64) as f32)
}
