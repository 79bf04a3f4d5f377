//! The privileged guide policy node of Spikewing.
