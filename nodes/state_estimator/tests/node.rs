//! The estimator as its neighbours meet it: late joiners, bad numbers, gates, delays, silence, resets.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use nalgebra::{DMatrix, Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{
    diagnostic_msgs::{DiagnosticArray, DiagnosticStatus},
    geometry_msgs,
    nav_msgs::Odometry,
    sensor_msgs::Imu,
    spikewing_msgs as sw,
    std_srvs::{Trigger, Trigger_Request},
};
use spikewing_runtime::{Span, Time, node::Shutdown, parameter::Value, rig::Rig};
use spikewing_state_estimator::NODE;

const G: f64 = 9.81;

/// A vehicle that flies a circle of radius 1 m at 1 rad/s, looking ahead: everything about it is known.
#[derive(Clone, Copy)]
struct Circle;

impl Circle {
    fn position(t: f64) -> Vector3<f64> {
        Vector3::new(t.cos(), t.sin(), 1.0)
    }
    fn velocity(t: f64) -> Vector3<f64> {
        Vector3::new(-t.sin(), t.cos(), 0.0)
    }
    fn orientation(t: f64) -> UnitQuaternion<f64> {
        UnitQuaternion::from_axis_angle(&Vector3::z_axis(), t + std::f64::consts::FRAC_PI_2)
    }
    /// Specific force, body axes: centripetal to the left, and weight.
    const FORCE: [f64; 3] = [0.0, 1.0, G];
    const RATES: [f64; 3] = [0.0, 0.0, 1.0];
}

struct Bench {
    rig: Rig,
}

impl Bench {
    fn new(settings: &[(&str, Value)]) -> Self {
        Self { rig: Rig::build(&NODE, settings).unwrap() }
    }

    fn t(&self) -> f64 {
        self.rig.now().seconds()
    }

    fn imu(&mut self, bias: [f64; 3]) {
        let mut m = Imu::default();
        m.header.stamp = self.rig.now().to_msg();
        let [x, y, z] = Circle::RATES;
        m.angular_velocity = geometry_msgs::Vector3::new(x + bias[0], y + bias[1], z + bias[2]);
        let [x, y, z] = Circle::FORCE;
        m.linear_acceleration = geometry_msgs::Vector3::new(x, y, z);
        self.rig.message("imu", m);
    }

    /// What the circle's odometry says of the time `stamp`.
    fn measured(stamp: Time) -> Odometry {
        let t = stamp.seconds();
        let mut m = Odometry::default();
        m.header.stamp = stamp.to_msg();
        let p = Circle::position(t);
        m.pose.pose.position = geometry_msgs::Point::new(p.x, p.y, p.z);
        let q = Circle::orientation(t);
        m.pose.pose.orientation = geometry_msgs::Quaternion { x: q.i, y: q.j, z: q.k, w: q.w };
        let v = q.inverse() * Circle::velocity(t);
        m.twist.twist.linear = geometry_msgs::Vector3::new(v.x, v.y, v.z);
        let [x, y, z] = Circle::RATES;
        m.twist.twist.angular = geometry_msgs::Vector3::new(x, y, z);
        m
    }

    fn odometry(&mut self) {
        let m = Self::measured(self.rig.now());
        self.rig.message("vehicle/odometry", m);
    }

    fn mocap(&mut self) {
        let m = Self::measured(self.rig.now());
        let pose = geometry_msgs::PoseStamped { header: m.header, pose: m.pose.pose };
        self.rig.message("mocap/pose", pose);
    }

    /// IMU at 200 Hz and odometry at 100 Hz.
    fn fly(&mut self, ms: i64) {
        self.fly_with(ms, [0.0; 3], Self::odometry);
    }

    fn fly_with(&mut self, ms: i64, bias: [f64; 3], measure: fn(&mut Self)) {
        for k in 0..ms / 5 {
            self.rig.pass(Span::from_millis(5));
            self.imu(bias);
            if k % 2 == 1 {
                measure(self);
            }
        }
    }

