//! Replays recorded snntorch runs: one JSON line per file with the largest deviations in double precision and, under
//! `f32`, in the single precision that trains and flies.
//!
//!     cargo run --release -p spikewing-snn --example replay_oracle -- FILE.safetensors…

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
Replays recorded snntorch runs and prints one JSON line per file.

usage: replay_oracle FILE.safetensors…

spike_mismatches  spikes that differ
membrane_max_abs  largest deviation of a membrane potential; membrane_max_rel: over its layer's largest
output_max_abs    largest deviation of an action
gradient_max_rel  per slope, largest deviation of a gradient over the largest entry of its tensor
f32               the same in single precision; the others are in double precision

The steps before the loss begins are read from the file's metadata (`warmup`), or from meta.json beside it.";

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() || files.iter().any(|f| f == "--help" || f == "-h") {
        eprintln!("{HELP}");
        return ExitCode::from(if files.is_empty() { 2 } else { 0 });
    }
    let mut outcome = ExitCode::SUCCESS;
    for file in files {
        match replay(&file) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{file}: {error}");
                outcome = ExitCode::FAILURE;
            }
        }
    }
    outcome
}

fn replay(file: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let warmup = warmup_beside(Path::new(file));
    let mut line = serde_json::to_value(common::replay::<f64>(&bytes, warmup)?)?;
    line["file"] = file.into();
    line["precision"] = "f64".into();
    line["f32"] = serde_json::to_value(common::replay::<f32>(&bytes, warmup)?)?;
    Ok(line)
}

/// `warmup` of this file's entry in the meta.json of its folder.
fn warmup_beside(file: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(file.with_file_name("meta.json")).ok()?;
    let meta: serde_json::Value = serde_json::from_str(&text).ok()?;
    meta[file.file_stem()?.to_str()?]["warmup"].as_u64().and_then(|n| usize::try_from(n).ok())
}
