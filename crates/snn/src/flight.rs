//! The network as it flies: one step per control tick, no allocation, no lock.

use crate::kernels::{clamped, membrane_step, transpose, weighted_sums};
use crate::matrix::vectorized;
use crate::mlp::check_observation;
use crate::network::check_length;
use crate::sparse::sums_of_fired;
use crate::{Network, Shape, SnnError};

/// A network in flight with its membrane potentials.
///
/// Computes bit for bit the membranes and spikes of [`Network::forward`] (sums in the order defined there), but adds
/// only the weights of neurons that fired. Actions agree to the rounding of `tanh`, too: both call the same function.
#[derive(Debug, Clone)]
pub struct Flight {
    shape: Shape,
    layers: Vec<Layer>,
    /// Indices of the neurons that fired in the layer just computed, then room for all others.
    fired: Vec<u32>,
    sums: Vec<f32>,
    steps: u64,
}

/// What a flight did since its counters were cleared, as NeuroBench counts: a zero input and a zero weight are no operation,
/// a bias neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Network steps.
    pub steps: u64,
    /// Multiply-accumulates: weights behind continuous inputs.
    pub macs: u64,
    /// Accumulates: weights behind neurons that fired.
    pub acs: u64,
}

/// The decoding layer has no neurons: its membrane is empty.
#[derive(Debug, Clone)]
struct Layer {
    inputs: usize,
    outputs: usize,
    /// `[inputs, outputs]`: a neuron's outgoing weights lie together.
    weight_t: Vec<f32>,
    bias: Vec<f32>,
    beta: Vec<f32>,
    threshold: Vec<f32>,
    membrane: Vec<f32>,
    /// Weights that are not zero, per input.
    fan_out: Vec<u32>,
    spikes: u64,
    operations: u64,
}

impl Flight {
    /// A network ready to fly, membranes at zero.
    pub fn new(network: &Network<f32>) -> Self {
        let layers = network
            .linear()
            .iter()
            .enumerate()
            .map(|(i, linear)| {
                let neurons = network.lif().get(i).map_or(0, crate::Lif::neurons);
                Layer {
                    inputs: linear.inputs,
                    outputs: linear.outputs,
                    weight_t: vec![0.0; linear.weight.len()],
                    bias: vec![0.0; linear.outputs],
                    beta: vec![0.0; neurons],
                    threshold: vec![0.0; neurons],
                    membrane: vec![0.0; neurons],
                    fan_out: vec![0; linear.inputs],
                    spikes: 0,
                    operations: 0,
                }
            })
            .collect();
        let shape = network.shape();
        let widest = shape.widths().into_iter().max().unwrap_or(0);
        let mut flight = Self { shape, layers, fired: vec![0; widest], sums: vec![0.0; widest], steps: 0 };
        flight.copy_parameters(network);
        flight
    }

    /// Widths.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Takes another network's parameters into the storage that is there, without allocating. Membranes, rates and
    /// counters stay: call [`Flight::reset`] to start from rest.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when the shapes differ; nothing is changed then.
    pub fn load(&mut self, network: &Network<f32>) -> Result<(), SnnError> {
        let same = self.layers.len() == network.linear().len()
            && self
                .layers
                .iter()
                .zip(network.linear())
                .all(|(a, b)| a.inputs == b.inputs && a.outputs == b.outputs);
        if !same {
            let (left, right) = (self.shape.to_string(), network.shape().to_string());
            return Err(SnnError::ShapeMismatch { left, right });
        }
        self.copy_parameters(network);
        Ok(())
    }

    fn copy_parameters(&mut self, network: &Network<f32>) {
        for (layer, linear) in self.layers.iter_mut().zip(network.linear()) {
            transpose(&linear.weight, linear.outputs, linear.inputs, &mut layer.weight_t);
            layer.bias.copy_from_slice(&linear.bias);
            for (count, row) in layer.fan_out.iter_mut().zip(layer.weight_t.chunks_exact(linear.outputs)) {
                *count = row.iter().map(|&w| u32::from(w != 0.0)).sum();
            }
        }
        for (layer, lif) in self.layers.iter_mut().zip(network.lif()) {
            for (to, &beta) in layer.beta.iter_mut().zip(&lif.beta) {
                *to = clamped(beta);
            }
            layer.threshold.copy_from_slice(&lif.threshold);
        }
    }

    /// One control tick: `observation` `[inputs]` in, `action` `[outputs]` in (−1, 1) out.
    ///
    /// # Errors
    /// [`SnnError`] when a length is wrong or an observation entry is not finite or beyond [`INPUT_LIMIT`](crate::INPUT_LIMIT). Membranes
    /// and `action` are then as before.
    pub fn step(&mut self, observation: &[f32], action: &mut [f32]) -> Result<(), SnnError> {
        // The checks build their error only when they fail: no allocation on the way of a good tick.
        if observation.len() != self.shape.inputs {
            check_length("the observation", self.shape.inputs, observation.len())?;
        }
        if action.len() != self.shape.outputs {
            check_length("the action", self.shape.outputs, action.len())?;
        }
        check_observation(observation)?;
        vectorized(
            #[inline(always)]
            || self.compute(observation, action),
        );
        Ok(())
    }

