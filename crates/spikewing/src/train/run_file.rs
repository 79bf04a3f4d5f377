//! `run.yaml` in a run folder: every resolved parameter of every node, as a parameter file.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value as Yaml};
use spikewing_rl::checkpoint::write_atomically;
use spikewing_runtime::{NodeOptions, parameter::Value};

use crate::Failure;

/// Its place in a run folder.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("run.yaml")
}

/// Writes it.
pub fn write(dir: &Path, nodes: &[NodeOptions]) -> Result<(), Failure> {
    let mut root = Mapping::new();
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
