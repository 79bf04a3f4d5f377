//! `spikewing vehicle` and `spikewing policy import | export | describe`, as a user calls them.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spikewing_quad::Vehicle;
use spikewing_snn::policy::{Model, Policy};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

fn quad_case(name: &str) -> String {
    root().join(format!("crates/quad/tests/data/vehicles/{name}.yaml")).display().to_string()
}

fn spikewing(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spikewing")).current_dir(dir).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn does(dir: &Path, arguments: &[&str]) -> String {
    let output = spikewing(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn refuses(dir: &Path, arguments: &[&str]) -> String {
    let output = spikewing(dir, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn check_explains_a_vehicle_and_refuses_one_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let facts = does(dir.path(), &["vehicle", "check", "sih_quadx", "--json"]);
    let facts: serde_json::Value = serde_json::from_str(facts.trim()).unwrap();
    assert!((facts["hover_throttle"].as_f64().unwrap() - 9.80665 / 20.0).abs() < 1e-9);
    assert!((facts["thrust_to_weight"].as_f64().unwrap() - 20.0 / 9.80665).abs() < 1e-9);
    assert_eq!(facts["guide_hover_completed"], 1.0);
    let named = does(dir.path(), &["vehicle", "check", &quad_case("named_crazyflie")]);
    assert!(
        named.contains("name of a built-in vehicle") && named.contains("mass_kg: 0.027 there, 0.044 here"),
        "{named}"
    );
    assert!(does(dir.path(), &["vehicle", "check", &quad_case("hexa")]).contains("thrusts of the 6 rotors"));
    assert!(
        refuses(dir.path(), &["vehicle", "check", &quad_case("cf_brushless_px4_order")])
            .contains("PX4's motor order")
    );
}

#[test]
fn a_gazebo_model_becomes_a_vehicle() {
    let dir = tempfile::tempdir().unwrap();
    let told = does(
        dir.path(),
        &["vehicle", "import", &data("quad.sdf"), "--rotor-range", "150,900", "--out", "own.yaml"],
    );
    assert!(told.contains("rolling moment"), "what is left out is said: {told}");
    let v = Vehicle::find(dir.path().join("own.yaml").to_str().unwrap()).unwrap();
    assert_eq!(v.name, "made_up_quad");
    assert!((v.mass_kg - 1.24).abs() < 1e-9);
    assert_eq!(v.rotors[0].position_m, [0.15, -0.16, 0.03]);
    assert_eq!(v.rotors.iter().map(|r| r.spin).collect::<Vec<_>>(), [-1.0, 1.0, -1.0, 1.0]);
    assert_eq!(v.rotors[2].position_m, [-0.15, 0.16, 0.03]);
    assert_eq!((v.thrust_curve, v.rotor_range), ([0.0, 0.0, 6e-6], [150.0, 900.0]));
    assert_eq!((v.motor_time_constant_s.rising, v.motor_time_constant_s.falling), (0.0125, 0.025));
    assert!((v.rotor_drag_n_s_m - 8e-5).abs() < 1e-15);
    // By hand: the centre of mass, and the parallel-axis theorem about it.
    let z = (1.2 * 0.01 + 0.04 * 0.03) / 1.24;
    assert!((v.centre_of_mass_m[2] - z).abs() < 1e-6);
    let xx = 0.011 + 1.2 * (0.01 - z).powi(2) + 4.0 * (1e-6 + 0.01 * (0.16_f64.powi(2) + (0.03 - z).powi(2)));
    assert!((v.inertia_kg_m2[0] - xx).abs() < 1e-7, "{} {xx}", v.inertia_kg_m2[0]);
    assert!((v.inertia_off_diagonal_kg_m2[0] - 1e-4).abs() < 1e-9);
    does(dir.path(), &["vehicle", "check", "own.yaml"]);
}

#[test]
fn px4_parameters_become_a_vehicle_in_our_axes_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let missing = refuses(dir.path(), &["vehicle", "import", &data("quad.params")]);
    assert!(missing.contains("--mass-kg"), "{missing}");
    let told = does(
        dir.path(),
        &[
            "vehicle",
            "import",
            &data("quad.params"),
            "--mass-kg",
            "1.24",
            "--inertia-kg-m2",
            "0.012,0.013,0.022",
            "--name",
            "mine",
        ],
    );
    assert!(told.contains("ASSUMED"), "{told}");
    let v = Vehicle::find(dir.path().join("mine.yaml").to_str().unwrap()).unwrap();
    let expected = [([0.15, -0.16], -1.0), ([-0.15, -0.16], 1.0), ([-0.15, 0.16], -1.0), ([0.15, 0.16], 1.0)];
    for (rotor, (place, spin)) in v.rotors.iter().zip(expected) {
        assert_eq!((&rotor.position_m[..2], rotor.spin), (&place[..], spin));
    }
    assert!((v.torque_constant_m - 0.05).abs() < 1e-12);
    // THR_MDL_FAC 0.3 is 0.3 u² + 0.7 u, and hover is 0.4 of the largest thrust.
    let most = 1.24 * 9.80665 / 4.0 / 0.4;
    assert!((v.thrust_curve[1] - 0.7 * most).abs() < 1e-5 && (v.thrust_curve[2] - 0.3 * most).abs() < 1e-5);
    assert!((v.thrust_to_weight() - 2.5).abs() < 1e-5);
}

#[test]
fn the_default_parameters_of_px4s_simulation_are_the_built_in_vehicle() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("10040_sihsim_quadx"),
        "param set-default CA_ROTOR_COUNT 4\nparam set SIH_VEHICLE_TYPE 0\n",
    )
    .unwrap();
    let told = does(dir.path(), &["vehicle", "import", "10040_sihsim_quadx", "--out", "sih.yaml"]);
    assert!(told.contains("PX4's defaults for SIH_MASS"), "{told}");
    let imported = Vehicle::find(dir.path().join("sih.yaml").to_str().unwrap()).unwrap();
    assert_eq!(imported.content(), Vehicle::find("sih_quadx").unwrap().content());
    std::fs::write(dir.path().join("hex"), "param set SIH_VEHICLE_TYPE 4\n").unwrap();
    does(dir.path(), &["vehicle", "import", "hex", "--out", "hex.yaml"]);
    assert!(does(dir.path(), &["vehicle", "check", "hex.yaml"]).contains("thrusts of the 6 rotors"));
}

