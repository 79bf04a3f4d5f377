//! What holds at a place of a launch file: variables, environment, and what is set for all nodes that follow; and what a
//! substitution is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    LaunchError,
    body::Place,
    expression, find,
    template::{Part, Template},
};
use crate::{parameter::Value, yaml::python};

/// Name of the variable that holds the namespace, as in `launch_ros`.
pub const NAMESPACE: &str = "ros_namespace";

/// What a group forgets at its end.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub variables: BTreeMap<String, String>,
    pub environment: BTreeMap<String, String>,
    /// For all nodes that follow.
    pub parameters: Vec<(String, Value)>,
    /// For all nodes that follow.
    pub remaps: Vec<(String, String)>,
}

impl Scope {
    /// With the arguments given and this program's environment.
    pub fn new(given: &[(String, String)]) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables: given.iter().cloned().collect(), environment, ..Self::default() }
    }

    /// What differs from this program's environment.
    pub fn environment_changes(&self) -> Vec<(String, Option<String>)> {
        let own = Self::new(&[]).environment;
        let gone = own.keys().filter(|name| !self.environment.contains_key(*name));
        let gone = gone.map(|name| (name.clone(), None));
        let set = self.environment.iter().filter(|(name, value)| own.get(*name) != Some(value));
        gone.chain(set.map(|(name, value)| (name.clone(), Some(value.clone())))).collect()
    }

    /// The text of a template.
    pub fn perform(&mut self, template: &Template, place: &Place<'_>) -> Result<String, LaunchError> {
        let mut text = String::new();
        for part in template {
            match part {
                Part::Text(raw) => text.push_str(raw),
                Part::Call { name, arguments } => text.push_str(&self.call(name, arguments, place)?),
            }
        }
        Ok(text)
    }

    fn call(&mut self, name: &str, templates: &[Template], place: &Place<'_>) -> Result<String, LaunchError> {
        let mut arguments = Vec::new();
        for template in templates {
            arguments.push(self.perform(template, place)?);
        }
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let shown = || format!("$({name}{})", words.iter().map(|w| format!(" {w}")).collect::<String>());
        let fail = |why: String| place.fail(format!("{}: {why}", shown()));
        match (name, words.as_slice()) {
            ("var", [name]) => match self.variables.get(*name) {
                Some(value) => Ok(value.clone()),
                None => {
                    let known: Vec<&str> = self.variables.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    fail(format!("not declared before this place; there are: {known}"))
                }
            },
            ("var", [name, default]) => {
                Ok(self.variables.get(*name).map_or_else(|| (*default).to_owned(), Clone::clone))
            }
            ("env", [name]) => match self.environment.get(*name) {
                Some(value) => Ok(value.clone()),
                None => fail(format!("not set; a default can follow: $(env {name} VALUE)")),
            },
            ("env" | "optenv", [name, default]) => {
                Ok(self.environment.get(*name).map_or_else(|| (*default).to_owned(), Clone::clone))
            }
            ("optenv", [name]) => Ok(self.environment.get(*name).cloned().unwrap_or_default()),
            ("dirname", []) => Ok(folder(place.path).display().to_string()),
            ("filename", []) => Ok(absolute(place.path).display().to_string()),
            ("find-pkg-share", ["spikewing"]) => match find::share_folder(place.path) {
                Some(dir) => Ok(dir.display().to_string()),
                None => {
                    fail("no folder with launch/ and params/ was found; set SPIKEWING_SHARE to it".to_owned())
                }
            },
            ("find-pkg-share", [package]) => match find::package(package, self.ament()) {
                Ok(prefix) => Ok(prefix.join("share").join(package).display().to_string()),
                Err(why) => fail(why),
            },
            ("find-pkg-prefix", [package]) => match find::package(package, self.ament()) {
                Ok(prefix) => Ok(prefix.display().to_string()),
                Err(why) => fail(why),
            },
            ("exec-in-pkg", [exec, package]) => match find::program(package, exec, self.ament()) {
                Ok(program) => Ok(program.display().to_string()),
                Err(why) => fail(why),
            },
            ("find-exec", [name]) => {
                match find::executable(name, self.environment.get("PATH").map(String::as_str)) {
                    Ok(program) => Ok(program.display().to_string()),
                    Err(why) => fail(why),
                }
            }
            ("eval", [text]) => expression::evaluate(text).or_else(fail),
            ("eval", [_, modules]) => {
                if *modules == "math" {
                    expression::evaluate(words[0]).or_else(fail)
                } else {
                    fail(format!("the modules `{modules}` are not known here, only math"))
                }
            }
            ("anon", [name]) => {
                let key = format!("anon{name}");
                let made = || format!("{name}_{}_{}", std::process::id(), self.variables.len());
                let value = self.variables.get(&key).cloned().unwrap_or_else(made);
                self.variables.insert(key, value.clone());
                Ok(value)
            }
            ("not", [one]) => truth(one).map(|v| said(!v)).or_else(fail),
            ("and", [a, b]) => truth(a).and_then(|a| Ok(said(truth(b)? && a))).or_else(fail),
            ("or", [a, b]) => truth(a).and_then(|a| Ok(said(truth(b)? || a))).or_else(fail),
            ("any", all) if !all.is_empty() => {
                let all: Result<Vec<bool>, String> = all.iter().map(|v| truth(v)).collect();
                all.map(|all| said(all.contains(&true))).or_else(fail)
            }
            ("all", all) if !all.is_empty() => {
                let all: Result<Vec<bool>, String> = all.iter().map(|v| truth(v)).collect();
                all.map(|all| said(!all.contains(&false))).or_else(fail)
            }
            ("equals", [a, b]) => Ok(said(equal(a, b))),
            ("not-equals", [a, b]) => Ok(said(!equal(a, b))),
            ("if", [condition, yes]) => {
                truth(condition).map(|v| if v { (*yes).to_owned() } else { String::new() }).or_else(fail)
            }
            ("if", [condition, yes, no]) => {
                truth(condition).map(|v| (if v { *yes } else { *no }).to_owned()).or_else(fail)
            }
            ("eval", _) => fail(format!(
                "takes one argument, not {}: put the expression in quotes, $(eval '…')",
                words.len()
            )),
            ("command" | "param" | "launch_log_dir" | "log_dir" | "file-content", _) => {
                fail("`ros2 launch` knows it, this does not; start this file with `ros2 launch`".to_owned())
            }
            _ if KNOWN.contains(&name) => fail(format!("it does not take {} arguments", words.len())),
            _ => fail(format!("not known; there are: {}", KNOWN.join(", "))),
        }
    }

    /// `AMENT_PREFIX_PATH` as it is at this place.
    pub fn ament(&self) -> Option<&str> {
        self.environment.get("AMENT_PREFIX_PATH").map(String::as_str)
    }
}

const KNOWN: [&str; 19] = [
    "var",
    "env",
    "optenv",
    "dirname",
    "filename",
    "find-pkg-share",
    "find-pkg-prefix",
    "exec-in-pkg",
    "find-exec",
    "eval",
    "anon",
    "not",
    "and",
    "or",
    "any",
    "all",
    "equals",
    "not-equals",
    "if",
];

fn said(value: bool) -> String {
    value.to_string()
}

/// `launch`'s coercion of a text to a boolean.
pub fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => match python::plain(text) {
            python::Native::Bool(value) => Ok(value),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
    }
}

/// As booleans, as numbers, or as texts, whichever both are.
fn equal(a: &str, b: &str) -> bool {
    let boolean = |t: &str| match t.to_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    if let (Some(a), Some(b)) = (boolean(a), boolean(b)) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (a.trim().parse::<f64>(), b.trim().parse::<f64>()) {
        return a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    }
    a == b
}

/// The folder in which a launch file is.
pub fn folder(path: &Path) -> PathBuf {
    absolute(path).parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
