//! Backpropagation through time.

use crate::forward::{CHUNK, ChunkTrace, Prepared, blocks, largest_block};
use crate::kernels::{LifGradients, lif_backward, transpose};
use crate::matrix::{Accumulate, Matrix, product, vectorized};
use crate::sparse::{WORD, add_where_fired, words};
use crate::surrogate::{arc_tan, fast_sigmoid, sigmoid, triangular};
use crate::{Network, ParameterName, Real, SnnError, Surrogate, Trace};
use ndarray::{Array3, ArrayView2, ArrayView3, s};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Whether ∂L/∂input is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputGradient {
    /// Not computed.
    #[default]
    Skip,
    /// Computed, `[steps, batch, inputs]`.
    Compute,
}

/// How to go backwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackwardOptions<T> {
    /// Stand-in for the spike's derivative.
    pub surrogate: Surrogate,
    /// Its slope k, 1 (shallow) to 100 (steep).
    pub slope: T,
    /// Steps before this one contribute no loss (warm-up): their action gradients are ignored. The gradient of later
    /// steps still flows back through them.
    pub first_step: usize,
    /// Cuts the gradient's path through the membranes at every multiple of this many steps.
    pub truncate: Option<usize>,
    /// Whether to compute the gradient with respect to the input.
    pub input_gradient: InputGradient,
}

impl<T: Real> BackwardOptions<T> {
    /// Fast sigmoid with slope `k`, loss from the first step, no truncation, no input gradient.
    pub fn new(k: T) -> Self {
        Self {
            surrogate: Surrogate::FastSigmoid,
            slope: k,
            first_step: 0,
            truncate: None,
            input_gradient: InputGradient::Skip,
        }
    }
}

/// ∂L/∂θ in the form of the network, and ∂L/∂input where asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients<T: Real> {
    /// One gradient per parameter, in the parameter's own place.
    pub parameters: Network<T>,
    /// `[steps, batch, inputs]`.
    pub input: Option<Array3<T>>,
}

impl<T: Real> Gradients<T> {
    /// Zero gradients for `network`.
    pub fn zeros_like(network: &Network<T>) -> Self {
        Self { parameters: network.zeros_like(), input: None }
    }

    /// Adds other gradients of the parameters.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when they are of a network of another shape.
    pub fn add(&mut self, other: &Self) -> Result<(), SnnError> {
        self.parameters.require_shape_of(&other.parameters)?;
        for ((_, to), (_, from)) in
            self.parameters.parameters_mut().into_iter().zip(other.parameters.parameters())
        {
            for (to, &from) in to.iter_mut().zip(from) {
                *to += from;
            }
        }
        Ok(())
    }

    /// Euclidean norm of all parameter gradients together.
    pub fn norm(&self) -> T {
        let mut sum = 0.0;
        for (_, values) in self.parameters.parameters() {
            sum += values.iter().map(|g| g.to_f64_exact() * g.to_f64_exact()).sum::<f64>();
        }
        T::of(sum.sqrt())
    }

    /// Cosine between the weights' gradients here and in others of the same shape, for each linear layer; not a number where
    /// one of the two vanishes.
    pub fn cosines(&self, other: &Self) -> Vec<f64> {
        let pairs = self.parameters.linear().iter().zip(other.parameters.linear());
        pairs
            .map(|(a, b)| {
                let (a, b) = (a.weight(), b.weight());
                let product = |(a, b): (&T, &T)| a.to_f64_exact() * b.to_f64_exact();
                let dot = a.iter().zip(&b).map(product).sum::<f64>();
                let squares = |w: &ArrayView2<'_, T>| w.iter().zip(w).map(product).sum::<f64>();
                dot / (squares(&a) * squares(&b)).sqrt()
            })
            .collect()
    }
}

/// Buffers of the backward pass, kept between calls.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    chunks: Vec<ChunkGradients<T>>,
    scratch: Mutex<Vec<Scratch<T>>>,
    total: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// Empty; the first pass sizes it.
    pub fn new() -> Self {
        Self { chunks: Vec::new(), scratch: Mutex::new(Vec::new()), total: Vec::new() }
    }
}

/// One chunk's share: parameter gradients flat in parameter order, those of weights behind spikes transposed; input gradient
/// `[steps, batch, inputs]`.
#[derive(Debug, Default)]
pub(crate) struct ChunkGradients<T> {
    pub flat: Vec<T>,
    pub input: Vec<T>,
}

