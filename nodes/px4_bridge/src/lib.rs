//! The PX4 bridge node of Spikewing.
