//! `$(eval …)`: the expressions of Python that launch files use. Numbers, texts, lists, comparisons, `and`, `or`, `not`,
//! `a if b else c`, arithmetic, the constants and functions of `math`, and a few built-in functions and methods of texts.
//! Anything else is refused by name.

/// A value of Python's.
#[derive(Clone, Debug, PartialEq)]
enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Object>),
}

/// The value of an expression as Python's `str` has it.
///
/// # Errors
/// Says what is wrong with it, or not known here.
pub fn evaluate(text: &str) -> Result<String, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let value = parser.ternary()?;
    match parser.next() {
        None => Ok(value.text()),
        Some(token) => Err(format!("`{}` is not expected there", token.text())),
    }
}

impl Object {
    fn text(&self) -> String {
        match self {
            Self::Str(v) => v.clone(),
            other => other.repr(),
        }
    }

    fn repr(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(v) => if *v { "True" } else { "False" }.to_owned(),
            Self::Int(v) => v.to_string(),
            Self::Float(v) => real(*v),
            Self::Str(v) => format!("'{v}'"),
            Self::List(v) => format!("[{}]", v.iter().map(Self::repr).collect::<Vec<_>>().join(", ")),
        }
    }

    fn truth(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(v) => *v,
            Self::Int(v) => *v != 0,
            Self::Float(v) => *v != 0.0,
            Self::Str(v) => !v.is_empty(),
            Self::List(v) => !v.is_empty(),
        }
    }

    fn number(&self) -> Result<f64, String> {
        match self {
            Self::Bool(v) => Ok(f64::from(*v)),
            Self::Int(v) => Ok(*v as f64),
            Self::Float(v) => Ok(*v),
            other => Err(format!("{} is no number", other.repr())),
        }
    }

    fn whole(&self) -> Option<i64> {
        match self {
            Self::Bool(v) => Some(i64::from(*v)),
            Self::Int(v) => Some(*v),
            _ => None,
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::None, Self::None) => true,
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            _ => matches!((self.number(), other.number()), (Ok(a), Ok(b)) if a == b),
        }
    }
}