    fn estimates(&self) -> Vec<Odometry> {
        self.rig.sent("odometry").cloned().collect()
    }

    fn last(&self) -> Odometry {
        self.rig.last::<Odometry>("odometry").unwrap().clone()
    }

    /// Value of an entry of the last diagnostics, after a second of waiting for them.
    fn diagnostics(&mut self) -> DiagnosticStatus {
        self.rig.pass(Span::from_millis(1000));
        self.rig.last::<DiagnosticArray>("/diagnostics").unwrap().status[0].clone()
    }

    fn reset(&mut self) {
        assert!(self.rig.request::<Trigger>("~/reset", Trigger_Request::default()).unwrap().success);
    }
}

fn value<'a>(status: &'a DiagnosticStatus, key: &str) -> &'a str {
    status.values.iter().find(|v| v.key == key).map(|v| v.value.as_str()).unwrap()
}

/// Distance (m), angle (rad) and difference of velocity (m/s) from the truth at the estimate's own time.
fn errors(m: &Odometry) -> [f64; 3] {
    let t = Time::from(&m.header.stamp).seconds();
    let (p, q, v) = (&m.pose.pose.position, &m.pose.pose.orientation, &m.twist.twist.linear);
    let q = UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z));
    [
        (Vector3::from(p.to_array()) - Circle::position(t)).norm(),
        q.angle_to(&Circle::orientation(t)),
        (q * Vector3::from(v.to_array()) - Circle::velocity(t)).norm(),
    ]
}

fn assert_tracks(m: &Odometry, within: f64) {
    let e = errors(m);
    assert!(e.iter().all(|e| *e < within), "{e:?}");
}

fn assert_covariance(m: &Odometry) {
    for covariance in [&m.pose.covariance, &m.twist.covariance] {
        let c = DMatrix::from_row_slice(6, 6, covariance);
        assert!(c.iter().all(|v| v.is_finite()));
        assert!((&c - c.transpose()).amax() <= 1e-12 * c.amax(), "symmetric");
        assert!(c.symmetric_eigenvalues().iter().all(|l| *l > -1e-9 * c.amax()), "positive");
        assert!(c.diagonal().iter().all(|v| *v > 0.0));
    }
}

#[test]
fn each_measurement_has_one_estimate_with_its_stamp_and_a_sound_covariance() {
    let mut bench = Bench::new(&[]);
    bench.fly(2000);
    let estimates = bench.estimates();
    assert_eq!(estimates.len(), 200);
    for m in &estimates {
        assert_covariance(m);
        assert_tracks(m, 0.02);
        assert_eq!((m.header.frame_id.as_str(), m.child_frame_id.as_str()), ("map", "base_link"));
    }
    let stamps: Vec<Time> = estimates.iter().map(|m| Time::from(&m.header.stamp)).collect();
    assert!(stamps.windows(2).all(|w| w[1] - w[0] == Span::from_millis(10)));
    // What was learnt shows: the variance is below that of one measurement.
    let last = bench.last();
    assert!(last.pose.covariance[0] < 1e-4 && last.pose.covariance[0] > 0.0);
}

#[test]
fn whoever_joins_late_is_taken_in() {
    // Measurements first, the IMU a second later; then the other way round.
    let mut bench = Bench::new(&[]);
    for _ in 0..100 {
        bench.rig.pass(Span::from_millis(10));
        bench.odometry();
    }
    assert_eq!(bench.estimates().len(), 100);
    bench.fly(1000);
    assert_tracks(&bench.last(), 0.01);

    let mut bench = Bench::new(&[]);
    bench.fly_with(1000, [0.0; 3], |_| ());
    assert!(bench.estimates().is_empty(), "an IMU alone knows no position");
    bench.fly(20);
    assert_eq!(bench.estimates().len(), 2, "from the first measurement on");
    assert_tracks(&bench.last(), 0.01);

    // Motion capture joins, and odometry leaves.
    bench.fly_with(500, [0.0; 3], Bench::mocap);
    assert_tracks(&bench.last(), 0.01);
    bench.fly(500);
    assert_tracks(&bench.last(), 0.01);
}

