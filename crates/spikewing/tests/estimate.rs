//! The estimate is better than the measurements that it is made from, in flight through all nodes.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod common;

use std::sync::{Arc, Mutex};

use common::{ALL, NODES, options, run};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{AnyMessage, Message, nav_msgs::Odometry};
use spikewing_quad::State;
use spikewing_runtime::{
    Node, Outbox, Received, Time,
    local::Composition,
    node::{Request, Shutdown},
    parameter::Value,
    port::Interface,
};
use spikewing_simulator::Simulator;

/// The simulator, and the truth that it keeps to itself.
struct Told {
    inner: Simulator,
    truth: Arc<Mutex<Vec<(Time, State)>>>,
}

impl Node for Told {
    fn interface(&self) -> Interface {
        self.inner.interface()
    }
    fn on_message(&mut self, now: Time, message: &Received<'_>, out: &mut Outbox) {
        self.inner.on_message(now, message, out);
    }
    fn on_timer(&mut self, now: Time, timer: &'static str, out: &mut Outbox) {
        self.inner.on_timer(now, timer, out);
        self.truth.lock().unwrap().push((now, *self.inner.truth()));
    }
    fn on_request(&mut self, now: Time, request: &Request<'_>, out: &mut Outbox) -> Option<AnyMessage> {
        self.inner.on_request(now, request, out)
    }
    fn on_shutdown(&mut self, now: Time, out: &mut Outbox) -> Shutdown {
        self.inner.on_shutdown(now, out)
    }
}

/// Squared errors of position (m), orientation (rad), velocity (m/s).
fn errors(m: &Odometry, truth: &State) -> [f64; 3] {
    let (p, q, v) = (&m.pose.pose.position, &m.pose.pose.orientation, &m.twist.twist.linear);
    let orientation = UnitQuaternion::new_normalize(Quaternion::new(q.w, q.x, q.y, q.z));
    let velocity = orientation * Vector3::new(v.x, v.y, v.z);
    [
        (Vector3::new(p.x, p.y, p.z) - truth.position).norm_squared(),
        orientation.angle_to(&truth.orientation).powi(2),
        (velocity - truth.velocity).norm_squared(),
    ]
}

#[test]
fn the_estimate_beats_the_measurements() {
    let number = Value::Float;
    let settings = [
        ("simulator", "noise.position", number(0.05)),
        ("simulator", "noise.attitude", number(0.02)),
        ("simulator", "noise.velocity", number(0.1)),
        ("simulator", "noise.body_rates", number(0.2)),
        ("supervisor", "student_enabled", Value::Bool(false)),
    ];
    let truth = Arc::new(Mutex::new(Vec::new()));
    let mut composition = Composition::new();
    for kind in NODES.into_iter().filter(|kind| ALL[..6].contains(&kind.name)) {
        let options = options(kind, "hover.yaml", &settings);
        if kind.name == "simulator" {
            let told = Told { inner: Simulator::new(&options.context()).unwrap(), truth: Arc::clone(&truth) };
            composition.add_node(Box::new(told), &options).unwrap();
        } else {
            composition.add(kind, &options).unwrap();
        }
    }
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let notes = Arc::clone(&seen);
    composition.observe(move |_, topic, message| {
        let Some(m) = Odometry::peel(message) else { return };
        match topic {
            "/vehicle/odometry" => notes.lock().unwrap().0.push(m.clone()),
            "/odometry" => notes.lock().unwrap().1.push(m.clone()),
            _ => {}
        }
    });
    run(composition, 30.0);

    let truth = truth.lock().unwrap();
    let rms = |messages: &[Odometry]| {
        let (mut sums, mut n) = ([0.0; 3], 0.0);
        for m in messages {
            let stamp = Time::from(&m.header.stamp);
            // After take-off, when the filter has settled.
            let Some((_, state)) = truth.iter().find(|(at, _)| *at == stamp && at.seconds() > 10.0) else {
                continue;
            };
            for (sum, e) in sums.iter_mut().zip(errors(m, state)) {
                *sum += e;
            }
            n += 1.0;
        }
        assert!(n > 1500.0, "{n} samples");
        sums.map(|s| (s / n).sqrt())
    };
    let seen = seen.lock().unwrap();
    let (raw, estimate) = (rms(&seen.0), rms(&seen.1));
    for (i, what) in ["position, m", "orientation, rad", "velocity, m/s"].iter().enumerate() {
        println!("{what}: measured {:.4}, estimated {:.4} (RMS)", raw[i], estimate[i]);
        assert!(estimate[i] < 0.7 * raw[i], "{what}: {} against {}", estimate[i], raw[i]);
    }
}
