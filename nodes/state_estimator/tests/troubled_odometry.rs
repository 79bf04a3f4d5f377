//! What becomes of the estimate when odometry is another filter's output, late, frozen, drifting, gone, or on another clock.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use std::collections::VecDeque;

use common::{Normal, Path};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{
    diagnostic_msgs::{DiagnosticArray, DiagnosticStatus},
    geometry_msgs,
    nav_msgs::Odometry,
    sensor_msgs::Imu,
};
use spikewing_runtime::{Span, Time, parameter::Value, rig::Rig};
use spikewing_state_estimator::NODE;

/// Inertial samples each 4 ms.
const IMU: Span = Span::from_millis(4);
/// A hover that is not quite still.
const HOVER: Path = Path { size: 0.1, turning: 0.06, phase: 0.4 };

/// What the odometry gets wrong, of one kind: first order Gauss-Markov.
struct Lasting {
    error: Vector3<f64>,
    std: f64,
    time: f64,
}

impl Lasting {
    fn new(std: f64, time: f64) -> Self {
        Self { error: Vector3::zeros(), std, time }
    }

    fn step(&mut self, dt: f64, normal: &mut Normal) {
        let keep = (-dt / self.time).exp();
        self.error = self.error * keep + normal.vector(self.std * (1.0 - keep * keep).sqrt());
    }
}

struct Flight {
    rig: Rig,
    normal: Normal,
    /// Position errors' rate is their velocity error.
    position: Lasting,
    integrated: Vector3<f64>,
    ticks: u64,
    accel_offset: Vector3<f64>,
    /// Added to all stamps.
    clock: Span,
    waiting: VecDeque<Odometry>,
}

impl Flight {
    fn new(settings: &[(&str, Value)]) -> Self {
        Self {
            rig: Rig::build(&NODE, settings).unwrap(),
            normal: Normal::new(7),
            position: Lasting::new(0.03, 5.0),
            integrated: Vector3::zeros(),
            ticks: 0,
            accel_offset: Vector3::zeros(),
            clock: Span::ZERO,
            waiting: VecDeque::new(),
        }
    }

    /// What EKF2 says of now: errors that last, a variance that claims more than is new.
    fn measured(&mut self) -> Odometry {
        let t = self.rig.now().seconds();
        let mut m = Odometry::default();
        m.header.stamp = (self.rig.now() + self.clock).to_msg();
        let p = HOVER.position(t) + self.integrated;
        m.pose.pose.position = geometry_msgs::Point::new(p.x, p.y, p.z);
        let q = HOVER.orientation(t);
        m.pose.pose.orientation = geometry_msgs::Quaternion { x: q.i, y: q.j, z: q.k, w: q.w };
        let v = q.inverse() * (HOVER.velocity(t) + self.position.error);
        m.twist.twist.linear = geometry_msgs::Vector3::new(v.x, v.y, v.z);
        let r = HOVER.rates(t) + self.normal.vector(0.01);
        m.twist.twist.angular = geometry_msgs::Vector3::new(r.x, r.y, r.z);
        for (i, (p, v)) in [(0.02, 0.001), (0.02, 0.001), (0.02, 0.001)].into_iter().enumerate() {
            m.pose.covariance[7 * i] = p;
            m.pose.covariance[7 * (i + 3)] = 0.0004;
            m.twist.covariance[7 * i] = v;
            m.twist.covariance[7 * (i + 3)] = 0.0004;
        }
        m
    }

    /// One inertial sample; whether odometry is due (8, 8, 8, 16 ms).
    fn tick(&mut self) -> bool {
        self.rig.pass(IMU);
        self.ticks += 1;
        let t = self.rig.now().seconds();
        let sample = HOVER.imu(t - IMU.seconds(), t);
        self.position.step(IMU.seconds(), &mut self.normal);
        self.integrated += self.position.error * IMU.seconds();
        let mut m = Imu::default();
        m.header.stamp = (self.rig.now() + self.clock).to_msg();
        let a = sample.acceleration + self.accel_offset + self.normal.vector(0.05);
        let r = sample.rates + self.normal.vector(0.01);
        m.linear_acceleration = geometry_msgs::Vector3::new(a.x, a.y, a.z);
        m.angular_velocity = geometry_msgs::Vector3::new(r.x, r.y, r.z);
        self.rig.message("imu", m);
        self.ticks.is_multiple_of(2) && !(self.ticks / 2).is_multiple_of(5)
    }

