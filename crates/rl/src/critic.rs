//! Privileged critics Q(s, a): 146 + 4 inputs, hidden layers of rectifiers, one value.
//!
//! Two of them learn from transitions by clipped double-Q learning, y = r + γ(1 − d)·min_j Q′_j(s′, a′), and the first
//! one's derivative with respect to the action is what an actor follows.

use std::ops::Range;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    dense::{Activation, Backend, Dense, DenseAdam, DenseError, Scratch, Wanted},
    lanes,
    replay::{ACTION, PRIVILEGED},
};

/// Inputs of a critic: the privileged observation, then the action.
pub const INPUTS: usize = PRIVILEGED + ACTION;

/// Inputs are scaled so that all are of about the same size: positions span ±0.6 m, body rates ±10 rad/s.
const SCALE: [(usize, f32); 3] = [(3, 2.0), (15, 1.0), (18, 0.2)];

/// Scales a privileged observation in place for a critic.
pub fn scale_privileged(privileged: &mut [f32]) {
    let mut from = 0;
    for (to, factor) in SCALE {
        for value in privileged.iter_mut().take(to).skip(from) {
            *value *= factor;
        }
        from = to;
    }
}

/// What critics are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriticShape {
    /// Neurons in the hidden layers.
    pub hidden: Vec<usize>,
    /// What computes them.
    pub backend: Backend,
}

impl Default for CriticShape {
    fn default() -> Self {
        Self { hidden: vec![128, 128], backend: Backend::Native }
    }
}

/// Transitions that critics learn from. Rows are asked for in any order, from several threads.
pub trait Transitions: Sync {
    /// Number of transitions.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes state (scaled, [`scale_privileged`]) and action of a transition, [`INPUTS`] numbers.
    fn now(&self, row: usize, into: &mut [f32]);

    /// Writes the state that it led to (scaled) and the target policy's smoothed action there, [`INPUTS`] numbers.
    fn next(&self, row: usize, into: &mut [f32]);

    /// Reward, scaled for the critics, and what the future counts: γ, or 0 where there is none.
    fn reward_and_future(&self, row: usize) -> (f32, f32);
}

/// Two critics, their targets and their optimisers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Critics {
    critics: [Dense; 2],
    targets: [Dense; 2],
    adams: [DenseAdam; 2],
}

/// Buffers of the critics' passes, kept between calls.
#[derive(Debug, Default)]
pub struct Buffers {
    lanes: Vec<Lane>,
    gradients: [Vec<f32>; 2],
}

/// What a lane of rows works with.
#[derive(Debug, Default)]
struct Lane {
    rows: Vec<f32>,
    scratch: Scratch,
    targets: Vec<f32>,
    output_gradient: Vec<f32>,
    gradients: [Vec<f32>; 2],
    squared_error: f64,
}

/// Action values and their derivatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionValues {
    /// Q, then ∂Q/∂a, of each row: `[n, 1 + 4]`.
    rows: Vec<f32>,
}

impl ActionValues {
    /// Q(s, a) of each row.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.rows.chunks_exact(1 + ACTION).map(|row| row[0])
    }

    /// ∂Q/∂a of each row.
    pub fn action_gradients(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.rows.chunks_exact(1 + ACTION).map(|row| &row[1..])
    }
}

impl Critics {
    /// Random critics, the targets equal to them.
    ///
    /// # Errors
    /// When a hidden layer is empty.
    pub fn random(shape: &CriticShape, learning_rate: f64, rng: &mut impl Rng) -> Result<Self, DenseError> {
        let widths: Vec<usize> =
            [INPUTS].into_iter().chain(shape.hidden.iter().copied()).chain([1]).collect();
        let mut draw = || {
            Dense::random(&widths, Activation::Relu, Activation::Identity, rng)
                .map(|c| c.with_backend(shape.backend))
        };
        let critics = [draw()?, draw()?];
        let adams = std::array::from_fn(|i| DenseAdam::new(&critics[i], learning_rate));
        Ok(Self { targets: critics.clone(), critics, adams })
    }

    /// The critics themselves.
    pub fn networks(&self) -> &[Dense; 2] {
        &self.critics
    }

