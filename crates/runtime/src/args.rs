//! The standard arguments of a ROS 2 node.

use std::path::{Path, PathBuf};

use crate::{
    NodeKind, NodeOptions,
    parameter::{Constraint, Declaration, ParameterError, Value},
    parameter_file::{self, ParameterFileError, Reach},
};

/// Why arguments are refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// Not an argument of a node.
    #[error(
        "argument `{argument}` is not known; a node takes --ros-args with -r, -p, --params-file, --log-level (see --help)"
    )]
    Unknown {
        /// As given.
        argument: String,
    },
    /// Its value is missing.
    #[error("argument `{argument}` needs a value: {form}")]
    Missing {
        /// As given.
        argument: String,
        /// What follows it.
        form: &'static str,
    },
    /// Not of the form that it must have.
    #[error("`{argument} {value}`: expected {form}")]
    Form {
        /// Argument.
        argument: String,
        /// Its value.
        value: String,
        /// What it must look like.
        form: &'static str,
    },
    /// A parameter on the command line is refused.
    #[error("-p {assignment}: {source}")]
    Parameter {
        /// As given.
        assignment: String,
        /// Why.
        source: ParameterError,
    },
    /// A parameter file is refused.
    #[error(transparent)]
    File(#[from] ParameterFileError),
}

/// One setting of parameters, in the order in which they hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// A file in the ROS 2 format.
    File(PathBuf),
    /// `name:=value`.
    Value(String, Value),
}

/// What the arguments ask for.
#[derive(Debug)]
pub enum Parsed {
    /// Run with these options.
    Run(Box<NodeOptions>),
    /// Print this text and end.
    Help(String),
}

/// Parses the arguments behind the program's name.
///
/// # Errors
/// Names the argument, file or parameter that is wrong.
pub fn parse(kind: &NodeKind, arguments: &[String]) -> Result<Parsed, ArgsError> {
    let mut options = NodeOptions::of(kind);
    let mut settings = Vec::new();
    let mut iter = arguments.iter().peekable();
    let mut ros = false;
    while let Some(argument) = iter.next() {
        let mut value = |form: &'static str| {
            iter.next().cloned().ok_or_else(|| ArgsError::Missing { argument: argument.clone(), form })
        };
        match argument.as_str() {
            "--ros-args" => ros = true,
            "--" => ros = false,
            "-h" | "--help" => return Ok(Parsed::Help(help(kind))),
            "-r" | "--remap" if ros => {
                let rule = value("from:=to")?;
                let (from, to) = split(argument, &rule, "from:=to")?;
                let from = match from.split_once(':') {
                    Some((node, from)) if node == kind.name || node == options.name => from.to_owned(),
                    Some(_) => continue,
                    None => from,
                };
                match from.as_str() {
                    "__ns" => options.namespace = format!("/{}", to.trim_matches('/')),
                    "__node" | "__name" => options.name = to,
                    _ => options.remaps.push((from, to)),
                }
            }
            "-p" | "--param" if ros => {
                let assignment = value("name:=value")?;
                let (name, text) = split(argument, &assignment, "name:=value")?;
                let name = name.split_once(':').map_or(name.clone(), |(_, name)| name.to_owned());
                settings.push(Setting::Value(name, parameter_file::value_of_text(&text)));
            }
            "--params-file" if ros => settings.push(Setting::File(PathBuf::from(value("a YAML file")?))),
            "--log-level" if ros => {
                let level = value("a level, e.g. info or supervisor:=debug")?;
                options.log_level = Some(level.rsplit(":=").next().unwrap_or_default().to_lowercase());
            }
            // Accepted because launch passes them; they concern the log files of rcl only.
            "--enable-rosout-logs"
            | "--disable-rosout-logs"
            | "--enable-stdout-logs"
            | "--disable-stdout-logs"
            | "--enable-external-lib-logs"
            | "--disable-external-lib-logs"
                if ros => {}
            _ => return Err(ArgsError::Unknown { argument: argument.clone() }),
        }
    }
    for setting in &settings {
        apply(&mut options, setting)?;
    }
    Ok(Parsed::Run(Box::new(options)))
}

fn split(argument: &str, text: &str, form: &'static str) -> Result<(String, String), ArgsError> {
    text.split_once(":=")
        .filter(|(from, _)| !from.is_empty())
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .ok_or_else(|| ArgsError::Form { argument: argument.to_owned(), value: text.to_owned(), form })
}

/// Applies one setting to a node's parameters. `use_sim_time` is known to every node.
///
/// # Errors
/// When it is refused; unknown names in a file's wildcard section are another node's and pass.
pub fn apply(options: &mut NodeOptions, setting: &Setting) -> Result<(), ArgsError> {
    match setting {
        Setting::Value(name, value) => set(options, name, value.clone())
            .map_err(|source| ArgsError::Parameter { assignment: format!("{name}:={value}"), source }),
        Setting::File(path) => apply_file(options, path),
    }
}

fn apply_file(options: &mut NodeOptions, path: &Path) -> Result<(), ArgsError> {
    let assignments = parameter_file::assignments(path, &options.full_name())?;
    apply_assignments(options, assignments, path)
}