    fn fly_with(&mut self, ms: i64, mut odometry: impl FnMut(&mut Self, Odometry)) {
        for _ in 0..ms / 4 {
            if self.tick() {
                let m = self.measured();
                odometry(self, m);
            }
        }
    }

    fn fly(&mut self, ms: i64) {
        self.fly_with(ms, |f, m| f.send(m));
    }

    fn send(&mut self, m: Odometry) {
        self.rig.message("vehicle/odometry", m);
    }

    fn last(&self) -> Odometry {
        self.rig.last::<Odometry>("odometry").unwrap().clone()
    }

    /// Age of the newest estimate, s, and its distance from the truth at its stamp: position (m) and velocity (m/s).
    fn errors(&self) -> [f64; 3] {
        let m = self.last();
        let t = (Time::from(&m.header.stamp) - self.clock).seconds();
        let (p, q, v) = (&m.pose.pose.position, &m.pose.pose.orientation, &m.twist.twist.linear);
        let q = UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z));
        let p = Vector3::from(p.to_array()) - self.integrated - HOVER.position(t);
        [self.rig.now().seconds() - t, p.norm(), (q * Vector3::from(v.to_array()) - HOVER.velocity(t)).norm()]
    }

    /// Published standard deviations of position (m) and velocity (m/s), the largest axis.
    fn deviations(&self) -> [f64; 2] {
        let m = self.last();
        let std = |c: &[f64; 36]| (0..3).map(|i| c[7 * i]).fold(0.0, f64::max).sqrt();
        [std(&m.pose.covariance), std(&m.twist.covariance)]
    }

    fn status(&mut self) -> DiagnosticStatus {
        self.fly(1004);
        self.rig.last::<DiagnosticArray>("/diagnostics").unwrap().status[0].clone()
    }
}

