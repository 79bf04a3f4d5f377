//! The parameters of a spiking network: what is learned, where it lies and what it is called.

use crate::{Real, SnnError};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Widths of a network: continuous inputs, spiking layers, continuous outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Observation entries.
    pub inputs: usize,
    /// Neurons of each spiking layer, first to last.
    pub hidden: Vec<usize>,
    /// Actions.
    pub outputs: usize,
}

impl Shape {
    /// The published network: 18 observations, 256 and 128 spiking neurons, 4 motors.
    pub fn paper() -> Self {
        Self { inputs: 18, hidden: vec![256, 128], outputs: 4 }
    }

    /// Layer widths from the inputs to the outputs.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.inputs];
        widths.extend(&self.hidden);
        widths.push(self.outputs);
        widths
    }

    /// Number of learned values (weights, biases, leaks, thresholds).
    pub fn parameter_count(&self) -> usize {
        let widths = self.widths();
        widths.windows(2).map(|w| w[0] * w[1] + w[1]).sum::<usize>() + 2 * self.hidden.iter().sum::<usize>()
    }

    /// # Errors
    /// [`SnnError::Empty`] when a layer has no neurons or there is no spiking layer.
    pub fn check(&self) -> Result<(), SnnError> {
        if self.hidden.is_empty() {
            return Err(SnnError::Empty { what: "the list of spiking layers" });
        }
        if self.widths().contains(&0) {
            return Err(SnnError::Empty { what: "a layer" });
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<String> = self.widths().iter().map(ToString::to_string).collect();
        f.write_str(&widths.join("-"))
    }
}

/// A linear layer, `y = W x + b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Linear<T: Real> {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Row-major `[outputs, inputs]`.
    pub(crate) weight: Vec<T>,
    pub(crate) bias: Vec<T>,
}

impl<T: Real> Linear<T> {
    /// A layer from row-major `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// [`SnnError::Length`] when a length disagrees.
    pub fn new(inputs: usize, outputs: usize, weight: Vec<T>, bias: Vec<T>) -> Result<Self, SnnError> {
        check_length("weight", inputs.saturating_mul(outputs), weight.len())?;
        check_length("bias", outputs, bias.len())?;
        Ok(Self { inputs, outputs, weight, bias })
    }

    /// PyTorch's default: weight and bias uniform in ±1/√inputs.
    pub fn random(inputs: usize, outputs: usize, rng: &mut impl Rng) -> Self {
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        let mut draw = |n: usize| (0..n).map(|_| T::of(rng.random_range(-bound..bound))).collect::<Vec<T>>();
        Self { inputs, outputs, weight: draw(inputs * outputs), bias: draw(outputs) }
    }

    fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, weight: vec![T::zero(); inputs * outputs], bias: vec![T::zero(); outputs] }
    }

    /// Input width.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    /// Output width.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
    /// Weight, `[outputs, inputs]`.
    pub fn weight(&self) -> ArrayView2<'_, T> {
        view2(&self.weight, self.outputs, self.inputs)
    }
    /// Weight for writing, `[outputs, inputs]`.
    pub fn weight_mut(&mut self) -> ArrayViewMut2<'_, T> {
        #[allow(clippy::expect_used)] // the constructor fixed the length
        ArrayViewMut2::from_shape((self.outputs, self.inputs), &mut self.weight)
            .expect("length is an invariant")
    }
    /// Bias, `[outputs]`.
    pub fn bias(&self) -> ArrayView1<'_, T> {
        ArrayView1::from(&self.bias)
    }
    /// Bias for writing, `[outputs]`.
    pub fn bias_mut(&mut self) -> ArrayViewMut1<'_, T> {
        ArrayViewMut1::from(&mut self.bias)
    }
}

fn view2<T>(data: &[T], rows: usize, columns: usize) -> ArrayView2<'_, T> {
    #[allow(clippy::expect_used)] // callers hold the length as an invariant
    ArrayView2::from_shape((rows, columns), data).expect("length is an invariant")
}

pub(crate) fn check_length(what: &str, expected: usize, got: usize) -> Result<(), SnnError> {
    if expected == got { Ok(()) } else { Err(SnnError::Length { what: what.to_owned(), expected, got }) }
}

/// A layer of leaky integrate-and-fire neurons with soft reset, each with its own learned leak and threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Lif<T: Real> {
    pub(crate) beta: Vec<T>,
    pub(crate) threshold: Vec<T>,
}

impl<T: Real> Lif<T> {
    /// Neurons with leaks `beta` (clamped to [0, 1] where used, not here) and firing `threshold`s.
    ///
    /// # Errors
    /// [`SnnError::Length`] when the two lengths differ.
    pub fn new(beta: Vec<T>, threshold: Vec<T>) -> Result<Self, SnnError> {
        check_length("threshold", beta.len(), threshold.len())?;
        Ok(Self { beta, threshold })
    }

