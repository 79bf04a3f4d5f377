//! Backpropagation through a closed loop: the network's actions move what it flies, which the network then sees.
//!
//! What is flown is a [`World`] of its own for each sequence. A loop first warms the membranes up on recorded observations,
//! then runs network and world in turns; backwards, ∂L/∂o of a step reaches the world before ∂L/∂a of the step before it is
//! asked for. The path through the membranes ends where the loop began: what was recorded does not depend on the network
//! as it is now.

use ndarray::{Array3, ArrayView3, Axis, s};
use rayon::prelude::*;

use crate::{
    BackwardOptions, Gradients, InputGradient, Network, Real, SnnError,
    backward::{ChunkGradients, Pass, Scratch, layer_ranges, reduce},
    forward::{ChunkTrace, INPUT_LIMIT, Prepared, blocks, forward_block, largest_block, prepare},
    matrix::vectorized,
    sparse::WORD,
};

/// What a network flies, and the loss of the flight. Steps count from 0, the first one after the warm-up.
pub trait World<T>: Send {
    /// Writes what the network sees at `step`.
    fn observe(&mut self, step: usize, observation: &mut [T]);
    /// Moves on under the network's action.
    fn act(&mut self, step: usize, action: &[T]);
    /// Writes ∂L/∂a of `step`. Asked for from the last step to the first, after what was seen at the step after it was
    /// pulled.
    fn pull_action(&mut self, step: usize, gradient: &mut [T]);
    /// Takes ∂L/∂o of `step`, as far as it comes through the network.
    fn pull_observation(&mut self, step: usize, gradient: &[T]);
}

/// Memory that is used again by the next loop; no state.
#[derive(Debug)]
pub struct Buffers<T: Real> {
    prepared: Vec<Prepared<T>>,
    chunks: Vec<Chunk<T>>,
    shares: Vec<ChunkGradients<T>>,
    total: Vec<T>,
}

impl<T: Real> Default for Buffers<T> {
    fn default() -> Self {
        Self { prepared: Vec::new(), chunks: Vec::new(), shares: Vec::new(), total: Vec::new() }
    }
}

impl<T: Real> Buffers<T> {
    /// Share of neurons that fired per step in the last loop, one entry per spiking layer.
    pub fn firing_rates(&self) -> Vec<f64> {
        let layers = self.chunks.first().map_or(0, |c| c.trace.fired.len());
        let rate = |layer: usize| {
            let (mut fired, mut all) = (0_u64, 0_usize);
            for chunk in &self.chunks {
                // A bit for each sequence of the chunk; those that only fill it up are left out.
                let used = u32::MAX >> (WORD - chunk.used);
                fired +=
                    chunk.trace.fired[layer].iter().map(|w| u64::from((w & used).count_ones())).sum::<u64>();
                all += chunk.trace.fired[layer].len() * chunk.used;
            }
            fired as f64 / all.max(1) as f64
        };
        (0..layers).map(rate).collect()
    }
}

/// A word's worth of sequences, so that each step fills its words of spikes; those beyond `used` see zeros.
#[derive(Debug)]
struct Chunk<T: Real> {
    trace: ChunkTrace<T>,
    used: usize,
    scratch: Scratch<T>,
    /// ∂L/∂a, `[steps, WORD, outputs]`.
    grad_actions: Array3<T>,
}

impl<T: Real> Default for Chunk<T> {
    fn default() -> Self {
        Self {
            trace: ChunkTrace::default(),
            used: 0,
            scratch: Scratch::default(),
            grad_actions: Array3::from_elem((0, 0, 0), T::zero()),
        }
    }
}

