//! Parameters: declared once with type, default, range, unit and description; checked by name.

mod typed;

use std::{collections::BTreeMap, fmt};

pub use typed::{Parameter, Whole};

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A real number.
    Float(f64),
    /// Text.
    Text(String),
    /// Several booleans.
    Bools(Vec<bool>),
    /// Several whole numbers.
    Integers(Vec<i64>),
    /// Several real numbers.
    Floats(Vec<f64>),
    /// Several texts.
    Texts(Vec<String>),
}

impl Value {
    /// The type in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bools(_) => "a list of booleans",
            Self::Integers(_) => "a list of whole numbers",
            Self::Floats(_) => "a list of numbers",
            Self::Texts(_) => "a list of texts",
        }
    }

    /// As a parameter file or `-p name:=` has it, texts in quotes.
    pub fn to_yaml(&self) -> String {
        fn quoted(text: &str) -> String {
            let mut out = String::from("\"");
            for c in text.chars() {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    c if c.is_control() => out.push_str(&format!("\\U{:08x}", u32::from(c))),
                    c => out.push(c),
                }
            }
            out.push('"');
            out
        }
        fn real(v: &f64) -> String {
            match v {
                v if v.is_nan() => ".nan".to_owned(),
                v if v.is_infinite() => if *v < 0.0 { "-.inf" } else { ".inf" }.to_owned(),
                v => format!("{v:?}"),
            }
        }
        fn list<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
            format!("[{}]", items.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        match self {
            Self::Bool(v) => v.to_string(),
            Self::Integer(v) => v.to_string(),
            Self::Float(v) => real(v),
            Self::Text(v) => quoted(v),
            Self::Bools(v) => list(v, ToString::to_string),
            Self::Integers(v) => list(v, ToString::to_string),
            Self::Floats(v) => list(v, real),
            Self::Texts(v) => list(v, |t| quoted(t)),
        }
    }

    /// Whether it is a list without elements, which has no type of its own.
    fn is_empty_list(&self) -> bool {
        match self {
            Self::Bools(v) => v.is_empty(),
            Self::Integers(v) => v.is_empty(),
            Self::Floats(v) => v.is_empty(),
            Self::Texts(v) => v.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Integer(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Text(v) => write!(f, "{v}"),
            Self::Bools(_) | Self::Integers(_) | Self::Floats(_) | Self::Texts(_) => {
                f.write_str(&self.to_yaml())
            }
        }
    }
}

/// When a parameter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// Only at start.
    Fixed,
    /// At any time, through the parameter services.
    Dynamic,
}

/// What values a parameter takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Any of its type.
    Any,
    /// Numbers (each element of a list) from the first to the second, both included.
    Range(f64, f64),
    /// One of these texts.
    Choice(Vec<&'static str>),
}

/// One declared parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Name, dots between groups.
    pub name: &'static str,
    /// Default, which also fixes the type.
    pub default: Value,
    /// Values it takes.
    pub constraint: Constraint,
    /// Length that a list must have, if fixed.
    pub length: Option<usize>,
    /// Unit, e.g. `m`; empty: none.
    pub unit: &'static str,
    /// What it does, for `--help`, the README and the parameter services.
    pub description: &'static str,
    /// Whether it may change at run time.
    pub mutability: Mutability,
}

impl Declaration {
    fn new(name: &'static str, default: Value) -> Self {
        Self {
            name,
            default,
            constraint: Constraint::Any,
            length: None,
            unit: "",
            description: "",
            mutability: Mutability::Fixed,
        }
    }

    /// A real number.
    pub fn float(name: &'static str, default: f64) -> Self {
        Self::new(name, Value::Float(default))
    }

    /// A whole number.
    pub fn integer(name: &'static str, default: i64) -> Self {
        Self::new(name, Value::Integer(default))
    }

    /// A boolean.
    pub fn boolean(name: &'static str, default: bool) -> Self {
        Self::new(name, Value::Bool(default))
    }

    /// A text.
    pub fn text(name: &'static str, default: &str) -> Self {
        Self::new(name, Value::Text(default.to_owned()))
    }

