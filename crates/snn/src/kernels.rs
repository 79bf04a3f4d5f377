//! The inner loops.
//!
//! # Why sums have a fixed order
//! A spike is a comparison, so one bit of rounding can turn into a spike more or less, and later into another flight.
//! Therefore the current of every neuron is *defined* as
//!
//! `I_j = (Σ over blocks of 256 inputs of (((0 + x_0·w_0j) + x_1·w_1j) + …)) + b_j`
//!
//! with every product and every sum rounded once, and the membrane as `(β·U + I) − R·U_thr`. Training and flight both
//! compute exactly this, on every machine, whatever its vector width. Spikes are 0 or 1, so a fused multiply-add of a
//! spike and a weight rounds like a plain addition: that is why the spiking layers may use a fast matrix product and
//! still agree to the last bit with flight, which only adds the columns of the neurons that fired.
//! Gradients have no such definition: they are deterministic on one machine, and differ by rounding between machines.

use crate::Real;
use gemm::Parallelism;

/// Inputs summed before the sum is added to the total. Below every depth at which the matrix product splits its sums.
pub(crate) const SUM_BLOCK: usize = 256;

const LANES: usize = 32;
const ROWS: usize = 4;

/// Runs `f` compiled for the widest vector unit this machine has.
#[inline(always)]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Op(f))
}

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

/// As [`weighted_sums`] for `x` of zeros and ones, where a matrix product gives the same bits.
pub(crate) fn spike_sums<T: Real>(x: &[T], inputs: usize, w_t: &[T], outputs: usize, out: &mut [T]) {
    let rows = out.len() / outputs;
    // Narrow products take other routes in `gemm`, which sum in another order.
    if rows < 8 || outputs < 4 || inputs <= 2 {
        return vectorized(
            #[inline(always)]
            || weighted_sums(x, inputs, w_t, outputs, out),
        );
    }
    for start in (0..inputs).step_by(SUM_BLOCK) {
        let depth = SUM_BLOCK.min(inputs - start);
        let accumulate = if start == 0 { Accumulate::No } else { Accumulate::Yes };
        let lhs = Matrix { data: &x[start..], row_stride: inputs, column_stride: 1 };
        let rhs = Matrix { data: &w_t[start * outputs..], row_stride: outputs, column_stride: 1 };
        product(rows, outputs, depth, lhs, rhs, out, accumulate);
    }
}

/// A strided matrix for [`product`].
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    pub(crate) fn row_major(data: &'a [T], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }
    pub(crate) fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }
    fn last(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride
    }
}

/// Whether a product is added to what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accumulate {
    Yes,
    No,
}

/// `out (+)= lhs·rhs`, `out` row-major `[rows, columns]`, on the calling thread.
pub(crate) fn product<T: Real>(
    rows: usize,
    columns: usize,
    depth: usize,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    out: &mut [T],
    accumulate: Accumulate,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(out.len() >= rows * columns, "the product does not fit its destination");
    if depth == 0 {
        if accumulate == Accumulate::No {
            out[..rows * columns].fill(T::zero());
        }
        return;
    }
    assert!(lhs.last(rows, depth) < lhs.data.len(), "left factor too short");
    assert!(rhs.last(depth, columns) < rhs.data.len(), "right factor too short");
    // SAFETY: the assertions above keep every address the product touches inside its slice; strides of live slices fit
    // isize; `out` is borrowed exclusively, so it does not overlap the factors.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            accumulate == Accumulate::Yes,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// One membrane update. `prev` is U before the step; returns U after it.
/// The reset follows the spike by one step and is a subtraction (snntorch's `Leaky`, reset by subtraction, delayed).
#[inline(always)]
pub(crate) fn membrane_step<T: Real>(prev: T, current: T, beta: T, threshold: T) -> T {
    let reset = if prev > threshold { threshold } else { T::zero() };
    (beta * prev + current) - reset
}

#[inline(always)]
pub(crate) fn spike<T: Real>(membrane: T, threshold: T) -> T {
    if membrane > threshold { T::one() } else { T::zero() }
}

/// What a layer's neurons are made of, the leak clamped to [0, 1].
#[derive(Clone, Copy)]
pub(crate) struct Neurons<'a, T> {
    pub beta: &'a [T],
    pub threshold: &'a [T],
}

