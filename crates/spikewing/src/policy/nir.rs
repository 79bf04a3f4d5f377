//! NIR, the Neuromorphic Intermediate Representation (PyPI `nir`, HDF5): affine and linear nodes, and LIF neurons.
//!
//! NIR's neuron is τ v̇ = v_leak − v + R I with a spike above v_threshold, in continuous time. A step of dt makes of it
//! v ← β v + R (dt/τ) I with β = 1 − dt/τ, which is the neuron here for v_leak = 0; where R dt/τ is not 1 it goes into the
//! weights. What a spike does is where they differ: NIR sets v to v_reset at once, neurons here subtract the threshold one step
//! later, as snntorch's `Leaky` does. An export says so in the node's metadata, and snntorch's own does not: an import
//! must be told.

use std::collections::BTreeMap;

use hdf5_pure::{File, FileBuilder, Group};
use spikewing_snn::Network;

use super::layers::{Layer, LifLayer, LinearLayer};

/// Step for which snntorch writes and reads NIR's time constants, s.
pub const SNNTORCH_DT_S: f64 = 1e-4;
/// What the metadata of a node says of its reset.
const RESET: &str = "subtract threshold one step after the spike";

/// What neurons do at a spike, where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reset {
    /// As NIR defines it: the membrane is set to v_reset at once. Cannot be flown; refused
    Nir,
    /// As snntorch's Leaky by default, whose export does not note it: the threshold is subtracted, one step later
    Snntorch,
}

/// Reads the layers of a graph, along its edges.
pub fn read(bytes: Vec<u8>, dt_s: f64, reset: Reset) -> Result<Vec<Layer>, String> {
    let file = File::from_bytes(bytes).map_err(|e| format!("not an HDF5 file ({e})"))?;
    let graph = file.group("node").map_err(|e| format!("no NIR graph in it ({e})"))?;
    let kind = text(&graph, "type")?;
    if kind != "NIRGraph" {
        return Err(format!("its root is a {kind}; a NIRGraph is needed"));
    }
    let order = chain(&graph)?;
    let nodes = graph.group("nodes").map_err(|e| format!("the graph has no nodes ({e})"))?;
    let mut layers = Vec::new();
    for name in order {
        let node = nodes.group(&name).map_err(|e| format!("node `{name}`: {e}"))?;
        let kind = text(&node, "type")?;
        match kind.as_str() {
            "Input" | "Output" => {}
            "Affine" | "Linear" => layers.push(Layer::Linear(linear(&name, &node)?)),
            "LIF" => layers.push(Layer::Lif(lif(&name, &node, dt_s, reset)?)),
            "IF" => {
                return Err(format!(
                    "layer `{name}` cannot be: an IF neuron does not leak; write it as a LIF with a long tau"
                ));
            }
            "NIRGraph" => {
                return Err(format!(
                    "layer `{name}` cannot be: it is a graph of its own (a recurrent layer?)"
                ));
            }
            other => return Err(format!("layer `{name}` cannot be: a {other}; Affine, Linear and LIF can")),
        }
    }
    Ok(layers)
}

/// Names of the nodes from input to output. Only a chain can be flown.
fn chain(graph: &Group) -> Result<Vec<String>, String> {
    let edges = graph
        .dataset("edges")
        .and_then(|d| d.read_string())
        .map_err(|e| format!("the graph's edges cannot be read ({e})"))?;
    let mut next: BTreeMap<&str, &str> = BTreeMap::new();
    let mut targets = Vec::new();
    for pair in edges.chunks_exact(2) {
        let (from, to) = (pair[0].as_str(), pair[1].as_str());
        if let Some(other) = next.insert(from, to).filter(|other| *other != to) {
            return Err(format!(
                "node `{from}` goes to both `{other}` and `{to}`: only a chain of layers can be"
            ));
        }
        if targets.contains(&to) {
            return Err(format!(
                "more than one node goes to `{to}`: only a chain of layers can be (is it recurrent?)"
            ));
        }
        targets.push(to);
    }
    let mut starts = next.keys().filter(|from| !targets.contains(from));
    let (Some(start), None) = (starts.next(), starts.next()) else {
        return Err("the graph has no single beginning: only a chain of layers can be".to_owned());
    };
    let mut order = vec![(*start).to_owned()];
    let mut at = *start;
    while let Some(to) = next.get(at) {
        if order.iter().any(|seen| seen == to) {
            return Err(format!("the graph comes back to `{to}`: only a chain of layers can be"));
        }
        order.push((*to).to_owned());
        at = to;
    }
    Ok(order)
}

