//! `px4_bridge`: PX4 over uXRCE-DDS, and everything that is PX4's own.
//!
//! In: `fmu/out/*` (px4_msgs), `command`, `authority`. Out: `fmu/in/*`, `imu`, `vehicle/odometry`, `vehicle/status`.
//! Serves `~/reset_vehicle` (simulators), which it passes on to `set_entity_pose`.
//!
//! **Liveness.** PX4 has no time limit on motor setpoints: the last one stays while the heartbeat goes on. So the
//! heartbeat is sent on the arrival of a command and never by a timer of its own; motors are sent only while a fresh status
//! says armed and offboard. When commands stop, PX4 is asked to hold or to land at once (`offboard.rs`).
//!
//! **The throttle.** PX4's land detector reads it from `vehicle_thrust_setpoint`, which is PX4's own controllers' to
//! publish; whoever commands motors must publish it too, or a calm hover is taken for landed and disarmed.
//!
//! **Failure.** Messages with NaN, or of another frame than we know, are dropped and counted. Refused requests are
//! repeated, with PX4's reasons in `vehicle/status`, and given up after `max_attempts`; a new arming request starts over.
//! Release, system id and a silent link are found out by listening (`link.rs`), and named with the mend.

mod clock;
pub mod frames;
mod ground;
mod health;
mod link;
mod measurements;
mod node;
mod offboard;
mod origin;
pub mod px4;
mod requests;
mod settings;

pub use node::NODE;
