//! Learning: TD3BC+JSRL on sequences for a spiking actor with privileged critics.
//!
//! [`Trainer`] owns everything (networks, replay buffer, schedules, random numbers), takes experience record by record,
//! makes one update per call, and serialises whole, so that a resumed run is the same run.

mod actor;
mod batch;
pub mod checkpoint;
mod config;
pub mod critic;
pub mod dense;
pub mod evaluate;
pub mod flight;
pub mod guide;
pub mod lanes;
pub mod metrics;
pub mod probe;
pub mod replay;
pub mod schedule;
mod trainer;
pub mod trust;

pub use config::{CloningFilter, CloningTarget, Config, Method, ObservationNoise, RewardDefinition};
pub use trainer::{Experience, TrainError, Trainer, UpdateStats};
