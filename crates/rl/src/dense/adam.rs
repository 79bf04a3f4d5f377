//! The Adam optimiser of a feed-forward network.

use serde::{Deserialize, Serialize};

use super::Dense;
use spikewing_snn::matrix::vectorized;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Adam's state for one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseAdam {
    learning_rate: f32,
    steps: i32,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl DenseAdam {
    /// For a network, moments zero.
    pub fn new(network: &Dense, learning_rate: f64) -> Self {
        let zeros = vec![0.0; network.parameters().len()];
        Self { learning_rate: learning_rate as f32, steps: 0, first: zeros.clone(), second: zeros }
    }

    /// The learning rate.
    pub fn learning_rate(&self) -> f64 {
        f64::from(self.learning_rate)
    }

    /// Changes the learning rate from now on.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate as f32;
    }

    /// One descent step (β 0.9 and 0.999). Gradients that are not finite, or of another network, change nothing.
    pub fn step(&mut self, network: &mut Dense, gradients: &[f32]) {
        let fits = gradients.len() == self.first.len() && network.parameters().len() == self.first.len();
        if !fits || gradients.iter().any(|g| !g.is_finite()) {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        let size = self.learning_rate / (1.0 - BETA1.powi(self.steps));
        let correction = 1.0 / (1.0 - BETA2.powi(self.steps)).sqrt();
        let moments = self.first.iter_mut().zip(&mut self.second);
        let all = network.parameters_mut().iter_mut().zip(gradients).zip(moments);
        vectorized(
            #[inline(always)]
            || {
                for ((theta, g), (m, v)) in all {
                    *m += (1.0 - BETA1) * (g - *m);
                    *v += (1.0 - BETA2) * (g * g - *v);
                    *theta -= size * *m / (v.sqrt() * correction + EPSILON);
                }
            },
        );
    }
}
