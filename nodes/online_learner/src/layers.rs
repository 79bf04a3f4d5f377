//! `layers.csv` in a run folder: what training does inside the network, a row per look and layer.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _, path::Path};

use spikewing_rl::{
    metrics::{self, MetricsError},
    probe::Layer,
};

/// File in a run folder.
pub const FILE: &str = "layers.csv";
const HEADER: &str = "updates,layer,firing_rate,gradient_norm,cosine_to_steepest\n";

/// Adds one look.
///
/// # Errors
/// Names the file.
pub fn append(dir: &Path, updates: u64, layers: &[Layer]) -> Result<(), String> {
    let path = dir.join(FILE);
    let cell = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    let mut rows = if path.exists() { String::new() } else { HEADER.to_owned() };
    for (i, layer) in layers.iter().enumerate() {
        let (rate, cosine) = (cell(layer.firing_rate), cell(layer.cosine_to_steepest));
        let _ = writeln!(rows, "{updates},{i},{rate},{},{cosine}", layer.gradient_norm);
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(rows.as_bytes()))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Drops the rows beyond a number of updates: what was learned after a checkpoint is learned again.
///
/// # Errors
/// Names the file.
pub fn keep_up_to(dir: &Path, updates: u64) -> Result<(), MetricsError> {
    metrics::keep_rows_up_to(&dir.join(FILE), "updates", updates as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_has_each_look_once() {
        let dir = tempfile::tempdir().unwrap();
        keep_up_to(dir.path(), 5).unwrap();
        let layers = [
            Layer { firing_rate: Some(0.25), gradient_norm: 0.5, cosine_to_steepest: Some(1.0) },
            Layer { firing_rate: None, gradient_norm: 0.0, cosine_to_steepest: None },
        ];
        for updates in [10, 20, 30] {
            append(dir.path(), updates, &layers).unwrap();
        }
        let path = dir.path().join(FILE);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}40,0,0.")).unwrap();
        keep_up_to(dir.path(), 20).unwrap();
        append(dir.path(), 30, &layers).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        assert_eq!(whole.lines().nth(1), Some("10,0,0.25,0.5,1"));
        assert_eq!(whole.lines().nth(2), Some("10,1,,0,"));
    }
}
