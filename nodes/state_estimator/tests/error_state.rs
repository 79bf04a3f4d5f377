//! The error state on SO(3): whatever is predicted and measured, the estimate stays one.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::{Matrix3, UnitQuaternion, Vector3};
use proptest::prelude::*;
use spikewing_runtime::{Span, Time};
use spikewing_state_estimator::estimate::{
    Covariance, Estimate, Gate, ImuSample, Jacobian, ProcessNoise, index,
};

const NOISE: ProcessNoise = ProcessNoise {
    accel: 0.05,
    gyro: 0.005,
    accel_bias: 0.005,
    gyro_bias: 0.0005,
    coast_accel: 1.0,
    coast_rate: 0.1,
    angular_acceleration: 30.0,
    gyro_sample: 0.02,
    imu_timeout_s: 0.05,
};

fn start(orientation: UnitQuaternion<f64>) -> Estimate {
    Estimate {
        stamp: Time::ZERO,
        position: Vector3::zeros(),
        velocity: Vector3::zeros(),
        orientation,
        accel_bias: Vector3::zeros(),
        gyro_bias: Vector3::zeros(),
        covariance: Covariance::identity() * 0.01,
        rates: Vector3::zeros(),
        rate_variance: 0.01,
    }
}

fn vector(limit: f64) -> impl Strategy<Value = Vector3<f64>> {
    prop::array::uniform3(-limit..limit).prop_map(Vector3::from)
}

fn unit() -> impl Strategy<Value = UnitQuaternion<f64>> {
    vector(3.0).prop_map(UnitQuaternion::from_scaled_axis)
}

/// A measurement of one of the three kinds: where it starts in the error state, and its innovation.
fn jacobian(at: usize) -> Jacobian {
    let mut h = Jacobian::zeros();
    h.fixed_view_mut::<3, 3>(0, at).copy_from(&Matrix3::identity());
    h
}

#[derive(Clone, Debug)]
enum Event {
    Imu(Vector3<f64>, Vector3<f64>, i64),
    Coast(i64),
    Measure(usize, Vector3<f64>, f64),
    Rates(Vector3<f64>),
}

fn event() -> impl Strategy<Value = Event> {
    let at = prop::sample::select(vec![index::POSITION, index::VELOCITY, index::ORIENTATION]);
    prop_oneof![
        6 => (vector(80.0), vector(30.0), 1_i64..30).prop_map(|(a, w, ms)| Event::Imu(a, w, ms)),
        1 => (1_i64..2000).prop_map(Event::Coast),
        5 => (at, vector(2.0), 1e-4_f64..1.0).prop_map(|(at, v, std)| Event::Measure(at, v, std)),
        2 => vector(30.0).prop_map(Event::Rates),
    ]
}

fn sound(estimate: &Estimate) -> Result<(), TestCaseError> {
    prop_assert!(estimate.is_finite());
    prop_assert!((estimate.orientation.norm() - 1.0).abs() < 1e-9, "a rotation");
    let p = &estimate.covariance;
    prop_assert!((p - p.transpose()).amax() == 0.0, "symmetric");
    let largest = p.diagonal().max();
    let smallest = p.symmetric_eigenvalues().min();
    prop_assert!(smallest > -1e-9 * largest, "positive: {smallest:e} of {largest:e}");
    prop_assert!(estimate.rate_variance >= 0.0);
    Ok(())
}

