//! The node `px4_bridge` as an executable of its own, for `ros2 run`.

fn main() -> std::process::ExitCode {
    spikewing_runtime::main(&spikewing_px4_bridge::NODE)
}
