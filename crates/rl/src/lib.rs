//! Learning: TD3BC+JSRL on sequences for a spiking actor with privileged critics.
//!
//! [`Trainer`] owns everything (networks, replay buffer, schedules, random numbers), takes experience record by record,
//! makes one update per call, and serialises whole, so that a resumed run is the same run.

pub mod checkpoint;
mod config;
pub mod critic;
pub mod evaluate;
pub mod metrics;
pub mod replay;
pub mod schedule;
mod trainer;

pub use config::{CloningTarget, Config, Method, ObservationNoise};
pub use trainer::{TrainError, Trainer, UpdateStats};
