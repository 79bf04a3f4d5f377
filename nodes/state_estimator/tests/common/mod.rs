//! A flight of which everything is known, and sensors that tell of it, well or badly.

#![allow(dead_code, clippy::unwrap_used, reason = "shared by several tests")]

use nalgebra::{UnitQuaternion, Vector3};
use spikewing_runtime::Time;
use spikewing_state_estimator::estimate::{GRAVITY, ImuSample};

/// Normal random numbers from a seed.
pub struct Normal(u64);

impl Normal {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1)
    }

    fn uniform(&mut self) -> f64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn draw(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    pub fn vector(&mut self, std: f64) -> Vector3<f64> {
        Vector3::from_fn(|_, _| self.draw() * std)
    }
}

/// Wanders around a point; `size` scales position (m), `turning` the angles (rad).
#[derive(Clone, Copy)]
pub struct Path {
    pub size: f64,
    pub turning: f64,
    pub phase: f64,
}

impl Path {
    pub fn position(&self, t: f64) -> Vector3<f64> {
        let p = self.phase;
        Vector3::new((1.3 * t + p).sin(), (1.7 * t + 2.0 * p).sin(), 2.0 + 0.5 * (0.9 * t + p).sin())
            * self.size
    }

    pub fn velocity(&self, t: f64) -> Vector3<f64> {
        let h = 1e-5;
        (self.position(t + h) - self.position(t - h)) / (2.0 * h)
    }

    pub fn orientation(&self, t: f64) -> UnitQuaternion<f64> {
        let (a, p) = (self.turning, self.phase);
        UnitQuaternion::from_euler_angles(
            a * (4.0 * t + p).sin(),
            a * (3.3 * t + 1.0 + p).sin(),
            2.0 * a * (0.7 * t).sin() + p,
        )
    }

    pub fn rates(&self, t: f64) -> Vector3<f64> {
        let h = 1e-4;
        (self.orientation(t - h).inverse() * self.orientation(t + h)).scaled_axis() / (2.0 * h)
    }

    /// What perfect inertial sensors measure between two times, on average.
    pub fn imu(&self, from: f64, to: f64) -> ImuSample {
        let dt = to - from;
        let turn = (self.orientation(from).inverse() * self.orientation(to)).scaled_axis();
        let halfway = self.orientation(from) * UnitQuaternion::from_scaled_axis(turn * 0.5);
        let acceleration = (self.velocity(to) - self.velocity(from)) / dt + Vector3::new(0.0, 0.0, GRAVITY);
        ImuSample {
            stamp: Time::from_nanoseconds((to * 1e9).round() as i64),
            acceleration: halfway.inverse_transform_vector(&acceleration),
            rates: turn / dt,
        }
    }
}
