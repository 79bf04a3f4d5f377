//! Steps per second: one vehicle, and batches of them. `benches/peers/l2f_steps.py` runs the public peer beside it.

#![allow(missing_docs, reason = "criterion's macros write an undocumented main")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot start should say where")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nalgebra::Vector3;
use spikewing_quad::{
    Disturbance, Randomisation, State, Vehicle,
    batch::{Batch, Scalar, Setup},
    step,
};

fn one(c: &mut Criterion) {
    let vehicle = Vehicle::find("l2f2").unwrap();
    let start = State::hover(&vehicle, Vector3::zeros());
    let action = [vehicle.hover_action() + 0.01; 4];
    let mut group = c.benchmark_group("one vehicle");
    group.throughput(Throughput::Elements(1));
    group.bench_function("step", |b| {
        let mut state = start;
        b.iter(|| {
            state = step(&vehicle, black_box(&state), black_box(&action), &Disturbance::default(), 0.01);
        });
    });
    group.finish();
}

fn batch<T: Scalar>(c: &mut Criterion, name: &str, counts: &[usize]) {
    let mut group = c.benchmark_group(name);
    for &count in counts {
        group.throughput(Throughput::Elements(count as u64));
        let mut setup = Setup::recovery(Vehicle::find("l2f2").unwrap());
        let actions = vec![[T::of(setup.vehicle.hover_action()); 4]; count];
        let mut batch = Batch::<T>::new(setup.clone(), count);
        group.bench_function(BenchmarkId::new("step", count), |b| b.iter(|| batch.step(&actions)));
        let mut seen = vec![[0.0; 18]; count];
        group.bench_function(BenchmarkId::new("step and observe", count), |b| {
            b.iter(|| {
                batch.step(&actions);
                batch.observe(&mut seen);
            });
        });
        let mut batch = Batch::<T>::new(setup.clone(), count);
        group.bench_function(BenchmarkId::new("episodes", count), |b| {
            b.iter(|| {
                batch.observe(&mut seen);
                batch.advance(&actions);
                batch.reset_finished();
            });
        });
        setup.vehicle.simulation.randomisation = Randomisation { mass: 0.1, ..Randomisation::default() };
        let mut batch = Batch::<T>::new(setup, count);
        group.bench_function(BenchmarkId::new("step, vehicles drawn", count), |b| {
            b.iter(|| batch.step(&actions));
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    one(c);
    batch::<f32>(c, "batch f32", &[256, 1024, 16_384]);
    batch::<f64>(c, "batch f64", &[1024]);
}

criterion_group!(benches, all);
criterion_main!(benches);
