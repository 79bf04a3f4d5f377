//! Every message type against a foreign CDR implementation, Eclipse Cyclone DDS, both ways and field for field.
//!
//! Needs a Python with PyPI's `cyclonedds`:
//! `SPIKEWING_CYCLONEDDS_PYTHON=/path/to/python cargo test -p spikewing-msgs -- --ignored`

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{collections::BTreeMap, fmt::Write, path::Path, process::Command};

use serde_json::Value;
use spikewing_msgs::{Message, cdr};

/// Decodes, compares with the values that were sent, and encodes again.
fn there_and_back<M: Message>(bytes: &[u8], values: &Value) -> Vec<u8> {
    let message: M = cdr::decode(bytes).unwrap_or_else(|e| panic!("{}: {e}", M::TYPE));
    let ours = serde_json::to_value(&message).unwrap();
    assert!(same(&ours, values), "{}: theirs {values}\nours {ours}", M::TYPE);
    cdr::encode(&message).unwrap()
}

/// Decodes and compares one type's message, and encodes it again.
type Exchange = fn(&[u8], &Value) -> Vec<u8>;

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    // `type` is no field name in Rust.
                    let theirs = b.get(name).or_else(|| if name == "kind" { b.get("type") } else { None });
                    theirs.is_some_and(|t| same(value, t))
                })
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[test]
#[ignore = "needs SPIKEWING_CYCLONEDDS_PYTHON"]
fn every_message_agrees_with_cyclone_dds() {
    let python = std::env::var("SPIKEWING_CYCLONEDDS_PYTHON").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let (sent, back) = (dir.path().join("sent"), dir.path().join("back"));
    let peer = |arguments: &[&std::ffi::OsStr]| {
        let output =
            Command::new(&python).arg(root.join("tests/interop/peer.py")).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    peer(&["make".as_ref(), root.as_ref(), sent.as_ref()]);

    let mut table: BTreeMap<String, Exchange> = BTreeMap::new();
    macro_rules! enter {
        ($message:ty, $name:expr) => {
            // The file's own name: two releases of PX4 lay one type out differently.
            let rust = std::any::type_name::<$message>().rsplit("::").next().unwrap();
            let (package_and_folder, _) = $name.rsplit_once('/').unwrap();
            table.insert(format!("{package_and_folder}/{rust}"), there_and_back::<$message>);
        };
    }
    spikewing_msgs::for_each_message!(enter);

    let mut answer = String::new();
    let mut compared = 0;
    for line in std::fs::read_to_string(&sent).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let (name, hex) = (message["type"].as_str().unwrap(), message["cdr"].as_str().unwrap());
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let ours = table[name](&bytes, &message["values"]);
        let hex = ours.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        answer.push_str(&serde_json::json!({"type": name, "cdr": hex}).to_string());
        answer.push('\n');
        compared += 1;
    }
    assert_eq!(compared, table.len());
    std::fs::write(&back, answer).unwrap();
    println!("{}", peer(&["check".as_ref(), root.as_ref(), sent.as_ref(), back.as_ref()]));
}
