//! What is written is read back, from whole files and from cut ones.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use spikewing_bag::{Limits, Message, Recording, Retention, Topic, Writer, mend, read, schema_text};
use spikewing_msgs::{Message as _, cdr, geometry_msgs::PoseStamped, spikewing_msgs::MotorCommand};

fn topic(name: &str, retention: Retention) -> Topic {
    Topic {
        name: name.into(),
        ros_type: MotorCommand::TYPE.into(),
        schema: schema_text(MotorCommand::TYPE, MotorCommand::DEFINITION),
        retention,
    }
}

fn command(i: u32) -> Vec<u8> {
    let policy_version = u64::from(i);
    cdr::encode(&MotorCommand { motors: [i as f32 * 1e-3; 4], policy_version, ..MotorCommand::default() })
        .unwrap()
}

fn all(path: &Path) -> (Vec<Message>, bool) {
    let bytes = fs::read(path).unwrap();
    let mut messages = read(&bytes).unwrap();
    let found: Vec<Message> = messages.by_ref().map(Result::unwrap).collect();
    (found, messages.was_cut())
}

fn bag(count: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let schema = schema_text(MotorCommand::TYPE, MotorCommand::DEFINITION);
    let motors = writer.channel("/command", MotorCommand::TYPE, &schema, Retention::Stream);
    let schema = schema_text(PoseStamped::TYPE, PoseStamped::DEFINITION);
    let poses = writer.channel("/target", PoseStamped::TYPE, &schema, Retention::Latched);
    for i in 0..count {
        writer.write(motors, u64::from(i), u64::from(i), &command(i)).unwrap();
        if i % 50 == 0 {
            let pose = cdr::encode(&PoseStamped::default()).unwrap();
            writer.write(poses, u64::from(i), u64::from(i), &pose).unwrap();
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap()
}

#[test]
fn messages_come_back_with_their_types() {
    let bytes = bag(1000);
    let mut messages = read(&bytes).unwrap();
    let found: Vec<Message> = messages.by_ref().map(Result::unwrap).collect();
    assert!(!messages.was_cut());
    assert_eq!(found.len(), 1020);
    let commands: Vec<&Message> = found.iter().filter(|m| m.channel.topic == "/command").collect();
    for (i, message) in (0..).zip(&commands) {
        assert_eq!((message.arrived, &message.data), (u64::from(i), &command(i)));
    }
    assert_eq!(commands[0].channel.ros_type, "spikewing_msgs/msg/MotorCommand");
    assert!(found.iter().any(|m| m.channel.topic == "/target" && m.channel.qos.contains("durability: 1")));
}

#[test]
fn foreign_files_are_named() {
    for (bytes, named) in [
        (&b"SQLite format 3\0"[..], "ros2 bag convert"),
        (b"ULog\x01\x12\x35", "PX4 log"),
        (b"#ROSBAG V2.0\n", "ROS 1"),
        (b"", "empty"),
        (b"{}", "mark"),
    ] {
        let error = read(bytes).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
}

proptest! {
    /// A file that was cut gives what stands whole in it, and mended it is a bag with an end.
    #[test]
    fn a_cut_bag_is_read_up_to_the_cut(share in 0.01..1.0_f64) {
        let bytes = bag(300);
        let cut = &bytes[..((bytes.len() as f64 * share) as usize).max(8)];
        let whole: Vec<Vec<u8>> = read(&bytes).unwrap().map(|m| m.unwrap().data).collect();
        let found: Vec<Vec<u8>> = read(cut).unwrap().map(|m| m.unwrap().data).collect();
        prop_assert_eq!(&found[..], &whole[..found.len()]);
        let mended = mend(cut, Vec::new()).unwrap();
        prop_assert_eq!(mended.messages, found.len() as u64);
        let mut again = read(&mended.out).unwrap();
        prop_assert_eq!(again.by_ref().map(|m| m.unwrap().data).collect::<Vec<_>>(), found);
        prop_assert!(!again.was_cut());
    }

    /// Whatever is in a file, reading it ends, and panics nowhere.
    #[test]
    fn damaged_bags_are_refused_or_read(at in 8..4000_usize, value: u8) {
        let mut bytes = bag(120);
        let at = at % bytes.len();
        bytes[at.max(8)] = value;
        let _ = read(&bytes).unwrap().filter(Result::is_ok).count();
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const LARGE: Limits = Limits { file_bytes: 1_000_000_000, files: 10 };

/// What a kill leaves: the file as it is on disk, without an end.
#[test]
fn what_was_recorded_half_a_second_ago_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.mcap");
    let recording = Recording::start(&path, vec![topic("/command", Retention::Stream)], LARGE).unwrap();
    for i in 0..100 {
        recording.write(0, u64::from(i), u64::from(i), command(i));
    }
    eventually("nothing is on disk", || all(&path).0.len() == 100);
    assert!(all(&path).1, "it has no end yet");
    drop(recording);
    assert_eq!(all(&path).0.len(), 100);
    assert!(!all(&path).1);
    // What is there is not written over.
    let next = Recording::start(&path, vec![topic("/command", Retention::Stream)], LARGE).unwrap();
    assert_eq!(next.path(), folder.path().join("flight_1.mcap"));
    drop(next);
    assert_eq!(all(&path).0.len(), 100);
}

#[test]
fn a_full_file_is_followed_by_the_next_with_what_still_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.mcap");
    let topics = vec![topic("/latched", Retention::Latched), topic("/command", Retention::Stream)];
    let limits = Limits { file_bytes: 20_000, files: 3 };
    let recording = Recording::start(&path, topics, limits).unwrap();
    recording.write(0, 0, 0, command(7));
    for i in 0..4000 {
        recording.write(1, u64::from(i), u64::from(i), command(i));
        // Chunks of compressible messages grow to their full size before they count.
        if i % 500 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(recording.losses().messages, 0);
    drop(recording);
    let mut files: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let (messages, cut) = all(file);
        assert!(!cut);
        assert!(messages.iter().any(|m| m.channel.topic == "/latched"), "{}", file.display());
    }
    let last = files
        .iter()
        .flat_map(|f| all(f).0)
        .filter(|m| m.channel.topic == "/command")
        .map(|m| m.arrived)
        .max();
    assert_eq!(last, Some(3999));
}
