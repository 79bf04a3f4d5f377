//! What one inference costs: NeuroBench's operation counts and the energy estimate of the paper.
//!
//! As NeuroBench has it: the footprint is all parameters and state; activation sparsity is the share of zeros among the
//! activations of all layers, steps and samples together; dense synaptic operations are one per weight; an operation is
//! effective when neither its weight nor its input is zero, an accumulate where a layer's inputs are spikes and a
//! multiply-accumulate elsewhere. Biases are no synaptic operations.

use crate::{Flight, Mlp, Real, Shape, Trace};

/// Energy of one synaptic operation, in pJ.
pub const SYNAPTIC_OPERATION_PJ: f64 = 23.6;
/// Energy of one spike within a tile, in pJ.
pub const SPIKE_PJ: f64 = 1.7;
/// Energy of one neuron update, in pJ.
pub const NEURON_UPDATE_PJ: f64 = 81.0;

/// NeuroBench's figures for one network, per inference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Operations {
    /// Bytes of parameters and state, four each.
    pub footprint_bytes: usize,
    /// Share of hidden neurons that are silent in a step, all layers together; 0 without spiking layers.
    pub activation_sparsity: f64,
    /// Synaptic operations if nothing were skipped: one per weight.
    pub dense_synops: f64,
    /// Multiply-accumulates of neither zero input nor zero weight: those of layers with continuous input.
    pub effective_macs: f64,
    /// Accumulates: one per outgoing weight, not zero, of a neuron that fired.
    pub effective_acs: f64,
    /// Energy by the paper's formula, in mJ; see [`energy_mj`].
    pub energy_mj: f64,
}

impl Operations {
    /// Of a spiking network whose layers fire at `rates` (share of neurons per step, one per spiking layer), taking every
    /// weight and input for not zero. Missing rates count as 0.
    pub fn spiking(shape: &Shape, rates: &[f64]) -> Self {
        let widths = shape.widths();
        let rate = |layer: usize| rates.get(layer).copied().unwrap_or(0.0);
        let neurons: usize = shape.hidden.iter().sum();
        let fired: f64 = shape.hidden.iter().enumerate().map(|(i, &n)| n as f64 * rate(i)).sum();
        let activation_sparsity = if neurons == 0 { 0.0 } else { 1.0 - fired / neurons as f64 };
        let accumulates = |i: usize| widths[i + 1] as f64 * rate(i) * widths[i + 2] as f64;
        Self {
            // One membrane potential per neuron.
            footprint_bytes: 4 * (shape.parameter_count() + neurons),
            activation_sparsity,
            dense_synops: dense(&widths),
            effective_macs: (shape.inputs * shape.hidden.first().copied().unwrap_or(0)) as f64,
            effective_acs: (0..shape.hidden.len()).map(accumulates).sum(),
            energy_mj: energy_mj(shape, activation_sparsity),
        }
    }

    /// Of a network in flight, by what was counted since its counters were cleared.
    pub fn of_flight(flight: &Flight) -> Self {
        let layers = flight.shape().hidden.len();
        let rates: Vec<f64> = (0..layers).map(|i| flight.firing_rate(i).unwrap_or(0.0)).collect();
        let counts = flight.counts();
        let per_step = |n: u64| n as f64 / counts.steps.max(1) as f64;
        Self {
            effective_macs: per_step(counts.macs),
            effective_acs: per_step(counts.acs),
            ..Self::spiking(flight.shape(), &rates)
        }
    }

    /// Of the sequences in a trace, taking every weight and input for not zero.
    pub fn of_trace<T: Real>(trace: &Trace<T>) -> Self {
        Self::spiking(&trace.shape, &trace.firing_rates())
    }

    /// Of a feed-forward network, taking every weight and activation for not zero (tanh makes no zeros): every weight is a
    /// multiply-accumulate. The energy counts those alone, since the
    /// formula's other terms are about spikes.
    pub fn mlp(mlp: &Mlp) -> Self {
        let widths = mlp.widths();
        let macs = dense(&widths);
        let biases: usize = widths.iter().skip(1).sum();
        Self {
            footprint_bytes: 4 * (macs as usize + biases),
            activation_sparsity: 0.0,
            dense_synops: macs,
            effective_macs: macs,
            effective_acs: 0.0,
            energy_mj: macs * SYNAPTIC_OPERATION_PJ * PJ_TO_MJ,
        }
    }
}

const PJ_TO_MJ: f64 = 1e-9;

fn dense(widths: &[usize]) -> f64 {
    widths.windows(2).map(|w| (w[0] * w[1]) as f64).sum()
}

