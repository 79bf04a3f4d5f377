//! The node `state_estimator` as an executable of its own, for `ros2 run`.

fn main() -> std::process::ExitCode {
    spikewing_runtime::main(&spikewing_state_estimator::NODE)
}