/// Turns weighted sums `[steps, batch, n]` into membranes in place and writes the spikes.
#[inline(always)]
pub(crate) fn lif_forward<T: Real>(
    batch: usize,
    neurons: Neurons<'_, T>,
    bias: &[T],
    membrane: &mut [T],
    spikes: &mut [T],
) {
    let n = bias.len();
    let step = batch * n;
    let rest = vec![T::zero(); n];
    for t in 0..membrane.len() / step {
        let (before, now) = membrane.split_at_mut(t * step);
        for b in 0..batch {
            let prev = if t == 0 { &rest[..] } else { &before[(t - 1) * step + b * n..][..n] };
            let now = &mut now[b * n..][..n];
            let out = &mut spikes[t * step + b * n..][..n];
            let (beta, threshold, bias) = (&neurons.beta[..n], &neurons.threshold[..n], &bias[..n]);
            for i in 0..n {
                let u = membrane_step(prev[i], now[i] + bias[i], beta[i], threshold[i]);
                now[i] = u;
                out[i] = spike(u, threshold[i]);
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

/// Backpropagation through the neurons of one layer, last step first. `grad` holds ∂L/∂S on entry and ∂L/∂I on return.
///
/// With g = surrogate(U_t − U_thr): ∂L/∂U_t = β·∂L/∂U_{t+1} + ∂L/∂S_t·g; the reset is a constant except for its own
/// factor U_thr. `truncate` cuts the path from step t to t − 1 where t is a multiple of it.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // one loop with all it touches; a struct would only rename the list
pub(crate) fn lif_backward<T: Real>(
    batch: usize,
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
    let rest = vec![T::zero(); n];
    carry[..step].fill(T::zero());
    let (beta, threshold) = (&neurons.beta[..n], &neurons.threshold[..n]);
    let (g_bias, g_beta, g_threshold) = (&mut sums.bias[..n], &mut sums.beta[..n], &mut sums.threshold[..n]);
    for t in (0..membrane.len() / step).rev() {
        for b in 0..batch {
            let prev = if t == 0 { &rest[..] } else { &membrane[(t - 1) * step + b * n..][..n] };
            let now = &membrane[t * step + b * n..][..n];
            let grad = &mut grad[t * step + b * n..][..n];
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

/// Spikes of membranes `[rows, n]`.
#[inline(always)]
pub(crate) fn spikes_of<T: Real>(membrane: &[T], threshold: &[T], spikes: &mut [T]) {
    let n = threshold.len();
    for (u, s) in membrane.chunks_exact(n).zip(spikes.chunks_exact_mut(n)) {
        for i in 0..n {
            s[i] = spike(u[i], threshold[i]);
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
        assert_eq!((spike(0.5, 0.5), spike(0.5f64.next_up(), 0.5)), (0.0, 1.0));
        assert_eq!(membrane_step(0.5, 0.0, 1.0, 0.5), 0.5);
        assert_eq!(membrane_step(0.75, 0.0, 1.0, 0.5), 0.25);
    }

    /// The spike shows at once, the subtraction one step later.
    #[test]
    fn the_reset_follows_the_spike_by_one_step() {
        let neurons = Neurons { beta: &[0.5], threshold: &[1.0] };
        let (mut membrane, mut spikes) = ([2.0, 0.0, 0.0], [9.0; 3]);
        lif_forward(1, neurons, &[0.0], &mut membrane, &mut spikes);
        assert_eq!((membrane, spikes), ([2.0, 0.0, 0.0], [1.0, 0.0, 0.0]));
    }

    /// For zeros and ones the matrix product and the plain sums agree to the bit, in every blocking.
    #[test]
    fn products_of_spikes_sum_in_the_defined_order() {
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let sizes = [
            (1, 90, 1),
            (5, 90, 40),
            (8, 3, 4),
            (9, 256, 128),
            (800, 256, 128),
            (65, 257, 33),
            (40, 1100, 70),
        ];
        for (rows, inputs, outputs) in sizes {
            let x: Vec<f32> = (0..rows * inputs).map(|_| f32::from(u8::from(next() % 5 == 0))).collect();
            let w: Vec<f32> = (0..inputs * outputs).map(|_| next() as f32 / 8e6 - 1.0).collect();
            let (mut fast, mut plain) = (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
            spike_sums(&x, inputs, &w, outputs, &mut fast);
            weighted_sums(&x, inputs, &w, outputs, &mut plain);
            let same = fast.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{rows}x{inputs}x{outputs}");
        }
    }

    #[test]
    fn leaks_are_clamped_and_nan_is_kept() {
        assert_eq!([-0.5, 0.0, 0.3, 1.0, 7.0].map(clamped), [0.0, 0.0, 0.3, 1.0, 1.0]);
        assert!(clamped(f32::NAN).is_nan());
    }
}
