//! Texts with substitutions in them, `$(name argument …)`, as `ros2 launch` reads them: arguments are parted by one space;
//! one in quotes may hold spaces, and substitutions again; a backslash takes the next character as it is.

/// A piece of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// `$(name argument …)`.
    Call {
        /// What is called.
        name: String,
        /// With what.
        arguments: Vec<Template>,
    },
}

/// A text with substitutions in it.
pub type Template = Vec<Part>;

/// Reads a text.
///
/// # Errors
/// Says what is not closed or not understood.
pub fn parse(text: &str) -> Result<Template, String> {
    let mut parser = Parser { text: text.chars().collect(), at: 0 };
    parser.template(Quote::None)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Quote {
    fn mark(self) -> Option<char> {
        match self {
            Self::None => None,
            Self::Single => Some('\''),
            Self::Double => Some('"'),
        }
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn calls(&self) -> bool {
        self.peek() == Some('$') && self.text.get(self.at + 1) == Some(&'(')
    }

    /// A character, or a backslash with the one that it protects.
    fn raw(&mut self, into: &mut String) {
        if let Some(c) = self.peek() {
            into.push(c);
            self.at += 1;
            if c == '\\'
                && let Some(next) = self.peek()
            {
                into.push(next);
                self.at += 1;
            }
        }
    }

    fn template(&mut self, quote: Quote) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut raw = String::new();
        loop {
            match self.peek() {
                None if quote == Quote::None => break,
                None => return Err(format!("a quote ({}) is not closed", quote.mark().unwrap_or_default())),
                Some(c) if Some(c) == quote.mark() => {
                    self.at += 1;
                    break;
                }
                Some(_) if self.calls() => {
                    flush(&mut raw, &mut parts);
                    parts.push(self.call(quote)?);
                }
                Some(_) => self.raw(&mut raw),
            }
        }
        flush(&mut raw, &mut parts);
        Ok(parts)
    }

    fn call(&mut self, quote: Quote) -> Result<Part, String> {
        self.at += 2;
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            name.push(c);
            self.at += 1;
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err("a name is expected behind `$(`".to_owned());
        }
        let mut arguments = Vec::new();
        loop {
            match self.peek() {
                Some(')') => {
                    self.at += 1;
                    return Ok(Part::Call { name, arguments });
                }
                Some(' ') => {
                    self.at += 1;
                    arguments.push(self.argument(&name, quote)?);
                }
                None => return Err(format!("`$({name}` is not closed")),
                Some(c) => return Err(format!("`$({name}`: a space or `)` is expected, not `{c}`")),
            }
        }
    }

    fn argument(&mut self, name: &str, quote: Quote) -> Result<Template, String> {
        if quote == Quote::None {
            for inner in [Quote::Single, Quote::Double] {
                if self.peek() == inner.mark() {
                    self.at += 1;
                    return self.template(inner);
                }
            }
        }
        let mut parts = Vec::new();
        let mut raw = String::new();
        loop {
            match self.peek() {
                None => return Err(format!("`$({name}` is not closed")),
                Some(' ' | ')') => break,
                Some(_) if self.calls() => {
                    flush(&mut raw, &mut parts);
                    parts.push(self.call(quote)?);
                }
                Some('(') => {
                    return Err(format!("`$({name}`: put an argument with `(` in quotes"));
                }
                Some(c @ ('\'' | '"')) if quote == Quote::None || Some(c) == quote.mark() => {
                    return Err(format!(
                        "`$({name}`: a quote ({c}) in the middle of an argument; put the whole argument in quotes, or write \\{c}"
                    ));
                }
                Some(_) => self.raw(&mut raw),
            }
        }
        flush(&mut raw, &mut parts);
        if parts.is_empty() {
            return Err(format!("`$({name}`: an argument is empty: one space parts two arguments"));
        }
        Ok(parts)
    }
}

fn flush(raw: &mut String, parts: &mut Template) {
    if raw.is_empty() {
        return;
    }
    parts.push(Part::Text(unescape(raw)));
    raw.clear();
}

/// Takes the backslashes away.
pub fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next) if c == '\\' && next != '\n' => {
                text.push(next);
                chars.next();
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn call(name: &str, arguments: Vec<Template>) -> Part {
        Part::Call { name: name.to_owned(), arguments }
    }

    #[test]
    fn substitutions_nest_and_are_quoted() {
        assert_eq!(parse("a $x ${y} b").unwrap(), [text("a $x ${y} b")]);
        assert_eq!(
            parse("$(env NS $(var ns))/x").unwrap(),
            [call("env", vec![vec![text("NS")], vec![call("var", vec![vec![text("ns")]])]]), text("/x")]
        );
        assert_eq!(
            parse("px4_$(eval '$(var id) - 1')").unwrap(),
            [text("px4_"), call("eval", vec![vec![call("var", vec![vec![text("id")]]), text(" - 1")]])]
        );
        assert_eq!(
            parse(r#"$(eval "'a' == '$(var x)'")"#).unwrap(),
            [call("eval", vec![vec![text("'a' == '"), call("var", vec![vec![text("x")]]), text("'")]])]
        );
        assert_eq!(parse(r"\$(var x)").unwrap(), [text("$(var x)")]);
        assert_eq!(parse("$(dirname)").unwrap(), [call("dirname", vec![])]);
        assert_eq!(
            parse("$(find-pkg-share $(var p)_x)/y").unwrap(),
            [call("find-pkg-share", vec![vec![call("var", vec![vec![text("p")]]), text("_x")]]), text("/y")]
        );
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        for (text, word) in [
            ("$(var x", "not closed"),
            ("$(var  x)", "empty"),
            ("$(var x )", "empty"),
            ("$(eval 'x)", "quote"),
            ("$(eval it's)", "quote"),
            ("$(eval int(2))", "in quotes"),
            ("$()", "a name"),
            ("$(1a)", "a name"),
            ("$(var.x)", "a space"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
