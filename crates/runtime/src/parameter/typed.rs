//! Parameters as typed constants: declared once, as ports are, and read by the constant.
//!
//! ```
//! use spikewing_runtime::{Parameters, parameters};
//!
//! #[derive(Clone, Copy, Debug, PartialEq)]
//! pub enum OnViolation {
//!     Recover,
//!     Reset,
//! }
//!
//! parameters! {
//!     const CONTROL_RATE: Parameter<f64> = Parameter::float("control_rate_hz", 100.0)
//!         .range(10.0, 1000.0)
//!         .unit("Hz")
//!         .about("Control rate: that of the odometry.");
//!     const SETPOINT: Parameter<[f64; 3]> =
//!         Parameter::vector("setpoint", &[0.0, 0.0, 1.0]).unit("m").about("Where to hover.");
//!     const ON_VIOLATION: Parameter<OnViolation> = Parameter::choice(
//!         "on_violation",
//!         "recover",
//!         &[("recover", OnViolation::Recover), ("reset", OnViolation::Reset)],
//!     )
//!     .about("What happens when the student leaves the envelope.");
//! }
//!
//! let parameters = Parameters::defaults(declare());
//! assert_eq!(parameters.get(&CONTROL_RATE)?, 100.0);
//! assert_eq!(parameters.get(&ON_VIOLATION)?, OnViolation::Recover);
//! # Ok::<(), spikewing_runtime::parameter::ParameterError>(())
//! ```

use std::path::PathBuf;

use super::{Constraint, Declaration, Mutability, ParameterError, Parameters, Value};

/// A parameter whose values are read as `T`: a constant of the node that has it.
#[derive(Debug)]
pub struct Parameter<T: 'static> {
    /// Name, dots between groups.
    pub name: &'static str,
    default: Preset,
    form: Form<T>,
    range: Option<(f64, f64)>,
    length: Option<usize>,
    unit: &'static str,
    about: &'static str,
    mutability: Mutability,
}

/// A default that a constant can hold.
#[derive(Clone, Copy, Debug)]
enum Preset {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'static str),
    Floats(&'static [f64]),
    Texts(&'static [&'static str]),
}

impl Preset {
    fn value(self) -> Value {
        match self {
            Self::Bool(v) => Value::Bool(v),
            Self::Integer(v) => Value::Integer(v),
            Self::Float(v) => Value::Float(v),
            Self::Text(v) => Value::Text(v.to_owned()),
            Self::Floats(v) => Value::Floats(v.to_vec()),
            Self::Texts(v) => Value::Texts(v.iter().map(|&t| t.to_owned()).collect()),
        }
    }
}

/// How a value becomes a `T`.
#[derive(Debug)]
enum Form<T: 'static> {
    /// By this function; `None` when it does not fit.
    Read(fn(&Value) -> Option<T>),
    /// As the one that has this name.
    Choice(&'static [(&'static str, T)]),
}

/// A type of whole numbers that parameters are read as.
pub trait Whole: Copy + TryFrom<i64> + 'static {
    /// The least that a parameter of this type takes.
    const LOW: f64;
    /// The most.
    const HIGH: f64;
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Whole for $type {
            const LOW: f64 = if <$type>::MIN as f64 > i64::MIN as f64 { <$type>::MIN as f64 } else { i64::MIN as f64 };
            const HIGH: f64 = if (<$type>::MAX as f64) < i64::MAX as f64 { <$type>::MAX as f64 } else { i64::MAX as f64 };
        }
    )*};
}
whole!(i64, i32, u64, u32, u16, u8, usize);

