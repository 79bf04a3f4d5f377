//! A privileged critic Q(s, a): 146 + 4 inputs, two hidden layers of rectifiers, one value.
//!
//! dfdx carries the network and its automatic differentiation; this module is the only one that knows it. Parameters
//! live here as flat vectors, so that soft target updates, the optimiser's state and checkpoints are plain data.

use dfdx::prelude::*;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::replay::{ACTION, PRIVILEGED};

/// Inputs of a critic: the privileged observation, then the action.
pub const INPUTS: usize = PRIVILEGED + ACTION;
/// Neurons in each hidden layer.
pub const HIDDEN: usize = 128;

/// Inputs are scaled so that all are of about the same size: positions span ±0.6 m, body rates ±10 rad/s.
const SCALE: [(usize, f32); 3] = [(3, 2.0), (15, 1.0), (18, 0.2)];

type Net = ((Linear<INPUTS, HIDDEN>, ReLU), (Linear<HIDDEN, HIDDEN>, ReLU), Linear<HIDDEN, 1>);
type Model = <Net as BuildOnDevice<Cpu, f32>>::Built;
type Batch = Tensor<(usize, Const<INPUTS>), f32, Cpu>;

/// Sizes of the parameters, in order: weight and bias of the three layers.
const SIZES: [usize; 6] = [INPUTS * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, 1];

/// Why a critic could not compute.
#[derive(Debug, thiserror::Error)]
pub enum CriticError {
    /// A batch is not a whole number of inputs, or the targets do not match it.
    #[error("critic: {inputs} inputs and {targets} targets do not belong together")]
    Shape {
        /// Numbers given as inputs.
        inputs: usize,
        /// Targets given.
        targets: usize,
    },
    /// dfdx refused.
    #[error("critic: {0}")]
    Backend(String),
}

/// Parameters of one critic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Critic {
    parameters: Vec<Vec<f32>>,
}

/// Adam's state for one critic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriticAdam {
    learning_rate: f32,
    steps: i32,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

/// Loss and gradients of a critic.
#[derive(Clone, Debug)]
pub struct CriticGradients {
    /// Mean squared temporal-difference error.
    pub loss: f32,
    gradients: Vec<Vec<f32>>,
}

impl Critic {
    /// Random parameters, uniform ±1/√fan-in.
    pub fn random(rng: &mut impl Rng) -> Self {
        let fan_in = [INPUTS, INPUTS, HIDDEN, HIDDEN, HIDDEN, HIDDEN];
        let parameters = SIZES
            .iter()
            .zip(fan_in)
            .map(|(&n, fan_in)| {
                let bound = 1.0 / (fan_in as f32).sqrt();
                (0..n).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect()
            })
            .collect();
        Self { parameters }
    }

    /// Moves this critic towards another: θ ← (1 − τ) θ + τ θ′.
    pub fn soft_update_from(&mut self, other: &Self, tau: f32) {
        for (mine, theirs) in self.parameters.iter_mut().flatten().zip(other.parameters.iter().flatten()) {
            *mine += tau * (theirs - *mine);
        }
    }

    /// Action values of a batch `[n, 150]`, row-major.
    ///
    /// # Errors
    /// When the batch is of another shape.
    pub fn values(&self, inputs: Vec<f32>) -> Result<Vec<f32>, CriticError> {
        let device = Cpu::default();
        let model = self.model(&device)?;
        let x = batch(&device, inputs)?;
        Ok(model.try_forward(x).map_err(backend)?.as_vec())
    }

    /// Action values of a batch, and their derivative with respect to the action, `[n, 4]`.
    ///
    /// # Errors
    /// When the batch is of another shape.
    pub fn values_and_action_gradient(&self, inputs: Vec<f32>) -> Result<(Vec<f32>, Vec<f32>), CriticError> {
        let device = Cpu::default();
        let model = self.model(&device)?;
        let x = batch(&device, inputs)?;
        let q = model.try_forward(x.trace(Gradients::leaky())).map_err(backend)?;
        let values = q.as_vec();
        let gradients = q.sum().try_backward().map_err(backend)?;
        let dx = gradients.get(&x).as_vec();
        let dq = dx.chunks_exact(INPUTS).flat_map(|row| row[PRIVILEGED..].to_vec()).collect();
        Ok((values, dq))
    }

    /// Gradient of the mean squared distance to `targets` `[n]`.
    ///
    /// # Errors
    /// When inputs and targets do not belong together.
    pub fn gradients(&self, inputs: Vec<f32>, targets: Vec<f32>) -> Result<CriticGradients, CriticError> {
        let n = targets.len();
        if inputs.len() != n * INPUTS || n == 0 {
            return Err(CriticError::Shape { inputs: inputs.len(), targets: n });
        }
        let device = Cpu::default();
        let model = self.model(&device)?;
        let x = batch(&device, inputs)?;
        let y: Tensor<(usize, Const<1>), f32, Cpu> =
            device.try_tensor_from_vec(targets, (n, Const::<1>)).map_err(backend)?;
        let q = model.try_forward(x.traced(model.try_alloc_grads().map_err(backend)?)).map_err(backend)?;
        let loss = (q - y).square().mean();
        let value = loss.array();
        let g = loss.try_backward().map_err(backend)?;
        let ((l1, _), (l2, _), l3) = &model;
        let gradients = vec![
            g.get(&l1.weight).as_vec(),
            g.get(&l1.bias).as_vec(),
            g.get(&l2.weight).as_vec(),
            g.get(&l2.bias).as_vec(),
            g.get(&l3.weight).as_vec(),
            g.get(&l3.bias).as_vec(),
        ];
        Ok(CriticGradients { loss: value, gradients })
    }

