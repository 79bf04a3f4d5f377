//! The spiking actor's loss and its gradient with respect to the actions.
//!
//! L = mean over judged steps of −λ_Q·Q₁(s, π) + λ_BC·‖π − a‖², λ_Q = α / mean|Q| (section 4 of the paper), and, where
//! asked for, + λ_S·‖π_t − π_{t−1}‖², which keeps the policy from shaking.

use ndarray::{Array3, ArrayView3, s};
use spikewing_snn::{BackwardOptions, Gradients, Network, Trace, Workspace};

use crate::{
    CloningFilter, CloningTarget, Config, TrainError, UpdateStats,
    batch::{Batch, Place},
    critic::{self, ActionValues, Critics},
    replay::{ACTION, Sequence},
};

/// Memory that is used again by the next update; no state.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Of the actor's pass.
    pub trace: Trace<f32>,
    workspace: Workspace<f32>,
    /// The actor's gradient.
    pub gradients: Option<Gradients<f32>>,
    values: ActionValues,
    /// Of what is imitated.
    imitated: ActionValues,
}

/// The action that the actor should imitate at a step of a sequence.
fn imitated(target: CloningTarget, sequence: &Sequence<'_>, step: usize) -> [f32; ACTION] {
    let k = sequence.start + step;
    let applied = sequence.episode.actions[k];
    match target {
        CloningTarget::Applied => applied,
        CloningTarget::Guide => sequence.episode.advice[k].unwrap_or(applied),
    }
}

/// Mean ‖π_t − π_{t−1}‖² over the pairs of judged steps that follow each other; `weight` times its gradient is added.
fn smoothness(
    actions: ArrayView3<'_, f32>,
    judged: &[Place],
    weight: f32,
    gradient: &mut Array3<f32>,
) -> f32 {
    let pairs = || judged.windows(2).filter(|w| w[0].sequence == w[1].sequence && w[0].step + 1 == w[1].step);
    let n = pairs().count().max(1) as f32;
    let mut sum = 0.0;
    for pair in pairs() {
        let (b, t) = (pair[1].sequence, pair[1].step);
        for i in 0..ACTION {
            let change = actions[(t, b, i)] - actions[(t - 1, b, i)];
            sum += f64::from(change * change);
            gradient[(t, b, i)] += 2.0 * weight * change / n;
            gradient[(t - 1, b, i)] -= 2.0 * weight * change / n;
        }
    }
    (sum / f64::from(n)) as f32
}