impl<T: Real> Network<T> {
    /// Flies `steps` in every world after a warm-up `[steps, worlds, inputs]` on what was recorded, and leaves in
    /// `gradients` the derivative of the sum of the worlds' losses with respect to the parameters.
    ///
    /// Deterministic: the sums run in an order that does not depend on the number of threads.
    ///
    /// # Errors
    /// [`SnnError`] when a width is not the network's, there is nothing to do, or an observation is not finite; `gradients`
    /// is then unspecified.
    pub fn closed_loop<W: World<T>>(
        &self,
        warm_up: ArrayView3<'_, T>,
        steps: usize,
        worlds: &mut [W],
        options: &BackwardOptions<T>,
        buffers: &mut Buffers<T>,
        gradients: &mut Gradients<T>,
    ) -> Result<(), SnnError> {
        self.require_shape_of(&gradients.parameters)?;
        let shape = self.shape();
        let (warm, sequences, width) = warm_up.dim();
        crate::network::check_length("a row of the warm-up", shape.inputs, width)?;
        crate::network::check_length("the worlds", sequences, worlds.len())?;
        if steps == 0 || sequences == 0 {
            return Err(SnnError::Empty { what: "the closed loop" });
        }
        let Buffers { prepared, chunks, shares, total } = buffers;
        prepare(self, prepared);
        chunks.resize_with(sequences.div_ceil(WORD), Chunk::default);
        shares.resize_with(chunks.len(), ChunkGradients::default);
        let ranges = layer_ranges(prepared);
        let weights: Vec<&[T]> = self.linear().iter().map(|l| l.weight.as_slice()).collect();
        let options =
            BackwardOptions { first_step: warm, input_gradient: InputGradient::Compute, ..*options };
        let pass = Pass { layers: prepared, weights: &weights, ranges: &ranges, options: &options };
        let widest = shape.widths().into_iter().max().unwrap_or(0);
        let length = self.parameter_count();

        let parts: Vec<_> = warm_up.axis_chunks_iter(Axis(1), WORD).collect();
        parts
            .into_par_iter()
            .zip(worlds.par_chunks_mut(WORD))
            .zip(chunks.par_iter_mut())
            .zip(shares.par_iter_mut())
            .try_for_each(|(((seen, worlds), chunk), share)| {
                chunk.used = worlds.len();
                chunk.trace.batch = WORD;
                chunk.trace.size_for(&shape, warm + steps);
                chunk.grad_actions = Array3::from_elem((warm + steps, WORD, shape.outputs), T::zero());
                chunk.scratch.size_for(largest_block(warm.max(1), WORD) * widest, WORD, &shape.hidden);
                share.flat.clear();
                share.flat.resize(length, T::zero());
                share.input.resize(chunk.trace.input.len(), T::zero());
                forward(prepared, &seen, steps, worlds, chunk)?;
                backward(&pass, warm, steps, worlds, chunk, share);
                Ok::<(), SnnError>(())
            })?;
        reduce(shares, self, total, &mut gradients.parameters);
        gradients.input = None;
        Ok(())
    }
}

fn forward<T: Real, W: World<T>>(
    layers: &[Prepared<T>],
    warm_up: &ArrayView3<'_, T>,
    steps: usize,
    worlds: &mut [W],
    chunk: &mut Chunk<T>,
) -> Result<(), SnnError> {
    let (warm, _, inputs) = warm_up.dim();
    let outputs = layers.last().map_or(0, |l| l.outputs);
    let trace = &mut chunk.trace;
    trace.input.fill(T::zero());
    for (row, seen) in trace.input.chunks_exact_mut(WORD * inputs).zip(warm_up.outer_iter()) {
        for (to, from) in row.iter_mut().zip(seen.iter()) {
            *to = *from;
        }
    }
    check(&trace.input)?;
    for block in blocks(warm, WORD) {
        vectorized(
            #[inline(always)]
            || forward_block(layers, trace, block),
        );
    }
    for step in 0..steps {
        let at = warm + step;
        let seen = &mut trace.input[at * WORD * inputs..][..worlds.len() * inputs];
        for (world, seen) in worlds.iter_mut().zip(seen.chunks_exact_mut(inputs)) {
            world.observe(step, seen);
        }
        check(seen)?;
        vectorized(
            #[inline(always)]
            || forward_block(layers, trace, at..at + 1),
        );
        let actions = trace.output[at * WORD * outputs..].chunks_exact(outputs);
        for (world, action) in worlds.iter_mut().zip(actions) {
            world.act(step, action);
        }
    }
    Ok(())
}