/// For one block of steps.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    /// Gradient at the current layer's output, then at its current.
    here: Vec<T>,
    /// Gradient at the layer below.
    below: Vec<T>,
    /// Per spiking layer, gradient at the membranes of the block after this one.
    carry: Vec<Vec<T>>,
}

impl<T: Real> Network<T> {
    /// Gradients of a loss whose derivative with respect to the actions is `grad_actions` `[steps, batch, outputs]`, at
    /// the parameters that made `trace`.
    ///
    /// Deterministic: the sums run in an order that does not depend on the number of threads.
    ///
    /// # Errors
    /// [`SnnError`] when the trace is of a network of another shape or `grad_actions` of other dimensions.
    pub fn backward(
        &self,
        trace: &Trace<T>,
        grad_actions: ArrayView3<'_, T>,
        options: &BackwardOptions<T>,
    ) -> Result<Gradients<T>, SnnError> {
        let mut gradients = Gradients::zeros_like(self);
        self.backward_into(trace, grad_actions, options, &mut Workspace::new(), &mut gradients)?;
        Ok(gradients)
    }

    /// As [`Network::backward`], with buffers that are reused; `gradients` is overwritten.
    ///
    /// # Errors
    /// As [`Network::backward`].
    pub fn backward_into(
        &self,
        trace: &Trace<T>,
        grad_actions: ArrayView3<'_, T>,
        options: &BackwardOptions<T>,
        workspace: &mut Workspace<T>,
        gradients: &mut Gradients<T>,
    ) -> Result<(), SnnError> {
        self.require_shape_of(&gradients.parameters)?;
        let shape = self.shape();
        if shape != trace.shape {
            let (left, right) = (shape.to_string(), trace.shape.to_string());
            return Err(SnnError::ShapeMismatch { left, right });
        }
        let expected = trace.actions().dim();
        if grad_actions.dim() != expected {
            return Err(SnnError::ShapeMismatch {
                left: format!("actions {expected:?}"),
                right: format!("gradient of the actions {:?}", grad_actions.dim()),
            });
        }
        workspace.chunks.resize_with(trace.chunks.len(), ChunkGradients::default);
        let Workspace { chunks, scratch, total } = workspace;
        let scratch = &*scratch;
        let ranges = layer_ranges(&trace.prepared);
        let length = self.parameter_count();
        let widest = shape.widths().into_iter().max().unwrap_or(0);
        let linear: Vec<&[T]> = self.linear().iter().map(|l| l.weight.as_slice()).collect();

        chunks.par_iter_mut().zip(&trace.chunks).for_each(|(out, chunk)| {
            let lock = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let mut buffers = lock().pop().unwrap_or_default();
            buffers.size_for(largest_block(trace.steps, chunk.batch) * widest, CHUNK, &shape.hidden);
            out.flat.clear();
            out.flat.resize(length, T::zero());
            let pass = Pass { layers: &trace.prepared, weights: &linear, ranges: &ranges, options };
            if options.input_gradient == InputGradient::Compute {
                out.input.resize(chunk.input.len(), T::zero());
            }
            for block in blocks(trace.steps, chunk.batch).rev() {
                pass.run(chunk, block, &grad_actions, &mut buffers, out);
            }
            lock().push(buffers);
        });
        reduce(chunks, self, total, &mut gradients.parameters);
        gather_input_gradient(chunks, trace, options.input_gradient, &mut gradients.input);
        Ok(())
    }
}

/// Where a layer's gradients lie in the flat buffer.
pub(crate) struct LayerRanges {
    weight: Range<usize>,
    bias: Range<usize>,
    beta: Range<usize>,
    threshold: Range<usize>,
}

pub(crate) fn layer_ranges<T>(layers: &[Prepared<T>]) -> Vec<LayerRanges> {
    let mut at = 0;
    let mut next = |length: usize| {
        at += length;
        at - length..at
    };
    layers
        .iter()
        .map(|layer| LayerRanges {
            weight: next(layer.weight_t.len()),
            bias: next(layer.bias.len()),
            beta: next(layer.beta.len()),
            threshold: next(layer.threshold.len()),
        })
        .collect()
}

