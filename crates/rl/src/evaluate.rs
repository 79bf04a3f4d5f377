//! Evaluation of policies, with the figures that `spikewing eval` prints.

use serde::Serialize;
use spikewing_quad::{
    Observation, State, Vehicle,
    protocol::{Evaluation, Pilot, Summary, WarmStart},
};
use spikewing_snn::{Flight, Network, operations::Operations};

/// A spiking network as a pilot.
#[derive(Debug)]
pub struct SpikingPilot {
    flight: Flight,
}

impl SpikingPilot {
    /// Ready to fly, membranes at zero.
    pub fn new(network: &Network<f32>) -> Self {
        Self { flight: Flight::new(network) }
    }

    /// Operation counts of what was flown so far.
    pub fn operations(&self) -> Operations {
        Operations::of_flight(&self.flight)
    }
}

impl Pilot for SpikingPilot {
    fn reset(&mut self, _vehicle: &Vehicle, _state: &State) {
        self.flight.reset();
    }

    fn act(&mut self, observation: &Observation, _step: usize) -> [f32; 4] {
        let mut action = [0.0; 4];
        match self.flight.step(observation, &mut action) {
            Ok(()) => action,
            // The protocol scores a command that is not finite as motors off.
            Err(_) => [f32::NAN; 4],
        }
    }
}

/// What `spikewing eval` prints; the names are the JSON's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Return, length and errors.
    #[serde(flatten)]
    pub flight: Summary,
    /// Share of silent neurons; null for a policy without spikes.
    pub activation_sparsity: Option<f64>,
    /// Bytes of parameters and state.
    pub footprint_bytes: Option<usize>,
    /// Synaptic operations if nothing were skipped.
    pub dense_synops: Option<f64>,
    /// Multiply-accumulates done per step.
    pub effective_macs: Option<f64>,
    /// Accumulates done per step.
    pub effective_acs: Option<f64>,
    /// Estimated energy per step, mJ.
    pub energy_mj: Option<f64>,
}

impl Report {
    /// From flights and, where there are any, operation counts.
    pub fn new(flight: Summary, operations: Option<Operations>) -> Self {
        Self {
            flight,
            activation_sparsity: operations.map(|o| o.activation_sparsity),
            footprint_bytes: operations.map(|o| o.footprint_bytes),
            dense_synops: operations.map(|o| o.dense_synops),
            effective_macs: operations.map(|o| o.effective_macs),
            effective_acs: operations.map(|o| o.effective_acs),
            energy_mj: operations.map(|o| o.energy_mj),
        }
    }
}

/// Evaluates a spiking policy; the guide flies the first `warmup_steps` steps of each episode.
pub fn spiking(
    evaluation: &Evaluation,
    network: &Network<f32>,
    guide: impl Pilot,
    warmup_steps: usize,
) -> Report {
    let mut pilot = WarmStart { guide, student: SpikingPilot::new(network), steps: warmup_steps };
    let episodes = evaluation.run(&mut pilot);
    Report::new(Summary::of(&episodes), Some(pilot.student.operations()))
}

/// Evaluates any other pilot.
pub fn pilot(evaluation: &Evaluation, mut pilot: impl Pilot, operations: Option<Operations>) -> Report {
    Report::new(Summary::of(&evaluation.run(&mut pilot)), operations)
}
