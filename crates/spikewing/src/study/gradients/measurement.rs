//! The measurement itself: random networks, one forward pass each, one backward pass per slope.

use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use spikewing_snn::{BackwardOptions, Gradients, Lif, Network, Shape, SnnError, Trace, Workspace};

use super::table::{Row, Table};

const STEPS: usize = 50;
const BATCH: usize = 32;
/// The slope whose gradient stands for the true one.
const STEEPEST: f64 = 100.0;

/// How leaks and thresholds are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Neurons {
    /// Both uniform in [0, 1) per neuron.
    Rand,
    /// Leak 0.9, threshold 0.5.
    Fixed,
}

impl Neurons {
    /// Both set-ups.
    pub const ALL: [Self; 2] = [Self::Rand, Self::Fixed];

    /// As in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rand => "rand",
            Self::Fixed => "fixed",
        }
    }

    /// For a reader.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Rand => "leak and threshold uniform in [0, 1)",
            Self::Fixed => "leak 0.9, threshold 0.5",
        }
    }
}

/// What is measured.
pub struct Measurement {
    /// How leaks and thresholds are drawn.
    pub neurons: Neurons,
    /// Surrogate slopes.
    pub slopes: Vec<f64>,
    /// Of networks, inputs and targets.
    pub seed: u64,
}

/// One network: firing rate per spiking layer, and per slope and linear layer magnitude and cosine.
struct Sample {
    rates: Vec<f64>,
    gradients: Vec<Vec<(f64, f64)>>,
}

impl Measurement {
    /// Averages over `initialisations` networks; `done` is called after each, from any thread.
    pub fn run(&self, initialisations: u32, done: impl Fn() + Sync) -> Result<Table, SnnError> {
        let samples = (0..initialisations)
            .into_par_iter()
            .map(|i| {
                let sample = self.sample(u64::from(i));
                done();
                sample
            })
            .collect::<Result<Vec<Sample>, SnnError>>()?;
        let mut rows = Vec::new();
        for (s, &slope) in self.slopes.iter().enumerate() {
            for layer in 0..shape().hidden.len() + 1 {
                let of = |part: fn(&(f64, f64)) -> f64| {
                    mean_and_sd(samples.iter().map(|sample| part(&sample.gradients[s][layer])))
                };
                let (magnitude, magnitude_sd) = of(|g| g.0);
                let (cosine, cosine_sd) = of(|g| g.1);
                let rates = samples.iter().filter_map(|sample| sample.rates.get(layer).copied());
                let firing_rate = (layer < shape().hidden.len()).then(|| mean_and_sd(rates).0);
                rows.push(Row { slope, layer, magnitude, magnitude_sd, cosine, cosine_sd, firing_rate });
            }
        }
        Ok(Table::new(rows))
    }

    /// In double precision: the smallest gradients are nine orders of magnitude below the loss.
    fn sample(&self, index: u64) -> Result<Sample, SnnError> {
        // Streams of neighbouring seeds must not overlap.
        let seed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let shape = shape();
        let mut network = Network::<f64>::random(&shape, &mut rng)?;
        if self.neurons == Neurons::Fixed {
            for (lif, &n) in network.lif_mut().iter_mut().zip(&shape.hidden) {
                *lif = Lif::new(vec![0.9; n], vec![0.5; n])?;
            }
        }
        let trace = network.forward(input(&mut rng, shape.inputs).view())?;
        let target =
            Array3::from_shape_simple_fn((STEPS, BATCH, shape.outputs), || rng.random_range(-0.9..0.9));
        let error = (&trace.actions() - &target) * (2.0 / (STEPS * BATCH) as f64);
        let mut workspace = Workspace::new();
        let mut steepest = Gradients::zeros_like(&network);
        let mut gradients = steepest.clone();
        let backward = |k: f64, workspace: &mut Workspace<f64>, into: &mut Gradients<f64>| {
            network.backward_into(&trace, error.view(), &BackwardOptions::new(k), workspace, into)
        };
        backward(STEEPEST, &mut workspace, &mut steepest)?;
        let mut of_slopes = Vec::new();
        for &slope in &self.slopes {
            backward(slope, &mut workspace, &mut gradients)?;
            of_slopes.push(compare_layers(&gradients, &steepest));
        }
        Ok(Sample { rates: Trace::firing_rates(&trace), gradients: of_slopes })
    }
}

fn shape() -> Shape {
    Shape { inputs: 18, hidden: vec![64; 4], outputs: 4 }
}

/// x = 1.5·z with z a first-order process of unit variance that forgets a tenth per step: as smooth as a flight.
fn input(rng: &mut Xoshiro256PlusPlus, width: usize) -> Array3<f64> {
    let mut normal = || -> f64 { StandardNormal.sample(rng) };
    let mut z = vec![0.0; BATCH * width];
    z.iter_mut().for_each(|z| *z = normal());
    let mut x = Array3::zeros((STEPS, BATCH, width));
    for mut step in x.outer_iter_mut() {
        for (x, z) in step.iter_mut().zip(&mut z) {
            *x = 1.5 * *z;
            *z = 0.9 * *z + 0.436 * normal();
        }
    }
    x
}

fn compare_layers(gradients: &Gradients<f64>, steepest: &Gradients<f64>) -> Vec<(f64, f64)> {
    let magnitudes = gradients.parameters.linear().iter().map(|layer| {
        let weight = layer.weight();
        weight.iter().map(|g| g.abs()).sum::<f64>() / weight.len() as f64
    });
    magnitudes.zip(gradients.cosines(steepest)).collect()
}

/// Over what is finite: a layer that no gradient reaches has no direction. Standard deviation of the population.
fn mean_and_sd(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}
