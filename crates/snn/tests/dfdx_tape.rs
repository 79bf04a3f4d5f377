//! The same network written on dfdx's tape, whose spikes carry a fast-sigmoid backward: an oracle that knows none of this
//! crate's loops, for networks of any depth. It records what it computes in the layout of the snntorch recordings, which
//! tries their reader on other shapes too.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use ::safetensors::{Dtype as Kind, SafeTensors, serialize, tensor::TensorView};
use common::replay;
use dfdx::prelude::*;
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_snn::{BackwardOptions, InputGradient, Lif, Linear as Weights, Network, Surrogate};
use std::collections::HashMap;

type Matrix<T = NoneTape> = Tensor<(usize, usize), f64, Cpu, T>;
type Vector = Tensor<(usize,), f64, Cpu>;
type Taped = OwnedTape<f64, Cpu>;

/// A surrogate's derivative at x with slope k.
type Derivative = fn(f64, f64) -> f64;

fn fast_sigmoid(x: f64, k: f64) -> f64 {
    1.0 / (1.0 + k * x.abs()).powi(2)
}

/// 1 where x > 0; backward through `derivative`.
fn heaviside(x: Matrix<Taped>, k: f64, derivative: Derivative) -> Matrix<Taped> {
    let (x, mut tape) = x.split_tape();
    let values = x.as_vec();
    let spikes = values.iter().map(|&x| f64::from(u8::from(x > 0.0))).collect();
    let out: Matrix = Cpu::default().tensor_from_vec(spikes, *x.shape());
    let (below, above) = (x.ghost(), out.ghost());
    tape.add_backward_op(move |gradients| {
        let above = gradients.get_or_alloc_mut(&above)?.clone();
        let below = gradients.get_or_alloc_mut(&below)?;
        for ((to, from), x) in below.iter_mut().zip(above.iter()).zip(&values) {
            *to += from * derivative(*x, k);
        }
        Ok(())
    });
    out.put_tape(tape)
}

struct Layer {
    weight: Matrix,
    bias: Vector,
    /// Leak and threshold; the decoder has none.
    neurons: Option<(Vector, Vector)>,
}

/// A network, what it is fed and what it should do.
struct Case {
    widths: Vec<usize>,
    layers: Vec<Layer>,
    input: Vec<Matrix>,
    target: Vec<Matrix>,
    warmup: usize,
}

/// What one run leaves: per step and layer spikes and membranes, per step actions, and the gradients.
struct Run {
    spikes: Vec<Vec<Matrix>>,
    membranes: Vec<Vec<Matrix>>,
    actions: Vec<Matrix>,
    gradients: Gradients<f64, Cpu>,
}

