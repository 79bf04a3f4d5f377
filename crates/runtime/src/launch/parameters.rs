//! `param` of a node: files, values, and groups of values.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    LaunchError,
    body::{Body, Place},
    scope::{Scope, truth},
    template::Part,
};
use crate::{
    args::Setting,
    parameter::Value,
    yaml::{
        self, Aliases, Scalar, Style, Yaml,
        python::{self, Native},
        ros,
    },
};

/// Of files that were written for nodes.
static COUNT: AtomicUsize = AtomicUsize::new(0);

const KEYS: [&str; 6] = ["name", "value", "type", "from", "allow_substs", "param"];

/// All parameters of a node, in order.
pub fn settings(body: &Body<'_>, scope: &mut Scope) -> Result<Vec<Setting>, LaunchError> {
    let mut all = Vec::new();
    for entry in body.list("param", &KEYS)? {
        if entry.get("from").is_some() {
            for key in ["name", "value", "type", "param"] {
                if entry.get(key).is_some() {
                    return entry.place.fail(format!("`from` and `{key}` exclude each other"));
                }
            }
            all.push(file(&entry, scope)?);
        } else {
            if entry.get("allow_substs").is_some() {
                return entry.place.fail("`allow_substs` goes with `from` only");
            }
            values("", &entry, scope, &mut all)?;
        }
    }
    Ok(all)
}

