//! Inputs and outputs that travel with a policy and prove that it computes here what it computed where it was made.

use super::{Model, PolicyError};
use crate::Flight;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Steps of a recorded test: long enough for every layer's membranes to charge, fire and reset.
const STEPS: usize = 64;

/// An input sequence and the outputs it gave, both row-major over steps, from zero membranes.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    pub(super) steps: usize,
    /// `[steps, inputs]`.
    pub(super) input: Vec<f32>,
    /// `[steps, outputs]`.
    pub(super) output: Vec<f32>,
}

impl SelfTest {
    /// Steps of the sequence.
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// Inputs, `[steps, inputs]` row-major.
    pub fn input(&self) -> &[f32] {
        &self.input
    }
    /// Outputs, `[steps, outputs]` row-major.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// Runs `model` over a fixed pseudo-random walk of plausible magnitude and records what comes out.
    pub(super) fn record(model: &Model) -> Result<Self, PolicyError> {
        let width = model.widths().first().copied().unwrap_or(0);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(0x5e1f_7e57);
        let mut state = vec![0.0f32; width];
        let mut input = Vec::with_capacity(STEPS * width);
        for _ in 0..STEPS {
            for x in &mut state {
                *x = 0.9 * *x + rng.random_range(-0.4f32..0.4);
            }
            input.extend_from_slice(&state);
        }
        let output = run(model, &input)?;
        Ok(Self { steps: STEPS, input, output })
    }

    /// Runs the recorded inputs again.
    ///
    /// # Errors
    /// [`PolicyError::SelfTest`] at the first output further from its recording than `tolerance`.
    pub(super) fn check(&self, model: &Model, tolerance: f32) -> Result<(), PolicyError> {
        let got = run(model, &self.input)?;
        let outputs = (self.output.len() / self.steps.max(1)).max(1);
        for (i, (&got, &expected)) in got.iter().zip(&self.output).enumerate() {
            let difference = (got - expected).abs();
            if difference.is_nan() || difference > tolerance {
                return Err(PolicyError::SelfTest { step: i / outputs, output: i % outputs, expected, got });
            }
        }
        Ok(())
    }
}

fn run(model: &Model, input: &[f32]) -> Result<Vec<f32>, PolicyError> {
    let widths = model.widths();
    let inputs = widths.first().copied().unwrap_or(0).max(1);
    let mut action = vec![0.0; widths.last().copied().unwrap_or(0)];
    let mut all = Vec::with_capacity(input.len() / inputs * action.len());
    match model {
        Model::Spiking(network) => {
            let mut flight = Flight::new(network);
            for observation in input.chunks_exact(inputs) {
                flight.step(observation, &mut action)?;
                all.extend_from_slice(&action);
            }
        }
        Model::Mlp(mlp) => {
            let mut mlp = mlp.clone();
            for observation in input.chunks_exact(inputs) {
                mlp.forward(observation, &mut action)?;
                all.extend_from_slice(&action);
            }
        }
    }
    Ok(all)
}
