//! The actions of a launch file, carried out in order.

use std::path::{Path, PathBuf};

use super::{
    Argument, Launch, LaunchError, LaunchNode, LaunchProgram, Process,
    body::{Body, Place},
    find, parameters, ros_arguments,
    scope::{NAMESPACE, Scope, truth},
    template::{self, Part},
};
use crate::{
    args::Setting,
    names,
    parameter::Value,
    parameter_file,
    yaml::{self, Aliases, Content, Yaml},
};

/// Attributes of a process, beside those of what it is.
const PROCESS: [&str; 13] = [
    "if",
    "unless",
    "cwd",
    "env",
    "launch-prefix",
    "output",
    "respawn",
    "respawn_max_retries",
    "respawn_delay",
    "sigkill_timeout",
    "sigterm_timeout",
    "emulate_tty",
    "on_exit",
];

/// Actions that `ros2 launch` knows beside ours.
const ELSEWHERE: [&str; 12] = [
    "timer",
    "ros_timer",
    "shutdown",
    "node_container",
    "load_composable_node",
    "composable_node",
    "lifecycle_node",
    "lifecycle_transition",
    "set_parameters_from_file",
    "set_use_sim_time",
    "set_ros_log_dir",
    "reset",
];

const ACTIONS: [&str; 15] = [
    "arg",
    "let",
    "unset",
    "set_env",
    "unset_env",
    "append_env",
    "node",
    "executable",
    "group",
    "include",
    "push_ros_namespace",
    "push-ros-namespace",
    "set_parameter",
    "set_remap",
    "log",
];

/// Deeper than anything that is meant.
const MAX_DEPTH: usize = 32;

/// Reads a launch file with the arguments given.
pub fn read(path: &Path, given: &[(String, String)]) -> Result<Launch, LaunchError> {
    let mut reader = Reader { scope: Scope::new(given), launch: Launch::default(), open: Vec::new() };
    reader.file(path)?;
    reader.twins();
    Ok(reader.launch)
}

struct Reader {
    scope: Scope,
    launch: Launch,
    /// The files that are being read, each included by the one before it.
    open: Vec<PathBuf>,
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<(), LaunchError> {
        let bytes =
            std::fs::read(path).map_err(|source| LaunchError::Io { path: path.to_owned(), source })?;
        let layout = |line, reason| LaunchError::Layout { path: path.to_owned(), line, reason };
        let documents = yaml::decode(&bytes)
            .and_then(|text| yaml::documents(text, Aliases::Followed))
            .map_err(|e| layout(e.line, e.reason))?;
        let [document] = documents.as_slice() else {
            let found = documents.len();
            return Err(layout(None, format!("one YAML document is expected, not {found}")));
        };
        let place = Place { path, line: document.line, what: String::new() };
        let expected = "expected `launch:` with a list of actions (arg, node, group, include …) below it";
        let Some([(key, content)]) = document.mapping() else { return place.fail(expected) };
        if key.scalar().is_none_or(|k| k.text != "launch") {
            return place.fail(expected);
        }
        let actions = match &content.content {
            Content::Sequence(actions) => actions,
            Content::Mapping(_) => {
                let place = Place { what: "launch".to_owned(), line: content.line, ..place.clone() };
                let body = Body::new(&place, content, &["children", "deprecated"])?;
                if let Some(why) = body.text("deprecated")? {
                    self.launch.remarks.push(format!("launch file {} is deprecated: {why}", path.display()));
                }
                children(&body)?
            }
            Content::Scalar(_) => return place.fail(expected),
        };
        let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.open.push(whole);
        let result = self.actions(path, actions);
        self.open.pop();
        result
    }

    fn actions(&mut self, path: &Path, actions: &[Yaml]) -> Result<(), LaunchError> {
        for action in actions {
            let place = Place { path, line: action.line, what: String::new() };
            let Some(entries) = action.mapping() else {
                return place
                    .fail(format!("an action, `- node:` for example, is expected, not {}", action.kind()));
            };
            let [(key, content)] = entries else {
                let keys: Vec<&str> =
                    entries.iter().filter_map(|(k, _)| k.scalar()).map(|k| k.text.as_str()).collect();
                return place.fail(format!(
                    "an action has one name, and here are {}: {}; attributes stand one step deeper, below the action's name",
                    entries.len(),
                    keys.join(", ")
                ));
            };
            let kind = key.scalar().map(|k| k.text.clone()).unwrap_or_default();
            let place = Place { path, line: key.line, what: kind.clone() };
            self.action(&kind, content, &place)?;
        }
        Ok(())
    }

