//! The Adam optimiser over a network's parameters.

use crate::{Gradients, Network, Real, SnnError};
use serde::{Deserialize, Serialize};

/// Adam's settings; PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamOptions {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Gradients with a larger Euclidean norm are scaled down to it.
    pub clip_norm: Option<f64>,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: None }
    }
}

/// What one optimiser step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// The parameters moved.
    Applied,
    /// A gradient was not finite, so nothing was changed.
    SkippedNotFinite,
}

/// Adam with bias correction. All of its state is here and serialises, so that a resumed run is the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Adam<T: Real> {
    /// Settings; may be changed between steps.
    pub options: AdamOptions,
    steps: u64,
    first: Network<T>,
    second: Network<T>,
}

impl<T: Real> Adam<T> {
    /// An optimiser for networks of `network`'s shape, moments zero.
    pub fn new(network: &Network<T>, options: AdamOptions) -> Self {
        Self { options, steps: 0, first: network.zeros_like(), second: network.zeros_like() }
    }

    /// An optimiser that goes on from saved state: steps taken, first and second moments.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when the moments are of different shapes.
    pub fn from_state(
        options: AdamOptions,
        steps: u64,
        first: Network<T>,
        second: Network<T>,
    ) -> Result<Self, SnnError> {
        first.require_shape_of(&second)?;
        Ok(Self { options, steps, first, second })
    }

    /// Steps taken, first and second moments: the state [`Adam::from_state`] takes.
    pub fn state(&self) -> (u64, &Network<T>, &Network<T>) {
        (self.steps, &self.first, &self.second)
    }

    /// One descent step on `network`.
    ///
    /// # Errors
    /// [`SnnError::ShapeMismatch`] when network or gradients are of another shape.
    pub fn step(
        &mut self,
        network: &mut Network<T>,
        gradients: &Gradients<T>,
    ) -> Result<StepOutcome, SnnError> {
        self.first.require_shape_of(network)?;
        self.first.require_shape_of(&gradients.parameters)?;
        let norm = gradients.norm().to_f64_exact();
        if !norm.is_finite() {
            return Ok(StepOutcome::SkippedNotFinite);
        }
        let scale = match self.options.clip_norm {
            Some(limit) if norm > limit => T::of(limit / norm),
            _ => T::one(),
        };
        self.steps += 1;
        let AdamOptions { learning_rate, beta1, beta2, epsilon, .. } = self.options;
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let step_size = T::of(learning_rate / (1.0 - beta1.powi(exponent)));
        let correction = T::of(1.0 / (1.0 - beta2.powi(exponent)).sqrt());
        let (beta1, beta2, epsilon) = (T::of(beta1), T::of(beta2), T::of(epsilon));
        let (keep1, keep2) = (T::one() - beta1, T::one() - beta2);
        let moments = self.first.parameters_mut().into_iter().zip(self.second.parameters_mut());
        let values = network.parameters_mut().into_iter().zip(gradients.parameters.parameters());
        for (((_, theta), (_, g)), ((_, m), (_, v))) in values.zip(moments) {
            for (((theta, &g), m), v) in theta.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * scale;
                *m = beta1 * *m + keep1 * g;
                *v = beta2 * *v + keep2 * g * g;
                *theta -= step_size * *m / (v.sqrt() * correction + epsilon);
            }
        }
        Ok(StepOutcome::Applied)
    }
}