    /// Leak and threshold uniform in [0, 1), as the paper's authors do.
    pub fn random(neurons: usize, rng: &mut impl Rng) -> Self {
        let mut draw = || (0..neurons).map(|_| T::of(rng.random::<f64>())).collect();
        Self { beta: draw(), threshold: draw() }
    }

    fn zeros(neurons: usize) -> Self {
        Self { beta: vec![T::zero(); neurons], threshold: vec![T::zero(); neurons] }
    }

    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.beta.len()
    }
    /// Leak per neuron, as learned (may lie outside [0, 1]).
    pub fn beta(&self) -> ArrayView1<'_, T> {
        ArrayView1::from(&self.beta)
    }
    /// Leak per neuron for writing.
    pub fn beta_mut(&mut self) -> ArrayViewMut1<'_, T> {
        ArrayViewMut1::from(&mut self.beta)
    }
    /// Threshold per neuron.
    pub fn threshold(&self) -> ArrayView1<'_, T> {
        ArrayView1::from(&self.threshold)
    }
    /// Threshold per neuron for writing.
    pub fn threshold_mut(&mut self) -> ArrayViewMut1<'_, T> {
        ArrayViewMut1::from(&mut self.threshold)
    }
}

/// Which learned tensor. Layers count from 1, as in the files: `fc1.weight`, `lif1.beta`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterName {
    /// `fc{i}.weight`, `[outputs, inputs]`.
    Weight(usize),
    /// `fc{i}.bias`.
    Bias(usize),
    /// `lif{i}.beta`.
    Beta(usize),
    /// `lif{i}.threshold`.
    Threshold(usize),
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(i) => write!(f, "fc{i}.weight"),
            Self::Bias(i) => write!(f, "fc{i}.bias"),
            Self::Beta(i) => write!(f, "lif{i}.beta"),
            Self::Threshold(i) => write!(f, "lif{i}.threshold"),
        }
    }
}

/// All parameters of a spiking network: `linear` has one layer more than `lif`; the last linear layer decodes spikes
/// into actions (through tanh).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", try_from = "RawNetwork<T>")]
pub struct Network<T: Real> {
    linear: Vec<Linear<T>>,
    lif: Vec<Lif<T>>,
}

#[derive(Deserialize)]
#[serde(bound = "")]
struct RawNetwork<T: Real> {
    linear: Vec<Linear<T>>,
    lif: Vec<Lif<T>>,
}

impl<T: Real> TryFrom<RawNetwork<T>> for Network<T> {
    type Error = SnnError;
    fn try_from(raw: RawNetwork<T>) -> Result<Self, SnnError> {
        Self::new(raw.linear, raw.lif)
    }
}

impl<T: Real> Network<T> {
    /// A network from its layers.
    ///
    /// # Errors
    /// [`SnnError`] when a width disagrees with its neighbour or a layer is empty.
    pub fn new(linear: Vec<Linear<T>>, lif: Vec<Lif<T>>) -> Result<Self, SnnError> {
        check_length("the list of linear layers", lif.len() + 1, linear.len())?;
        for (i, layer) in linear.iter().enumerate() {
            let n = i + 1;
            check_length(
                &format!("fc{n}.weight"),
                layer.inputs.saturating_mul(layer.outputs),
                layer.weight.len(),
            )?;
            check_length(&format!("fc{n}.bias"), layer.outputs, layer.bias.len())?;
            if let Some(lif) = lif.get(i) {
                check_length(&format!("lif{n}.beta"), layer.outputs, lif.beta.len())?;
                check_length(&format!("lif{n}.threshold"), layer.outputs, lif.threshold.len())?;
            }
            if let Some(next) = linear.get(n) {
                check_length(&format!("the input of fc{}", n + 1), layer.outputs, next.inputs)?;
            }
        }
        let network = Self { linear, lif };
        network.shape().check()?;
        Ok(network)
    }

    /// Random initial parameters: [`Linear::random`] and [`Lif::random`].
    ///
    /// # Errors
    /// [`SnnError::Empty`] when the shape has an empty layer.
    pub fn random(shape: &Shape, rng: &mut impl Rng) -> Result<Self, SnnError> {
        shape.check()?;
        let widths = shape.widths();
        let linear = widths.windows(2).map(|w| Linear::random(w[0], w[1], rng)).collect();
        let lif = shape.hidden.iter().map(|&n| Lif::random(n, rng)).collect();
        Self::new(linear, lif)
    }

    /// All parameters zero: the start of a gradient or of an optimiser's moment.
    ///
    /// # Errors
    /// [`SnnError::Empty`] when the shape has an empty layer.
    pub fn zeros(shape: &Shape) -> Result<Self, SnnError> {
        let widths = shape.widths();
        let linear = widths.windows(2).map(|w| Linear::zeros(w[0], w[1])).collect();
        Self::new(linear, shape.hidden.iter().map(|&n| Lif::zeros(n)).collect())
    }

    /// All-zero parameters of this network's own shape.
    pub fn zeros_like(&self) -> Self {
        Self {
            linear: self.linear.iter().map(|l| Linear::zeros(l.inputs, l.outputs)).collect(),
            lif: self.lif.iter().map(|l| Lif::zeros(l.neurons())).collect(),
        }
    }