fn file(entry: &Body<'_>, scope: &mut Scope) -> Result<Setting, LaunchError> {
    let place = entry.at("from");
    let path = PathBuf::from(scope.perform(&entry.required("from")?, &place)?);
    if !path.is_file() {
        return place.fail(format!("from {}: there is no such file", path.display()));
    }
    let substituted = match entry.get("allow_substs").and_then(Yaml::scalar).map(python::resolve) {
        None => false,
        Some(Native::Bool(value)) => value,
        Some(_) => {
            let place = entry.at("allow_substs");
            let text = scope.perform(&entry.required("allow_substs")?, &place)?;
            truth(&text).or_else(|why| place.fail(format!("allow_substs: {why}")))?
        }
    };
    if !substituted {
        return Ok(Setting::File(path));
    }
    let bytes = std::fs::read(&path).map_err(|source| LaunchError::Io { path: path.clone(), source })?;
    let text = yaml::decode(&bytes).or_else(|why| place.fail(format!("from {}: {why}", path.display())))?;
    let template = super::template::parse(text)
        .or_else(|why| place.fail(format!("from {}, with allow_substs: {why}", path.display())))?;
    if !template.iter().any(|part| matches!(part, Part::Call { .. })) && !text.contains('\\') {
        return Ok(Setting::File(path));
    }
    // As in ROS 2 the node gets a file of its own.
    let text = scope.perform(&template, &place)?;
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let own = std::env::temp_dir().join(format!(
        "launch_params_{}_{}_{stem}.yaml",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::write(&own, text).map_err(|source| LaunchError::Io { path: own.clone(), source })?;
    Ok(Setting::File(own))
}

fn values(
    prefix: &str,
    entry: &Body<'_>,
    scope: &mut Scope,
    into: &mut Vec<Setting>,
) -> Result<(), LaunchError> {
    if entry.get("name").is_none() {
        return entry.place.fail("`name` or `from` is missing");
    }
    let own = scope.perform(&entry.required("name")?, &entry.at("name"))?;
    let name = if prefix.is_empty() { own } else { format!("{prefix}.{own}") };
    let place = Place { what: format!("{} {name}", entry.place.what), ..entry.at("value") };
    match (entry.get("value"), entry.get("param")) {
        (Some(_), Some(_)) => place.fail("`value` and `param` exclude each other"),
        (None, None) => place.fail("`value`, or `param` below it, is missing"),
        (None, Some(_)) if entry.get("type").is_some() => place.fail("`type` goes with `value` only"),
        (None, Some(_)) => {
            for inner in entry.list("param", &KEYS)? {
                if inner.get("from").is_some() {
                    return inner.place.fail("`from` cannot stand below another parameter");
                }
                values(&name, &inner, scope, into)?;
            }
            Ok(())
        }
        (Some(value), None) => {
            let kind = entry.text("type")?;
            let value = typed(value, kind.as_deref(), scope, &place)?;
            into.push(Setting::Value(name, value));
            Ok(())
        }
    }
}

/// A value of Python's, which `ros2 launch` writes into a parameter file.
fn typed(
    value: &Yaml,
    kind: Option<&str>,
    scope: &mut Scope,
    place: &Place<'_>,
) -> Result<Value, LaunchError> {
    let (element, list) = match kind {
        None | Some("yaml") => (None, None),
        Some(kind @ ("str" | "bool" | "int" | "float")) => (Some(kind), Some(false)),
        Some("list_of_str") => (Some("str"), Some(true)),
        Some("list_of_bool") => (Some("bool"), Some(true)),
        Some("list_of_int") => (Some("int"), Some(true)),
        Some("list_of_float") => (Some("float"), Some(true)),
        Some(other) => {
            return place.fail(format!(
                "type `{other}` is not known; there are: str, bool, int, float, list_of_str, list_of_bool, list_of_int, list_of_float, yaml"
            ));
        }
    };
    match &value.content {
        yaml::Content::Scalar(_) if list == Some(true) => {
            place.fail(format!("type {}: a list is expected, [a, b]", kind.unwrap_or_default()))
        }
        yaml::Content::Scalar(scalar) => {
            let native = one(scalar, element, scope, place)?;
            match native {
                One::Native(native) => scalar_value(native, place),
                One::Yaml(text) => from_text(&text, place),
            }
        }
        yaml::Content::Sequence(_) if list == Some(false) => {
            place.fail(format!("type {}: a single value is expected", kind.unwrap_or_default()))
        }
        yaml::Content::Sequence(items) => {
            let mut natives = Vec::new();
            for item in items {
                let Some(scalar) = item.scalar() else {
                    return place.fail(format!("{} in a list", item.kind()));
                };
                natives.push(match one(scalar, element, scope, place)? {
                    One::Native(native) => native,
                    One::Yaml(text) => coerced(&text),
                });
            }
            list_value(natives, place)
        }
        yaml::Content::Mapping(_) => {
            place.fail("a value is expected, not a mapping; parameters in groups are `param` below `param`")
        }
    }
}

/// What a scalar gives.
enum One {
    /// A value.
    Native(Native),
    /// The text of a substitution, which is read as YAML.
    Yaml(String),
}

fn one(
    scalar: &Scalar,
    kind: Option<&str>,
    scope: &mut Scope,
    place: &Place<'_>,
) -> Result<One, LaunchError> {
    let native = python::resolve(scalar);
    let wrong =
        |got: &str| place.fail(format!("type {}: `{}` is {got}", kind.unwrap_or_default(), scalar.text));
    let Native::Str(text) = native else {
        return match (kind, &native) {
            (None, Native::Null | Native::Other(_)) => {
                place.fail(format!("`{}` is {}, and a value is expected", scalar.text, native.type_name()))
            }
            (None, _)
            | (Some("bool"), Native::Bool(_))
            | (Some("int"), Native::Int(_))
            | (Some("float"), Native::Float(_)) => Ok(One::Native(native)),
            (Some(_), _) => wrong(native.type_name()),
        };
    };
    let template = place.template(&text)?;
    let plain = match template.as_slice() {
        [] => Some(String::new()),
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    };
    match (plain, kind) {
        (Some(text), None | Some("str")) => Ok(One::Native(Native::Str(text))),
        (Some(_), Some(_)) => wrong("a text; write it without quotes"),
        (None, kind) => {
            let text = scope.perform(&template, place)?;
            let native = match kind {
                None => return Ok(One::Yaml(text)),
                Some("str") => Native::Str(text),
                Some("int") => match text.trim().replace('_', "").parse() {
                    Ok(value) => Native::Int(value),
                    Err(_) => return place.fail(format!("type int: `{text}` is no whole number")),
                },
                Some("float") => match text.trim().parse() {
                    Ok(value) => Native::Float(value),
                    Err(_) => return place.fail(format!("type float: `{text}` is no number")),
                },
                Some(_) => Native::Bool(truth(&text).or_else(|why| place.fail(why))?),
            };
            Ok(One::Native(native))
        }
    }
}

/// A text as YAML has it: one element of a list.
fn coerced(text: &str) -> Native {
    if text.is_empty() { Native::Str(String::new()) } else { python::plain(text) }
}

/// The text of a substitution as YAML has it.
fn from_text(text: &str, place: &Place<'_>) -> Result<Value, LaunchError> {
    if text.is_empty() {
        return Ok(Value::Text(String::new()));
    }
    let documents = yaml::documents(text, Aliases::Followed)
        .or_else(|why| place.fail(format!("`{text}` is no value: {why}; for a text add `type: str`")))?;
    let [document] = documents.as_slice() else {
        return place.fail(format!("`{text}` is no single value"));
    };
    match &document.content {
        yaml::Content::Scalar(scalar) => scalar_value(python::resolve(scalar), place),
        yaml::Content::Sequence(items) => {
            let natives: Option<Vec<Native>> =
                items.iter().map(|i| i.scalar().map(python::resolve)).collect();
            match natives {
                Some(natives) => list_value(natives, place),
                None => place.fail(format!("`{text}`: a list of single values is expected")),
            }
        }
        yaml::Content::Mapping(_) => {
            place.fail(format!("`{text}` is a mapping, and a value is expected; for a text add `type: str`"))
        }
    }
}

fn scalar_value(native: Native, place: &Place<'_>) -> Result<Value, LaunchError> {
    Ok(match native {
        Native::Bool(v) => Value::Bool(v),
        Native::Int(v) => Value::Integer(v),
        Native::Float(v) => Value::Float(v),
        Native::Str(text) => written(&text),
        other => {
            return place.fail(format!("the value is {}; for a text add `type: str`", other.type_name()));
        }
    })
}

/// A text is written without quotes where YAML 1.1 takes it for a text anyway, and rcl takes some of those for a number or
/// a boolean (`1e2`, `y`).
fn written(text: &str) -> Value {
    let scalar = Scalar { text: text.to_owned(), style: Style::Plain, tag: None };
    let bare = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '_'))
        && matches!(python::plain(text), Native::Str(_));
    if bare { ros::scalar_value(&scalar) } else { Value::Text(text.to_owned()) }
}