    /// One text of several.
    pub fn choice(name: &'static str, default: &str, of: &'static [&'static str]) -> Self {
        let mut declaration = Self::text(name, default);
        declaration.constraint = Constraint::Choice(of.to_vec());
        declaration
    }

    /// A list of numbers with a fixed length.
    pub fn floats(name: &'static str, default: &[f64]) -> Self {
        let mut declaration = Self::new(name, Value::Floats(default.to_vec()));
        declaration.length = Some(default.len());
        declaration
    }

    /// A list of texts of any length.
    pub fn texts(name: &'static str, default: &[&str]) -> Self {
        Self::new(name, Value::Texts(default.iter().map(|&t| t.to_owned()).collect()))
    }

    /// Bounds a number, both ends included.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.constraint = Constraint::Range(low, high);
        self
    }

    /// Names the unit.
    pub fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Says what it does.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Lets it change at run time.
    pub fn dynamic(mut self) -> Self {
        self.mutability = Mutability::Dynamic;
        self
    }

    /// The value in the declared type, or why it is refused. Whole numbers are taken where real ones are declared, and an
    /// empty list is a list of the declared type.
    pub fn check(&self, value: Value) -> Result<Value, ParameterError> {
        let value = match (&self.default, value) {
            (Value::Float(_), Value::Integer(v)) => Value::Float(v as f64),
            (Value::Floats(_), Value::Integers(v)) => Value::Floats(v.iter().map(|v| *v as f64).collect()),
            (Value::Floats(_), value) if value.is_empty_list() => Value::Floats(Vec::new()),
            (Value::Texts(_), value) if value.is_empty_list() => Value::Texts(Vec::new()),
            (_, value) => value,
        };
        if std::mem::discriminant(&value) != std::mem::discriminant(&self.default) {
            return Err(ParameterError::Type {
                name: self.name.to_owned(),
                expected: self.default.type_name(),
                got: format!("{} ({}){}", value.type_name(), value.to_yaml(), mend(&self.default, &value)),
            });
        }
        if let (Some(length), Value::Floats(values)) = (self.length, &value)
            && values.len() != length
        {
            return Err(ParameterError::Length {
                name: self.name.to_owned(),
                expected: length,
                got: values.len(),
            });
        }
        let numbers: &[f64] = match &value {
            Value::Float(v) => std::slice::from_ref(v),
            Value::Integer(v) => &[*v as f64],
            Value::Floats(v) => v,
            _ => &[],
        };
        if let Some(bad) = numbers.iter().find(|v| !v.is_finite()) {
            return Err(ParameterError::NotFinite { name: self.name.to_owned(), got: *bad });
        }
        match (&self.constraint, &value) {
            (Constraint::Range(low, high), _) => {
                if let Some(&got) = numbers.iter().find(|v| !(*low..=*high).contains(*v)) {
                    return Err(ParameterError::Range {
                        name: self.name.to_owned(),
                        got,
                        low: *low,
                        high: *high,
                        unit: self.unit,
                    });
                }
            }
            (Constraint::Choice(of), Value::Text(text)) if !of.contains(&text.as_str()) => {
                return Err(ParameterError::Choice {
                    name: self.name.to_owned(),
                    got: text.clone(),
                    choices: of.join(", "),
                });
            }
            _ => {}
        }
        Ok(value)
    }
}

/// What to write instead of a value of another type.
fn mend(declared: &Value, got: &Value) -> String {
    match (declared, got) {
        (Value::Text(_), Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
            format!("; put it in quotes: '{}'", got.to_yaml())
        }
        (Value::Bool(_) | Value::Integer(_) | Value::Float(_), Value::Text(text))
            if !matches!(crate::parameter_file::value_of_text(text), Ok(Value::Text(_)) | Err(_)) =>
        {
            format!("; write it without quotes: {text}")
        }
        (Value::Texts(_), Value::Text(text)) => format!("; write a list: [{text}]"),
        _ => String::new(),
    }
}

