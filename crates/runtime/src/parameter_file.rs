//! Parameter files in the ROS 2 format, read as rcl reads them, and `name:=value` on the command line.
//!
//! ```yaml
//! /**:                      # every node
//!   ros__parameters:
//!     use_sim_time: true
//! /**/supervisor:           # every node of that name, in any namespace
//!   ros__parameters:
//!     envelope: {position: 0.6}
//! /drone_0/supervisor:      # that node alone
//!   ros__parameters:
//!     land_speed: 0.3
//! ```
//!
//! A name without a slash (`supervisor:`) is that node in the root namespace alone, as for rcl. An exact name beats `*`
//! (one name) and `**` (any number of namespaces), wherever it stands; else what comes later holds. Several documents
//! are read one after the other; sections of other nodes must be sound, too. Where rcl takes the last of two values for
//! one name without a word, this does it with one ([`Contents::remarks`]).

use std::path::{Path, PathBuf};

use crate::{
    parameter::{ParameterError, Value},
    yaml::{self, Aliases, Content, Yaml, YamlError, ros},
};

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
    #[error("parameter file {path}{}: {reason}", line_of(*.line))]
    Layout {
        /// File.
        path: PathBuf,
        /// Line, where there is one.
        line: Option<usize>,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A parameter in it is refused.
    #[error("parameter file {path}{}: {source}", line_of(*.line))]
    Parameter {
        /// File.
        path: PathBuf,
        /// Line.
        line: Option<usize>,
        /// Why.
        source: ParameterError,
    },
}

fn line_of(line: Option<usize>) -> String {
    line.map(|l| format!(", line {l}")).unwrap_or_default()
}

/// To which nodes a section of a file speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It names the node with its namespace, and beats every wildcard.
    Exact,
    /// It names the node, in namespaces that a wildcard stands for: an unknown parameter is a mistake here, too.
    Named,
    /// A wildcard for the name: an unknown parameter may be another node's.
    Wildcard,
}

/// One parameter as a file gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Name with dots.
    pub name: String,
    /// Value.
    pub value: Value,
    /// How its section speaks to the node.
    pub reach: Reach,
    /// Line in the file.
    pub line: Option<usize>,
}

/// What a file says to one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// In the order in which they hold: wildcards first.
    pub assignments: Vec<Assignment>,
    /// What its writer may not have meant.
    pub remarks: Vec<String>,
}

/// The assignments of a file that concern the node `full_name` (e.g. `/drone_0/supervisor`), in the order in which
/// they hold: wildcards first.
///
/// # Errors
/// When the file cannot be read or is of another layout.
pub fn assignments(path: &Path, full_name: &str) -> Result<Vec<Assignment>, ParameterFileError> {
    Ok(read(path, full_name)?.assignments)
}

/// What a file says to the node `full_name`.
///
/// # Errors
/// As [`assignments`].
pub fn read(path: &Path, full_name: &str) -> Result<Contents, ParameterFileError> {
    let bytes =
        std::fs::read(path).map_err(|source| ParameterFileError::Io { path: path.to_owned(), source })?;
    parse(&bytes, path, full_name)
}

/// As [`read`], from the bytes of a file; `path` names it in errors.
///
/// # Errors
/// When it is of another layout.
pub fn parse(bytes: &[u8], path: &Path, full_name: &str) -> Result<Contents, ParameterFileError> {
    let layout =
        |e: YamlError| ParameterFileError::Layout { path: path.to_owned(), line: e.line, reason: e.reason };
    let sections = yaml::decode(bytes).and_then(sections).map_err(layout)?;
    Ok(speaking_to(&sections, path, full_name))
}

/// The parameters below one node's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The name, with the namespaces that it stands in.
    pub pattern: String,
    /// Name, value, line.
    pub parameters: Vec<(String, Value, usize)>,
}

/// All sections of a parameter file; those of the same name are one, at the place of the first.
///
/// # Errors
/// With the line, when it is of another layout.
pub fn sections(text: &str) -> Result<Vec<Section>, YamlError> {
    let mut sections = Vec::new();
    for document in yaml::documents(text, Aliases::Refused)? {
        let Some(entries) = document.mapping() else {
            return fail(
                document.line,
                format!("expected node names with `ros__parameters:` below them, not {}", document.kind()),
            );
        };
        collect(&mut sections, "", entries)?;
    }
    Ok(sections)
}

fn fail<T>(line: usize, reason: String) -> Result<T, YamlError> {
    Err(YamlError { line: Some(line), reason })
}

/// The text of a key.
fn key_of(key: &Yaml, what: &str) -> Result<String, YamlError> {
    match key.scalar() {
        Some(scalar) if scalar.text == "<<" => fail(
            key.line,
            "`<<`: ROS 2 takes no merge keys in parameter files; write the parameters out".to_owned(),
        ),
        Some(scalar) if !scalar.text.is_empty() => Ok(scalar.text.clone()),
        _ => fail(key.line, format!("{what} must be a text")),
    }
}

