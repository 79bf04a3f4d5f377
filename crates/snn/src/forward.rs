//! The forward pass over whole sequences, layer by layer, and the trace it leaves for the backward pass.

use crate::kernels::{Neurons, clamped, lif_forward, transpose, weighted_sums};
use crate::matrix::vectorized;
use crate::sparse::{WORD, sums_of_spikes, words};
use crate::{Network, Real, Shape, SnnError};
use ndarray::{Array3, ArrayView3, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

/// Sequences computed together. Fixed, so that results do not depend on the number of threads; small enough that one
/// chunk of a layer stays in a core's cache.
pub(crate) const CHUNK: usize = 8;

/// Rows (steps times sequences) that go through all layers before the next ones do: they stay in a core's cache on the way.
const BLOCK_ROWS: usize = 256;

/// Consecutive steps that make a block of about [`BLOCK_ROWS`] and of whole words of spikes.
pub(crate) fn blocks(steps: usize, batch: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let whole = WORD >> batch.trailing_zeros().min(WORD.trailing_zeros());
    let length = whole * BLOCK_ROWS.div_ceil(whole * batch);
    (0..steps).step_by(length).map(move |first| first..(first + length).min(steps))
}

/// Rows of the largest block.
pub(crate) fn largest_block(steps: usize, batch: usize) -> usize {
    blocks(steps, batch).map(|block| block.len() * batch).max().unwrap_or(0)
}

/// Largest input magnitude accepted: far beyond any physical quantity here, and small enough that no sum overflows.
pub const INPUT_LIMIT: f64 = 1e6;

/// What the forward pass leaves: membranes after every step, which neurons fired, and the actions. Reuse one trace for many passes: buffers are kept.
#[derive(Debug)]
pub struct Trace<T: Real> {
    pub(crate) shape: Shape,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) chunks: Vec<ChunkTrace<T>>,
    pub(crate) prepared: Vec<Prepared<T>>,
    actions: Array3<T>,
}

/// A layer's parameters as the loops want them: weights transposed, leak clamped, thresholds as they were.
#[derive(Debug, Default)]
pub(crate) struct Prepared<T> {
    pub inputs: usize,
    pub outputs: usize,
    pub weight_t: Vec<T>,
    pub bias: Vec<T>,
    /// Empty for the decoding layer.
    pub beta: Vec<T>,
    pub threshold: Vec<T>,
}

impl<T: Real> Prepared<T> {
    pub(crate) fn neurons(&self) -> Neurons<'_, T> {
        Neurons { beta: &self.beta, threshold: &self.threshold }
    }
}

/// Up to [`CHUNK`] sequences, every buffer `[steps, batch, width]`.
#[derive(Debug, Default)]
pub(crate) struct ChunkTrace<T> {
    pub first: usize,
    pub batch: usize,
    pub input: Vec<T>,
    /// Membranes after the step, one buffer per spiking layer.
    pub membranes: Vec<Vec<T>>,
    /// Which neurons fired, a bit per row, `[rows / 32, neurons]`; one buffer per spiking layer.
    pub fired: Vec<Vec<u32>>,
    /// Actions, after tanh.
    pub output: Vec<T>,
}

impl<T: Real> ChunkTrace<T> {
    /// Room for `steps` of this chunk's sequences.
    pub(crate) fn size_for(&mut self, shape: &Shape, steps: usize) {
        let rows = steps * self.batch;
        self.input.resize(rows * shape.inputs, T::zero());
        self.membranes.resize(shape.hidden.len(), Vec::new());
        for (buffer, n) in self.membranes.iter_mut().zip(&shape.hidden) {
            buffer.resize(rows * n, T::zero());
        }
        self.fired.resize(shape.hidden.len(), Vec::new());
        for (buffer, n) in self.fired.iter_mut().zip(&shape.hidden) {
            buffer.resize(words(rows, *n), 0);
        }
        self.output.resize(rows * shape.outputs, T::zero());
    }
}

