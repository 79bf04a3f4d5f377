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

/// What the odometry says of one time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The time.
    pub held: Time,
    /// What it says.
    pub seen: State,
    /// Jumps of the estimate up to then.
    pub resets: u8,
}

/// The sensors of one vehicle.
#[derive(Clone, Debug)]
pub struct Sensors {
    noise: SensorNoise,
    gyro_bias: Vector3<f64>,
    accelerometer_bias: Vector3<f64>,
    /// Odometry under way, with the time at which it arrives.
    delayed: VecDeque<(Time, Sample)>,
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

    /// Forgets what is on its way.
    pub fn clear(&mut self) {
        self.delayed.clear();
    }

    /// What the odometry says where this is the truth, white noise added.
    pub fn noisy(&self, truth: &State, rng: &mut Xoshiro256PlusPlus) -> State {
        let n = &self.noise;
        let mut seen = *truth;
        seen.position += normal(rng) * n.position_m;
        seen.orientation *= UnitQuaternion::from_scaled_axis(normal(rng) * n.attitude_rad);
        seen.velocity += normal(rng) * n.velocity_m_s;
        seen.body_rates += normal(rng) * n.body_rates_rad_s;
        seen
    }

    /// Sends odometry of now on its way, on which it waits for `wait` beyond the latency.
    pub fn send(&mut self, now: Time, sample: Sample, wait: Span) {
        let due = now + self.noise.latency + wait;
        // They do not overtake each other.
        let due = self.delayed.back().map_or(due, |(last, _)| due.max(*last));
        self.delayed.push_back((due, sample));
    }

    /// The next that has arrived.
    pub fn arrived(&mut self, now: Time) -> Option<Sample> {
        self.delayed.pop_front_if(|(due, _)| *due <= now).map(|(_, sample)| sample)
    }

    /// Variances of position, orientation and velocity, as the odometry states them.
    pub fn variances(&self) -> [Vector3<f64>; 3] {
        let n = &self.noise;
        [n.position_m, n.attitude_rad, n.velocity_m_s].map(|std| Vector3::from_element((std * std).max(1e-8)))
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
