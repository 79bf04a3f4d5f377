//! What PX4 measures, in ROS's frames and on the node's clock; and what is dropped.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::{Matrix3, Quaternion, UnitQuaternion, Vector3};
use proptest::prelude::*;
use spikewing_msgs::{
    geometry_msgs,
    nav_msgs::Odometry,
    px4_msgs::{SensorCombined, VehicleOdometry, VehicleStatus},
    ros_gz_interfaces::{SetEntityPose, SetEntityPose_Response},
    sensor_msgs::Imu,
    spikewing_msgs as sw,
};
use spikewing_px4_bridge::NODE;
use spikewing_runtime::{Span, Time, rig::Rig};

const ODOMETRY: &str = "fmu/out/vehicle_odometry";
const SENSORS: &str = "fmu/out/sensor_combined";

fn rig() -> Rig {
    Rig::build(&NODE, &[]).unwrap()
}

fn level() -> VehicleOdometry {
    VehicleOdometry {
        pose_frame: VehicleOdometry::POSE_FRAME_NED,
        velocity_frame: VehicleOdometry::VELOCITY_FRAME_NED,
        q: [1.0, 0.0, 0.0, 0.0],
        ..Default::default()
    }
}

/// What becomes of one message of PX4.
fn passed_on(message: VehicleOdometry) -> Option<Odometry> {
    let mut rig = rig();
    rig.message(ODOMETRY, message);
    rig.last::<Odometry>("vehicle/odometry").cloned()
}

fn block(covariance: &[f64; 36], at: usize) -> Matrix3<f64> {
    Matrix3::from_fn(|i, j| covariance[6 * (at + i) + at + j])
}

fn attitude(m: &Odometry) -> UnitQuaternion<f64> {
    let q = &m.pose.pose.orientation;
    UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z))
}

/// Rotation matrix from NED to ENU, and from FRD to FLU: written down here anew.
fn ned_to_enu() -> Matrix3<f64> {
    Matrix3::new(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
}
fn frd_to_flu() -> Matrix3<f64> {
    Matrix3::from_diagonal(&Vector3::new(1.0, -1.0, -1.0))
}

#[test]
fn a_vehicle_that_flies_north_and_climbs_does_so_in_ros_too() {
    // Nose to the north, 3 m up, 2 m north and 1 m east of the origin, flying north at 4 m/s, rolling right.
    let m = passed_on(VehicleOdometry {
        position: [2.0, 1.0, -3.0],
        velocity: [4.0, 0.0, -0.5],
        angular_velocity: [0.1, 0.2, 0.3],
        ..level()
    })
    .unwrap();
    assert_eq!(m.pose.pose.position, geometry_msgs::Point::new(1.0, 2.0, 3.0));
    let (roll, pitch, yaw) = attitude(&m).euler_angles();
    assert!(roll.abs() < 1e-9 && pitch.abs() < 1e-9 && (yaw - std::f64::consts::FRAC_PI_2).abs() < 1e-9);
    let (v, w) = (m.twist.twist.linear.to_array(), m.twist.twist.angular.to_array());
    for (got, expected) in v.iter().chain(&w).zip([4.0, 0.0, 0.5, 0.1, -0.2, -0.3]) {
        assert!((got - expected).abs() < 1e-6, "{v:?} {w:?}");
    }
    assert_eq!((m.header.frame_id.as_str(), m.child_frame_id.as_str()), ("map", "base_link"));
}

#[test]
fn frames_that_are_not_known_are_refused() {
    for pose_frame in [0, VehicleOdometry::POSE_FRAME_FRD, 9] {
        assert_eq!(passed_on(VehicleOdometry { pose_frame, ..level() }), None);
    }
    for velocity_frame in [0, VehicleOdometry::VELOCITY_FRAME_FRD, 9] {
        assert_eq!(passed_on(VehicleOdometry { velocity_frame, ..level() }), None);
    }
    let body = VehicleOdometry {
        velocity_frame: VehicleOdometry::VELOCITY_FRAME_BODY_FRD,
        velocity: [1.0, 2.0, 3.0],
        velocity_variance: [0.1, 0.2, 0.3],
        ..level()
    };
    let m = passed_on(body).unwrap();
    assert_eq!(m.twist.twist.linear.to_array(), [1.0, -2.0, -3.0]);
    let variances = block(&m.twist.covariance, 0).diagonal();
    assert!((variances - Vector3::new(0.1, 0.2, 0.3)).norm() < 1e-6, "{variances}");
}

#[test]
fn a_number_that_is_none_drops_the_message_and_nothing_else() {
    let mut rig = rig();
    for i in 0..3 {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for field in 0..3 {
                let mut m = level();
                [&mut m.position, &mut m.velocity, &mut m.angular_velocity][field][i] = bad;
                rig.message(ODOMETRY, m);
            }
            for field in 0..2 {
                let mut m = SensorCombined::default();
                [&mut m.gyro_rad, &mut m.accelerometer_m_s2][field][i] = bad;
                rig.message(SENSORS, m);
            }
        }
    }
    for q in [[0.0; 4], [f32::NAN, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]] {
        rig.message(ODOMETRY, VehicleOdometry { q, ..level() });
    }
    assert_eq!(rig.sent::<Odometry>("vehicle/odometry").count(), 0);
    assert_eq!(rig.sent::<Imu>("imu").count(), 0);
    rig.message(ODOMETRY, level());
    rig.message(SENSORS, SensorCombined::default());
    assert_eq!(rig.sent::<Odometry>("vehicle/odometry").count(), 1);
    assert_eq!(rig.sent::<Imu>("imu").count(), 1);
}

