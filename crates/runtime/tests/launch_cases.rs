//! Launch files that people bring, each with its outcome in `ros2 launch` (Jazzy), which is the outcome here.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::{Path, PathBuf};

use spikewing_runtime::{
    args::Setting,
    launch::{self, Launch},
    parameter::Value,
};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/launch_files").join(format!("{name}.launch.yaml"))
}

fn read(name: &str) -> Launch {
    launch::read(&case(name), &[]).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn refused(name: &str) -> String {
    launch::read(&case(name), &[]).map(|_| panic!("{name} was read")).unwrap_err().to_string()
}

fn text(text: &str) -> Result<Launch, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.launch.yaml");
    std::fs::write(&path, text).unwrap();
    launch::read(&path, &[]).map_err(|e| e.to_string())
}

/// Full names of the nodes.
fn nodes(launch: &Launch) -> Vec<String> {
    launch.nodes.iter().map(launch::LaunchNode::full_name).collect()
}

#[test]
fn encodings_and_line_ends() {
    for name in ["bom_lf", "bom_crlf", "crlf"] {
        assert_eq!(nodes(&read(name)), ["/supervisor"], "{name}");
    }
    assert!(refused("null_value").contains("line 4"), "{}", refused("null_value"));
}

#[test]
fn conditions_stand_on_every_action() {
    assert_eq!(nodes(&read("if_on_let")), ["/alone/supervisor"]);
    assert_eq!(nodes(&read("group_children")), ["/d1/supervisor"]);
    assert_eq!(nodes(&read("upper_bool")), ["/supervisor"]);
    assert_eq!(read("if_on_arg").arguments[0].name, "world");
    let error = refused("two_keys");
    assert!(error.contains("line 2") && error.contains("node, if") && error.contains("deeper"), "{error}");
    for (body, word) in [
        ("- node: {pkg: spikewing, exec: a, if: maybe}", "must be true or false"),
        ("- node: {pkg: spikewing, exec: a, if: true}", "put it in quotes, \"true\""),
        ("- node: {pkg: spikewing, exec: a, if: 'true', unless: 'false'}", "exclude each other"),
        ("- let: {name: a, value: b, if: 'false', valeu: c}", "did you mean `value`"),
        ("- node: {pkg: spikewing, exec: a, name: $(vra x), if: 'false'}", ""),
    ] {
        match text(&format!("launch:\n{body}\n")) {
            Err(error) => assert!(error.contains(word), "{error}"),
            // A substitution in what is not wanted is not carried out.
            Ok(launch) => assert!(word.is_empty() && launch.nodes.is_empty(), "{body}"),
        }
    }
}