    #[inline(always)]
    fn compute(&mut self, observation: &[f32], action: &mut [f32]) {
        let Self { layers, fired, sums, .. } = self;
        let mut count = 0;
        for (i, layer) in layers.iter_mut().enumerate() {
            let sums = &mut sums[..layer.outputs];
            if i == 0 {
                weighted_sums(observation, layer.inputs, &layer.weight_t, layer.outputs, sums);
                let acting = |(&x, &fan): (&f32, &u32)| if x == 0.0 { 0 } else { u64::from(fan) };
                layer.operations += observation.iter().zip(&layer.fan_out).map(acting).sum::<u64>();
            } else {
                let fired = &fired[..count];
                sums_of_fired(fired, &layer.weight_t, sums);
                layer.operations += fired.iter().map(|&k| u64::from(layer.fan_out[k as usize])).sum::<u64>();
            }
            if layer.membrane.is_empty() {
                for ((a, &sum), &bias) in action.iter_mut().zip(sums.iter()).zip(&layer.bias) {
                    *a = (sum + bias).tanh();
                }
            } else {
                count = layer.update_membranes(sums, fired);
            }
        }
        self.steps += 1;
    }

    /// Membranes to zero: as at the start of a sequence. Counters stay.
    pub fn reset(&mut self) {
        for layer in &mut self.layers {
            layer.membrane.fill(0.0);
        }
    }

    /// Number of membrane potentials, all layers.
    pub fn membrane_len(&self) -> usize {
        self.shape.hidden.iter().sum()
    }

    /// Membrane potentials of spiking layer `layer`, counted from 0.
    pub fn membrane(&self, layer: usize) -> Option<&[f32]> {
        self.layers.get(layer).map(|l| l.membrane.as_slice()).filter(|m| !m.is_empty())
    }

    /// Copies all membrane potentials, layer after layer, into `state` `[membrane_len]`: a frozen flight.
    ///
    /// # Errors
    /// [`SnnError::Length`] when `state` has another length.
    pub fn freeze_into(&self, state: &mut [f32]) -> Result<(), SnnError> {
        if state.len() != self.membrane_len() {
            check_length("the frozen membrane state", self.membrane_len(), state.len())?;
        }
        let mut rest = state;
        for layer in &self.layers {
            let (now, later) = rest.split_at_mut(layer.membrane.len());
            now.copy_from_slice(&layer.membrane);
            rest = later;
        }
        Ok(())
    }

    /// All membrane potentials, layer after layer.
    pub fn freeze(&self) -> Vec<f32> {
        self.layers.iter().flat_map(|l| l.membrane.iter().copied()).collect()
    }

    /// Sets all membrane potentials from what [`Flight::freeze`] gave.
    ///
    /// # Errors
    /// [`SnnError`] when the length differs or an entry is not finite; nothing is changed then.
    pub fn thaw(&mut self, state: &[f32]) -> Result<(), SnnError> {
        if state.len() != self.membrane_len() {
            check_length("the frozen membrane state", self.membrane_len(), state.len())?;
        }
        if let Some(index) = state.iter().position(|u| !u.is_finite()) {
            let value = f64::from(state[index]);
            return Err(SnnError::Value { what: "membrane state", index, value, limit: f64::from(f32::MAX) });
        }
        let mut rest = state;
        for layer in &mut self.layers {
            let (now, later) = rest.split_at(layer.membrane.len());
            layer.membrane.copy_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Steps since the counters were last cleared.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Spikes of spiking layer `layer` since the counters were last cleared.
    pub fn spike_count(&self, layer: usize) -> Option<u64> {
        self.layers.get(layer).filter(|l| !l.membrane.is_empty()).map(|l| l.spikes)
    }

    /// Share of a layer's neurons that fired per step since the counters were cleared; 0 before the first step.
    pub fn firing_rate(&self, layer: usize) -> Option<f64> {
        let l = self.layers.get(layer).filter(|l| !l.membrane.is_empty())?;
        Some(l.spikes as f64 / (self.steps.max(1) as f64 * l.membrane.len() as f64))
    }

    /// Operations since the counters were cleared.
    pub fn counts(&self) -> Counts {
        let operations = |layers: &[Layer]| layers.iter().map(|l| l.operations).sum();
        let (first, others) = self.layers.split_at(1);
        Counts { steps: self.steps, macs: operations(first), acs: operations(others) }
    }

    /// Clears the counters of steps, spikes and operations.
    pub fn clear_counters(&mut self) {
        self.steps = 0;
        for layer in &mut self.layers {
            (layer.spikes, layer.operations) = (0, 0);
        }
    }
}

impl Layer {
    /// Writes the indices of what fired to the front of `fired` and returns their number. Every index is written and the
    /// place moves on only after one that fired: nothing to mispredict.
    #[inline(always)]
    fn update_membranes(&mut self, sums: &[f32], fired: &mut [u32]) -> usize {
        let n = self.membrane.len();
        let (bias, beta, threshold) = (&self.bias[..n], &self.beta[..n], &self.threshold[..n]);
        let (membrane, sums, fired) = (&mut self.membrane[..n], &sums[..n], &mut fired[..n]);
        for i in 0..n {
            membrane[i] = membrane_step(membrane[i], sums[i] + bias[i], beta[i], threshold[i]);
        }
        let mut count = 0;
        for i in 0..n {
            fired[count] = i as u32;
            count += usize::from(membrane[i] > threshold[i]);
        }
        self.spikes += count as u64;
        count
    }
}
