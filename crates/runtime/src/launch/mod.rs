//! Launch files in the ROS 2 YAML format, read as `ros2 launch` (Jazzy) reads them.
//!
//! Actions: `arg`, `let`, `unset`, `set_env`, `unset_env`, `append_env`, `node`, `executable`, `group`, `include` (of YAML
//! files), `push_ros_namespace`, `set_parameter`, `set_remap`, `log`; each may have `if` or `unless`. Groups are scopes: what
//! is set in one is forgotten after it; an included file is none, so that what it sets and pushes stays, as in ROS 2.
//! Substitutions (`template.rs`): `var`, `env`, `optenv`, `dirname`, `filename`, `find-pkg-share`, `find-pkg-prefix`,
//! `exec-in-pkg`, `find-exec`, `eval` (`expression.rs`), `anon`, `not`, `and`, `or`, `any`, `all`, `equals`, `not-equals`, `if`.
//!
//! What `ros2 launch` refuses is refused, as is what it knows and this does not; nothing is passed over. Two things are
//! stricter than there: an argument on the command line that no file declares, and a key that stands twice.

mod actions;
mod body;
mod expression;
mod find;
mod parameters;
mod scope;
mod template;

use std::path::{Path, PathBuf};

pub use find::share_folder;

use crate::{args::Setting, parameter::Value};

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
    /// It is no launch file, or says what cannot be done.
    #[error("launch file {path}{}: {reason}", .line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Layout {
        /// File.
        path: PathBuf,
        /// Line.
        line: Option<usize>,
        /// What is wrong, and what would be right.
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

/// How a process is run and looked after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Environment variables that differ from this program's; `None`: unset.
    pub environment: Vec<(String, Option<String>)>,
    /// Folder in which it runs.
    pub folder: Option<PathBuf>,
    /// Program and arguments before its own.
    pub prefix: Vec<String>,
    /// Whether it is started again when it ends unasked.
    pub respawn: bool,
    /// Seconds before that.
    pub respawn_delay_s: f64,
    /// How often at the most; none: for ever.
    pub respawn_max_retries: Option<u32>,
    /// Whether its end is the end of all.
    pub ends_launch: bool,
    /// Seconds from SIGINT to SIGTERM, where the file says so.
    pub sigterm_timeout_s: Option<f64>,
    /// Seconds from SIGTERM to SIGKILL, where the file says so.
    pub sigkill_timeout_s: Option<f64>,
}

/// A node of this suite to start.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// What `args` and `ros_args` say.
    pub extra: Vec<String>,
    /// How its process is run.
    pub process: Process,
}

impl LaunchNode {
    /// The arguments with which its executable is started.
    pub fn arguments(&self) -> Vec<String> {
        ros_arguments(&self.extra, Some(&self.name), &self.namespace, &self.settings, &self.remaps)
    }

    /// Namespace and name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace.trim_end_matches('/'), self.name)
    }
}

/// Any other program to start: a node of another package, or what `executable` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchProgram {
    /// What it is called in the log.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How it is run.
    pub process: Process,
}

fn ros_arguments(
    extra: &[String],
    name: Option<&str>,
    namespace: &str,
    settings: &[Setting],
    remaps: &[(String, String)],
) -> Vec<String> {
    let mut all = extra.to_vec();
    all.push("--ros-args".to_owned());
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    if let Some(name) = name {
        add("-r", format!("__node:={name}"));
    }
    add("-r", format!("__ns:={namespace}"));
    for setting in settings {
        match setting {
            Setting::File(path) => add("--params-file", path.display().to_string()),
            Setting::Value(name, value) => add("-p", format!("{name}:={}", Value::to_yaml(value))),
        }
    }
    for (from, to) in remaps {
        add("-r", format!("{from}:={to}"));
    }
    all
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
    /// What it may be; empty: anything.
    pub choices: Vec<String>,
}

/// A launch file with everything substituted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launch {
    /// Nodes of this suite in order.
    pub nodes: Vec<LaunchNode>,
    /// Other programs in order.
    pub programs: Vec<LaunchProgram>,
    /// Arguments that it declares.
    pub arguments: Vec<Argument>,
    /// What it asks to be said (`log`), and what has no effect here.
    pub remarks: Vec<String>,
}

/// Reads a launch file with the arguments given on the command line.
///
/// # Errors
/// Names file, line and mend.
pub fn read(path: &Path, given: &[(String, String)]) -> Result<Launch, LaunchError> {
    let launch = actions::read(path, given)?;
    let declared: Vec<&str> = launch.arguments.iter().map(|a| a.name.as_str()).collect();
    if let Some((name, _)) = given.iter().find(|(name, _)| !declared.contains(&name.as_str())) {
        let known = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        return Err(LaunchError::Argument { path: path.to_owned(), name: name.clone(), known });
    }
    Ok(launch)
}
