//! Every node's README has the table of its declared parameters, word for word.
//!
//! `SPIKEWING_UPDATE_READMES=1 cargo test -p spikewing --test readmes` writes the tables anew.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{fs, path::Path};

use spikewing_runtime::{NodeKind, args::markdown_table};

const NODES: [&NodeKind; 7] = [
    &spikewing_simulator::NODE,
    &spikewing_px4_bridge::NODE,
    &spikewing_state_estimator::NODE,
    &spikewing_guide_policy::NODE,
    &spikewing_snn_policy::NODE,
    &spikewing_supervisor::NODE,
    &spikewing_online_learner::NODE,
];

#[test]
fn readmes_have_the_declared_parameters() {
    for kind in NODES {
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

#[test]
fn every_parameter_says_what_it_does() {
    for kind in NODES {
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