#[test]
fn a_pose_alone_is_enough() {
    let mut bench = Bench::new(&[]);
    bench.fly_with(3000, [0.0; 3], Bench::mocap);
    assert_tracks(&bench.last(), 0.02);
    assert_covariance(&bench.last());
}

#[test]
fn bad_numbers_are_counted_and_leave_the_estimate_alone() {
    let mut bench = Bench::new(&[]);
    bench.fly(1000);
    let mut calm = Bench::new(&[]);
    calm.fly(1000);
    let now = bench.rig.now();
    for bad in [f64::NAN, f64::INFINITY, 1e30] {
        let mut m = Bench::measured(now);
        m.pose.pose.position.y = bad;
        bench.rig.message("vehicle/odometry", m);
        let mut m = Bench::measured(now);
        m.pose.pose.orientation.z = bad;
        bench.rig.message("vehicle/odometry", m);
        let mut m = Imu::default();
        m.header.stamp = now.to_msg();
        m.angular_velocity.x = bad;
        bench.rig.message("imu", m.clone());
        m.angular_velocity.x = 0.0;
        m.linear_acceleration.z = bad;
        bench.rig.message("imu", m);
        let mut m = geometry_msgs::PoseStamped::default();
        m.header.stamp = now.to_msg();
        m.pose.position.x = bad;
        bench.rig.message("mocap/pose", m);
    }
    for norm in [0.0, 0.5, 3.0] {
        let mut m = Bench::measured(now);
        m.pose.pose.orientation = geometry_msgs::Quaternion { x: 0.0, y: 0.0, z: 0.0, w: norm };
        bench.rig.message("vehicle/odometry", m);
    }
    bench.fly(500);
    calm.fly(500);
    assert_eq!(bench.last(), calm.last(), "as if nothing had come");
    let status = bench.diagnostics();
    assert_eq!((value(&status, "not finite"), value(&status, "implausible")), ("10", "8"));
    bench.rig.with(|node, now, out| node.on_malformed(now, "imu", "cut off", out));
    assert_eq!(value(&bench.diagnostics(), "malformed"), "1");
}

#[test]
fn a_bad_twist_or_covariance_costs_that_part_only() {
    let mut bench = Bench::new(&[]);
    bench.fly_with(1000, [0.0; 3], |b| {
        let mut m = Bench::measured(b.rig.now());
        m.twist.twist.linear.x = f64::NAN;
        m.twist.twist.angular.y = f64::NAN;
        m.pose.covariance = [f64::NAN; 36];
        m.twist.covariance[0] = -1.0;
        b.rig.message("vehicle/odometry", m);
    });
    assert_eq!(bench.estimates().len(), 100);
    assert_tracks(&bench.last(), 0.03);
    assert_covariance(&bench.last());
}

#[test]
fn an_outlier_is_gated_and_a_new_truth_is_believed() {
    let mut bench = Bench::new(&[]);
    bench.fly(1000);
    let far = |b: &mut Bench| {
        let mut m = Bench::measured(b.rig.now());
        m.pose.pose.position.x += 3.0;
        b.rig.message("vehicle/odometry", m);
    };
    bench.fly_with(40, [0.0; 3], far);
    assert_tracks(&bench.last(), 0.02);
    bench.fly(500);
    assert_tracks(&bench.last(), 0.02);
    // It goes on: then it is the estimate that is wrong. Five in a row do.
    bench.fly_with(50, [0.0; 3], far);
    let e = errors(&bench.last());
    assert!((e[0] - 3.0).abs() < 0.05, "{e:?}");
    let status = bench.diagnostics();
    assert!(value(&status, "gated positions").parse::<u32>().unwrap() >= 8);
    assert_eq!(value(&status, "filter starts"), "2");
}

