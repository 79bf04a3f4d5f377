//! What can be wrong with a network, a sequence or an observation handed to this crate.

use thiserror::Error;

/// A shape or value this crate cannot compute with. Nothing is changed when one is returned.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SnnError {
    /// A tensor does not have the length its place in the network asks for.
    #[error("{what} has {got} entries but {expected} are needed: give a tensor of the network's own shape")]
    Length {
        /// Which tensor.
        what: String,
        /// Entries needed.
        expected: usize,
        /// Entries given.
        got: usize,
    },
    /// A layer without neurons, or a network without a spiking layer.
    #[error(
        "{what} is empty: every layer needs at least one neuron, a network one spiking layer, a sequence one step"
    )]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// Two networks that must have one shape have two.
    #[error("the shapes differ: {left} against {right}; build both from the same Shape")]
    ShapeMismatch {
        /// Shape of the receiver.
        left: String,
        /// Shape of the argument.
        right: String,
    },
    /// An observation or input entry is NaN, infinite, or too large to be a physical quantity.
    #[error(
        "{what} entry {index} is {value}: it must be finite and within ±{limit:e}; check the sensor or estimator it comes from"
    )]
    Value {
        /// What was given.
        what: &'static str,
        /// Which entry.
        index: usize,
        /// Its value.
        value: f64,
        /// Largest magnitude accepted.
        limit: f64,
    },
}
