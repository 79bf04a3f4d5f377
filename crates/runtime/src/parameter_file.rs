//! Parameter files in the ROS 2 format, and `name:=value` on the command line.
//!
//! ```yaml
//! /**:                      # every node
//!   ros__parameters:
//!     use_sim_time: true
//! supervisor:               # the node of that name, in any namespace
//!   ros__parameters:
//!     envelope: {position_m: 0.6}
//! ```

use std::path::{Path, PathBuf};

use serde_yaml::Value as Yaml;

use crate::parameter::{ParameterError, Value};

/// Why a parameter file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ParameterFileError {
    /// The file cannot be read.
    #[error("parameter file {path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML, or not of the ROS 2 layout.
    #[error("parameter file {path}: {reason}")]
    Layout {
        /// File.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A parameter in it is refused.
    #[error("parameter file {path}{}: {source}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Parameter {
        /// File.
        path: PathBuf,
        /// Line, where it could be found.
        line: Option<usize>,
        /// Why.
        source: ParameterError,
    },
}

/// To which nodes a section of a file speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It names the node: an unknown parameter is a mistake.
    Named,
    /// A wildcard: an unknown parameter may be another node's.
    Wildcard,
}

/// One parameter as a file gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Name with dots.
    pub name: String,
    /// Value.
    pub value: Value,
    /// Whether its section named the node.
    pub reach: Reach,
    /// Line in the file, where it could be found.
    pub line: Option<usize>,
}

/// The assignments of a file that concern the node `full_name` (e.g. `/drone_0/supervisor`), in the order in which
/// they hold: wildcards first.
///
/// # Errors
/// When the file cannot be read or is of another layout.
pub fn assignments(path: &Path, full_name: &str) -> Result<Vec<Assignment>, ParameterFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ParameterFileError::Io { path: path.to_owned(), source })?;
    parse(&text, path, full_name)
}

/// As [`assignments`], from the text of a file; `path` names it in errors.
///
/// # Errors
/// When it is of another layout.
pub fn parse(text: &str, path: &Path, full_name: &str) -> Result<Vec<Assignment>, ParameterFileError> {
    let layout = |reason: String| ParameterFileError::Layout { path: path.to_owned(), reason };
    let root: Yaml = serde_yaml::from_str(text).map_err(|e| layout(e.to_string()))?;
    let Yaml::Mapping(sections) = root else {
        return Err(layout("expected node names with `ros__parameters:` below them".into()));
    };
    let mut wildcard = Vec::new();
    let mut named = Vec::new();
    for (key, section) in &sections {
        let pattern =
            key.as_str().ok_or_else(|| layout(format!("a node name must be a text, got {key:?}")))?;
        collect(text, &layout, pattern, section, full_name, &mut wildcard, &mut named)?;
    }
    wildcard.extend(named);
    Ok(wildcard)
}

fn collect(
    text: &str,
    layout: &dyn Fn(String) -> ParameterFileError,
    pattern: &str,
    section: &Yaml,
    full_name: &str,
    wildcard: &mut Vec<Assignment>,
    named: &mut Vec<Assignment>,
) -> Result<(), ParameterFileError> {
    let Yaml::Mapping(body) = section else {
        return Err(layout(format!("`{pattern}:` must hold `ros__parameters:`")));
    };
    for (key, value) in body {
        let key = key.as_str().unwrap_or_default();
        if key == "ros__parameters" {
            let Some(reach) = matches(pattern, full_name) else { continue };
            let Yaml::Mapping(parameters) = value else {
                return Err(layout(format!("`ros__parameters:` of `{pattern}` must hold names and values")));
            };
            let into = if reach == Reach::Named { &mut *named } else { &mut *wildcard };
            flatten(text, layout, "", parameters, reach, into)?;
        } else if value.is_mapping() {
            // A namespace with nodes below it.
            let deeper = format!("{}/{key}", pattern.trim_end_matches('/'));
            collect(text, layout, &deeper, value, full_name, wildcard, named)?;
        } else {
            return Err(layout(format!(
                "`{key}` below `{pattern}`: parameters belong below `ros__parameters:`"
            )));
        }
    }
    Ok(())
}

