//! Launch files in the ROS 2 YAML format: the subset that the files in launch/ use, which `ros2 launch` understands too.
//!
//! Known: `arg`, `let`, `node` (exec, name, namespace, param, remap, respawn, respawn_delay, if, unless, output), `group`
//! with `push_ros_namespace`, `include`; substitutions `$(var x)`, `$(env X default)`, `$(dirname)` and
//! `$(find-pkg-share spikewing)`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_yaml::{Mapping, Value as Yaml};

use crate::{args::Setting, parameter_file};

/// Why a launch file is refused.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The file cannot be read.
    #[error("launch file {path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no launch file.
    #[error("launch file {path}: {reason}")]
    Layout {
        /// File.
        path: PathBuf,
        /// What is wrong, where, and what would be right.
        reason: String,
    },
    /// An argument on the command line that the file does not declare.
    #[error("launch file {path}: there is no argument `{name}`; it has: {known}")]
    Argument {
        /// File.
        path: PathBuf,
        /// As given.
        name: String,
        /// Declared ones.
        known: String,
    },
}

/// One node to start.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchNode {
    /// Executable, the kind of node.
    pub exec: String,
    /// Node name.
    pub name: String,
    /// Namespace with a leading slash.
    pub namespace: String,
    /// Parameters in the order in which they hold.
    pub settings: Vec<Setting>,
    /// Remappings.
    pub remaps: Vec<(String, String)>,
    /// Whether it is started again when it ends unasked.
    pub respawn: bool,
    /// Seconds before that.
    pub respawn_delay_s: f64,
}

/// An argument that a launch file declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Name.
    pub name: String,
    /// Default; without one it must be given.
    pub default: Option<String>,
    /// What it is for.
    pub description: String,
}

/// A launch file with everything substituted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launch {
    /// Nodes in order.
    pub nodes: Vec<LaunchNode>,
    /// Arguments that it declares.
    pub arguments: Vec<Argument>,
}

/// Reads a launch file with the arguments given on the command line.
///
/// # Errors
/// Names file, entry and mend.
pub fn read(path: &Path, given: &[(String, String)]) -> Result<Launch, LaunchError> {
    let mut reader = Reader { variables: given.iter().cloned().collect(), launch: Launch::default() };
    reader.file(path, "/")?;
    let declared: Vec<&str> = reader.launch.arguments.iter().map(|a| a.name.as_str()).collect();
    if let Some((name, _)) = given.iter().find(|(name, _)| !declared.contains(&name.as_str())) {
        let known = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        return Err(LaunchError::Argument { path: path.to_owned(), name: name.clone(), known });
    }
    Ok(reader.launch)
}

/// The folder that holds launch/, params/ and policies/: `SPIKEWING_SHARE`, or the nearest such folder above the launch
/// file, the program, or here.
pub fn share_folder(launch_file: &Path) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("SPIKEWING_SHARE") {
        return Some(PathBuf::from(dir));
    }
    let starts = [
        std::path::absolute(launch_file).ok(),
        std::env::current_exe().ok(),
        std::env::current_dir().ok().map(|d| d.join("here")),
    ];
    starts.into_iter().flatten().find_map(|start| {
        start
            .ancestors()
            .flat_map(|a| [a.to_owned(), a.join("share/spikewing")])
            .find(|a| a.join("params").is_dir() && a.join("launch").is_dir())
    })
}

struct Reader {
    variables: BTreeMap<String, String>,
    launch: Launch,
}

/// Where in which file something stands, for errors.
struct Place<'a> {
    path: &'a Path,
    what: String,
}

impl Place<'_> {
    fn fail<T>(&self, reason: impl std::fmt::Display) -> Result<T, LaunchError> {
        Err(LaunchError::Layout { path: self.path.to_owned(), reason: format!("{}: {reason}", self.what) })
    }
}