    /// Widths.
    pub fn shape(&self) -> Shape {
        Shape {
            inputs: self.linear.first().map_or(0, |l| l.inputs),
            hidden: self.lif.iter().map(Lif::neurons).collect(),
            outputs: self.linear.last().map_or(0, |l| l.outputs),
        }
    }

    /// Linear layers, first to last.
    pub fn linear(&self) -> &[Linear<T>] {
        &self.linear
    }
    /// Linear layers for writing.
    pub fn linear_mut(&mut self) -> &mut [Linear<T>] {
        &mut self.linear
    }
    /// Spiking layers, first to last.
    pub fn lif(&self) -> &[Lif<T>] {
        &self.lif
    }
    /// Spiking layers for writing.
    pub fn lif_mut(&mut self) -> &mut [Lif<T>] {
        &mut self.lif
    }

    /// Every learned tensor as a row-major slice, in the fixed order `fc1.weight, fc1.bias, lif1.beta,
    /// lif1.threshold, fc2.weight, …`: the order of optimisers, hashes and files.
    pub fn parameters(&self) -> Vec<(ParameterName, &[T])> {
        let mut list = Vec::with_capacity(4 * self.linear.len());
        for (i, layer) in self.linear.iter().enumerate() {
            list.push((ParameterName::Weight(i + 1), layer.weight.as_slice()));
            list.push((ParameterName::Bias(i + 1), layer.bias.as_slice()));
            if let Some(lif) = self.lif.get(i) {
                list.push((ParameterName::Beta(i + 1), lif.beta.as_slice()));
                list.push((ParameterName::Threshold(i + 1), lif.threshold.as_slice()));
            }
        }
        list
    }

    /// As [`Network::parameters`], for writing.
    pub fn parameters_mut(&mut self) -> Vec<(ParameterName, &mut [T])> {
        let mut list = Vec::with_capacity(4 * self.linear.len());
        let mut lif = self.lif.iter_mut();
        for (i, layer) in self.linear.iter_mut().enumerate() {
            list.push((ParameterName::Weight(i + 1), layer.weight.as_mut_slice()));
            list.push((ParameterName::Bias(i + 1), layer.bias.as_mut_slice()));
            if let Some(lif) = lif.next() {
                list.push((ParameterName::Beta(i + 1), lif.beta.as_mut_slice()));
                list.push((ParameterName::Threshold(i + 1), lif.threshold.as_mut_slice()));
            }
        }
        list
    }

    /// Number of learned values.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, p)| p.len()).sum()
    }

    /// Soft target update, θ ← (1 − τ)·θ + τ·θ′.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when the shapes differ.
    pub fn soft_update_from(&mut self, other: &Self, tau: T) -> Result<(), SnnError> {
        self.require_shape_of(other)?;
        for ((_, mine), (_, theirs)) in self.parameters_mut().into_iter().zip(other.parameters()) {
            for (a, &b) in mine.iter_mut().zip(theirs) {
                *a = *a + tau * (b - *a);
            }
        }
        Ok(())
    }

    /// Copies every parameter, without allocating.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when the shapes differ.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), SnnError> {
        self.require_shape_of(other)?;
        for (mine, theirs) in self.linear.iter_mut().zip(&other.linear) {
            mine.weight.copy_from_slice(&theirs.weight);
            mine.bias.copy_from_slice(&theirs.bias);
        }
        for (mine, theirs) in self.lif.iter_mut().zip(&other.lif) {
            mine.beta.copy_from_slice(&theirs.beta);
            mine.threshold.copy_from_slice(&theirs.threshold);
        }
        Ok(())
    }

    /// Whether every parameter is finite.
    pub fn is_finite(&self) -> bool {
        self.parameters().iter().all(|(_, p)| p.iter().all(|x| x.is_finite()))
    }

    /// This network in another precision.
    pub fn cast<U: Real>(&self) -> Network<U> {
        let convert = |v: &[T]| v.iter().map(|x| U::of(x.to_f64_exact())).collect::<Vec<U>>();
        Network {
            linear: self
                .linear
                .iter()
                .map(|l| Linear {
                    inputs: l.inputs,
                    outputs: l.outputs,
                    weight: convert(&l.weight),
                    bias: convert(&l.bias),
                })
                .collect(),
            lif: self
                .lif
                .iter()
                .map(|l| Lif { beta: convert(&l.beta), threshold: convert(&l.threshold) })
                .collect(),
        }
    }

    pub(crate) fn require_shape_of(&self, other: &Self) -> Result<(), SnnError> {
        let same = self.linear.len() == other.linear.len()
            && self
                .linear
                .iter()
                .zip(&other.linear)
                .all(|(a, b)| a.inputs == b.inputs && a.outputs == b.outputs);
        if same {
            Ok(())
        } else {
            Err(SnnError::ShapeMismatch { left: self.shape().to_string(), right: other.shape().to_string() })
        }
    }
}
