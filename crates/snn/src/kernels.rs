//! The inner loops.
//!
//! # Why sums have a fixed order
//! A spike is a comparison, so one bit of rounding can turn into a spike more or less, and later into another flight.
//! Therefore the current of every neuron is *defined* as
//!
//! `I_j = (Σ over blocks of 256 inputs of (((0 + x_0·w_0j) + x_1·w_1j) + …)) + b_j`
//!
//! with every product and every sum rounded once, and the membrane as `(β·U + I) − R·U_thr`. Training and flight both
//! compute exactly this, on every machine, whatever its vector width. Spikes are 0 or 1, and adding 0 changes no sum: that
//! is why the spiking layers only add the weights of the neurons that fired ([`sparse`](crate::sparse)).
//! Gradients have no such definition: they are deterministic on one machine, and differ by rounding between machines.

use crate::Real;
use crate::sparse::{WORD, words};
use std::ops::Range;

/// Inputs summed before the sum is added to the total. Below every depth at which the matrix product splits its sums.
pub(crate) const SUM_BLOCK: usize = 256;

const LANES: usize = 32;
/// With 32 lanes, 12 sums of eight: what 16 registers hold beside the factors.
const ROWS: usize = 3;

/// `out[r, j] = Σ_k x[r, k]·w_t[k, j]` in the defined order, without fused multiply-adds.
/// `x` is `[rows, inputs]`, `w_t` the transposed weight `[inputs, outputs]`.
#[inline(always)]
pub(crate) fn weighted_sums<T: Real>(x: &[T], inputs: usize, w_t: &[T], outputs: usize, out: &mut [T]) {
    let mut x_groups = x.chunks_exact(ROWS * inputs);
    let mut out_groups = out.chunks_exact_mut(ROWS * outputs);
    for (x, out) in x_groups.by_ref().zip(out_groups.by_ref()) {
        weighted_sums_of_rows::<T, ROWS>(x, inputs, w_t, outputs, out);
    }
    let rest_x = x_groups.remainder().chunks_exact(inputs);
    let rest_out = out_groups.into_remainder().chunks_exact_mut(outputs);
    for (x, out) in rest_x.zip(rest_out) {
        weighted_sums_of_rows::<T, 1>(x, inputs, w_t, outputs, out);
    }
}

#[inline(always)]
fn weighted_sums_of_rows<T: Real, const N: usize>(
    x: &[T],
    inputs: usize,
    w_t: &[T],
    outputs: usize,
    out: &mut [T],
) {
    let wide = outputs / LANES * LANES;
    for start in (0..inputs).step_by(SUM_BLOCK) {
        let end = (start + SUM_BLOCK).min(inputs);
        for j in (0..wide).step_by(LANES) {
            let mut sum = [[T::zero(); LANES]; N];
            for k in start..end {
                let w = &w_t[k * outputs + j..][..LANES];
                for r in 0..N {
                    let x = x[r * inputs + k];
                    for i in 0..LANES {
                        sum[r][i] += x * w[i];
                    }
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                let out = &mut out[r * outputs + j..][..LANES];
                for i in 0..LANES {
                    // 0 + sum is the sum, so the first block may be stored as it is.
                    out[i] = if start == 0 { sum[i] } else { out[i] + sum[i] };
                }
            }
        }
    }
    for j in wide..outputs {
        for r in 0..N {
            let mut total = T::zero();
            for start in (0..inputs).step_by(SUM_BLOCK) {
                let mut sum = T::zero();
                for k in start..(start + SUM_BLOCK).min(inputs) {
                    sum += x[r * inputs + k] * w_t[k * outputs + j];
                }
                total += sum;
            }
            out[r * outputs + j] = total;
        }
    }
}

/// One membrane update. `prev` is U before the step; returns U after it.
/// The reset follows the spike by one step and is a subtraction (snntorch's `Leaky`, reset by subtraction, delayed).
#[inline(always)]
pub(crate) fn membrane_step<T: Real>(prev: T, current: T, beta: T, threshold: T) -> T {
    let reset = if prev > threshold { threshold } else { T::zero() };
    (beta * prev + current) - reset
}

/// What a layer's neurons are made of, the leak clamped to [0, 1].
#[derive(Clone, Copy)]
pub(crate) struct Neurons<'a, T> {
    pub beta: &'a [T],
    pub threshold: &'a [T],
}

/// Turns the weighted sums of `steps` in `[steps, batch, n]` into membranes in place, going on from the membranes before them,
/// and notes what fired, 32 rows to a word. The first of `steps` begins a word.
#[inline(always)]
pub(crate) fn lif_forward<T: Real>(
    batch: usize,
    steps: Range<usize>,
    neurons: Neurons<'_, T>,
    bias: &[T],
    membrane: &mut [T],
    fired: &mut [u32],
) {
    let n = bias.len();
    fired[steps.start * batch / WORD * n..words(steps.end * batch, n)].fill(0);
    let step = batch * n;
    let rest = vec![T::zero(); if steps.start == 0 { n } else { 0 }];
    for t in steps {
        let (before, now) = membrane.split_at_mut(t * step);
        for b in 0..batch {
            let prev = if t == 0 { &rest[..] } else { &before[(t - 1) * step + b * n..][..n] };
            let now = &mut now[b * n..][..n];
            let row = t * batch + b;
            let (fired, bit) = (&mut fired[row / WORD * n..][..n], 1 << (row % WORD));
            let (beta, threshold, bias) = (&neurons.beta[..n], &neurons.threshold[..n], &bias[..n]);
            for i in 0..n {
                let u = membrane_step(prev[i], now[i] + bias[i], beta[i], threshold[i]);
                now[i] = u;
                fired[i] |= if u > threshold[i] { bit } else { 0 };
            }
        }
    }
}

