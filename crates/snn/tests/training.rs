//! What a trainer relies on: gradients, their invariances, and the optimiser.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use ndarray::{Array3, Axis, s};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_snn::{
    Adam, AdamOptions, BackwardOptions, Gradients, InputGradient, Network, Shape, StepOutcome, Surrogate,
    Trace, Workspace,
};

struct Case {
    network: Network<f64>,
    input: Array3<f64>,
    grad: Array3<f64>,
}

fn case(seed: u64, steps: usize, batch: usize) -> Case {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let network = Network::random(&Shape { inputs: 5, hidden: vec![12, 9], outputs: 3 }, &mut rng).unwrap();
    let mut draw =
        |width| Array3::from_shape_simple_fn((steps, batch, width), || rng.random_range(-2.0..2.0));
    let (input, grad) = (draw(5), draw(3));
    Case { network, input, grad }
}

impl Case {
    fn gradients(&self, options: &BackwardOptions<f64>) -> Gradients<f64> {
        let trace = self.network.forward(self.input.view()).unwrap();
        self.network.backward(&trace, self.grad.view(), options).unwrap()
    }
}

fn with_input(k: f64) -> BackwardOptions<f64> {
    BackwardOptions { input_gradient: InputGradient::Compute, ..BackwardOptions::new(k) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Before the warm-up no loss: the gradient there changes nothing, and with nothing after it all is zero.
    #[test]
    fn steps_before_the_warm_up_give_no_gradient(seed: u64, steps in 2usize..12, batch in 1usize..20, first in 0usize..14) {
        let mut case = case(seed, steps, batch);
        let mut options = with_input(5.0);
        options.first_step = first;
        let before = case.gradients(&options);
        case.grad.slice_mut(s![..first.min(steps), .., ..]).fill(1e6);
        prop_assert_eq!(&before, &case.gradients(&options));
        if first >= steps {
            prop_assert_eq!(before.norm(), 0.0);
            prop_assert!(before.input.unwrap().iter().all(|g| *g == 0.0));
        }
    }

    /// The order of the sequences in a batch does not matter: outputs move with them, gradients stay.
    #[test]
    fn batch_order_does_not_matter(seed: u64, steps in 1usize..10, batch in 2usize..30) {
        let case = case(seed, steps, batch);
        let options = with_input(3.0);
        let straight = case.network.forward(case.input.view()).unwrap();
        let reversed = Case {
            network: case.network.clone(),
            input: case.input.slice(s![.., ..;-1, ..]).to_owned(),
            grad: case.grad.slice(s![.., ..;-1, ..]).to_owned(),
        };
        let mirrored = reversed.network.forward(reversed.input.view()).unwrap();
        let expected = straight.actions().slice(s![.., ..;-1, ..]).to_owned();
        prop_assert_eq!(expected.view(), mirrored.actions());
        let (a, b) = (case.gradients(&options), reversed.gradients(&options));
        let largest = a.norm().max(1e-300);
        for ((name, a), (_, b)) in a.parameters.parameters().iter().zip(b.parameters.parameters()) {
            for (a, b) in a.iter().zip(b) {
                prop_assert!((a - b).abs() <= 1e-12 * largest, "{} {} {}", name, a, b);
            }
        }
        let (a, b) = (a.input.unwrap(), b.input.unwrap());
        for (a, b) in a.slice(s![.., ..;-1, ..]).iter().zip(&b) {
            prop_assert!((a - b).abs() <= 1e-12 * largest);
        }
    }

    /// A batch is the sum of its sequences.
    #[test]
    fn a_batch_is_the_sum_of_its_sequences(seed: u64, steps in 1usize..8, batch in 1usize..20) {
        let case = case(seed, steps, batch);
        let options = BackwardOptions::new(10.0);
        let together = case.gradients(&options);
        let mut sum = case.network.zeros_like();
        for b in 0..batch {
            let one = Case {
                network: case.network.clone(),
                input: case.input.slice(s![.., b..b + 1, ..]).to_owned(),
                grad: case.grad.slice(s![.., b..b + 1, ..]).to_owned(),
            };
            let one = one.gradients(&options);
            for ((_, to), (_, from)) in sum.parameters_mut().into_iter().zip(one.parameters.parameters()) {
                to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
            }
        }
        for ((_, a), (_, b)) in sum.parameters().iter().zip(together.parameters.parameters()) {
            for (a, b) in a.iter().zip(b) {
                prop_assert!((a - b).abs() <= 1e-11 * together.norm().max(1.0));
            }
        }
    }

    /// A smaller slope lets more through, for every surrogate.
    #[test]
    fn a_smaller_slope_never_shrinks_the_surrogate(x in -5.0f64..5.0, k in 0.5f64..100.0, factor in 1.0f64..10.0) {
        for surrogate in [Surrogate::FastSigmoid, Surrogate::ArcTan, Surrogate::Sigmoid, Surrogate::Triangular] {
            let (shallow, steep) = (surrogate.derivative(x, k), surrogate.derivative(x, k * factor));
            prop_assert!(steep <= shallow + 1e-15, "{surrogate:?} at {x}: {shallow} {steep}");
            prop_assert!((0.0..=1.0).contains(&shallow) && (0.0..=1.0).contains(&steep));
            prop_assert_eq!(surrogate.derivative(0.0, k), 1.0);
        }
    }

    /// So the gradient that reaches the first layer through a chain of neurons whose weights and error all push one way
    /// grows as the slope falls.
    #[test]
    fn a_smaller_slope_sends_larger_gradients_down(seed: u64, steps in 1usize..10, batch in 1usize..10) {
        let mut case = case(seed, steps, batch);
        for layer in case.network.linear_mut() {
            layer.weight_mut().mapv_inplace(f64::abs);
        }
        case.grad.mapv_inplace(f64::abs);
        let mut last = f64::INFINITY;
        for k in [1.0, 2.0, 10.0, 25.0, 100.0] {
            let gradients = case.gradients(&BackwardOptions::new(k));
            let size = gradients.parameters.linear()[0].bias().sum();
            prop_assert!(size <= last * (1.0 + 1e-12), "slope {k}: {size} after {last}");
            last = size;
        }
    }
}

/// Where no spike changes, parameters behind the last spike have a true derivative: finite differences must meet it.
#[test]
fn the_decoder_gradient_is_the_true_one() {
    let case = case(3, 6, 4);
    let loss =
        |network: &Network<f64>| (&network.forward(case.input.view()).unwrap().actions() * &case.grad).sum();
    let gradients = case.gradients(&BackwardOptions::new(1.0));
    let step = 1e-6;
    for (row, column) in [(0, 0), (1, 4), (2, 8)] {
        let mut moved = case.network.clone();
        moved.linear_mut()[2].weight_mut()[[row, column]] += step;
        let up = loss(&moved);
        moved.linear_mut()[2].weight_mut()[[row, column]] -= 2.0 * step;
        let slope = (up - loss(&moved)) / (2.0 * step);
        let got = gradients.parameters.linear()[2].weight()[[row, column]];
        assert!((slope - got).abs() <= 1e-7 * slope.abs().max(1.0), "{slope} {got}");
    }
}

/// Cut after every step, nothing flows between steps: a long sequence is then many single steps for ∂L/∂input.
#[test]
fn truncation_cuts_the_path_through_time() {
    let case = case(4, 9, 3);
    let full = case.gradients(&with_input(2.0)).input.unwrap();
    let cut = |n| case.gradients(&BackwardOptions { truncate: Some(n), ..with_input(2.0) }).input.unwrap();
    assert_eq!(cut(100), full, "a cut at step 0 only cuts nothing");
    // Only the last step carries a loss: with cuts at 3 and 6 it reaches steps 6, 7 and 8.
    let mut last_only = Case { grad: case.grad.clone(), ..case };
    last_only.grad.slice_mut(s![..8, .., ..]).fill(0.0);
    let reached =
        last_only.gradients(&BackwardOptions { truncate: Some(3), ..with_input(2.0) }).input.unwrap();
    let size: Vec<f64> = reached.axis_iter(Axis(0)).map(|g| g.iter().map(|x| x.abs()).sum()).collect();
    assert!(size[..6].iter().all(|g| *g == 0.0), "{size:?}");
    assert!(size[6..].iter().all(|g| *g > 0.0), "{size:?}");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
            let network = Network::<f32>::random(&Shape::paper(), &mut rng).unwrap();
            let input = Array3::from_shape_simple_fn((20, 37, 18), || rng.random_range(-1.0f32..1.0));
            let trace = network.forward(input.view()).unwrap();
            network.backward(&trace, trace.actions(), &BackwardOptions::new(5.0)).unwrap()
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn reused_buffers_leave_no_trace() {
    let (mut trace, mut workspace) = (Trace::new(), Workspace::new());
    let runs = [(1, 12, 20, 0), (2, 3, 1, 2), (3, 12, 9, 5), (4, 12, 9, 0), (5, 12, 20, 7)];
    for (seed, steps, batch, first_step) in runs {
        let case = case(seed, steps, batch);
        let mut gradients = Gradients::zeros_like(&case.network);
        case.network.forward_into(case.input.view(), &mut trace).unwrap();
        let options = BackwardOptions { first_step, ..with_input(7.0) };
        case.network
            .backward_into(&trace, case.grad.view(), &options, &mut workspace, &mut gradients)
            .unwrap();
        assert_eq!(gradients, case.gradients(&options));
    }
}

#[test]
fn malformed_sequences_are_refused() {
    let case = case(5, 4, 3);
    assert!(case.network.forward(Array3::zeros((4, 3, 6)).view()).is_err());
    assert!(case.network.forward(Array3::zeros((0, 3, 5)).view()).is_err());
    let mut input = case.input.clone();
    input[[2, 1, 3]] = f64::NAN;
    assert!(case.network.forward(input.view()).unwrap_err().to_string().contains("entry 3 is NaN"));
    let trace = case.network.forward(case.input.view()).unwrap();
    let options = BackwardOptions::new(1.0);
    assert!(case.network.backward(&trace, Array3::zeros((4, 2, 3)).view(), &options).is_err());
    assert!(case.network.backward(&Trace::new(), case.grad.view(), &options).is_err());
}

/// Three steps of Adam on one weight, worked with PyTorch's formulas by hand.
#[test]
fn adam_follows_its_formulas() {
    let shape = Shape { inputs: 1, hidden: vec![1], outputs: 1 };
    let mut network = Network::<f64>::zeros(&shape).unwrap();
    let options = AdamOptions { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip_norm: None };
    let mut adam = Adam::new(&network, options);
    let mut gradients = Gradients::zeros_like(&network);
    let (mut theta, mut m, mut v) = (0.0f64, 0.0f64, 0.0f64);
    for (t, g) in [(1, 0.5), (2, -2.0), (3, 1.0)] {
        gradients.parameters.linear_mut()[0].weight_mut()[[0, 0]] = g;
        assert_eq!(adam.step(&mut network, &gradients).unwrap(), StepOutcome::Applied);
        m = 0.9 * m + 0.1 * g;
        v = 0.99 * v + 0.01 * g * g;
        theta -= 0.1 * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.99f64.powi(t))).sqrt() + 1e-8);
        assert!((network.linear()[0].weight()[[0, 0]] - theta).abs() < 1e-14);
    }
    assert_eq!(network.linear()[1].weight()[[0, 0]], 0.0, "no gradient, no step");
}

