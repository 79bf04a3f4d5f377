//! The standard arguments of a ROS 2 node.

use std::path::{Path, PathBuf};

use crate::{
    NodeKind, NodeOptions, names,
    options::TOPIC_ONLY,
    parameter::{Constraint, Declaration, ParameterError, Value},
    parameter_file::{self, Contents, ParameterFileError, Reach},
    yaml::YamlError,
};

/// Why arguments are refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// Not an argument of a node.
    #[error(
        "argument `{argument}` is not known; a node takes --ros-args with -r, -p, --params-file, --log-level, -e (see --help)"
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
    /// A name that ROS 2 does not allow.
    #[error("{argument}: {why}")]
    Name {
        /// As given.
        argument: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value that is none.
    #[error("-p {assignment}: {why}")]
    Value {
        /// As given.
        assignment: String,
        /// Why.
        why: YamlError,
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
    let mut given = Given::default();
    let mut iter = arguments.iter();
    let mut ros = false;
    while let Some(argument) = iter.next() {
        let mut value = |form: &'static str| {
            iter.next().cloned().ok_or_else(|| ArgsError::Missing { argument: argument.clone(), form })
        };
        match argument.as_str() {
            "--ros-args" => ros = true,
            "--" => ros = false,
            "-h" | "--help" => return Ok(Parsed::Help(help(kind))),
            "-r" | "--remap" if ros => given.remap(argument, &value(REMAP)?)?,
            "-p" | "--param" if ros => given.parameter(argument, &value(PARAMETER)?)?,
            "--params-file" if ros => {
                given.settings.push((None, Setting::File(PathBuf::from(value("a YAML file")?))));
            }
            "--log-level" if ros => given.log_level(argument, &value(LEVEL)?)?,
            "-e" | "--enclave" if ros => {
                let enclave = value("an enclave's name, e.g. /drone_0/supervisor")?;
                names::namespace(&enclave)
                    .map_err(|why| ArgsError::Name { argument: argument.clone(), why })?;
                options.enclave = Some(enclave);
            }
            "--log-config-file" | "--external-log-config" | "--log-file-name" if ros => {
                let file = value("a name")?;
                options.remarks.push(format!(
                    "{argument} {file} concerns the log files of rcl, which this node does not write: it has no effect"
                ));
            }
            // `ros2 launch` passes them; the log goes to standard error and to /rosout all the same.
            "--enable-rosout-logs" | "--enable-stdout-logs" | "--enable-external-lib-logs" if ros => {}
            "--disable-rosout-logs" | "--disable-stdout-logs" | "--disable-external-lib-logs" if ros => {
                options.remarks.push(format!(
                    "{argument} has no effect: this node logs to standard error and to /rosout; --log-level makes it quieter"
                ));
            }
            _ => return Err(ArgsError::Unknown { argument: argument.clone() }),
        }
    }
    given.into_options(&mut options)?;
    Ok(Parsed::Run(Box::new(options)))
}

const REMAP: &str = "[NODE:]FROM:=TO";
const PARAMETER: &str = "[NODE:]NAME:=VALUE";
const LEVEL: &str = "a level (debug, info, warn, error, fatal), or LOGGER:=LEVEL";

/// What was given, before the node's own name is known for sure.
#[derive(Default)]
struct Given {
    /// To which node (none: this one), from, to.
    remaps: Vec<(Option<String>, String, String)>,
    /// To which node (none: this one), what.
    settings: Vec<(Option<String>, Setting)>,
    level: Option<&'static str>,
    /// Logger, level.
    loggers: Vec<(String, &'static str)>,
}

impl Given {
    fn remap(&mut self, argument: &str, rule: &str) -> Result<(), ArgsError> {
        let name = |why| ArgsError::Name { argument: format!("{argument} {rule}"), why };
        let (from, to) = split(argument, rule, REMAP)?;
        let (node, from) = match from.split_once(':') {
            // A scheme is no node.
            Some((node, rest)) if !rest.starts_with("//") => {
                names::node(node).map_err(name)?;
                (Some(node.to_owned()), rest.to_owned())
            }
            _ => (None, from),
        };
        match from.as_str() {
            "__ns" => names::namespace(&to).map_err(name)?,
            "__node" | "__name" => names::node(&to).map_err(name)?,
            _ => {
                let plain = TOPIC_ONLY.iter().find_map(|scheme| from.strip_prefix(scheme)).unwrap_or(&from);
                if [plain, to.as_str()].iter().any(|n| n.contains('*')) {
                    return Err(name(
                        "wildcards in remappings are not implemented, neither in ROS 2".to_owned(),
                    ));
                }
                names::topic(plain).map_err(name)?;
                names::topic(&to).map_err(name)?;
            }
        }
        self.remaps.push((node, from, to));
        Ok(())
    }

