//! ROS 2 messages of Spikewing, generated at build time from the .msg and .srv files beside it.