    fn model(&self, device: &Cpu) -> Result<Model, CriticError> {
        let mut model: Model = Net::try_build_on_device(device).map_err(backend)?;
        let ((l1, _), (l2, _), l3) = &mut model;
        let [w1, b1, w2, b2, w3, b3] = self.parameters.as_slice() else {
            return Err(CriticError::Backend("a critic has six parameter tensors".into()));
        };
        if SIZES.iter().zip(&self.parameters).any(|(n, p)| p.len() != *n) {
            return Err(CriticError::Backend("a parameter tensor is of another size".into()));
        }
        l1.weight.copy_from(w1);
        l1.bias.copy_from(b1);
        l2.weight.copy_from(w2);
        l2.bias.copy_from(b2);
        l3.weight.copy_from(w3);
        l3.bias.copy_from(b3);
        Ok(model)
    }
}

fn batch(device: &Cpu, inputs: Vec<f32>) -> Result<Batch, CriticError> {
    if !inputs.len().is_multiple_of(INPUTS) || inputs.is_empty() {
        return Err(CriticError::Shape { inputs: inputs.len(), targets: 0 });
    }
    let n = inputs.len() / INPUTS;
    device.try_tensor_from_vec(inputs, (n, Const::<INPUTS>)).map_err(backend)
}

fn backend<E: std::fmt::Debug>(error: E) -> CriticError {
    CriticError::Backend(format!("{error:?}"))
}

/// Scales a privileged observation in place for a critic.
pub fn scale_privileged(privileged: &mut [f32]) {
    let mut from = 0;
    for (to, factor) in SCALE {
        for value in privileged.iter_mut().take(to).skip(from) {
            *value *= factor;
        }
        from = to;
    }
}

impl CriticAdam {
    /// Moments zero.
    pub fn new(learning_rate: f64) -> Self {
        let zeros: Vec<Vec<f32>> = SIZES.iter().map(|&n| vec![0.0; n]).collect();
        Self { learning_rate: learning_rate as f32, steps: 0, first: zeros.clone(), second: zeros }
    }

    /// One descent step (Adam, β 0.9 and 0.999). Gradients that are not finite change nothing.
    pub fn step(&mut self, critic: &mut Critic, gradients: &CriticGradients) {
        if gradients.gradients.iter().flatten().any(|g| !g.is_finite()) {
            return;
        }
        const B1: f32 = 0.9;
        const B2: f32 = 0.999;
        self.steps = self.steps.saturating_add(1);
        let size = self.learning_rate / (1.0 - B1.powi(self.steps));
        let correction = 1.0 / (1.0 - B2.powi(self.steps)).sqrt();
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((theta, g), (m, v)) in critic.parameters.iter_mut().zip(&gradients.gradients).zip(moments) {
            for (((theta, g), m), v) in theta.iter_mut().zip(g).zip(m).zip(v) {
                *m += (1.0 - B1) * (g - *m);
                *v += (1.0 - B2) * (g * g - *v);
                *theta -= size * *m / (v.sqrt() * correction + 1e-8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn inputs(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<f32> {
        (0..n * INPUTS).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect()
    }

    #[test]
    fn the_action_gradient_is_that_of_finite_differences() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let critic = Critic::random(&mut rng);
        let x = inputs(5, &mut rng);
        let (values, gradient) = critic.values_and_action_gradient(x.clone()).unwrap();
        assert_eq!(values, critic.values(x.clone()).unwrap());
        for row in 0..5 {
            for motor in 0..ACTION {
                let at = |d: f32| {
                    let mut moved = x.clone();
                    moved[row * INPUTS + PRIVILEGED + motor] += d;
                    critic.values(moved).unwrap()[row]
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                let exact = gradient[row * ACTION + motor];
                assert!((difference - exact).abs() < 2e-3, "{difference} {exact}");
            }
        }
    }

    #[test]
    fn it_learns_a_function_of_state_and_action() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut critic = Critic::random(&mut rng);
        let mut adam = CriticAdam::new(1e-3);
        let mut losses = Vec::new();
        for _ in 0..800 {
            let x = inputs(64, &mut rng);
            let y = x.chunks_exact(INPUTS).map(|r| r[0] - 2.0 * r[PRIVILEGED] * r[PRIVILEGED]).collect();
            let gradients = critic.gradients(x, y).unwrap();
            losses.push(gradients.loss);
            adam.step(&mut critic, &gradients);
        }
        assert!(losses[799] < 0.3 * losses[0], "{} {}", losses[0], losses[799]);
    }

    #[test]
    fn shapes_are_checked() {
        let critic = Critic::random(&mut Xoshiro256PlusPlus::seed_from_u64(3));
        assert!(critic.values(vec![0.0; INPUTS + 1]).is_err());
        assert!(critic.gradients(vec![0.0; INPUTS], vec![]).is_err());
    }
}