    fn parameter(&mut self, argument: &str, assignment: &str) -> Result<(), ArgsError> {
        let (name, text) = split(argument, assignment, PARAMETER)?;
        let (node, name) = match name.split_once(':') {
            Some((node, name)) => {
                names::node(node)
                    .map_err(|why| ArgsError::Name { argument: format!("{argument} {assignment}"), why })?;
                (Some(node.to_owned()), name.to_owned())
            }
            None => (None, name),
        };
        let value = parameter_file::value_of_text(&text)
            .map_err(|why| ArgsError::Value { assignment: assignment.to_owned(), why })?;
        self.settings.push((node, Setting::Value(name, value)));
        Ok(())
    }

    fn log_level(&mut self, argument: &str, text: &str) -> Result<(), ArgsError> {
        let (logger, level) = text.split_once(":=").map_or((None, text), |(l, level)| (Some(l), level));
        let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(level));
        let Some((_, level)) = known else {
            return Err(ArgsError::Form {
                argument: argument.to_owned(),
                value: text.to_owned(),
                form: LEVEL,
            });
        };
        match logger {
            None => self.level = Some(level),
            Some("") => {
                return Err(ArgsError::Form {
                    argument: argument.to_owned(),
                    value: text.to_owned(),
                    form: LEVEL,
                });
            }
            Some(logger) => self.loggers.push((logger.to_owned(), level)),
        }
        Ok(())
    }

    fn into_options(mut self, options: &mut NodeOptions) -> Result<(), ArgsError> {
        // As in rcl the first rule that fits holds, and a rule for a node means the name that the program gives it.
        let first = options.name.clone();
        let mut named = [false, false];
        for (node, from, to) in std::mem::take(&mut self.remaps) {
            if node.is_some_and(|node| node != first) {
                continue;
            }
            match from.as_str() {
                "__ns" if !named[0] => (options.namespace, named[0]) = (to, true),
                "__node" | "__name" if !named[1] => (options.name, named[1]) = (to, true),
                "__ns" | "__node" | "__name" => {}
                _ => options.remaps.push((from, to)),
            }
        }
        let ours: Vec<Setting> = std::mem::take(&mut self.settings)
            .into_iter()
            .filter(|(node, _)| node.as_ref().is_none_or(|node| *node == options.name))
            .map(|(_, setting)| setting)
            .collect();
        apply_all(options, &ours)?;
        options.log_level = self.filter(options);
        Ok(())
    }

    /// The filter of the log: a node's own logger is the program's level, any other is the target of that name.
    fn filter(&self, options: &NodeOptions) -> Option<String> {
        let dotted = options.full_name().trim_start_matches('/').replace('/', ".");
        let mut level = self.level;
        let mut targets = String::new();
        for (logger, its) in &self.loggers {
            if *logger == options.name || *logger == dotted {
                level = Some(its);
            } else {
                targets += &format!(",{}={its}", logger.replace('.', "::"));
            }
        }
        (level.is_some() || !targets.is_empty()).then(|| format!("{}{targets}", level.unwrap_or("info")))
    }
}