fn backward<T: Real, W: World<T>>(
    pass: &Pass<'_, T>,
    warm: usize,
    steps: usize,
    worlds: &mut [W],
    chunk: &mut Chunk<T>,
    share: &mut ChunkGradients<T>,
) {
    let inputs = pass.layers.first().map_or(0, |l| l.inputs);
    let Chunk { trace, scratch, grad_actions, .. } = chunk;
    for step in (0..steps).rev() {
        let at = warm + step;
        for (i, world) in worlds.iter_mut().enumerate() {
            if let Some(row) = grad_actions.slice_mut(s![at, i, ..]).as_slice_mut() {
                world.pull_action(step, row);
            }
        }
        pass.run(trace, at..at + 1, &grad_actions.view(), scratch, share);
        let seen = share.input[at * WORD * inputs..].chunks_exact(inputs);
        for (world, seen) in worlds.iter_mut().zip(seen) {
            world.pull_observation(step, seen);
        }
    }
}

fn check<T: Real>(seen: &[T]) -> Result<(), SnnError> {
    let limit = T::of(INPUT_LIMIT);
    match seen.iter().position(|x| x.is_nan() || x.abs() > limit) {
        Some(index) => Err(SnnError::Value {
            what: "observations of the closed loop",
            index,
            value: seen[index].to_f64_exact(),
            limit: INPUT_LIMIT,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// A line that the first action pushes along: x′ = 0.9 x + 0.3 a + 0.05 a², L = Σ x′² + 0.1 a.
    #[derive(Clone)]
    struct Line {
        x: Vec<f64>,
        a: Vec<f64>,
        adjoint: f64,
        fixed: Option<Vec<f64>>,
    }

    impl Line {
        fn new(x: f64) -> Self {
            Self { x: vec![x], a: Vec::new(), adjoint: 0.0, fixed: None }
        }
        fn loss(&self) -> f64 {
            self.x[1..].iter().map(|x| x * x).sum::<f64>() + 0.1 * self.a.iter().sum::<f64>()
        }
    }

    impl World<f64> for Line {
        fn observe(&mut self, step: usize, o: &mut [f64]) {
            let x = self.fixed.as_ref().map_or(self.x[step], |f| f[step]);
            o.copy_from_slice(&[x, x * x, 1.0]);
        }
        fn act(&mut self, step: usize, a: &[f64]) {
            self.a.push(a[0]);
            self.x.push(0.9 * self.x[step] + 0.3 * a[0] + 0.05 * a[0] * a[0]);
        }
        fn pull_action(&mut self, step: usize, g: &mut [f64]) {
            let next = self.adjoint + 2.0 * self.x[step + 1];
            g[0] = next * (0.3 + 0.1 * self.a[step]) + 0.1;
            self.adjoint = 0.9 * next;
        }
        fn pull_observation(&mut self, step: usize, g: &[f64]) {
            self.adjoint += g[0] + 2.0 * self.x[step] * g[1];
        }
    }

    fn setting(sequences: usize) -> (Network<f64>, Array3<f64>, Vec<Line>) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let shape = Shape { inputs: 3, hidden: vec![24, 12], outputs: 2 };
        let network = Network::random(&shape, &mut rng).unwrap();
        let warm_up = Array3::from_shape_fn((6, sequences, 3), |_| rng.random::<f64>() - 0.5);
        let worlds = (0..sequences).map(|_| Line::new(rng.random::<f64>() - 0.5)).collect();
        (network, warm_up, worlds)
    }

    fn gradients(
        network: &Network<f64>,
        warm_up: &Array3<f64>,
        worlds: &mut [Line],
        options: &BackwardOptions<f64>,
    ) -> Gradients<f64> {
        let mut gradients = Gradients::zeros_like(network);
        network
            .closed_loop(warm_up.view(), 9, worlds, options, &mut Buffers::default(), &mut gradients)
            .unwrap();
        gradients
    }

    /// Forward it is what [`Network::forward`] computes on the same observations; backwards, with the world's answer given
    /// to the plain backward pass as the gradient of the actions, the parameters' gradients are the same.
    #[test]
    fn a_loop_is_a_sequence_whose_observations_come_from_the_world() {
        for sequences in [1, 5, 32, 40] {
            let (network, warm_up, mut worlds) = setting(sequences);
            let options = BackwardOptions::new(3.0);
            let looped = gradients(&network, &warm_up, &mut worlds, &options);

            let mut all = Array3::zeros((15, sequences, 3));
            all.slice_mut(s![..6, .., ..]).assign(&warm_up);
            for (i, world) in worlds.iter().enumerate() {
                for step in 0..9 {
                    let x = world.x[step];
                    all.slice_mut(s![6 + step, i, ..]).assign(&ndarray::arr1(&[x, x * x, 1.0]));
                }
            }
            let trace = network.forward(all.view()).unwrap();
            let mut grad = Array3::zeros(trace.actions().raw_dim());
            let options = BackwardOptions {
                first_step: 6,
                truncate: None,
                input_gradient: InputGradient::Compute,
                ..options
            };
            // Fixed point: ∂L/∂a needs ∂L/∂o of later steps, so one step more is right with every pass.
            for _ in 0..9 {
                let plain = network.backward(&trace, grad.view(), &options).unwrap();
                let input = plain.input.unwrap();
                for (i, world) in worlds.iter().enumerate() {
                    let mut line = Line { adjoint: 0.0, ..world.clone() };
                    for step in (0..9).rev() {
                        assert!((world.a[step] - trace.actions()[(6 + step, i, 0)]).abs() < 1e-15);
                        let mut g = [0.0; 2];
                        line.pull_action(step, &mut g);
                        grad.slice_mut(s![6 + step, i, ..]).assign(&ndarray::arr1(&g));
                        line.pull_observation(step, input.slice(s![6 + step, i, ..]).as_slice().unwrap());
                    }
                }
            }
            let plain = network.backward(&trace, grad.view(), &options).unwrap();
            // The decoder has no memory: there the two paths are the same whatever happens in the warm-up.
            let (name, of_loop) = looped.parameters.parameters().into_iter().rev().nth(1).unwrap();
            let (_, of_plain) = plain.parameters.parameters().into_iter().rev().nth(1).unwrap();
            for (a, b) in of_loop.iter().zip(of_plain) {
                assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{sequences} {name}: {a} {b}");
            }
        }
    }

    /// Without spikes in the way (the decoder's bias acts through the world alone when what is seen is held fixed), the
    /// gradient is that of finite differences.
    #[test]
    fn the_world_part_is_that_of_finite_differences() {
        let (network, warm_up, mut worlds) = setting(3);
        for world in &mut worlds {
            world.fixed = Some((0..9).map(|i| 0.1 * f64::from(i)).collect());
        }
        let fly = |network: &Network<f64>| {
            let mut worlds = worlds.clone();
            let mut gradients = Gradients::zeros_like(network);
            let mut buffers = Buffers::default();
            // A surrogate so steep that no gradient passes a spike.
            let options = BackwardOptions::new(1e12);
            network
                .closed_loop(warm_up.view(), 9, &mut worlds, &options, &mut buffers, &mut gradients)
                .unwrap();
            (worlds.iter().map(Line::loss).sum::<f64>(), gradients)
        };
        let (_, exact) = fly(&network);
        let exact = exact.parameters.linear().last().unwrap().bias()[0];
        let moved = |d: f64| {
            let mut network = network.clone();
            network.linear_mut().last_mut().unwrap().bias_mut()[0] += d;
            fly(&network).0
        };
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((difference - exact).abs() < 1e-6 * (1.0 + exact.abs()), "{difference} {exact}");
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (network, warm_up, mut worlds) = setting(70);
                gradients(&network, &warm_up, &mut worlds, &BackwardOptions::new(2.0))
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_world_that_breaks_is_an_error() {
        let (network, warm_up, mut worlds) = setting(2);
        worlds[1].x[0] = f64::NAN;
        let mut gradients = Gradients::zeros_like(&network);
        let result = network.closed_loop(
            warm_up.view(),
            9,
            &mut worlds,
            &BackwardOptions::new(2.0),
            &mut Buffers::default(),
            &mut gradients,
        );
        assert!(matches!(result, Err(SnnError::Value { .. })));
    }
}
