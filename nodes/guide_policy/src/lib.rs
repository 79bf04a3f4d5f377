//! The privileged guide policy node of Spikewing.

pub mod geometric;
