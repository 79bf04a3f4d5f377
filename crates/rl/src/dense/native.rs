//! The hand-written passes.
//!
//! Matrix products run on the calling thread in an order that does not depend on anything but the shapes, so results
//! are the same bits on one machine whatever the number of threads; they differ by rounding between machines.

use spikewing_snn::matrix::{Accumulate, Matrix, product, vectorized};

use super::{Activation, Dense, Layer, Scratch, Wanted};

pub(super) fn forward(network: &Dense, x: &[f32], scratch: &mut Scratch) {
    let rows = scratch.rows;
    for (i, layer) in network.layout().iter().enumerate() {
        let (before, now) = scratch.activations.split_at_mut(i);
        let below = before.last().map_or(x, Vec::as_slice);
        let out = &mut now[0];
        out.resize(rows * layer.outputs, 0.0);
        let weight = &network.parameters[layer.weight.clone()];
        product(
            rows,
            layer.outputs,
            layer.inputs,
            Matrix::row_major(below, layer.inputs),
            Matrix::row_major(weight, layer.outputs),
            out,
            Accumulate::No,
        );
        add_bias_and_activate(out, &network.parameters[layer.bias.clone()], layer.activation);
    }
}

pub(super) fn backward(
    network: &Dense,
    x: &[f32],
    output_gradient: &[f32],
    scratch: &mut Scratch,
    mut wanted: Wanted<'_>,
) {
    let Scratch { rows, activations, here, below, input_gradient } = scratch;
    let rows = *rows;
    here.clear();
    here.extend_from_slice(output_gradient);
    for (i, layer) in network.layout().iter().enumerate().rev() {
        let bias = wanted.parameters.as_deref_mut().map(|g| &mut g[layer.bias.clone()]);
        through_activation(here, &activations[i], bias, layer.activation);
        let inputs = if i == 0 { x } else { activations[i - 1].as_slice() };
        if let Some(gradients) = wanted.parameters.as_deref_mut() {
            // ∂L/∂W = Σ over rows of what came in ⊗ ∂L/∂z.
            product(
                layer.inputs,
                layer.outputs,
                rows,
                Matrix::row_major(inputs, layer.inputs).transposed(),
                Matrix::row_major(here, layer.outputs),
                &mut gradients[layer.weight.clone()],
                Accumulate::Yes,
            );
        }
        if i > 0 {
            below.resize(rows * layer.inputs, 0.0);
            input_gradient_of(network, layer, rows, here, 0..layer.inputs, below);
            std::mem::swap(here, below);
        } else {
            input_gradient.resize(rows * wanted.inputs.len(), 0.0);
            input_gradient_of(network, layer, rows, here, wanted.inputs.clone(), input_gradient);
        }
    }
}

/// ∂L/∂x = ∂L/∂z Wᵀ, for some of the inputs.
fn input_gradient_of(
    network: &Dense,
    layer: &Layer,
    rows: usize,
    here: &[f32],
    columns: std::ops::Range<usize>,
    out: &mut [f32],
) {
    let weight = &network.parameters[layer.weight.clone()];
    let part = &weight[columns.start * layer.outputs..columns.end * layer.outputs];
    product(
        rows,
        columns.len(),
        layer.outputs,
        Matrix::row_major(here, layer.outputs),
        Matrix::row_major(part, layer.outputs).transposed(),
        out,
        Accumulate::No,
    );
}

fn add_bias_and_activate(z: &mut [f32], bias: &[f32], activation: Activation) {
    match activation {
        Activation::Identity => map_rows(z, bias, |z| z),
        Activation::Relu => map_rows(z, bias, |z| z.max(0.0)),
        Activation::Tanh => map_rows(z, bias, tanh),
    }
}

#[inline(always)]
fn map_rows(z: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in z.chunks_exact_mut(bias.len()) {
                for (z, b) in row.iter_mut().zip(bias) {
                    *z = f(*z + b);
                }
            }
        },
    );
}

/// ∂L/∂h becomes ∂L/∂z in place; its sum over rows is added to the bias's gradient.
fn through_activation(grad: &mut [f32], h: &[f32], bias: Option<&mut [f32]>, activation: Activation) {
    match activation {
        Activation::Identity => scale_rows(grad, h, bias, |_| 1.0),
        Activation::Relu => scale_rows(grad, h, bias, |h| if h > 0.0 { 1.0 } else { 0.0 }),
        Activation::Tanh => scale_rows(grad, h, bias, |h| 1.0 - h * h),
    }
}

#[inline(always)]
fn scale_rows(grad: &mut [f32], h: &[f32], bias: Option<&mut [f32]>, derivative: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || match bias {
            None => {
                for (g, &h) in grad.iter_mut().zip(h) {
                    *g *= derivative(h);
                }
            }
            Some(bias) => {
                let n = bias.len();
                for (g, h) in grad.chunks_exact_mut(n).zip(h.chunks_exact(n)) {
                    for ((g, &h), sum) in g.iter_mut().zip(h).zip(bias.iter_mut()) {
                        *g *= derivative(h);
                        *sum += *g;
                    }
                }
            }
        },
    );
}

/// tanh by (1 − e)/(1 + e) with e = exp(−2|x|), the exponential by a polynomial: no branch, so a whole vector at once.
/// Within 2e-7 of the true value.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // exp(−2|x|) = 2^(−n) · 2^f with n whole and |f| ≤ ½.
    let y = (-2.0 * std::f32::consts::LOG2_E * x.abs()).max(-64.0);
    // Adding and subtracting 1.5·2²³ rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let n = (y + ROUND) - ROUND;
    let f = (y - n) * std::f32::consts::LN_2;
    let mut p = 1.0 / 720.0;
    p = p * f + 1.0 / 120.0;
    p = p * f + 1.0 / 24.0;
    p = p * f + 1.0 / 6.0;
    p = p * f + 0.5;
    p = p * f + 1.0;
    p = p * f + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) << 23) as u32);
    let e = p * scale;
    ((1.0 - e) / (1.0 + e)).copysign(x)
}
