//! The `spikewing` command line.
fn main() {}