fn text(group: &Group, name: &str) -> Result<String, String> {
    let read = group
        .dataset(name)
        .and_then(|d| d.read_string())
        .map_err(|e| format!("`{name}` cannot be read ({e})"))?;
    read.into_iter().next().ok_or_else(|| format!("`{name}` is empty"))
}

fn numbers(group: &Group, node: &str, name: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
    let at = |e: hdf5_pure::Error| format!("layer `{node}`: `{name}` cannot be read ({e})");
    let dataset = group.dataset(name).map_err(at)?;
    let shape = dataset.shape().map_err(at)?.into_iter().map(|n| n as usize).collect();
    let values = dataset.read_f64().map_err(at)?;
    match values.iter().find(|v| v.is_nan()) {
        Some(_) => {
            Err(format!("layer `{node}`: `{name}` holds NaN (a leak of exactly 1 has no time constant)"))
        }
        None => Ok((shape, values)),
    }
}

fn linear(name: &str, node: &Group) -> Result<LinearLayer, String> {
    let (shape, weight) = numbers(node, name, "weight")?;
    let [outputs, inputs] = shape[..] else {
        return Err(format!(
            "layer `{name}` cannot be: its weight has shape {shape:?}, not [outputs, inputs]"
        ));
    };
    let bias = match node.dataset("bias") {
        Ok(_) => numbers(node, name, "bias")?.1,
        Err(_) => vec![0.0; outputs],
    };
    if bias.len() != outputs {
        return Err(format!("layer `{name}`: {} biases for {outputs} outputs", bias.len()));
    }
    Ok(LinearLayer { name: name.to_owned(), inputs, outputs, weight, bias })
}

fn lif(name: &str, node: &Group, dt_s: f64, reset: Reset) -> Result<LifLayer, String> {
    let of = |what: &str| numbers(node, name, what).map(|(_, values)| values);
    let (tau, r, threshold) = (of("tau")?, of("r")?, of("v_threshold")?);
    if of("v_leak")?.iter().any(|v| *v != 0.0) {
        return Err(format!("layer `{name}` cannot be: v_leak is not 0; membranes here leak to 0"));
    }
    if tau.len() != r.len() {
        return Err(format!("layer `{name}`: {} time constants and {} resistances", tau.len(), r.len()));
    }
    if let Some(tau) = tau.iter().find(|t| **t < dt_s) {
        return Err(format!(
            "layer `{name}`: tau = {tau} s is shorter than the step of {dt_s} s: is --dt right?"
        ));
    }
    let noted = node.group("metadata").ok().and_then(|m| text(&m, "reset").ok());
    match (noted.as_deref(), reset) {
        (Some(RESET), _) | (None, Reset::Snntorch) => {}
        (Some(other), _) => {
            return Err(format!("layer `{name}` cannot be: its reset is `{other}`; here it is `{RESET}`"));
        }
        (None, Reset::Nir) => {
            return Err(format!(
                "layer `{name}` cannot be as it is: NIR sets a membrane to v_reset at once, neurons here subtract the threshold one \
                 step after the spike. If snntorch wrote it from Leaky with its defaults, whose export does not note the reset, say \
                 so: --reset snntorch"
            ));
        }
    }
    let beta = tau.iter().map(|tau| 1.0 - dt_s / tau).collect();
    let gain = r.iter().zip(&tau).map(|(r, tau)| near_one(r * dt_s / tau)).collect();
    Ok(LifLayer { name: name.to_owned(), beta, threshold, gain })
}

/// What only rounding keeps from 1 is 1.
fn near_one(gain: f64) -> f64 {
    if (gain - 1.0).abs() < 1e-5 { 1.0 } else { gain }
}