impl<T: Real> Scratch<T> {
    /// For blocks of so many numbers, and the membranes of `batch` sequences, whose gradients start at zero.
    pub(crate) fn size_for(&mut self, rows_by_width: usize, batch: usize, hidden: &[usize]) {
        for buffer in [&mut self.here, &mut self.below] {
            buffer.resize(rows_by_width.max(buffer.len()), T::zero());
        }
        self.carry.resize(hidden.len(), Vec::new());
        for (carry, neurons) in self.carry.iter_mut().zip(hidden) {
            carry.clear();
            carry.resize(batch * neurons, T::zero());
        }
    }
}

pub(crate) struct Pass<'a, T: Real> {
    pub layers: &'a [Prepared<T>],
    /// Row-major `[outputs, inputs]`.
    pub weights: &'a [&'a [T]],
    pub ranges: &'a [LayerRanges],
    pub options: &'a BackwardOptions<T>,
}

impl<T: Real> Pass<'_, T> {
    /// One block of `steps`, the blocks after it being done.
    pub fn run(
        &self,
        chunk: &ChunkTrace<T>,
        steps: Range<usize>,
        grad_actions: &ArrayView3<'_, T>,
        scratch: &mut Scratch<T>,
        out: &mut ChunkGradients<T>,
    ) {
        let last = self.layers.len() - 1;
        let (first_row, rows) = (steps.start * chunk.batch, steps.len() * chunk.batch);
        // The decoder has no memory: before `first_step` nothing arrives, so those rows are left out of its products.
        let first_step = self.options.first_step.clamp(steps.start, steps.end);
        let mut skipped = (first_step - steps.start) * chunk.batch;
        let grad_bias = &mut out.flat[self.ranges[last].bias.clone()];
        self.through_tanh(chunk, first_step..steps.end, skipped, grad_actions, &mut scratch.here, grad_bias);
        for i in (0..=last).rev() {
            let layer = &self.layers[i];
            let (n_in, n_out) = (layer.inputs, layer.outputs);
            let used = rows - skipped;
            let d = Matrix::row_major(&scratch.here[skipped * n_out..rows * n_out], n_out);
            // ∂L/∂W = Σ over rows of ∂L/∂I ⊗ what came in.
            let grad_weight = &mut out.flat[self.ranges[i].weight.clone()];
            let w = Matrix::row_major(self.weights[i], n_in);
            let Some(below) = i.checked_sub(1) else {
                let rows = first_row * n_in..(first_row + rows) * n_in;
                let x = Matrix::row_major(&chunk.input[rows.start..], n_in);
                product(n_out, n_in, used, d.transposed(), x, grad_weight, Accumulate::Yes);
                if self.options.input_gradient == InputGradient::Compute {
                    product(used, n_in, n_out, d, w, &mut out.input[rows], Accumulate::No);
                }
                return;
            };
            // Whole words: rows before the first one used hold zeros.
            let word = skipped / WORD;
            let fired = &chunk.fired[below][(first_row / WORD + word) * n_in..words(first_row + rows, n_in)];
            let d_words = &scratch.here[word * WORD * n_out..rows * n_out];
            vectorized(
                #[inline(always)]
                || add_where_fired(fired, d_words, n_in, n_out, grad_weight),
            );
            scratch.below[..skipped * n_in].fill(T::zero());
            product(used, n_in, n_out, d, w, &mut scratch.below[skipped * n_in..], Accumulate::No);
            skipped = 0;
            let grad = &mut scratch.below[..rows * n_in];
            self.through_neurons(below, chunk, steps.clone(), grad, &mut scratch.carry[below], &mut out.flat);
            std::mem::swap(&mut scratch.here, &mut scratch.below);
        }
    }

    /// ∂L/∂z = ∂L/∂a·(1 − a²) of `steps` into `here`, after `skipped` rows of zeros, and its sum over rows into `grad_bias`.
    fn through_tanh(
        &self,
        chunk: &ChunkTrace<T>,
        steps: Range<usize>,
        skipped: usize,
        grad_actions: &ArrayView3<'_, T>,
        here: &mut [T],
        grad_bias: &mut [T],
    ) {
        let n = grad_bias.len();
        let actions = &chunk.output[steps.start * chunk.batch * n..steps.end * chunk.batch * n];
        let part = grad_actions.slice(s![steps, chunk.first..chunk.first + chunk.batch, ..]);
        here[..skipped * n].fill(T::zero());
        let rows = here[skipped * n..].iter_mut().zip(actions);
        for (i, (&g, (d, &a))) in part.into_iter().zip(rows).enumerate() {
            *d = g * (T::one() - a * a);
            grad_bias[i % n] += *d;
        }
    }

    fn through_neurons(
        &self,
        i: usize,
        chunk: &ChunkTrace<T>,
        steps: Range<usize>,
        grad: &mut [T],
        carry: &mut [T],
        flat: &mut [T],
    ) {
        let k = self.options.slope;
        match self.options.surrogate {
            Surrogate::FastSigmoid => self.neurons_with(
                i,
                chunk,
                steps,
                grad,
                carry,
                flat,
                #[inline(always)]
                |x| fast_sigmoid(x, k),
            ),
            Surrogate::ArcTan => self.neurons_with(
                i,
                chunk,
                steps,
                grad,
                carry,
                flat,
                #[inline(always)]
                |x| arc_tan(x, k),
            ),
            Surrogate::Sigmoid => self.neurons_with(
                i,
                chunk,
                steps,
                grad,
                carry,
                flat,
                #[inline(always)]
                |x| sigmoid(x, k),
            ),
            Surrogate::Triangular => self.neurons_with(
                i,
                chunk,
                steps,
                grad,
                carry,
                flat,
                #[inline(always)]
                |x| triangular(x, k),
            ),
        }
    }

    #[allow(clippy::too_many_arguments)] // those of through_neurons, and the curve
    fn neurons_with(
        &self,
        i: usize,
        chunk: &ChunkTrace<T>,
        steps: Range<usize>,
        grad: &mut [T],
        carry: &mut [T],
        flat: &mut [T],
        derivative: impl Fn(T) -> T,
    ) {
        let ranges = &self.ranges[i];
        // The three lie next to each other: bias, beta, threshold.
        let (bias, rest) = flat[ranges.bias.start..ranges.threshold.end].split_at_mut(ranges.bias.len());
        let (beta, threshold) = rest.split_at_mut(ranges.beta.len());
        let sums = LifGradients { bias, beta, threshold };
        let neurons = self.layers[i].neurons();
        let truncate = self.options.truncate;
        vectorized(
            #[inline(always)]
            || {
                lif_backward(
                    chunk.batch,
                    steps,
                    neurons,
                    &chunk.membranes[i],
                    grad,
                    carry,
                    sums,
                    truncate,
                    derivative,
                );
            },
        );
    }
}