fn collect(sections: &mut Vec<Section>, pattern: &str, entries: &[(Yaml, Yaml)]) -> Result<(), YamlError> {
    for (key, value) in entries {
        let name = key_of(key, "a node name")?;
        if name == "ros__parameters" {
            if pattern.is_empty() {
                return fail(key.line, "there is no node name above `ros__parameters:`".to_owned());
            }
            valid_pattern(pattern).map_err(|reason| YamlError { line: Some(key.line), reason })?;
            let Some(parameters) = value.mapping() else {
                return fail(
                    value.line,
                    format!(
                        "`ros__parameters:` of `{pattern}` must hold names and values; remove it, or write {{}}"
                    ),
                );
            };
            let index = sections.iter().position(|s| s.pattern == pattern).unwrap_or_else(|| {
                sections.push(Section { pattern: pattern.to_owned(), parameters: Vec::new() });
                sections.len() - 1
            });
            flatten(&mut sections[index].parameters, "", parameters)?;
        } else if let Some(deeper) = value.mapping() {
            // A namespace, or a node.
            let separator = if pattern.is_empty() || pattern.ends_with('/') { "" } else { "/" };
            collect(sections, &format!("{pattern}{separator}{name}"), deeper)?;
        } else {
            let below = if pattern.is_empty() { String::new() } else { format!(" below `{pattern}`") };
            return fail(
                key.line,
                format!("`{name}`{below}: parameters belong below a node's `ros__parameters:`"),
            );
        }
    }
    Ok(())
}

fn flatten(
    into: &mut Vec<(String, Value, usize)>,
    prefix: &str,
    entries: &[(Yaml, Yaml)],
) -> Result<(), YamlError> {
    for (key, value) in entries {
        let key_text = key_of(key, "a parameter name")?;
        let name = if prefix.is_empty() { key_text } else { format!("{prefix}.{key_text}") };
        if let Content::Mapping(group) = &value.content {
            flatten(into, &name, group)?;
        } else {
            let value = ros::value(value)
                .map_err(|e| YamlError { reason: format!("parameter `{name}`: {}", e.reason), ..e })?;
            into.push((name, value, key.line));
        }
    }
    Ok(())
}

/// What rcl demands of a node's name in a parameter file.
fn valid_pattern(pattern: &str) -> Result<(), String> {
    let relative = pattern.strip_prefix('/').unwrap_or(pattern);
    for token in relative.split('/') {
        if !matches!(token, "*" | "**") {
            crate::names::token(token).map_err(|why| format!("node name `{pattern}`: {why}"))?;
        }
    }
    Ok(())
}

/// What the sections say to one node.
fn speaking_to(sections: &[Section], path: &Path, full_name: &str) -> Contents {
    let mut contents = Contents::default();
    let mut exact = Vec::new();
    for section in sections {
        let Some(reach) = matches(&section.pattern, full_name) else {
            contents.remarks.extend(meant_for(section, path, full_name));
            continue;
        };
        for (index, (name, value, line)) in section.parameters.iter().enumerate() {
            if let Some((_, _, first)) = section.parameters[..index].iter().find(|(n, _, _)| n == name) {
                contents.remarks.push(format!(
                    "parameter file {}: `{name}` of `{}` stands in line {first} and in line {line}; as in ROS 2 the last holds",
                    path.display(),
                    section.pattern
                ));
            }
            let into = if reach == Reach::Exact { &mut exact } else { &mut contents.assignments };
            into.push(Assignment { name: name.clone(), value: value.clone(), reach, line: Some(*line) });
        }
    }
    contents.assignments.append(&mut exact);
    contents
}

/// A section with the node's bare name, which users expect to hold in every namespace.
fn meant_for(section: &Section, path: &Path, full_name: &str) -> Option<String> {
    let name = full_name.rsplit('/').next()?;
    (section.pattern == name).then(|| {
        format!(
            "parameter file {}: `{name}:` is the node /{name} alone, not {full_name}; as in ROS 2, write `/**/{name}:` for any namespace",
            path.display()
        )
    })
}

/// Whether a section's pattern speaks to a node: `**` is any number of names, `*` is one.
fn matches(pattern: &str, full_name: &str) -> Option<Reach> {
    let names: Vec<&str> = full_name.trim_matches('/').split('/').collect();
    let parts: Vec<&str> = pattern.strip_prefix('/').unwrap_or(pattern).split('/').collect();
    fn fits(parts: &[&str], names: &[&str]) -> bool {
        match (parts.split_first(), names.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=names.len()).any(|n| fits(rest, &names[n..])),
            (Some((part, rest)), Some((name, names))) => (*part == "*" || part == name) && fits(rest, names),
            _ => false,
        }
    }
    let wild = |part: &&str| part.contains('*');
    fits(&parts, &names).then(|| {
        if !parts.iter().any(wild) {
            Reach::Exact
        } else if parts.last().is_some_and(wild) {
            Reach::Wildcard
        } else {
            Reach::Named
        }
    })
}

