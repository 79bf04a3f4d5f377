//! A feed-forward network with hand-written forward and backward passes: critics and the guide's actor.
//!
//! `h₁ = f(x W₁ + b₁), …, y = g(h W + b)`; rows of `x` are samples. A pass works on the calling thread and on as many
//! rows as its caller gives it, a few hundred at best, so that a layer's activations stay in a core's cache; [`crate::lanes`]
//! spreads rows over cores. All buffers are in [`Scratch`] and are used again.
//!
//! There are two backends with the same results up to rounding: `native` (matrix products by `gemm`, bias, activation
//! and their derivatives fused around them) and `dfdx` (automatic differentiation), which is several times slower on a
//! CPU and is the other's oracle in the tests.

mod adam;
mod dfdx;
mod native;

use std::ops::Range;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

pub use adam::DenseAdam;

/// What computes a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Hand-written passes around matrix products.
    #[default]
    Native,
    /// dfdx's automatic differentiation.
    Dfdx,
}

impl Backend {
    /// Names as parameters have them.
    pub const NAMES: [&'static str; 2] = ["native", "dfdx"];

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Native, Self::Dfdx].into_iter().zip(Self::NAMES).find(|(_, n)| *n == name).map(|(b, _)| b)
    }
}

/// What a layer does with its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    Identity,
    /// max(0, z)
    Relu,
    /// tanh z
    Tanh,
}

/// Why a network could not compute.
#[derive(Debug, thiserror::Error)]
pub enum DenseError {
    /// Widths that no network can have.
    #[error("a network of widths {widths:?} cannot be: it takes at least two, none of them 0")]
    Widths {
        /// What was asked for.
        widths: Vec<usize>,
    },
    /// Numbers that do not make whole rows, or rows that do not belong together.
    #[error("{what}: {got} numbers where {expected} belong")]
    Shape {
        /// What they are.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// dfdx refused.
    #[error("dfdx: {0}")]
    Dfdx(String),
}

/// A feed-forward network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    widths: Vec<usize>,
    hidden: Activation,
    output: Activation,
    backend: Backend,
    /// Layer after layer: weight `[inputs, outputs]` row-major, then bias `[outputs]`.
    parameters: Vec<f32>,
}

/// Where a layer's parameters lie.
#[derive(Clone, Debug)]
struct Layer {
    inputs: usize,
    outputs: usize,
    weight: Range<usize>,
    bias: Range<usize>,
    activation: Activation,
}

/// Buffers of a pass, kept between calls. After a forward pass they hold every layer's outputs.
#[derive(Debug, Default)]
pub struct Scratch {
    rows: usize,
    /// Of every layer, after its activation, `[rows, outputs]`.
    activations: Vec<Vec<f32>>,
    /// Gradient at the current layer's sums, and at its inputs.
    here: Vec<f32>,
    below: Vec<f32>,
    input_gradient: Vec<f32>,
}

impl Scratch {
    /// Outputs of the last forward pass, `[rows, outputs]`.
    pub fn output(&self) -> &[f32] {
        self.activations.last().map_or(&[], Vec::as_slice)
    }

    /// Gradient with respect to the inputs that the last backward pass was asked for, `[rows, columns asked for]`.
    pub fn input_gradient(&self) -> &[f32] {
        &self.input_gradient
    }
}

/// What a backward pass should compute.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// The gradient with respect to the parameters is *added* to these, in the parameters' order.
    pub parameters: Option<&'a mut [f32]>,
    /// The gradient with respect to these input columns is left in [`Scratch::input_gradient`].
    pub inputs: Range<usize>,
}

