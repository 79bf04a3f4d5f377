//! Replays a recorded snntorch run and says how far this crate is from it.
//!
//! A recording is a safetensors file: parameters `w.fc{i}.weight|bias`, `w.lif{i}.beta|threshold`; `input` and `target`
//! `[steps, batch, width]`; spikes `spk{i}` and membranes after the step `mem{i}`, actions `act`; per slope k
//! `k{k}.grad.NAME` for any of the parameters and for `input`. Loss: mean over the steps from the warm-up on and over the
//! batch, of the sum over outputs of (action − target)². Numbers of any type, networks of any depth.

use ndarray::{Array3, s};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use spikewing_snn::{BackwardOptions, InputGradient, Lif, Linear, Network, Real, Trace};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;

type Outcome<T> = Result<T, Box<dyn Error>>;

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

/// An opened recording.
pub struct Recording<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Recording<'a> {
    pub fn open(bytes: &'a [u8]) -> Outcome<Self> {
        let metadata = SafeTensors::read_metadata(bytes)?.1.metadata().clone().unwrap_or_default();
        Ok(Self { tensors: SafeTensors::deserialize(bytes)?, metadata })
    }

    /// The metadata entry `warmup`, however it is written (`warm_up`, `warmup_steps`, …); `otherwise` without one.
    pub fn warmup(&self, otherwise: Option<usize>) -> Outcome<usize> {
        let spelling = |name: &str| {
            let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect();
            letters.to_ascii_lowercase().trim_end_matches("steps").to_owned()
        };
        let Some((name, text)) = self.metadata.iter().find(|(name, _)| spelling(name) == "warmup") else {
            let absent = "its metadata lacks `warmup`, the steps before the loss begins: add it, or a meta.json beside it";
            return otherwise.ok_or_else(|| absent.into());
        };
        let steps: f64 =
            text.trim().parse().map_err(|_| format!("metadata {name}: {text:?} is no number"))?;
        if steps < 0.0 || steps.fract() != 0.0 {
            return Err(format!("metadata {name}: {text:?} is no number of steps").into());
        }
        Ok(steps as usize)
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    fn values(&self, name: &str) -> Outcome<(Vec<usize>, Vec<f64>)> {
        let tensor = self.tensors.tensor(name).map_err(|e| format!("tensor {name}: {e}"))?;
        let data = tensor.data();
        fn read<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|b| value(*b)).collect()
        }
        let values = match tensor.dtype() {
            Dtype::U8 | Dtype::BOOL => read(data, |[b]| f64::from(b)),
            Dtype::I8 => read(data, |b| f64::from(i8::from_le_bytes(b))),
            Dtype::I16 => read(data, |b| f64::from(i16::from_le_bytes(b))),
            Dtype::I32 => read(data, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::I64 => read(data, |b| i64::from_le_bytes(b) as f64),
            Dtype::F32 => read(data, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => read(data, f64::from_le_bytes),
            other => return Err(format!("tensor {name} has type {other:?}: store it as F32 or F64").into()),
        };
        Ok((tensor.shape().to_vec(), values))
    }

    fn sequence<T: Real>(&self, name: &str) -> Outcome<Array3<T>> {
        let (shape, values) = self.values(name)?;
        let [steps, batch, width] = shape[..] else {
            return Err(format!("tensor {name} has {} dimensions, not 3", shape.len()).into());
        };
        Ok(Array3::from_shape_vec((steps, batch, width), values.into_iter().map(T::of).collect())?)
    }

    /// A vector of `length`; one that is not there is zero, one of a single entry holds for the whole layer.
    fn vector<T: Real>(&self, name: &str, length: usize, default: Option<f64>) -> Outcome<Vec<T>> {
        let values = match default {
            Some(value) if !self.has(name) => vec![value],
            _ => self.values(name)?.1,
        };
        Ok(match values[..] {
            [one] => vec![T::of(one); length],
            _ => values.into_iter().map(T::of).collect(),
        })
    }

    fn network<T: Real>(&self) -> Outcome<Network<T>> {
        let (mut linear, mut lif) = (Vec::new(), Vec::new());
        for i in (1..).take_while(|i| self.has(&format!("w.fc{i}.weight"))) {
            let name = format!("w.fc{i}.weight");
            let (shape, weight) = self.values(&name)?;
            let [outputs, inputs] = shape[..] else {
                return Err(format!("tensor {name} has {} dimensions, not 2", shape.len()).into());
            };
            let bias = self.vector(&format!("w.fc{i}.bias"), outputs, Some(0.0))?;
            linear.push(Linear::new(inputs, outputs, weight.into_iter().map(T::of).collect(), bias)?);
            if self.has(&format!("w.lif{i}.beta")) {
                let beta = self.vector(&format!("w.lif{i}.beta"), outputs, None)?;
                lif.push(Lif::new(beta, self.vector(&format!("w.lif{i}.threshold"), outputs, None)?)?);
            }
        }
        Ok(Network::new(linear, lif)?)
    }

    /// Slopes with recorded gradients, by their prefix.
    fn slopes<T: Real>(&self) -> Outcome<Vec<(String, T)>> {
        let mut prefixes: Vec<&str> =
            self.tensors.names().iter().filter_map(|n| Some(n.split_once(".grad.")?.0)).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let parsed = prefixes.into_iter().map(|prefix| {
            let slope = prefix.strip_prefix('k').and_then(|k| k.parse().ok());
            let slope: f64 =
                slope.ok_or_else(|| format!("{prefix}.grad.…: {prefix} is no slope like k10"))?;
            Ok((prefix.to_owned(), T::of(slope)))
        });
        parsed.collect()
    }
}

