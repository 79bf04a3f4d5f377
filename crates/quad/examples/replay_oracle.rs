//! Replays reference trajectories: `replay_oracle DIR/VARIANT.json… DIR/trajN.csv…`, one JSON line per case.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: replay_oracle DIR/VARIANT.json… (open loop) or DIR/trajN.csv… (flights)");
        return ExitCode::FAILURE;
    }
    for file in files {
        let lines =
            spikewing_quad::replay::replay(Path::new(&file)).map_err(|e| e.to_string()).and_then(|cases| {
                cases
                    .iter()
                    .map(|c| serde_json::to_string(c).map_err(|e| e.to_string()))
                    .collect::<Result<Vec<_>, _>>()
            });
        match lines {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(error) => {
                eprintln!("replay_oracle: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
