//! `run.yaml` in a run folder: every resolved parameter of every node, as a parameter file, and how many drones fly.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value as Yaml};
use spikewing_rl::checkpoint::write_atomically;
use spikewing_runtime::{NodeOptions, parameter::Value};

use crate::Failure;

/// Its place in a run folder.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("run.yaml")
}

/// Section of the training itself; no node has that name.
const TRAINING: &str = "train";
const DRONES: &str = "drones";

/// How many drones fly in the run of a folder.
///
/// # Errors
/// When the file cannot be read, or says something else than a number.
pub fn drones(dir: &Path) -> Result<u8, Failure> {
    let path = path(dir);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let root: Yaml = serde_yaml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    match root.get(TRAINING).and_then(|t| t.get("ros__parameters")).and_then(|p| p.get(DRONES)) {
        // Runs of before had one.
        None => Ok(1),
        Some(value) => {
            let number = value.as_u64().and_then(|n| u8::try_from(n).ok()).filter(|n| (1..=64).contains(n));
            number.ok_or_else(|| {
                format!("{}: {TRAINING}: {DRONES} must be from 1 to 64", path.display()).into()
            })
        }
    }
}

/// Writes it.
pub fn write(dir: &Path, nodes: &[NodeOptions], drones: u8) -> Result<(), Failure> {
    let mut root = Mapping::new();
    let mut training = Mapping::new();
    training.insert(Yaml::from(DRONES), Yaml::from(drones));
    let mut section = Mapping::new();
    section.insert(Yaml::from("ros__parameters"), Yaml::Mapping(training));
    root.insert(Yaml::from(TRAINING), Yaml::Mapping(section));
    for options in nodes {
        let mut parameters = Mapping::new();
        for (name, value) in options.parameters.values() {
            parameters.insert(Yaml::from(name.clone()), yaml(value));
        }
        let mut section = Mapping::new();
        section.insert(Yaml::from("ros__parameters"), Yaml::Mapping(parameters));
        root.insert(Yaml::from(options.name.clone()), Yaml::Mapping(section));
    }
    let text = format!(
        "# spikewing {} train. A parameter file: every parameter of the run, resolved.\n{}",
        env!("CARGO_PKG_VERSION"),
        serde_yaml::to_string(&root)?
    );
    let path = path(dir);
    write_atomically(&path, text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(())
}

fn yaml(value: &Value) -> Yaml {
    match value {
        Value::Bool(v) => Yaml::from(*v),
        Value::Integer(v) => Yaml::from(*v),
        Value::Float(v) => Yaml::from(*v),
        Value::Text(v) => Yaml::from(v.clone()),
        Value::Bools(v) => Yaml::from(v.clone()),
        Value::Integers(v) => Yaml::from(v.clone()),
        Value::Floats(v) => Yaml::from(v.clone()),
        Value::Texts(v) => Yaml::from(v.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test should say where")]

    use super::*;

    #[test]
    fn a_run_knows_how_many_drones_it_has() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[], 4).unwrap();
        assert_eq!(drones(dir.path()).unwrap(), 4);
        std::fs::write(path(dir.path()), "supervisor:\n  ros__parameters: {}\n").unwrap();
        assert_eq!(drones(dir.path()).unwrap(), 1);
        std::fs::write(path(dir.path()), "train:\n  ros__parameters: {drones: many}\n").unwrap();
        assert!(drones(dir.path()).unwrap_err().to_string().contains("from 1 to 64"));
    }
}
