//! The filter knows how wrong it is: normalised estimation errors and innovations squared (NEES, NIS) over 50 flights.
//! `cargo test -p spikewing-state-estimator --test consistency -- --nocapture` prints the figures of README.md.
//!
//! Y. Bar-Shalom, X. R. Li, T. Kirubarajan, *Estimation with Applications to Tracking and Navigation*, 2001, section 5.4.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Normal, Path};
use nalgebra::{Matrix3, SMatrix, SVector, UnitQuaternion, Vector3};
use spikewing_runtime::{Parameters, Time};
use spikewing_state_estimator::{
    estimate::Estimate,
    filter::{Filter, Outcome},
    measurement::{Block, Measurement, Source},
    settings::{Settings, declare},
};

const FLIGHTS: usize = 50;
const SECONDS: f64 = 10.0;
const IMU_S: f64 = 0.005;
const DEGREES: f64 = 9.0;

/// Position, velocity and orientation errors, squared and weighed by the covariance: chi-squared, nine degrees.
fn nees(e: &Estimate, path: &Path, t: f64) -> f64 {
    let mut error = SVector::<f64, 9>::zeros();
    error.fixed_rows_mut::<3>(0).copy_from(&(path.position(t) - e.position));
    error.fixed_rows_mut::<3>(3).copy_from(&(path.velocity(t) - e.velocity));
    let angle = (e.orientation.inverse() * path.orientation(t)).scaled_axis();
    error.fixed_rows_mut::<3>(6).copy_from(&angle);
    let p: SMatrix<f64, 9, 9> = e.covariance.fixed_view::<9, 9>(0, 0).into_owned();
    error.dot(&p.cholesky().unwrap().solve(&error))
}

/// Mean NEES and NIS of each odometry of one flight.
fn fly(seed: u64) -> Vec<[f64; 2]> {
    let settings = Settings::from_parameters(&Parameters::defaults(declare())).unwrap();
    let options = settings.filter;
    let std = settings.odometry;
    let mut normal = Normal::new(seed);
    let path = Path { size: 0.7, turning: 0.2, phase: seed as f64 };
    let [accel_std, gyro_std] = options.bias_deviations;
    let (mut accel_bias, mut gyro_bias) = (normal.vector(accel_std), normal.vector(gyro_std));
    let mut filter = Filter::new(options);
    let root = IMU_S.sqrt();
    let mut kept = Vec::new();
    for k in 1..=(SECONDS / IMU_S) as usize {
        let (from, to) = ((k - 1) as f64 * IMU_S, k as f64 * IMU_S);
        let mut sample = path.imu(from, to);
        sample.acceleration += accel_bias + normal.vector(options.noise.accel / root);
        sample.rates += gyro_bias + normal.vector(options.noise.gyro / root);
        filter.imu(sample);
        accel_bias += normal.vector(options.noise.accel_bias * root);
        gyro_bias += normal.vector(options.noise.gyro_bias * root);
        if k % 2 == 1 {
            continue;
        }
        let block = |value, std: f64| Block::new(value, Matrix3::identity() * std * std);
        let turned = path.orientation(to) * UnitQuaternion::from_scaled_axis(normal.vector(std.orientation));
        let velocity: Vector3<f64> =
            path.orientation(to).inverse() * path.velocity(to) + normal.vector(std.velocity);
        let measurement = Measurement {
            stamp: Time::from_nanoseconds((to * 1e9).round() as i64),
            source: Source::Odometry,
            position: block(path.position(to) + normal.vector(std.position), std.position),
            orientation: Block::new(turned, Matrix3::identity() * std.orientation.powi(2)),
            velocity: Some(block(velocity, std.velocity)),
            rates: None,
        };
        if let Outcome::Used(gates) = filter.measurement(&measurement) {
            let nis = gates.distances.iter().sum();
            kept.push([nees(filter.latest().unwrap(), &path, to), nis]);
        }
    }
    kept
}

#[test]
fn nees_and_nis_lie_within_their_95_percent_bounds_over_50_flights() {
    let flights: Vec<Vec<[f64; 2]>> = (0..FLIGHTS as u64).map(fly).collect();
    let n = flights.iter().map(Vec::len).min().unwrap();
    assert!(n > 900, "{n} measurements used");
    // Chi-squared with 450 degrees of freedom is nearly normal.
    let half = 1.96 * (2.0 * DEGREES / FLIGHTS as f64).sqrt();
    for (i, what) in ["NEES", "NIS"].iter().enumerate() {
        let at = |k: usize| flights.iter().map(|f| f[k][i]).sum::<f64>() / FLIGHTS as f64;
        let means: Vec<f64> = (0..n).map(at).collect();
        let inside = means.iter().filter(|m| (**m - DEGREES).abs() <= half).count() as f64 / n as f64;
        let mean = means.iter().sum::<f64>() / n as f64;
        println!(
            "{what}: mean {mean:.2} of {DEGREES} expected; over {FLIGHTS} flights within [{:.2}, {:.2}] at {:.0} % of {n} times",
            DEGREES - half,
            DEGREES + half,
            100.0 * inside
        );
        assert!((mean - DEGREES).abs() < half, "{what}: {mean}");
        assert!(inside > 0.85, "{what}: inside at {inside}");
    }
}
