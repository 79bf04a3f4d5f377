//! Sums over the neurons that fired. A neuron that did not fire would add 0, which changes no sum, so it is left out; one
//! that did adds its weight, and no multiplication is left.
//!
//! Two forms of "what fired": a list of indices for one step (flight), and bits for many rows (training), 32 rows to a word,
//! `[rows / 32, neurons]`, so that a neuron's weights are read once for 32 rows.
//!
//! Sums follow the order that [`kernels`](crate::kernels) defines, so both forms agree to the last bit with each other and
//! with [`weighted_sums`](crate::kernels::weighted_sums) of zeros and ones.

use crate::Real;
use crate::kernels::SUM_BLOCK;

/// Rows to a word.
pub(crate) const WORD: usize = 32;

/// Words for `rows` of `neurons`.
pub(crate) fn words(rows: usize, neurons: usize) -> usize {
    rows.div_ceil(WORD) * neurons
}

/// Runs `$f::<T, WIDTH>($at, …)` over columns `0..$n`, in panels as wide as registers allow.
macro_rules! in_panels {
    ($n:expr, $f:ident::<$t:ty>($at:ident, $($argument:expr),*)) => {{
        let mut $at = 0;
        while $n - $at >= 64 { $f::<$t, 64>($at, $($argument),*); $at += 64; }
        while $n - $at >= 16 { $f::<$t, 16>($at, $($argument),*); $at += 16; }
        while $n - $at >= 4 { $f::<$t, 4>($at, $($argument),*); $at += 4; }
        while $n > $at { $f::<$t, 1>($at, $($argument),*); $at += 1; }
    }};
}

#[inline(always)]
fn panel<T, const W: usize>(data: &[T], at: usize) -> &[T; W] {
    // Always long enough: callers step in panels through whole rows.
    match data[at..].first_chunk() {
        Some(panel) => panel,
        None => unreachable!("a panel lies inside its row"),
    }
}

#[inline(always)]
fn panel_mut<T, const W: usize>(data: &mut [T], at: usize) -> &mut [T; W] {
    match data[at..].first_chunk_mut() {
        Some(panel) => panel,
        None => unreachable!("a panel lies inside its row"),
    }
}

#[inline(always)]
fn add<T: Real, const W: usize>(to: &mut [T; W], from: &[T; W]) {
    for i in 0..W {
        to[i] += from[i];
    }
}

/// One step: `out[j] = Σ w_t[k, j]` over the rising indices k in `fired`. `w_t` is `[inputs, outputs]`.
#[inline(always)]
pub(crate) fn sums_of_fired<T: Real>(fired: &[u32], w_t: &[T], out: &mut [T]) {
    let n = out.len();
    in_panels!(n, panel_of_fired::<T>(at, fired, w_t, n, out));
}

#[inline(always)]
fn panel_of_fired<T: Real, const W: usize>(at: usize, fired: &[u32], w_t: &[T], n: usize, out: &mut [T]) {
    let mut total = [T::zero(); W];
    let mut rest = fired;
    let mut end = SUM_BLOCK;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.partition_point(|&k| (k as usize) < end));
        let mut sum = [T::zero(); W];
        for &k in now {
            add(&mut sum, panel(w_t, k as usize * n + at));
        }
        add(&mut total, &sum);
        (rest, end) = (later, end + SUM_BLOCK);
    }
    *panel_mut(out, at) = total;
}

/// Many rows: `out[r, j] = Σ w_t[k, j]` over the neurons k that fired in row r.
#[inline(always)]
pub(crate) fn sums_of_spikes<T: Real>(
    fired: &[u32],
    w_t: &[T],
    inputs: usize,
    outputs: usize,
    out: &mut [T],
) {
    for (fired, out) in fired.chunks_exact(inputs).zip(out.chunks_mut(WORD * outputs)) {
        in_panels!(outputs, panel_of_spikes::<T>(at, fired, w_t, outputs, out));
    }
}

#[inline(always)]
fn panel_of_spikes<T: Real, const W: usize>(at: usize, fired: &[u32], w_t: &[T], n: usize, out: &mut [T]) {
    let mut total = [[T::zero(); W]; WORD];
    for (block, fired) in fired.chunks(SUM_BLOCK).enumerate() {
        // The first block may be summed in place: 0 + sum is the sum.
        let mut sums = [[T::zero(); W]; WORD];
        let sums = if block == 0 { &mut total } else { &mut sums };
        for (k, &fired) in fired.iter().enumerate() {
            let w: &[T; W] = panel(w_t, (block * SUM_BLOCK + k) * n + at);
            let mut bits = fired;
            while bits != 0 {
                add(&mut sums[bits.trailing_zeros() as usize % WORD], w);
                bits &= bits - 1;
            }
        }
        if block > 0 {
            let sums = *sums;
            total.iter_mut().zip(&sums).for_each(|(total, sum)| add(total, sum));
        }
    }
    for (row, total) in out.chunks_exact_mut(n).zip(&total) {
        *panel_mut(row, at) = *total;
    }
}

