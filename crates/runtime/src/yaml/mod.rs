//! YAML as ROS 2 reads it: scalars with their text and the way they are quoted, mappings in order, everything with its
//! line. What a scalar *is* differs between a parameter file ([`ros`], libyaml and C's `strtoll`) and a launch file
//! ([`python`], YAML 1.1).

mod events;
mod numbers;
pub mod python;
pub mod ros;

use std::collections::HashMap;

pub use events::Style;
use events::{Event, events};

/// Deeper than anything that is meant.
const MAX_DEPTH: usize = 64;
/// More than anything that is meant: aliases of aliases grow without bounds.
const MAX_NODES: usize = 200_000;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", .line.map(|l| format!("line {l}: ")).unwrap_or_default())]
pub struct YamlError {
    /// Line, where there is one.
    pub line: Option<usize>,
    /// Why.
    pub reason: String,
}

/// Something in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Yaml {
    /// Where it begins.
    pub line: usize,
    /// What it is.
    pub content: Content,
}

/// What something in a file is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A scalar.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Yaml>),
    /// A mapping, in order, duplicates included.
    Mapping(Vec<(Yaml, Yaml)>),
}

/// A scalar as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Its text.
    pub text: String,
    /// How it is written.
    pub style: Style,
    /// `!!tag` before it, long form.
    pub tag: Option<String>,
}

impl Yaml {
    /// The text of a scalar.
    pub fn scalar(&self) -> Option<&Scalar> {
        if let Content::Scalar(scalar) = &self.content { Some(scalar) } else { None }
    }

    /// Whether it is a mapping.
    pub fn mapping(&self) -> Option<&[(Yaml, Yaml)]> {
        if let Content::Mapping(entries) = &self.content { Some(entries) } else { None }
    }

    /// Whether it is a list.
    pub fn sequence(&self) -> Option<&[Yaml]> {
        if let Content::Sequence(items) = &self.content { Some(items) } else { None }
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(_) => "a single value",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }
}

/// What happens to `*name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aliases {
    /// rcl does not take them.
    Refused,
    /// They stand for what `&name` marks.
    Followed,
}

/// A file's text, which must be UTF-8; a byte order mark is passed over.
///
/// # Errors
/// Names the encoding where it can be told.
pub fn decode(bytes: &[u8]) -> Result<&str, YamlError> {
    let fail = |line, reason: String| Err(YamlError { line, reason });
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return fail(None, "it is UTF-16; save it as UTF-8".to_owned());
    }
    if bytes.len() >= 2 && (bytes[0] == 0 || bytes[1] == 0) {
        return fail(None, "it looks like UTF-16 or UTF-32; save it as UTF-8".to_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let latin1 = char::from(byte);
            fail(
                Some(line),
                format!("it is not UTF-8 (the byte 0x{byte:02x}, in Latin-1 `{latin1}`); save it as UTF-8"),
            )
        }
    }
}