#[test]
fn a_jump_is_followed_at_once_where_simulators_put_vehicles_back() {
    let mut bench = Bench::new(&[("reset_on_jump", Value::Bool(true))]);
    bench.fly(500);
    bench.fly_with(10, [0.0; 3], |b| {
        let mut m = Bench::measured(b.rig.now());
        m.pose.pose.position.x += 0.5;
        b.rig.message("vehicle/odometry", m);
    });
    let e = errors(&bench.last());
    assert!((e[0] - 0.5).abs() < 0.01, "{e:?}");
}

#[test]
fn a_measurement_that_comes_late_is_used_where_it_belongs() {
    // The same measurements, prompt or 60 ms late, lead to the same belief about now.
    let mut late = Bench::new(&[("output_stamp", Value::Text("latest".into()))]);
    let mut waiting = std::collections::VecDeque::new();
    for k in 0..400 {
        late.rig.pass(Span::from_millis(5));
        late.imu([0.0; 3]);
        if k % 2 == 1 {
            waiting.push_back(late.rig.now());
        }
        while waiting.front().is_some_and(|at| late.rig.now() - *at >= Span::from_millis(60)) {
            let m = Bench::measured(waiting.pop_front().unwrap());
            late.rig.message("vehicle/odometry", m);
        }
    }
    let last = late.last();
    assert_eq!(Time::from(&last.header.stamp), late.rig.now(), "carried on to now with the IMU");
    assert_tracks(&last, 0.02);

    // One that is older than the history is not used.
    let old = late.rig.now() - Span::from_millis(800);
    late.rig.message("mocap/pose", {
        let m = Bench::measured(old);
        geometry_msgs::PoseStamped { header: m.header, pose: m.pose.pose }
    });
    assert_eq!(value(&late.diagnostics(), "too late"), "1");
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut bench = Bench::new(&[]);
    let mut shuffled = Bench::new(&[]);
    bench.fly(500);
    shuffled.fly(500);
    let (one, two) = (bench.rig.now() + Span::from_millis(5), bench.rig.now() + Span::from_millis(10));
    let imu = |at: Time| {
        let mut m = Imu::default();
        m.header.stamp = at.to_msg();
        m.angular_velocity = geometry_msgs::Vector3::new(0.0, 0.0, 1.0);
        m.linear_acceleration = geometry_msgs::Vector3::new(0.0, 1.0, G);
        m
    };
    for rig in [&mut bench.rig, &mut shuffled.rig] {
        rig.pass(Span::from_millis(10));
    }
    bench.rig.message("imu", imu(one));
    bench.rig.message("imu", imu(two));
    bench.rig.message("vehicle/odometry", Bench::measured(two));
    shuffled.rig.message("imu", imu(two));
    shuffled.rig.message("vehicle/odometry", Bench::measured(two));
    shuffled.rig.message("imu", imu(one));
    bench.fly(10);
    shuffled.fly(10);
    let (a, b) = (bench.last(), shuffled.last());
    let p = |m: &Odometry| Vector3::from(m.pose.pose.position.to_array());
    assert!((p(&a) - p(&b)).norm() < 1e-12);
    assert!(a.pose.covariance.iter().zip(&b.pose.covariance).all(|(x, y)| (x - y).abs() < 1e-12));
}

#[test]
fn biases_are_learnt_and_forgotten_on_reset() {
    let bias = [0.03, -0.02, 0.01];
    let mut bench = Bench::new(&[]);
    bench.fly_with(20_000, bias, Bench::odometry);
    let learnt = |bench: &mut Bench| -> Vec<f64> {
        let status = bench.rig.last::<DiagnosticArray>("/diagnostics").unwrap().status[0].clone();
        value(&status, "gyroscope bias [rad/s]").split(' ').map(|v| v.parse().unwrap()).collect()
    };
    let seen = learnt(&mut bench);
    assert!(seen.iter().zip(bias).all(|(s, b)| (s - b).abs() < 0.005), "{seen:?}");
    let rates = bench.last().twist.twist.angular.to_array();
    assert!((rates[2] - 1.0).abs() < 0.01, "the body rates are without it: {rates:?}");
    bench.reset();
    bench.rig.forget();
    bench.rig.pass(Span::from_millis(300));
    assert!(bench.estimates().is_empty(), "nothing is known until the next measurement");
    bench.fly(1500);
    let seen = learnt(&mut bench);
    assert!(seen.iter().all(|s| s.abs() < 0.01), "{seen:?}");
    assert_tracks(&bench.last(), 0.02);
}