/// A graph that PyPI's `nir` reads.
pub fn write(network: &Network<f32>, dt_s: f64) -> Result<Vec<u8>, String> {
    let widths = network.shape().widths();
    let parameters: BTreeMap<String, Vec<f32>> =
        network.parameters().into_iter().map(|(name, values)| (name.to_string(), values.to_vec())).collect();
    let of = |name: String| parameters.get(&name).cloned().unwrap_or_default();
    let last = widths.len() - 1;
    let mut names = vec!["input".to_owned()];
    let mut file = FileBuilder::new();
    file.create_dataset("version").with_vlen_strings(&["1.0.8"]).with_shape(&[]);
    let mut graph = file.create_group("node");
    graph.create_dataset("type").with_vlen_strings(&["NIRGraph"]).with_shape(&[]);
    let mut nodes = graph.create_group("nodes");
    let shape_node = |nodes: &mut hdf5_pure::GroupBuilder, name: &str, kind: &str, width: usize| {
        let mut node = nodes.create_group(name);
        node.create_dataset("type").with_vlen_strings(&[kind]).with_shape(&[]);
        node.create_dataset("shape").with_i64_data(&[width as i64]).with_shape(&[1]);
        nodes.add_group(node.finish());
    };
    shape_node(&mut nodes, "input", "Input", widths[0]);
    for layer in 1..=last {
        let (inputs, outputs) = (widths[layer - 1], widths[layer]);
        let name = format!("fc{layer}");
        let mut node = nodes.create_group(&name);
        node.create_dataset("type").with_vlen_strings(&["Affine"]).with_shape(&[]);
        node.create_dataset("weight")
            .with_f32_data(&of(format!("fc{layer}.weight")))
            .with_shape(&[outputs as u64, inputs as u64]);
        node.create_dataset("bias")
            .with_f32_data(&of(format!("fc{layer}.bias")))
            .with_shape(&[outputs as u64]);
        nodes.add_group(node.finish());
        names.push(name);
        if layer == last {
            break;
        }
        let name = format!("lif{layer}");
        // What is used is clamped.
        let beta: Vec<f64> =
            of(format!("lif{layer}.beta")).iter().map(|b| f64::from(b.clamp(0.0, 1.0))).collect();
        // A neuron that does not leak has no finite time constant: the longest of which a reader's single precision makes a
        // leak of 1 again.
        let tau: Vec<f64> = beta.iter().map(|b| dt_s / (1.0 - b).max(1e-9)).collect();
        let r: Vec<f64> = tau.iter().map(|tau| tau / dt_s).collect();
        let threshold: Vec<f64> = of(format!("lif{layer}.threshold")).iter().map(|t| f64::from(*t)).collect();
        let zeros = vec![0.0; outputs];
        let mut node = nodes.create_group(&name);
        node.create_dataset("type").with_vlen_strings(&["LIF"]).with_shape(&[]);
        for (field, values) in
            [("tau", &tau), ("r", &r), ("v_leak", &zeros), ("v_reset", &zeros), ("v_threshold", &threshold)]
        {
            node.create_dataset(field).with_f64_data(values).with_shape(&[outputs as u64]);
        }
        let mut metadata = node.create_group("metadata");
        metadata.create_dataset("reset").with_vlen_strings(&[RESET]).with_shape(&[]);
        metadata.create_dataset("dt_s").with_f64_data(&[dt_s]).with_shape(&[]);
        node.add_group(metadata.finish());
        nodes.add_group(node.finish());
        names.push(name);
    }
    shape_node(&mut nodes, "output", "Output", widths[last]);
    names.push("output".to_owned());
    graph.add_group(nodes.finish());
    let edges: Vec<&str> = names.windows(2).flat_map(|pair| [pair[0].as_str(), pair[1].as_str()]).collect();
    graph.create_dataset("edges").with_vlen_strings(&edges).with_shape(&[edges.len() as u64 / 2, 2]);
    let mut metadata = graph.create_group("metadata");
    metadata.create_dataset("output_activation").with_vlen_strings(&["tanh"]).with_shape(&[]);
    graph.add_group(metadata.finish());
    file.add_group(graph.finish());
    file.finish().map_err(|e| e.to_string())
}
