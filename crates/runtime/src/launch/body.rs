//! What stands below an action's name: its attributes, each of the type that `ros2 launch` wants.

use std::path::Path;

use super::{
    LaunchError,
    template::{self, Template},
};
use crate::yaml::{
    self, Content, Yaml,
    python::{self, Native},
};

/// Where in which file something stands, for errors.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub path: &'a Path,
    pub line: usize,
    /// The action.
    pub what: String,
}

impl Place<'_> {
    pub fn fail<T>(&self, reason: impl std::fmt::Display) -> Result<T, LaunchError> {
        let what = if self.what.is_empty() { String::new() } else { format!("{}: ", self.what) };
        Err(LaunchError::Layout {
            path: self.path.to_owned(),
            line: Some(self.line),
            reason: format!("{what}{reason}"),
        })
    }

    pub fn template(&self, text: &str) -> Result<Template, LaunchError> {
        template::parse(text).or_else(|why| self.fail(format!("`{text}`: {why}")))
    }
}

/// A mapping whose keys are all known, each there once.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    pub place: Place<'a>,
    entries: Vec<(&'a str, &'a Yaml)>,
}

impl<'a> Body<'a> {
    /// Refuses keys that are not known, with the nearest one that is, and those that stand twice.
    pub fn new(place: &Place<'a>, yaml: &'a Yaml, known: &[&str]) -> Result<Self, LaunchError> {
        let Content::Mapping(all) = &yaml.content else {
            return place.fail(format!("expected attributes, `name: value`, below it, not {}", yaml.kind()));
        };
        let Some(all) = merged(all) else {
            return place.fail("`<<` must name a mapping, or a list of mappings");
        };
        let mut entries: Vec<(&str, &Yaml)> = Vec::new();
        for (key, value) in all {
            let Some(text) = key.scalar().map(|s| s.text.as_str()) else {
                return place.fail("the name of an attribute must be a text");
            };
            let here = Place { line: key.line, ..place.clone() };
            if entries.iter().any(|(before, _)| *before == text) {
                return here.fail(format!("`{text}` stands twice; only one would hold"));
            }
            if !known.contains(&text) {
                let nearest = known
                    .iter()
                    .map(|k| (strsim::jaro_winkler(k, text), *k))
                    .filter(|(similarity, _)| *similarity > 0.7)
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, k)| format!("; did you mean `{k}`?"))
                    .unwrap_or_else(|| format!("; there are: {}", known.join(", ")));
                return here.fail(format!("`{text}` is not known{nearest}"));
            }
            entries.push((text, value));
        }
        Ok(Self { place: place.clone(), entries })
    }

    pub fn get(&self, key: &str) -> Option<&'a Yaml> {
        self.entries.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The place of an attribute.
    pub fn at(&self, key: &str) -> Place<'a> {
        Place { line: self.get(key).map_or(self.place.line, |v| v.line), ..self.place.clone() }
    }

    fn native(&self, key: &str) -> Result<Option<Native>, LaunchError> {
        match self.get(key) {
            None => Ok(None),
            Some(yaml) => match yaml.scalar() {
                Some(scalar) => Ok(Some(python::resolve(scalar))),
                None => self.at(key).fail(format!("`{key}` must be a single value, not {}", yaml.kind())),
            },
        }
    }

    /// A text as it stands.
    pub fn text(&self, key: &str) -> Result<Option<String>, LaunchError> {
        match self.native(key)? {
            None => Ok(None),
            Some(Native::Str(text)) => Ok(Some(text)),
            Some(Native::Null) => self.at(key).fail(format!("`{key}` has no value; an empty text is \"\"")),
            Some(other) => {
                let text = self.get(key).and_then(Yaml::scalar).map(|s| s.text.as_str()).unwrap_or_default();
                self.at(key).fail(format!(
                    "`{key}` must be a text, and {text} is {}: put it in quotes, \"{text}\"",
                    other.type_name()
                ))
            }
        }
    }

    /// A text with substitutions.
    pub fn template(&self, key: &str) -> Result<Option<Template>, LaunchError> {
        self.text(key)?.map(|text| self.at(key).template(&text)).transpose()
    }

    /// As [`Self::template`]; it must be there.
    pub fn required(&self, key: &str) -> Result<Template, LaunchError> {
        match self.template(key)? {
            Some(template) => Ok(template),
            None => self.place.fail(format!("`{key}` is missing")),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, LaunchError> {
        match self.native(key)? {
            None => Ok(None),
            Some(Native::Bool(value)) => Ok(Some(value)),
            Some(_) => self.at(key).fail(format!("`{key}` must be true or false, without quotes")),
        }
    }

    /// A real number that is not negative.
    pub fn seconds(&self, key: &str) -> Result<Option<f64>, LaunchError> {
        match self.native(key)? {
            None => Ok(None),
            Some(Native::Float(value)) if (0.0..=86_400.0).contains(&value) => Ok(Some(value)),
            Some(Native::Int(value)) => {
                self.at(key).fail(format!("`{key}` must be a real number: {value}.0"))
            }
            Some(_) => self.at(key).fail(format!(
                "`{key}` must be a number of seconds with a point and without quotes, not negative, e.g. 2.0"
            )),
        }
    }

    /// A whole number that is not negative.
    pub fn count(&self, key: &str) -> Result<Option<u32>, LaunchError> {
        match self.native(key)? {
            None => Ok(None),
            Some(Native::Int(value)) => match u32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) if value < 0 => Ok(None),
                Err(_) => self.at(key).fail(format!("`{key}` = {value} is too large")),
            },
            Some(_) => self.at(key).fail(format!("`{key}` must be a whole number, without quotes")),
        }
    }

    /// A list of mappings with these keys.
    pub fn list(&self, key: &str, known: &[&str]) -> Result<Vec<Body<'a>>, LaunchError> {
        let Some(yaml) = self.get(key) else { return Ok(Vec::new()) };
        let Some(items) = yaml.sequence() else {
            return self.at(key).fail(format!("`{key}` must be a list, `- name: value` below it"));
        };
        if items.is_empty() {
            return self
                .at(key)
                .fail(format!("`{key}` is an empty list, which `ros2 launch` refuses; remove it"));
        }
        let what = format!("{}, {key}", self.place.what);
        items
            .iter()
            .map(|item| {
                let place = Place { path: self.place.path, line: item.line, what: what.clone() };
                Body::new(&place, item, known)
            })
            .collect()
    }
}

/// The entries of a mapping, with those that `<<` brings in behind its own: what stands there itself holds.
fn merged(entries: &[(Yaml, Yaml)]) -> Option<Vec<(&Yaml, &Yaml)>> {
    let is_merge = |key: &Yaml| key.scalar().is_some_and(|k| k.text == "<<" && k.style == yaml::Style::Plain);
    let mut all: Vec<(&Yaml, &Yaml)> =
        entries.iter().filter(|(k, _)| !is_merge(k)).map(|(k, v)| (k, v)).collect();
    for (_, value) in entries.iter().filter(|(k, _)| is_merge(k)) {
        let sources: Vec<&Yaml> = match &value.content {
            Content::Mapping(_) => vec![value],
            Content::Sequence(items) => items.iter().collect(),
            Content::Scalar(_) => return None,
        };
        for source in sources {
            for (key, value) in merged(source.mapping()?)? {
                let text = |y: &Yaml| y.scalar().map(|s| s.text.clone());
                if !all.iter().any(|(k, _)| text(k) == text(key)) {
                    all.push((key, value));
                }
            }
        }
    }
    Some(all)
}