/// The gradient of spiking inputs' weights: `out[k, j] += Σ d[r, j]` over the rows r in which neuron k fired.
/// `d` is `[rows, outputs]`, `out` `[inputs, outputs]`.
#[inline(always)]
pub(crate) fn add_where_fired<T: Real>(fired: &[u32], d: &[T], inputs: usize, outputs: usize, out: &mut [T]) {
    in_panels!(outputs, panel_where_fired::<T>(at, fired, d, inputs, outputs, out));
}

#[inline(always)]
fn panel_where_fired<T: Real, const W: usize>(
    at: usize,
    fired: &[u32],
    d: &[T],
    inputs: usize,
    n: usize,
    out: &mut [T],
) {
    for (fired, d) in fired.chunks_exact(inputs).zip(d.chunks(WORD * n)) {
        for (out, &fired) in out.chunks_exact_mut(n).zip(fired) {
            let out: &mut [T; W] = panel_mut(out, at);
            let mut sum = *out;
            let mut bits = fired;
            while bits != 0 {
                add(&mut sum, panel(d, bits.trailing_zeros() as usize * n + at));
                bits &= bits - 1;
            }
            *out = sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::weighted_sums;
    use crate::matrix::vectorized;

    struct Case {
        inputs: usize,
        outputs: usize,
        /// Zeros and ones, `[rows, inputs]`.
        x: Vec<f32>,
        fired: Vec<u32>,
        w: Vec<f32>,
    }

    fn cases() -> impl Iterator<Item = (usize, Case)> {
        let mut seed = 1u32;
        let sizes = [
            (1, 90, 1),
            (5, 90, 40),
            (9, 256, 128),
            (100, 256, 128),
            (65, 257, 33),
            (40, 1100, 70),
            (33, 3, 4),
        ];
        sizes.into_iter().map(move |(rows, inputs, outputs)| {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 8
            };
            let x: Vec<f32> = (0..rows * inputs).map(|_| f32::from(u8::from(next() % 5 == 0))).collect();
            let w = (0..inputs * outputs).map(|_| next() as f32 / 8e6 - 1.0).collect();
            let mut fired = vec![0; words(rows, inputs)];
            for (i, _) in x.iter().enumerate().filter(|(_, s)| **s == 1.0) {
                let (row, k) = (i / inputs, i % inputs);
                fired[row / WORD * inputs + k] |= 1 << (row % WORD);
            }
            (rows, Case { inputs, outputs, x, fired, w })
        })
    }

    /// Lists, bits and plain sums of zeros and ones agree to the bit, with and without wide vectors.
    #[test]
    fn sums_of_what_fired_follow_the_defined_order() {
        for (rows, Case { inputs, outputs, x, fired, w }) in cases() {
            let mut plain = vec![f32::NAN; rows * outputs];
            weighted_sums(&x, inputs, &w, outputs, &mut plain);
            let mut by_bits = vec![f32::NAN; rows * outputs];
            vectorized(|| sums_of_spikes(&fired, &w, inputs, outputs, &mut by_bits));
            let mut by_list = vec![f32::NAN; rows * outputs];
            for (x, out) in x.chunks_exact(inputs).zip(by_list.chunks_exact_mut(outputs)) {
                let list: Vec<u32> = (0..inputs as u32).filter(|&k| x[k as usize] == 1.0).collect();
                sums_of_fired(&list, &w, out);
            }
            for other in [by_bits, by_list] {
                let same = plain.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{rows}x{inputs}x{outputs}");
            }
        }
    }

    #[test]
    fn weight_gradients_are_the_outer_products() {
        for (rows, Case { inputs, outputs, x, fired, w }) in cases() {
            let d: Vec<f32> = (0..rows * outputs).map(|i| w[i % w.len()]).collect();
            let mut got = vec![0.5f32; inputs * outputs];
            vectorized(|| add_where_fired(&fired, &d, inputs, outputs, &mut got));
            for k in 0..inputs {
                for j in 0..outputs {
                    let terms = (0..rows).map(|r| f64::from(x[r * inputs + k] * d[r * outputs + j]));
                    let want = 0.5 + terms.sum::<f64>();
                    assert!(
                        (f64::from(got[k * outputs + j]) - want).abs() < 1e-4,
                        "{rows}x{inputs}x{outputs}"
                    );
                }
            }
        }
    }
}