#[test]
fn without_measurements_it_goes_on_for_a_while_and_then_is_silent() {
    let mut bench = Bench::new(&[]);
    bench.fly(1000);
    bench.rig.forget();
    bench.fly_with(450, [0.0; 3], |_| ());
    let carried = bench.estimates();
    assert!(carried.len() >= 40, "{}", carried.len());
    assert_tracks(carried.last().unwrap(), 0.1);
    let variances: Vec<f64> = carried.iter().map(|m| m.pose.covariance[0]).collect();
    assert!(variances.windows(2).all(|w| w[1] >= w[0]), "ever less sure");
    carried.iter().for_each(assert_covariance);
    bench.fly_with(800, [0.0; 3], |_| ());
    bench.rig.forget();
    bench.fly_with(2000, [0.0; 3], |_| ());
    assert!(bench.estimates().is_empty(), "whoever flies on it must notice");
    let status = bench.diagnostics();
    assert_eq!(status.level, DiagnosticStatus::ERROR);
    assert!(status.message.contains("odometry stopped"), "{}", status.message);
    bench.fly(50);
    assert_tracks(&bench.last(), 0.01);
}

#[test]
fn a_corrupt_stamp_is_refused_and_a_clock_that_was_set_is_followed() {
    let mut bench = Bench::new(&[]);
    bench.fly(500);
    let ahead = Bench::measured(bench.rig.now() + Span::from_millis(3_600_000));
    bench.rig.message("vehicle/odometry", ahead);
    bench.fly(500);
    assert_tracks(&bench.last(), 0.01);
    assert_eq!(value(&bench.diagnostics(), "stamps refused"), "1");
    // All stamps go on an hour later.
    bench.rig.forget();
    for _ in 0..100 {
        bench.rig.pass(Span::from_millis(10));
        let m = Bench::measured(bench.rig.now() + Span::from_millis(3_600_000));
        bench.rig.message("vehicle/odometry", m);
    }
    assert!(bench.estimates().len() > 90, "{}", bench.estimates().len());
    assert_tracks(&bench.last(), 0.01);
}

#[test]
fn health_is_told_once_a_second() {
    let mut bench = Bench::new(&[]);
    let status = bench.diagnostics();
    assert_eq!(status.level, DiagnosticStatus::STALE);
    assert!(status.message.contains("waiting for vehicle/odometry"), "{}", status.message);
    bench.fly(3000);
    let all: Vec<DiagnosticArray> = bench.rig.sent("/diagnostics").cloned().collect();
    assert_eq!(all.len(), 4);
    let status = &all[3].status[0];
    assert_eq!((status.level, status.message.as_str()), (DiagnosticStatus::OK, "tracking"));
    assert_eq!(value(status, "measurements in the last second"), "100");
}

#[test]
fn a_stopping_estimator_goes_on_while_it_is_flown_on() {
    let mut bench = Bench::new(&[]);
    bench.fly(100);
    assert_eq!(bench.rig.shutdown(), Shutdown::Done, "nothing flies");
    let mut bench = Bench::new(&[]);
    bench.rig.message("authority", sw::Authority { state: sw::Authority::LAND, ..Default::default() });
    bench.fly(100);
    assert_eq!(bench.rig.shutdown(), Shutdown::Wait);
    assert!(bench.t() > 1.0);
    bench.rig.message("authority", sw::Authority { state: sw::Authority::DISARMED, ..Default::default() });
    assert_eq!(bench.rig.shutdown(), Shutdown::Done);
}
