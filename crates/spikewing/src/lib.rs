//! What the `spikewing` program and its tests share: the list of nodes, and fleets of them.

pub mod fleet;
pub mod registry;