fn flatten(
    text: &str,
    layout: &dyn Fn(String) -> ParameterFileError,
    prefix: &str,
    mapping: &serde_yaml::Mapping,
    reach: Reach,
    into: &mut Vec<Assignment>,
) -> Result<(), ParameterFileError> {
    for (key, value) in mapping {
        let key =
            key.as_str().ok_or_else(|| layout(format!("a parameter name must be a text, got {key:?}")))?;
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        if let Yaml::Mapping(group) = value {
            flatten(text, layout, &name, group, reach, into)?;
            continue;
        }
        let value = value_of(value).ok_or_else(|| {
            layout(format!("parameter `{name}`: a boolean, number, text or list of one type is expected"))
        })?;
        into.push(Assignment { line: line_of(text, key), name, value, reach });
    }
    Ok(())
}

/// The line of a key, if it stands only once.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str| {
        let line = line.trim_start_matches([' ', '\t', '{', '"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
    };
    let mut found = text.lines().enumerate().filter(|(_, line)| is_key(line));
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index + 1)
}

/// Whether a section's pattern speaks to a node. `**` is any number of namespaces, `*` is one name; a bare name is the
/// node in any namespace, as users expect of a file that is shared between drones.
fn matches(pattern: &str, full_name: &str) -> Option<Reach> {
    let names: Vec<&str> = full_name.trim_matches('/').split('/').collect();
    if !pattern.contains('/') && pattern != "**" && pattern != "*" {
        return (names.last() == Some(&pattern)).then_some(Reach::Named);
    }
    let parts: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    fn fits(parts: &[&str], names: &[&str]) -> bool {
        match (parts.split_first(), names.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=names.len()).any(|n| fits(rest, &names[n..])),
            (Some((part, rest)), Some((name, names))) => (*part == "*" || part == name) && fits(rest, names),
            _ => false,
        }
    }
    let exact = parts.last().is_some_and(|p| !p.contains('*'));
    fits(&parts, &names).then_some(if exact { Reach::Named } else { Reach::Wildcard })
}

/// A value as the ROS 2 parameter language has it.
///
/// # Errors
/// `None` for anything else: a mapping, an empty value, a list of mixed types.
pub fn value_of(yaml: &Yaml) -> Option<Value> {
    Some(match yaml {
        Yaml::Bool(v) => Value::Bool(*v),
        Yaml::Number(n) => n.as_i64().map(Value::Integer).or_else(|| n.as_f64().map(Value::Float))?,
        Yaml::String(v) => Value::Text(v.clone()),
        Yaml::Sequence(items) => {
            if let Some(numbers) = items.iter().map(Yaml::as_f64).collect::<Option<Vec<_>>>()
                && !items.is_empty()
            {
                Value::Floats(numbers)
            } else {
                Value::Texts(items.iter().map(|i| i.as_str().map(str::to_owned)).collect::<Option<_>>()?)
            }
        }
        _ => return None,
    })
}

/// The value in `name:=value`, read as YAML as ROS 2 does.
pub fn value_of_text(text: &str) -> Value {
    serde_yaml::from_str::<Yaml>(text)
        .ok()
        .and_then(|yaml| value_of(&yaml))
        .unwrap_or_else(|| Value::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
/**:
  ros__parameters: {use_sim_time: true, rate: 5}
supervisor:
  ros__parameters:
    envelope:
      position_m: 0.6
    rate: 100
drone_1:
  guide:
    ros__parameters: {gain: [1.0, 2]}
";

    fn of(node: &str) -> Vec<(String, Value, Reach)> {
        parse(FILE, Path::new("f.yaml"), node)
            .unwrap()
            .into_iter()
            .map(|a| (a.name, a.value, a.reach))
            .collect()
    }

    #[test]
    fn a_named_section_follows_the_wildcard() {
        assert_eq!(
            of("/drone_0/supervisor"),
            [
                ("use_sim_time".into(), Value::Bool(true), Reach::Wildcard),
                ("rate".into(), Value::Integer(5), Reach::Wildcard),
                ("envelope.position_m".into(), Value::Float(0.6), Reach::Named),
                ("rate".into(), Value::Integer(100), Reach::Named),
            ]
        );
        assert_eq!(of("/drone_1/guide").last().unwrap().1, Value::Floats(vec![1.0, 2.0]));
        assert_eq!(of("/drone_2/guide").len(), 2);
    }

    #[test]
    fn another_layout_is_named() {
        for (text, word) in [
            ("3", "ros__parameters"),
            ("a: {b: 1}", "ros__parameters"),
            ("a:\n  ros__parameters:\n    x: {y: ~}", "x.y"),
            ("a: [", "f.yaml"),
        ] {
            let error = parse(text, Path::new("f.yaml"), "/a").unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
