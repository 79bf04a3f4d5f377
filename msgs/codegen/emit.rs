//! Rust source from parsed interface files.

use std::fmt::Write;

use super::{Field, Kind, Packages, Primitive, Structure};

/// The longest array for which serde and the standard library implement their traits directly.
const LONGEST_PLAIN_ARRAY: usize = 32;

/// The Rust modules of all packages, and the `AnyMessage` enum over every message and service part.
pub fn generate(packages: &Packages) -> Result<String, String> {
    let mut source = String::new();
    let mut all: Vec<(String, &Structure)> = Vec::new();
    let mut services: Vec<(String, String)> = Vec::new();
    for (package, content) in packages {
        line(&mut source, &format!("/// Messages and services of `{package}`."));
        line(&mut source, &format!("pub mod {package} {{"));
        for structure in &content.messages {
            check(packages, structure)?;
            emit_structure(&mut source, packages, structure);
            all.push((format!("{package}::{}", structure.name), structure));
        }
        for service in &content.services {
            for part in [&service.request, &service.response] {
                check(packages, part)?;
                emit_structure(&mut source, packages, part);
                all.push((format!("{package}::{}", part.name), part));
            }
            doc(&mut source, &service.doc, &format!("The service `{package}/srv/{}`.", service.name));
            line(&mut source, "#[derive(Clone, Copy, Debug)]");
            line(&mut source, &format!("pub struct {};", service.name));
            line(&mut source, &format!("impl crate::Service for {} {{", service.name));
            line(&mut source, &format!("    type Request = {}_Request;", service.name));
            line(&mut source, &format!("    type Response = {}_Response;", service.name));
            line(
                &mut source,
                &format!("    const SERVICE_TYPE: &'static str = \"{package}/srv/{}\";", service.name),
            );
            line(&mut source, "}");
            services
                .push((format!("{package}::{}", service.name), format!("{package}/srv/{}", service.name)));
        }
        line(&mut source, "}");
    }
    emit_any(&mut source, &all);
    emit_services(&mut source, &services);
    Ok(source)
}

fn line(source: &mut String, text: &str) {
    source.push_str(text);
    source.push('\n');
}

fn doc(source: &mut String, text: &str, fallback: &str) {
    let text = if text.trim().is_empty() { fallback } else { text.trim() };
    for part in text.lines() {
        // Brackets and angles in prose would be read as links or HTML by rustdoc.
        let part = part.replace('[', "\\[").replace(']', "\\]").replace('<', "\\<");
        line(source, &format!("/// {part}"));
    }
}

fn check(packages: &Packages, structure: &Structure) -> Result<(), String> {
    fn inner(kind: &Kind) -> &Kind {
        match kind {
            Kind::Array(element, _) | Kind::Sequence(element) => inner(element),
            other => other,
        }
    }
    for field in &structure.fields {
        if let Kind::Structure { package, name } = inner(&field.kind) {
            let known = packages.get(package).is_some_and(|p| p.messages.iter().any(|m| &m.name == name));
            if !known {
                return Err(format!("{}: field {}: no {package}/{name}", structure.ros_type, field.name));
            }
        }
    }
    Ok(())
}