impl<T: Real> Default for Trace<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Trace<T> {
    /// An empty trace; the first pass sizes it.
    pub fn new() -> Self {
        Self {
            shape: Shape { inputs: 0, hidden: Vec::new(), outputs: 0 },
            steps: 0,
            batch: 0,
            chunks: Vec::new(),
            prepared: Vec::new(),
            actions: Array3::from_elem((0, 0, 0), T::zero()),
        }
    }

    /// Actions in (−1, 1), `[steps, batch, outputs]`.
    pub fn actions(&self) -> ArrayView3<'_, T> {
        self.actions.view()
    }

    /// Steps of the sequences.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Membrane potentials after every step, `[steps, batch, neurons]`, of spiking layer `layer` counted from 0.
    /// `None` when there is no such layer. A copy, for looking at.
    pub fn membrane(&self, layer: usize) -> Option<Array3<T>> {
        let neurons = *self.shape.hidden.get(layer)?;
        let mut all = Array3::from_elem((self.steps, self.batch, neurons), T::zero());
        for chunk in &self.chunks {
            let view =
                ArrayView3::from_shape((self.steps, chunk.batch, neurons), &chunk.membranes[layer]).ok()?;
            all.slice_mut(s![.., chunk.first..chunk.first + chunk.batch, ..]).assign(&view);
        }
        Some(all)
    }

    /// Spikes, 0 or 1, as [`Trace::membrane`].
    pub fn spikes(&self, layer: usize) -> Option<Array3<u8>> {
        let threshold = &self.prepared.get(layer)?.threshold;
        let membrane = self.membrane(layer)?;
        let mut spikes = Array3::zeros(membrane.raw_dim());
        for (mut out, u) in spikes.lanes_mut(Axis(2)).into_iter().zip(membrane.lanes(Axis(2))) {
            for ((s, &u), &threshold) in out.iter_mut().zip(u).zip(threshold) {
                *s = u8::from(u > threshold);
            }
        }
        Some(spikes)
    }

    /// Share of neurons that fire per step, one entry per spiking layer.
    pub fn firing_rates(&self) -> Vec<f64> {
        (0..self.shape.hidden.len())
            .map(|layer| {
                let (mut fired, mut all) = (0u64, 0usize);
                for chunk in &self.chunks {
                    fired += chunk.fired[layer].iter().map(|bits| u64::from(bits.count_ones())).sum::<u64>();
                    all += chunk.membranes[layer].len();
                }
                fired as f64 / all.max(1) as f64
            })
            .collect()
    }

    fn resize(&mut self, network: &Network<T>, steps: usize, batch: usize) {
        let shape = network.shape();
        if shape != self.shape || steps != self.steps || batch != self.batch {
            let chunks = batch.div_ceil(CHUNK);
            self.chunks.resize_with(chunks, ChunkTrace::default);
            for (i, chunk) in self.chunks.iter_mut().enumerate() {
                chunk.first = i * CHUNK;
                chunk.batch = CHUNK.min(batch - chunk.first);
                chunk.size_for(&shape, steps);
            }
            self.actions = Array3::from_elem((steps, batch, shape.outputs), T::zero());
            (self.shape, self.steps, self.batch) = (shape, steps, batch);
        }
        prepare(network, &mut self.prepared);
    }
}

/// Brings a network's parameters into the form that the loops want.
pub(crate) fn prepare<T: Real>(network: &Network<T>, layers: &mut Vec<Prepared<T>>) {
    layers.resize_with(network.linear().len(), Prepared::default);
    for (i, (prepared, layer)) in layers.iter_mut().zip(network.linear()).enumerate() {
        prepared.inputs = layer.inputs;
        prepared.outputs = layer.outputs;
        prepared.weight_t.resize(layer.weight.len(), T::zero());
        transpose(&layer.weight, layer.outputs, layer.inputs, &mut prepared.weight_t);
        prepared.bias.clone_from(&layer.bias);
        prepared.beta.clear();
        prepared.threshold.clear();
        if let Some(lif) = network.lif().get(i) {
            prepared.beta.extend(lif.beta.iter().map(|&b| clamped(b)));
            prepared.threshold.extend_from_slice(&lif.threshold);
        }
    }
}

