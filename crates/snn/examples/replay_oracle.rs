//! Replays recorded snntorch runs: one JSON line per file with the largest deviations in double precision and, under
//! `f32`, in the single precision that trains and flies.
//!
//!     cargo run --release -p spikewing-snn --example replay_oracle -- FILE.safetensors…

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: replay_oracle FILE.safetensors…");
        return ExitCode::from(2);
    }
    for file in files {
        match replay(&file) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn replay(file: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let mut line = serde_json::to_value(common::replay::<f64>(&bytes)?)?;
    line["file"] = file.into();
    line["precision"] = "f64".into();
    line["f32"] = serde_json::to_value(common::replay::<f32>(&bytes)?)?;
    Ok(line)
}
