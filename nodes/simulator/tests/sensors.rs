//! What the sensors say: frames, motor order, noise, delay, and where a reset puts the vehicle.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Companion, ODOMETRY, SENSORS, four, hover};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{
    geometry_msgs,
    px4_msgs::{SensorCombined, VehicleOdometry},
    rosgraph_msgs::Clock,
};
use spikewing_runtime::{Time, parameter::Value, rig::Rig};
use spikewing_simulator::NODE;

const G: f32 = 9.81;

#[test]
fn at_rest_the_accelerometer_feels_the_ground_in_frd() {
    let mut px4 = Companion::new(&[]);
    px4.pass(100);
    let m = px4.rig.last::<SensorCombined>(SENSORS).unwrap();
    let [x, y, z] = m.accelerometer_m_s2;
    assert!(x.abs() < 1e-5 && y.abs() < 1e-5 && (z + G).abs() < 0.01, "{:?}", m.accelerometer_m_s2);
    assert_eq!((m.gyro_rad, m.gyro_integral_dt), ([0.0; 3], 5000));
}

#[test]
fn falling_is_weightless_and_down_in_ned() {
    let mut px4 = Companion::new(&[]);
    assert!(px4.place([0.0, 0.0, 30.0], UnitQuaternion::identity()));
    px4.pass(500);
    let odometry = px4.odometry();
    assert!(odometry.velocity[2] > 3.0 && odometry.position[2] > -30.0, "{odometry:?}");
    let m = px4.rig.last::<SensorCombined>(SENSORS).unwrap();
    let felt = Vector3::from(m.accelerometer_m_s2).norm();
    // All that is felt is the thrust of rotors that idle.
    assert!(felt < 0.4 * G && m.accelerometer_m_s2[2] <= 0.0, "{felt} m/s²");
}

#[test]
fn poses_are_north_east_down_and_forward_right_down() {
    let mut px4 = Companion::armed(&[]);
    // One metre east, two north, three up; the nose to the north.
    let north = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
    assert!(px4.place([1.0, 2.0, 3.0], north));
    px4.motors(four([hover("crazyflie"); 4]));
    px4.pass(10);
    let m = px4.odometry();
    for (got, expected) in m.position.iter().zip([2.0, 1.0, -3.0]) {
        assert!((got - expected).abs() < 0.01, "{:?}", m.position);
    }
    assert!((m.q[0].abs() - 1.0).abs() < 1e-4, "level, to the north: {:?}", m.q);
    assert_eq!(m.pose_frame, VehicleOdometry::POSE_FRAME_NED);
    assert_eq!(m.velocity_frame, VehicleOdometry::VELOCITY_FRAME_NED);
    // The same, the nose to the east: a heading of 90° clockwise from north.
    assert!(px4.place([1.0, 2.0, 3.0], UnitQuaternion::identity()));
    px4.pass(10);
    let [w, x, y, z] = px4.odometry().q.map(f64::from);
    let (_, _, heading) = UnitQuaternion::new_normalize(Quaternion::new(w, x, y, z)).euler_angles();
    assert!((heading - std::f64::consts::FRAC_PI_2).abs() < 1e-4, "{heading}");
}

/// Body rates (FRD) after 40 ms in which some motors, in PX4's numbers from 1, have a little more thrust.
fn rates_with(vehicle: &str, stronger: [usize; 2]) -> Vector3<f32> {
    let mut px4 = Companion::armed(&[("vehicle", Value::Text(vehicle.into()))]);
    assert!(px4.place([0.0, 0.0, 5.0], UnitQuaternion::identity()));
    let mut u = [hover(vehicle); 4];
    for motor in stronger {
        u[motor - 1] += 0.05;
    }
    px4.stream(40, Some(four(u)));
    Vector3::from(px4.odometry().angular_velocity)
}

#[test]
fn motors_are_where_px4s_x500_has_them() {
    for vehicle in ["crazyflie", "x500"] {
        // 1 front right, 2 rear left, 3 front left, 4 rear right.
        let left = rates_with(vehicle, [2, 3]);
        assert!(left.x > 0.05 && left.x > 5.0 * left.y.abs(), "{vehicle}: rolls right: {left}");
        let front = rates_with(vehicle, [1, 3]);
        assert!(front.y > 0.05 && front.y > 5.0 * front.x.abs(), "{vehicle}: nose up: {front}");
        // 1 and 2 turn counterclockwise, so that their drag turns the vehicle clockwise: to the right.
        let counterclockwise = rates_with(vehicle, [1, 2]);
        assert!(counterclockwise.z > 1e-3, "{vehicle}: turns right: {counterclockwise}");
        assert!(counterclockwise.x.abs() < 1e-3 && counterclockwise.y.abs() < 1e-3);
    }
}