fn list_value(natives: Vec<Native>, place: &Place<'_>) -> Result<Value, LaunchError> {
    let mixed = || {
        let types: Vec<&str> = natives.iter().map(Native::type_name).collect();
        place.fail(format!(
            "the elements of a list must be of one type, and these are: {} (what is in quotes is a text; write 1.0 for 1 among real numbers)",
            types.join(", ")
        ))
    };
    match natives.first() {
        None => Ok(Value::Texts(Vec::new())),
        Some(Native::Bool(_)) => {
            let all: Option<_> =
                natives.iter().map(|n| if let Native::Bool(v) = n { Some(*v) } else { None }).collect();
            all.map(Value::Bools).map_or_else(mixed, Ok)
        }
        Some(Native::Int(_)) => {
            let all: Option<_> =
                natives.iter().map(|n| if let Native::Int(v) = n { Some(*v) } else { None }).collect();
            all.map(Value::Integers).map_or_else(mixed, Ok)
        }
        Some(Native::Float(_)) => {
            let all: Option<_> =
                natives.iter().map(|n| if let Native::Float(v) = n { Some(*v) } else { None }).collect();
            all.map(Value::Floats).map_or_else(mixed, Ok)
        }
        Some(Native::Str(_)) => {
            let all: Option<_> =
                natives.iter().map(|n| if let Native::Str(v) = n { Some(v.clone()) } else { None }).collect();
            all.map(Value::Texts).map_or_else(mixed, Ok)
        }
        Some(_) => mixed(),
    }
}
