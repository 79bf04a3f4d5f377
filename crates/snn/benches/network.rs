//! `cargo bench -p spikewing-snn`: the training update and the flight step of the published network.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_snn::{
    Adam, AdamOptions, BackwardOptions, Flight, Gradients, Mlp, Network, Shape, Trace, Workspace,
};
use std::hint::black_box;

const BATCH: usize = 256;
const STEPS: usize = 100;

fn training(c: &mut Criterion) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let Ok(mut network) = Network::<f32>::random(&Shape::paper(), &mut rng) else { return };
    let input = Array3::from_shape_simple_fn((STEPS, BATCH, 18), || rng.random_range(-1.0f32..1.0));
    let options = BackwardOptions { first_step: 50, ..BackwardOptions::new(10.0) };
    let (mut trace, mut workspace) = (Trace::new(), Workspace::new());
    let mut gradients = Gradients::zeros_like(&network);
    let mut adam = Adam::new(&network, AdamOptions::default());
    let mut group = c.benchmark_group("18-256-128-4, 256 sequences of 100 steps");
    group.throughput(Throughput::Elements((BATCH * STEPS) as u64)).sample_size(20);
    group.bench_function("forward", |b| b.iter(|| network.forward_into(input.view(), &mut trace)));
    let grad = trace.actions().mapv(|a| 2.0 * a / (BATCH * STEPS) as f32);
    group.bench_function("backward", |b| {
        b.iter(|| network.backward_into(&trace, grad.view(), &options, &mut workspace, &mut gradients));
    });
    group.bench_function("Adam", |b| b.iter(|| adam.step(&mut network, &gradients)));
}

fn flight(c: &mut Criterion) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let Ok(network) = Network::<f32>::random(&Shape::paper(), &mut rng) else { return };
    let Ok(mut guide) = Mlp::random(&[146, 64, 64, 4], &mut rng) else { return };
    let observations: Vec<[f32; 146]> =
        (0..64).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
    let (mut flight, mut action, mut i) = (Flight::new(&network), [0.0; 4], 0);
    c.bench_function("student, one step", |b| {
        b.iter(|| {
            i = (i + 1) % observations.len();
            black_box(flight.step(black_box(&observations[i][..18]), &mut action))
        });
    });
    c.bench_function("guide, one step", |b| {
        b.iter(|| {
            i = (i + 1) % observations.len();
            black_box(guide.forward(black_box(&observations[i]), &mut action))
        });
    });
}

criterion_group!(benches, training, flight);
criterion_main!(benches);
