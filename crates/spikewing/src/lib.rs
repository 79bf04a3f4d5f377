//! What the `spikewing` program and its tests share: the list of nodes.

pub mod registry;
