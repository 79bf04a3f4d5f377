//! Quadrotor dynamics, observation, reward and termination of Spikewing.
