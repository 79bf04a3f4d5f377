//! libyaml's events. ROS 2 reads its parameter files with libyaml, and what a file means there must be what it means here;
//! this is that library as `serde_yaml` carries it, translated to Rust.

use std::{mem::MaybeUninit, slice};

use unsafe_libyaml as unsafe_sys;

use super::YamlError;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes, or as a block: its text decides what it is.
    Plain,
    /// In single or double quotes: a text.
    Quoted,
}

/// One event of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A document begins.
    DocumentStart,
    /// `*name`.
    Alias(String),
    /// A scalar.
    Scalar {
        /// `&name` before it.
        anchor: Option<String>,
        /// `!!tag` before it.
        tag: Option<String>,
        /// Its text.
        text: String,
        /// How it is written.
        style: Style,
    },
    /// A list begins; its `&name`.
    SequenceStart(Option<String>),
    /// It ends.
    SequenceEnd,
    /// A mapping begins; its `&name`.
    MappingStart(Option<String>),
    /// It ends.
    MappingEnd,
    /// Nothing follows.
    StreamEnd,
}

/// All events of a text, each with its line.
///
/// # Errors
/// When it is no YAML.
pub fn events(text: &str) -> Result<Vec<(Event, usize)>, YamlError> {
    let mut parser = Parser::new(text)?;
    let mut all = Vec::new();
    loop {
        if let Some((event, line)) = parser.next()? {
            let end = event == Event::StreamEnd;
            all.push((event, line));
            if end {
                return Ok(all);
            }
        }
    }
}

/// Owns libyaml's parser, in one place of memory as long as it lives, and borrows the text that it reads.
struct Parser<'a> {
    parser: Box<MaybeUninit<unsafe_sys::yaml_parser_t>>,
    _text: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, YamlError> {
        let mut parser = Box::new(MaybeUninit::<unsafe_sys::yaml_parser_t>::uninit());
        // SAFETY: the box gives memory for a parser, which is initialised before anything else is done with it; the text
        // outlives it by the lifetime.
        unsafe {
            let parser = parser.as_mut_ptr();
            if !unsafe_sys::yaml_parser_initialize(parser).ok {
                return Err(YamlError { line: None, reason: "out of memory".to_owned() });
            }
            unsafe_sys::yaml_parser_set_encoding(parser, unsafe_sys::YAML_UTF8_ENCODING);
            unsafe_sys::yaml_parser_set_input_string(parser, text.as_ptr(), text.len() as u64);
        }
        Ok(Self { parser, _text: text })
    }

    /// The next event that matters to us, with its line.
    fn next(&mut self) -> Result<Option<(Event, usize)>, YamlError> {
        let mut event = MaybeUninit::<unsafe_sys::yaml_event_t>::uninit();
        // SAFETY: the parser is initialised; an event that it made is read by its own kind's field alone, copied, and
        // deleted once.
        unsafe {
            let parser = self.parser.as_mut_ptr();
            if !unsafe_sys::yaml_parser_parse(parser, event.as_mut_ptr()).ok {
                return Err(failure(parser));
            }
            let event = event.as_mut_ptr();
            let line = usize::try_from((*event).start_mark.line).unwrap_or(usize::MAX).saturating_add(1);
            let copied = copy(&*event);
            unsafe_sys::yaml_event_delete(event);
            Ok(copied.map(|event| (event, line)))
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised in `new`, and is deleted once.
        unsafe { unsafe_sys::yaml_parser_delete(self.parser.as_mut_ptr()) }
    }
}

/// # Safety
/// The event must be one that the parser made.
unsafe fn copy(event: &unsafe_sys::yaml_event_t) -> Option<Event> {
    // SAFETY: each field of the union is read under the kind that it belongs to.
    unsafe {
        Some(match event.type_ {
            unsafe_sys::YAML_STREAM_END_EVENT => Event::StreamEnd,
            unsafe_sys::YAML_DOCUMENT_START_EVENT => Event::DocumentStart,
            unsafe_sys::YAML_ALIAS_EVENT => Event::Alias(text(event.data.alias.anchor).unwrap_or_default()),
            unsafe_sys::YAML_SCALAR_EVENT => {
                let scalar = event.data.scalar;
                let length = usize::try_from(scalar.length).unwrap_or(0);
                let bytes = slice::from_raw_parts(scalar.value, length);
                Event::Scalar {
                    anchor: text(scalar.anchor),
                    tag: text(scalar.tag),
                    text: String::from_utf8_lossy(bytes).into_owned(),
                    style: match scalar.style {
                        unsafe_sys::YAML_SINGLE_QUOTED_SCALAR_STYLE
                        | unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE => Style::Quoted,
                        _ => Style::Plain,
                    },
                }
            }
            unsafe_sys::YAML_SEQUENCE_START_EVENT => {
                Event::SequenceStart(text(event.data.sequence_start.anchor))
            }
            unsafe_sys::YAML_SEQUENCE_END_EVENT => Event::SequenceEnd,
            unsafe_sys::YAML_MAPPING_START_EVENT => {
                Event::MappingStart(text(event.data.mapping_start.anchor))
            }
            unsafe_sys::YAML_MAPPING_END_EVENT => Event::MappingEnd,
            _ => return None,
        })
    }
}

/// # Safety
/// Null, or a text of libyaml's that ends with a zero.
unsafe fn text(start: *const u8) -> Option<String> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { std::ffi::CStr::from_ptr(start.cast()) };
    Some(text.to_string_lossy().into_owned())
}

/// # Safety
/// The parser must be initialised and have failed.
unsafe fn failure(parser: *mut unsafe_sys::yaml_parser_t) -> YamlError {
    // SAFETY: the caller's promise; the texts are static ones of libyaml's.
    unsafe {
        let parser = &*parser;
        let problem = text(parser.problem.cast());
        let line = usize::try_from(parser.problem_mark.line).unwrap_or(usize::MAX).saturating_add(1);
        YamlError { line: Some(line), reason: problem.unwrap_or_else(|| "it is no YAML".to_owned()) }
    }
}