#[test]
fn a_policy_goes_out_and_comes_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let student = root().join("policies/crazyflie/student.safetensors").display().to_string();
    let before = Policy::load(Path::new(&student)).unwrap();
    for file in ["net.safetensors", "net.nir"] {
        does(dir.path(), &["policy", "export", &student, "--out", file]);
        does(dir.path(), &["policy", "import", file, "--out", "back.safetensors"]);
        let back = Policy::load(&dir.path().join("back.safetensors")).unwrap();
        let (Model::Spiking(a), Model::Spiking(b)) = (before.model(), back.model()) else { unreachable!() };
        for ((name, a), (_, b)) in a.parameters().into_iter().zip(b.parameters()) {
            let used = |v: &f32| if name.to_string().contains("beta") { v.clamp(0.0, 1.0) } else { *v };
            assert!(a.iter().map(used).eq(b.iter().map(used)), "{file}: {name}");
        }
        assert_eq!(before.self_test().output(), back.self_test().output(), "{file}");
        assert_eq!(back.metadata.vehicle_content, Some(Vehicle::crazyflie().unwrap().content()));
    }
    let wrong = refuses(dir.path(), &["policy", "export", &student, "--out", "net.onnx"]);
    assert!(wrong.contains(".nir"), "{wrong}");
}

#[test]
fn a_policy_says_for_which_vehicle_it_was_made_and_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = root().join("policies/crazyflie/student.safetensors");
    let student = dir.path().join("student.safetensors").display().to_string();
    std::fs::copy(&shipped, &student).unwrap();
    does(dir.path(), &["policy", "describe", &student]);
    let (before, after) = (Policy::load(&shipped).unwrap(), Policy::load(Path::new(&student)).unwrap());
    assert_eq!((before.model(), before.self_test()), (after.model(), after.self_test()));
    does(dir.path(), &["policy", "verify", &student, "--vehicle", "crazyflie"]);
    does(dir.path(), &["policy", "verify", &student, "--vehicle", "l2f2"]);
    let other =
        refuses(dir.path(), &["policy", "verify", &student, "--vehicle", &quad_case("named_crazyflie")]);
    assert!(other.contains("mass_kg: 0.027 there, 0.044 here"), "{other}");
    assert!(refuses(dir.path(), &["policy", "verify", &student, "--vehicle", "x500"]).contains("crazyflie"));
    let flown = does(
        dir.path(),
        &["eval", &student, "--episodes", "1", "--vehicle", &quad_case("sluggish_named_crazyflie")],
    );
    assert!(flown.contains("motor_time_constant_s: [0.072,0.072] there, [1.0,1.0] here"), "{flown}");
    // No path of this machine stands in what ships.
    for file in ["crazyflie/student", "crazyflie/guide", "x500/student", "x500/guide"] {
        let policy = Policy::load(&root().join(format!("policies/{file}.safetensors"))).unwrap();
        let run = policy.metadata.training_run.unwrap_or_default();
        assert!(!run.contains("/home") && !run.contains("/work") && !run.contains("/tmp"), "{run}");
    }
}

/// Tensors of a recording: rows of numbers.
fn recorded(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(data("snntorch/snntorch_flight.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// snntorch 1.0.0 on torch 2.15: 60 steps of a network with a scalar and a vector of leaks, in tests/data/snntorch.
#[test]
fn what_snntorch_computed_is_computed_here() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (recorded("input"), recorded("output"));
    let silent =
        refuses(dir.path(), &["policy", "import", &data("snntorch/snntorch.nir"), "--out", "p.safetensors"]);
    assert!(silent.contains("lif1") && silent.contains("--reset snntorch"), "{silent}");
    for (file, more) in [("snntorch.safetensors", ""), ("snntorch.nir", "snntorch")] {
        let file = data(&format!("snntorch/{file}"));
        let mut import = vec!["policy", "import", &file, "--out", "p.safetensors"];
        if !more.is_empty() {
            import.extend(["--reset", more]);
        }
        does(dir.path(), &import);
        let policy = Policy::load(&dir.path().join("p.safetensors")).unwrap();
        let mut flight = spikewing_snn::Flight::new(policy.network().unwrap());
        let mut action = [0.0; 4];
        for (step, (seen, expected)) in input.chunks(18).zip(output.chunks(4)).enumerate() {
            flight.step(seen, &mut action).unwrap();
            for (got, expected) in action.iter().zip(expected) {
                // One spike more or less would be seen in the second digit.
                assert!((got - expected).abs() < 1e-5, "{file}: step {step}: {got}, not {expected}");
            }
        }
    }
}