/// Applies the text of a parameter file, one that is built in for example; `path` names it in errors.
///
/// # Errors
/// As [`apply`].
pub fn apply_text(options: &mut NodeOptions, text: &str, path: &Path) -> Result<(), ArgsError> {
    let assignments = parameter_file::parse(text, path, &options.full_name())?;
    apply_assignments(options, assignments, path)
}

fn apply_assignments(
    options: &mut NodeOptions,
    assignments: Vec<parameter_file::Assignment>,
    path: &Path,
) -> Result<(), ArgsError> {
    for assignment in assignments {
        match set(options, &assignment.name, assignment.value) {
            Err(ParameterError::Unknown { .. }) if assignment.reach == Reach::Wildcard => {}
            Err(source) => {
                let path = path.to_owned();
                return Err(ParameterFileError::Parameter { path, line: assignment.line, source }.into());
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn set(options: &mut NodeOptions, name: &str, value: Value) -> Result<(), ParameterError> {
    if name == "use_sim_time" && options.parameters.declaration(name).is_err() {
        let Value::Bool(value) = value else {
            let got = format!("{} ({value})", value.type_name());
            return Err(ParameterError::Type { name: name.to_owned(), expected: "a boolean", got });
        };
        options.use_sim_time = value;
        return Ok(());
    }
    options.parameters.set(name, value)
}

fn help(kind: &NodeKind) -> String {
    let mut text = format!(
        "{}: {}\n\nusage: {} [--ros-args [-r FROM:=TO] [-r __ns:=NS] [-r __node:=NAME] [-p NAME:=VALUE]\n       \
         [--params-file FILE] [--log-level LEVEL] [--]]\n\nparameters:\n",
        kind.name, kind.about, kind.name
    );
    for declaration in (kind.declare)() {
        let unit = if declaration.unit.is_empty() { String::new() } else { format!(" {}", declaration.unit) };
        text.push_str(&format!(
            "  {} ({}, default {}{unit}{})\n      {}\n",
            declaration.name,
            declaration.default.type_name(),
            shown(&declaration.default),
            range(&declaration).map(|r| format!(", {r}")).unwrap_or_default(),
            declaration.description
        ));
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) if text.is_empty() => "\"\"".to_owned(),
        other => other.to_string(),
    }
}

fn range(declaration: &Declaration) -> Option<String> {
    match &declaration.constraint {
        Constraint::Any => None,
        Constraint::Range(low, high) => Some(format!("{low} to {high}")),
        Constraint::Choice(of) => Some(format!("one of {}", of.join(", "))),
    }
}

/// The parameters as a Markdown table, as the node's README has it.
pub fn markdown_table(declarations: &[Declaration]) -> String {
    let mut table = String::from("| parameter | default | range | unit | effect |\n|---|---|---|---|---|\n");
    for d in declarations {
        table.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} |\n",
            d.name,
            shown(&d.default),
            range(d).unwrap_or_default(),
            d.unit,
            d.description
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{BuildError, Context, Node};

    fn kind() -> NodeKind {
        fn build(_: &Context<'_>) -> Result<Box<dyn Node>, BuildError> {
            Err("not built in this test".into())
        }
        let declare =
            || vec![Declaration::float("rate", 100.0).range(1.0, 1000.0).unit("Hz").describe("How often.")];
        NodeKind { name: "toy", about: "A toy.", urgency: crate::node::Urgency::Background, declare, build }
    }

    fn run(arguments: &str) -> Result<NodeOptions, ArgsError> {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        match parse(&kind(), &arguments)? {
            Parsed::Run(options) => Ok(*options),
            Parsed::Help(_) => unreachable!("no help was asked for"),
        }
    }

    #[test]
    fn standard_arguments_are_understood() {
        let options =
            run("--ros-args -r __ns:=/drone_0 -r __node:=t -r a:=b -p rate:=50 --log-level debug --")
                .unwrap();
        assert_eq!(options.full_name(), "/drone_0/t");
        assert_eq!(options.resolve("a"), "/drone_0/b");
        assert_eq!(options.parameters.float("rate").unwrap(), 50.0);
        assert_eq!(options.log_level.as_deref(), Some("debug"));
        assert!(run("--ros-args -p use_sim_time:=true").unwrap().use_sim_time);
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        for (arguments, word) in [
            ("--ros-args -p rat:=5", "did you mean `rate`"),
            ("--ros-args -p rate:=5000", "from 1 to 1000 Hz"),
            ("--ros-args -p rate:=fast", "must be a number"),
            ("--ros-args -p rate:=.nan", "not a finite number"),
            ("--ros-args -p", "name:=value"),
            ("--ros-args -r a", "from:=to"),
            ("--frobnicate", "--frobnicate"),
            ("--ros-args --params-file /nonexistent.yaml", "/nonexistent.yaml"),
        ] {
            let error = run(arguments).unwrap_err();
            let text = crate::local::chain(&error);
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn help_and_table_show_every_parameter() {
        let Ok(Parsed::Help(text)) = parse(&kind(), &["--help".to_owned()]) else {
            panic!("help was asked for")
        };
        assert!(text.contains("rate") && text.contains("1 to 1000") && text.contains("How often."));
        assert!(
            markdown_table(&(kind().declare)())
                .contains("| `rate` | `100.0` | 1 to 1000 | Hz | How often. |")
        );
    }
}
