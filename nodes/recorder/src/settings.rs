//! The recorder's parameters.

use std::path::PathBuf;

use spikewing_runtime::parameters;

parameters! {
    /// Where it writes.
    pub const FILE: Parameter<Option<PathBuf>> = Parameter::path("file")
        .about("The bag (.mcap). Where it exists, the next is file_1.mcap and so on: nothing is written over. Empty: flight.mcap here.");
    /// Size of a file.
    pub const FILE_MB: Parameter<u32> = Parameter::whole("file_mb", 500).range(1.0, 1e6).unit("MB")
        .about("A file of that size is ended and the next begun.");
    /// Files that stay.
    pub const FILES: Parameter<u32> = Parameter::whole("files", 20).range(1.0, 1e6)
        .about("So many files of this recording are kept; the oldest goes first.");
    /// Drones.
    pub const DRONES: Parameter<u32> = Parameter::whole("drones", 0).range(0.0, 64.0)
        .about("Also records the namespaces drone_0, drone_1, … of a fleet.");
    /// What is left out.
    pub const SKIP: Parameter<Vec<String>> = Parameter::texts("skip", &[])
        .about("Topics that are not recorded, as `spikewing topics` names them.");
    /// What else is recorded.
    pub const ALSO: Parameter<Vec<String>> = Parameter::texts("also", &[])
        .about("Further topics, each as `NAME TYPE`, of a type that the suite knows: `wind geometry_msgs/msg/Vector3`.");
}
