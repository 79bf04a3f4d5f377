//! The guide's network: a feed-forward policy with tanh after every layer.

use crate::kernels::{transpose, weighted_sums};
use crate::matrix::vectorized;
use crate::network::check_length;
use crate::{INPUT_LIMIT, Linear, SnnError};
use rand::Rng;

/// A multi-layer perceptron, tanh after every layer, the last included. The published guide is 146-64-64-4.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear<f32>>,
    /// Per layer `[inputs, outputs]`.
    weight_t: Vec<Vec<f32>>,
    here: Vec<f32>,
    next: Vec<f32>,
}

impl PartialEq for Mlp {
    fn eq(&self, other: &Self) -> bool {
        self.layers == other.layers
    }
}

impl Mlp {
    /// A network from its layers.
    ///
    /// # Errors
    /// [`SnnError`] when there is no layer, one is empty, or a width disagrees with its neighbour.
    pub fn new(layers: Vec<Linear<f32>>) -> Result<Self, SnnError> {
        if layers.is_empty() || layers.iter().any(|l| l.inputs == 0 || l.outputs == 0) {
            return Err(SnnError::Empty { what: "the list of layers, or a layer" });
        }
        for (i, pair) in layers.windows(2).enumerate() {
            check_length(&format!("the input of fc{}", i + 2), pair[0].outputs, pair[1].inputs)?;
        }
        let weight_t = layers
            .iter()
            .map(|l| {
                let mut w = vec![0.0; l.weight.len()];
                transpose(&l.weight, l.outputs, l.inputs, &mut w);
                w
            })
            .collect();
        let widest = layers.iter().map(|l| l.inputs.max(l.outputs)).max().unwrap_or(0);
        Ok(Self { layers, weight_t, here: vec![0.0; widest], next: vec![0.0; widest] })
    }

    /// Random initial weights ([`Linear::random`]) for layer widths from the inputs to the outputs.
    ///
    /// # Errors
    /// [`SnnError::Empty`] when there are fewer than two widths or one is 0.
    pub fn random(widths: &[usize], rng: &mut impl Rng) -> Result<Self, SnnError> {
        Self::new(widths.windows(2).map(|w| Linear::random(w[0], w[1], rng)).collect())
    }

    /// Layers, first to last.
    pub fn layers(&self) -> &[Linear<f32>] {
        &self.layers
    }

    /// Layer widths from the inputs to the outputs.
    pub fn widths(&self) -> Vec<usize> {
        self.layers
            .iter()
            .take(1)
            .map(Linear::inputs)
            .chain(self.layers.iter().map(Linear::outputs))
            .collect()
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, Linear::inputs)
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Linear::outputs)
    }

    /// `observation` `[inputs]` in, `action` `[outputs]` in (−1, 1) out, without allocating.
    ///
    /// # Errors
    /// [`SnnError`] when a length is wrong or an entry is not finite or beyond [`INPUT_LIMIT`]; `action` is then as
    /// before.
    pub fn forward(&mut self, observation: &[f32], action: &mut [f32]) -> Result<(), SnnError> {
        if observation.len() != self.inputs() {
            check_length("the observation", self.inputs(), observation.len())?;
        }
        if action.len() != self.outputs() {
            check_length("the action", self.outputs(), action.len())?;
        }
        check_observation(observation)?;
        let Self { layers, weight_t, here, next } = self;
        here[..observation.len()].copy_from_slice(observation);
        for (layer, w_t) in layers.iter().zip(weight_t) {
            let (x, y) = (&here[..layer.inputs], &mut next[..layer.outputs]);
            vectorized(
                #[inline(always)]
                || weighted_sums(x, layer.inputs, w_t, layer.outputs, y),
            );
            for (y, &bias) in y.iter_mut().zip(&layer.bias) {
                *y = (*y + bias).tanh();
            }
            std::mem::swap(here, next);
        }
        action.copy_from_slice(&here[..action.len()]);
        Ok(())
    }
}

/// Refuses what no sensor measures.
pub(crate) fn check_observation(observation: &[f32]) -> Result<(), SnnError> {
    for (index, &x) in observation.iter().enumerate() {
        let value = f64::from(x);
        if value.is_nan() || value.abs() > INPUT_LIMIT {
            return Err(SnnError::Value { what: "observation", index, value, limit: INPUT_LIMIT });
        }
    }
    Ok(())
}