/// All documents of a text.
///
/// # Errors
/// When it is no YAML, or deeper or longer than anything that is meant.
pub fn documents(text: &str, aliases: Aliases) -> Result<Vec<Yaml>, YamlError> {
    let events = events(text)?;
    let mut reader = Reader { events: events.into_iter(), aliases, anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some((event, line)) = reader.events.next() {
        match event {
            Event::DocumentStart => reader.anchors.clear(),
            Event::StreamEnd => break,
            event => documents.push(reader.node(event, line, 0)?),
        }
    }
    Ok(documents)
}

struct Reader {
    events: std::vec::IntoIter<(Event, usize)>,
    aliases: Aliases,
    anchors: HashMap<String, Yaml>,
    nodes: usize,
}

impl Reader {
    fn node(&mut self, event: Event, line: usize, depth: usize) -> Result<Yaml, YamlError> {
        let fail = |reason: &str| Err(YamlError { line: Some(line), reason: reason.to_owned() });
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return fail("it is nested too deeply");
        }
        if self.nodes > MAX_NODES {
            return fail("it is too long");
        }
        let (anchor, content) = match event {
            Event::Scalar { anchor, tag, text, style } => {
                (anchor, Content::Scalar(Scalar { text, style, tag }))
            }
            Event::SequenceStart(anchor) => {
                let mut items = Vec::new();
                while let Some((event, line)) = self.next(&Event::SequenceEnd) {
                    items.push(self.node(event, line, depth + 1)?);
                }
                (anchor, Content::Sequence(items))
            }
            Event::MappingStart(anchor) => {
                let mut entries = Vec::new();
                while let Some((event, line)) = self.next(&Event::MappingEnd) {
                    let key = self.node(event, line, depth + 1)?;
                    let Some((event, line)) = self.events.next() else { break };
                    entries.push((key, self.node(event, line, depth + 1)?));
                }
                (anchor, Content::Mapping(entries))
            }
            Event::Alias(name) if self.aliases == Aliases::Refused => {
                return fail(&format!(
                    "`*{name}`: ROS 2 takes no aliases in parameter files; write the value out"
                ));
            }
            Event::Alias(name) => {
                let Some(marked) = self.anchors.get(&name) else {
                    return fail(&format!("`*{name}`: nothing before it is marked `&{name}`"));
                };
                self.nodes += size(marked);
                return Ok(marked.clone());
            }
            Event::SequenceEnd | Event::MappingEnd | Event::DocumentStart | Event::StreamEnd => {
                return fail("it ends in the middle");
            }
        };
        let node = Yaml { line, content };
        if let (Some(name), Aliases::Followed) = (anchor, self.aliases) {
            self.anchors.insert(name, node.clone());
        }
        Ok(node)
    }

    fn next(&mut self, end: &Event) -> Option<(Event, usize)> {
        self.events.next().filter(|(event, _)| event != end)
    }
}

fn size(node: &Yaml) -> usize {
    1 + match &node.content {
        Content::Scalar(_) => 0,
        Content::Sequence(items) => items.iter().map(size).sum(),
        Content::Mapping(entries) => entries.iter().map(|(k, v)| size(k) + size(v)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_styles_and_order_are_kept() {
        let documents = documents("a: 1\nb: ['x', y]\n---\nc: !!str 2\n", Aliases::Refused).unwrap();
        assert_eq!(documents.len(), 2);
        let first = documents[0].mapping().unwrap();
        assert_eq!((first[1].0.scalar().unwrap().text.as_str(), first[1].0.line), ("b", 2));
        let items = first[1].1.sequence().unwrap();
        assert_eq!(items[0].scalar().unwrap().style, Style::Quoted);
        let second = documents[1].mapping().unwrap();
        assert_eq!(second[0].1.scalar().unwrap().tag.as_deref(), Some("tag:yaml.org,2002:str"));
        assert_eq!(second[0].0.line, 4);
    }

    #[test]
    fn what_is_no_yaml_has_its_line() {
        for (text, line) in [("a: [\n", 2), ("a:\n\tb: 1\n", 2), ("a: 1\n b: 2\n", 2)] {
            assert_eq!(documents(text, Aliases::Refused).unwrap_err().line, Some(line), "{text:?}");
        }
        let deep = "[".repeat(100);
        assert!(documents(&deep, Aliases::Refused).is_err());
    }

    #[test]
    fn aliases_are_followed_or_refused_and_never_explode() {
        let text = "a: &x {b: 1}\nc: *x\n";
        assert!(documents(text, Aliases::Refused).unwrap_err().reason.contains("*x"));
        let followed = documents(text, Aliases::Followed).unwrap();
        let entries = followed[0].mapping().unwrap();
        assert_eq!(entries[0].1, entries[1].1);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let of = vec![format!("*a{}", i - 1); 9].join(", ");
            bomb += &format!("a{i}: &a{i} [{of}]\n");
        }
        assert!(documents(&bomb, Aliases::Followed).unwrap_err().reason.contains("too long"));
    }

    #[test]
    fn encodings_are_named() {
        assert_eq!(decode(b"\xef\xbb\xbfa: 1").unwrap(), "a: 1");
        assert!(decode(b"\xff\xfea\0:\0").unwrap_err().reason.contains("UTF-16"));
        assert!(decode(b"a\0:\0").unwrap_err().reason.contains("UTF-16"));
        let error = decode(b"# ok\n# Gr\xf6\xdfe\n").unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(error.reason.contains("Latin-1") && error.reason.contains('ö'), "{error}");
    }
}
