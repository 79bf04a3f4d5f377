//! The spiking network of Spikewing: forward, backward through time, flight inference and policy files.
//!
//! Leaky integrate-and-fire neurons with soft reset, a learned leak and threshold each (PAPER: U ← β·U + I − s·U_thr,
//! s = 1 where U > U_thr), between a linear encoder and a linear decoder with tanh. Order of operations and gradients are
//! snntorch's `Leaky` with delayed reset by subtraction; recorded runs of it are this crate's tests.
//!
//! - [`Network`]: the parameters. [`Network::forward`] runs whole sequences layer by layer and leaves a [`Trace`];
//!   [`Network::backward`] turns the gradient of the actions into [`Gradients`]; [`Adam`] applies them.
//! - [`Flight`]: the same network one control tick at a time, without allocation, adding only what neurons fire. Its
//!   membranes and spikes equal those of [`Network::forward`] to the last bit, on every machine.
//! - [`policy`]: the file in which a network travels, with its self-test and signature. [`Mlp`]: the guide's network.
//! - [`operations`]: NeuroBench's counts and the paper's energy estimate.
//!
//! ```
//! use ndarray::Array3;
//! use rand::SeedableRng;
//! use spikewing_snn::{Adam, AdamOptions, BackwardOptions, Flight, Network, Shape};
//!
//! # fn main() -> Result<(), spikewing_snn::SnnError> {
//! let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut network = Network::<f32>::random(&Shape::paper(), &mut rng)?;
//! let mut adam = Adam::new(&network, AdamOptions::default());
//!
//! // 100 steps of 8 sequences; the first 50 steps only warm the membranes up.
//! let observations = Array3::from_elem((100, 8, 18), 0.1);
//! let trace = network.forward(observations.view())?;
//! let loss_gradient = trace.actions().mapv(|a| 2.0 * a);
//! let options = BackwardOptions { first_step: 50, ..BackwardOptions::new(2.0) };
//! let gradients = network.backward(&trace, loss_gradient.view(), &options)?;
//! adam.step(&mut network, &gradients)?;
//!
//! let mut flight = Flight::new(&network);
//! let mut motors = [0.0; 4];
//! flight.step(&[0.1; 18], &mut motors)?;
//! # Ok(())
//! # }
//! ```

mod adam;
mod backward;
pub mod closed_loop;
mod error;
mod flight;
mod forward;
mod kernels;
pub mod matrix;
mod mlp;
mod network;
pub mod operations;
pub mod policy;
mod real;
mod sparse;
mod surrogate;

pub use adam::{Adam, AdamOptions, StepOutcome};
pub use backward::{BackwardOptions, Gradients, InputGradient, Workspace};
pub use error::SnnError;
pub use flight::{Counts, Flight};
pub use forward::{INPUT_LIMIT, Trace};
pub use mlp::Mlp;
pub use network::{Lif, Linear, Network, ParameterName, Shape};
pub use real::Real;
pub use surrogate::Surrogate;