impl Case {
    fn random(seed: u64, widths: &[usize], steps: usize, batch: usize, warmup: usize) -> Self {
        let dev = Cpu::default();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Single-precision values, so that the recording can be replayed in both precisions.
        let mut draw = |n: usize, low: f32, high: f32| -> Vec<f64> {
            (0..n).map(|_| f64::from(rng.random_range(low..high))).collect()
        };
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(i, w)| {
                let bound = 1.5 / (w[0] as f32).sqrt();
                Layer {
                    weight: dev.tensor_from_vec(draw(w[0] * w[1], -bound, bound), (w[1], w[0])),
                    bias: dev.tensor_from_vec(draw(w[1], -bound, bound), (w[1],)),
                    // Leaks beyond both ends, thresholds below zero too.
                    neurons: (i + 2 < widths.len()).then(|| {
                        (
                            dev.tensor_from_vec(draw(w[1], -0.1, 1.1), (w[1],)),
                            dev.tensor_from_vec(draw(w[1], -0.2, 1.0), (w[1],)),
                        )
                    }),
                }
            })
            .collect();
        let mut sequence = |width: usize, size: f32| -> Vec<Matrix> {
            (0..steps)
                .map(|_| dev.tensor_from_vec(draw(batch * width, -size, size), (batch, width)))
                .collect()
        };
        let (input, target) = (sequence(widths[0], 2.0), sequence(widths[widths.len() - 1], 0.9));
        Self { widths: widths.to_vec(), layers, input, target, warmup }
    }

    /// With `truncate`, membranes forget where they came from at every multiple of so many steps.
    fn run(&self, k: f64, derivative: Derivative, truncate: Option<usize>) -> Run {
        let dev = Cpu::default();
        let batch = self.input[0].shape().0;
        let spiking = self.layers.len() - 1;
        let mut membrane: Vec<Matrix> =
            self.widths[1..=spiking].iter().map(|&n| dev.zeros_like(&(batch, n))).collect();
        let mut run = Run {
            spikes: vec![Vec::new(); spiking],
            membranes: vec![Vec::new(); spiking],
            actions: Vec::new(),
            gradients: Gradients::leaky(),
        };
        let mut loss: Tensor<Rank0, f64, Cpu> = dev.zeros();
        // One tape is handed from operation to operation; whatever it touches gets a gradient.
        let mut tape = Taped::default();
        for (t, input) in self.input.iter().enumerate() {
            let mut x = input.clone();
            if truncate.is_some_and(|n| t % n == 0) {
                for u in &mut membrane {
                    *u = dev.tensor_from_vec(u.as_vec(), *u.shape());
                }
            }
            for (i, layer) in self.layers.iter().enumerate() {
                let n = self.widths[i + 1];
                let (weight, on) =
                    layer.weight.clone().put_tape(tape).permute::<_, Axes2<1, 0>>().split_tape();
                let (bias, on) =
                    layer.bias.clone().put_tape(on).broadcast_like::<_, Axis<0>>(&(batch, n)).split_tape();
                let current = x.put_tape(on).matmul(weight) + bias;
                let Some((beta, threshold)) = &layer.neurons else {
                    let (action, on) = current.tanh().split_tape();
                    run.actions.push(action.clone());
                    tape = on;
                    if t >= self.warmup {
                        let error = (action.put_tape(tape) - self.target[t].clone()).square().sum();
                        (loss, tape) = (error + loss).split_tape();
                    }
                    break;
                };
                let (current, on) = current.split_tape();
                let (beta, on) = beta
                    .clone()
                    .put_tape(on)
                    .clamp(0.0, 1.0)
                    .broadcast_like::<_, Axis<0>>(&(batch, n))
                    .split_tape();
                let (limit, on) =
                    threshold.clone().put_tape(on).broadcast_like::<_, Axis<0>>(&(batch, n)).split_tape();
                // The reset is a constant, from the membrane before.
                let above = membrane[i].as_vec().into_iter().zip(limit.as_vec());
                let reset = above.map(|(u, limit)| f64::from(u8::from(u > limit))).collect();
                let reset: Matrix = dev.tensor_from_vec(reset, (batch, n));
                let (reset, on) = (limit.clone().put_tape(on) * reset).split_tape();
                let (u, on) = (membrane[i].clone().put_tape(on) * beta + current - reset).split_tape();
                let (spikes, on) = heaviside(u.clone().put_tape(on) - limit, k, derivative).split_tape();
                tape = on;
                membrane[i] = u.clone();
                run.membranes[i].push(u);
                run.spikes[i].push(spikes.clone());
                x = spikes;
            }
        }
        let counted = (self.input.len() - self.warmup) * batch;
        run.gradients = (loss.put_tape(tape) / counted as f64).backward();
        run
    }

    fn network(&self) -> Network<f64> {
        let linear = self.layers.iter().map(|l| {
            let (outputs, inputs) = *l.weight.shape();
            Weights::new(inputs, outputs, l.weight.as_vec(), l.bias.as_vec()).unwrap()
        });
        let lif = self.layers.iter().filter_map(|l| l.neurons.as_ref());
        let lif = lif.map(|(beta, threshold)| Lif::new(beta.as_vec(), threshold.as_vec()).unwrap());
        Network::new(linear.collect(), lif.collect()).unwrap()
    }

    /// The safetensors file of a run with each slope.
    fn record(&self, slopes: &[&str], numbers: Numbers, warmup_name: &str) -> Vec<u8> {
        let mut file = File { numbers, tensors: Vec::new() };
        let rows = |steps: &[Matrix]| -> Vec<f64> { steps.iter().flat_map(|m| m.as_vec()).collect() };
        let sequence = |steps: &[Matrix]| {
            let (batch, width) = *steps[0].shape();
            (vec![steps.len(), batch, width], rows(steps))
        };
        for (name, steps) in [("input", &self.input), ("target", &self.target)] {
            file.add(name, sequence(steps));
        }
        for (index, slope) in slopes.iter().enumerate() {
            let run = self.run(slope.parse().unwrap(), fast_sigmoid, None);
            if index == 0 {
                for i in 0..run.spikes.len() {
                    file.add(&format!("spk{}", i + 1), sequence(&run.spikes[i]));
                    file.add(&format!("mem{}", i + 1), sequence(&run.membranes[i]));
                }
                file.add("act", sequence(&run.actions));
            }
            let gradients = &run.gradients;
            let inputs: Vec<Matrix> = self.input.iter().map(|x| gradients.get(x)).collect();
            file.add(&format!("k{slope}.grad.input"), sequence(&inputs));
            for (i, layer) in self.layers.iter().enumerate() {
                let n = i + 1;
                let (out, width) = *layer.weight.shape();
                let weight = gradients.get(&layer.weight).as_vec();
                file.add(&format!("k{slope}.grad.fc{n}.weight"), (vec![out, width], weight));
                file.add(
                    &format!("k{slope}.grad.fc{n}.bias"),
                    (vec![out], gradients.get(&layer.bias).as_vec()),
                );
                if let Some((beta, threshold)) = &layer.neurons {
                    let (beta, threshold) = (gradients.get(beta).as_vec(), gradients.get(threshold).as_vec());
                    file.add(&format!("k{slope}.grad.lif{n}.beta"), (vec![out], beta));
                    file.add(&format!("k{slope}.grad.lif{n}.threshold"), (vec![out], threshold));
                }
            }
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let n = i + 1;
            let (out, width) = *layer.weight.shape();
            file.add(&format!("w.fc{n}.weight"), (vec![out, width], layer.weight.as_vec()));
            file.add(&format!("w.fc{n}.bias"), (vec![out], layer.bias.as_vec()));
            if let Some((beta, threshold)) = &layer.neurons {
                file.add(&format!("w.lif{n}.beta"), (vec![out], beta.as_vec()));
                file.add(&format!("w.lif{n}.threshold"), (vec![out], threshold.as_vec()));
            }
        }
        file.bytes(HashMap::from([(warmup_name.to_owned(), self.warmup.to_string())]))
    }
}

