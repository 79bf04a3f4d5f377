//! The node core trait, transports, parameters, clock and launch files of Spikewing.