    fn action(&mut self, kind: &str, content: &Yaml, place: &Place<'_>) -> Result<(), LaunchError> {
        match kind {
            "arg" => self.argument(&Body::new(
                place,
                content,
                &["name", "default", "description", "choice", "if", "unless"],
            )?),
            "let" | "set_env" => {
                let body = Body::new(place, content, &["name", "value", "if", "unless"])?;
                let (name, value) = (body.required("name")?, body.required("value")?);
                if self.wanted(&body)? {
                    let name = self.scope.perform(&name, place)?;
                    let value = self.scope.perform(&value, place)?;
                    let into =
                        if kind == "let" { &mut self.scope.variables } else { &mut self.scope.environment };
                    into.insert(name, value);
                }
                Ok(())
            }
            "unset" | "unset_env" => {
                let body = Body::new(place, content, &["name", "if", "unless"])?;
                let name = body.required("name")?;
                if self.wanted(&body)? {
                    let name = self.scope.perform(&name, place)?;
                    let from =
                        if kind == "unset" { &mut self.scope.variables } else { &mut self.scope.environment };
                    from.remove(&name);
                }
                Ok(())
            }
            "append_env" => self.append(&Body::new(
                place,
                content,
                &["name", "value", "prepend", "separator", "if", "unless"],
            )?),
            "push_ros_namespace" | "push-ros-namespace" => {
                let body = Body::new(place, content, &["namespace", "if", "unless"])?;
                let pushed = body.required("namespace")?;
                if self.wanted(&body)? {
                    let pushed = self.scope.perform(&pushed, place)?;
                    let namespace = joined(self.scope.variables.get(NAMESPACE), Some(&pushed));
                    names::namespace(&namespace).or_else(|why| place.fail(format!("namespace: {why}")))?;
                    self.scope.variables.insert(NAMESPACE.to_owned(), namespace);
                }
                Ok(())
            }
            "set_parameter" => {
                self.set_parameter(&Body::new(place, content, &["name", "value", "if", "unless"])?)
            }
            "set_remap" => {
                let body = Body::new(place, content, &["from", "to", "if", "unless"])?;
                let (from, to) = (body.required("from")?, body.required("to")?);
                if self.wanted(&body)? {
                    let rule = (self.scope.perform(&from, place)?, self.scope.perform(&to, place)?);
                    self.scope.remaps.push(rule);
                }
                Ok(())
            }
            "log" => {
                let body = Body::new(place, content, &["message", "level", "if", "unless"])?;
                let message = body.required("message")?;
                if self.wanted(&body)? {
                    let message = self.scope.perform(&message, place)?;
                    self.launch.remarks.push(message);
                }
                Ok(())
            }
            "group" => self.group(content, place),
            "include" => self.include(&Body::new(place, content, &["file", "arg", "if", "unless"])?),
            "node" => self.node(content, place),
            "executable" => self.executable(content, place),
            _ if ELSEWHERE.contains(&kind) => place
                .fail("`ros2 launch` knows this action, this does not; start this file with `ros2 launch`"),
            _ => {
                let nearest = ACTIONS
                    .iter()
                    .map(|a| (strsim::jaro_winkler(a, kind), *a))
                    .filter(|(similarity, _)| *similarity > 0.7)
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, a)| format!("did you mean `{a}`?"))
                    .unwrap_or_else(|| format!("there are: {}", ACTIONS.join(", ")));
                place.fail(format!("there is no such action; {nearest}"))
            }
        }
    }

    /// Whether `if` and `unless` want an action. Its attributes were looked at before, wanted or not.
    fn wanted(&mut self, body: &Body<'_>) -> Result<bool, LaunchError> {
        let (yes, no) = (body.template("if")?, body.template("unless")?);
        let (key, template, wanted) = match (yes, no) {
            (None, None) => return Ok(true),
            (Some(_), Some(_)) => return body.place.fail("`if` and `unless` exclude each other"),
            (Some(template), None) => ("if", template, true),
            (None, Some(template)) => ("unless", template, false),
        };
        let place = body.at(key);
        let text = self.scope.perform(&template, &place)?;
        match text.trim().to_lowercase().as_str() {
            "true" | "1" => Ok(wanted),
            "false" | "0" => Ok(!wanted),
            _ => place.fail(format!("{key}: `{text}` must be true or false (or 1 or 0)")),
        }
    }

    fn optional(&mut self, body: &Body<'_>, key: &str) -> Result<Option<String>, LaunchError> {
        match body.template(key)? {
            Some(template) => Ok(Some(self.scope.perform(&template, &body.at(key))?)),
            None => Ok(None),
        }
    }

    fn argument(&mut self, body: &Body<'_>) -> Result<(), LaunchError> {
        let place = &body.place;
        let Some(name) = body.text("name")?.map(|t| template::unescape(&t)) else {
            return place.fail("`name` is missing");
        };
        let default = body.template("default")?;
        let mut description = body.text("description")?.map(|t| template::unescape(&t)).unwrap_or_default();
        let mut choices = Vec::new();
        for choice in body.list("choice", &["value"])? {
            match choice.text("value")? {
                Some(value) => choices.push(template::unescape(&value)),
                None => return choice.place.fail("`value` is missing"),
            }
        }
        if let (Some([Part::Text(text)]), false) = (default.as_deref(), choices.is_empty())
            && !choices.contains(text)
        {
            return body.at("default").fail(format!(
                "default `{text}` of argument `{name}` is not one of: {}",
                choices.join(", ")
            ));
        }
        if !self.wanted(body)? {
            return Ok(());
        }
        let default = default.map(|t| self.scope.perform(&t, &body.at("default"))).transpose()?;
        if !self.scope.variables.contains_key(&name) {
            match &default {
                Some(value) => self.scope.variables.insert(name.clone(), value.clone()),
                None => {
                    return place.fail(format!("argument `{name}` has no default; give it as {name}:=VALUE"));
                }
            };
        }
        if let Some(value) = self.scope.variables.get(&name).filter(|_| !choices.is_empty())
            && !choices.contains(value)
        {
            return place
                .fail(format!("argument `{name}` = `{value}` is not one of: {}", choices.join(", ")));
        }
        if !choices.is_empty() {
            description = format!("{description} (one of: {})", choices.join(", ")).trim().to_owned();
        }
        if !self.launch.arguments.iter().any(|a| a.name == name) {
            self.launch.arguments.push(Argument { name, default, description, choices });
        }
        Ok(())
    }

    fn append(&mut self, body: &Body<'_>) -> Result<(), LaunchError> {
        let (name, value) = (body.required("name")?, body.required("value")?);
        if !self.wanted(body)? {
            return Ok(());
        }
        let name = self.scope.perform(&name, &body.place)?;
        let value = self.scope.perform(&value, &body.place)?;
        let separator = self.optional(body, "separator")?.unwrap_or_else(|| ":".to_owned());
        let prepend = body.flag("prepend")?.unwrap_or(false);
        let joined = match self.scope.environment.get(&name) {
            None => value,
            Some(old) if prepend => format!("{value}{separator}{old}"),
            Some(old) => format!("{old}{separator}{value}"),
        };
        self.scope.environment.insert(name, joined);
        Ok(())
    }

    fn set_parameter(&mut self, body: &Body<'_>) -> Result<(), LaunchError> {
        let (name, value) = (body.required("name")?, body.required("value")?);
        if self.wanted(body)? {
            let name = self.scope.perform(&name, &body.place)?;
            let place = body.at("value");
            let text = self.scope.perform(&value, &place)?;
            let value = if text.is_empty() {
                Value::Text(text)
            } else {
                parameter_file::value_of_text(&text).or_else(|why| place.fail(format!("`{text}`: {why}")))?
            };
            self.scope.parameters.push((name, value));
        }
        Ok(())
    }

    fn group(&mut self, content: &Yaml, place: &Place<'_>) -> Result<(), LaunchError> {
        if let Content::Sequence(actions) = &content.content {
            let outer = self.scope.clone();
            let result = self.actions(place.path, actions);
            self.scope = outer;
            return result;
        }
        let known = ["children", "if", "unless", "scoped", "forwarding", "keep"];
        let body = Body::new(place, content, &known)?;
        let scoped = body.flag("scoped")?.unwrap_or(true);
        let forwarding = body.flag("forwarding")?.unwrap_or(true);
        let kept = body.list("keep", &["name", "value"])?;
        let actions = children(&body)?;
        if !self.wanted(&body)? {
            return Ok(());
        }
        let outer = self.scope.clone();
        let mut set = Vec::new();
        for keep in kept {
            let name = self.scope.perform(&keep.required("name")?, &keep.place)?;
            set.push((name, self.scope.perform(&keep.required("value")?, &keep.place)?));
        }
        if scoped && !forwarding {
            self.scope = Scope::new(&[]);
        }
        self.scope.variables.extend(set);
        let result = self.actions(place.path, actions);
        if scoped {
            self.scope = outer;
        }
        result
    }

    fn include(&mut self, body: &Body<'_>) -> Result<(), LaunchError> {
        let file = body.required("file")?;
        let arguments = body.list("arg", &["name", "value"])?;
        let arguments = arguments
            .iter()
            .map(|a| Ok((a.required("name")?, a.required("value")?, a.place.clone())))
            .collect::<Result<Vec<_>, LaunchError>>()?;
        if !self.wanted(body)? {
            return Ok(());
        }
        let place = body.at("file");
        let file = PathBuf::from(self.scope.perform(&file, &place)?);
        let shown = file.display();
        match file.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => {}
            Some("py") => {
                return place.fail(format!(
                    "{shown} is a launch file in Python, which only `ros2 launch` can read; start this with it, or include a .launch.yaml"
                ));
            }
            Some("xml") => {
                return place.fail(format!(
                    "{shown} is a launch file in XML, which only `ros2 launch` can read; start this with it, or include a .launch.yaml"
                ));
            }
            _ => {
                return place.fail(format!("{shown}: the name of a launch file ends with .launch.yaml here"));
            }
        }
        if !file.is_file() {
            let beside = super::scope::folder(place.path).join(&file);
            let hint = if beside.is_file() {
                format!(" in the folder where this was started; it is beside this file: $(dirname)/{shown}")
            } else {
                String::new()
            };
            return place.fail(format!("{shown}: there is no such file{hint}"));
        }
        let whole = std::fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        if self.open.contains(&whole) {
            return place.fail(format!("{shown} includes itself, and would for ever"));
        }
        if self.open.len() >= MAX_DEPTH {
            return place.fail(format!("{shown}: includes are nested too deeply"));
        }
        // As in ROS 2 an included file is no scope of its own: a `group` around it makes one.
        for (name, value, place) in arguments {
            let name = self.scope.perform(&name, &place)?;
            let value = self.scope.perform(&value, &place)?;
            self.scope.variables.insert(name, value);
        }
        self.file(&file)
    }

    fn node(&mut self, content: &Yaml, place: &Place<'_>) -> Result<(), LaunchError> {
        let own = ["pkg", "exec", "name", "exec_name", "namespace", "param", "remap", "args", "ros_args"];
        let known: Vec<&str> = own.into_iter().chain(PROCESS).collect();
        let body = Body::new(place, content, &known)?;
        // What is written wrongly is told, wanted or not.
        let exec = body.required("exec")?;
        for key in ["pkg", "name", "exec_name", "namespace", "args", "ros_args"] {
            body.template(key)?;
        }
        let remaps = body.list("remap", &["from", "to"])?;
        if !self.wanted(&body)? {
            return Ok(());
        }
        let exec = self.scope.perform(&exec, &body.at("exec"))?;
        let package = self.optional(&body, "pkg")?;
        let name = self.optional(&body, "name")?;
        if let Some(name) = &name {
            let place = body.at("name");
            names::node(name).or_else(|why| place.fail(format!("name: {why}")))?;
        }
        let own = self.optional(&body, "namespace")?;
        let namespace = joined(self.scope.variables.get(NAMESPACE), own.as_deref());
        names::namespace(&namespace).or_else(|why| body.at("namespace").fail(format!("namespace: {why}")))?;
        let mut settings: Vec<Setting> =
            self.scope.parameters.iter().map(|(n, v)| Setting::Value(n.clone(), v.clone())).collect();
        settings.extend(parameters::settings(&body, &mut self.scope)?);
        let mut rules = self.scope.remaps.clone();
        for remap in remaps {
            let from = self.scope.perform(&remap.required("from")?, &remap.place)?;
            rules.push((from, self.scope.perform(&remap.required("to")?, &remap.place)?));
        }
        let mut extra = self.words(&body, "args")?;
        let ros = self.words(&body, "ros_args")?;
        if !ros.is_empty() {
            extra.push("--ros-args".to_owned());
            extra.extend(ros);
        }
        let label = self.optional(&body, "exec_name")?;
        let process = self.process(&body)?;
        if package.as_deref() == Some("spikewing") {
            let name = name.unwrap_or_else(|| exec.clone());
            let node = LaunchNode { exec, name, namespace, settings, remaps: rules, extra, process };
            self.launch.nodes.push(node);
            return Ok(());
        }
        let program = match &package {
            Some(package) => find::program(package, &exec, self.scope.ament()),
            None => find::executable(&exec, self.scope.environment.get("PATH").map(String::as_str)),
        };
        let program = program.or_else(|why| place.fail(why))?;
        let label = label.or_else(|| name.clone()).unwrap_or(exec);
        let mut command = vec![program.display().to_string()];
        command.extend(ros_arguments(&extra, name.as_deref(), &namespace, &settings, &rules));
        self.launch.programs.push(LaunchProgram { name: label, command, process });
        Ok(())
    }

    fn executable(&mut self, content: &Yaml, place: &Place<'_>) -> Result<(), LaunchError> {
        let known: Vec<&str> = ["cmd", "name", "shell"].into_iter().chain(PROCESS).collect();
        let body = Body::new(place, content, &known)?;
        body.required("cmd")?;
        body.template("name")?;
        let shell = body.flag("shell")?.unwrap_or(false);
        if !self.wanted(&body)? {
            return Ok(());
        }
        let command = if shell {
            let text = self.optional(&body, "cmd")?.unwrap_or_default();
            vec!["/bin/sh".to_owned(), "-c".to_owned(), text]
        } else {
            self.words(&body, "cmd")?
        };
        let Some(program) = command.first().filter(|p| !p.is_empty()) else {
            return body.at("cmd").fail("`cmd` is empty");
        };
        let base = Path::new(program).file_name().map(|n| n.to_string_lossy().into_owned());
        let label = self.optional(&body, "name")?.or(base).unwrap_or_default();
        let process = self.process(&body)?;
        self.launch.programs.push(LaunchProgram { name: label, command, process });
        Ok(())
    }

    fn process(&mut self, body: &Body<'_>) -> Result<Process, LaunchError> {
        let mut process = Process { environment: self.scope.environment_changes(), ..Process::default() };
        for variable in body.list("env", &["name", "value"])? {
            let name = self.scope.perform(&variable.required("name")?, &variable.place)?;
            let value = self.scope.perform(&variable.required("value")?, &variable.place)?;
            process.environment.retain(|(n, _)| *n != name);
            process.environment.push((name, Some(value)));
        }
        if let Some(folder) = self.optional(body, "cwd")? {
            if !Path::new(&folder).is_dir() {
                return body.at("cwd").fail(format!("cwd {folder}: there is no such folder"));
            }
            process.folder = Some(PathBuf::from(folder));
        }
        process.prefix = self.words(body, "launch-prefix")?;
        if let Some(prefix) = self.scope.variables.get("launch-prefix").filter(|_| process.prefix.is_empty())
        {
            process.prefix = split(prefix).or_else(|why| body.place.fail(format!("launch-prefix: {why}")))?;
        }
        if let Some(output) = self.optional(body, "output")?
            && !["screen", "log", "both", "own_log", "full"].contains(&output.as_str())
        {
            return body
                .at("output")
                .fail(format!("output: `{output}` must be screen, log, both, own_log or full"));
        }
        if let Some(text) = self.optional(body, "respawn")? {
            let place = body.at("respawn");
            process.respawn = truth(&text).or_else(|why| place.fail(format!("respawn: {why}")))?;
        }
        process.respawn_delay_s = body.seconds("respawn_delay")?.unwrap_or(0.0);
        process.respawn_max_retries = body.count("respawn_max_retries")?;
        process.sigterm_timeout_s = self.timeout(body, "sigterm_timeout")?;
        process.sigkill_timeout_s = self.timeout(body, "sigkill_timeout")?;
        match body.text("on_exit")?.as_deref() {
            None => {}
            Some("shutdown") => process.ends_launch = true,
            Some(other) => {
                return body.at("on_exit").fail(format!("on_exit: `{other}`; there is only `shutdown`"));
            }
        }
        if body.flag("emulate_tty")? == Some(true) {
            let remark = "emulate_tty has no effect: output is passed on line by line all the same";
            if !self.launch.remarks.iter().any(|r| r == remark) {
                self.launch.remarks.push(remark.to_owned());
            }
        }
        Ok(process)
    }

    /// An attribute, or the variable of that name, which holds for all processes that follow.
    fn timeout(&mut self, body: &Body<'_>, key: &str) -> Result<Option<f64>, LaunchError> {
        if let Some(seconds) = body.seconds(key)? {
            return Ok(Some(seconds));
        }
        match self.scope.variables.get(key) {
            None => Ok(None),
            Some(text) => match text.trim().parse::<f64>() {
                Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Some(seconds)),
                _ => body.place.fail(format!("{key} = `{text}` must be seconds, not negative")),
            },
        }
    }

    /// The words of a command line; what a substitution gives is never parted.
    fn words(&mut self, body: &Body<'_>, key: &str) -> Result<Vec<String>, LaunchError> {
        let Some(template) = body.template(key)? else { return Ok(Vec::new()) };
        let place = body.at(key);
        let mut words = Words::default();
        for part in template {
            match part {
                Part::Text(text) => words.text(&text).or_else(|why| place.fail(format!("{key}: {why}")))?,
                call @ Part::Call { .. } => words.add(&self.scope.perform(&vec![call], &place)?),
            }
        }
        words.finish().or_else(|why| place.fail(format!("{key}: {why}")))
    }

    /// Nodes of the same name.
    fn twins(&mut self) {
        for (index, node) in self.launch.nodes.iter().enumerate() {
            let name = node.full_name();
            if self.launch.nodes[..index].iter().any(|other| other.full_name() == name) {
                self.launch.remarks.push(format!(
                    "there are two nodes of the name {name}: their topics and services get mixed up; give one another `name` or `namespace`"
                ));
            }
        }
    }
}

