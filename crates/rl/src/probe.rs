//! A look at what training does inside: how active each layer is, how large a gradient reaches it, and how well that
//! gradient is aligned with the one of the steepest surrogate, which stands for the true one (PAPER: the gradient study, here
//! over the course of a training instead of for random networks).

use serde::{Deserialize, Serialize};
use spikewing_snn::Gradients;

use crate::{TrainError, Trainer, UpdateStats, actor, batch::Batch, critic};

/// The slope whose gradient stands for the true one.
pub const STEEPEST: f64 = 100.0;

/// One linear layer and the spiking layer that it feeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Share of its neurons that fired, over a batch; the output layer has none.
    pub firing_rate: Option<f64>,
    /// Norm of the gradient of its weights, before clipping.
    pub gradient_norm: f64,
    /// Cosine of that gradient and the one with slope 100; none where either vanishes.
    pub cosine_to_steepest: Option<f64>,
}

impl Trainer {
    /// What the next update would see, layer by layer, from first to last. Nothing is learned and nothing random is used up,
    /// so that a training that is looked at is the training that is not. `None` while there is too little experience.
    ///
    /// # Errors
    /// When a network refuses.
    pub fn probe(&self) -> Result<Option<Vec<Layer>>, TrainError> {
        if !self.ready() {
            return Ok(None);
        }
        let config = self.config();
        let batch = Batch::sample(config, self.replay(), &mut self.rng.clone());
        let (mut critic_buffers, mut buffers) = (critic::Buffers::default(), actor::Buffers::default());
        let mut gradient = |slope: f64| -> Result<Option<Gradients<f32>>, TrainError> {
            let mut stats = UpdateStats { slope, lambda_bc: self.lambda_bc(), ..UpdateStats::default() };
            let critics = self.follows().then_some((&self.critics, &mut critic_buffers));
            actor::differentiate(config, &self.actor, critics, &batch, &mut stats, &mut buffers)?;
            Ok(buffers.gradients.clone())
        };
        let (Some(steepest), Some(used)) = (gradient(STEEPEST)?, gradient(self.slope())?) else {
            return Ok(None);
        };
        let rates = buffers.trace.firing_rates();
        let linear = used.parameters.linear().iter().zip(used.cosines(&steepest));
        let layers = linear.enumerate().map(|(i, (layer, cosine))| Layer {
            firing_rate: rates.get(i).copied(),
            gradient_norm: layer.weight().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt(),
            cosine_to_steepest: cosine.is_finite().then_some(cosine),
        });
        Ok(Some(layers.collect()))
    }
}