/// Where [`lif_backward`] adds up the gradients of a layer's vectors.
pub(crate) struct LifGradients<'a, T> {
    pub bias: &'a mut [T],
    pub beta: &'a mut [T],
    pub threshold: &'a mut [T],
}

/// Backpropagation through `steps` of one layer's neurons, last step first. `grad` `[those steps, batch, n]` holds ∂L/∂S on
/// entry and ∂L/∂I on return; `carry` `[batch, n]` ∂L/∂U of the step after, zero at the end, then of the first of `steps`.
///
/// With g = surrogate(U_t − U_thr): ∂L/∂U_t = β·∂L/∂U_{t+1} + ∂L/∂S_t·g; the reset is a constant except for its own
/// factor U_thr. `truncate` cuts the path from step t to t − 1 where t is a multiple of it.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // one loop with all it touches; a struct would only rename the list
pub(crate) fn lif_backward<T: Real>(
    batch: usize,
    steps: Range<usize>,
    neurons: Neurons<'_, T>,
    membrane: &[T],
    grad: &mut [T],
    carry: &mut [T],
    sums: LifGradients<'_, T>,
    truncate: Option<usize>,
    derivative: impl Fn(T) -> T,
) {
    let n = neurons.beta.len();
    let step = batch * n;
    let rest = vec![T::zero(); if steps.start == 0 { n } else { 0 }];
    let first = steps.start;
    let (beta, threshold) = (&neurons.beta[..n], &neurons.threshold[..n]);
    let (g_bias, g_beta, g_threshold) = (&mut sums.bias[..n], &mut sums.beta[..n], &mut sums.threshold[..n]);
    for t in steps.rev() {
        for b in 0..batch {
            let prev = if t == 0 { &rest[..] } else { &membrane[(t - 1) * step + b * n..][..n] };
            let now = &membrane[t * step + b * n..][..n];
            let grad = &mut grad[(t - first) * step + b * n..][..n];
            let carry = &mut carry[b * n..][..n];
            for i in 0..n {
                let through_spike = grad[i] * derivative(now[i] - threshold[i]);
                let d_membrane = beta[i] * carry[i] + through_spike;
                let through_reset = if prev[i] > threshold[i] { d_membrane } else { T::zero() };
                g_threshold[i] -= through_spike + through_reset;
                g_beta[i] += d_membrane * prev[i];
                g_bias[i] += d_membrane;
                grad[i] = d_membrane;
                carry[i] = d_membrane;
            }
        }
        if truncate.is_some_and(|length| length > 0 && t % length == 0) {
            carry[..step].fill(T::zero());
        }
    }
}

/// `w_t[k, j] = w[j, k]`.
pub(crate) fn transpose<T: Copy>(w: &[T], outputs: usize, inputs: usize, w_t: &mut [T]) {
    for j in 0..outputs {
        for k in 0..inputs {
            w_t[k * outputs + j] = w[j * inputs + k];
        }
    }
}

/// The leak as the membrane uses it. NaN stays NaN, so that it is seen.
#[inline(always)]
pub(crate) fn clamped<T: Real>(beta: T) -> T {
    if beta < T::zero() {
        T::zero()
    } else if beta > T::one() {
        T::one()
    } else {
        beta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A neuron exactly at its threshold does not fire, and is not reset after.
    #[test]
    fn firing_is_strictly_above_the_threshold() {
        let neurons = Neurons { beta: &[1.0, 1.0], threshold: &[0.5, 0.5] };
        let (mut membrane, mut fired) = ([0.5f64, 0.5f64.next_up()], [9, 9]);
        lif_forward(1, 0..1, neurons, &[0.0, 0.0], &mut membrane, &mut fired);
        assert_eq!(fired, [0, 1]);
        assert_eq!(membrane_step(0.5, 0.0, 1.0, 0.5), 0.5);
        assert_eq!(membrane_step(0.75, 0.0, 1.0, 0.5), 0.25);
    }

    /// The spike shows at once, the subtraction one step later.
    #[test]
    fn the_reset_follows_the_spike_by_one_step() {
        let neurons = Neurons { beta: &[0.5], threshold: &[1.0] };
        let (mut membrane, mut fired) = ([2.0, 0.0, 0.0], [9]);
        lif_forward(1, 0..3, neurons, &[0.0], &mut membrane, &mut fired);
        assert_eq!((membrane, fired), ([2.0, 0.0, 0.0], [0b001]));
    }

    #[test]
    fn leaks_are_clamped_and_nan_is_kept() {
        assert_eq!([-0.5, 0.0, 0.3, 1.0, 7.0].map(clamped), [0.0, 0.0, 0.3, 1.0, 1.0]);
        assert!(clamped(f32::NAN).is_nan());
    }
}