/// How numbers are stored.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    Double,
    /// Parameters and inputs in single precision, results in double: as the smaller snntorch recordings.
    Mixed,
}

struct File {
    numbers: Numbers,
    tensors: Vec<(String, Kind, Vec<usize>, Vec<u8>)>,
}

impl File {
    fn add(&mut self, name: &str, (shape, values): (Vec<usize>, Vec<f64>)) {
        let given = name.starts_with("w.") || name == "input" || name == "target";
        let (dtype, data) = if name.starts_with("spk") {
            (Kind::U8, values.iter().map(|&s| s as u8).collect())
        } else if self.numbers == Numbers::Mixed && given {
            (Kind::F32, values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect())
        } else {
            (Kind::F64, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        };
        self.tensors.push((name.to_owned(), dtype, shape, data));
    }

    fn bytes(&self, metadata: HashMap<String, String>) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, dtype, shape, data)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        serialize(views, Some(metadata)).unwrap()
    }
}

fn check(case: &Case, slopes: &[&str], numbers: Numbers, warmup_name: &str) {
    let bytes = case.record(slopes, numbers, warmup_name);
    let exact = replay::<f64>(&bytes, None).unwrap();
    assert_eq!(exact.spike_mismatches, 0, "{:?}: {exact:?}", case.widths);
    assert!(exact.membrane_max_abs <= 1e-12 && exact.output_max_abs <= 1e-12, "{:?}: {exact:?}", case.widths);
    assert_eq!(exact.gradient_max_rel.len(), slopes.len());
    let worst = exact.gradient_max_rel.values().fold(0.0f64, |a, b| a.max(*b));
    assert!(worst <= 1e-10, "{:?}: {exact:?}", case.widths);
    let single = replay::<f32>(&bytes, None).unwrap();
    // One spike that tips by rounding would change everything after it: the seeds here have none.
    assert_eq!(single.spike_mismatches, 0, "{:?}: {single:?}", case.widths);
    assert!(
        single.membrane_max_abs <= 1e-5 && single.output_max_abs <= 1e-5,
        "{:?}: {single:?}",
        case.widths
    );
    let worst = single.gradient_max_rel.values().fold(0.0f64, |a, b| a.max(*b));
    assert!(worst <= 5e-4, "{:?}: {single:?}", case.widths);
}