/// The list of actions below `children`.
fn children<'a>(body: &Body<'a>) -> Result<&'a [Yaml], LaunchError> {
    match body.get("children") {
        None => body.place.fail("`children`, a list of actions, is missing"),
        Some(yaml) => match yaml.sequence() {
            Some(actions) => Ok(actions),
            None => body.at("children").fail(format!("`children` must be a list, not {}", yaml.kind())),
        },
    }
}

/// A namespace in a namespace, as `launch_ros` joins them.
fn joined(base: Option<&String>, own: Option<&str>) -> String {
    let joined = match (base, own) {
        (None, None) => "/".to_owned(),
        (Some(base), None) => base.clone(),
        (Some(base), Some(own)) if !own.starts_with('/') => format!("{}/{own}", base.trim_end_matches('/')),
        (_, Some(own)) => own.to_owned(),
    };
    format!("/{}", joined.strip_prefix('/').unwrap_or(&joined).trim_end_matches('/'))
}

fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Words::default();
    words.text(text)?;
    words.finish()
}

/// Words parted by spaces, with quotes as a shell has them.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: Option<String>,
    quote: Option<char>,
}

impl Words {
    fn add(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (self.quote, c) {
                (None, ' ' | '\t' | '\n') => self.done.extend(self.word.take()),
                (None, '\'' | '"') => {
                    self.quote = Some(c);
                    self.word.get_or_insert_default();
                }
                (Some(quote), c) if c == quote => self.quote = None,
                (None | Some('"'), '\\') => match chars.next() {
                    Some(next) => self.word.get_or_insert_default().push(next),
                    None => return Err("a backslash stands at the end".to_owned()),
                },
                (_, c) => self.word.get_or_insert_default().push(c),
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<String>, String> {
        if let Some(quote) = self.quote {
            return Err(format!("a quote ({quote}) is not closed"));
        }
        self.done.extend(self.word.take());
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        assert_eq!(split("a  'b c' \"d\\\"e\" f\\ g ''").unwrap(), ["a", "b c", "d\"e", "f g", ""]);
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn namespaces_join() {
        let base = "/a".to_owned();
        for (base, own, joined_is) in [
            (None, None, "/"),
            (None, Some(""), "/"),
            (None, Some("x"), "/x"),
            (Some(&base), None, "/a"),
            (Some(&base), Some("x/"), "/a/x"),
            (Some(&base), Some("/x"), "/x"),
            (Some(&base), Some(""), "/a"),
            (None, Some("/"), "/"),
        ] {
            assert_eq!(joined(base, own), joined_is, "{base:?} {own:?}");
        }
    }
}