impl<T: 'static> Parameter<T> {
    const fn new(name: &'static str, default: Preset, form: Form<T>) -> Self {
        Self {
            name,
            default,
            form,
            range: None,
            length: None,
            unit: "",
            about: "",
            mutability: Mutability::Fixed,
        }
    }

    /// One of several names, read as what stands beside it. The default is given by its name.
    pub const fn choice(name: &'static str, default: &'static str, of: &'static [(&'static str, T)]) -> Self {
        Self::new(name, Preset::Text(default), Form::Choice(of))
    }

    /// Bounds a number, or each of a list, both ends included.
    pub const fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// Names the unit.
    pub const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Says what it does, for `--help`, the README and the parameter services.
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Lets it change at run time, through the parameter services.
    pub const fn dynamic(mut self) -> Self {
        self.mutability = Mutability::Dynamic;
        self
    }

    /// What is told of it to users, and what its values are checked against.
    pub fn declaration(&self) -> Declaration {
        Declaration {
            name: self.name,
            default: self.default.value(),
            constraint: match (&self.form, self.range) {
                (Form::Choice(of), _) => Constraint::Choice(of.iter().map(|(name, _)| *name).collect()),
                (Form::Read(_), Some((low, high))) => Constraint::Range(low, high),
                (Form::Read(_), None) => Constraint::Any,
            },
            length: self.length,
            unit: self.unit,
            description: self.about,
            mutability: self.mutability,
        }
    }
}

impl Parameter<f64> {
    /// A real number.
    pub const fn float(name: &'static str, default: f64) -> Self {
        Self::new(name, Preset::Float(default), Form::Read(float))
    }
}

impl<T: Whole> Parameter<T> {
    /// A whole number of any type that [`Whole`] names; without another range, what that type holds.
    pub const fn whole(name: &'static str, default: i64) -> Self {
        Self::new(name, Preset::Integer(default), Form::Read(whole::<T>)).range(T::LOW, T::HIGH)
    }
}

impl Parameter<bool> {
    /// `true` or `false`.
    pub const fn flag(name: &'static str, default: bool) -> Self {
        Self::new(name, Preset::Bool(default), Form::Read(flag))
    }
}

impl Parameter<String> {
    /// A text.
    pub const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Preset::Text(default), Form::Read(text))
    }
}

impl Parameter<Option<PathBuf>> {
    /// A file or a folder; by default none, which is the empty text.
    pub const fn path(name: &'static str) -> Self {
        Self::new(name, Preset::Text(""), Form::Read(path))
    }
}

impl<const N: usize> Parameter<[f64; N]> {
    /// So many real numbers.
    pub const fn vector(name: &'static str, default: &'static [f64; N]) -> Self {
        let mut parameter = Self::new(name, Preset::Floats(default), Form::Read(vector::<N>));
        parameter.length = Some(N);
        parameter
    }
}

