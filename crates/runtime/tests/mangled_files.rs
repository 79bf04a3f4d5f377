//! Launch and parameter files with anything done to them are read, or refused with a reason; nothing panics.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{fs, path::Path};

use proptest::prelude::*;
use spikewing_runtime::{launch, parameter_file};

/// One thing done to a text.
#[derive(Clone, Debug)]
enum Damage {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    LineGone(prop::sample::Index),
    LineTwice(prop::sample::Index),
    Indented(prop::sample::Index, usize),
    Inserted(prop::sample::Index, &'static str),
}

/// What YAML, substitutions and numbers are sensitive to.
const SHARDS: [&str; 16] = [
    "$(", "$(var ", "$(eval ", "))", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!str ", "\t", "1e999", "- ",
    ": ",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(i, b)| Damage::Byte(i, b)),
        at().prop_map(Damage::Cut),
        at().prop_map(Damage::LineGone),
        at().prop_map(Damage::LineTwice),
        (at(), 0_usize..5).prop_map(|(i, n)| Damage::Indented(i, n)),
        (at(), prop::sample::select(SHARDS.to_vec())).prop_map(|(i, s)| Damage::Inserted(i, s)),
    ]
}

fn damaged(text: &[u8], all: &[Damage]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for damage in all {
        let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        match damage {
            Damage::Byte(at, value) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *value;
                continue;
            }
            Damage::Cut(at) => {
                bytes.truncate(at.index(bytes.len() + 1));
                continue;
            }
            Damage::Inserted(at, shard) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, shard.bytes());
                continue;
            }
            Damage::Byte(..) => continue,
            Damage::LineGone(at) => drop(lines.remove(at.index(lines.len()))),
            Damage::LineTwice(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
            }
            Damage::Indented(at, by) => {
                let at = at.index(lines.len());
                lines[at].splice(0..0, vec![b' '; *by]);
            }
        }
        bytes = lines.join(&b'\n');
    }
    bytes
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    paths.iter().map(|p| fs::read(p).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_launch_file_is_read_or_refused(
        which in any::<prop::sample::Index>(),
        all in prop::collection::vec(damage(), 1..6),
    ) {
        let files = files("launch");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.launch.yaml");
        fs::write(&path, damaged(&files[which.index(files.len())], &all)).unwrap();
        if let Err(error) = launch::read(&path, &[]) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_damaged_parameter_file_is_read_or_refused(
        which in any::<prop::sample::Index>(),
        all in prop::collection::vec(damage(), 1..6),
    ) {
        let files = files("params");
        let text = damaged(&files[which.index(files.len())], &all);
        if let Err(error) = parameter_file::parse(&text, Path::new("x.yaml"), "/supervisor") {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parameter_file::parse(&text, Path::new("x.yaml"), "/supervisor");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.launch.yaml");
        fs::write(&path, &text).unwrap();
        let _ = launch::read(&path, &[]);
    }
}