fn emit_structure(source: &mut String, packages: &Packages, structure: &Structure) {
    let name = &structure.name;
    doc(source, &structure.doc, &format!("`{}`.", structure.ros_type));
    line(source, "#[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]");
    line(source, &format!("pub struct {name} {{"));
    for field in &structure.fields {
        doc(source, &field.doc, &format!("`{}`.", field.name));
        if is_long_array(&field.kind) {
            line(source, "    #[serde(with = \"::serde_big_array::BigArray\")]");
        }
        if is_octets(&field.kind) {
            // The same bytes on the wire, but copied at once: a policy has hundreds of thousands of them.
            line(source, "    #[serde(with = \"::serde_bytes\")]");
        }
        line(source, &format!("    pub {}: {},", rust_name(&field.name), rust_type(&field.kind)));
    }
    if structure.fields.is_empty() {
        // ROS 2 puts one octet on the wire for an empty structure.
        line(source, "    /// Holds the one octet that an empty structure has on the wire.");
        line(source, "    pub structure_needs_at_least_one_member: u8,");
    }
    line(source, "}");

    line(source, &format!("impl Default for {name} {{ fn default() -> Self {{ Self {{"));
    for field in &structure.fields {
        line(source, &format!("    {}: {},", rust_name(&field.name), default_value(field)));
    }
    if structure.fields.is_empty() {
        line(source, "    structure_needs_at_least_one_member: 0,");
    }
    line(source, "} } }");

    if !structure.constants.is_empty() {
        line(source, &format!("impl {name} {{"));
        for constant in &structure.constants {
            doc(source, &constant.doc, &format!("`{}`.", constant.name));
            let kind = constant.primitive.rust();
            line(source, &format!("    pub const {}: {kind} = {};", constant.name, constant.value));
        }
        line(source, "}");
    }

    line(source, &format!("impl crate::Message for {name} {{"));
    line(source, &format!("    const TYPE: &'static str = {:?};", structure.ros_type));
    line(source, &format!("    const DEFINITION: &'static str = {:?};", structure.definition));
    line(
        source,
        &format!(
            "    const LAYOUT: &'static [(&'static str, &'static str)] = &{:?};",
            layout(packages, structure)
        ),
    );
    line(source, "    fn wrap(self) -> crate::AnyMessage { crate::AnyMessage::from(self) }");
    line(source, "    fn peel(any: &crate::AnyMessage) -> Option<&Self> {");
    line(
        source,
        &format!(
            "        match any {{ crate::AnyMessage::{}(m) => Some(m), _ => None }}",
            variant(structure)
        ),
    );
    line(source, "    }");
    line(source, "}");
}

/// Every leaf of a structure: its path and its type.
fn layout(packages: &Packages, structure: &Structure) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    for field in &structure.fields {
        flatten(packages, &field.name, &field.kind, &mut leaves);
    }
    if structure.fields.is_empty() {
        leaves.push(("structure_needs_at_least_one_member".to_owned(), "uint8".to_owned()));
    }
    leaves
}

fn flatten(packages: &Packages, path: &str, kind: &Kind, leaves: &mut Vec<(String, String)>) {
    let (element, suffix) = match kind {
        Kind::Array(element, length) => (element.as_ref(), format!("[{length}]")),
        Kind::Sequence(element) => (element.as_ref(), "[]".to_owned()),
        other => (other, String::new()),
    };
    match element {
        Kind::Primitive(primitive) => leaves.push((path.to_owned(), format!("{}{suffix}", primitive.ros()))),
        Kind::Structure { package, name } => {
            let nested = packages.get(package).and_then(|p| p.messages.iter().find(|m| &m.name == name));
            for field in nested.into_iter().flat_map(|m| &m.fields) {
                flatten(packages, &format!("{path}{suffix}.{}", field.name), &field.kind, leaves);
            }
        }
        // The interface language has no arrays of arrays.
        Kind::String | Kind::Array(..) | Kind::Sequence(_) => {
            leaves.push((path.to_owned(), format!("string{suffix}")));
        }
    }
}

fn variant(structure: &Structure) -> String {
    // The package is part of the name: several packages have a VehicleStatus.
    let package = structure.ros_type.split('/').next().unwrap_or_default();
    let mut result = String::new();
    for part in package.split('_').chain(structure.name.split('_')) {
        let mut letters = part.chars();
        if let Some(first) = letters.next() {
            result.extend(first.to_uppercase());
            result.push_str(letters.as_str());
        }
    }
    result
}