impl Reader {
    fn file(&mut self, path: &Path, namespace: &str) -> Result<(), LaunchError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LaunchError::Io { path: path.to_owned(), source })?;
        let place = Place { path, what: "file".into() };
        let root: Yaml = match serde_yaml::from_str(&text) {
            Ok(root) => root,
            Err(error) => return place.fail(error),
        };
        let Some(Yaml::Sequence(entities)) = root.get("launch") else {
            return place
                .fail("expected `launch:` with a list of `arg`, `node`, `group`, `include` below it");
        };
        self.entities(path, entities, namespace)
    }

    fn entities(&mut self, path: &Path, entities: &[Yaml], namespace: &str) -> Result<(), LaunchError> {
        let mut namespace = namespace.to_owned();
        for (index, entity) in entities.iter().enumerate() {
            let place = Place { path, what: format!("entry {}", index + 1) };
            let Some((Yaml::String(kind), body)) = entity.as_mapping().and_then(|m| m.iter().next()) else {
                return place.fail("expected one of arg, let, node, group, include");
            };
            let place = Place { path, what: format!("entry {} ({kind})", index + 1) };
            match (kind.as_str(), body) {
                ("arg", Yaml::Mapping(body)) => self.argument(&place, body)?,
                ("let", Yaml::Mapping(body)) => {
                    let name = self.required(&place, body, "name")?;
                    let value = self.required(&place, body, "value")?;
                    self.variables.insert(name, value);
                }
                ("node", Yaml::Mapping(body)) => self.node(&place, body, &namespace)?,
                ("group", Yaml::Sequence(inner)) => self.entities(path, inner, &namespace)?,
                ("group", Yaml::Mapping(_)) => return place.fail("expected a list of entries below it"),
                ("push_ros_namespace" | "push-ros-namespace", Yaml::Mapping(body)) => {
                    namespace = join(&namespace, &self.required(&place, body, "namespace")?);
                }
                ("include", Yaml::Mapping(body)) => self.include(&place, body, &namespace)?,
                _ => {
                    return place
                        .fail("not known here; expected arg, let, node, group, push_ros_namespace, include");
                }
            }
        }
        Ok(())
    }

    fn argument(&mut self, place: &Place<'_>, body: &Mapping) -> Result<(), LaunchError> {
        only(place, body, &["name", "default", "description", "choice"])?;
        let name = self.required(place, body, "name")?;
        let default = self.optional(place, body, "default")?;
        let description = self.optional(place, body, "description")?.unwrap_or_default();
        if !self.variables.contains_key(&name) {
            match &default {
                Some(value) => self.variables.insert(name.clone(), value.clone()),
                None => {
                    return place.fail(format!("argument `{name}` has no default; give it as {name}:=VALUE"));
                }
            };
        }
        self.launch.arguments.push(Argument { name, default, description });
        Ok(())
    }

    fn include(&mut self, place: &Place<'_>, body: &Mapping, namespace: &str) -> Result<(), LaunchError> {
        only(place, body, &["file", "arg", "if", "unless"])?;
        if !self.wanted(place, body)? {
            return Ok(());
        }
        let file = self.required(place, body, "file")?;
        let mut inner = self.variables.clone();
        for entry in list(place, body, "arg")? {
            inner.insert(self.required(place, entry, "name")?, self.required(place, entry, "value")?);
        }
        let outer = std::mem::replace(&mut self.variables, inner);
        let result = self.file(Path::new(&file), namespace);
        self.variables = outer;
        result
    }

    fn node(&mut self, place: &Place<'_>, body: &Mapping, namespace: &str) -> Result<(), LaunchError> {
        only(
            place,
            body,
            &[
                "pkg",
                "exec",
                "name",
                "namespace",
                "param",
                "remap",
                "respawn",
                "respawn_delay",
                "output",
                "if",
                "unless",
                "args",
                "ros_args",
                "env",
                "launch-prefix",
            ],
        )?;
        if !self.wanted(place, body)? {
            return Ok(());
        }
        let exec = self.required(place, body, "exec")?;
        let own = self.optional(place, body, "namespace")?.unwrap_or_default();
        let mut node = LaunchNode {
            name: self.optional(place, body, "name")?.unwrap_or_else(|| exec.clone()),
            exec,
            namespace: if own.starts_with('/') { own } else { join(namespace, &own) },
            settings: Vec::new(),
            remaps: Vec::new(),
            respawn: self.boolean(place, body, "respawn")?.unwrap_or(false),
            respawn_delay_s: 0.0,
        };
        if let Some(delay) = self.optional(place, body, "respawn_delay")? {
            node.respawn_delay_s = match delay.parse::<f64>() {
                Ok(seconds) if (0.0..=3600.0).contains(&seconds) => seconds,
                _ => return place.fail(format!("respawn_delay `{delay}` must be seconds from 0 to 3600")),
            };
        }
        for entry in list(place, body, "param")? {
            node.settings.push(self.setting(place, entry)?);
        }
        for entry in list(place, body, "remap")? {
            node.remaps.push((self.required(place, entry, "from")?, self.required(place, entry, "to")?));
        }
        self.launch.nodes.push(node);
        Ok(())
    }

    fn setting(&self, place: &Place<'_>, entry: &Mapping) -> Result<Setting, LaunchError> {
        only(place, entry, &["name", "value", "from"])?;
        if let Some(file) = self.optional(place, entry, "from")? {
            if !Path::new(&file).is_file() {
                return place.fail(format!("param from {file}: there is no such file"));
            }
            return Ok(Setting::File(PathBuf::from(file)));
        }
        let name = self.required(place, entry, "name")?;
        let text = match entry.get("value") {
            Some(Yaml::String(text)) => self.substitute(place, text)?,
            Some(other) => serde_yaml::to_string(other).unwrap_or_default(),
            None => return place.fail(format!("param {name} has no value")),
        };
        let value = match parameter_file::value_of_text(&text) {
            Ok(value) => value,
            Err(why) => return place.fail(format!("param {name}: {why}")),
        };
        Ok(Setting::Value(name, value))
    }

    fn wanted(&self, place: &Place<'_>, body: &Mapping) -> Result<bool, LaunchError> {
        let yes = self.boolean(place, body, "if")?.unwrap_or(true);
        let no = self.boolean(place, body, "unless")?.unwrap_or(false);
        Ok(yes && !no)
    }

    fn boolean(&self, place: &Place<'_>, body: &Mapping, key: &str) -> Result<Option<bool>, LaunchError> {
        match self.optional(place, body, key)?.as_deref() {
            None => Ok(None),
            Some("true" | "True" | "1") => Ok(Some(true)),
            Some("false" | "False" | "0") => Ok(Some(false)),
            Some(other) => place.fail(format!("{key}: `{other}` must be true or false")),
        }
    }

    fn required(&self, place: &Place<'_>, body: &Mapping, key: &str) -> Result<String, LaunchError> {
        match self.optional(place, body, key)? {
            Some(text) => Ok(text),
            None => place.fail(format!("`{key}` is missing")),
        }
    }

    fn optional(&self, place: &Place<'_>, body: &Mapping, key: &str) -> Result<Option<String>, LaunchError> {
        match body.get(key) {
            None => Ok(None),
            Some(Yaml::String(text)) => Ok(Some(self.substitute(place, text)?)),
            Some(Yaml::Bool(v)) => Ok(Some(v.to_string())),
            Some(Yaml::Number(v)) => Ok(Some(v.to_string())),
            Some(_) => place.fail(format!("`{key}` must be a text")),
        }
    }

    /// Replaces `$(…)`.
    fn substitute(&self, place: &Place<'_>, text: &str) -> Result<String, LaunchError> {
        let mut result = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            result.push_str(&rest[..start]);
            let inner = &rest[start + 2..];
            let Some(end) = inner.find(')') else {
                return place.fail(format!("`{text}`: a `$(` is not closed"));
            };
            let words: Vec<&str> = inner[..end].split_whitespace().collect();
            result.push_str(&self.substitution(place, &words)?);
            rest = &inner[end + 1..];
        }
        result.push_str(rest);
        Ok(result)
    }

    fn substitution(&self, place: &Place<'_>, words: &[&str]) -> Result<String, LaunchError> {
        match words {
            ["var", name] => match self.variables.get(*name) {
                Some(value) => Ok(value.clone()),
                None => {
                    let known: Vec<&str> = self.variables.keys().map(String::as_str).collect();
                    place.fail(format!("$(var {name}): not declared; there are: {}", known.join(", ")))
                }
            },
            ["env", name] => match std::env::var(name) {
                Ok(value) => Ok(value),
                Err(_) => {
                    place.fail(format!("$(env {name}): not set; a default can follow: $(env {name} VALUE)"))
                }
            },
            ["env", name, default @ ..] => Ok(std::env::var(name).unwrap_or_else(|_| default.join(" "))),
            ["dirname"] => Ok(place.path.parent().unwrap_or(Path::new(".")).display().to_string()),
            ["find-pkg-share", "spikewing"] => match share_folder(place.path) {
                Some(dir) => Ok(dir.display().to_string()),
                None => place.fail("no folder with launch/ and params/ was found; set SPIKEWING_SHARE to it"),
            },
            _ => place.fail(format!(
                "$({}): only var, env, dirname and find-pkg-share spikewing are known",
                words.join(" ")
            )),
        }
    }
}