#[test]
fn groups_are_scopes_and_includes_are_none() {
    assert_eq!(nodes(&read("let_leaks")), ["/guide_crazyflie", "/guide_x500"]);
    // Relative to where the program was started, as in ROS 2; the error says where it is.
    let error = refused("include_scope");
    assert!(error.contains("$(dirname)/./inner.launch.yaml"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let outer =
        std::fs::read_to_string(case("include_scope")).unwrap().replace("./inner", "$(dirname)/inner");
    std::fs::write(dir.path().join("outer.launch.yaml"), outer).unwrap();
    std::fs::copy(case("inner"), dir.path().join("inner.launch.yaml")).unwrap();
    let launch = launch::read(&dir.path().join("outer.launch.yaml"), &[]).unwrap();
    assert_eq!(nodes(&launch), ["/pushed/inside"]);
    let launch = text(
        "launch:\n- let: {name: a, value: x}\n- group:\n    scoped: false\n    children:\n    - let: {name: a, value: y}\n- group:\n    forwarding: false\n    keep: [{name: b, value: $(var a)}]\n    children:\n    - node: {pkg: spikewing, exec: supervisor, name: $(var b)$(var a '')}\n",
    );
    assert_eq!(nodes(&launch.unwrap()), ["/y"]);
}

#[test]
fn includes_of_other_languages_and_of_itself_are_refused_by_name() {
    assert!(refused("include_py").contains("x.launch.py is a launch file in Python"));
    assert!(refused("include_xml").contains("x.launch.xml is a launch file in XML"));
    assert!(refused("self_include").contains("self_include.launch.yaml includes itself"));
}

#[test]
fn substitutions_nest_and_are_quoted() {
    assert_eq!(nodes(&read("eval")), ["/px4_1/px4_bridge"]);
    assert_eq!(nodes(&read("nested_env")), ["/drone_7/supervisor"]);
    let Setting::File(path) = &read("subst_args").nodes[0].settings[0] else { panic!("no file") };
    assert!(path.ends_with("params/px4.yaml"));
    assert!(matches!(&read("allow_substs").nodes[0].settings[0], Setting::File(_)));
    let launch = text(
        "launch:\n- arg: {name: n, default: '2'}\n- node: {pkg: spikewing, exec: supervisor, name: \"$(if $(eval '$(var n) > 1') many one)\", if: $(and $(not false) $(equals $(var n) 2.0))}\n",
    );
    assert_eq!(nodes(&launch.unwrap()), ["/many"]);
    for (value, word) in [
        ("$(var x", "not closed"),
        ("$(var y)", "not declared"),
        ("$(command ls)", "start this file with `ros2 launch`"),
        ("$(varr y)", "not known"),
        ("$(eval 1 + 1)", "in quotes"),
        ("$(env SPIKEWING_NOT_SET)", "a default can follow"),
        ("$(find-pkg-share no_such_package)", "no_such_package"),
    ] {
        let error = text(&format!("launch:\n- let: {{name: a, value: \"{value}\"}}\n")).unwrap_err();
        assert!(error.contains(word) && error.contains("line 2, ") || error.contains("line 2"), "{error}");
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn names_are_valid_or_refused() {
    assert!(refused("empty_ns").contains("must not be empty"));
    assert!(refused("two_lets").contains("`name` stands twice"));
    assert!(refused("unknown_let").contains("`valeu` is not known; did you mean `value`"));
    assert!(refused("yaml12").contains("`output`") || refused("yaml12").contains("`respawn`"));
    assert!(refused("node_many").contains("`sigterm_timeout`"), "{}", refused("node_many"));
    for (body, word) in [
        ("- push_ros_namespace: {namespace: a-b}", "`-`"),
        ("- node: {pkg: spikewing, exec: a, namespace: 1a}", "digit"),
        ("- node: {pkg: spikewing, exec: a, name: 5}", "put it in quotes"),
        ("- nod: {}", "did you mean `node`"),
        ("- timer: {period: 1.0}", "start this file with `ros2 launch`"),
        ("- node: {pkg: spikewing}", "`exec` is missing"),
        ("- arg: {name: a, default: z, choice: [{value: x}, {value: y}]}", "one of: x, y"),
        ("- arg: {name: a}", "a:=VALUE"),
        ("- group: {if: 'true'}", "`children`"),
        ("- node: {pkg: spikewing, exec: a, param: []}", "empty list"),
    ] {
        let error = text(&format!("launch:\n{body}\n")).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
    let twins = "- node: {pkg: spikewing, exec: supervisor}\n";
    assert!(text(&format!("launch:\n{twins}{twins}")).unwrap().remarks[0].contains("two nodes of the name"));
}

#[test]
fn parameters_have_the_type_that_they_are_written_with() {
    let launch = read("param_list");
    assert_eq!(
        launch.nodes[0].settings,
        [
            Setting::Value("setpoint".into(), Value::Floats(vec![0.0, 0.0, 1.5])),
            // In quotes it is a text, which the node then refuses.
            Setting::Value("land_speed".into(), Value::Text("0.3".into())),
        ]
    );
    let setpoint = Setting::Value("setpoint".into(), Value::Floats(vec![0.0, 0.0, 1.5]));
    assert_eq!(launch.nodes[1].settings, [setpoint]);
    assert!(refused("param_list_subst").contains("of one type"));
    let version = Setting::Value("px4_version".into(), Value::Text("1.16".into()));
    assert_eq!(read("version_text").nodes[0].settings, std::slice::from_ref(&version));
    assert_eq!(read("type_str").nodes[0].settings, [version]);
    let tilt = Setting::Value("envelope.tilt".into(), Value::Float(0.8));
    assert_eq!(read("nested_param").nodes[0].settings, [tilt]);
    let of = |param: &str| {
        text(&format!(
            "launch:\n- let: {{name: v, value: '1.16'}}\n- node: {{pkg: spikewing, exec: a, param: [{param}]}}\n"
        ))
        .map(|l| l.nodes[0].settings[0].clone())
    };
    let value = |v| Ok(Setting::Value("p".into(), v));
    assert_eq!(of("{name: p, value: $(var v)}"), value(Value::Float(1.16)));
    assert_eq!(of("{name: p, value: $(var v), type: str}"), value(Value::Text("1.16".into())));
    assert_eq!(of("{name: p, value: yes}"), value(Value::Bool(true)));
    assert_eq!(of("{name: p, value: 1e2}"), value(Value::Float(100.0)));
    assert_eq!(of("{name: p, value: ''}"), value(Value::Text(String::new())));
    for (param, word) in [
        ("{name: p, value: 1, type: float}", "type float"),
        ("{name: p, value: [1, 2.0]}", "one type"),
        ("{name: p}", "missing"),
        ("{value: 1}", "`name` or `from`"),
        ("{name: p, value: {a: 1}}", "mapping"),
        ("{name: p, value: 1, type: number}", "not known"),
        ("{from: /nonexistent.yaml}", "no such file"),
        ("{from: /nonexistent.yaml, name: p}", "exclude"),
    ] {
        let error = of(param).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn how_a_process_is_run() {
    let launch = read("ignored_keys");
    let node = &launch.nodes[0];
    assert_eq!(node.process.prefix, ["chrt", "-f", "40"]);
    assert_eq!(node.process.environment, [("ROS_DOMAIN_ID".to_owned(), Some("42".to_owned()))]);
    assert_eq!(
        node.extra,
        ["--ros-args", "-p", "student_enabled:=false", "--ros-args", "--log-level", "debug"]
    );
    let domain = ("ROS_DOMAIN_ID".to_owned(), Some("7".to_owned()));
    assert_eq!(read("set_env").nodes[0].process.environment, [domain]);
    let launch = read("executable");
    assert_eq!(launch.programs[0].command, ["MicroXRCEAgent", "udp4", "-p", "8888"]);
    assert_eq!(nodes(&launch), ["/supervisor"]);
    let launch = text(
        "launch:\n- let: {name: sigterm_timeout, value: '30'}\n- node: {pkg: spikewing, exec: a, respawn: 'true', respawn_delay: 0.5, respawn_max_retries: 3, on_exit: shutdown, sigkill_timeout: 2.5}\n- group:\n  - set_env: {name: SPIKEWING_A, value: b}\n- executable: {cmd: \"echo '$(var sigterm_timeout) s'\", cwd: /}\n",
    )
    .unwrap();
    let process = &launch.nodes[0].process;
    assert!(process.respawn && process.ends_launch && process.respawn_delay_s == 0.5);
    assert_eq!((process.respawn_max_retries, process.sigterm_timeout_s), (Some(3), Some(30.0)));
    assert_eq!(process.sigkill_timeout_s, Some(2.5));
    assert_eq!(launch.programs[0].command, ["echo", "30 s"]);
    // What a group set is forgotten.
    assert!(launch.programs[0].process.environment.is_empty());
}

#[test]
fn nodes_of_other_packages_are_found_or_named() {
    let error = refused("foreign_node");
    assert!(error.contains("`ros_gz_bridge`"), "{error}");
    // A sourced ROS 2 that has it.
    let dir = tempfile::tempdir().unwrap();
    let (index, lib) =
        (dir.path().join("share/ament_index/resource_index/packages"), dir.path().join("lib/p"));
    std::fs::create_dir_all(&index).unwrap();
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::write(index.join("p"), "").unwrap();
    std::fs::write(lib.join("talker"), "").unwrap();
    let prefix = dir.path().display();
    let launch = |exec: &str| {
        text(&format!(
            "launch:\n- set_env: {{name: AMENT_PREFIX_PATH, value: {prefix}}}\n- push_ros_namespace: {{namespace: d}}\n- node: {{pkg: p, exec: {exec}, name: t, args: -v, param: [{{name: x, value: 1.5}}], remap: [{{from: a, to: b}}]}}\n"
        ))
    };
    let program = launch("talker").unwrap().programs[0].clone();
    let expected = format!("{prefix}/lib/p/talker -v --ros-args -r __node:=t -r __ns:=/d -p x:=1.5 -r a:=b");
    assert_eq!(program.command.join(" "), expected);
    assert!(launch("listener").unwrap_err().contains("no program `listener`"));
}

#[test]
fn anchors_and_merge_keys_follow_yaml_1_1() {
    let launch = text(
        "launch:\n- node: {pkg: spikewing, exec: supervisor, param: &p [{name: land_speed, value: 0.3}]}\n- node: {pkg: spikewing, exec: guide_policy, param: *p}\n",
    )
    .unwrap();
    assert_eq!(launch.nodes[0].settings, launch.nodes[1].settings);
    let merged =
        text("launch:\n- node: &n {pkg: spikewing, exec: supervisor}\n- node: {<<: *n, name: second}\n");
    assert_eq!(nodes(&merged.unwrap()), ["/supervisor", "/second"]);
}

#[test]
fn arguments_are_declared() {
    let given = |name: &str| [(name.to_owned(), "x".to_owned())];
    assert!(launch::read(&case("if_on_arg"), &given("world")).is_ok());
    let error = launch::read(&case("if_on_arg"), &given("wrold")).unwrap_err().to_string();
    assert!(error.contains("no argument `wrold`; it has: world"), "{error}");
}
