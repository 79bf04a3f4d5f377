//! Replays a recorded snntorch run and says how far this crate is from it.

use ndarray::{Array3, s};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use spikewing_snn::{BackwardOptions, InputGradient, Lif, Linear, Network, Real};
use std::collections::BTreeMap;
use std::error::Error;

/// Largest deviations from a recording.
#[derive(Debug, Serialize)]
pub struct Deviation {
    pub spike_mismatches: usize,
    pub membrane_max_abs: f64,
    /// Over the layer's largest membrane: what single precision can be held to.
    pub membrane_max_rel: f64,
    pub output_max_abs: f64,
    /// Per slope (`k1`, `k2`, …): largest deviation of any gradient entry over the largest entry of its tensor.
    pub gradient_max_rel: BTreeMap<String, f64>,
}

struct Recording<'a>(SafeTensors<'a>);

impl Recording<'_> {
    fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>), Box<dyn Error>> {
        let tensor = self.0.tensor(name).map_err(|e| format!("tensor {name}: {e}"))?;
        let data = tensor.data();
        let values = match tensor.dtype() {
            Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            Dtype::F64 => data
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            other => return Err(format!("tensor {name} has type {other:?}, which no recording uses").into()),
        };
        Ok((tensor.shape().to_vec(), values))
    }

    fn sequence<T: Real>(&self, name: &str) -> Result<Array3<T>, Box<dyn Error>> {
        let (shape, values) = self.values(name)?;
        let [steps, batch, width] = shape[..] else {
            return Err(format!("tensor {name} has {} dimensions, not 3", shape.len()).into());
        };
        Ok(Array3::from_shape_vec((steps, batch, width), values.into_iter().map(T::of).collect())?)
    }

    fn network<T: Real>(&self) -> Result<Network<T>, Box<dyn Error>> {
        let vector = |name: String| -> Result<Vec<T>, Box<dyn Error>> {
            Ok(self.values(&name)?.1.into_iter().map(T::of).collect())
        };
        let (mut linear, mut lif) = (Vec::new(), Vec::new());
        for i in 1.. {
            let Ok((shape, _)) = self.values(&format!("w.fc{i}.weight")) else { break };
            let (weight, bias) = (vector(format!("w.fc{i}.weight"))?, vector(format!("w.fc{i}.bias"))?);
            linear.push(Linear::new(shape[1], shape[0], weight, bias)?);
            if let Ok(beta) = vector(format!("w.lif{i}.beta")) {
                lif.push(Lif::new(beta, vector(format!("w.lif{i}.threshold"))?)?);
            }
        }
        Ok(Network::new(linear, lif)?)
    }
}

fn max_abs<'a, T: Real + 'a>(got: impl IntoIterator<Item = &'a T>, want: &[f64]) -> f64 {
    let got: Vec<f64> = got.into_iter().map(|x| x.to_f64_exact()).collect();
    assert_eq!(got.len(), want.len(), "a tensor has another length than its recording");
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

/// The larger one; a NaN must not vanish in a maximum.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// Runs forward and, for each recorded slope, backward in precision `T`.
pub fn replay<T: Real>(bytes: &[u8]) -> Result<Deviation, Box<dyn Error>> {
    let recording = Recording(SafeTensors::deserialize(bytes)?);
    let metadata = SafeTensors::read_metadata(bytes)?.1;
    let warmup: usize = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get("warmup"))
        .ok_or("metadata lacks `warmup`")?
        .parse()?;
    let network: Network<T> = recording.network()?;
    let trace = network.forward(recording.sequence("input")?.view())?;

    let mut deviation = Deviation {
        spike_mismatches: 0,
        membrane_max_abs: 0.0,
        membrane_max_rel: 0.0,
        output_max_abs: max_abs(trace.actions().iter(), &recording.values("act")?.1),
        gradient_max_rel: BTreeMap::new(),
    };
    for layer in 0..network.lif().len() {
        let spikes = trace.spikes(layer).ok_or("no such layer")?;
        let (_, want) = recording.values(&format!("spk{}", layer + 1))?;
        deviation.spike_mismatches += spikes.iter().zip(&want).filter(|(a, b)| f64::from(**a) != **b).count();
        let membrane = trace.membrane(layer).ok_or("no such layer")?;
        let (_, want) = recording.values(&format!("mem{}", layer + 1))?;
        let worst = max_abs(&membrane, &want);
        let largest = want.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        deviation.membrane_max_abs = larger(deviation.membrane_max_abs, worst);
        deviation.membrane_max_rel = larger(deviation.membrane_max_rel, worst / largest);
    }

    // Loss: mean over steps from the warm-up on and over the batch, of the sum over outputs of (a − target)².
    let target: Array3<T> = recording.sequence("target")?;
    let scale = T::of(2.0 / ((trace.steps() - warmup) * trace.batch()) as f64);
    let mut grad_actions = (&trace.actions() - &target) * scale;
    // What stands before the warm-up must not matter.
    grad_actions.slice_mut(s![..warmup, .., ..]).fill(T::of(1e3));
    let mut slopes: Vec<String> = recording
        .0
        .names()
        .iter()
        .filter_map(|name| name.strip_suffix(".grad.fc1.weight").map(str::to_owned))
        .collect();
    slopes.sort();
    for slope in slopes {
        let mut options = BackwardOptions::new(T::of(slope.trim_start_matches('k').parse()?));
        options.first_step = warmup;
        options.input_gradient = InputGradient::Compute;
        let gradients = network.backward(&trace, grad_actions.view(), &options)?;
        let mut worst = 0.0;
        let mut compare = |name: &str, got: &[T]| -> Result<(), Box<dyn Error>> {
            let (_, want) = recording.values(&format!("{slope}.grad.{name}"))?;
            let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            worst = larger(worst, max_abs(got, &want) / largest.max(f64::MIN_POSITIVE));
            Ok(())
        };
        for (name, got) in gradients.parameters.parameters() {
            compare(&name.to_string(), got)?;
        }
        let input = gradients.input.ok_or("no input gradient")?;
        compare("input", input.as_slice().ok_or("input gradient is not contiguous")?)?;
        deviation.gradient_max_rel.insert(slope, worst);
    }
    Ok(deviation)
}