impl<T: Real> Network<T> {
    /// Runs the network over `input` `[steps, batch, inputs]` from zero membranes.
    ///
    /// Per step: `S1, U1 = LIF1(W1 x + b1)`, `S2, U2 = LIF2(W2 S1 + b2)`, …, `a = tanh(W S + b)`; a spike's reset shows
    /// one step later. Deterministic, whatever the number of threads.
    ///
    /// # Errors
    /// [`SnnError`] when the width is not the network's, the sequence is empty, or an entry is not finite.
    pub fn forward(&self, input: ArrayView3<'_, T>) -> Result<Trace<T>, SnnError> {
        let mut trace = Trace::new();
        self.forward_into(input, &mut trace)?;
        Ok(trace)
    }

    /// As [`Network::forward`], into a trace whose buffers are reused.
    ///
    /// # Errors
    /// As [`Network::forward`]. The trace's content is then unspecified.
    pub fn forward_into(&self, input: ArrayView3<'_, T>, trace: &mut Trace<T>) -> Result<(), SnnError> {
        let (steps, batch, width) = input.dim();
        crate::network::check_length("a row of the input sequence", self.linear()[0].inputs, width)?;
        if steps == 0 || batch == 0 {
            return Err(SnnError::Empty { what: "the input sequence" });
        }
        trace.resize(self, steps, batch);
        let Trace { prepared, chunks, actions, .. } = trace;
        chunks.par_iter_mut().try_for_each(|chunk| {
            gather(&input, chunk)?;
            vectorized(
                #[inline(always)]
                || {
                    // A plain loop: a closure of its own would be compiled for the narrowest vectors.
                    for block in blocks(steps, chunk.batch) {
                        forward_block(prepared, chunk, block);
                    }
                },
            );
            Ok(())
        })?;
        for chunk in chunks.iter() {
            let rows = actions.slice_mut(s![.., chunk.first..chunk.first + chunk.batch, ..]);
            for (to, from) in rows.into_iter().zip(&chunk.output) {
                *to = *from;
            }
        }
        Ok(())
    }
}

fn gather<T: Real>(input: &ArrayView3<'_, T>, chunk: &mut ChunkTrace<T>) -> Result<(), SnnError> {
    let part = input.slice(s![.., chunk.first..chunk.first + chunk.batch, ..]);
    let limit = T::of(INPUT_LIMIT);
    let width = input.dim().2;
    for (row, out) in part.lanes(Axis(2)).into_iter().zip(chunk.input.chunks_exact_mut(width)) {
        for (index, (&x, to)) in row.iter().zip(out).enumerate() {
            if x.is_nan() || x.abs() > limit {
                let value = x.to_f64_exact();
                return Err(SnnError::Value { what: "input sequence", index, value, limit: INPUT_LIMIT });
            }
            *to = x;
        }
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn forward_block<T: Real>(layers: &[Prepared<T>], chunk: &mut ChunkTrace<T>, steps: Range<usize>) {
    let ChunkTrace { batch, input, membranes, fired, output, .. } = chunk;
    let rows = steps.start * *batch..steps.end * *batch;
    for (i, layer) in layers.iter().enumerate() {
        let (inputs, outputs) = (layer.inputs, layer.outputs);
        let all = membranes.get_mut(i).unwrap_or(output);
        let sums = &mut all[rows.start * outputs..rows.end * outputs];
        match i.checked_sub(1) {
            None => {
                let input = &input[rows.start * inputs..rows.end * inputs];
                weighted_sums(input, inputs, &layer.weight_t, outputs, sums);
            }
            Some(below) => {
                let fired = &fired[below][rows.start / WORD * inputs..words(rows.end, inputs)];
                sums_of_spikes(fired, &layer.weight_t, inputs, outputs, sums);
            }
        }
        if let Some(fired) = fired.get_mut(i) {
            lif_forward(*batch, steps.clone(), layer.neurons(), &layer.bias, all, fired);
        } else {
            for row in sums.chunks_exact_mut(outputs) {
                for (a, &bias) in row.iter_mut().zip(&layer.bias) {
                    *a = (*a + bias).tanh();
                }
            }
        }
    }
}
