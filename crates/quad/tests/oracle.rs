//! The dynamics and rewards against trajectories that public simulators computed.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::path::Path;

use spikewing_quad::replay::{CaseReport, replay};

fn reports(file: &str) -> Vec<CaseReport> {
    replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)).unwrap()
}

#[test]
fn open_loop_agrees_with_every_public_simulator() {
    for variant in ["l2f0", "ltf", "l2f2"] {
        let cases = reports(&format!("dynamics/{variant}.json"));
        assert_eq!(cases.len(), 8);
        for case in cases {
            assert!(case.steps >= 100, "{variant} {}: {} steps compared", case.case, case.steps);
            let off = case.max_abs_deviation;
            assert!(off.overall <= 1e-8, "{variant} {}: {off:?}", case.case);
        }
    }
}

#[test]
fn flights_and_their_rewards_agree() {
    for flight in ["guide/traj0.csv", "guide/traj1.csv", "guide/traj2.csv"] {
        let report = reports(flight).remove(0);
        assert_eq!(report.steps, 500);
        // The printed actions have ten digits; replayed open loop they are good to 6.1e-7.
        assert!(report.max_abs_deviation.overall <= 1e-6, "{flight}: {:?}", report.max_abs_deviation);
        for (definition, off) in &report.reward_max_abs_deviation {
            assert!(*off <= 1e-7, "{flight} {definition}: {off:e}");
        }
    }
}

#[test]
fn what_cannot_be_replayed_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let refused = |path: &Path, words: &[&str]| {
        let error = replay(path).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(&dir.path().join("none.json"), &["none.json"]);
    let state = "0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0";
    let reference = |variant: &str| {
        format!(
            r#"{{"variant": "{variant}", "dt": 0.01, "cases": [{{"name": "n", "force": [0,0,0], "torque": [0,0,0],
               "initial_state": [{state}]}}]}}"#
        )
    };
    let actions = "case,step,a0,a1,a2,a3\n0,1,0,0,0,0\n";
    let states = format!("case,step,px,py,pz,qw,qx,qy,qz,vx,vy,vz,wx,wy,wz,r0,r1,r2,r3\n0,1,{state}\n");
    let json = at("some.json", &reference("l2f9"));
    refused(&json, &["some_actions.csv"]);
    at("some_actions.csv", actions);
    refused(&json, &["some_states.csv"]);
    at("some_states.csv", &states);
    refused(&json, &["some.json", "l2f9", "l2f0"]);
    at("some.json", &reference("l2f0"));
    assert_eq!(replay(&json).unwrap()[0].steps, 1);
    at("some_actions.csv", "case,step,a0,a1,a2,a3\n0,2,0,0,0,0\n");
    refused(&json, &["some_actions.csv", "step 2"]);
    at("some_actions.csv", "case,step,a0,a1,a2,a3\n");
    refused(&json, &["some_states.csv", "`n`"]);
    at("some_actions.csv", "case,step,a0,a1,a2\n0,1,0,0,zero\n");
    refused(&json, &["some_actions.csv", "line 2"]);
    let flight = at("traj9.csv", "step\n1\n");
    refused(&flight, &["meta.json"]);
    at("meta.json", "[]");
    refused(&flight, &["meta.json", "traj9.csv"]);
}
