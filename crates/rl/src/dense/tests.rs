use proptest::prelude::*;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn numbers(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<f32> {
    (0..n).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect()
}

/// Output, parameter gradient and input gradient.
fn all(network: &Dense, x: &[f32], g: &[f32], columns: Range<usize>) -> [Vec<f32>; 3] {
    let mut scratch = Scratch::default();
    network.forward(x, &mut scratch).unwrap();
    let mut parameters = vec![0.0; network.parameters().len()];
    let wanted = Wanted { parameters: Some(&mut parameters), inputs: columns };
    network.backward(x, g, &mut scratch, wanted).unwrap();
    [scratch.output().to_vec(), parameters, scratch.input_gradient().to_vec()]
}

fn largest_deviation(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn both_backends_agree(
        seed in 0_u64..1000,
        hidden in prop::collection::vec(1_usize..70, 0..3),
        (inputs, outputs, rows) in (1_usize..160, 1_usize..5, 1_usize..90),
        hidden_tanh in any::<bool>(),
        output_tanh in any::<bool>(),
    ) {
        let mut rng = rng(seed);
        let widths: Vec<usize> = [inputs].into_iter().chain(hidden).chain([outputs]).collect();
        let kind = |tanh, other| if tanh { Activation::Tanh } else { other };
        let native = Dense::random(
            &widths,
            kind(hidden_tanh, Activation::Relu),
            kind(output_tanh, Activation::Identity),
            &mut rng,
        ).unwrap();
        let oracle = native.clone().with_backend(Backend::Dfdx);
        let (x, g) = (numbers(rows * inputs, &mut rng), numbers(rows * outputs, &mut rng));
        let columns = inputs / 3..inputs;
        let ours = all(&native, &x, &g, columns.clone());
        for (what, (a, b)) in ["output", "parameters", "inputs"].iter().zip(ours.iter().zip(&all(&oracle, &x, &g, columns))) {
            let deviation = largest_deviation(a, b);
            prop_assert!(deviation < 2e-5, "{what}: {deviation}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let mut rng = rng(1);
    let network = Dense::random(&[5, 7, 3], Activation::Tanh, Activation::Identity, &mut rng).unwrap();
    let (x, g) = (numbers(4 * 5, &mut rng), numbers(4 * 3, &mut rng));
    let [_, parameters, inputs] = all(&network, &x, &g, 0..5);
    let loss = |network: &Dense, x: &[f32]| {
        let mut scratch = Scratch::default();
        network.forward(x, &mut scratch).unwrap();
        scratch.output().iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum::<f64>()
    };
    for (i, &exact) in parameters.iter().enumerate() {
        let at = |d: f32| {
            let mut moved = network.clone();
            moved.parameters_mut()[i] += d;
            loss(&moved, &x)
        };
        let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((difference - f64::from(exact)).abs() < 2e-3, "{i}: {difference} {exact}");
    }
    for (i, &exact) in inputs.iter().enumerate() {
        let at = |d: f32| {
            let mut moved = x.clone();
            moved[i] += d;
            loss(&network, &moved)
        };
        let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((difference - f64::from(exact)).abs() < 2e-3, "{i}: {difference} {exact}");
    }
}

/// The gradient of a batch is the sum over its parts: passes may be cut anywhere, and add up.
#[test]
fn parameter_gradients_add_up() {
    let mut rng = rng(2);
    let network = Dense::random(&[9, 16, 2], Activation::Relu, Activation::Tanh, &mut rng).unwrap();
    let (x, g) = (numbers(20 * 9, &mut rng), numbers(20 * 2, &mut rng));
    let [_, whole, _] = all(&network, &x, &g, 0..0);
    let mut sum = vec![0.0; whole.len()];
    let mut scratch = Scratch::default();
    for rows in [0..13, 13..20] {
        let x = &x[rows.start * 9..rows.end * 9];
        network.forward(x, &mut scratch).unwrap();
        let wanted = Wanted { parameters: Some(&mut sum), inputs: 0..0 };
        network.backward(x, &g[rows.start * 2..rows.end * 2], &mut scratch, wanted).unwrap();
    }
    assert!(largest_deviation(&sum, &whole) < 1e-5);
}

#[test]
fn the_hyperbolic_tangent_is_right() {
    for i in -4000..=4000 {
        let x = i as f32 * 0.005;
        let error = (f64::from(native::tanh(x)) - f64::from(x).tanh()).abs();
        assert!(error < 2e-7, "{x}: {error}");
    }
    assert_eq!([f32::MAX, f32::MIN, 0.0, 1e30].map(native::tanh), [1.0, -1.0, 0.0, 1.0]);
    assert!(native::tanh(f32::INFINITY) == 1.0);
}

#[test]
fn adam_descends_and_refuses_what_is_not_finite() {
    let mut rng = rng(3);
    let mut network = Dense::random(&[6, 32, 1], Activation::Relu, Activation::Identity, &mut rng).unwrap();
    let mut adam = DenseAdam::new(&network, 3e-3);
    let mut scratch = Scratch::default();
    let mut losses = Vec::new();
    for _ in 0..500 {
        let x = numbers(64 * 6, &mut rng);
        network.forward(&x, &mut scratch).unwrap();
        let off: Vec<f32> =
            scratch.output().iter().zip(x.chunks_exact(6)).map(|(y, x)| y - (x[0] - x[1] * x[2])).collect();
        losses.push(off.iter().map(|o| o * o).sum::<f32>() / 64.0);
        let mut gradients = vec![0.0; network.parameters().len()];
        let g: Vec<f32> = off.iter().map(|o| 2.0 * o / 64.0).collect();
        let wanted = Wanted { parameters: Some(&mut gradients), inputs: 0..0 };
        network.backward(&x, &g, &mut scratch, wanted).unwrap();
        adam.step(&mut network, &gradients);
    }
    assert!(losses[499] < 0.1 * losses[0], "{} {}", losses[0], losses[499]);
    let (before, state) = (network.clone(), adam.clone());
    let mut bad = vec![0.0; network.parameters().len()];
    bad[3] = f32::NAN;
    adam.step(&mut network, &bad);
    assert!(network == before && adam == state);
}

#[test]
fn shapes_are_checked() {
    assert!(Dense::random(&[3], Activation::Relu, Activation::Relu, &mut rng(4)).is_err());
    assert!(Dense::random(&[3, 0, 1], Activation::Relu, Activation::Relu, &mut rng(4)).is_err());
    let network = Dense::random(&[3, 4, 2], Activation::Relu, Activation::Relu, &mut rng(4)).unwrap();
    let mut scratch = Scratch::default();
    assert!(network.forward(&[0.0; 4], &mut scratch).is_err());
    assert!(network.forward(&[], &mut scratch).is_err());
    network.forward(&[0.0; 6], &mut scratch).unwrap();
    let wanted = || Wanted { parameters: None, inputs: 0..3 };
    assert!(network.backward(&[0.0; 6], &[0.0; 3], &mut scratch, wanted()).is_err());
    assert!(network.backward(&[0.0; 9], &[0.0; 4], &mut scratch, wanted()).is_err());
    let too_far = Wanted { parameters: None, inputs: 0..4 };
    assert!(network.backward(&[0.0; 6], &[0.0; 4], &mut scratch, too_far).is_err());
    assert!(network.backward(&[0.0; 6], &[0.0; 4], &mut scratch, wanted()).is_ok());
}
