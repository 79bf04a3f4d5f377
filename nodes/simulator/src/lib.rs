//! The embedded quadrotor simulator node of Spikewing, behind PX4 topics.
