//! Every node's README has the table of its declared parameters, word for word.
//!
//! `SPIKEWING_UPDATE_READMES=1 cargo test -p spikewing --test readmes` writes the tables anew.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{fs, path::Path};

use spikewing::registry;
use spikewing_runtime::{NodeOptions, args::markdown_table};

#[test]
fn readmes_have_the_declared_parameters() {
    for kind in registry::all() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nodes").join(kind.name).join("README.md");
        let text = fs::read_to_string(&path).unwrap();
        let table = markdown_table(&(kind.declare)());
        let start = text.find("| parameter |").unwrap_or_else(|| panic!("{}: no table", path.display()));
        let end = text[start..].find("\n\n").map_or(text.len(), |n| start + n + 1);
        if std::env::var_os("SPIKEWING_UPDATE_READMES").is_some() {
            fs::write(&path, format!("{}{table}{}", &text[..start], &text[end..])).unwrap();
        } else {
            assert_eq!(&text[start..end], table, "{}", path.display());
        }
    }
}

/// Names in the first column of the tables of a section.
fn listed(text: &str, section: &str) -> Vec<String> {
    let body = text.split(&format!("## {section}\n")).nth(1).unwrap_or_default();
    let body = body.split("\n## ").next().unwrap();
    body.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        // A topic whose name changes with PX4's release has a note behind it.
        .map(|name| name.split(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn readmes_name_every_topic_and_service_and_no_other() {
    for kind in registry::all() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nodes").join(kind.name).join("README.md");
        let text = fs::read_to_string(&path).unwrap();
        let options = NodeOptions::of(kind);
        let interface = (kind.build)(&options.context()).unwrap().interface();
        let covers = |entry: &str, name: &str| {
            entry == name || entry.strip_suffix('*').is_some_and(|start| name.starts_with(start))
        };
        for (section, ends) in [("Inputs", &interface.inputs), ("Outputs", &interface.outputs)] {
            let entries = listed(&text, section);
            for end in ends {
                let told = entries.iter().any(|e| covers(e, end.name));
                assert!(told, "{}: {section}: `{}` is missing", path.display(), end.name);
            }
            for entry in &entries {
                let there = ends.iter().any(|end| covers(entry, end.name));
                assert!(there, "{}: {section}: there is no `{entry}`", path.display());
            }
        }
        for end in interface.servers.iter().chain(&interface.clients) {
            assert!(text.contains(&format!("`{}`", end.name)), "{}: `{}`", path.display(), end.name);
        }
    }
}

#[test]
fn every_parameter_says_what_it_does() {
    for kind in registry::all() {
        for d in (kind.declare)() {
            assert!(!d.description.is_empty(), "{}: {}", kind.name, d.name);
            assert!(
                d.check(d.default.clone()).is_ok(),
                "{}: the default of {} is refused",
                kind.name,
                d.name
            );
        }
    }
}

#[test]
fn the_page_of_topics_is_what_the_nodes_declare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../msgs/TOPICS.md");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_spikewing"))
        .args(["topics", "--markdown"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = String::from_utf8(made.stdout).unwrap();
    if std::env::var_os("SPIKEWING_UPDATE_READMES").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            made,
            "`spikewing topics --markdown >msgs/TOPICS.md` makes it anew"
        );
    }
}

/// r2r compiles in what its filter names, and a topic of another package could not be made.
#[test]
fn the_filter_of_message_packages_has_every_topic() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cargo/config.toml")).unwrap();
    let filter = text.split("IDL_PACKAGE_FILTER = \"").nth(1).unwrap().split('"').next().unwrap();
    let packages: Vec<&str> = filter.split(';').collect();
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../msgs/TOPICS.md")).unwrap();
    let mut types: Vec<&str> = page.split('|').map(str::trim).filter(|cell| cell.contains("/msg/")).collect();
    types.extend(["rcl_interfaces/msg/Log", "rosgraph_msgs/msg/Clock"]);
    for ros_type in types {
        assert!(packages.contains(&ros_type.split('/').next().unwrap()), "{ros_type}: .cargo/config.toml");
    }
}

/// A topic that a node publishes and nobody records would be missed only when it is wanted.
#[test]
fn the_recorder_records_what_every_node_publishes_and_hears() {
    use spikewing_recorder::topics::{OF_A_DRONE, SHARED};
    for kind in registry::NODES {
        let options = NodeOptions::of(kind);
        let interface = (kind.build)(&options.context()).unwrap().interface();
        for end in interface.outputs.iter().chain(&interface.inputs) {
            let recorded = SHARED.iter().chain(&OF_A_DRONE).find(|t| t.name == end.name);
            let recorded =
                recorded.unwrap_or_else(|| panic!("{}: `{}` is not recorded", kind.name, end.name));
            assert_eq!(recorded.message, end.message, "{}: `{}`", kind.name, end.name);
        }
        // A reader that asks for more than a writer offers hears nothing.
        for end in &interface.outputs {
            let recorded = SHARED.iter().chain(&OF_A_DRONE).find(|t| t.name == end.name).unwrap();
            let latched = |q: spikewing_runtime::port::Qos| {
                q.durability == spikewing_runtime::port::Durability::TransientLocal
            };
            let reliable = |q: spikewing_runtime::port::Qos| {
                q.reliability == spikewing_runtime::port::Reliability::Reliable
            };
            assert!(!latched(recorded.qos) || latched(end.qos), "{}", end.name);
            assert!(!reliable(recorded.qos) || reliable(end.qos), "{}", end.name);
        }
    }
}
