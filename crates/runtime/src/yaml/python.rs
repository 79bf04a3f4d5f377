//! What a scalar is in a launch file: YAML 1.1 as PyYAML resolves it, which `ros2 launch` reads its files with.

use super::{Scalar, Style};

/// A scalar as Python has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Native {
    /// Nothing.
    Null,
    /// `True`, `False`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(String),
    /// A date, a merge key, an integer that does not fit: nothing that a launch file can use.
    Other(&'static str),
}

impl Native {
    /// The type in words.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Str(_) => "a text",
            Self::Other(what) => what,
        }
    }
}

/// What a scalar is.
pub fn resolve(scalar: &Scalar) -> Native {
    let text = scalar.text.as_str();
    match scalar.tag.as_deref().and_then(|t| t.strip_prefix("tag:yaml.org,2002:")) {
        Some("str") => return Native::Str(text.to_owned()),
        Some("int") => return whole(text).unwrap_or(Native::Other("no whole number")),
        Some("float") => {
            return match (float(text), whole(text)) {
                (Some(v), _) => Native::Float(v),
                (None, Some(Native::Int(v))) => Native::Float(v as f64),
                _ => Native::Other("no number"),
            };
        }
        Some("bool") => return boolean(text).map_or(Native::Other("no boolean"), Native::Bool),
        Some("null") => return Native::Null,
        _ => {}
    }
    if scalar.style == Style::Quoted { Native::Str(text.to_owned()) } else { plain(text) }
}

/// What a text without quotes is.
pub fn plain(text: &str) -> Native {
    if let Some(value) = boolean(text) {
        return Native::Bool(value);
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Native::Null;
    }
    if let Some(value) = whole(text) {
        return value;
    }
    if let Some(value) = float(text) {
        return Native::Float(value);
    }
    match text {
        "<<" | "=" => Native::Other("a special key of YAML"),
        _ if is_date(text) => Native::Other("a date"),
        _ => Native::Str(text.to_owned()),
    }
}

fn boolean(text: &str) -> Option<bool> {
    Some(match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true,
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false,
        _ => return None,
    })
}

fn whole(text: &str) -> Option<Native> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let of = |radix: u32, digits: &str| -> Option<i128> {
        let digits: String = digits.chars().filter(|c| *c != '_').collect();
        i128::from_str_radix(&digits, radix).ok()
    };
    let only = |digits: &str, radix: u32| {
        !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix))
    };
    let value = if let Some(binary) = digits.strip_prefix("0b").filter(|d| only(d, 2)) {
        of(2, binary)?
    } else if let Some(hex) = digits.strip_prefix("0x").filter(|d| only(d, 16)) {
        of(16, hex)?
    } else if digits == "0" {
        0
    } else if let Some(octal) = digits.strip_prefix('0').filter(|d| only(d, 8)) {
        of(8, octal)?
    } else if digits.starts_with(|c: char| ('1'..='9').contains(&c)) && only(digits, 10) {
        of(10, digits)?
    } else if digits.contains(':') && digits.starts_with(|c: char| ('1'..='9').contains(&c)) {
        sexagesimal(digits)?
    } else {
        return None;
    };
    Some(i64::try_from(sign * value).map_or(Native::Other("a number that is too large"), Native::Int))
}

fn sexagesimal(digits: &str) -> Option<i128> {
    let mut parts = digits.split(':');
    let first = parts.next()?;
    let mut value: i128 = first.replace('_', "").parse().ok()?;
    for part in parts {
        if part.is_empty() || part.len() > 2 {
            return None;
        }
        let part: i128 = part.parse().ok()?;
        if part > 59 {
            return None;
        }
        value = value * 60 + part;
    }
    Some(value)
}

/// YAML 1.1 wants a point, and a sign in the exponent.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        ".nan" | ".NaN" | ".NAN" if unsigned.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['-', '+'])?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    let (integer, fraction) = mantissa.split_once('.')?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !digits(integer) || !digits(fraction) {
        return None;
    }
    let starts = |t: &str| t.starts_with(|c: char| c.is_ascii_digit());
    if !(starts(integer) || integer.is_empty() && starts(fraction)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && text[5..]
            .split(['-', 'T', 't', ' '])
            .take(2)
            .all(|part| !part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_what_pyyaml_takes_them_for() {
        for (text, native) in [
            ("yes", Native::Bool(true)),
            ("y", Native::Str("y".into())),
            ("Off", Native::Bool(false)),
            ("", Native::Null),
            ("~", Native::Null),
            ("12", Native::Int(12)),
            ("010", Native::Int(8)),
            ("0b101", Native::Int(5)),
            ("1_000", Native::Int(1000)),
            ("1:30", Native::Int(90)),
            ("1.5", Native::Float(1.5)),
            (".5", Native::Float(0.5)),
            ("1.", Native::Float(1.0)),
            ("1e2", Native::Str("1e2".into())),
            ("1.0e+2", Native::Float(100.0)),
            ("1.0e2", Native::Str("1.0e2".into())),
            ("-.inf", Native::Float(f64::NEG_INFINITY)),
            ("2026-11-25", Native::Other("a date")),
            ("1.16.0", Native::Str("1.16.0".into())),
            ("99999999999999999999", Native::Other("a number that is too large")),
        ] {
            assert_eq!(plain(text), native, "{text}");
        }
    }
}
