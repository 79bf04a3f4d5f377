//! The spiking network of Spikewing: forward, backward through time, flight inference and policy files.

mod adam;
mod backward;
mod error;
mod flight;
mod forward;
mod kernels;
mod network;
mod real;
mod surrogate;

pub use adam::{Adam, AdamOptions, StepOutcome};
pub use backward::{BackwardOptions, Gradients, InputGradient, Workspace};
pub use error::SnnError;
pub use flight::Flight;
pub use forward::{INPUT_LIMIT, Trace};
pub use network::{Lif, Linear, Network, ParameterName, Shape};
pub use real::Real;
pub use surrogate::Surrogate;
