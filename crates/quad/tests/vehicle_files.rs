//! Vehicle files as people bring them: each is flown, or refused with the physics.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::{Path, PathBuf};

use nalgebra::{Rotation3, Vector3};
use spikewing_quad::{
    Disturbance, State, Vehicle,
    batch::{Batch, Setup},
    step,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vehicles")
}

fn read(name: &str) -> Result<Vehicle, String> {
    Vehicle::find(folder().join(format!("{name}.yaml")).to_str().unwrap()).map_err(|e| e.to_string())
}

/// Which file, and what the refusal must say.
const REFUSED: [(&str, &[&str]); 6] = [
    ("bad_inertia", &["inertia_kg_m2", "sum of the other two"]),
    (
        "cf_brushless_px4_order",
        &["front right, rear left, front left, rear right", "PX4's motor order", "[0, 3, 1, 2]"],
    ),
    ("frd_y", &["FRD", "y points left"]),
    ("grams", &["mass_kg = 27", "weighs", "grams"]),
    ("spin_flipped", &["spin", "reaction torques add up"]),
    ("unknown_key", &["rotor_drag", "rotor_drag_n_s_m"]),
];

const FLOWN: [&str; 13] = [
    "cf_brushless",
    "flightmare",
    "flightmare33",
    "full_inertia",
    "hexa",
    "linear_thrust",
    "named_crazyflie",
    "plus_frame",
    "plus_frame_noisy",
    "pybullet_cf2x",
    "scalar_tau",
    "sluggish_named_crazyflie",
    "tilted_drag",
];

#[test]
fn every_file_of_the_collection_is_judged() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut judged: Vec<&str> = REFUSED.iter().map(|(name, _)| *name).chain(FLOWN).collect();
    judged.sort_unstable();
    assert_eq!(files, judged);
}

#[test]
fn what_cannot_fly_as_written_is_refused_with_the_physics() {
    for (name, words) in REFUSED {
        let error = read(name).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(error.contains(&format!("{name}.yaml")), "{error}");
    }
}

/// Hovers, as far as a constant command can, and is the same in a batch.
#[test]
fn what_can_be_written_down_flies_alone_and_in_a_batch() {
    for name in FLOWN {
        let vehicle = read(name).unwrap_or_else(|e| panic!("{e}"));
        let hover = [vehicle.hover_action(); 4];
        let mut state = State::hover(&vehicle, Vector3::zeros());
        let mut batch = Batch::<f64>::new(Setup::recovery(vehicle.clone()), 18);
        let mut single = Batch::<f32>::new(Setup::recovery(vehicle.clone()), 18);
        batch.set_state(17, &state);
        single.set_state(17, &state);
        batch.set_disturbance(17, &Disturbance::default());
        single.set_disturbance(17, &Disturbance::default());
        for k in 0..50 {
            let action: [f64; 4] = std::array::from_fn(|m| hover[m] + 0.02 * (f64::from(k) + m as f64).sin());
            state = step(&vehicle, &state, &action, &Disturbance::default(), 0.01);
            batch.step(&[action; 18]);
            single.step(&[action.map(|a| a as f32); 18]);
            assert!(state.is_finite(), "{name}: step {k}");
        }
        assert_eq!(batch.state(17), state, "{name}");
        let near = single.state(17);
        assert!(
            (near.position - state.position).norm() < 2e-3,
            "{name}: {} {}",
            near.position,
            state.position
        );
        assert!(
            (near.body_rates - state.body_rates).norm() < 2e-3 * (1.0 + state.body_rates.norm()),
            "{name}"
        );
        assert!(state.velocity.z.abs() < 0.5, "{name}: it hovers roughly, {}", state.velocity);
    }
}