/// ROS's levels, and what they are called here.
const LEVELS: [(&str, &str); 8] = [
    ("debug", "debug"),
    ("info", "info"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("error", "error"),
    ("fatal", "error"),
    ("unset", "info"),
    ("trace", "trace"),
];

fn split(argument: &str, text: &str, form: &'static str) -> Result<(String, String), ArgsError> {
    text.split_once(":=")
        .filter(|(from, _)| !from.is_empty())
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .ok_or_else(|| ArgsError::Form { argument: argument.to_owned(), value: text.to_owned(), form })
}

/// Applies settings to a node's parameters: what files say to wildcards first, then exact names and single values in
/// their order. `use_sim_time` is known to every node.
///
/// # Errors
/// When one is refused; unknown names in a file's wildcard section are another node's and pass.
pub fn apply_all(options: &mut NodeOptions, settings: &[Setting]) -> Result<(), ArgsError> {
    let name = options.full_name();
    let mut exact = Vec::new();
    for setting in settings {
        match setting {
            Setting::Value(..) => exact.push((None, setting.clone())),
            Setting::File(path) => {
                let mut contents = parameter_file::read(path, &name)?;
                let own = contents.assignments.iter().position(|a| a.reach == Reach::Exact);
                let own = contents.assignments.split_off(own.unwrap_or(contents.assignments.len()));
                apply_contents(options, contents, path)?;
                exact.push((Some(own), setting.clone()));
            }
        }
    }
    for (own, setting) in exact {
        match (own, setting) {
            (Some(assignments), Setting::File(path)) => {
                apply_contents(options, Contents { assignments, remarks: Vec::new() }, &path)?;
            }
            (_, Setting::Value(name, value)) => {
                let assignment = format!("{name}:={}", value.to_yaml());
                set(options, &name, value).map_err(|source| ArgsError::Parameter { assignment, source })?;
            }
            (None, Setting::File(_)) => {}
        }
    }
    Ok(())
}

/// Applies one setting to a node's parameters.
///
/// # Errors
/// As [`apply_all`].
pub fn apply(options: &mut NodeOptions, setting: &Setting) -> Result<(), ArgsError> {
    apply_all(options, std::slice::from_ref(setting))
}

/// Applies the text of a parameter file, one that is built in for example; `path` names it in errors.
///
/// # Errors
/// As [`apply_all`].
pub fn apply_text(options: &mut NodeOptions, text: &str, path: &Path) -> Result<(), ArgsError> {
    let contents = parameter_file::parse(text.as_bytes(), path, &options.full_name())?;
    apply_contents(options, contents, path)
}

fn apply_contents(options: &mut NodeOptions, contents: Contents, path: &Path) -> Result<(), ArgsError> {
    options.remarks.extend(contents.remarks);
    for assignment in contents.assignments {
        match set(options, &assignment.name, assignment.value) {
            Err(ParameterError::Unknown { name, nearest }) if assignment.reach == Reach::Wildcard => {
                // Another node's, unless it is all but one of this node's.
                if let Some(nearest) = nearest.filter(|n| strsim::jaro_winkler(n, &name) > NEARLY) {
                    options.remarks.push(format!(
                        "parameter file {}: `{name}` for all nodes is none of this one's; was `{nearest}` meant?",
                        path.display()
                    ));
                }
            }
            Err(source) => {
                let path = path.to_owned();
                return Err(ParameterFileError::Parameter { path, line: assignment.line, source }.into());
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Similarity above which a name is taken for a slip of the pen.
const NEARLY: f64 = 0.95;

fn set(options: &mut NodeOptions, name: &str, value: Value) -> Result<(), ParameterError> {
    if options.parameters.declaration(name).is_ok() {
        return options.parameters.set(name, value);
    }
    // What every node of ROS 2 takes.
    if matches!(name, "use_sim_time" | "start_type_description_service") {
        let Value::Bool(value) = value else {
            let got = format!("{} ({})", value.type_name(), value.to_yaml());
            return Err(ParameterError::Type { name: name.to_owned(), expected: "a boolean", got });
        };
        if name == "use_sim_time" {
            options.use_sim_time = value;
        }
        return Ok(());
    }
    if let Some(of) = name.strip_prefix("qos_overrides.") {
        options.remarks.push(format!(
            "`qos_overrides.{of}` has no effect: the quality of service of this node's topics is fixed"
        ));
        return Ok(());
    }
    options.parameters.set(name, value)
}

fn help(kind: &NodeKind) -> String {
    let mut text = format!(
        "{}: {}\n\nusage: {} [--ros-args [-r FROM:=TO] [-r __ns:=NS] [-r __node:=NAME] [-p NAME:=VALUE]\n       \
         [--params-file FILE] [--log-level [LOGGER:=]LEVEL] [-e ENCLAVE] [--]]\n\nparameters:\n",
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
    fn what_is_for_another_node_is_not_ours() {
        let options =
            run("--ros-args -p other:rat:=fast -p toy:rate:=50 -r other:a:=b -r toy:c:=d -r other:__ns:=/x")
                .unwrap();
        assert_eq!(options.parameters.float("rate").unwrap(), 50.0);
        assert_eq!((options.resolve("a"), options.resolve("c")), ("/a".to_owned(), "/d".to_owned()));
        assert_eq!(options.full_name(), "/toy");
        // The first rule that fits holds.
        assert_eq!(run("--ros-args -r __node:=one -r __node:=two").unwrap().name, "one");
    }

    #[test]
    fn topics_and_services_are_told_apart_by_a_scheme() {
        let options = run("--ros-args -r rostopic://a:=t -r rosservice://a:=s").unwrap();
        assert_eq!((options.resolve("a"), options.resolve_service("a")), ("/t".to_owned(), "/s".to_owned()));
        let options = run("--ros-args -r toy:rosservice://a:=s").unwrap();
        assert_eq!((options.resolve("a"), options.resolve_service("a")), ("/a".to_owned(), "/s".to_owned()));
    }

    #[test]
    fn log_levels_are_per_logger() {
        let level = |arguments: &str| run(arguments).unwrap().log_level;
        assert_eq!(level("--ros-args --log-level WARN").as_deref(), Some("warn"));
        assert_eq!(level("--ros-args --log-level toy:=debug").as_deref(), Some("debug"));
        assert_eq!(level("--ros-args -r __ns:=/d --log-level d.toy:=debug").as_deref(), Some("debug"));
        assert_eq!(
            level("--ros-args --log-level rustdds.network:=debug --log-level error").as_deref(),
            Some("error,rustdds::network=debug")
        );
        assert_eq!(level("--ros-args"), None);
    }

    #[test]
    fn what_every_node_of_ros_has_is_taken_and_what_has_no_effect_is_said() {
        let options = run("--ros-args -p start_type_description_service:=true -p qos_overrides./a.publisher.depth:=5 --disable-rosout-logs -e /drone/toy").unwrap();
        assert_eq!(options.remarks.len(), 2, "{:?}", options.remarks);
        assert!(options.remarks.iter().all(|r| r.contains("no effect")));
        assert_eq!(options.enclave.as_deref(), Some("/drone/toy"));
    }

    #[test]
    fn mistakes_are_named_with_their_mend() {
        for (arguments, word) in [
            ("--ros-args -p rat:=5", "did you mean `rate`"),
            ("--ros-args -p rate:=5000", "from 1 to 1000 Hz"),
            ("--ros-args -p rate:=fast", "must be a number"),
            ("--ros-args -p rate:='5'", "write it without quotes: 5"),
            ("--ros-args -p rate:=", "no value"),
            ("--ros-args -p rate:=[1,2.5]", "of one type"),
            ("--ros-args --log-level loud", "debug, info"),
            ("--ros-args --log-level toy:=loud", "debug, info"),
            ("--ros-args -r __ns:=drone_0", "/drone_0"),
            ("--ros-args -r __ns:=/drone-0", "`-`"),
            ("--ros-args -r __node:=1a", "digit"),
            ("--ros-args -r __node:=", "empty"),
            ("--ros-args -r a:=b-c", "`-`"),
            ("--ros-args -r a:=/b/*", "wildcards"),
            ("--ros-args -e drone", "/drone"),
            ("--ros-args -p rate:=.nan", "not a finite number"),
            ("--ros-args -p", "NAME:=VALUE"),
            ("--ros-args -r a", "FROM:=TO"),
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