#[test]
fn two_spiking_layers_follow_the_tape() {
    check(
        &Case::random(1, &[18, 16, 8, 4], 20, 3, 5),
        &["1", "2", "10", "25", "100"],
        Numbers::Mixed,
        "warmup",
    );
}

#[test]
fn one_spiking_layer_follows_the_tape() {
    check(&Case::random(2, &[5, 9, 2], 13, 11, 0), &["1", "7.5"], Numbers::Double, "warm_up_steps");
}

#[test]
fn four_spiking_layers_follow_the_tape() {
    check(&Case::random(3, &[7, 12, 33, 10, 6, 3], 15, 4, 9), &["0.5", "5", "50"], Numbers::Mixed, "Warm-up");
}

#[test]
fn the_published_network_follows_the_tape() {
    check(&Case::random(4, &[18, 256, 128, 4], 12, 2, 6), &["2", "100"], Numbers::Double, "warmup");
}

fn array(steps: &[Matrix]) -> Array3<f64> {
    let (batch, width) = *steps[0].shape();
    Array3::from_shape_vec((steps.len(), batch, width), steps.iter().flat_map(|m| m.as_vec()).collect())
        .unwrap()
}

/// Largest deviation over each tensor's largest entry, all parameters and the input.
fn gradient_deviation(
    case: &Case,
    surrogate: Surrogate,
    derivative: Derivative,
    truncate: Option<usize>,
) -> f64 {
    let (k, network) = (3.0, case.network());
    let run = case.run(k, derivative, truncate);
    let trace = network.forward(array(&case.input).view()).unwrap();
    let counted = (trace.steps() - case.warmup) * trace.batch();
    let grad = (&trace.actions() - &array(&case.target)) * (2.0 / counted as f64);
    let options = BackwardOptions {
        surrogate,
        truncate,
        first_step: case.warmup,
        input_gradient: InputGradient::Compute,
        ..BackwardOptions::new(k)
    };
    let got = network.backward(&trace, grad.view(), &options).unwrap();
    let mut want = Vec::new();
    for layer in &case.layers {
        want.push(run.gradients.get(&layer.weight).as_vec());
        want.push(run.gradients.get(&layer.bias).as_vec());
        if let Some((beta, threshold)) = &layer.neurons {
            want.push(run.gradients.get(beta).as_vec());
            want.push(run.gradients.get(threshold).as_vec());
        }
    }
    let inputs: Vec<Matrix> = case.input.iter().map(|x| run.gradients.get(x)).collect();
    let input = got.input.unwrap();
    let mut pairs: Vec<(&[f64], Vec<f64>)> =
        got.parameters.parameters().into_iter().map(|(_, g)| g).zip(want).collect();
    pairs.push((input.as_slice().unwrap(), array(&inputs).into_raw_vec_and_offset().0));
    let relative = pairs.into_iter().map(|(got, want)| {
        assert_eq!(got.len(), want.len());
        let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        got.iter().zip(&want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) / largest
    });
    relative.fold(0.0, f64::max)
}