/// Changes that people make without noticing, to a file that flies.
#[test]
fn slips_of_the_hand_are_refused_by_field() {
    let good = std::fs::read_to_string(folder().join("cf_brushless.yaml")).unwrap();
    let slips: [(&str, &str, &[&str]); 16] = [
        ("spin: -1.0", "spin: 0.05", &["spin", "KM", "torque_constant_m is 0.05"]),
        ("spin: -1.0", "spin: 0.0", &["spin = 0", "clockwise"]),
        ("mass_kg: 0.044", "mass_kg: 44", &["mass_kg", "grams"]),
        ("mass_kg: 0.044", "mass_kg: 0.044\nmass_kg: 0.044", &["duplicate", "mass_kg"]),
        ("gravity_m_s2: 9.81", "gravity_m_s2: -9.81", &["gravity_m_s2"]),
        (
            "inertia_kg_m2: [3.3e-05, 3.6e-05, 5.9e-05]",
            "inertia_kg_m2: [3.3e-02, 3.6e-02, 5.9e-02]",
            &["gyration"],
        ),
        (
            "inertia_kg_m2: [3.3e-05, 3.6e-05, 5.9e-05]",
            "inertia_kg_m2: [3.3e-05, 3.6e-05]",
            &["inertia_kg_m2"],
        ),
        (
            "inertia_kg_m2: [3.3e-05, 3.6e-05, 5.9e-05]",
            "inertia_kg_m2: [[3.3e-05, 1e-6, 0.0], [2e-6, 3.6e-05, 0.0], [0.0, 0.0, 5.9e-05]]",
            &["symmetric"],
        ),
        ("thrust_curve: [0.0, 0.0, 4.052e-08]", "thrust_curve: [0.0, 0.0, -4.052e-08]", &["thrust_curve"]),
        (
            "thrust_curve: [0.0, 0.0, 4.052e-08]",
            "thrust_curve: [0.0, 0.0, 4.052e-09]",
            &["cannot hover", "weighs"],
        ),
        ("thrust_curve: [0.0, 0.0, 4.052e-08]", "thrust_curve: [0.2, 0.0, 4.052e-08]", &["could not sink"]),
        ("rising: 0.05", "rising: 50", &["milliseconds"]),
        ("rising: 0.05", "rising: 1.0e-9", &["write 0"]),
        ("torque_constant_m: 0.0192497532082922", "torque_constant_m: 19.2", &["torque_constant_m"]),
        ("rotor_range: [0.0, 3100.0]", "rotor_range: [3000.0, 3100.0]", &["could not sink"]),
        ("rotor_range", "drag_linear: [-0.1, 0.0, 0.0]\nrotor_range", &["drag_linear", "energy"]),
    ];
    for (from, to, words) in slips {
        assert!(good.contains(from), "{from}");
        let error = Vehicle::from_yaml(&good.replacen(from, to, 1), "own.yaml").unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{from} → {to}: {error}");
        }
    }
}

/// Rotors by their places, for orders and frames of other programs.
fn with_rotors(places: &[([f64; 2], f64)]) -> Result<Vehicle, String> {
    let good = std::fs::read_to_string(folder().join("cf_brushless.yaml")).unwrap();
    let (before, rest) = good.split_once("rotors:\n").unwrap();
    let after = &rest[rest.find("thrust_curve").unwrap()..];
    let rotors: String = places
        .iter()
        .map(|([x, y], spin)| format!("  - {{ position_m: [{x}, {y}, 0], spin: {spin} }}\n"))
        .collect();
    Vehicle::from_yaml(&format!("{before}rotors:\n{rotors}{after}"), "own.yaml").map_err(|e| e.to_string())
}

