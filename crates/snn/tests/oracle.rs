//! Forward and backward against recorded runs of snntorch (tests/data/README.md).

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::replay;
use spikewing_snn::Real;

fn check<T: Real>(file: &str, forward: f64, gradient: f64) {
    let path = format!("{}/tests/data/{file}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let deviation = replay::<T>(&std::fs::read(path).unwrap(), None).unwrap();
    assert_eq!(deviation.spike_mismatches, 0, "{file}: {deviation:?}");
    // In `full` membranes reach ±35, where 1e-5 is less than three units in the last place of single precision: there
    // 1e-6 of the layer's largest one is asked for instead.
    let close = deviation.membrane_max_abs <= forward || deviation.membrane_max_rel <= 0.1 * forward;
    assert!(close, "{file}: {deviation:?}");
    assert!(deviation.output_max_abs <= forward, "{file}: {deviation:?}");
    assert_eq!(deviation.gradient_max_rel.len(), 5, "{file}: five slopes are recorded");
    for (slope, worst) in &deviation.gradient_max_rel {
        assert!(*worst <= gradient, "{file}, {slope}: {deviation:?}");
    }
}

#[test]
fn single_precision_follows_snntorch() {
    check::<f32>("small", 1e-5, 5e-4);
    check::<f32>("full", 1e-5, 5e-4);
}

#[test]
fn double_precision_follows_snntorch_to_rounding() {
    check::<f64>("small", 1e-10, 1e-10);
}

#[test]
fn leaks_outside_the_unit_interval_and_odd_thresholds_follow_snntorch() {
    check::<f32>("edge", 1e-5, 5e-4);
    check::<f64>("edge", 1e-10, 1e-10);
}

/// This recording's values are stored in single precision, which bounds how closely it can be met.
#[test]
fn double_precision_follows_the_paper_sized_network() {
    check::<f64>("full", 1e-5, 1e-6);
}
