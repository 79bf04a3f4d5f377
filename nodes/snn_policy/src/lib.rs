//! The spiking policy node of Spikewing, with hot swap.