#[test]
fn orders_of_other_programs_are_named() {
    let d = 0.03;
    let (fr, rr, rl, fl) = (([d, -d], -1.0), ([-d, -d], 1.0), ([-d, d], -1.0), ([d, d], 1.0));
    assert!(with_rotors(&[fr, rr, rl, fl]).is_ok());
    // Propellers turning inwards instead of outwards are as good.
    let turned = |(place, spin): ([f64; 2], f64)| (place, -spin);
    assert!(with_rotors(&[fr, rr, rl, fl].map(turned)).is_ok());
    for (order, word) in [
        ([fr, rl, fl, rr], "PX4"),
        ([fl, fr, rr, rl], "rotorpy"),
        ([fl, rl, rr, fr], "counter-clockwise"),
        ([rr, rl, fl, fr], "rear right, rear left"),
    ] {
        let error = with_rotors(&order).unwrap_err();
        assert!(error.contains(word) && error.contains("drive the wrong motors"), "{error}");
    }
    // A plus: front, right, rear, left.
    let (f, r, b, l) = (([d, 0.0], -1.0), ([0.0, -d], 1.0), ([-d, 0.0], -1.0), ([0.0, d], 1.0));
    assert!(with_rotors(&[f, r, b, l]).is_ok());
    assert!(with_rotors(&[f, l, b, r]).unwrap_err().contains("FRD"));
    // Spins that sum to nothing, but turn the vehicle only together with a roll, or not at all.
    for spins in [[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]] {
        let mut rotors = [fr, rr, rl, fl];
        rotors.iter_mut().zip(spins).for_each(|(rotor, spin)| rotor.1 = spin);
        assert!(with_rotors(&rotors).unwrap_err().contains("independently"), "{spins:?}");
    }
    let mut lone = [fr, rr, rl, fl];
    lone[0].1 = 1.0;
    assert!(with_rotors(&lone).unwrap_err().contains("spins"), "three against one");
    let mut centred = [fr, rr, rl, fl];
    centred[2].0 = [0.0, 0.0];
    assert!(with_rotors(&centred).unwrap_err().contains("arm"));
    assert!(with_rotors(&[fr, rr, rl]).unwrap_err().contains("3 of them"));
}

#[test]
fn a_vehicle_is_its_content_not_its_name() {
    let built_in = Vehicle::crazyflie().unwrap();
    println!("{}\n{}", built_in.content(), Vehicle::find("x500").unwrap().content());
    // Spelt otherwise, it is the same.
    let text = include_str!("../../../params/vehicles/crazyflie.yaml");
    let respelt = text
        .replace("drag_linear: [0.0, 0.0, 0.0]", "drag_linear: [0, 0, -0.0]")
        .replace("name: crazyflie", "name: mine");
    let same = Vehicle::from_yaml(&respelt, "mine.yaml").unwrap();
    assert_eq!(same.content(), built_in.content());
    assert_eq!(Vehicle::find("l2f0").unwrap().content(), built_in.content());
    assert_eq!(Vehicle::find("l2f0").unwrap().model_of, "crazyflie");
    // Of the same name, it is another.
    let other = read("named_crazyflie").unwrap();
    assert_eq!(other.name, built_in.name);
    assert_ne!(other.content(), built_in.content());
    assert_eq!(other.known_as(), [("crazyflie".to_owned(), other.content())]);
    // What is made for the Crazyflie is made for the simulators of it.
    assert!(
        Vehicle::find("l2f2").unwrap().known_as().contains(&("crazyflie".to_owned(), built_in.content()))
    );
}

/// A rotated body turns as the same body in rotated axes: what a full inertia must do.
#[test]
fn a_full_inertia_turns_as_its_principal_axes_do() {
    let mut principal = read("cf_brushless").unwrap();
    principal.thrust_curve = [0.0; 3];
    let tilt = Rotation3::from_euler_angles(0.3, -0.2, 0.5);
    let m = tilt.matrix() * principal.inertia_matrix() * tilt.matrix().transpose();
    let mut rotated = principal.clone();
    rotated.inertia_kg_m2 = [m[(0, 0)], m[(1, 1)], m[(2, 2)]];
    rotated.inertia_off_diagonal_kg_m2 = [m[(0, 1)], m[(0, 2)], m[(1, 2)]];
    let torque = Vector3::new(1e-5, -2e-5, 3e-6);
    let (mut a, mut b) = (State::rest(&principal, Vector3::zeros()), State::rest(&rotated, Vector3::zeros()));
    a.body_rates = Vector3::new(4.0, 0.3, -2.0);
    b.body_rates = tilt * a.body_rates;
    for _ in 0..200 {
        let push = |torque_n_m| Disturbance { torque_n_m, ..Disturbance::default() };
        a = step(&principal, &a, &[-1.0; 4], &push(torque), 0.005);
        b = step(&rotated, &b, &[-1.0; 4], &push(tilt * torque), 0.005);
    }
    assert!((tilt * a.body_rates - b.body_rates).norm() < 1e-9, "{} {}", tilt * a.body_rates, b.body_rates);
    assert!((a.body_rates.y - 0.3).abs() > 0.01, "it should have tumbled");
}