/// Adds the chunks' shares in chunk order, whichever thread made them.
pub(crate) fn reduce<T: Real>(
    chunks: &[ChunkGradients<T>],
    network: &Network<T>,
    total: &mut Vec<T>,
    gradients: &mut Network<T>,
) {
    const PART: usize = 4096;
    total.resize(network.parameter_count(), T::zero());
    total.par_chunks_mut(PART).enumerate().for_each(|(part, out)| {
        out.fill(T::zero());
        for chunk in chunks {
            for (sum, &g) in out.iter_mut().zip(&chunk.flat[part * PART..]) {
                *sum += g;
            }
        }
    });
    let mut rest = total.as_slice();
    for (name, out) in gradients.parameters_mut() {
        let (share, later) = rest.split_at(out.len());
        match name {
            ParameterName::Weight(layer) if layer > 1 => {
                let linear = &network.linear()[layer - 1];
                transpose(share, linear.inputs, linear.outputs, out);
            }
            _ => out.copy_from_slice(share),
        }
        rest = later;
    }
    // A clamped leak does not move the membrane, so its gradient is zero (at the limits too, as torch.clamp has it).
    for (lif, grad) in network.lif().iter().zip(gradients.lif_mut()) {
        for (&beta, g) in lif.beta.iter().zip(&mut grad.beta) {
            if !(beta > T::zero() && beta < T::one()) {
                *g = T::zero();
            }
        }
    }
}

fn gather_input_gradient<T: Real>(
    chunks: &[ChunkGradients<T>],
    trace: &Trace<T>,
    wanted: InputGradient,
    out: &mut Option<Array3<T>>,
) {
    if wanted == InputGradient::Skip {
        *out = None;
        return;
    }
    let dim = (trace.steps, trace.batch, trace.shape.inputs);
    let all = match out {
        Some(array) if array.dim() == dim => array,
        _ => out.insert(Array3::from_elem(dim, T::zero())),
    };
    for (share, chunk) in chunks.iter().zip(&trace.chunks) {
        let rows = all.slice_mut(s![.., chunk.first..chunk.first + chunk.batch, ..]);
        for (to, from) in rows.into_iter().zip(&share.input) {
            *to = *from;
        }
    }
}
