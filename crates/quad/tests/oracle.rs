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