#[test]
fn tilted_rotors_offset_mass_and_rotor_drag_push_as_worked_out_by_hand() {
    let vehicle = read("tilted_drag").unwrap();
    let r = [0.5, 0.6, 0.7, 0.8];
    let (v, w) = (Vector3::new(1.0, -2.0, 0.5), Vector3::new(0.2, 0.1, -0.3));
    let state = State { velocity: v, body_rates: w, rotors: r, ..State::rest(&vehicle, Vector3::zeros()) };
    let (mut force, mut torque) = (Vector3::zeros(), Vector3::zeros());
    for (rotor, r) in vehicle.rotors.iter().zip(r) {
        let axis = Vector3::from(rotor.axis);
        let arm = Vector3::from(rotor.position_m) - Vector3::from(vehicle.centre_of_mass_m);
        let thrust = axis * vehicle.thrust_n(r);
        let drag = -(v - axis * axis.dot(&v)) * (vehicle.rotor_drag_n_s_m * r);
        force += thrust + drag;
        torque += arm.cross(&(thrust + drag)) + thrust * (rotor.spin * vehicle.torque_constant_m);
    }
    let j = vehicle.inertia_matrix();
    let spin = j.try_inverse().unwrap() * (torque - w.cross(&(j * w)));
    let lift = force / vehicle.mass_kg - Vector3::z() * vehicle.gravity_m_s2;
    let dt = 1e-7;
    let after = step(&vehicle, &state, &r.map(|r| vehicle.action_of_rotor(r)), &Disturbance::default(), dt);
    assert!(((after.velocity - v) / dt - lift).norm() < 1e-5, "{} {lift}", (after.velocity - v) / dt);
    assert!(((after.body_rates - w) / dt - spin).norm() < 1e-4 * spin.norm(), "{spin}");
}

#[test]
fn motors_without_lag_follow_at_once_and_fast_ones_as_their_exponential() {
    let mut vehicle = read("cf_brushless").unwrap();
    let mut after = |lag: f64, steps: u32| {
        vehicle.motor_time_constant_s.rising = lag;
        vehicle.motor_time_constant_s.falling = lag;
        let mut state = State::rest(&vehicle, Vector3::zeros());
        for _ in 0..steps {
            state = step(&vehicle, &state, &[1.0; 4], &Disturbance::default(), 0.01);
        }
        (state.rotors[0] / vehicle.rotor_range[1], state.velocity.z)
    };
    let (at_once, climb) = after(0.0, 1);
    assert_eq!(at_once, 1.0);
    for lag in [1e-4, 1e-3, 0.004, 0.009] {
        let (share, climb_with_lag) = after(lag, 1);
        let expected = 1.0 - (-0.01_f64 / lag).exp();
        assert!((share - expected).abs() < 0.008, "{lag}: {share}, not {expected}");
        assert!(
            climb_with_lag < climb && (lag > 1e-4 || climb_with_lag > 0.97 * climb),
            "{lag}: {climb_with_lag} of {climb}"
        );
    }
    assert_eq!(vehicle.parts_of_step(0.01), 2);
}

/// Keys that a refusal of an unknown one names.
fn keys(yaml: &str) -> Vec<String> {
    let error = Vehicle::from_yaml(yaml, "test").unwrap_err().to_string();
    let list = error.split("expected one of ").nth(1).unwrap_or_else(|| panic!("{error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// params/vehicles/README.md names every key, and no other.
#[test]
fn the_page_of_vehicles_has_every_key() {
    let whole = include_str!("../../../params/vehicles/l2f2.yaml");
    let without = whole.split("\nsimulation:").next().unwrap();
    let mut known = keys(&format!("nothing: 1\n{whole}"));
    let rotor = without.replacen("spin: -1.0", "nothing: 1, spin: -1.0", 1);
    known.extend(keys(&rotor).iter().map(|key| format!("rotors[].{key}")));
    let simulation = format!("{without}\nsimulation: {{nothing: 1}}\n");
    known.extend(keys(&simulation).iter().map(|key| format!("simulation.{key}")));
    let page = include_str!("../../../params/vehicles/README.md");
    let mut told: Vec<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    known.sort();
    told.sort();
    assert_eq!(told, known);
}
