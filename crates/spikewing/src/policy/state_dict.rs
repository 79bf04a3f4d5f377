//! A PyTorch `state_dict` saved as safetensors: linear layers and snntorch's `Leaky` neurons.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use spikewing_snn::Network;

use super::layers::{Layer, LifLayer, LinearLayer, natural};

/// The numbers of one module.
type Module = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// Reads the layers of a file.
pub fn read(bytes: &[u8]) -> Result<Vec<Layer>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a safetensors file ({e})"))?;
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    for (name, tensor) in file.tensors() {
        if name.starts_with("selftest.") {
            continue;
        }
        let (module, parameter) = name.rsplit_once('.').unwrap_or(("", &name));
        let values = numbers(&name, &tensor)?;
        modules
            .entry(module.to_owned())
            .or_default()
            .insert(parameter.to_owned(), (tensor.shape().to_vec(), values));
    }
    let (mut linear, mut neurons) = (Vec::new(), Vec::new());
    for (name, module) in &modules {
        if module.contains_key("weight") {
            linear.push(linear_layer(name, module)?);
        } else if module.contains_key("beta") || module.contains_key("threshold") {
            neurons.push(lif_layer(name, module)?);
        } else {
            let parameters: Vec<&str> = module.keys().map(String::as_str).collect();
            return Err(format!(
                "layer `{name}` cannot be: its parameters {} are those of no linear layer nor of snntorch's Leaky",
                parameters.join(", ")
            ));
        }
    }
    linear.sort_by_key(|l| natural(&l.name));
    neurons.sort_by_key(|l| natural(&l.name));
    if linear.is_empty() {
        return Err("there is no linear layer in it (NAME.weight)".to_owned());
    }
    if neurons.len() + 1 != linear.len() {
        return Err(format!(
            "{} linear layers ({}) and {} of neurons ({}): neurons stand between linear layers, so there is one fewer of them",
            linear.len(),
            linear.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", "),
            neurons.len(),
            neurons.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", "),
        ));
    }
    let mut neurons = neurons.into_iter();
    Ok(linear
        .into_iter()
        .flat_map(|l| [Some(Layer::Linear(l)), neurons.next().map(Layer::Lif)])
        .flatten()
        .collect())
}

fn numbers(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f64>, String> {
    let data = tensor.data();
    let values: Vec<f64> = match tensor.dtype() {
        Dtype::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
        Dtype::I64 => data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => {
            return Err(format!("tensor `{name}` is of type {other}; F16, BF16, F32 and F64 can be read"));
        }
    };
    match values.iter().find(|v| !v.is_finite()) {
        Some(v) => Err(format!("tensor `{name}` holds {v}")),
        None => Ok(values),
    }
}

fn linear_layer(name: &str, module: &Module) -> Result<LinearLayer, String> {
    if let Some(strange) = module.keys().find(|k| !["weight", "bias"].contains(&k.as_str())) {
        return Err(format!("layer `{name}` cannot be: a linear layer has no `{strange}`"));
    }
    let (shape, weight) = &module["weight"];
    let [outputs, inputs] = shape[..] else {
        let kind = if shape.len() == 1 { "a normalisation" } else { "a convolution" };
        return Err(format!(
            "layer `{name}` cannot be: its weight has shape {shape:?}, as {kind}; a linear layer has [outputs, inputs]"
        ));
    };
    let bias = match module.get("bias") {
        Some((_, bias)) if bias.len() == outputs => bias.clone(),
        Some((_, bias)) => {
            return Err(format!("layer `{name}`: {} biases for {outputs} outputs", bias.len()));
        }
        None => vec![0.0; outputs],
    };
    Ok(LinearLayer { name: name.to_owned(), inputs, outputs, weight: weight.clone(), bias })
}

fn lif_layer(name: &str, module: &Module) -> Result<LifLayer, String> {
    let values = |key: &str| module.get(key).map(|(_, values)| values.clone());
    let scalar = |key: &str| values(key).and_then(|v| v.first().copied());
    // What snntorch keeps: 0 subtract, 1 zero, 2 none.
    match scalar("reset_mechanism_val") {
        None | Some(0.0) => {}
        Some(1.0) => {
            return Err(format!(
                "layer `{name}` cannot be: it resets to zero; neurons here subtract their threshold"
            ));
        }
        Some(_) => {
            return Err(format!(
                "layer `{name}` cannot be: it never resets; neurons here subtract their threshold"
            ));
        }
    }
    if let Some(factor) = values("graded_spikes_factor").filter(|f| f.iter().any(|v| *v != 1.0)) {
        return Err(format!(
            "layer `{name}` cannot be: its spikes are graded ({factor:?}); spikes here are 0 or 1"
        ));
    }
    let known = ["beta", "threshold", "reset_mechanism_val", "graded_spikes_factor", "mem", "spk"];
    if let Some(strange) = module.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(format!(
            "layer `{name}` cannot be: snntorch's Leaky has no `{strange}` (is it Synaptic, Alpha or recurrent?)"
        ));
    }
    let beta = values("beta").ok_or_else(|| format!("layer `{name}`: beta is missing"))?;
    let threshold = values("threshold").unwrap_or_else(|| vec![1.0]);
    Ok(LifLayer { name: name.to_owned(), beta, threshold, gain: vec![1.0] })
}

/// A `state_dict` that snntorch loads: modules fc1, lif1, fc2, …, with the buffers of `Leaky`.
pub fn write(network: &Network<f32>) -> Result<Vec<u8>, String> {
    let widths = network.shape().widths();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    for (name, values) in network.parameters() {
        let text = name.to_string();
        let shape = match text
            .strip_suffix(".weight")
            .and_then(|m| m.strip_prefix("fc"))
            .and_then(|n| n.parse::<usize>().ok())
        {
            Some(n) => vec![widths[n], widths[n - 1]],
            None => vec![values.len()],
        };
        tensors.push((text, shape, bytes(values)));
    }
    for layer in 1..widths.len() - 1 {
        tensors.push((format!("lif{layer}.graded_spikes_factor"), Vec::new(), bytes(&[1.0])));
        tensors.push((format!("lif{layer}.reset_mechanism_val"), Vec::new(), bytes(&[0.0])));
    }
    let views: Result<Vec<(String, TensorView<'_>)>, _> = tensors
        .iter()
        .map(|(name, shape, data)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect();
    let views = views.map_err(|e: safetensors::SafeTensorError| e.to_string())?;
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}