/// Why a parameter is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// No such parameter.
    #[error("parameter `{name}` is not known{}", suggestion(.nearest.as_deref()))]
    Unknown {
        /// As given.
        name: String,
        /// The most similar declared name.
        nearest: Option<String>,
    },
    /// Of the wrong type.
    #[error("parameter `{name}` must be {expected}, got {got}")]
    Type {
        /// Parameter.
        name: String,
        /// Declared type.
        expected: &'static str,
        /// Type and value given.
        got: String,
    },
    /// Out of range.
    #[error("parameter `{name}` = {got} is out of range; it must be from {low} to {high} {unit}")]
    Range {
        /// Parameter.
        name: String,
        /// Value given.
        got: f64,
        /// Smallest.
        low: f64,
        /// Largest.
        high: f64,
        /// Unit.
        unit: &'static str,
    },
    /// Not one of the choices.
    #[error("parameter `{name}` = `{got}` is not one of: {choices}")]
    Choice {
        /// Parameter.
        name: String,
        /// Value given.
        got: String,
        /// What it may be.
        choices: String,
    },
    /// A list of the wrong length.
    #[error("parameter `{name}` must have {expected} elements, got {got}")]
    Length {
        /// Parameter.
        name: String,
        /// Declared length.
        expected: usize,
        /// Given length.
        got: usize,
    },
    /// NaN or infinite.
    #[error("parameter `{name}` = {got} is not a finite number, and must be")]
    NotFinite {
        /// Parameter.
        name: String,
        /// Value given.
        got: f64,
    },
    /// May not change at run time.
    #[error("parameter `{name}` can only be set at start; restart the node with it")]
    Fixed {
        /// Parameter.
        name: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

/// The resolved parameters of one node: every declared one has a valid value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    declarations: Vec<Declaration>,
    values: BTreeMap<String, Value>,
}

impl Parameters {
    /// All defaults.
    pub fn defaults(declarations: Vec<Declaration>) -> Self {
        let values = declarations.iter().map(|d| (d.name.to_owned(), d.default.clone())).collect();
        Self { declarations, values }
    }

    /// What was declared.
    pub fn declarations(&self) -> &[Declaration] {
        &self.declarations
    }

    /// Sets one parameter, checked.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), ParameterError> {
        let value = self.declaration(name)?.check(value)?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// The declaration of a name, or an error with the nearest valid one.
    pub fn declaration(&self, name: &str) -> Result<&Declaration, ParameterError> {
        self.declarations.iter().find(|d| d.name == name).ok_or_else(|| self.unknown(name))
    }

    /// All values by name.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    fn unknown(&self, name: &str) -> ParameterError {
        let nearest = self
            .declarations
            .iter()
            .map(|d| (strsim::jaro_winkler(d.name, name), d.name))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, n)| n.to_owned());
        ParameterError::Unknown { name: name.to_owned(), nearest }
    }

    fn value(&self, name: &str) -> Result<&Value, ParameterError> {
        self.values.get(name).ok_or_else(|| self.unknown(name))
    }

    fn mistyped(name: &str, expected: &'static str, got: &Value) -> ParameterError {
        ParameterError::Type { name: name.to_owned(), expected, got: format!("{} ({got})", got.type_name()) }
    }

    /// A real number.
    pub fn float(&self, name: &str) -> Result<f64, ParameterError> {
        match self.value(name)? {
            Value::Float(v) => Ok(*v),
            other => Err(Self::mistyped(name, "a number", other)),
        }
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<i64, ParameterError> {
        match self.value(name)? {
            Value::Integer(v) => Ok(*v),
            other => Err(Self::mistyped(name, "a whole number", other)),
        }
    }

    /// A count: a whole number that is not negative.
    pub fn count(&self, name: &str) -> Result<usize, ParameterError> {
        let value = self.integer(name)?;
        usize::try_from(value).map_err(|_| ParameterError::Range {
            name: name.to_owned(),
            got: value as f64,
            low: 0.0,
            high: i64::MAX as f64,
            unit: "",
        })
    }

    /// A boolean.
    pub fn boolean(&self, name: &str) -> Result<bool, ParameterError> {
        match self.value(name)? {
            Value::Bool(v) => Ok(*v),
            other => Err(Self::mistyped(name, "a boolean", other)),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&str, ParameterError> {
        match self.value(name)? {
            Value::Text(v) => Ok(v),
            other => Err(Self::mistyped(name, "a text", other)),
        }
    }

    /// A list of numbers.
    pub fn floats(&self, name: &str) -> Result<&[f64], ParameterError> {
        match self.value(name)? {
            Value::Floats(v) => Ok(v),
            other => Err(Self::mistyped(name, "a list of numbers", other)),
        }
    }

    /// A list of exactly `N` numbers.
    pub fn array<const N: usize>(&self, name: &str) -> Result<[f64; N], ParameterError> {
        let values = self.floats(name)?;
        values.try_into().map_err(|_| ParameterError::Length {
            name: name.to_owned(),
            expected: N,
            got: values.len(),
        })
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<&[String], ParameterError> {
        match self.value(name)? {
            Value::Texts(v) => Ok(v),
            other => Err(Self::mistyped(name, "a list of texts", other)),
        }
    }
}
