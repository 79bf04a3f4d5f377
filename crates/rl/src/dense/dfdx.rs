//! The same network through dfdx: an oracle for the hand-written passes, and the slower choice of backend.
//!
//! This module is the only one that knows dfdx.

use dfdx::prelude::*;

use super::{Activation, Dense, DenseError, Scratch, Wanted};

type Flat = Tensor<(usize,), f32, Cpu>;
type Rows<T = NoneTape> = Tensor<(usize, usize), f32, Cpu, T>;

/// Weight and bias of a layer as leaves of the graph.
struct Leaves {
    weight: Rows,
    bias: Flat,
    activation: Activation,
}

fn leaves(network: &Dense, device: &Cpu) -> Result<Vec<Leaves>, DenseError> {
    network
        .layout()
        .into_iter()
        .map(|l| {
            let weight = network.parameters[l.weight].to_vec();
            let bias = network.parameters[l.bias].to_vec();
            Ok(Leaves {
                weight: device.try_tensor_from_vec(weight, (l.inputs, l.outputs)).map_err(refused)?,
                bias: device.try_tensor_from_vec(bias, (l.outputs,)).map_err(refused)?,
                activation: l.activation,
            })
        })
        .collect()
}

fn layer<T: Tape<f32, Cpu> + Merge<T>>(x: Rows<T>, leaves: &Leaves) -> Result<Rows<T>, DenseError> {
    let z = x.try_matmul(leaves.weight.clone()).map_err(refused)?;
    let shape = *z.shape();
    let bias =
        leaves.bias.clone().retaped::<T>().try_broadcast_like::<_, Axis<0>>(&shape).map_err(refused)?;
    let z = z.try_add(bias).map_err(refused)?;
    match leaves.activation {
        Activation::Identity => Ok(z),
        Activation::Relu => z.try_relu().map_err(refused),
        Activation::Tanh => z.try_tanh().map_err(refused),
    }
}

pub(super) fn forward(network: &Dense, x: &[f32], scratch: &mut Scratch) -> Result<(), DenseError> {
    let device = Cpu::default();
    let mut h = device.try_tensor_from_vec(x.to_vec(), (scratch.rows, network.inputs())).map_err(refused)?;
    for (leaves, out) in leaves(network, &device)?.iter().zip(&mut scratch.activations) {
        h = layer(h, leaves)?;
        *out = h.as_vec();
    }
    Ok(())
}

/// dfdx keeps no activations between calls, so the pass forward is made again, with a tape.
pub(super) fn backward(
    network: &Dense,
    x: &[f32],
    output_gradient: &[f32],
    scratch: &mut Scratch,
    wanted: Wanted<'_>,
) -> Result<(), DenseError> {
    let device = Cpu::default();
    let (rows, inputs) = (scratch.rows, network.inputs());
    let all = leaves(network, &device)?;
    let x: Rows = device.try_tensor_from_vec(x.to_vec(), (rows, inputs)).map_err(refused)?;
    let mut h = x.trace(Gradients::leaky());
    for leaves in &all {
        h = layer(h, leaves)?;
    }
    let weights: Rows =
        device.try_tensor_from_vec(output_gradient.to_vec(), (rows, network.outputs())).map_err(refused)?;
    let loss = h.try_mul(weights).map_err(refused)?.try_sum::<(), _>().map_err(refused)?;
    let gradients = loss.try_backward().map_err(refused)?;
    if let Some(sums) = wanted.parameters {
        let parts =
            all.iter().flat_map(|l| [gradients.get(&l.weight).as_vec(), gradients.get(&l.bias).as_vec()]);
        for (sum, g) in sums.iter_mut().zip(parts.flatten()) {
            *sum += g;
        }
    }
    let dx = gradients.get(&x).as_vec();
    scratch.input_gradient.clear();
    for row in dx.chunks_exact(inputs) {
        scratch.input_gradient.extend_from_slice(&row[wanted.inputs.clone()]);
    }
    Ok(())
}

fn refused<E: std::fmt::Debug>(error: E) -> DenseError {
    DenseError::Dfdx(format!("{error:?}"))
}
