//! What a real EKF2 says, recorded: its errors and its claims over two minutes of PX4's own hold mode (PX4's SIH, the tree of
//! March 2026), laid over a flight of which everything is known.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use common::{Normal, Path};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{
    diagnostic_msgs::{DiagnosticArray, DiagnosticStatus},
    geometry_msgs,
    nav_msgs::Odometry,
    sensor_msgs::Imu,
};
use spikewing_runtime::{Span, Time, rig::Rig};
use spikewing_state_estimator::NODE;

const RECORD: &str = include_str!("data/ekf2_sih.csv");
const STEP: Span = Span::from_millis(4);
const HOVER: Path = Path { size: 0.1, turning: 0.06, phase: 0.4 };
/// SIH's inertial sensors as they reach the companion, one sample: m/s² and rad/s, body axes.
const ACCEL_NOISE: [f64; 3] = [0.25, 0.85, 0.7];
const GYRO_NOISE: [f64; 3] = [0.07, 0.035, 0.015];

/// One row: errors in ENU, and claimed standard deviations.
#[derive(Clone, Copy)]
struct Row([f64; 13]);

impl Row {
    fn at(rows: &[Row], t: f64) -> Row {
        let next = rows.partition_point(|row| row.0[0] <= t).clamp(1, rows.len() - 1);
        let (a, b) = (rows[next - 1].0, rows[next].0);
        let share = ((t - a[0]) / (b[0] - a[0])).clamp(0.0, 1.0);
        Row(std::array::from_fn(|i| a[i] + share * (b[i] - a[i])))
    }

    /// North, east, down to east, north, up.
    fn vector(&self, from: usize) -> Vector3<f64> {
        Vector3::new(self.0[from + 1], self.0[from], -self.0[from + 2])
    }

    fn odometry(&self, now: Time, rates_error: &Vector3<f64>) -> Odometry {
        let t = now.seconds();
        let mut m = Odometry::default();
        m.header.stamp = now.to_msg();
        let p = HOVER.position(t) + self.vector(1);
        let heading = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), -self.0[7]);
        let q = heading * HOVER.orientation(t);
        let v = q.inverse() * (HOVER.velocity(t) + self.vector(4));
        let r = HOVER.rates(t) + rates_error;
        m.pose.pose.position = geometry_msgs::Point::new(p.x, p.y, p.z);
        m.pose.pose.orientation = geometry_msgs::Quaternion { x: q.i, y: q.j, z: q.k, w: q.w };
        m.twist.twist.linear = geometry_msgs::Vector3::new(v.x, v.y, v.z);
        m.twist.twist.angular = geometry_msgs::Vector3::new(r.x, r.y, r.z);
        let [eph, epv, evh, evv, heading] = [8, 9, 10, 11, 12].map(|i| self.0[i]);
        for (i, (position, velocity, angle)) in [
            (eph / 2_f64.sqrt(), evh / 2_f64.sqrt(), 0.02),
            (eph / 2_f64.sqrt(), evh / 2_f64.sqrt(), 0.02),
            (epv, evv, heading),
        ]
        .into_iter()
        .enumerate()
        {
            m.pose.covariance[7 * i] = position * position;
            m.twist.covariance[7 * i] = velocity * velocity;
            m.pose.covariance[7 * (i + 3)] = angle * angle;
        }
        m
    }
}

fn rows() -> Vec<Row> {
    let number = |text: &str| text.parse().unwrap();
    RECORD
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut numbers = line.split(',').map(number);
            let row = Row(std::array::from_fn(|_| numbers.next().unwrap()));
            assert!(numbers.next().is_none());
            row
        })
        .collect()
}

/// Largest published standard deviation of position (m), velocity (m/s), roll and pitch, heading (rad).
fn deviations(m: &Odometry) -> [f64; 4] {
    let std = |c: &[f64; 36], from: usize, to: usize| (from..to).map(|i| c[7 * i]).fold(0.0, f64::max).sqrt();
    [
        std(&m.pose.covariance, 0, 3),
        std(&m.twist.covariance, 0, 3),
        std(&m.pose.covariance, 3, 5),
        std(&m.pose.covariance, 5, 6),
    ]
}

#[test]
fn what_a_sound_ekf2_says_can_be_flown_on_and_is_followed() {
    let rows = rows();
    let mut rig = Rig::build(&NODE, &[]).unwrap();
    let mut normal = Normal::new(11);
    let (mut worst, mut apart, mut velocity_errors) = ([0.0_f64; 4], 0.0_f64, [0.0_f64; 2]);
    for tick in 0..(115_000 / (STEP.nanoseconds() / 1_000_000)) {
        rig.pass(STEP);
        let t = rig.now().seconds();
        let mut noise = |std: [f64; 3]| Vector3::from(std.map(|s| s * normal.draw()));
        let (a, g) = (noise(ACCEL_NOISE), noise(GYRO_NOISE));
        if tick % 2 == 0 {
            let sample = HOVER.imu(t - STEP.seconds(), t);
            let mut imu = Imu::default();
            imu.header.stamp = rig.now().to_msg();
            let (a, g) = (sample.acceleration + a, sample.rates + g);
            imu.linear_acceleration = geometry_msgs::Vector3::new(a.x, a.y, a.z);
            imu.angular_velocity = geometry_msgs::Vector3::new(g.x, g.y, g.z);
            rig.message("imu", imu);
        }
        if tick % 2 != 0 || (tick / 2) % 5 == 0 {
            continue;
        }
        let m = Row::at(&rows, t).odometry(rig.now(), &g);
        rig.message("vehicle/odometry", m.clone());
        let said = rig.last::<Odometry>("odometry").unwrap();
        for (w, d) in worst.iter_mut().zip(deviations(said)) {
            *w = w.max(d);
        }
        if t > 2.0 {
            let place = |m: &Odometry| Vector3::from(m.pose.pose.position.to_array());
            let speed = |m: &Odometry| {
                let q = &m.pose.pose.orientation;
                UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z))
                    * Vector3::from(m.twist.twist.linear.to_array())
            };
            apart = apart.max((place(said) - place(&m)).norm());
            for (sum, m) in velocity_errors.iter_mut().zip([said, &m]) {
                *sum += (speed(m) - HOVER.velocity(t)).norm_squared();
            }
        }
    }
    // The supervisor lets a student fly below 0.5 m, 0.7 m/s, 0.2 rad.
    assert!(worst[0] < 0.5 && worst[1] < 0.7 && worst[2] < 0.2 && worst[3] < 0.4, "{worst:?}");
    // Nobody here knows the position better than EKF2. Its velocity errs for seconds; where its position goes is the better velocity.
    assert!(apart < 0.05, "{apart} m");
    let [ours, ekf2] = velocity_errors.map(|sum| (sum / 11_300.0).sqrt());
    assert!(ours < 0.6 * ekf2, "{ours} m/s, EKF2's {ekf2}");
    let status = rig.last::<DiagnosticArray>("/diagnostics").unwrap().status[0].clone();
    assert_ne!(status.level, DiagnosticStatus::ERROR, "{}", status.message);
    println!(
        "deviations {worst:.3?}, beside EKF2 {apart:.3} m; velocity wrong by {ours:.3} m/s, EKF2's by {ekf2:.3}: {}",
        status.message
    );
}