    /// Whether these are as deep and wide as others.
    pub fn is_shaped_as(&self, other: &Self) -> bool {
        self.critics[0].widths() == other.critics[0].widths()
    }

    /// Weights, targets and moments of others; the learning rate stays.
    pub fn go_on_from(&mut self, other: Self) {
        let own = std::mem::replace(self, other);
        for (mine, own) in self.adams.iter_mut().zip(&own.adams) {
            mine.set_learning_rate(own.learning_rate());
        }
        let backend = own.critics[0].backend();
        for network in self.critics.iter_mut().chain(&mut self.targets) {
            network.set_backend(backend);
        }
    }

    /// Both say this, whatever they see.
    #[cfg(test)]
    pub fn set_constant(&mut self, value: f32) {
        self.critics.iter_mut().for_each(|critic| critic.set_output(0.0, value));
    }

    /// Mean squared temporal-difference errors' gradients: leaves them in `buffers` and returns the first critic's loss.
    fn differentiate(
        &self,
        transitions: &impl Transitions,
        buffers: &mut Buffers,
    ) -> Result<f32, DenseError> {
        let n = transitions.len();
        for (sum, critic) in buffers.gradients.iter_mut().zip(&self.critics) {
            sum.clear();
            sum.resize(critic.parameters().len(), 0.0);
        }
        let used = lanes::run(n, 0, &mut [], &mut buffers.lanes, |lane, rows, _| {
            lane.squared_error = 0.0;
            for (sum, critic) in lane.gradients.iter_mut().zip(&self.critics) {
                sum.clear();
                sum.resize(critic.parameters().len(), 0.0);
            }
            for chunk in lanes::chunks(rows, n) {
                self.temporal_difference_targets(transitions, chunk.clone(), lane)?;
                self.add_gradients(transitions, chunk, n, lane)?;
            }
            Ok(())
        })?;
        let mut squared_error = 0.0;
        for lane in &buffers.lanes[..used] {
            squared_error += lane.squared_error;
            for (sum, part) in buffers.gradients.iter_mut().flatten().zip(lane.gradients.iter().flatten()) {
                *sum += part;
            }
        }
        Ok((squared_error / n.max(1) as f64) as f32)
    }

    /// y = r + γ(1 − d)·min_j Q′_j(s′, a′) of some rows into the lane.
    fn temporal_difference_targets(
        &self,
        transitions: &impl Transitions,
        chunk: Range<usize>,
        lane: &mut Lane,
    ) -> Result<(), DenseError> {
        lane.rows.resize(chunk.len() * INPUTS, 0.0);
        for (row, into) in chunk.clone().zip(lane.rows.chunks_exact_mut(INPUTS)) {
            transitions.next(row, into);
        }
        self.targets[0].forward(&lane.rows, &mut lane.scratch)?;
        lane.targets.clear();
        lane.targets.extend_from_slice(lane.scratch.output());
        self.targets[1].forward(&lane.rows, &mut lane.scratch)?;
        for ((y, q), row) in lane.targets.iter_mut().zip(lane.scratch.output()).zip(chunk) {
            let (reward, future) = transitions.reward_and_future(row);
            *y = reward + future * y.min(*q);
        }
        Ok(())
    }

    /// Adds the gradients of some rows' shares of the loss to the lane's.
    fn add_gradients(
        &self,
        transitions: &impl Transitions,
        chunk: Range<usize>,
        n: usize,
        lane: &mut Lane,
    ) -> Result<(), DenseError> {
        for (row, into) in chunk.zip(lane.rows.chunks_exact_mut(INPUTS)) {
            transitions.now(row, into);
        }
        for (i, critic) in self.critics.iter().enumerate() {
            critic.forward(&lane.rows, &mut lane.scratch)?;
            lane.output_gradient.clear();
            for (q, y) in lane.scratch.output().iter().zip(&lane.targets) {
                let off = q - y;
                lane.output_gradient.push(2.0 * off / n as f32);
                if i == 0 {
                    lane.squared_error += f64::from(off * off);
                }
            }
            let wanted = Wanted { parameters: Some(&mut lane.gradients[i]), inputs: 0..0 };
            critic.backward(&lane.rows, &lane.output_gradient, &mut lane.scratch, wanted)?;
        }
        Ok(())
    }