impl Dense {
    /// Random parameters, uniform ±1/√fan-in, for layer widths from the inputs to the outputs.
    ///
    /// # Errors
    /// When there are fewer than two widths or one is 0.
    pub fn random(
        widths: &[usize],
        hidden: Activation,
        output: Activation,
        rng: &mut impl Rng,
    ) -> Result<Self, DenseError> {
        if widths.len() < 2 || widths.contains(&0) {
            return Err(DenseError::Widths { widths: widths.to_vec() });
        }
        let mut parameters = Vec::new();
        for pair in widths.windows(2) {
            let bound = 1.0 / (pair[0] as f32).sqrt();
            let n = pair[0] * pair[1] + pair[1];
            parameters.extend((0..n).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)));
        }
        Ok(Self { widths: widths.to_vec(), hidden, output, backend: Backend::Native, parameters })
    }

    /// The same network computed by another backend.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// What computes it.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// From now on another backend computes it.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// Layer widths from the inputs to the outputs.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.widths.first().copied().unwrap_or(0)
    }

    /// Output width.
    pub fn outputs(&self) -> usize {
        self.widths.last().copied().unwrap_or(0)
    }

    /// All parameters: layer after layer, weight `[inputs, outputs]` row-major, then bias.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// All parameters for writing.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// Weight `[inputs, outputs]` row-major and bias of every layer.
    pub fn layers(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        self.layout().into_iter().map(|l| (&self.parameters[l.weight], &self.parameters[l.bias]))
    }

    /// Scales the weights of the last layer and sets its bias: what the network says before it has learned anything.
    pub fn set_output(&mut self, factor: f32, bias: f32) {
        if let Some(last) = self.layout().pop() {
            self.parameters[last.weight].iter_mut().for_each(|w| *w *= factor);
            self.parameters[last.bias].fill(bias);
        }
    }

    fn layout(&self) -> Vec<Layer> {
        let last = self.widths.len().saturating_sub(2);
        let mut at = 0;
        let mut next = |n: usize| {
            at += n;
            at - n..at
        };
        self.widths
            .windows(2)
            .enumerate()
            .map(|(i, pair)| Layer {
                inputs: pair[0],
                outputs: pair[1],
                weight: next(pair[0] * pair[1]),
                bias: next(pair[1]),
                activation: if i == last { self.output } else { self.hidden },
            })
            .collect()
    }

    /// Moves this network towards another: θ ← (1 − τ) θ + τ θ′.
    pub fn soft_update_from(&mut self, other: &Self, tau: f32) {
        for (mine, theirs) in self.parameters.iter_mut().zip(&other.parameters) {
            *mine += tau * (theirs - *mine);
        }
    }

    /// Outputs of rows `x` `[rows, inputs]`, left in [`Scratch::output`].
    ///
    /// # Errors
    /// When `x` is not whole rows.
    pub fn forward(&self, x: &[f32], scratch: &mut Scratch) -> Result<(), DenseError> {
        let rows = x.len() / self.inputs().max(1);
        check("inputs", rows.max(1) * self.inputs(), x.len())?;
        scratch.rows = rows;
        scratch.activations.resize_with(self.widths.len() - 1, Vec::new);
        match self.backend {
            Backend::Native => native::forward(self, x, scratch),
            Backend::Dfdx => dfdx::forward(self, x, scratch)?,
        }
        Ok(())
    }

    /// Gradients of a loss whose derivative with respect to the outputs is `output_gradient` `[rows, outputs]`, at the
    /// rows `x` that the last forward pass with this scratch was given.
    ///
    /// # Errors
    /// When the shapes are not those of that pass.
    pub fn backward(
        &self,
        x: &[f32],
        output_gradient: &[f32],
        scratch: &mut Scratch,
        wanted: Wanted<'_>,
    ) -> Result<(), DenseError> {
        check("inputs", scratch.rows * self.inputs(), x.len())?;
        check("output gradient", scratch.rows * self.outputs(), output_gradient.len())?;
        check("outputs of the forward pass", output_gradient.len(), scratch.output().len())?;
        if let Some(gradients) = &wanted.parameters {
            check("parameter gradients", self.parameters.len(), gradients.len())?;
        }
        if wanted.inputs.end > self.inputs() {
            return Err(DenseError::Shape {
                what: "input columns",
                expected: self.inputs(),
                got: wanted.inputs.end,
            });
        }
        match self.backend {
            Backend::Native => native::backward(self, x, output_gradient, scratch, wanted),
            Backend::Dfdx => dfdx::backward(self, x, output_gradient, scratch, wanted)?,
        }
        Ok(())
    }
}

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), DenseError> {
    if expected == got { Ok(()) } else { Err(DenseError::Shape { what, expected, got }) }
}

#[cfg(test)]
mod tests;