#[test]
fn an_unknown_variance_is_ross_unknown() {
    let nan = [f32::NAN; 3];
    let m = VehicleOdometry {
        position_variance: nan,
        orientation_variance: [-1.0; 3],
        velocity_variance: [f32::INFINITY; 3],
        ..level()
    };
    let m = passed_on(m).unwrap();
    assert!(m.pose.covariance.iter().chain(&m.twist.covariance).all(|v| *v == 0.0));
}

#[test]
fn the_imu_is_in_flu_and_claims_no_attitude() {
    let mut rig = rig();
    let m = SensorCombined {
        gyro_rad: [0.1, 0.2, 0.3],
        accelerometer_m_s2: [0.5, 0.25, -9.75],
        ..Default::default()
    };
    rig.message(SENSORS, m);
    let m = rig.last::<Imu>("imu").unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(m.angular_velocity.x, 0.1) && close(m.angular_velocity.y, -0.2));
    assert_eq!(m.linear_acceleration.to_array(), [0.5, -0.25, 9.75]);
    assert_eq!(m.orientation_covariance[0], -1.0);
}

fn unit() -> impl Strategy<Value = UnitQuaternion<f64>> {
    prop::array::uniform3(-3.0_f64..3.0).prop_map(|v| UnitQuaternion::from_scaled_axis(v.into()))
}

fn three(range: std::ops::Range<f32>) -> impl Strategy<Value = [f32; 3]> {
    prop::array::uniform3(range)
}

proptest! {
    /// Against rotation matrices written down by hand: vectors and covariances turn alike.
    #[test]
    fn poses_twists_and_covariances_turn_with_the_frames(
        q in unit(), position in three(-90.0..90.0), velocity in three(-9.0..9.0), rates in three(-9.0..9.0),
        pv in three(0.001..1.0), ov in three(0.001..1.0), vv in three(0.001..1.0),
    ) {
        let m = passed_on(VehicleOdometry {
            q: [q.w as f32, q.i as f32, q.j as f32, q.k as f32],
            position, velocity, angular_velocity: rates,
            position_variance: pv, orientation_variance: ov, velocity_variance: vv,
            ..level()
        }).unwrap();
        let (n, b) = (ned_to_enu(), frd_to_flu());
        let wide = |v: [f32; 3]| Vector3::from(v.map(f64::from));
        let square = |v: [f32; 3]| Matrix3::from_diagonal(&wide(v));
        // FLU to ENU = (NED to ENU) (FRD to NED) (FLU to FRD).
        let r_px4 = q.to_rotation_matrix().into_inner();
        let r = n * r_px4 * b.transpose();
        prop_assert!((attitude(&m).to_rotation_matrix().into_inner() - r).norm() < 1e-5);
        let p = m.pose.pose.position.to_array();
        prop_assert!((Vector3::from(p) - n * wide(position)).norm() < 1e-4);
        let v = Vector3::from(m.twist.twist.linear.to_array());
        prop_assert!((r * v - n * wide(velocity)).norm() < 1e-4);
        prop_assert!((Vector3::from(m.twist.twist.angular.to_array()) - b * wide(rates)).norm() < 1e-5);
        prop_assert!((block(&m.pose.covariance, 0) - n * square(pv) * n.transpose()).norm() < 1e-5);
        // About the body's axes on PX4's side, about the world's on ROS's.
        let about_world = n * r_px4 * square(ov) * r_px4.transpose() * n.transpose();
        prop_assert!((block(&m.pose.covariance, 3) - about_world).norm() < 1e-5);
        let in_body = r.transpose() * n * square(vv) * n.transpose() * r;
        prop_assert!((block(&m.twist.covariance, 0) - in_body).norm() < 1e-5);
        for covariance in [&m.pose.covariance, &m.twist.covariance] {
            for at in [0, 3] {
                let c = block(covariance, at);
                prop_assert!((c - c.transpose()).norm() < 1e-9);
                prop_assert!(c.symmetric_eigenvalues().iter().all(|l| *l > -1e-9));
            }
        }
    }

    /// Whatever the stamps, no message is lost and nothing overflows.
    #[test]
    fn any_stamp_is_survived(stamps in prop::collection::vec(any::<u64>(), 1..20)) {
        let mut rig = rig();
        let count = stamps.len();
        for timestamp in stamps {
            rig.message(SENSORS, SensorCombined { timestamp, ..Default::default() });
            rig.pass(Span::from_millis(5));
        }
        prop_assert_eq!(rig.sent::<Imu>("imu").count(), count);
    }
}