fn value(status: &DiagnosticStatus, key: &str) -> f64 {
    status.values.iter().find(|v| v.key == key).unwrap().value.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_filters_output_is_not_filtered_again() {
    let mut flight = Flight::new(&[]);
    flight.fly(4000);
    let before = flight.status();
    let mut worst = [0.0_f64; 2];
    for _ in 0..100 {
        flight.fly(200);
        let [_, position, velocity] = flight.errors();
        worst = [worst[0].max(position), worst[1].max(velocity)];
        // What the samples have in common is told, and no doubt beside it.
        let [p, v] = flight.deviations();
        assert!((0.13..0.3).contains(&p) && (0.02..0.2).contains(&v), "{p} m, {v} m/s");
    }
    assert!(worst[0] < 0.02, "{} m beside what it was told", worst[0]);
    assert!(worst[1] < 0.15, "{} m/s", worst[1]);
    let after = flight.status();
    for key in ["gated positions", "gated orientations", "gated velocities"] {
        assert_eq!(value(&before, key), value(&after, key), "{key}");
    }
    assert!(value(&after, "white share of position, orientation, velocity") < 0.1);
    assert_eq!((after.level, after.message.as_str()), (DiagnosticStatus::OK, "tracking"));
}

#[test]
fn a_second_without_odometry_is_carried_by_the_imu_at_control_rate() {
    let mut flight = Flight::new(&[]);
    flight.fly(4000);
    flight.rig.forget();
    flight.fly_with(1000, |_, _| ());
    let stamps: Vec<Time> =
        flight.rig.sent::<Odometry>("odometry").map(|m| Time::from(&m.header.stamp)).collect();
    assert!(stamps.len() >= 95, "{}", stamps.len());
    let widest = stamps.windows(2).map(|w| (w[1] - w[0]).seconds()).fold(0.0, f64::max);
    assert!(widest < 0.035, "{widest} s");
    let [age, position, velocity] = flight.errors();
    assert!(age < 0.02 && position < 0.15 && velocity < 0.25, "{age} s, {position} m, {velocity} m/s");
    let [p, v] = flight.deviations();
    assert!(p < 0.5 && v < 0.7 && v > 0.05, "{p} m, {v} m/s: it can be flown on");
    flight.fly(500);
    let [_, position, velocity] = flight.errors();
    assert!(position < 0.03 && velocity < 0.15, "{position} m, {velocity} m/s");
}

#[test]
fn frozen_odometry_with_advancing_stamps_is_not_used() {
    let mut flight = Flight::new(&[]);
    flight.fly(4000);
    let frozen = flight.measured();
    let freeze = |f: &mut Flight, m: Odometry| {
        let mut still = frozen.clone();
        still.header.stamp = m.header.stamp;
        f.send(still);
    };
    flight.fly_with(1000, freeze);
    let [age, position, _] = flight.errors();
    assert!(age < 0.02 && position < 0.15, "{age} s, {position} m");
    // Then it is silent, until there is something new.
    flight.fly_with(1000, freeze);
    flight.rig.forget();
    flight.fly_with(1000, freeze);
    assert_eq!(flight.rig.sent::<Odometry>("odometry").count(), 0);
    flight.fly(200);
    assert!(flight.errors()[1] < 0.03);
    assert!(value(&flight.status(), "frozen") > 100.0);
}

#[test]
fn odometry_that_is_late_and_stamped_anew_is_put_where_it_belongs() {
    let mut flight = Flight::new(&[]);
    flight.fly(4000);
    let late = |f: &mut Flight, m: Odometry| {
        f.waiting.push_back(m.clone());
        if f.waiting.len() > 10 {
            let mut old = f.waiting.pop_front().unwrap();
            old.header.stamp = m.header.stamp;
            f.send(old);
        }
    };
    flight.fly_with(3000, late);
    let mut worst = [0.0_f64; 3];
    for _ in 0..20 {
        flight.fly_with(100, late);
        for (w, e) in worst.iter_mut().zip(flight.errors()) {
            *w = w.max(e);
        }
    }
    assert!(worst[0] < 0.02 && worst[1] < 0.04 && worst[2] < 0.15, "{worst:?}");
    let status = flight.rig.last::<DiagnosticArray>("/diagnostics").unwrap().status[0].clone();
    assert_eq!(status.level, DiagnosticStatus::WARN, "{}", status.message);
    let lag = value(&status, "odometry later than stamped [s]");
    assert!((lag - 0.1).abs() < 0.021, "{lag} s");
    // And prompt again.
    flight.waiting.clear();
    flight.fly(3000);
    let status = flight.status();
    assert!(value(&status, "odometry later than stamped [s]") < 1e-9);
}

#[test]
fn odometry_that_is_late_with_true_stamps_is_predicted_to_now() {
    let mut flight = Flight::new(&[]);
    flight.fly(4000);
    flight.fly_with(3000, |f, m| {
        f.waiting.push_back(m);
        if f.waiting.len() > 20 {
            let old = f.waiting.pop_front().unwrap();
            f.send(old);
        }
    });
    let [age, position, velocity] = flight.errors();
    assert!(age < 0.02 && position < 0.04 && velocity < 0.15, "{age} s, {position} m, {velocity} m/s");
}

/// Published standard deviation of the position after each of two times of drifting at 0.5 m/s, m. The odometry claims `velocity_std`.
fn doubt_while_drifting(velocity_std: f64, first_ms: i64, then_ms: i64) -> [f64; 2] {
    let mut flight = Flight::new(&[]);
    let claim = move |m: &mut Odometry| {
        for i in 0..3 {
            m.twist.covariance[7 * i] = velocity_std * velocity_std;
        }
    };
    flight.fly_with(10_000, |f, mut m| {
        claim(&mut m);
        f.send(m);
    });
    let mut offset = 0.0;
    let mut drift = |f: &mut Flight, mut m: Odometry| {
        claim(&mut m);
        offset += 0.005;
        m.pose.pose.position.x += offset;
        f.send(m);
    };
    flight.fly_with(first_ms, &mut drift);
    let first = flight.deviations()[0];
    flight.fly_with(then_ms, &mut drift);
    [first, flight.deviations()[0]]
}

#[test]
fn a_position_that_drifts_against_its_own_velocity_is_doubted_ever_more() {
    // The better it claims to know its velocity, the sooner.
    let [doubtful, lost] = doubt_while_drifting(0.005, 2500, 2500);
    assert!(doubtful > 0.5 && lost > 1.5, "{doubtful} m, {lost} m");
    let [doubtful, lost] = doubt_while_drifting(0.03, 5000, 4000);
    assert!(doubtful > 0.5 && lost > 1.5, "{doubtful} m, {lost} m");
    // As EKF2 on GNSS claims and does in sound flights.
    let [doubtful, _] = doubt_while_drifting(0.1, 4000, 0);
    assert!(doubtful < 0.5, "{doubtful} m");
}

#[test]
fn an_accelerometer_that_contradicts_the_odometry_is_found() {
    let mut flight = Flight::new(&[]);
    flight.fly(10_000);
    assert!(flight.deviations()[1] < 0.2);
    flight.accel_offset = Vector3::new(3.0, 0.0, 0.0);
    flight.fly(1000);
    let [_, velocity] = flight.deviations();
    assert!(velocity > 1.5, "{velocity} m/s");
    assert_eq!(flight.status().level, DiagnosticStatus::ERROR);
}

#[test]
fn a_clock_that_is_set_back_costs_no_more_than_two_periods() {
    for back in [40, 45, 100, 300, 700, 950] {
        let mut flight = Flight::new(&[]);
        flight.fly(4000);
        flight.clock = Span::from_millis(-back);
        flight.rig.forget();
        flight.fly(40);
        let first = flight
            .rig
            .sent_at::<Odometry>("odometry")
            .find(|(at, m)| (*at + flight.clock - Time::from(&m.header.stamp)).seconds().abs() < 0.03)
            .map(|(at, _)| (flight.rig.now() - at).seconds());
        assert!(first.is_some_and(|ago| ago >= 0.02), "{back} ms: {first:?}");
        flight.fly(200);
        let [age, position, velocity] = flight.errors();
        assert!(age < 0.02 && position < 0.05 && velocity < 0.15, "{back} ms: {age} {position} {velocity}");
        assert!(value(&flight.status(), "clocks set") >= 1.0, "and it says so");
    }
}

#[test]
fn a_stamp_from_the_future_is_refused() {
    for ahead in [60, 300, 900, 5000] {
        let mut flight = Flight::new(&[]);
        flight.fly(2000);
        let mut m = flight.measured();
        m.header.stamp = (flight.rig.now() + Span::from_millis(ahead)).to_msg();
        flight.send(m);
        flight.fly(100);
        let [age, position, _] = flight.errors();
        assert!((0.0..0.02).contains(&age) && position < 0.05, "{ahead} ms: {age} s, {position} m");
        assert!((value(&flight.status(), "stamps refused") - 1.0).abs() < 0.1);
    }
}

#[test]
fn an_estimator_started_in_flight_is_of_use_within_0_3_s() {
    let mut flight = Flight::new(&[]);
    for _ in 0..300 {
        flight.tick();
    }
    flight.rig.forget();
    flight.fly(300);
    let [age, position, velocity] = flight.errors();
    assert!(age < 0.02 && position < 0.05 && velocity < 0.2, "{age} s, {position} m, {velocity} m/s");
    assert!(flight.rig.sent::<Odometry>("odometry").count() > 25);
}
