//! Parameter files and values as ROS 2's own parser reads them: the same verdict, the same values.
//!
//! With a Python beside which the wheels `ros-jazzy-rcl-yaml-param-parser` are installed:
//! `SPIKEWING_ROS_PYTHON=…/python cargo test -p spikewing-runtime --test rcl_parameters -- --ignored`.
//! What the real parser said is kept in `tests/data/parameter_files.json` (written anew with `SPIKEWING_UPDATE_ORACLE=1`), so that
//! the comparison is made on every machine.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value as Json, json};
use spikewing_runtime::{parameter::Value, parameter_file, yaml};

/// Cases in which we differ on purpose: the file, and why.
const STRICTER: [(&str, &str); 2] = [
    ("utf16.yaml", "libyaml would read it, launch files and editors would not: it is refused by name"),
    ("list_in_list.yaml", "rcl loses the outer list's elements without a word"),
];

/// Values behind `-p name:=`.
const VALUES: [&str; 40] = [
    "1",
    "-1",
    "+1",
    "010",
    "08",
    "0x10",
    "0X1f",
    "1_0",
    "1.5",
    ".5",
    "5.",
    "+.5",
    "1e2",
    "1E-3",
    "3.E1",
    "1e400",
    "1e-400",
    "0x1.8p3",
    ".inf",
    "-.inf",
    "+.Inf",
    ".nan",
    "inf",
    "nan",
    "Infinity",
    "yes",
    "Y",
    "n",
    "OFF",
    "tRue",
    "~",
    "null",
    "",
    "'1'",
    "\"yes\"",
    "[1, 2]",
    "[1, 2.0]",
    "[a, b]",
    "[]",
    "!!str 1.16",
];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(data().join("parameter_files")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 40, "{}", files.len());
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn number(v: f64) -> Json {
    if v.is_finite() { json!(v) } else { json!(v.to_string().to_lowercase()) }
}

fn told(value: &Value) -> Json {
    match value {
        Value::Bool(v) => json!({"bool": v}),
        Value::Integer(v) => json!({"integer": v}),
        Value::Float(v) => json!({"double": number(*v)}),
        Value::Text(v) => json!({"string": v}),
        Value::Bools(v) => json!({"bools": v}),
        Value::Integers(v) => json!({"integers": v}),
        Value::Floats(v) => json!({"doubles": v.iter().map(|v| number(*v)).collect::<Vec<_>>()}),
        Value::Texts(v) if v.is_empty() => json!({"empty": true}),
        Value::Texts(v) => json!({"strings": v}),
    }
}

/// What we make of a file, in the form in which the oracle tells.
fn ours(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap();
    let Ok(sections) = yaml::decode(&bytes).and_then(parameter_file::sections) else { return Json::Null };
    let section = |s: &parameter_file::Section| {
        // rcl keeps a parameter at its first place, with its last value.
        let mut parameters: Vec<(String, Json)> = Vec::new();
        for (name, value, _) in &s.parameters {
            match parameters.iter_mut().find(|(n, _)| n == name) {
                Some((_, told_before)) => *told_before = told(value),
                None => parameters.push((name.clone(), told(value))),
            }
        }
        json!([s.pattern, parameters])
    };
    json!(sections.iter().map(section).collect::<Vec<_>>())
}

fn our_value(text: &str) -> Json {
    parameter_file::value_of_text(text).map_or(Json::Null, |v| json!([["/**", [["x", told(&v)]]]]))
}

fn compare(oracle: &Json) {
    for path in files() {
        let name = name(&path);
        let theirs = &oracle["files"][&name];
        if let Some((_, why)) = STRICTER.iter().find(|(file, _)| *file == name) {
            assert!(ours(&path).is_null() && !theirs.is_null(), "{name}: {why}");
        } else {
            assert_eq!(&ours(&path), theirs, "{name}");
        }
    }
    for text in VALUES {
        assert_eq!(our_value(text), oracle["values"][text], "-p x:={text}");
    }
}

fn kept() -> PathBuf {
    data().join("parameter_files.json")
}

#[test]
fn files_and_values_are_what_rcl_made_of_them() {
    let oracle: Json = serde_json::from_slice(&fs::read(kept()).unwrap()).unwrap();
    for path in files() {
        assert!(oracle["files"].get(name(&path)).is_some(), "{}: ask the oracle", path.display());
    }
    compare(&oracle);
}

#[test]
#[ignore = "needs the wheels of ROS 2 (SPIKEWING_ROS_PYTHON)"]
fn rcl_itself_makes_the_same_of_them() {
    let python = std::env::var("SPIKEWING_ROS_PYTHON").unwrap();
    let ask = |arguments: &[String]| -> Vec<Json> {
        let out = Command::new(&python).arg(data().join("rcl_parse.py")).args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let paths: Vec<String> = files().iter().map(|p| p.display().to_string()).collect();
    let read: serde_json::Map<String, Json> = files().iter().map(|p| name(p)).zip(ask(&paths)).collect();
    let mut arguments = vec!["-p".to_owned()];
    arguments.extend(VALUES.iter().map(|v| (*v).to_owned()));
    let values: serde_json::Map<String, Json> =
        VALUES.iter().map(|v| (*v).to_owned()).zip(ask(&arguments)).collect();
    let oracle = json!({"files": read, "values": values});
    if std::env::var_os("SPIKEWING_UPDATE_ORACLE").is_some() {
        fs::write(kept(), serde_json::to_string_pretty(&oracle).unwrap() + "\n").unwrap();
    }
    compare(&oracle);
}
