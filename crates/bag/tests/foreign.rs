//! Foreign readers judge a bag: PyPI's `mcap-ros2-support` and `rosbags` read every message, field by field.
//!
//! `python -m venv V && V/bin/pip install mcap-ros2-support==0.6.0 rosbags==0.11.9`, then
//! `SPIKEWING_BAG_PYTHON=V/bin/python cargo test -p spikewing-bag --test foreign -- --ignored`

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{fs, path::Path, process::Command};

use spikewing_bag::{Retention, Writer, mend, schema_text};
use spikewing_msgs::{Message, cdr};

/// One message of every type that has no service's name.
fn bag_of_every_type() -> (Vec<u8>, usize) {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let mut count = 0;
    macro_rules! entry {
        ($ty:ty, $name:expr) => {
            // Of several layouts of one type a bag has one.
            if $name.contains("/msg/")
                && !stringify!($ty).contains("V1")
                && !stringify!($ty).contains("StatusV")
            {
                let schema = schema_text($name, <$ty as Message>::DEFINITION);
                let topic = format!("/{}", $name.replace("/msg/", "/"));
                let channel = writer.channel(&topic, $name, &schema, Retention::Stream);
                for i in 0..3_u64 {
                    writer.write(channel, i + 1, i + 1, &cdr::encode(&<$ty>::default()).unwrap()).unwrap();
                }
                count += 1;
            }
        };
    }
    spikewing_msgs::for_each_message!(entry);
    writer.flush().unwrap();
    (writer.finish().unwrap(), count)
}

#[test]
#[ignore = "wants a Python with mcap-ros2-support and rosbags: SPIKEWING_BAG_PYTHON"]
fn foreign_readers_decode_every_type() {
    let python = std::env::var("SPIKEWING_BAG_PYTHON").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (bytes, types) = bag_of_every_type();
    let whole = folder.path().join("whole.mcap");
    fs::write(&whole, &bytes).unwrap();
    // As a killed recorder leaves it: no index, no footer.
    let cut = folder.path().join("cut.mcap");
    fs::write(&cut, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let mended = folder.path().join("mended.mcap");
    fs::write(&mended, mend(&fs::read(&cut).unwrap(), Vec::new()).unwrap().out).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign.py");
    for (file, how) in [(&whole, "whole"), (&cut, "cut"), (&mended, "whole")] {
        let output =
            Command::new(&python).arg(&script).arg(file).arg(how).arg(types.to_string()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}: {text}{}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{}: {}", file.display(), text.trim());
    }
}