proptest! {
    /// Rotation, symmetry and positivity survive every sequence of motions and measurements.
    #[test]
    fn the_estimate_stays_one(q in unit(), events in prop::collection::vec(event(), 1..120)) {
        let mut estimate = start(q);
        for event in events {
            match event {
                Event::Imu(acceleration, rates, ms) => {
                    let stamp = estimate.stamp + Span::from_millis(ms);
                    estimate.advance(stamp, Some(&ImuSample { stamp, acceleration, rates }), &NOISE);
                    prop_assert_eq!(estimate.stamp, stamp);
                }
                Event::Coast(ms) => estimate.advance(estimate.stamp + Span::from_millis(ms), None, &NOISE),
                Event::Measure(at, innovation, std) => {
                    let h = jacobian(at);
                    let before = estimate.covariance.trace();
                    let noise = Matrix3::identity() * std * std;
                    let ph = estimate.covariance * h.transpose();
                    let turn = (h * ph + noise).try_inverse().map(|s| ph * s * innovation);
                    let turn = turn.map_or(0.0, |error| error.fixed_rows::<3>(index::ORIENTATION).norm());
                    let gate = estimate.measure(&innovation, &h, &noise, f64::MAX);
                    prop_assert_eq!(gate, Gate::Accepted);
                    // Knowing more: but for the turn of the error's axes, I − ½[θ]×, which keeps lengths to first order.
                    let stretch = 1.0 + 0.25 * turn * turn;
                    prop_assert!(estimate.covariance.trace() <= before * stretch * (1.0 + 1e-9) + 1e-9);
                }
                Event::Rates(rates) => estimate.measure_rates(&rates, 4e-4),
            }
            sound(&estimate)?;
        }
    }

    /// A perfect measurement of the orientation takes the estimate there along the shortest way, from anywhere.
    #[test]
    fn a_sure_orientation_is_taken(q in unit(), error in vector(1.0)) {
        let mut estimate = start(q);
        estimate.covariance = Covariance::identity();
        let truth = q * UnitQuaternion::from_scaled_axis(error);
        let innovation = (estimate.orientation.inverse() * truth).scaled_axis();
        estimate.measure(&innovation, &jacobian(index::ORIENTATION), &(Matrix3::identity() * 1e-12), f64::MAX);
        prop_assert!(estimate.orientation.angle_to(&truth) < 1e-6, "{}", estimate.orientation.angle_to(&truth));
    }

    /// A gate of g² lets pass what is within g deviations, and nothing beyond, and what is kept out changes nothing.
    #[test]
    fn the_gate_is_the_mahalanobis_distance(direction in vector(1.0), stretch in 0.2_f64..3.0, std in 0.01_f64..1.0) {
        prop_assume!(direction.norm() > 0.1 && (stretch - 1.0).abs() > 1e-6);
        let mut estimate = start(UnitQuaternion::identity());
        let variance = 0.01 + std * std;
        let innovation = direction.normalize() * (stretch * 4.0 * variance.sqrt());
        let h = jacobian(index::POSITION);
        let noise = Matrix3::identity() * std * std;
        let distance = estimate.distance(&innovation, &h, &noise).unwrap();
        prop_assert!((distance.sqrt() / (4.0 * stretch) - 1.0).abs() < 1e-9);
        let gate = estimate.measure(&innovation, &h, &noise, 16.0);
        prop_assert_eq!(gate == Gate::Accepted, stretch < 1.0);
        if stretch > 1.0 {
            prop_assert_eq!(estimate.position, Vector3::zeros());
            prop_assert_eq!(estimate.covariance, Covariance::identity() * 0.01);
        }
    }

    /// Turning the world turns the estimate and nothing else: no direction is special but that of gravity.
    #[test]
    fn yawing_the_world_yaws_the_estimate(
        yaw in -3.0_f64..3.0, q in unit(), acceleration in vector(30.0), rates in vector(5.0),
    ) {
        let turn = UnitQuaternion::from_euler_angles(0.0, 0.0, yaw);
        let stamp = Time::ZERO + Span::from_millis(10);
        let sample = ImuSample { stamp, acceleration, rates };
        let (mut here, mut there) = (start(q), start(turn * q));
        here.advance(stamp, Some(&sample), &NOISE);
        there.advance(stamp, Some(&sample), &NOISE);
        prop_assert!((turn * here.velocity - there.velocity).norm() < 1e-9);
        prop_assert!((turn * here.position - there.position).norm() < 1e-9);
        prop_assert!((turn * here.orientation).angle_to(&there.orientation) < 1e-7);
        let block = |e: &Estimate, at: usize| e.covariance.fixed_view::<3, 3>(at, at).into_owned();
        let r = turn.to_rotation_matrix().into_inner();
        let velocity = r * block(&here, index::VELOCITY) * r.transpose();
        prop_assert!((velocity - block(&there, index::VELOCITY)).norm() < 1e-9);
        // Errors of orientation are in body axes, which turned along.
        prop_assert!((block(&here, index::ORIENTATION) - block(&there, index::ORIENTATION)).norm() < 1e-9);
    }

    /// Two half steps are a whole one, to the order of the integration.
    #[test]
    fn small_steps_agree_with_a_large_one(q in unit(), acceleration in vector(20.0), rates in vector(5.0)) {
        let at = |ms: i64| Time::ZERO + Span::from_millis(ms);
        let (mut whole, mut halves) = (start(q), start(q));
        let sample = ImuSample { stamp: at(10), acceleration, rates };
        whole.advance(at(10), Some(&sample), &NOISE);
        halves.advance(at(5), Some(&sample), &NOISE);
        halves.advance(at(10), Some(&sample), &NOISE);
        prop_assert!(whole.orientation.angle_to(&halves.orientation) < 1e-7);
        prop_assert!((whole.velocity - halves.velocity).norm() < 1e-3);
        prop_assert!((whole.position - halves.position).norm() < 1e-4);
        let covariance = (whole.covariance - halves.covariance).amax();
        prop_assert!(covariance < 1e-4, "{covariance:e}");
    }

    /// An earlier time changes nothing.
    #[test]
    fn time_does_not_go_back(ms in 0_i64..1000, imu in any::<bool>()) {
        let mut estimate = start(UnitQuaternion::identity());
        estimate.stamp = Time::ZERO + Span::from_millis(1000);
        let before = estimate.clone();
        let to = Time::ZERO + Span::from_millis(ms);
        let sample = ImuSample { stamp: to, acceleration: Vector3::z(), rates: Vector3::x() };
        estimate.advance(to, imu.then_some(&sample), &NOISE);
        prop_assert_eq!((estimate.stamp, estimate.position, estimate.covariance),
                        (before.stamp, before.position, before.covariance));
    }
}
