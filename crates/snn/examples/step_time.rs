//! Times one training update (forward, backward, Adam) and one flight step of the published network.
//!
//!     cargo run --release -p spikewing-snn --example step_time -- [--json] [BATCH] [STEPS] [REPEATS]

use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};
use spikewing_snn::{
    Adam, AdamOptions, BackwardOptions, Flight, Gradients, Network, Shape, SnnError, Trace, Workspace,
};
use std::time::{Duration, Instant};

const FLIGHT_STEPS: usize = 100_000;

fn main() -> Result<(), SnnError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|a| a.parse::<usize>().ok()).filter(|&n| n > 0);
    let batch = numbers.next().unwrap_or(256);
    let steps = numbers.next().unwrap_or(100);
    let repeats = numbers.next().unwrap_or(20);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut network = Network::<f32>::random(&Shape::paper(), &mut rng)?;
    let update = time_updates(&mut network, batch, steps, repeats, &mut rng)?;
    let step = time_flight(&network, &mut rng)?;
    if arguments.iter().any(|a| a == "--json") {
        println!("{}", json!({ "batch": batch, "steps": steps, "update": update, "step": step }));
        return Ok(());
    }
    println!("training update, batch {batch}, {steps} steps, {} threads:", rayon::current_num_threads());
    println!("  median {:.1} ms, best {:.1} ms", number(&update, "median_ms"), number(&update, "best_ms"));
    println!(
        "  of the median: forward {:.1} ms, backward {:.1} ms, Adam {:.2} ms; processor time {:.1} ms",
        number(&update, "forward_ms"),
        number(&update, "backward_ms"),
        number(&update, "adam_ms"),
        number(&update, "cpu_ms")
    );
    println!("  firing rates {}", update["firing_rates"]);
    println!(
        "flight step: mean {:.2} µs, median {:.2} µs, p99 {:.2} µs, p99.9 {:.2} µs",
        number(&step, "mean_us"),
        number(&step, "median_us"),
        number(&step, "p99_us"),
        number(&step, "p999_us")
    );
    Ok(())
}

fn number(object: &Value, name: &str) -> f64 {
    object[name].as_f64().unwrap_or(f64::NAN)
}

fn ms(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// Processor time of all threads of this process.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call, which writes it and keeps no pointer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn time_updates(
    network: &mut Network<f32>,
    batch: usize,
    steps: usize,
    repeats: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Value, SnnError> {
    let input = Array3::from_shape_simple_fn((steps, batch, 18), || rng.random_range(-1.0..1.0));
    let mut options = BackwardOptions::new(10.0);
    options.first_step = steps / 2;
    let mut optimiser = Adam::new(network, AdamOptions::default());
    let (mut trace, mut workspace) = (Trace::new(), Workspace::new());
    let mut gradients = Gradients::zeros_like(network);
    let mut times = Vec::new();
    let mut before = processor_time();
    // The first rounds size the buffers.
    for round in 0..repeats + 2 {
        if round == 2 {
            before = processor_time();
        }
        let start = Instant::now();
        network.forward_into(input.view(), &mut trace)?;
        let grad = trace.actions().mapv(|a| 2.0 * a / (batch * steps) as f32);
        let forward = start.elapsed();
        network.backward_into(&trace, grad.view(), &options, &mut workspace, &mut gradients)?;
        let backward = start.elapsed() - forward;
        optimiser.step(network, &gradients)?;
        let total = start.elapsed();
        if round >= 2 {
            times.push((total, forward, backward));
        }
    }
    let processor = (processor_time() - before) / u32::try_from(repeats).unwrap_or(u32::MAX);
    times.sort();
    let (total, forward, backward) = times[times.len() / 2];
    Ok(json!({
        "median_ms": ms(total),
        "best_ms": ms(times[0].0),
        "forward_ms": ms(forward),
        "backward_ms": ms(backward),
        "adam_ms": ms(total - forward - backward),
        "cpu_ms": ms(processor),
        "firing_rates": trace.firing_rates(),
    }))
}

fn time_flight(network: &Network<f32>, rng: &mut Xoshiro256PlusPlus) -> Result<Value, SnnError> {
    let mut flight = Flight::new(network);
    let mut action = [0.0; 4];
    let observations: Vec<[f32; 18]> =
        (0..64).map(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))).collect();
    let mut times = Vec::with_capacity(FLIGHT_STEPS);
    for i in 0..FLIGHT_STEPS + 1000 {
        let start = Instant::now();
        flight.step(&observations[i % 64], &mut action)?;
        let time = start.elapsed();
        if i >= 1000 {
            times.push(time);
        }
    }
    times.sort();
    let us = |time: Duration| 1e6 * time.as_secs_f64();
    let at = |share: f64| us(times[((FLIGHT_STEPS as f64 * share) as usize).min(FLIGHT_STEPS - 1)]);
    Ok(json!({
        "mean_us": us(times.iter().sum::<Duration>()) / FLIGHT_STEPS as f64,
        "median_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
    }))
}