#[test]
fn a_setpoint_that_is_no_number_or_negative_stops_its_motor_only() {
    let flown = |bad: f32| {
        let mut px4 = Companion::hovering(5.0, &[]);
        let mut u = [hover("crazyflie"); 4];
        u[0] = bad;
        px4.stream(100, Some(four(u)));
        px4.odometry()
    };
    let stopped = flown(0.0);
    assert!(stopped.angular_velocity[0] > 0.5 && stopped.angular_velocity[1] < -0.5, "{stopped:?}");
    for bad in [f32::NAN, -0.3, -1.0, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(flown(bad), stopped, "{bad}");
    }
    assert_eq!(flown(1.5), flown(1.0), "more than full is full");
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0);
    (mean, variance.sqrt())
}

fn axis<M: spikewing_msgs::Message>(rig: &Rig, port: &'static str, of: impl Fn(&M) -> f32) -> Vec<f64> {
    rig.sent::<M>(port).map(|m| f64::from(of(m))).collect()
}

#[test]
fn noise_has_the_moments_that_its_parameters_say() {
    let std = [
        ("noise.position", 0.05),
        ("noise.attitude", 0.02),
        ("noise.velocity", 0.1),
        ("noise.body_rates", 0.2),
        ("noise.gyro", 0.03),
        ("noise.accelerometer", 0.4),
    ];
    let settings: Vec<_> = std.iter().map(|(name, value)| (*name, Value::Float(*value))).collect();
    let mut px4 = Companion::new(&settings);
    px4.pass(40_000);
    let n = 4000.0_f64;
    let check = |what: &str, values: &[f64], truth: f64, expected: f64| {
        let (mean, deviation) = moments(values);
        let n = values.len() as f64;
        assert!((mean - truth).abs() < 5.0 * expected / n.sqrt(), "{what}: mean {mean}");
        assert!((deviation / expected - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{what}: deviation {deviation}");
    };
    let rig = &px4.rig;
    for i in 0..3 {
        let odometry = |of: fn(&VehicleOdometry) -> [f32; 3]| axis(rig, ODOMETRY, move |m| of(m)[i]);
        let position = odometry(|m| m.position);
        assert_eq!(position.len() as f64, n);
        check("position", &position, 0.0, 0.05);
        check("velocity", &odometry(|m| m.velocity), 0.0, 0.1);
        check("body rates", &odometry(|m| m.angular_velocity), 0.0, 0.2);
        // The vehicle is level: of a small rotation the quaternion has the half.
        let attitude: Vec<f64> = rig
            .sent::<VehicleOdometry>(ODOMETRY)
            .map(|m| {
                let [w, x, y, z] = m.q.map(f64::from);
                let east = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
                let q = UnitQuaternion::new_normalize(Quaternion::new(w, x, y, z));
                (east.inverse() * q).scaled_axis()[i]
            })
            .collect();
        check("attitude", &attitude, 0.0, 0.02);
        check("gyro", &axis(rig, SENSORS, |m: &SensorCombined| m.gyro_rad[i]), 0.0, 0.03);
        let weight = if i == 2 { -9.81 } else { 0.0 };
        check(
            "accelerometer",
            &axis(rig, SENSORS, |m: &SensorCombined| m.accelerometer_m_s2[i]),
            weight,
            0.4,
        );
    }
    // What it says of its own accuracy is true.
    let m = px4.odometry();
    for (variance, deviation) in
        [(m.position_variance, 0.05_f32), (m.orientation_variance, 0.02), (m.velocity_variance, 0.1)]
    {
        assert!(variance.iter().all(|v| (v.sqrt() / deviation - 1.0).abs() < 1e-4), "{variance:?}");
    }
}

#[test]
fn a_bias_is_constant_in_a_run_and_another_for_another_seed() {
    let biases = |seed: i64| {
        let mut px4 = Companion::new(&[
            ("seed", Value::Integer(seed)),
            ("noise.gyro_bias", Value::Float(0.05)),
            ("noise.accelerometer_bias", Value::Float(0.2)),
        ]);
        px4.pass(100);
        let all: Vec<_> = px4.rig.sent::<SensorCombined>(SENSORS).map(|m| m.gyro_rad).collect();
        assert!(all.windows(2).all(|w| w[0] == w[1]), "constant");
        px4.rig.last::<SensorCombined>(SENSORS).map(|m| (m.gyro_rad, m.accelerometer_m_s2)).unwrap()
    };
    assert_eq!(biases(3), biases(3));
    assert_ne!(biases(3), biases(4));
    let mut gyro = Vec::new();
    for seed in 0..100 {
        gyro.extend(biases(seed).0.map(f64::from));
    }
    let (mean, deviation) = moments(&gyro);
    assert!(mean.abs() < 0.015 && (deviation / 0.05 - 1.0).abs() < 0.2, "{mean} {deviation}");
}

#[test]
fn latency_is_the_age_of_what_is_told() {
    let mut px4 = Companion::new(&[("latency_s", Value::Float(0.05))]);
    assert!(px4.place([0.0, 0.0, 30.0], UnitQuaternion::identity()));
    let mut prompt = Companion::new(&[]);
    assert!(prompt.place([0.0, 0.0, 30.0], UnitQuaternion::identity()));
    px4.pass(50);
    assert_eq!(px4.rig.sent::<VehicleOdometry>(ODOMETRY).count(), 0, "nothing is that old yet");
    px4.pass(450);
    prompt.pass(500);
    let now: Vec<_> = prompt.rig.sent::<VehicleOdometry>(ODOMETRY).cloned().collect();
    let mut compared = 0;
    for m in px4.rig.sent::<VehicleOdometry>(ODOMETRY) {
        assert_eq!(m.timestamp - m.timestamp_sample, 50_000);
        let then = now.iter().find(|n| n.timestamp_sample == m.timestamp_sample).unwrap();
        assert_eq!((m.position, m.velocity, m.q), (then.position, then.velocity, then.q));
        compared += 1;
    }
    assert!(compared >= 44, "{compared}");
}

#[test]
fn rates_of_the_topics_are_those_of_the_parameters() {
    let mut px4 =
        Companion::new(&[("imu_rate_hz", Value::Float(500.0)), ("odometry_rate_hz", Value::Float(250.0))]);
    px4.pass(2000);
    assert_eq!(px4.rig.sent::<SensorCombined>(SENSORS).count(), 1000);
    assert_eq!(px4.rig.sent::<VehicleOdometry>(ODOMETRY).count(), 500);
    let clocks: Vec<Time> = px4.rig.sent::<Clock>("/clock").map(|m| Time::from(&m.clock)).collect();
    assert_eq!(clocks.len(), 1000);
    assert_eq!(*clocks.last().unwrap(), px4.rig.now());
    let error = Rig::build(&NODE, &[("imu_rate_hz", Value::Float(250.0))]).err().unwrap().to_string();
    assert!(error.contains("imu_rate_hz = 250") && error.contains("multiple"), "{error}");
    let error = Rig::build(&NODE, &[("vehicle", Value::Text("no_such".into()))]).err().unwrap().to_string();
    assert!(error.contains("no_such") && error.contains("crazyflie"), "{error}");
}

#[test]
fn a_pose_that_is_none_is_refused_and_moves_nothing() {
    let mut px4 = Companion::hovering(2.0, &[]);
    let before = px4.odometry();
    let identity = geometry_msgs::Quaternion { x: 0.0, y: 0.0, z: 0.0, w: 1.0 };
    for bad in [f64::NAN, f64::INFINITY] {
        for i in 0..3 {
            let mut p = Vector3::new(0.0, 0.0, 9.0);
            p[i] = bad;
            assert!(!px4.place_raw(p, identity.clone()));
        }
        let q = geometry_msgs::Quaternion { x: bad, ..identity.clone() };
        assert!(!px4.place_raw(Vector3::new(0.0, 0.0, 9.0), q));
    }
    for w in [0.0, 0.5, 2.0] {
        let q = geometry_msgs::Quaternion { x: 0.0, y: 0.0, z: 0.0, w };
        assert!(!px4.place_raw(Vector3::new(0.0, 0.0, 9.0), q));
    }
    px4.stream(20, None);
    let after = px4.odometry();
    assert!((after.position[2] - before.position[2]).abs() < 0.05);
    assert_eq!(after.reset_counter, before.reset_counter);
    assert!(px4.place([0.0, 0.0, -4.0], UnitQuaternion::identity()), "the ground takes it");
    px4.stream(20, None);
    assert!(px4.height() < 0.05 && px4.odometry().reset_counter == before.reset_counter.wrapping_add(1));
}

#[test]
fn resets_spread_as_their_parameters_say() {
    let mut px4 = Companion::new(&[
        ("reset.position", Value::Float(0.2)),
        ("reset.angle", Value::Float(1.5)),
        ("reset.velocity", Value::Float(1.0)),
        ("reset.body_rates", Value::Float(0.5)),
    ]);
    let (mut far, mut tilted, mut fast) = (0.0_f64, 0.0_f64, 0.0_f64);
    for _ in 0..300 {
        assert!(px4.place([1.0, 2.0, 5.0], UnitQuaternion::identity()));
        // In the air and disarmed: one tick of falling does not matter here.
        px4.pass(10);
        let m = px4.odometry();
        let p = Vector3::from(m.position.map(f64::from)) - Vector3::new(2.0, 1.0, -5.0);
        let [w, x, y, z] = m.q.map(f64::from);
        let east = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
        far = far.max(p.amax());
        tilted = tilted.max(UnitQuaternion::new_normalize(Quaternion::new(w, x, y, z)).angle_to(&east));
        fast = fast.max(Vector3::from(m.velocity.map(f64::from)).amax());
    }
    assert!((0.17..0.23).contains(&far), "{far} m");
    assert!((1.4..1.52).contains(&tilted), "{tilted} rad");
    assert!((0.9..1.2).contains(&fast), "{fast} m/s");
}