/// The stamp that a sample of PX4's time (µs) gets when it arrives now.
fn stamped(rig: &mut Rig, timestamp: u64) -> Time {
    rig.message(SENSORS, SensorCombined { timestamp, ..Default::default() });
    Time::from(&rig.last::<Imu>("imu").unwrap().header.stamp)
}

#[test]
fn clocks_that_agree_are_taken_as_one() {
    let mut rig = rig();
    rig.pass(Span::from_millis(5000));
    let now_us = u64::try_from(rig.now().nanoseconds() / 1000).unwrap();
    assert_eq!(stamped(&mut rig, now_us - 30_000), rig.now() - Span::from_millis(30));
    assert_eq!(stamped(&mut rig, 0), rig.now(), "0: PX4 does not know");
}

#[test]
fn px4s_time_since_boot_is_mapped_with_the_least_delay() {
    let mut rig = rig();
    rig.pass(Span::from_millis(3_600_000));
    // PX4 booted 100 s ago; messages take 2 to 12 ms.
    let boot = rig.now() - Span::from_millis(100_000);
    let mut worst = Span::ZERO;
    for k in 0..2000_i64 {
        let delay = Span::from_millis(2 + (k * 7) % 11);
        let sampled = rig.now() - delay;
        let px4_us = u64::try_from((sampled - boot).nanoseconds() / 1000).unwrap();
        let stamp = stamped(&mut rig, px4_us);
        assert!(stamp <= rig.now());
        if k > 20 {
            worst = worst.max(stamp - sampled);
        }
        rig.pass(Span::from_millis(13));
    }
    // The least delay is not known from one side.
    assert!(worst <= Span::from_millis(3), "{worst:?}");
    // PX4 is restarted: its clock begins anew, and is followed at once.
    let stamp = stamped(&mut rig, 1_000_000);
    assert_eq!(stamp, rig.now());
}

#[test]
fn a_clock_that_drifts_is_followed() {
    for ppm in [100_i64, -100] {
        let mut rig = rig();
        rig.pass(Span::from_millis(3_600_000));
        let mut px4_ns = 60_000_000_000_i64;
        let mut worst = 0;
        // Two hours, ten times a second, with PX4's clock faster or slower by 100 ppm.
        for _ in 0..72_000 {
            rig.pass(Span::from_millis(100));
            px4_ns += 100_000_000 + 100_000_000 * ppm / 1_000_000;
            let stamp = stamped(&mut rig, u64::try_from(px4_ns / 1000).unwrap());
            worst = worst.max((rig.now() - stamp).nanoseconds().abs());
            rig.forget();
        }
        assert!(worst < 1_000_000, "{ppm} ppm: {worst} ns");
    }
}

#[test]
fn resets_are_passed_on_and_their_failure_is_told() {
    let mut rig = rig();
    let mut pose =
        geometry_msgs::Pose { position: geometry_msgs::Point::new(1.0, 2.0, 3.0), ..Default::default() };
    let ask = |rig: &mut Rig, pose: &geometry_msgs::Pose| {
        let request = sw::ResetVehicle_Request { pose: pose.clone() };
        rig.request::<sw::ResetVehicle>("~/reset_vehicle", request).unwrap()
    };
    assert!(ask(&mut rig, &pose).success);
    let (call, request) = rig.calls::<SetEntityPose>("set_entity_pose").last().unwrap();
    assert_eq!((request.entity.name.as_str(), &request.pose), ("x500_0", &pose));
    rig.respond::<SetEntityPose>("set_entity_pose", call, Ok(SetEntityPose_Response { success: false }));
    rig.message("fmu/out/vehicle_status_v1", VehicleStatus::default());
    let said = rig.last::<sw::VehicleStatus>("vehicle/status").unwrap().message.clone();
    assert!(said.contains("x500_0"), "{said}");
    pose.position.x = f64::NAN;
    let answer = ask(&mut rig, &pose);
    assert!(!answer.success && answer.message.contains("not finite"), "{}", answer.message);
    assert_eq!(rig.calls::<SetEntityPose>("set_entity_pose").count(), 1);
}