/// The paper's estimate of the energy of one inference, in mJ:
/// `Σ over spiking layers of [N·(Pu + N_in·Pw) + Ps·(1 − S)·N] + N_out·N_last·Pw`, with `sparsity` S.
///
/// The formula counts every synapse, silent ones too. For 18-256-128-4 at S = 0.79 it gives 9.25e-4 mJ, and no less
/// even if no neuron fires: about ten times the 9.7e-5 mJ stated with it.
pub fn energy_mj(shape: &Shape, sparsity: f64) -> f64 {
    let widths = shape.widths();
    let mut pj = 0.0;
    for (i, &n) in shape.hidden.iter().enumerate() {
        let n = n as f64;
        pj += n * (NEURON_UPDATE_PJ + widths[i] as f64 * SYNAPTIC_OPERATION_PJ);
        pj += SPIKE_PJ * (1.0 - sparsity) * n;
    }
    let last = shape.hidden.last().copied().unwrap_or(0);
    (pj + (shape.outputs * last) as f64 * SYNAPTIC_OPERATION_PJ) * PJ_TO_MJ
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;
    use ndarray::{Array3, s};
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn counts_meet_the_published_ones() {
        let counts = Operations::spiking(&Shape::paper(), &[0.371, 0.1]);
        assert_eq!(counts.dense_synops, 37_888.0);
        assert_eq!(counts.effective_macs, 4_608.0);
        assert!((counts.effective_acs - 12_200.0).abs() < 50.0, "{counts:?}");
        // Published: 158.3 kB, which includes buffers of the measured implementation.
        let footprint = counts.footprint_bytes as f64;
        assert!((footprint / 158_300.0 - 1.0).abs() < 5e-3, "{footprint}");
    }

    /// Spike by spike and weight by weight, on a network and inputs with zeros.
    #[test]
    fn a_flight_counts_what_is_not_zero() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let shape = Shape { inputs: 5, hidden: vec![20, 12], outputs: 3 };
        let mut network = Network::<f32>::random(&shape, &mut rng).unwrap();
        for layer in network.linear_mut() {
            layer.weight_mut().iter_mut().step_by(3).for_each(|w| *w = 0.0);
        }
        let input =
            Array3::from_shape_fn((9, 1, 5), |(t, _, i)| if (t + i) % 4 == 0 { 0.0 } else { 2.0 - i as f32 });
        let trace = network.forward(input.view()).unwrap();
        let mut flight = Flight::new(&network);
        let (mut macs, mut acs, mut silent) = (0, 0, 0);
        for t in 0..9 {
            let observation: Vec<f32> = input.slice(s![t, 0, ..]).to_vec();
            flight.step(&observation, &mut [0.0; 3]).unwrap();
            let count = |layer: usize, active: &dyn Fn(usize) -> bool| {
                let weights = network.linear()[layer].weight();
                weights.indexed_iter().filter(|((_, k), w)| **w != 0.0 && active(*k)).count()
            };
            macs += count(0, &|k| observation[k] != 0.0);
            for layer in [0, 1] {
                let spikes = trace.spikes(layer).unwrap();
                acs += count(layer + 1, &|k| spikes[[t, 0, k]] == 1);
                silent += spikes.slice(s![t, 0, ..]).iter().filter(|s| **s == 0).count();
            }
        }
        let counts = Operations::of_flight(&flight);
        assert!(macs > 0 && acs > 0, "{macs} {acs}");
        assert_eq!((counts.effective_macs, counts.effective_acs), (macs as f64 / 9.0, acs as f64 / 9.0));
        assert!((counts.activation_sparsity - silent as f64 / (9.0 * 32.0)).abs() < 1e-12);
        assert_eq!(
            counts.dense_synops,
            5.0 * 20.0 + 20.0 * 12.0 + 12.0 * 3.0,
            "zeros and all, without biases"
        );
        flight.clear_counters();
        assert_eq!(Operations::of_flight(&flight).effective_acs, 0.0);
    }

    #[test]
    fn the_guide_counts_meet_the_published_ones() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let counts = Operations::mlp(&Mlp::random(&[146, 64, 64, 4], &mut rng).unwrap());
        assert_eq!((counts.footprint_bytes, counts.effective_macs), (54_784 + 528, 13_696.0));
    }

    #[test]
    fn energy_follows_the_formula_worked_by_hand() {
        // 256·(81 + 18·23.6) + 128·(81 + 256·23.6) + 4·128·23.6 pJ, and 1.7 pJ for each of 0.21·384 spikes.
        let by_hand = (129_484.8 + 783_692.8 + 12_083.2 + 1.7 * 0.21 * 384.0) * 1e-9;
        assert!((energy_mj(&Shape::paper(), 0.79) - by_hand).abs() < 1e-12);
    }
}
