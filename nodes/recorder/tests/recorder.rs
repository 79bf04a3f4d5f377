//! The node on the bench.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use spikewing_bag::{Message, read};
use spikewing_msgs::{Message as _, cdr, nav_msgs::Odometry, spikewing_msgs::MotorCommand};
use spikewing_recorder::NODE;
use spikewing_runtime::{
    Span,
    node::{Finish, Shutdown},
    parameter::Value,
    rig::Rig,
};

fn text(path: &std::path::Path) -> Value {
    Value::Text(path.display().to_string())
}

#[test]
fn what_arrives_is_in_the_bag_with_time_name_and_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/flight.mcap");
    let settings = [
        ("file", text(&path)),
        ("drones", Value::Integer(2)),
        ("also", Value::Texts(vec!["wind geometry_msgs/msg/Vector3".into()])),
        ("skip", Value::Texts(vec!["imu".into()])),
    ];
    let mut rig = Rig::build(&NODE, &settings).unwrap();
    let mut odometry = Odometry::default();
    odometry.pose.pose.position.z = 1.25;
    rig.pass(Span::from_millis(100));
    rig.message("odometry", odometry.clone());
    rig.message("drone_1/command", MotorCommand::default());
    rig.message("wind", spikewing_msgs::geometry_msgs::Vector3::default());
    rig.pass(Span::from_millis(100));
    rig.message("odometry", odometry.clone());
    // Others land while it is asked to stop; then it ends.
    assert_eq!(rig.shutdown(), Shutdown::Wait);
    rig.pass(Span::from_millis(500));
    rig.message("odometry", odometry.clone());
    rig.pass(Span::from_millis(500));
    assert_eq!(rig.shutdown(), Shutdown::Wait);
    rig.pass(Span::from_millis(300));
    assert_eq!(rig.shutdown(), Shutdown::Done);
    drop(rig);
    let bytes = std::fs::read(&path).unwrap();
    let all: Vec<Message> = read(&bytes).unwrap().map(Result::unwrap).collect();
    let names: Vec<&str> = all.iter().map(|m| m.channel.topic.as_str()).collect();
    assert_eq!(names, ["/odometry", "/drone_1/command", "/wind", "/odometry", "/odometry"]);
    assert_eq!(all[0].channel.ros_type, Odometry::TYPE);
    assert_eq!(cdr::decode::<Odometry>(&all[0].data).unwrap(), odometry);
    assert_eq!(all[3].arrived - all[0].arrived, 100_000_000);
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = text(&folder.path().join("flight.mcap"));
    let refused = |name: &str, value: Value, why: &str| {
        let error = Rig::build(&NODE, &[("file", good.clone()), (name, value)]).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused("skip", Value::Texts(vec!["odomtry".into()]), "no topic `odomtry`");
    refused("also", Value::Texts(vec!["wind Vector3".into()]), "no type `Vector3`");
    refused("also", Value::Texts(vec!["wind".into()]), "NAME TYPE");
    refused("also", Value::Texts(vec!["imu sensor_msgs/msg/Imu".into()]), "anyway");
    let rig = Rig::build(&NODE, &[("file", text(folder.path()))]).unwrap();
    let Some(Finish::Failure(reason)) = rig.finished() else { panic!("a folder is no file") };
    assert!(reason.contains("parameter file") && reason.contains("folder"), "{reason}");
}
