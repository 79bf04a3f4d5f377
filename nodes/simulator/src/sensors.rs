//! What the simulated sensors and PX4's estimator add to the truth: noise, bias, latency.

use std::collections::VecDeque;

use nalgebra::{UnitQuaternion, Vector3};
use rand::RngExt;
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::State;
use spikewing_runtime::{Span, Time};

/// Standard deviations of the sensors' noise, and the sensors' delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct SensorNoise {
    /// Position of the odometry, m.
    pub position_m: f64,
    /// Attitude of the odometry, rad about each axis.
    pub attitude_rad: f64,
    /// Velocity of the odometry, m/s.
    pub velocity_m_s: f64,
    /// Body rates of the odometry, rad/s.
    pub body_rates_rad_s: f64,
    /// Gyro, rad/s.
    pub gyro_rad_s: f64,
    /// Accelerometer, m/s².
    pub accelerometer_m_s2: f64,
    /// Constant bias of each gyro axis, drawn at start, rad/s.
    pub gyro_bias_rad_s: f64,
    /// Constant bias of each accelerometer axis, drawn at start, m/s².
    pub accelerometer_bias_m_s2: f64,
    /// Age of the odometry when it is published.
    pub latency: Span,
}

/// The sensors of one vehicle.
#[derive(Clone, Debug)]
pub struct Sensors {
    noise: SensorNoise,
    gyro_bias: Vector3<f64>,
    accelerometer_bias: Vector3<f64>,
    delayed: VecDeque<(Time, State)>,
}

/// Three independent standard normal numbers.
pub fn normal(rng: &mut Xoshiro256PlusPlus) -> Vector3<f64> {
    Vector3::from_fn(|_, _| rng.sample(StandardNormal))
}

impl Sensors {
    /// Draws the biases.
    pub fn new(noise: SensorNoise, rng: &mut Xoshiro256PlusPlus) -> Self {
        Self {
            noise,
            gyro_bias: normal(rng) * noise.gyro_bias_rad_s,
            accelerometer_bias: normal(rng) * noise.accelerometer_bias_m_s2,
            delayed: VecDeque::new(),
        }
    }

    /// The noise.
    pub fn noise(&self) -> &SensorNoise {
        &self.noise
    }

    /// Forgets what is on its way.
    pub fn clear(&mut self) {
        self.delayed.clear();
    }

    /// Takes the truth of now and returns the measurements that are due, with the time at which they held.
    pub fn odometry(
        &mut self,
        now: Time,
        truth: &State,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<(Time, State)> {
        let n = &self.noise;
        let mut seen = *truth;
        seen.position += normal(rng) * n.position_m;
        seen.orientation *= UnitQuaternion::from_scaled_axis(normal(rng) * n.attitude_rad);
        seen.velocity += normal(rng) * n.velocity_m_s;
        seen.body_rates += normal(rng) * n.body_rates_rad_s;
        self.delayed.push_back((now, seen));
        let due = self.delayed.front().is_some_and(|(at, _)| now - *at >= n.latency);
        if due { self.delayed.pop_front() } else { None }
    }

    /// Gyro (rad/s) and accelerometer (m/s²) in the body frame. `specific_force` is the truth, body frame.
    pub fn imu(
        &self,
        truth: &State,
        specific_force: &Vector3<f64>,
        rng: &mut Xoshiro256PlusPlus,
    ) -> (Vector3<f64>, Vector3<f64>) {
        let gyro = truth.body_rates + self.gyro_bias + normal(rng) * self.noise.gyro_rad_s;
        let force = specific_force + self.accelerometer_bias + normal(rng) * self.noise.accelerometer_m_s2;
        (gyro, force)
    }
}