    /// One step of both critics, then of their targets towards them by τ. Returns the first critic's loss, the mean
    /// squared temporal-difference error.
    ///
    /// # Errors
    /// When the backend refuses; nothing has changed then.
    pub fn learn(
        &mut self,
        transitions: &impl Transitions,
        tau: f32,
        buffers: &mut Buffers,
    ) -> Result<f32, DenseError> {
        if transitions.is_empty() {
            return Ok(0.0);
        }
        let loss = self.differentiate(transitions, buffers)?;
        for ((critic, adam), gradients) in
            self.critics.iter_mut().zip(&mut self.adams).zip(&buffers.gradients)
        {
            adam.step(critic, gradients);
        }
        for (target, critic) in self.targets.iter_mut().zip(&self.critics) {
            target.soft_update_from(critic, tau);
        }
        Ok(loss)
    }

    /// Values of the first critic, and their derivatives with respect to the action, of `n` rows that `fill` writes
    /// (state scaled, then action: [`INPUTS`] numbers).
    ///
    /// # Errors
    /// When the backend refuses.
    pub fn action_values(
        &self,
        n: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
        buffers: &mut Buffers,
        into: &mut ActionValues,
    ) -> Result<(), DenseError> {
        const WIDTH: usize = 1 + ACTION;
        into.rows.resize(n * WIDTH, 0.0);
        lanes::run(n, WIDTH, &mut into.rows, &mut buffers.lanes, |lane, rows, out| {
            let first = rows.start;
            for chunk in lanes::chunks(rows, n) {
                lane.rows.resize(chunk.len() * INPUTS, 0.0);
                for (row, into) in chunk.clone().zip(lane.rows.chunks_exact_mut(INPUTS)) {
                    fill(row, into);
                }
                let critic = &self.critics[0];
                critic.forward(&lane.rows, &mut lane.scratch)?;
                lane.output_gradient.clear();
                lane.output_gradient.resize(chunk.len(), 1.0);
                let wanted = Wanted { parameters: None, inputs: PRIVILEGED..INPUTS };
                critic.backward(&lane.rows, &lane.output_gradient, &mut lane.scratch, wanted)?;
                let out = &mut out[(chunk.start - first) * WIDTH..(chunk.end - first) * WIDTH];
                let gradients = lane.scratch.input_gradient().chunks_exact(ACTION);
                for ((out, q), dq) in out.chunks_exact_mut(WIDTH).zip(lane.scratch.output()).zip(gradients) {
                    out[0] = *q;
                    out[1..].copy_from_slice(dq);
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// Transitions that lie in memory.
    struct Stored {
        now: Vec<f32>,
        next: Vec<f32>,
        reward: Vec<f32>,
        future: f32,
    }

    impl Stored {
        fn random(n: usize, rng: &mut Xoshiro256PlusPlus) -> Self {
            let mut draw = |n: usize| (0..n).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect::<Vec<f32>>();
            let (now, next) = (draw(n * INPUTS), draw(n * INPUTS));
            let reward =
                now.chunks_exact(INPUTS).map(|r| r[0] - 2.0 * r[PRIVILEGED] * r[PRIVILEGED]).collect();
            Self { now, next, reward, future: 0.9 }
        }
    }

    impl Transitions for Stored {
        fn len(&self) -> usize {
            self.reward.len()
        }
        fn now(&self, row: usize, into: &mut [f32]) {
            into.copy_from_slice(&self.now[row * INPUTS..][..INPUTS]);
        }
        fn next(&self, row: usize, into: &mut [f32]) {
            into.copy_from_slice(&self.next[row * INPUTS..][..INPUTS]);
        }
        fn reward_and_future(&self, row: usize) -> (f32, f32) {
            (self.reward[row], self.future)
        }
    }

    fn critics(backend: Backend, hidden: &[usize]) -> Critics {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        Critics::random(&CriticShape { hidden: hidden.to_vec(), backend }, 1e-3, &mut rng).unwrap()
    }

    fn action_values(critics: &Critics, rows: &[f32]) -> ActionValues {
        let mut values = ActionValues::default();
        let fill = |row: usize, into: &mut [f32]| into.copy_from_slice(&rows[row * INPUTS..][..INPUTS]);
        critics.action_values(rows.len() / INPUTS, fill, &mut Buffers::default(), &mut values).unwrap();
        values
    }

    #[test]
    fn the_backends_agree_on_losses_gradients_and_steps() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let transitions = Stored::random(700, &mut rng);
        for hidden in [vec![128, 128], vec![64], vec![40, 24, 8]] {
            let (mut native, mut dfdx) = (critics(Backend::Native, &hidden), critics(Backend::Dfdx, &hidden));
            let (mut ours, mut theirs) = (Buffers::default(), Buffers::default());
            let a = native.differentiate(&transitions, &mut ours).unwrap();
            let b = dfdx.differentiate(&transitions, &mut theirs).unwrap();
            assert!((a - b).abs() < 1e-5 * b, "{a} {b}");
            let size = theirs.gradients.iter().flatten().fold(0.0_f32, |m, g| m.max(g.abs()));
            for (a, b) in ours.gradients.iter().flatten().zip(theirs.gradients.iter().flatten()) {
                assert!((a - b).abs() < 1e-5 * size, "{a} {b}");
            }
            let (a, b) = (action_values(&native, &transitions.now), action_values(&dfdx, &transitions.now));
            for (a, b) in a.rows.iter().zip(&b.rows) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            native.learn(&transitions, 0.5, &mut ours).unwrap();
            dfdx.learn(&transitions, 0.5, &mut theirs).unwrap();
            // Adam's first step is the learning rate in the gradient's direction, however small the gradient.
            let pairs = native.targets[1].parameters().iter().zip(dfdx.targets[1].parameters());
            let moved = pairs.filter(|(a, b)| (*a - *b).abs() > 1e-5).count();
            assert!(moved < native.targets[1].parameters().len() / 500, "{moved}");
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let transitions = Stored::random(5000, &mut rng);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut critics = critics(Backend::Native, &[64, 64]);
                let mut buffers = Buffers::default();
                for _ in 0..3 {
                    critics.learn(&transitions, 0.01, &mut buffers).unwrap();
                }
                (action_values(&critics, &transitions.now), critics)
            })
        };
        let one = with(1);
        assert!(one == with(2) && one == with(5));
    }

    #[test]
    fn the_action_gradient_is_that_of_finite_differences() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let critics = critics(Backend::Native, &[128, 128]);
        let x = Stored::random(5, &mut rng).now;
        let exact = action_values(&critics, &x);
        for (row, exact) in exact.action_gradients().enumerate() {
            for motor in 0..ACTION {
                let at = |d: f32| {
                    let mut moved = x.clone();
                    moved[row * INPUTS + PRIVILEGED + motor] += d;
                    action_values(&critics, &moved).values().nth(row).unwrap()
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((difference - exact[motor]).abs() < 2e-3, "{difference} {}", exact[motor]);
            }
        }
    }

    #[test]
    fn they_learn_the_reward_of_state_and_action() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut critics = critics(Backend::Native, &[128, 128]);
        let mut buffers = Buffers::default();
        let mut losses = Vec::new();
        for _ in 0..800 {
            let transitions = Stored { future: 0.0, ..Stored::random(64, &mut rng) };
            losses.push(critics.learn(&transitions, 0.01, &mut buffers).unwrap());
        }
        assert!(losses[799] < 0.3 * losses[0], "{} {}", losses[0], losses[799]);
    }

    #[test]
    fn of_no_transitions_nothing_is_learned() {
        let mut critics = critics(Backend::Native, &[8]);
        let before = critics.clone();
        let nothing = Stored { now: vec![], next: vec![], reward: vec![], future: 0.0 };
        assert_eq!(critics.learn(&nothing, 0.1, &mut Buffers::default()).unwrap(), 0.0);
        assert!(critics == before && action_values(&critics, &[]).values().next().is_none());
    }
}
