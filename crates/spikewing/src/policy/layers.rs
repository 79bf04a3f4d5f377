//! Layers of other programs on their way into a spiking network, or into a guide's network.

use spikewing_snn::{Lif, Linear, Network};

/// A layer as other programs name it.
#[derive(Clone, Debug)]
pub enum Layer {
    /// y = W x + b.
    Linear(LinearLayer),
    /// Leaky integrate-and-fire neurons.
    Lif(LifLayer),
}

/// A linear layer.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    pub name: String,
    pub inputs: usize,
    pub outputs: usize,
    /// Row-major `[outputs, inputs]`.
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// A layer of neurons: leak and threshold of each, or one for all.
#[derive(Clone, Debug)]
pub struct LifLayer {
    pub name: String,
    pub beta: Vec<f64>,
    pub threshold: Vec<f64>,
    /// What the layer multiplies its input by.
    pub gain: Vec<f64>,
}

/// A network of layers in their order: linear, neurons, linear, …, linear.
pub fn network(layers: &[Layer]) -> Result<Network<f32>, String> {
    let (mut linear, mut lif): (Vec<Linear<f32>>, Vec<Lif<f32>>) = (Vec::new(), Vec::new());
    for pair in layers.chunks(2) {
        let Layer::Linear(l) = &pair[0] else {
            return Err(format!("layer `{}`: neurons need a linear layer before them", name(&pair[0])));
        };
        if let Some(before) = linear.last().filter(|before| before.outputs() != l.inputs) {
            return Err(format!(
                "layer `{}` takes {} numbers, the one before gives {}",
                l.name,
                l.inputs,
                before.outputs()
            ));
        }
        let (mut weight, mut bias) = (l.weight.clone(), l.bias.clone());
        match pair.get(1) {
            Some(Layer::Lif(neurons)) => {
                let each = |values: &[f64], what: &str| match values {
                    [one] => Ok(vec![*one; l.outputs]),
                    all if all.len() == l.outputs => Ok(all.to_vec()),
                    all => Err(format!(
                        "layer `{}`: {what} has {} values for {} neurons",
                        neurons.name,
                        all.len(),
                        l.outputs
                    )),
                };
                let (beta, threshold) =
                    (each(&neurons.beta, "beta")?, each(&neurons.threshold, "threshold")?);
                for (neuron, gain) in each(&neurons.gain, "gain")?.into_iter().enumerate() {
                    // A gain of 1 leaves every bit as it is.
                    weight[neuron * l.inputs..(neuron + 1) * l.inputs].iter_mut().for_each(|w| *w *= gain);
                    bias[neuron] *= gain;
                }
                lif.push(
                    Lif::new(narrow(&beta), narrow(&threshold))
                        .map_err(|e| format!("layer `{}`: {e}", neurons.name))?,
                );
            }
            Some(Layer::Linear(next)) => {
                return Err(format!(
                    "layer `{}` follows the linear layer `{}`: between two there must be spiking neurons",
                    next.name, l.name
                ));
            }
            None => {}
        }
        linear.push(
            Linear::new(l.inputs, l.outputs, narrow(&weight), narrow(&bias))
                .map_err(|e| format!("layer `{}`: {e}", l.name))?,
        );
    }
    match layers.last() {
        None => return Err("there is no layer in it".to_owned()),
        Some(Layer::Lif(last)) => {
            return Err(format!(
                "layer `{}`: the network ends with spiking neurons; motors are commanded by a linear layer and tanh",
                last.name
            ));
        }
        Some(Layer::Linear(_)) => {}
    }
    Network::new(linear, lif).map_err(|e| e.to_string())
}

fn name(layer: &Layer) -> &str {
    match layer {
        Layer::Linear(l) => &l.name,
        Layer::Lif(l) => &l.name,
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// Splits a name into texts and numbers, so that `fc10` comes after `fc2`.
pub fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        parts.push((text.to_owned(), tail[..end].parse().unwrap_or(0)));
        rest = &tail[end..];
    }
    parts
}
