//! The state estimator: an error-state Kalman filter that fuses the IMU with odometry and motion capture.
//!
//! Inputs: `imu` (`sensor_msgs/Imu`, optional), `vehicle/odometry` (`nav_msgs/Odometry`, twist in the body frame) and
//! `mocap/pose` (`geometry_msgs/PoseStamped`), either or both; `authority` tells whether the vehicle flies, for an orderly
//! shutdown. Outputs: `odometry` (`nav_msgs/Odometry`, frame `map`, child `base_link`, twist in the body frame, with
//! covariance) once per measurement and with its stamp; `/diagnostics` at 1 Hz. Service: `~/reset`.
//!
//! Failure behaviour. Numbers that are not finite or not plausible are counted, warned of and not used; measurements
//! that contradict the filter are gated, and when they go on contradicting it, it starts over from them. Late messages
//! are used where they belong within `history_s`. Without measurements the estimate is carried on at the control rate
//! with a growing covariance for `max_dead_reckoning_s`, then `odometry` stops, so that whoever flies on it notices.
//! Without an IMU motion is assumed uniform between measurements.

pub mod clock;
pub mod estimate;
pub mod filter;
pub mod measurement;
mod node;
pub mod output;
pub mod settings;

pub use node::{DIAGNOSTICS, IMU, MOCAP, NODE, ODOMETRY, RESET, StateEstimator, VEHICLE_ODOMETRY};