/// Largest deviation and the largest recorded magnitude.
fn compare<'a, T: Real + 'a>(
    name: &str,
    got: impl IntoIterator<Item = &'a T>,
    want: &[f64],
) -> Outcome<(f64, f64)> {
    let mut got: Vec<f64> = got.into_iter().map(|x| x.to_f64_exact()).collect();
    if want.len() == 1 {
        // A parameter that the whole layer shares: its gradient is the sum.
        got = vec![got.iter().sum()];
    }
    if got.len() != want.len() {
        return Err(
            format!("tensor {name} has {} entries, its network makes {}", want.len(), got.len()).into()
        );
    }
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
    Ok((worst, want.iter().fold(0.0, |m, x| larger(m, x.abs()))))
}

/// The larger one; a NaN must not vanish in a maximum.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// Where all that is recorded is zero there is nothing to relate to: the deviation itself.
fn relative((worst, largest): (f64, f64)) -> f64 {
    if largest == 0.0 { worst } else { worst / largest }
}

/// Runs forward and, for each recorded slope, backward in precision `T`. `warmup` is for files that do not say it.
pub fn replay<T: Real>(bytes: &[u8], warmup: Option<usize>) -> Outcome<Deviation> {
    let recording = Recording::open(bytes)?;
    let warmup = recording.warmup(warmup)?;
    let network: Network<T> = recording.network()?;
    let trace = network.forward(recording.sequence("input")?.view())?;
    let mut deviation = Deviation {
        spike_mismatches: 0,
        membrane_max_abs: 0.0,
        membrane_max_rel: 0.0,
        output_max_abs: compare("act", trace.actions().iter(), &recording.values("act")?.1)?.0,
        gradient_max_rel: BTreeMap::new(),
    };
    for layer in 0..network.lif().len() {
        let (spk, mem) = (format!("spk{}", layer + 1), format!("mem{}", layer + 1));
        let spikes = trace.spikes(layer).ok_or("no such layer")?;
        let (_, want) = recording.values(&spk)?;
        if spikes.len() != want.len() {
            return Err(format!(
                "tensor {spk} has {} entries, its network makes {}",
                want.len(),
                spikes.len()
            )
            .into());
        }
        deviation.spike_mismatches += spikes.iter().zip(&want).filter(|(a, b)| f64::from(**a) != **b).count();
        let found =
            compare(&mem, &trace.membrane(layer).ok_or("no such layer")?, &recording.values(&mem)?.1)?;
        deviation.membrane_max_abs = larger(deviation.membrane_max_abs, found.0);
        deviation.membrane_max_rel = larger(deviation.membrane_max_rel, relative(found));
    }
    let target = recording.sequence("target")?;
    for (prefix, slope) in recording.slopes::<T>()? {
        let worst = gradients(&recording, &network, &trace, &target, warmup, &prefix, slope)?;
        deviation.gradient_max_rel.insert(prefix, worst);
    }
    Ok(deviation)
}

fn gradients<T: Real>(
    recording: &Recording<'_>,
    network: &Network<T>,
    trace: &Trace<T>,
    target: &Array3<T>,
    warmup: usize,
    prefix: &str,
    slope: T,
) -> Outcome<f64> {
    if target.dim() != trace.actions().dim() {
        return Err(format!("target is {:?}, the actions {:?}", target.dim(), trace.actions().dim()).into());
    }
    let counted = trace.steps().saturating_sub(warmup) * trace.batch();
    let mut grad_actions = (&trace.actions() - target) * T::of(2.0 / counted.max(1) as f64);
    // What stands before the warm-up must not matter.
    grad_actions.slice_mut(s![..warmup.min(trace.steps()), .., ..]).fill(T::of(1e3));
    let options = BackwardOptions {
        first_step: warmup,
        input_gradient: InputGradient::Compute,
        ..BackwardOptions::new(slope)
    };
    let found = network.backward(trace, grad_actions.view(), &options)?;
    let input = found.input.ok_or("no input gradient")?;
    let mut all: Vec<(String, &[T])> =
        found.parameters.parameters().into_iter().map(|(name, g)| (name.to_string(), g)).collect();
    all.push(("input".to_owned(), input.as_slice().ok_or("input gradient is not contiguous")?));
    let mut worst = 0.0;
    for (name, got) in all {
        let name = format!("{prefix}.grad.{name}");
        if recording.has(&name) {
            worst = larger(worst, relative(compare(&name, got, &recording.values(&name)?.1)?));
        }
    }
    Ok(worst)
}
