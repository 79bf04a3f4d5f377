//! The state estimator: an error-state Kalman filter that fuses the IMU with odometry and motion capture.
//!
//! Inputs: `imu` (`sensor_msgs/Imu`, optional), `vehicle/odometry` (`nav_msgs/Odometry`, twist in the body frame) and
//! `mocap/pose` (`geometry_msgs/PoseStamped`), either or both; `authority` tells whether the vehicle flies, for an orderly
//! shutdown. Outputs: `odometry` (`nav_msgs/Odometry`, frame `map`, child `base_link`, twist in the body frame, with
//! covariance) once per measurement and with its stamp; `/diagnostics` at 1 Hz. Service: `~/reset`.
//!
//! Odometry that is itself a filter's output is weighed by what is new in each sample ([`whiteness`]); odometry that is later
//! than its stamp is found by its body rates and put where it belongs ([`timing`]); odometry that is frozen is not used,
//! and one that contradicts itself or the IMU widens the published covariance ([`health`]).
//!
//! Failure behaviour. Numbers that are not finite or not plausible are counted, warned of and not used; measurements
//! that contradict the filter are gated, and when they go on contradicting it, it starts over from them. Late messages
//! are used where they belong within `history_s`; stamps from the future are refused; a clock that was set starts the
//! filter over ([`clock`]). Without measurements the estimate is carried on at the control rate
//! with a growing covariance for `max_dead_reckoning_s`, then `odometry` stops, so that whoever flies on it notices.
//! Without an IMU motion is assumed uniform between measurements.

pub mod clock;
mod diagnostics;
pub mod estimate;
pub mod filter;
pub mod health;
pub mod measurement;
mod node;
pub mod output;
pub mod settings;
pub mod timing;
pub mod whiteness;

pub use node::{DIAGNOSTICS, IMU, MOCAP, NODE, ODOMETRY, RESET, StateEstimator, VEHICLE_ODOMETRY};
