//! Numbers as C reads them.

/// `strtoll(text, …, 0)` over the whole text: decimal, `0x` hexadecimal, `0` octal; none when it is out of range.
pub fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        (16, hex)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    if digits.is_empty() || !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// `strtod` over the whole text, as rcl uses it: none when the result would overflow or vanish.
pub fn real(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let lower = unsigned.to_ascii_lowercase();
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if let Some(hex) = lower.strip_prefix("0x") {
        return hexadecimal(hex).map(|v| sign * v);
    }
    match lower.as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = lower.parse().ok()?;
    let mantissa = lower.split('e').next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
    (value.is_finite() && !vanished).then_some(sign * value)
}

/// `1.8p3` behind `0x`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once('p') {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for c in integer.chars().chain(fraction.chars()) {
        value = 16.0 * value + f64::from(c.to_digit(16)?);
    }
    let shift = exponent.checked_sub(i32::try_from(4 * fraction.len()).ok()?)?;
    let value = value * 2f64.powi(shift);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_as_strtoll_has_them() {
        for (text, value) in [
            ("10", Some(10)),
            ("-7", Some(-7)),
            ("+7", Some(7)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("08", None),
            ("0x", None),
            ("1_000", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1.0", None),
        ] {
            assert_eq!(whole(text), value, "{text}");
        }
    }

    #[test]
    fn real_numbers_as_strtod_has_them() {
        for (text, value) in [
            ("1e2", Some(100.0)),
            ("3.E1", Some(30.0)),
            (".5", Some(0.5)),
            ("+.2", Some(0.2)),
            ("2.", Some(2.0)),
            ("-1e-03", Some(-0.001)),
            ("08", Some(8.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x1.8p3", Some(12.0)),
            ("1e400", None),
            ("1e-400", None),
            ("1.5.2", None),
            ("e5", None),
            (".", None),
            ("--1", None),
            ("1 2", None),
        ] {
            assert_eq!(real(text), value, "{text}");
        }
        assert!(real("nan").unwrap().is_nan());
    }
}