impl Parameter<Vec<String>> {
    /// Texts, any number of them.
    pub const fn texts(name: &'static str, default: &'static [&'static str]) -> Self {
        Self::new(name, Preset::Texts(default), Form::Read(texts))
    }
}

fn float(value: &Value) -> Option<f64> {
    if let Value::Float(v) = value { Some(*v) } else { None }
}

fn whole<T: Whole>(value: &Value) -> Option<T> {
    if let Value::Integer(v) = value { T::try_from(*v).ok() } else { None }
}

fn flag(value: &Value) -> Option<bool> {
    if let Value::Bool(v) = value { Some(*v) } else { None }
}

fn text(value: &Value) -> Option<String> {
    if let Value::Text(v) = value { Some(v.clone()) } else { None }
}

fn path(value: &Value) -> Option<Option<PathBuf>> {
    if let Value::Text(v) = value { Some((!v.is_empty()).then(|| PathBuf::from(v))) } else { None }
}

fn vector<const N: usize>(value: &Value) -> Option<[f64; N]> {
    if let Value::Floats(v) = value { v.as_slice().try_into().ok() } else { None }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    if let Value::Texts(v) = value { Some(v.clone()) } else { None }
}

impl Parameters {
    /// The value of a parameter.
    ///
    /// # Errors
    /// When the node does not declare it, or under another type.
    pub fn get<T: Clone>(&self, parameter: &Parameter<T>) -> Result<T, ParameterError> {
        let value = self.value(parameter.name)?;
        let read = match parameter.form {
            Form::Read(read) => read(value),
            Form::Choice(of) => match value {
                Value::Text(text) => of.iter().find(|(name, _)| name == text).map(|(_, v)| v.clone()),
                _ => None,
            },
        };
        read.ok_or_else(|| ParameterError::Type {
            name: parameter.name.to_owned(),
            expected: parameter.default.value().type_name(),
            got: format!("{} ({value})", value.type_name()),
        })
    }
}

/// Declares a node's parameters: each a constant, and `declare()`, which lists them all in this order, so that none can
/// be forgotten. [`Parameter`] need not be imported.
#[macro_export]
macro_rules! parameters {
    ($($(#[$doc:meta])* $vis:vis const $name:ident: Parameter<$type:ty> = $value:expr;)*) => {
        $($(#[$doc])* $vis const $name: $crate::parameter::Parameter<$type> = {
            use $crate::parameter::Parameter;
            $value
        };)*

        /// The declared parameters.
        pub fn declare() -> Vec<$crate::parameter::Declaration> {
            vec![$($name.declaration()),*]
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Way {
        Up,
        Down,
    }

    parameters! {
        const RATE: Parameter<f64> = Parameter::float("rate_hz", 100.0).range(1.0, 1000.0).unit("Hz").about("Rate.");
        const COUNT: Parameter<u32> = Parameter::whole("count", 5);
        const SHIFT: Parameter<i64> = Parameter::whole("shift", -5);
        const FLAG: Parameter<bool> = Parameter::flag("group.flag", true).dynamic();
        const NAME: Parameter<String> = Parameter::text("name", "x");
        const FILE: Parameter<Option<PathBuf>> = Parameter::path("file");
        const POINT: Parameter<[f64; 3]> = Parameter::vector("point", &[0.0, 0.0, 1.0]);
        const NAMES: Parameter<Vec<String>> = Parameter::texts("names", &["a"]);
        const WAY: Parameter<Way> = Parameter::choice("way", "down", &[("up", Way::Up), ("down", Way::Down)]);
    }

    #[test]
    fn defaults_are_read_in_their_types() {
        let p = Parameters::defaults(declare());
        assert_eq!(p.get(&RATE), Ok(100.0));
        assert_eq!((p.get(&COUNT), p.get(&SHIFT)), (Ok(5), Ok(-5)));
        assert_eq!(p.get(&FLAG), Ok(true));
        assert_eq!((p.get(&NAME), p.get(&FILE)), (Ok("x".to_owned()), Ok(None)));
        assert_eq!((p.get(&POINT), p.get(&NAMES)), (Ok([0.0, 0.0, 1.0]), Ok(vec!["a".to_owned()])));
        assert_eq!(p.get(&WAY), Ok(Way::Down));
        for d in p.declarations() {
            assert_eq!(d.check(d.default.clone()), Ok(d.default.clone()), "{}", d.name);
        }
    }

    #[test]
    fn what_is_set_is_checked_and_read_back() {
        let mut p = Parameters::defaults(declare());
        p.set("way", Value::Text("up".into())).unwrap();
        assert_eq!(p.get(&WAY), Ok(Way::Up));
        p.set("file", Value::Text("a/b".into())).unwrap();
        assert_eq!(p.get(&FILE), Ok(Some(PathBuf::from("a/b"))));
        for (name, value, word) in [
            ("way", Value::Text("left".into()), "one of: up, down"),
            ("count", Value::Integer(-1), "from 0 to"),
            ("count", Value::Integer(1 << 40), "from 0 to"),
            ("rate_hz", Value::Float(0.5), "Hz"),
            ("point", Value::Floats(vec![1.0]), "3 elements"),
        ] {
            let error = p.set(name, value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_constant_of_another_node_is_an_error() {
        const OTHER: Parameter<bool> = Parameter::flag("rate_hz", true);
        const NOBODYS: Parameter<bool> = Parameter::flag("nobodys", true);
        let p = Parameters::defaults(declare());
        assert!(matches!(p.get(&OTHER), Err(ParameterError::Type { .. })));
        assert!(matches!(p.get(&NOBODYS), Err(ParameterError::Unknown { .. })));
    }
}
