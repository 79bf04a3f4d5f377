//! Flight computes what training computed.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use ndarray::Array3;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_snn::{Flight, Network, Shape, SnnError};

/// Membranes and spikes equal to the bit, actions too: one sequence of a batch against steps in flight.
fn assert_same(shape: &Shape, seed: u64, steps: usize, batch: usize, scale: f32) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let network = Network::<f32>::random(shape, &mut rng).unwrap();
    let input =
        Array3::from_shape_simple_fn((steps, batch, shape.inputs), || rng.random_range(-scale..scale));
    let trace = network.forward(input.view()).unwrap();
    let membranes: Vec<_> = (0..shape.hidden.len()).map(|i| trace.membrane(i).unwrap()).collect();
    let spikes: Vec<_> = (0..shape.hidden.len()).map(|i| trace.spikes(i).unwrap()).collect();
    let mut flight = Flight::new(&network);
    let mut action = vec![0.0; shape.outputs];
    for b in 0..batch {
        flight.reset();
        for t in 0..steps {
            let counted: u64 = (0..shape.hidden.len()).map(|i| flight.spike_count(i).unwrap()).sum();
            let observation: Vec<f32> = (0..shape.inputs).map(|i| input[[t, b, i]]).collect();
            flight.step(&observation, &mut action).unwrap();
            let mut fired = 0;
            for (layer, expected) in membranes.iter().enumerate() {
                for (i, u) in flight.membrane(layer).unwrap().iter().enumerate() {
                    let expected = expected[[t, b, i]];
                    assert_eq!(
                        u.to_bits(),
                        expected.to_bits(),
                        "{shape} layer {layer} step {t}: {u} {expected}"
                    );
                    fired += u64::from(spikes[layer][[t, b, i]]);
                }
            }
            let now: u64 = (0..shape.hidden.len()).map(|i| flight.spike_count(i).unwrap()).sum();
            assert_eq!(now - counted, fired, "{shape} step {t}: counted spikes");
            for (i, a) in action.iter().enumerate() {
                assert!((a - trace.actions()[[t, b, i]]).abs() <= 1e-6, "{shape} step {t}");
            }
        }
    }
    assert_eq!(flight.steps(), (steps * batch) as u64);
}

#[test]
fn the_published_network_flies_as_it_trains() {
    assert_same(&Shape::paper(), 3, 100, 11, 2.0);
}

#[test]
fn layers_wider_than_one_block_of_the_sum_fly_as_they_train() {
    assert_same(&Shape { inputs: 300, hidden: vec![700, 300, 260], outputs: 5 }, 4, 12, 9, 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape_flies_as_it_trains(
        inputs in 1usize..40,
        hidden in prop::collection::vec(1usize..70, 1..4),
        outputs in 1usize..7,
        seed: u64,
        steps in 1usize..12,
        batch in 1usize..20,
    ) {
        assert_same(&Shape { inputs, hidden, outputs }, seed, steps, batch, 3.0);
    }
}

fn flying(seed: u64) -> (Flight, Vec<Vec<f32>>) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let network = Network::random(&Shape::paper(), &mut rng).unwrap();
    let observations = (0..40).map(|_| (0..18).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    (Flight::new(&network), observations)
}

#[test]
fn a_frozen_flight_goes_on_where_it_was() {
    let (mut flight, observations) = flying(5);
    let mut action = [0.0; 4];
    for o in &observations[..20] {
        flight.step(o, &mut action).unwrap();
    }
    let frozen = flight.freeze();
    let mut other = flying(5).0;
    other.thaw(&frozen).unwrap();
    let mut other_action = [0.0; 4];
    for o in &observations[20..] {
        flight.step(o, &mut action).unwrap();
        other.step(o, &mut other_action).unwrap();
        assert_eq!(action, other_action);
    }
    let mut copy = vec![0.0; flight.membrane_len()];
    flight.freeze_into(&mut copy).unwrap();
    assert_eq!(copy, flight.freeze());
}

#[test]
fn a_bad_state_or_observation_changes_nothing() {
    let (mut flight, observations) = flying(6);
    let mut action = [0.0; 4];
    flight.step(&observations[0], &mut action).unwrap();
    let (before, action_before) = (flight.freeze(), action);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let mut o = observations[1].clone();
        o[17] = bad;
        assert!(matches!(flight.step(&o, &mut action), Err(SnnError::Value { index: 17, .. })));
    }
    assert!(matches!(flight.step(&observations[1][..17], &mut action), Err(SnnError::Length { .. })));
    assert!(matches!(flight.step(&observations[1], &mut action[..3]), Err(SnnError::Length { .. })));
    assert!(flight.thaw(&before[1..]).is_err());
    let mut broken = before.clone();
    broken[7] = f32::NAN;
    assert!(flight.thaw(&broken).is_err());
    assert_eq!((flight.freeze(), action, flight.steps()), (before, action_before, 1));
}

#[test]
fn loading_takes_new_parameters_and_keeps_membranes() {
    let (mut flight, observations) = flying(7);
    let mut action = [0.0; 4];
    flight.step(&observations[0], &mut action).unwrap();
    let other = Network::random(&Shape::paper(), &mut Xoshiro256PlusPlus::seed_from_u64(8)).unwrap();
    let before = flight.freeze();
    flight.load(&other).unwrap();
    assert_eq!(flight.freeze(), before);
    let mut fresh = Flight::new(&other);
    fresh.thaw(&before).unwrap();
    let mut expected = [0.0; 4];
    flight.step(&observations[1], &mut action).unwrap();
    fresh.step(&observations[1], &mut expected).unwrap();
    assert_eq!(action, expected);

    let small = Shape { inputs: 18, hidden: vec![16, 8], outputs: 4 };
    let small = Network::random(&small, &mut Xoshiro256PlusPlus::seed_from_u64(9)).unwrap();
    assert!(matches!(flight.load(&small), Err(SnnError::ShapeMismatch { .. })));
}

#[test]
fn rates_count_what_fired() {
    let (mut flight, observations) = flying(10);
    let mut action = [0.0; 4];
    assert_eq!(flight.firing_rate(0), Some(0.0));
    for o in &observations {
        flight.step(o, &mut action).unwrap();
    }
    let rate = flight.firing_rate(0).unwrap();
    assert!((0.01..0.9).contains(&rate), "{rate}");
    assert_eq!(rate, flight.spike_count(0).unwrap() as f64 / (40.0 * 256.0));
    assert_eq!(flight.firing_rate(2), None, "the decoder does not fire");
    flight.clear_counters();
    assert_eq!((flight.steps(), flight.spike_count(0)), (0, Some(0)));
}