fn list<'a>(place: &Place<'_>, body: &'a Mapping, key: &str) -> Result<Vec<&'a Mapping>, LaunchError> {
    match body.get(key) {
        None => Ok(Vec::new()),
        Some(Yaml::Sequence(entries)) => {
            let maps: Option<Vec<&Mapping>> = entries.iter().map(Yaml::as_mapping).collect();
            maps.map_or_else(|| place.fail(format!("`{key}` must be a list of mappings")), Ok)
        }
        Some(_) => place.fail(format!("`{key}` must be a list")),
    }
}

/// Refuses keys that are not known, with the nearest one that is.
fn only(place: &Place<'_>, body: &Mapping, known: &[&str]) -> Result<(), LaunchError> {
    for key in body.keys() {
        let key = key.as_str().unwrap_or_default();
        if !known.contains(&key) {
            let nearest = known
                .iter()
                .map(|k| (strsim::jaro_winkler(k, key), *k))
                .filter(|(similarity, _)| *similarity > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, k)| format!("; did you mean `{k}`?"))
                .unwrap_or_default();
            return place.fail(format!("`{key}` is not known{nearest}"));
        }
    }
    Ok(())
}

fn join(base: &str, name: &str) -> String {
    let name = name.trim_matches('/');
    let joined =
        if name.is_empty() { base.to_owned() } else { format!("{}/{name}", base.trim_end_matches('/')) };
    if joined.starts_with('/') { joined } else { format!("/{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Value;

    fn read_text(text: &str, given: &[(&str, &str)]) -> Result<Launch, LaunchError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.launch.yaml");
        std::fs::write(&path, text).unwrap();
        let given: Vec<(String, String)> =
            given.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        read(&path, &given)
    }

    const FILE: &str = "
launch:
- arg: {name: drone, default: drone_0, description: Namespace}
- arg: {name: rate, default: '100'}
- group:
  - push_ros_namespace: {namespace: $(var drone)}
  - node:
      pkg: spikewing
      exec: supervisor
      param:
      - {name: control_rate_hz, value: $(var rate)}
      - {name: auto_arm, value: true}
      remap:
      - {from: odometry, to: /mocap/odometry}
      respawn: 'true'
      respawn_delay: 0.5
- node: {pkg: spikewing, exec: simulator, if: 'false'}
- node: {pkg: spikewing, exec: simulator, name: sim}
";

    #[test]
    fn arguments_groups_parameters_and_conditions() {
        let launch = read_text(FILE, &[("rate", "50")]).unwrap();
        assert_eq!(launch.nodes.len(), 2);
        let node = &launch.nodes[0];
        assert_eq!((node.name.as_str(), node.namespace.as_str()), ("supervisor", "/drone_0"));
        assert_eq!(node.settings[0], Setting::Value("control_rate_hz".into(), Value::Integer(50)));
        assert_eq!(node.remaps[0].1, "/mocap/odometry");
        assert!(node.respawn && node.respawn_delay_s == 0.5);
        assert_eq!((launch.nodes[1].name.as_str(), launch.nodes[1].namespace.as_str()), ("sim", "/"));
    }

    #[test]
    fn mistakes_are_named_with_place_and_mend() {
        for (text, given, word) in [
            (FILE, vec![("rat", "1")], "drone, rate"),
            ("launch:\n- node: {pkg: spikewing}", vec![], "entry 1 (node): `exec` is missing"),
            ("launch:\n- node: {exec: x, parm: []}", vec![], "did you mean `param`"),
            ("launch:\n- node: {exec: $(var y)}", vec![], "$(var y): not declared"),
            ("launch:\n- arg: {name: z}", vec![], "z:=VALUE"),
            ("launch:\n- nod: {}", vec![], "expected arg"),
            ("nodes: []", vec![], "expected `launch:`"),
            ("launch:\n- node: {exec: x, param: [{from: /none.yaml}]}", vec![], "/none.yaml"),
            ("launch: [", vec![], "x.launch.yaml"),
        ] {
            let error = read_text(text, &given).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(read(Path::new("/none.launch.yaml"), &[]).unwrap_err().to_string().contains("/none"));
    }
}