/// Leaves the actor's gradient in `buffers.gradients`; returns the loss. Without critics the actor only imitates.
///
/// # Errors
/// When a network refuses.
pub fn differentiate(
    config: &Config,
    actor: &Network<f32>,
    critics: Option<(&Critics, &mut critic::Buffers)>,
    batch: &Batch<'_>,
    stats: &mut UpdateStats,
    buffers: &mut Buffers,
) -> Result<f32, TrainError> {
    let length = config.cut.length;
    let lambda_bc = stats.lambda_bc as f32;
    actor.forward_into(batch.input.slice(s![..length, .., ..]), &mut buffers.trace)?;
    let actions = buffers.trace.actions();
    let judged = batch.judged(config.warmup_steps);
    let n = judged.len().max(1) as f32;
    let mut gradient = Array3::<f32>::zeros((length, batch.sequences.len(), ACTION));
    let imitated =
        |place: &Place| imitated(config.cloning_target, &batch.sequences[place.sequence], place.step);
    let mut follows = None;
    if let Some((critics, memory)) = critics.filter(|_| !judged.is_empty()) {
        let fill = |row: usize, into: &mut [f32]| {
            let place = judged[row];
            let action = std::array::from_fn(|i| actions[(place.step, place.sequence, i)]);
            batch.critic_input(place, action, into);
        };
        critics.action_values(judged.len(), fill, memory, &mut buffers.values)?;
        if config.cloning_filter == CloningFilter::Critic {
            let fill = |row: usize, into: &mut [f32]| {
                batch.critic_input(judged[row], imitated(&judged[row]), into);
            };
            critics.action_values(judged.len(), fill, memory, &mut buffers.imitated)?;
        }
        follows = Some(&buffers.values);
    }
    let filter = follows.filter(|_| config.cloning_filter == CloningFilter::Critic);
    // Where the critic prefers what the student does, there is nothing to imitate.
    let wanted: Option<Vec<bool>> = filter.map(|own| {
        buffers.imitated.values().zip(own.values()).map(|(imitated, own)| imitated > own).collect()
    });
    let (mut bc, mut imitates) = (0.0, 0_usize);
    for (row, &Place { step, sequence }) in judged.iter().enumerate() {
        let weight = if wanted.as_ref().is_none_or(|w| w[row]) { lambda_bc } else { 0.0 };
        imitates += usize::from(weight > 0.0);
        for (i, wanted) in imitated(&judged[row]).iter().enumerate() {
            let off = actions[(step, sequence, i)] - wanted;
            bc += f64::from(off * off);
            gradient[(step, sequence, i)] = 2.0 * weight * off / n;
        }
    }
    stats.bc_loss = (bc / f64::from(n)) as f32;
    stats.imitated = imitates as f32 / n;
    let mut loss = lambda_bc * stats.bc_loss;
    if let Some(values) = follows {
        let q = || values.values().map(f64::from);
        let size = q().map(f64::abs).sum::<f64>() / f64::from(n);
        let mean = q().sum::<f64>() / f64::from(n);
        let lambda_q = config.alpha / size.max(1e-3);
        loss -= (lambda_q * mean) as f32;
        stats.q_mean = (mean / config.reward_scale) as f32;
        let share = (lambda_q / f64::from(n)) as f32;
        for (place, dq) in judged.iter().zip(values.action_gradients()) {
            for (i, dq) in dq.iter().enumerate() {
                gradient[(place.step, place.sequence, i)] -= share * dq;
            }
        }
    }
    let weight = config.smoothness as f32;
    stats.action_change = smoothness(actions, &judged, weight, &mut gradient);
    loss += weight * stats.action_change;

    let options = BackwardOptions {
        surrogate: config.surrogate,
        first_step: config.warmup_steps,
        truncate: (config.truncate_steps > 0).then_some(config.truncate_steps),
        ..BackwardOptions::new(stats.slope as f32)
    };
    let gradients = buffers.gradients.get_or_insert_with(|| Gradients::zeros_like(actor));
    actor.backward_into(&buffers.trace, gradient.view(), &options, &mut buffers.workspace, gradients)?;
    let rates = buffers.trace.firing_rates();
    stats.firing_rate = (rates.iter().sum::<f64>() / rates.len().max(1) as f64) as f32;
    stats.actor_loss = loss;
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences of unequal length, the warm-up left out.
    fn judged() -> Vec<Place> {
        let of = |sequence, steps: std::ops::Range<usize>| steps.map(move |step| Place { step, sequence });
        of(0, 2..6).chain(of(1, 2..5)).collect()
    }

    #[test]
    fn the_smoothness_gradient_is_that_of_finite_differences() {
        let mut value = 0.3_f32;
        let actions = Array3::from_shape_fn((6, 2, ACTION), |_| {
            value = (value * 7.1).fract() - 0.2;
            value
        });
        let weight = 0.7;
        let loss = |actions: &Array3<f32>| {
            let mut ignored = Array3::zeros(actions.raw_dim());
            f64::from(weight * smoothness(actions.view(), &judged(), weight, &mut ignored))
        };
        let mut exact = Array3::zeros(actions.raw_dim());
        smoothness(actions.view(), &judged(), weight, &mut exact);
        for index in ndarray::indices(actions.raw_dim()) {
            let at = |d: f32| {
                let mut moved = actions.clone();
                moved[index] += d;
                loss(&moved)
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            let exact = f64::from(exact[index]);
            assert!((difference - exact).abs() < 1e-4, "{index:?}: {difference} {exact}");
        }
        // Nothing reaches across sequences, into the warm-up, or beyond a sequence's end.
        assert!(exact.slice(s![..2, .., ..]).iter().all(|g| *g == 0.0));
        assert!(exact.slice(s![5, 1, ..]).iter().all(|g| *g == 0.0));
    }

    #[test]
    fn a_constant_action_is_smooth() {
        let actions = Array3::from_elem((6, 2, ACTION), 0.4);
        let mut gradient = Array3::zeros(actions.raw_dim());
        assert_eq!(smoothness(actions.view(), &judged(), 1.0, &mut gradient), 0.0);
        assert!(gradient.iter().all(|g| *g == 0.0));
    }
}
