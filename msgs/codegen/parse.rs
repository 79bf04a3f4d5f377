//! The ROS 2 interface language, as far as our files use it.

/// One message, request or response.
pub struct Structure {
    /// Rust name, e.g. `MotorCommand` or `SwapPolicy_Request`.
    pub name: String,
    /// Name on the wire, e.g. `px4_msgs/msg/VehicleStatus`.
    pub ros_type: String,
    pub doc: String,
    pub constants: Vec<Constant>,
    pub fields: Vec<Field>,
    /// The file's text, for recordings that carry their schema.
    pub definition: String,
}

pub struct Constant {
    pub name: String,
    pub primitive: Primitive,
    pub value: String,
    pub doc: String,
}

pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub doc: String,
    pub default: Option<String>,
}

/// The type of a field.
pub enum Kind {
    Primitive(Primitive),
    String,
    Structure { package: String, name: String },
    Array(Box<Kind>, usize),
    Sequence(Box<Kind>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Primitive {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Primitive {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "bool" => Self::Bool,
            "uint8" | "byte" | "char" => Self::U8,
            "int8" => Self::I8,
            "uint16" => Self::U16,
            "int16" => Self::I16,
            "uint32" => Self::U32,
            "int32" => Self::I32,
            "uint64" => Self::U64,
            "int64" => Self::I64,
            "float32" => Self::F32,
            "float64" => Self::F64,
            _ => return None,
        })
    }

    /// The interface language's name.
    pub fn ros(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    pub fn rust(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// Parses the text of one structure of `package`; `folder` is `msg` or `srv`.
pub fn structure(package: &str, name: &str, folder: &str, text: &str) -> Result<Structure, String> {
    let mut result = Structure {
        name: name.to_owned(),
        ros_type: format!("{package}/{folder}/{name}"),
        doc: String::new(),
        constants: Vec::new(),
        fields: Vec::new(),
        definition: text.trim().to_owned(),
    };
    for (index, line) in text.lines().enumerate() {
        let (code, comment) = match line.split_once('#') {
            Some((code, comment)) => (code.trim(), comment.trim()),
            None => (line.trim(), ""),
        };
        let located = |what: &str| format!("line {}: {what}: `{line}`", index + 1);
        if code.is_empty() {
            if let Some(ros_type) = comment.strip_prefix("@type ") {
                // A release of another package may lay out the same type differently.
                result.ros_type = ros_type.trim().to_owned();
            } else if result.fields.is_empty() && result.constants.is_empty() && !comment.is_empty() {
                result.doc.push_str(comment);
                result.doc.push('\n');
            }
            continue;
        }
        let (kind, rest) = code.split_once(char::is_whitespace).ok_or_else(|| located("no field name"))?;
        let rest = rest.trim();
        if let Some((constant, value)) = rest.split_once('=') {
            let primitive =
                Primitive::parse(kind).ok_or_else(|| located("a constant needs a primitive type"))?;
            result.constants.push(Constant {
                name: constant.trim().to_owned(),
                primitive,
                value: value.trim().to_owned(),
                doc: comment.to_owned(),
            });
            continue;
        }
        let (field, default) = match rest.split_once(char::is_whitespace) {
            Some((field, default)) => (field, Some(default.trim().to_owned())),
            None => (rest, None),
        };
        let kind = kind_of(package, kind).ok_or_else(|| located("unknown type"))?;
        result.fields.push(Field { name: field.to_owned(), kind, doc: comment.to_owned(), default });
    }
    Ok(result)
}

fn kind_of(package: &str, word: &str) -> Option<Kind> {
    if let Some((element, length)) = word.strip_suffix(']').and_then(|w| w.split_once('[')) {
        let element = Box::new(kind_of(package, element)?);
        return if length.is_empty() || length.starts_with("<=") {
            Some(Kind::Sequence(element))
        } else {
            Some(Kind::Array(element, length.parse().ok()?))
        };
    }
    if let Some(primitive) = Primitive::parse(word) {
        return Some(Kind::Primitive(primitive));
    }
    if word == "string" {
        return Some(Kind::String);
    }
    let (package, name) = word.split_once('/').unwrap_or((package, word));
    let capital = name.chars().next().is_some_and(char::is_uppercase);
    capital.then(|| Kind::Structure { package: package.to_owned(), name: name.to_owned() })
}
