//! The quadrotor of Spikewing: airframes, dynamics, observation, reward and evaluation protocols.
//!
//! SI units, world ENU, body FLU, rotors front right, rear right, rear left, front left.

pub mod batch;
pub mod differentiable;
mod dual;
pub mod dynamics;
pub mod episode;
mod equations;
mod lanes;
mod model;
pub mod perturbation;
pub mod protocol;
pub mod randomisation;
pub mod replay;
pub mod reward;
pub mod setpoint;
pub mod simulation;
pub mod smoothness;
pub mod state;
pub mod vehicle;

pub use dynamics::{Disturbance, step};
pub use perturbation::Perturbation;
pub use randomisation::Randomisation;
pub use reward::{Reward, Termination};
pub use setpoint::Setpoint;
pub use state::{OBSERVATION, Observation, State, observation};
pub use vehicle::Vehicle;

/// What can be wrong with a vehicle.
#[derive(Debug, thiserror::Error)]
pub enum QuadError {
    /// Neither a built-in vehicle nor a readable file.
    #[error(
        "no vehicle `{name}`: it is none of the built-in ones ({built_in}) and no readable file ({reason})"
    )]
    NoVehicle {
        /// As asked for.
        name: String,
        /// Names that there are.
        built_in: String,
        /// Why the file cannot be read.
        reason: String,
    },
    /// The file describes no vehicle that can fly.
    #[error("vehicle file {origin}: {reason}")]
    Vehicle {
        /// Name or path.
        origin: String,
        /// What is wrong.
        reason: String,
    },
}
