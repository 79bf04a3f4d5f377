//! The airframe that a policy is made for: its name and its content, by which two of one name are told apart.

use super::signature::hex;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A vehicle as policies know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Airframe {
    /// Name, as in the vehicle's file.
    pub name: String,
    /// Its physics in one line of JSON, the same for the same airframe (`Vehicle::content` of spikewing-quad).
    pub content: String,
}

impl From<(String, String)> for Airframe {
    /// From a name and a content.
    fn from((name, content): (String, String)) -> Self {
        Self { name, content }
    }
}

/// sha256 of a content, in hex: what identifies an airframe besides its name.
pub fn content_sha256(content: &str) -> String {
    hex(&Sha256::digest(content.as_bytes()))
}

/// What differs between two contents, field by field: `mass_kg: 0.027 there, 0.044 here`. A text that is no content differs
/// as a whole.
pub fn differences(there: &str, here: &str) -> Vec<String> {
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
    let mut all = Vec::new();
    match (read(there), read(here)) {
        (Some(a), Some(b)) => compare_maps("", &a, &b, &mut all),
        _ if there == here => {}
        _ => all.push("one of them cannot be read".to_owned()),
    }
    all
}

fn compare_maps(prefix: &str, there: &Map<String, Value>, here: &Map<String, Value>, all: &mut Vec<String>) {
    let mut keys: Vec<&String> = there.keys().chain(here.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        compare(&format!("{prefix}{key}"), there.get(key), here.get(key), all);
    }
}

fn compare(field: &str, there: Option<&Value>, here: Option<&Value>, all: &mut Vec<String>) {
    match (there, here) {
        (Some(a), Some(b)) if a == b => {}
        // Rotors one by one; short vectors are clearer whole.
        (Some(Value::Array(a)), Some(Value::Array(b))) if field == "rotors" && a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("rotors[{i}]"), Some(a), Some(b), all);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if field == "rotors" => {
            all.push(format!("rotors: {} there, {} here", a.len(), b.len()));
        }
        (Some(Value::Object(a)), Some(Value::Object(b))) => compare_maps(&format!("{field}."), a, b, all),
        (a, b) => {
            let shown = |v: Option<&Value>| v.map_or_else(|| "none".to_owned(), Value::to_string);
            all.push(format!("{field}: {} there, {} here", shown(a), shown(b)));
        }
    }
}