/// The value in `name:=value`, read as rcl does.
///
/// # Errors
/// When it is no value of a parameter.
pub fn value_of_text(text: &str) -> Result<Value, YamlError> {
    ros::value_of_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str, node: &str) -> Contents {
        parse(text.as_bytes(), Path::new("f.yaml"), node).unwrap()
    }

    fn of(text: &str, node: &str, name: &str) -> Option<Value> {
        let contents = contents(text, node);
        contents.assignments.into_iter().rev().find(|a| a.name == name).map(|a| a.value)
    }

    const FILE: &str = "
/**:
  ros__parameters: {use_sim_time: true, rate: 5}
/**/supervisor:
  ros__parameters:
    envelope:
      position_m: 0.6
    rate: 100
drone_1:
  guide:
    ros__parameters: {gain: [1.0, 2.0]}
";

    #[test]
    fn sections_speak_to_those_whom_they_name() {
        let assignments = contents(FILE, "/drone_0/supervisor").assignments;
        let told: Vec<_> =
            assignments.iter().map(|a| (a.name.as_str(), a.value.clone(), a.reach, a.line)).collect();
        assert_eq!(
            told,
            [
                ("use_sim_time", Value::Bool(true), Reach::Wildcard, Some(3)),
                ("rate", Value::Integer(5), Reach::Wildcard, Some(3)),
                ("envelope.position_m", Value::Float(0.6), Reach::Named, Some(7)),
                ("rate", Value::Integer(100), Reach::Named, Some(8)),
            ]
        );
        assert_eq!(of(FILE, "/drone_1/guide", "gain"), Some(Value::Floats(vec![1.0, 2.0])));
        assert_eq!(contents(FILE, "/drone_2/guide").assignments.len(), 2);
        assert_eq!(of(FILE, "/supervisor", "rate"), Some(Value::Integer(100)));
    }

    #[test]
    fn an_exact_name_beats_wildcards_and_bare_names_wherever_it_stands() {
        let exact = "/drone_0/supervisor: {ros__parameters: {x: 1}}\n";
        for other in ["/**", "/*/supervisor", "/**/supervisor", "/drone_0/*", "supervisor", "'**'"] {
            let other = format!("{other}: {{ros__parameters: {{x: 2}}}}\n");
            for text in [format!("{exact}{other}"), format!("{other}{exact}")] {
                assert_eq!(of(&text, "/drone_0/supervisor", "x"), Some(Value::Integer(1)), "{text}");
            }
        }
    }

    #[test]
    fn a_bare_name_is_the_root_namespace_and_says_so() {
        let text = "supervisor: {ros__parameters: {x: 1}}\n";
        assert_eq!(of(text, "/supervisor", "x"), Some(Value::Integer(1)));
        let contents = contents(text, "/drone_0/supervisor");
        assert!(contents.assignments.is_empty());
        assert!(contents.remarks[0].contains("`/**/supervisor:`"), "{:?}", contents.remarks);
    }

    #[test]
    fn wildcards_match_as_in_rclcpp() {
        for (pattern, node, fits) in [
            ("/**", "/a", true),
            ("/**", "/x/y/a", true),
            ("**", "/x/a", true),
            ("/*", "/a", true),
            ("/*", "/x/a", false),
            ("/*/a", "/x/a", true),
            ("/*/a", "/a", false),
            ("/*/a", "/x/y/a", false),
            ("/**/a", "/a", true),
            ("/**/a", "/x/y/a", true),
            ("/x/*", "/x/a", true),
            ("/x/**", "/x/y/a", true),
            ("a", "/a", true),
            ("a", "/x/a", false),
            ("x/a", "/x/a", true),
        ] {
            assert_eq!(matches(pattern, node).is_some(), fits, "{pattern} {node}");
        }
    }

    #[test]
    fn what_stands_twice_is_said() {
        let text = "a:\n  ros__parameters:\n    x: 1\na: {ros__parameters: {x: 2, y: 3}}\n";
        let contents = contents(text, "/a");
        assert_eq!(of(text, "/a", "x"), Some(Value::Integer(2)));
        assert!(contents.remarks[0].contains("line 3 and in line 4"), "{:?}", contents.remarks);
        assert_eq!(
            of("a: {ros__parameters: {x: 1}}\n---\na: {ros__parameters: {y: 2}}", "/a", "y"),
            Some(Value::Integer(2))
        );
    }

    #[test]
    fn another_layout_is_named_with_its_line() {
        for (text, word) in [
            ("[3]", "ros__parameters"),
            ("a: {b: 1}", "ros__parameters"),
            ("a:\n  ros__parameters:\n    x: {y: }", "line 3: parameter `x.y`: there is no value"),
            ("a: [", "f.yaml"),
            ("ros__parameters: {x: 1}", "no node name"),
            ("a:\n  ros__parameters:\n", "names and values"),
            ("a-1: {ros__parameters: {x: 1}}", "`a-1`"),
            ("a: {ros__parameters: {x: &x 1, y: *x}}", "aliases"),
            ("c: &c {ros__parameters: {x: 1}}\na: {<<: *c}", "ROS 2 takes no"),
            ("other: {ros__parameters: {x: [1, two]}}", "one type"),
        ] {
            let error = parse(text.as_bytes(), Path::new("f.yaml"), "/a").unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
