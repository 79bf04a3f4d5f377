//! How long a flight and the gradient of its cost take: `flight_gradient [FLIGHTS] [STEPS]` prints JSON.
//!
//! `benches/peers/flight_jax.py time` runs it beside JAX.

mod timing;

use std::time::Instant;

use nalgebra::Vector3;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use spikewing_quad::{
    Disturbance, Reward, State, Vehicle,
    differentiable::{Plant, STATE},
    reward::OrientationTerm,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let (flights, steps) = (arguments.next().unwrap_or(Ok(4096))?, arguments.next().unwrap_or(Ok(50))?);
    let vehicle = Vehicle::crazyflie()?;
    let (plant, reward) = (Plant::new(&vehicle), Reward::end().with_orientation(OrientationTerm::Full));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let starts: Vec<(State, Vec<[f32; 4]>)> = (0..flights)
        .map(|_| {
            let at = Vector3::from_fn(|_, _| rng.random_range(-0.5..0.5));
            let actions = (0..steps).map(|_| std::array::from_fn(|_| rng.random_range(-0.3..0.6))).collect();
            (State::hover(&vehicle, at), actions)
        })
        .collect();
    let fly = || -> f64 {
        starts
            .par_iter()
            .map(|(start, actions)| {
                let still = Disturbance::default();
                let (mut state, mut path) = (*start, Vec::with_capacity(steps));
                for action in actions {
                    let (next, jacobian) = plant.step(&state, &action.map(f64::from), &still, 0.01);
                    path.push((next, jacobian));
                    state = next;
                }
                let (mut adjoint, mut sum) = ([0.0_f32; STATE], 0.0);
                for ((state, jacobian), action) in path.iter().zip(actions).rev() {
                    let (by_state, by_action) =
                        reward.gradient(state, &Vector3::zeros(), &Vector3::zeros(), action);
                    let pulled = jacobian.pull(&std::array::from_fn(|i| adjoint[i] - by_state[i]));
                    adjoint = pulled.state;
                    sum += pulled.action.iter().zip(by_action).map(|(a, b)| f64::from(a - b)).sum::<f64>();
                }
                sum
            })
            .sum()
    };
    let mut checksum = fly();
    let (mut wall, mut processor) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        let (started, used) = (Instant::now(), timing::processor_s());
        checksum += fly();
        wall = wall.min(started.elapsed().as_secs_f64());
        processor = processor.min(timing::processor_s() - used);
    }
    println!("{}", serde_json::json!({ "wall_s": wall, "processor_s": processor, "checksum": checksum }));
    Ok(())
}
