//! Steps per second of this simulator, as `benches/peers/l2f_steps.py` asks for them, one JSON line a measurement.

use std::{process::ExitCode, time::Instant};

use nalgebra::Vector3;
use spikewing_quad::{
    Disturbance, State, Vehicle,
    batch::{Batch, Setup},
    step,
};

const HELP: &str = "\
Measures this simulator's steps per second.

usage: steps_per_second one|step|observe|episodes [VEHICLES] [MILLISECONDS] [VEHICLE]

  one       single vehicle, f64
  step      a batch of VEHICLES (1024), f32: dynamics only
  observe   … and the observation of every vehicle
  episodes  … and rewards, terminations, and resets of what has ended

VEHICLE is a built-in one (l2f2) or a vehicle file; its noise and starts count for observe and episodes.
Times slices of at least a millisecond for MILLISECONDS (500) altogether, and prints the median and the best as JSON.
RAYON_NUM_THREADS says how many threads a batch may use.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |a| a.parse::<usize>());
    let (Ok(vehicles), Ok(milliseconds)) = (number(1, 1024), number(2, 500)) else {
        eprintln!("{HELP}");
        return ExitCode::FAILURE;
    };
    let vehicle = Vehicle::find(arguments.get(3).map_or("l2f2", String::as_str));
    let rates = match (arguments.first().map(String::as_str), vehicle) {
        (Some("one"), Ok(vehicle)) => Ok(one(&vehicle, milliseconds)),
        (Some(work @ ("step" | "observe" | "episodes")), Ok(vehicle)) => {
            Ok(batch(vehicle, work, vehicles, milliseconds))
        }
        (_, Err(error)) => Err(error),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match rates {
        Ok(mut rates) => {
            rates.sort_by(f64::total_cmp);
            let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
            println!("{}", serde_json::json!({ "median": median, "best": best }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("steps_per_second: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Steps per second of slices of about a millisecond; `work` flies `steps` steps each time it is called.
fn rates(milliseconds: usize, steps: usize, mut work: impl FnMut()) -> Vec<f64> {
    let mut repetitions = 1;
    loop {
        let start = Instant::now();
        (0..repetitions).for_each(|_| work());
        if start.elapsed().as_micros() >= 1000 {
            break;
        }
        repetitions *= 2;
    }
    let start = Instant::now();
    let mut rates = Vec::new();
    while rates.is_empty() || start.elapsed().as_millis() < milliseconds as u128 {
        let slice = Instant::now();
        (0..repetitions).for_each(|_| work());
        rates.push((repetitions * steps) as f64 / slice.elapsed().as_secs_f64());
    }
    rates
}

fn one(vehicle: &Vehicle, milliseconds: usize) -> Vec<f64> {
    let mut state = State::hover(vehicle, Vector3::zeros());
    let action = [vehicle.hover_action(); 4];
    rates(milliseconds, 1, || {
        state = step(vehicle, std::hint::black_box(&state), &action, &Disturbance::default(), 0.01);
    })
}

fn batch(vehicle: Vehicle, work: &str, vehicles: usize, milliseconds: usize) -> Vec<f64> {
    let mut batch = Batch::<f32>::new(Setup::recovery(vehicle), vehicles);
    let actions = vec![[batch.setup().vehicle.hover_action() as f32; 4]; vehicles];
    let mut seen = vec![[0.0; 18]; vehicles];
    match work {
        "step" => rates(milliseconds, vehicles, || batch.step(&actions)),
        "observe" => rates(milliseconds, vehicles, || {
            batch.step(&actions);
            batch.observe(&mut seen);
        }),
        _ => rates(milliseconds, vehicles, || {
            batch.observe(&mut seen);
            batch.advance(&actions);
            batch.reset_finished();
        }),
    }
}