#[test]
fn adam_resumes_exactly_and_refuses_what_is_not_finite() {
    let case = case(6, 8, 5);
    let gradients = case.gradients(&BackwardOptions::new(4.0));
    let options = AdamOptions { clip_norm: Some(0.5), ..AdamOptions::default() };
    let (mut network, mut adam) = (case.network.clone(), Adam::new(&case.network, options));
    adam.step(&mut network, &gradients).unwrap();
    let (steps, first, second) = adam.state();
    let clipped =
        first.parameters().iter().flat_map(|(_, p)| p.iter()).map(|m| (m / 0.1).powi(2)).sum::<f64>();
    assert!((clipped.sqrt() - 0.5).abs() < 1e-12, "the gradient was clipped to norm 0.5");
    let mut resumed = Adam::from_state(options, steps, first.clone(), second.clone()).unwrap();
    let mut copy = network.clone();
    adam.step(&mut network, &gradients).unwrap();
    resumed.step(&mut copy, &gradients).unwrap();
    assert_eq!((&network, &adam), (&copy, &resumed));

    let mut broken = gradients.clone();
    broken.parameters.lif_mut()[0].beta_mut()[0] = f64::NAN;
    assert_eq!(adam.step(&mut network, &broken).unwrap(), StepOutcome::SkippedNotFinite);
    assert_eq!((&network, &adam), (&copy, &resumed), "nothing changed");
}

#[test]
fn soft_updates_move_by_tau() {
    let case = case(7, 1, 1);
    let mut target = case.network.zeros_like();
    target.soft_update_from(&case.network, 0.01).unwrap();
    for ((_, a), (_, b)) in target.parameters().iter().zip(case.network.parameters()) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - 0.01 * b).abs() < 1e-15));
    }
    target.copy_from(&case.network).unwrap();
    assert_eq!(target, case.network);
    let other = Network::zeros(&Shape::paper()).unwrap();
    assert!(target.soft_update_from(&other, 0.01).is_err());
}

#[test]
fn networks_survive_serialisation_and_bad_ones_are_refused() {
    let network = case(8, 1, 1).network.cast::<f32>();
    let text = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network<f32>>(&text).unwrap(), network);
    assert!(serde_json::from_str::<Network<f32>>(&text.replacen("\"inputs\":5", "\"inputs\":4", 1)).is_err());
}
