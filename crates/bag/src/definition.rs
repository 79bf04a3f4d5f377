//! A message definition with all that it is made of, as bags carry it.

use spikewing_msgs::Message;

/// Between two definitions.
const RULE: &str = "================================================================================";
const PRIMITIVES: [&str; 15] = [
    "bool", "byte", "char", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32",
    "int64", "uint64", "string", "wstring",
];

/// The definition and, behind it, those of all types inside it (schema encoding `ros2msg`).
pub fn schema_text(ros_type: &str, definition: &str) -> String {
    let mut text = definition.trim_end().to_owned();
    let mut told = vec![ros_type.to_owned()];
    let mut open = inside(ros_type, definition);
    while let Some(next) = open.pop() {
        if told.contains(&next) {
            continue;
        }
        // A type that is not known was refused when the messages were generated.
        let Some(definition) = definition_of(&next) else { continue };
        let short = next.replace("/msg/", "/");
        text.push_str(&format!("\n{RULE}\nMSG: {short}\n{}", definition.trim_end()));
        open.extend(inside(&next, definition));
        told.push(next);
    }
    text.push('\n');
    text
}

/// The types of the fields that are messages themselves.
fn inside(ros_type: &str, definition: &str) -> Vec<String> {
    let package = ros_type.split('/').next().unwrap_or_default();
    let fields = definition.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let kind = line.split_whitespace().next()?;
        let kind = kind.split('[').next().unwrap_or(kind);
        let plain = kind.split("<=").next().unwrap_or(kind);
        if PRIMITIVES.contains(&plain) {
            return None;
        }
        Some(match kind.split_once('/') {
            Some((package, name)) => format!("{package}/msg/{}", name.trim_start_matches("msg/")),
            None => format!("{package}/msg/{kind}"),
        })
    });
    let mut all: Vec<String> = fields.collect();
    // The first is told first.
    all.reverse();
    all
}

fn definition_of(ros_type: &str) -> Option<&'static str> {
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            if ros_type == $name {
                return Some(<$ty as Message>::DEFINITION);
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use spikewing_msgs::{diagnostic_msgs::DiagnosticArray, nav_msgs::Odometry};

    #[test]
    fn what_a_type_is_made_of_stands_behind_it_once() {
        let text = schema_text(Odometry::TYPE, Odometry::DEFINITION);
        let told: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("MSG: ")).collect();
        for name in
            ["std_msgs/Header", "builtin_interfaces/Time", "geometry_msgs/Point", "geometry_msgs/Vector3"]
        {
            assert_eq!(told.iter().filter(|t| **t == name).count(), 1, "{name} in {told:?}");
        }
        assert!(text.starts_with(Odometry::DEFINITION.trim_end()));
        let text = schema_text(DiagnosticArray::TYPE, DiagnosticArray::DEFINITION);
        assert!(text.contains("MSG: diagnostic_msgs/KeyValue"), "{text}");
    }
}