/// As Python writes a `float`.
fn real(v: f64) -> String {
    if v.is_nan() {
        return "nan".to_owned();
    }
    if v.is_infinite() {
        return if v < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    if v != 0.0 && (v.abs() < 1e-4 || v.abs() >= 1e16) {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{v:?}")
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Value(Object),
    Name(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Value(v) => v.repr(),
            Self::Name(v) => v.clone(),
            Self::Sign(v) => (*v).to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 22] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "<", ">", "(", ")", "[", "]", ",", ".", ":",
    "{", "=",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let digit_follows = rest[c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if c == '\'' || c == '"' {
            let mut value = String::new();
            let mut escaped = false;
            let mut end = None;
            for (i, d) in rest.char_indices().skip(1) {
                if escaped {
                    value.push(match d {
                        'n' => '\n',
                        't' => '\t',
                        other => other,
                    });
                    escaped = false;
                } else if d == '\\' {
                    escaped = true;
                } else if d == c {
                    end = Some(i + 1);
                    break;
                } else {
                    value.push(d);
                }
            }
            let Some(end) = end else { return Err(format!("a text ({c}) is not closed")) };
            // Texts that follow each other are one.
            if let Some(Token::Value(Object::Str(before))) = tokens.last_mut() {
                before.push_str(&value);
            } else {
                tokens.push(Token::Value(Object::Str(value)));
            }
            rest = &rest[end..];
        } else if c.is_ascii_digit() || c == '.' && digit_follows {
            let mut end = 0;
            let bytes = rest.as_bytes();
            while end < bytes.len()
                && (bytes[end].is_ascii_alphanumeric()
                    || matches!(bytes[end], b'.' | b'_')
                    || matches!(bytes[end], b'+' | b'-')
                        && matches!(bytes[end - 1], b'e' | b'E')
                        && !rest.starts_with("0x"))
            {
                end += 1;
            }
            tokens.push(Token::Value(literal(&rest[..end])?));
            rest = &rest[end..];
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(match &rest[..end] {
                "True" => Token::Value(Object::Bool(true)),
                "False" => Token::Value(Object::Bool(false)),
                "None" => Token::Value(Object::None),
                name => Token::Name(name.to_owned()),
            });
            rest = &rest[end..];
        } else if let Some(sign) = SIGNS.into_iter().find(|s| rest.starts_with(s)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            return Err(format!("`{c}` is not understood"));
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn literal(text: &str) -> Result<Object, String> {
    let wrong = || format!("`{text}` is no number");
    let digits = text.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).map(Object::Int).map_err(|_| wrong());
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("`{text}`: Python takes no whole numbers that begin with 0"));
    }
    if let Ok(v) = digits.parse::<i64>() {
        return Ok(Object::Int(v));
    }
    digits.parse().map(Object::Float).map_err(|_| wrong())
}

const MAX_DEPTH: usize = 64;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

type Result1 = Result<Object, String>;

impl Parser {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let fits = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(fits);
        fits
    }

    fn says(&mut self, word: &str) -> bool {
        let fits = matches!(self.tokens.get(self.at), Some(Token::Name(n)) if n == word);
        self.at += usize::from(fits);
        fits
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(format!("`{sign}` is expected")) }
    }

    fn ternary(&mut self) -> Result1 {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the expression is nested too deeply".to_owned());
        }
        let value = self.or()?;
        let value = if self.says("if") {
            let condition = self.or()?;
            if !self.says("else") {
                return Err("`else` is expected".to_owned());
            }
            let other = self.ternary()?;
            if condition.truth() { value } else { other }
        } else {
            value
        };
        self.depth -= 1;
        Ok(value)
    }

    fn or(&mut self) -> Result1 {
        let mut value = self.and()?;
        while self.says("or") {
            let other = self.and()?;
            value = if value.truth() { value } else { other };
        }
        Ok(value)
    }

    fn and(&mut self) -> Result1 {
        let mut value = self.not()?;
        while self.says("and") {
            let other = self.not()?;
            value = if value.truth() { other } else { value };
        }
        Ok(value)
    }

    fn not(&mut self) -> Result1 {
        let mut times = 0;
        while self.says("not") {
            times += 1;
        }
        let value = self.comparison()?;
        Ok(if times == 0 { value } else { Object::Bool(value.truth() == (times % 2 == 0)) })
    }

    fn comparison(&mut self) -> Result1 {
        let mut left = self.sum()?;
        let mut holds = None;
        loop {
            let operator = if let Some(sign) =
                ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|s| self.takes(s))
            {
                sign
            } else if self.says("in") {
                "in"
            } else if matches!(self.tokens.get(self.at..self.at + 2), Some([Token::Name(a), Token::Name(b)]) if a == "not" && b == "in")
            {
                self.at += 2;
                "not in"
            } else {
                return Ok(holds.map_or(left, Object::Bool));
            };
            let right = self.sum()?;
            let this = compare(&left, operator, &right)?;
            holds = Some(holds.unwrap_or(true) && this);
            left = right;
        }
    }

    fn sum(&mut self) -> Result1 {
        let mut value = self.product()?;
        while let Some(sign) = ["+", "-"].into_iter().find(|s| self.takes(s)) {
            value = arithmetic(&value, sign, &self.product()?)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result1 {
        let mut value = self.unary()?;
        while let Some(sign) = ["*", "//", "/", "%"].into_iter().find(|s| self.takes(s)) {
            value = arithmetic(&value, sign, &self.unary()?)?;
        }
        Ok(value)
    }

    fn unary(&mut self) -> Result1 {
        let mut negative = false;
        loop {
            if self.takes("-") {
                negative = !negative;
            } else if !self.takes("+") {
                break;
            }
        }
        let value = self.power()?;
        if negative { arithmetic(&Object::Int(0), "-", &value) } else { Ok(value) }
    }

    fn power(&mut self) -> Result1 {
        let value = self.postfix()?;
        if !self.takes("**") {
            return Ok(value);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the expression is nested too deeply".to_owned());
        }
        let exponent = self.unary()?;
        self.depth -= 1;
        arithmetic(&value, "**", &exponent)
    }

    fn postfix(&mut self) -> Result1 {
        let mut value = self.atom()?;
        loop {
            if self.takes(".") {
                let Some(Token::Name(method)) = self.next() else {
                    return Err("a name is expected behind `.`".to_owned());
                };
                self.expect("(")?;
                let arguments = self.list(")")?;
                value = text_method(&value, &method, &arguments)?;
            } else if self.takes("[") {
                let index = self.ternary()?;
                self.expect("]")?;
                value = element(&value, &index)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn atom(&mut self) -> Result1 {
        match self.next() {
            Some(Token::Value(value)) => Ok(value),
            Some(Token::Sign("(")) => {
                let value = self.ternary()?;
                if self.takes(",") {
                    let mut all = vec![value];
                    all.extend(self.list(")")?);
                    return Ok(Object::List(all));
                }
                self.expect(")")?;
                Ok(value)
            }
            Some(Token::Sign("[")) => Ok(Object::List(self.list("]")?)),
            Some(Token::Name(mut name)) => {
                if name == "math" && self.takes(".") {
                    let Some(Token::Name(inner)) = self.next() else {
                        return Err("a name is expected behind `math.`".to_owned());
                    };
                    name = inner;
                }
                if self.takes("(") {
                    let arguments = self.list(")")?;
                    return function(&name, &arguments);
                }
                match name.as_str() {
                    "pi" => Ok(Object::Float(std::f64::consts::PI)),
                    "tau" => Ok(Object::Float(std::f64::consts::TAU)),
                    "e" => Ok(Object::Float(std::f64::consts::E)),
                    "inf" => Ok(Object::Float(f64::INFINITY)),
                    "nan" => Ok(Object::Float(f64::NAN)),
                    _ => Err(format!("the name `{name}` is not known; a text needs quotes: '{name}'")),
                }
            }
            Some(token) => Err(format!("`{}` is not expected there", token.text())),
            None => Err("it ends too early".to_owned()),
        }
    }

    /// Expressions with commas between them, up to the closing sign.
    fn list(&mut self, close: &str) -> Result<Vec<Object>, String> {
        let mut all = Vec::new();
        while !self.takes(close) {
            all.push(self.ternary()?);
            if !self.takes(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(all)
    }
}

fn compare(left: &Object, operator: &str, right: &Object) -> Result<bool, String> {
    let contains = || match (left, right) {
        (Object::Str(part), Object::Str(whole)) => Ok(whole.contains(part.as_str())),
        (part, Object::List(all)) => Ok(all.iter().any(|v| v.equals(part))),
        _ => Err(format!("{} can hold nothing", right.repr())),
    };
    match operator {
        "==" => return Ok(left.equals(right)),
        "!=" => return Ok(!left.equals(right)),
        "in" => return contains(),
        "not in" => return contains().map(|v| !v),
        _ => {}
    }
    let order = match (left, right) {
        (Object::Str(a), Object::Str(b)) => Some(a.cmp(b)),
        _ => left.number()?.partial_cmp(&right.number()?),
    };
    Ok(order.is_some_and(|order| match operator {
        "<" => order.is_lt(),
        ">" => order.is_gt(),
        "<=" => order.is_le(),
        _ => order.is_ge(),
    }))
}

fn arithmetic(left: &Object, operator: &str, right: &Object) -> Result1 {
    let too_large = || format!("{} {operator} {} is too large", left.repr(), right.repr());
    match (left, operator, right) {
        (Object::Str(a), "+", Object::Str(b)) => return Ok(Object::Str(format!("{a}{b}"))),
        (Object::Str(a), "*", Object::Int(n)) => {
            let times = usize::try_from(*n).unwrap_or(0);
            if a.len().saturating_mul(times) > 10_000 {
                return Err(too_large());
            }
            return Ok(Object::Str(a.repeat(times)));
        }
        (Object::List(a), "+", Object::List(b)) => {
            return Ok(Object::List(a.iter().chain(b).cloned().collect()));
        }
        _ => {}
    }
    let zero = || format!("{} {operator} {}: division by zero", left.repr(), right.repr());
    if let (Some(a), Some(b)) = (left.whole(), right.whole()) {
        let whole = match operator {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "//" | "%" if b == 0 => return Err(zero()),
            "//" => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
            "%" => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            "**" if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            _ => {
                let (a, b) = (a as f64, b as f64);
                if operator == "/" {
                    return if b == 0.0 { Err(zero()) } else { Ok(Object::Float(a / b)) };
                }
                return Ok(Object::Float(a.powf(b)));
            }
        };
        return whole.map(Object::Int).ok_or_else(too_large);
    }
    let (a, b) = (left.number()?, right.number()?);
    if b == 0.0 && matches!(operator, "/" | "//" | "%") {
        return Err(zero());
    }
    Ok(Object::Float(match operator {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "//" => (a / b).floor(),
        "%" => a - b * (a / b).floor(),
        _ => a.powf(b),
    }))
}

fn element(value: &Object, index: &Object) -> Result1 {
    let index = index.whole().ok_or_else(|| format!("{} is no index", index.repr()))?;
    let at = |length: usize| {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let index = if index < 0 { index + length } else { index };
        usize::try_from(index).ok().filter(|_| index < length)
    };
    let found = match value {
        Object::List(all) => at(all.len()).map(|i| all[i].clone()),
        Object::Str(text) => {
            at(text.chars().count()).and_then(|i| text.chars().nth(i)).map(|c| Object::Str(c.to_string()))
        }
        other => return Err(format!("{} has no elements", other.repr())),
    };
    found.ok_or_else(|| format!("{} has no element {index}", value.repr()))
}

fn text_method(value: &Object, method: &str, arguments: &[Object]) -> Result1 {
    let Object::Str(text) = value else {
        return Err(format!("`.{method}` is known of texts only, not of {}", value.repr()));
    };
    Ok(match (method, arguments) {
        ("lower", []) => Object::Str(text.to_lowercase()),
        ("upper", []) => Object::Str(text.to_uppercase()),
        ("strip", []) => Object::Str(text.trim().to_owned()),
        ("replace", [Object::Str(from), Object::Str(to)]) => Object::Str(text.replace(from.as_str(), to)),
        ("startswith", [Object::Str(part)]) => Object::Bool(text.starts_with(part.as_str())),
        ("endswith", [Object::Str(part)]) => Object::Bool(text.ends_with(part.as_str())),
        ("split", [Object::Str(by)]) if !by.is_empty() => {
            Object::List(text.split(by.as_str()).map(|t| Object::Str(t.to_owned())).collect())
        }
        ("split", []) => Object::List(text.split_whitespace().map(|t| Object::Str(t.to_owned())).collect()),
        _ => return Err(format!("`.{method}(…)` with {} arguments is not known here", arguments.len())),
    })
}

fn function(name: &str, arguments: &[Object]) -> Result1 {
    let one = || match arguments {
        [one] => one.number(),
        _ => Err(format!("`{name}` takes one argument, not {}", arguments.len())),
    };
    let two = || match arguments {
        [a, b] => Ok((a.number()?, b.number()?)),
        _ => Err(format!("`{name}` takes two arguments, not {}", arguments.len())),
    };
    let whole = |v: f64| {
        if v.abs() < 9e15 { Ok(Object::Int(v as i64)) } else { Err(format!("{v} is too large")) }
    };
    let float = |v: f64| Ok(Object::Float(v));
    match (name, arguments) {
        ("int", [Object::Str(text)]) => {
            let digits = text.trim().replace('_', "");
            digits.parse().map(Object::Int).map_err(|_| format!("int('{text}'): it is no whole number"))
        }
        ("int", [v]) => whole(v.number()?.trunc()),
        ("float", [Object::Str(text)]) => {
            text.trim().parse().map(Object::Float).map_err(|_| format!("float('{text}'): it is no number"))
        }
        ("float", _) => float(one()?),
        ("str", [v]) => Ok(Object::Str(v.text())),
        ("bool", [v]) => Ok(Object::Bool(v.truth())),
        ("len", [Object::Str(text)]) => {
            Ok(Object::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)))
        }
        ("len", [Object::List(all)]) => Ok(Object::Int(i64::try_from(all.len()).unwrap_or(i64::MAX))),
        ("abs", [Object::Int(v)]) => v.checked_abs().map(Object::Int).ok_or_else(|| "too large".to_owned()),
        ("abs" | "fabs", _) => float(one()?.abs()),
        ("round", [v]) => whole(v.number()?.round_ties_even()),
        ("round", [v, digits]) => {
            let scale = 10f64.powi(i32::try_from(digits.whole().unwrap_or(0)).unwrap_or(0));
            float((v.number()? * scale).round_ties_even() / scale)
        }
        ("min" | "max", all) if !all.is_empty() => {
            let all = match all {
                [Object::List(inner)] if !inner.is_empty() => inner.as_slice(),
                all => all,
            };
            let mut best = all[0].clone();
            for v in &all[1..] {
                if compare(v, if name == "min" { "<" } else { ">" }, &best)? {
                    best = v.clone();
                }
            }
            Ok(best)
        }
        ("floor", _) => whole(one()?.floor()),
        ("ceil", _) => whole(one()?.ceil()),
        ("trunc", _) => whole(one()?.trunc()),
        ("sqrt", _) => {
            let v = one()?;
            if v < 0.0 { Err(format!("sqrt({v}): it is negative")) } else { float(v.sqrt()) }
        }
        ("sin", _) => float(one()?.sin()),
        ("cos", _) => float(one()?.cos()),
        ("tan", _) => float(one()?.tan()),
        ("asin", _) => float(one()?.asin()),
        ("acos", _) => float(one()?.acos()),
        ("atan", _) => float(one()?.atan()),
        ("exp", _) => float(one()?.exp()),
        ("log", [_]) => {
            let v = one()?;
            if v <= 0.0 { Err(format!("log({v}): it is not above 0")) } else { float(v.ln()) }
        }
        ("log10", _) => float(one()?.log10()),
        ("log2", _) => float(one()?.log2()),
        ("radians", _) => float(one()?.to_radians()),
        ("degrees", _) => float(one()?.to_degrees()),
        ("pow", _) => two().map(|(a, b)| Object::Float(a.powf(b))),
        ("hypot", _) => two().map(|(a, b)| Object::Float(a.hypot(b))),
        ("atan2", _) => two().map(|(a, b)| Object::Float(a.atan2(b))),
        _ => Err(format!("the function `{name}` with {} arguments is not known here", arguments.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_python_s() {
        for (text, value) in [
            ("2 - 1", "1"),
            ("1 + 2 * 3", "7"),
            ("7 / 2", "3.5"),
            ("7 // 2", "3"),
            ("-7 // 2", "-4"),
            ("-7 % 3", "2"),
            ("2 ** 3 ** 2", "512"),
            ("-2 ** 2", "-4"),
            ("2 ** -1", "0.5"),
            ("1e3", "1000.0"),
            ("1e16", "1e+16"),
            ("1 / 100000", "1e-05"),
            ("4.0", "4.0"),
            ("'a' == 'a'", "True"),
            ("'a' != 'a' or 1 > 2", "False"),
            ("not ('x' in 'xyz')", "False"),
            ("'d' not in ['a', 'b']", "True"),
            ("1 < 2 < 3", "True"),
            ("'big' if 3 > 2 else 'small'", "big"),
            ("'drone_' + str(2 + 1)", "drone_3"),
            ("int('08')", "8"),
            ("int(3.9)", "3"),
            ("round(2.5)", "2"),
            ("min(3, 1, 2)", "1"),
            ("math.sqrt(16)", "4.0"),
            ("radians(180) == pi", "True"),
            ("'A b'.lower().replace(' ', '_')", "a_b"),
            ("'a,b'.split(',')[1]", "b"),
            ("'a' 'b'", "ab"),
            ("[1, 'a', 2.0]", "[1, 'a', 2.0]"),
            ("True and 'x'", "x"),
            ("1 == 1.0", "True"),
            ("\"it's\"", "it's"),
        ] {
            assert_eq!(evaluate(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_or_unknown_is_said() {
        for (text, word) in [
            ("crazyflie == 'crazyflie'", "needs quotes"),
            ("1 +", "too early"),
            ("1 2", "not expected"),
            ("(1", "`)` is expected"),
            ("1 / 0", "division by zero"),
            ("'a' + 1", "no number"),
            ("__import__('os')", "not known"),
            ("open('x')", "not known"),
            ("'x'.encode()", "not known"),
            ("'x", "not closed"),
            ("2 ** 1000", "too large"),
            ("1 @ 2", "not understood"),
            ("", "too early"),
        ] {
            let error = evaluate(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(evaluate(&"(".repeat(1000)).is_err());
        assert!(evaluate(&"-".repeat(1000)).is_err());
        assert!(evaluate(&"2**".repeat(1000)).is_err());
    }
}
