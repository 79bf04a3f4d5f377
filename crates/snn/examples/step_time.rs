//! Times one training update (forward, backward, Adam) and one flight step.
//!
//!     cargo run --release -p spikewing-snn --example step_time -- [BATCH] [STEPS]

use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_snn::{
    Adam, AdamOptions, BackwardOptions, Flight, Gradients, Network, Shape, SnnError, Trace, Workspace,
};
use std::time::Instant;

fn main() -> Result<(), SnnError> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>().unwrap_or(0));
    let batch = arguments.next().filter(|&n| n > 0).unwrap_or(256);
    let steps = arguments.next().filter(|&n| n > 0).unwrap_or(100);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut network = Network::<f32>::random(&Shape::paper(), &mut rng)?;
    let input = Array3::from_shape_simple_fn((steps, batch, 18), || rng.random_range(-1.0..1.0));
    let mut options = BackwardOptions::new(10.0);
    options.first_step = steps / 2;
    let mut optimiser = Adam::new(&network, AdamOptions::default());
    let (mut trace, mut workspace) = (Trace::new(), Workspace::new());
    let mut gradients = Gradients::zeros_like(&network);
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        network.forward_into(input.view(), &mut trace)?;
        let forward = start.elapsed();
        let grad = trace.actions().mapv(|a| 2.0 * a / (batch * steps) as f32);
        let start_backward = Instant::now();
        network.backward_into(&trace, grad.view(), &options, &mut workspace, &mut gradients)?;
        let backward = start_backward.elapsed();
        optimiser.step(&mut network, &gradients)?;
        times.push((start.elapsed(), forward, backward));
    }
    times.sort();
    let (total, forward, backward) = times[times.len() / 2];
    println!(
        "batch {batch}, {steps} steps: median {total:.1?} (forward {forward:.1?}, backward {backward:.1?})"
    );
    println!("firing rates {:?}", trace.firing_rates());

    let mut flight = Flight::new(&network);
    let mut action = [0.0; 4];
    let observations: Vec<Vec<f32>> =
        (0..64).map(|_| (0..18).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    let rounds = 20_000;
    let start = Instant::now();
    for i in 0..rounds {
        flight.step(&observations[i % 64], &mut action)?;
    }
    println!("flight step: mean {:.2?}", start.elapsed() / rounds as u32);
    Ok(())
}
