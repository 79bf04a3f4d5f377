//! The launch files that ship: they can be read, start nodes that exist, and set only what those nodes take.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use spikewing::registry;
use spikewing_runtime::{
    NodeOptions,
    args::{self, Parsed, Setting},
    launch::{self, Launch},
    parameter_file,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn launch_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("launch")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// With an answer to every argument that has no default.
fn read(file: &Path) -> Launch {
    let given: Vec<(String, String)> = if file.ends_with("drone.launch.yaml") {
        vec![("policy".into(), "/some/policy.safetensors".into())]
    } else {
        Vec::new()
    };
    launch::read(file, &given).unwrap()
}

fn options(node: &launch::LaunchNode) -> NodeOptions {
    let kind =
        registry::all().find(|k| k.name == node.exec).unwrap_or_else(|| panic!("no node {}", node.exec));
    match args::parse(kind, &node.arguments()).unwrap() {
        Parsed::Run(options) => *options,
        Parsed::Help(_) => panic!("no help was asked for"),
    }
}

#[test]
fn every_node_takes_what_is_set() {
    for file in launch_files() {
        let launch = read(&file);
        assert!(launch.nodes.len() >= 5, "{}", file.display());
        for node in &launch.nodes {
            options(node);
        }
    }
}

#[test]
fn names_for_all_nodes_are_known_to_one_of_the_launch() {
    for file in launch_files() {
        let launch = read(&file);
        let known: Vec<&str> = launch
            .nodes
            .iter()
            .filter_map(|n| registry::all().find(|k| k.name == n.exec))
            .flat_map(|k| (k.declare)().into_iter().map(|d| d.name))
            .chain(["use_sim_time"])
            .collect();
        for node in &launch.nodes {
            for setting in &node.settings {
                let Setting::File(path) = setting else { continue };
                for a in parameter_file::assignments(path, &format!("/{}", node.name)).unwrap() {
                    assert!(known.contains(&a.name.as_str()), "{}: {}", path.display(), a.name);
                }
            }
        }
    }
}

/// The keys that `ros2 launch` cannot do without.
#[test]
fn every_node_names_its_package() {
    for file in launch_files() {
        let yaml: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let entries = yaml["launch"].as_sequence().unwrap();
        for node in entries.iter().filter_map(|e| e.get("node")) {
            assert_eq!(node["pkg"].as_str(), Some("spikewing"), "{}: {node:?}", file.display());
        }
    }
}

/// What must hold on a real drone, whatever a simulation is set to.
#[test]
fn a_real_drone_is_not_armed_reset_or_clocked_by_a_simulation() {
    let launch = read(&root().join("launch/drone.launch.yaml"));
    assert!(launch.nodes.iter().all(|n| n.exec != "simulator" && n.exec != "online_learner"));
    for node in &launch.nodes {
        let options = options(node);
        assert!(!options.use_sim_time, "{}", node.name);
        if node.exec == "supervisor" {
            assert!(!options.parameters.boolean("auto_arm").unwrap());
            assert!(!options.parameters.boolean("reset_each_episode").unwrap());
            assert_eq!(options.parameters.text("on_violation").unwrap(), "recover");
        }
    }
    // Without a policy it does not start.
    let error = launch::read(&root().join("launch/drone.launch.yaml"), &[]).unwrap_err().to_string();
    assert!(error.contains("policy:=VALUE"), "{error}");
}

#[test]
fn gazebo_keeps_the_time_of_every_node() {
    let launch = read(&root().join("launch/px4_gazebo.launch.yaml"));
    for node in &launch.nodes {
        let options = options(node);
        assert!(options.use_sim_time, "{}", node.name);
        if node.exec == "px4_bridge" {
            assert_eq!(options.resolve_service("set_entity_pose"), "/world/default/set_pose");
        }
    }
}

#[test]
fn every_file_gives_a_landing_its_time() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../launch")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".launch.yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let told = text.contains("- let: {name: sigterm_timeout, value: \"30\"}");
            assert!(
                told,
                "{}: `ros2 launch` would end the nodes in the middle of the landing",
                path.display()
            );
        }
    }
}

/// What a person names flies; what a person wrote into a parameter file flies if nothing is named.
#[test]
fn the_vehicle_that_is_named_is_every_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let params = folder.path().join("mine.yaml");
    fs::write(&params, "/**:\n  ros__parameters:\n    vehicle: x500\n").unwrap();
    let params = ("params".to_owned(), params.display().to_string());
    let named = ("vehicle".to_owned(), "some where/1.yaml".to_owned());
    for file in ["hover_sim", "train_sim", "fleet_sim"] {
        let path = root().join(format!("launch/{file}.launch.yaml"));
        let vehicles = |given: &[(String, String)]| -> Vec<String> {
            let launch = launch::read(&path, given).unwrap();
            let all = launch
                .nodes
                .iter()
                .filter_map(|n| options(n).parameters.text("vehicle").ok().map(str::to_owned));
            let mut all: Vec<String> = all.collect();
            assert!(all.len() >= 4, "{all:?}");
            all.dedup();
            all
        };
        assert_eq!(vehicles(&[]), ["crazyflie"], "{file}");
        assert_eq!(vehicles(std::slice::from_ref(&params)), ["x500"], "{file}");
        assert_eq!(vehicles(&[params.clone(), named.clone()]), ["some where/1.yaml"], "{file}");
    }
}

#[test]
fn a_flight_is_recorded_where_it_is_wished() {
    for file in launch_files() {
        if file.ends_with("fleet_drone.launch.yaml") {
            continue;
        }
        let mut given = vec![("record".to_owned(), "true".to_owned())];
        if file.ends_with("drone.launch.yaml") {
            given.push(("policy".into(), "/some/policy.safetensors".into()));
        }
        let launch = launch::read(&file, &given).unwrap();
        let recorder = launch.nodes.iter().find(|n| n.exec == "recorder").unwrap();
        assert!(
            options(recorder).parameters.text("file").unwrap().ends_with("flight.mcap"),
            "{}",
            file.display()
        );
        let without = read(&file);
        assert!(without.nodes.iter().all(|n| n.exec != "recorder"), "{}", file.display());
    }
}
