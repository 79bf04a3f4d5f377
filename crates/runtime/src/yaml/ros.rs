//! What a scalar or a list is in a parameter file and behind `-p name:=`: as rcl's parameter parser has it.

use super::{Content, Scalar, Style, Yaml, YamlError, numbers};
use crate::parameter::Value;

const TRUE: [&str; 11] = ["Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"];
const FALSE: [&str; 11] = ["N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"];
const TEXT_TAG: &str = "tag:yaml.org,2002:str";

/// The value of a parameter.
///
/// # Errors
/// For nothing, for a mapping, for lists in lists and lists of several types.
pub fn value(yaml: &Yaml) -> Result<Value, YamlError> {
    let fail = |line: usize, reason: String| Err(YamlError { line: Some(line), reason });
    match &yaml.content {
        Content::Scalar(scalar) if scalar.style == Style::Plain && scalar.text.is_empty() => {
            fail(yaml.line, "there is no value".to_owned())
        }
        Content::Scalar(scalar) => Ok(scalar_value(scalar)),
        Content::Sequence(items) => {
            let mut list = List::Empty;
            for item in items {
                let Content::Scalar(scalar) = &item.content else {
                    return fail(item.line, format!("{} in a list", item.kind()));
                };
                if scalar.style == Style::Plain && scalar.text.is_empty() {
                    return fail(item.line, "an element of the list has no value".to_owned());
                }
                if let Err((had, got)) = list.push(scalar_value(scalar)) {
                    let reason = format!(
                        "the elements of a list must be of one type, as ROS 2 wants them: {got} follows {had} (write 1.0 for 1 among real numbers)"
                    );
                    return fail(item.line, reason);
                }
            }
            Ok(list.into())
        }
        Content::Mapping(_) => fail(yaml.line, "a value is expected, not a mapping".to_owned()),
    }
}

/// The value in `name:=value`.
///
/// # Errors
/// As [`value`]; and when it is no YAML.
pub fn value_of_text(text: &str) -> Result<Value, YamlError> {
    let documents = super::documents(text, super::Aliases::Refused)?;
    match documents.as_slice() {
        [one] => value(one).map_err(|e| YamlError { line: None, ..e }),
        [] => Err(YamlError { line: None, reason: "there is no value".to_owned() }),
        _ => Err(YamlError { line: None, reason: "more than one value".to_owned() }),
    }
}

/// What a scalar is.
pub fn scalar_value(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if scalar.tag.as_deref() == Some(TEXT_TAG) || scalar.style == Style::Quoted {
        return Value::Text(text.to_owned());
    }
    if TRUE.contains(&text) {
        return Value::Bool(true);
    }
    if FALSE.contains(&text) {
        return Value::Bool(false);
    }
    if let Some(whole) = numbers::whole(text) {
        return Value::Integer(whole);
    }
    match text.trim_start_matches(['+', '-']) {
        ".nan" | ".NaN" | ".NAN" if !text.starts_with(['+', '-']) => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" if text.len() <= 5 => {
            return Value::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        _ => {}
    }
    numbers::real(text).map_or_else(|| Value::Text(text.to_owned()), Value::Float)
}

/// A list of which every element has the type of the first.
enum List {
    Empty,
    Bools(Vec<bool>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl List {
    /// The types of the list and of what does not fit, in words.
    fn push(&mut self, value: Value) -> Result<(), (&'static str, &'static str)> {
        match (&mut *self, value) {
            (Self::Empty, Value::Bool(v)) => *self = Self::Bools(vec![v]),
            (Self::Empty, Value::Integer(v)) => *self = Self::Integers(vec![v]),
            (Self::Empty, Value::Float(v)) => *self = Self::Floats(vec![v]),
            (Self::Empty, Value::Text(v)) => *self = Self::Texts(vec![v]),
            (Self::Bools(all), Value::Bool(v)) => all.push(v),
            (Self::Integers(all), Value::Integer(v)) => all.push(v),
            (Self::Floats(all), Value::Float(v)) => all.push(v),
            (Self::Texts(all), Value::Text(v)) => all.push(v),
            (had, value) => {
                let had = match had {
                    Self::Empty => "nothing",
                    Self::Bools(_) => "a boolean",
                    Self::Integers(_) => "a whole number",
                    Self::Floats(_) => "a real number",
                    Self::Texts(_) => "a text",
                };
                let got = match value {
                    Value::Float(_) => "a real number",
                    other => other.type_name(),
                };
                return Err((had, got));
            }
        }
        Ok(())
    }
}

impl From<List> for Value {
    fn from(list: List) -> Self {
        match list {
            // An empty list has no type; it is taken as the declared one.
            List::Empty => Self::Texts(Vec::new()),
            List::Bools(v) => Self::Bools(v),
            List::Integers(v) => Self::Integers(v),
            List::Floats(v) => Self::Floats(v),
            List::Texts(v) => Self::Texts(v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Value {
        value_of_text(text).unwrap()
    }

    #[test]
    fn scalars_are_what_rcl_takes_them_for() {
        for yes in ["yes", "Y", "on", "True"] {
            assert_eq!(of(yes), Value::Bool(true), "{yes}");
        }
        for no in ["no", "n", "OFF", "false"] {
            assert_eq!(of(no), Value::Bool(false), "{no}");
        }
        assert_eq!(of("0x10"), Value::Integer(16));
        assert_eq!(of("010"), Value::Integer(8));
        assert_eq!(of("1e2"), Value::Float(100.0));
        assert_eq!(of("-.inf"), Value::Float(f64::NEG_INFINITY));
        assert_eq!(of("!!str 1.16"), Value::Text("1.16".into()));
        assert_eq!(of("'1.16'"), Value::Text("1.16".into()));
        assert_eq!(of("~"), Value::Text("~".into()));
        assert_eq!(of("tRue"), Value::Text("tRue".into()));
        assert_eq!(of("1_000"), Value::Text("1_000".into()));
    }

    #[test]
    fn lists_are_of_one_type() {
        assert_eq!(of("[1, 2]"), Value::Integers(vec![1, 2]));
        assert_eq!(of("[yes, no]"), Value::Bools(vec![true, false]));
        assert_eq!(of("[]"), Value::Texts(Vec::new()));
        for (text, word) in [
            ("[0, 0.0]", "a real number follows a whole number"),
            ("[a, 1]", "a whole number follows a text"),
            ("[[1]]", "a list in a list"),
            ("[1, ]x", ""),
            ("", "no value"),
            ("{a: 1}", "mapping"),
        ] {
            let error = value_of_text(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
