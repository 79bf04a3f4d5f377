//! The spiking network of Spikewing: forward, backward through time, flight inference and policy files.
