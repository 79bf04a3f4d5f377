//! The node `snn_policy` as an executable of its own, for `ros2 run`.

fn main() -> std::process::ExitCode {
    spikewing_runtime::main(&spikewing_snn_policy::NODE)
}