fn emit_any(source: &mut String, all: &[(String, &Structure)]) {
    line(source, "/// Any message, request or response that the suite knows.");
    line(source, "#[derive(Clone, Debug, PartialEq)]");
    line(source, "#[allow(clippy::large_enum_variant)]");
    line(source, "pub enum AnyMessage {");
    for (path, structure) in all {
        line(source, &format!("    /// `{}`.", structure.ros_type));
        line(source, &format!("    {}({path}),", variant(structure)));
    }
    line(source, "}");
    for (path, structure) in all {
        line(
            source,
            &format!(
                "impl From<{path}> for AnyMessage {{ fn from(m: {path}) -> Self {{ Self::{}(m) }} }}",
                variant(structure)
            ),
        );
    }
    line(source, "impl AnyMessage {");
    line(source, "    /// The ROS type, e.g. `nav_msgs/msg/Odometry`.");
    line(source, "    pub fn ros_type(&self) -> &'static str { match self {");
    for (path, structure) in all {
        line(source, &format!("        Self::{}(_) => <{path} as Message>::TYPE,", variant(structure)));
    }
    line(source, "    } }");
    line(source, "    /// CDR with its four-byte header.");
    line(source, "    pub fn encode(&self) -> Result<Vec<u8>, cdr::CdrError> { match self {");
    for (_, structure) in all {
        line(source, &format!("        Self::{}(m) => cdr::encode(m),", variant(structure)));
    }
    line(source, "    } }");
    line(source, "}");
    let mut table = String::new();
    for (path, structure) in all {
        let _ = writeln!(table, "    $action!({path}, {:?});", structure.ros_type);
    }
    line(
        source,
        "/// Calls `$action!(rust::Type, \"ros/msg/Type\")` for every message, request and response.",
    );
    line(source, "#[macro_export]");
    line(source, "macro_rules! for_each_message { ($action:ident) => {");
    source.push_str(&table.replace("$action!(", "$action!($crate::"));
    line(source, "} }");
}

fn emit_services(source: &mut String, services: &[(String, String)]) {
    line(source, "/// Calls `$action!(rust::Marker, \"ros/srv/Type\")` for every service.");
    line(source, "#[macro_export]");
    line(source, "macro_rules! for_each_service { ($action:ident) => {");
    for (path, ros_type) in services {
        line(source, &format!("    $action!($crate::{path}, {ros_type:?});"));
    }
    line(source, "} }");
}

fn is_long_array(kind: &Kind) -> bool {
    matches!(kind, Kind::Array(_, length) if *length > LONGEST_PLAIN_ARRAY)
}

fn is_octets(kind: &Kind) -> bool {
    matches!(kind, Kind::Sequence(element) if matches!(**element, Kind::Primitive(Primitive::U8)))
}

fn rust_name(name: &str) -> String {
    // serde keeps the wire free of names, so a keyword can simply be renamed.
    if name == "type" { "kind".into() } else { name.to_owned() }
}

fn rust_type(kind: &Kind) -> String {
    match kind {
        Kind::Primitive(primitive) => primitive.rust().to_owned(),
        Kind::String => "String".to_owned(),
        Kind::Structure { package, name } => format!("super::{package}::{name}"),
        Kind::Array(element, length) => format!("[{}; {length}]", rust_type(element)),
        Kind::Sequence(element) => format!("Vec<{}>", rust_type(element)),
    }
}

fn default_value(field: &Field) -> String {
    let zero = |primitive: Primitive| match primitive {
        Primitive::Bool => "false".to_owned(),
        Primitive::F32 | Primitive::F64 => "0.0".to_owned(),
        _ => "0".to_owned(),
    };
    match &field.kind {
        Kind::Primitive(primitive) => match &field.default {
            Some(value) if matches!(primitive, Primitive::F32 | Primitive::F64) => {
                format!("{value}_{}", primitive.rust())
            }
            Some(value) => value.clone(),
            None => zero(*primitive),
        },
        Kind::Array(element, length) => match element.as_ref() {
            Kind::Primitive(primitive) => format!("[{}; {length}]", zero(*primitive)),
            _ => "::std::array::from_fn(|_| Default::default())".to_owned(),
        },
        _ => "Default::default()".to_owned(),
    }
}
