//! Replays reference trajectories: `replay_oracle DIR/VARIANT.json… DIR/trajN.csv…`, one JSON line per case.

use std::{path::Path, process::ExitCode};

const HELP: &str = "\
Replays trajectories that another simulator computed, and prints how far our dynamics are from them.

usage: replay_oracle FILE…

  DIR/VARIANT.json  open loop: its cases, with VARIANT_actions.csv and VARIANT_states.csv beside it
  DIR/trajN.csv     a closed-loop flight, with its entry in the meta.json beside it

One JSON line per case on standard output: variant, case, steps compared, max_abs_deviation per part of the state and
overall (m, quaternion elements, m/s, rad/s, rotors relative to their range); for flights also reward_max_abs_deviation
of each reward definition. VARIANT names a vehicle: a built-in one or the path of a vehicle file.

A file that cannot be replayed is named on standard error; the others are replayed all the same, and the exit status
is 1.";

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.iter().any(|f| f == "--help" || f == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if files.is_empty() {
        eprintln!("{HELP}");
        return ExitCode::FAILURE;
    }
    let mut status = ExitCode::SUCCESS;
    for file in files {
        match lines(Path::new(&file)) {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(error) => {
                eprintln!("replay_oracle: {error}");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

fn lines(file: &Path) -> Result<Vec<String>, String> {
    let cases = spikewing_quad::replay::replay(file).map_err(|e| e.to_string())?;
    cases.iter().map(|case| serde_json::to_string(case).map_err(|e| e.to_string())).collect()
}