#[test]
fn every_surrogate_follows_the_tape() {
    let case = Case::random(5, &[6, 14, 9, 3], 12, 5, 4);
    let curves: [(Surrogate, Derivative); 4] = [
        (Surrogate::FastSigmoid, fast_sigmoid),
        (Surrogate::ArcTan, |x, k| 1.0 / (1.0 + (std::f64::consts::FRAC_PI_2 * k * x).powi(2))),
        (Surrogate::Sigmoid, |x, k| 1.0 / (0.5 * k * x).cosh().powi(2)),
        (Surrogate::Triangular, |x, k| (1.0 - k * x.abs()).max(0.0)),
    ];
    for (surrogate, derivative) in curves {
        let worst = gradient_deviation(&case, surrogate, derivative, None);
        assert!(worst <= 1e-10, "{surrogate:?}: {worst}");
    }
    assert!(gradient_deviation(&case, Surrogate::ArcTan, fast_sigmoid, None) > 1e-3, "the curve matters");
}

/// Truncated backpropagation through time, also where sequences are longer than what is worked on at once.
#[test]
fn truncation_follows_the_tape() {
    for (steps, batch, warmup) in [(12, 5, 4), (150, 3, 147), (70, 8, 20), (40, 11, 33)] {
        let case = Case::random(6, &[6, 14, 9, 3], steps, batch, warmup);
        for truncate in [None, Some(1), Some(4), Some(32), Some(50)] {
            let worst = gradient_deviation(&case, Surrogate::FastSigmoid, fast_sigmoid, truncate);
            assert!(worst <= 1e-10, "{steps} steps of {batch}, cut at {truncate:?}: {worst}");
        }
    }
}

/// The comparison itself can fail: every kind of recorded number is looked at.
#[test]
fn a_recording_that_differs_is_found_out() {
    let case = Case::random(1, &[6, 8, 5, 2], 6, 2, 2);
    let clean = case.record(&["10"], Numbers::Double, "warmup");
    let broken = |name: &str| {
        let mut bytes = clean.clone();
        let offset = SafeTensors::deserialize(&clean).unwrap().tensor(name).unwrap().data().as_ptr() as usize
            - clean.as_ptr() as usize;
        if name.starts_with("spk") {
            bytes[offset] ^= 1;
        } else {
            let value = f64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
            bytes[offset..offset + 8].copy_from_slice(&(value + 0.5).to_le_bytes());
        }
        replay::<f64>(&bytes, None).unwrap()
    };
    assert_eq!(broken("spk2").spike_mismatches, 1);
    assert!((broken("mem1").membrane_max_abs - 0.5).abs() < 1e-9);
    assert!((broken("act").output_max_abs - 0.5).abs() < 1e-9);
    for name in ["fc1.weight", "fc3.bias", "lif1.beta", "lif2.threshold", "input"] {
        assert!(broken(&format!("k10.grad.{name}")).gradient_max_rel["k10"] > 1e-3, "{name}");
    }
    assert!(broken("w.fc2.weight").membrane_max_abs > 1e-3);
}

#[test]
fn a_recording_that_cannot_be_read_says_what_is_wrong() {
    let case = Case::random(1, &[6, 8, 2], 6, 2, 2);
    let unnamed = case.record(&["10"], Numbers::Double, "seed");
    let error = replay::<f64>(&unnamed, None).unwrap_err().to_string();
    assert!(error.contains("warmup"), "{error}");
    assert!(replay::<f64>(&unnamed, Some(2)).unwrap().gradient_max_rel["k10"] < 1e-10);
    assert!(replay::<f64>(&unnamed[..unnamed.len() / 2], None).is_err());
}
