//! The error-state Kalman filter's state: prediction with an IMU sample or without, and the update by one block.
//!
//! Nominal state: position p, velocity v (world), orientation q (body to world), accelerometer bias b_a, gyroscope bias
//! b_g. Error state δx = (δp, δv, δθ, δb_a, δb_g), 15 numbers, with q = q̂ ⊗ exp(δθ), so δθ is in body axes
//! (J. Solà, *Quaternion kinematics for the error-state Kalman filter*, 2017, chapters 5 and 6, local errors).
//!
//! Body rates ride along as a scalar-variance random walk of their own: they are what the gyroscope says less its bias,
//! smoothed only as far as its noise asks for.

use nalgebra::{Matrix3, SMatrix, UnitQuaternion, Vector3};
use spikewing_runtime::{Span, Time};

/// Errors in the filter's state.
pub const STATES: usize = 15;
/// Where the error of each quantity starts in the error state.
pub mod index {
    /// Position, world.
    pub const POSITION: usize = 0;
    /// Velocity, world.
    pub const VELOCITY: usize = 3;
    /// Orientation, body axes.
    pub const ORIENTATION: usize = 6;
    /// Accelerometer bias.
    pub const ACCEL_BIAS: usize = 9;
    /// Gyroscope bias.
    pub const GYRO_BIAS: usize = 12;
}
use index::{ACCEL_BIAS, GYRO_BIAS, ORIENTATION, POSITION, VELOCITY};

/// Covariance of the error state.
pub type Covariance = SMatrix<f64, STATES, STATES>;
/// How a block of three measured numbers depends on the error state.
pub type Jacobian = SMatrix<f64, 3, STATES>;

/// Standard gravity, m/s².
pub const GRAVITY: f64 = 9.81;
/// Variances stay at or below this, so that a long blind flight cannot overflow the arithmetic.
const LARGEST_VARIANCE: f64 = 1e8;

/// One sample of the inertial sensors, valid over the time before its stamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImuSample {
    /// When it was taken.
    pub stamp: Time,
    /// Specific force, body axes, m/s².
    pub acceleration: Vector3<f64>,
    /// Body rates, rad/s.
    pub rates: Vector3<f64>,
}

/// Strengths of the process noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessNoise {
    /// Accelerometer, m/s²/√Hz.
    pub accel: f64,
    /// Gyroscope, rad/s/√Hz.
    pub gyro: f64,
    /// Walk of the accelerometer bias, m/s²/√s.
    pub accel_bias: f64,
    /// Walk of the gyroscope bias, rad/s/√s.
    pub gyro_bias: f64,
    /// Acceleration that the vehicle may have while no IMU is heard, m/s²/√Hz.
    pub coast_accel: f64,
    /// Error of the body rates assumed constant while no IMU is heard, rad/s/√Hz.
    pub coast_rate: f64,
    /// Angular acceleration of the vehicle, rad/s²: how fast the body rates may change.
    pub angular_acceleration: f64,
    /// Standard deviation of one gyroscope sample, rad/s.
    pub gyro_sample: f64,
    /// Time for which an IMU sample stands for its neighbourhood, s.
    pub imu_timeout_s: f64,
}

/// What the filter believes at one time.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The time.
    pub stamp: Time,
    /// Position, world, m.
    pub position: Vector3<f64>,
    /// Velocity, world, m/s.
    pub velocity: Vector3<f64>,
    /// Orientation, body to world.
    pub orientation: UnitQuaternion<f64>,
    /// Accelerometer bias, m/s².
    pub accel_bias: Vector3<f64>,
    /// Gyroscope bias, rad/s.
    pub gyro_bias: Vector3<f64>,
    /// Covariance of the error state.
    pub covariance: Covariance,
    /// Body rates, rad/s.
    pub rates: Vector3<f64>,
    /// Variance of each body rate, (rad/s)².
    pub rate_variance: f64,
}

/// What became of one block of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It was used.
    Accepted,
    /// It was too far from what the filter expects, and was not used.
    Rejected,
}

impl Estimate {
    /// Moves on to a later time: with the IMU sample where it is close enough in time, else at constant velocity and
    /// constant body rates. An earlier time changes nothing.
    pub fn advance(&mut self, to: Time, imu: Option<&ImuSample>, noise: &ProcessNoise) {
        let Some(sample) = imu else {
            self.coast(to, noise);
            return;
        };
        let timeout = Span::from_seconds(noise.imu_timeout_s);
        let from = sample.stamp - timeout;
        let until = sample.stamp + timeout;
        if from > self.stamp {
            self.coast(from.min(to), noise);
        }
        self.integrate(to.min(until), sample, noise);
        self.coast(to, noise);
    }

    fn integrate(&mut self, to: Time, sample: &ImuSample, noise: &ProcessNoise) {
        let dt = (to - self.stamp).seconds();
        if dt <= 0.0 {
            return;
        }
        let rates = sample.rates - self.gyro_bias;
        let force = sample.acceleration - self.accel_bias;
        let turn = UnitQuaternion::from_scaled_axis(rates * dt);
        // The force acts, on average, in the orientation half way through.
        let halfway = self.orientation * UnitQuaternion::from_scaled_axis(rates * (0.5 * dt));
        let rotation = halfway.to_rotation_matrix().into_inner();
        let acceleration = rotation * force - Vector3::new(0.0, 0.0, GRAVITY);

        let mut f = Covariance::identity();
        let force_by_angle = -rotation * force.cross_matrix();
        set(&mut f, POSITION, VELOCITY, &(Matrix3::identity() * dt));
        set(&mut f, POSITION, ORIENTATION, &(force_by_angle * (0.5 * dt * dt)));
        set(&mut f, POSITION, ACCEL_BIAS, &(-rotation * (0.5 * dt * dt)));
        set(&mut f, VELOCITY, ORIENTATION, &(force_by_angle * dt));
        set(&mut f, VELOCITY, ACCEL_BIAS, &(-rotation * dt));
        set(&mut f, ORIENTATION, ORIENTATION, &turn.inverse().to_rotation_matrix().into_inner());
        set(&mut f, ORIENTATION, GYRO_BIAS, &(-Matrix3::identity() * dt));

        self.position += self.velocity * dt + acceleration * (0.5 * dt * dt);
        self.velocity += acceleration * dt;
        self.orientation = normalised(self.orientation * turn);
        self.covariance = f * self.covariance * f.transpose();
        self.add_motion_noise(noise.accel, noise.gyro, dt);
        for i in 0..3 {
            self.covariance[(ACCEL_BIAS + i, ACCEL_BIAS + i)] += noise.accel_bias.powi(2) * dt;
            self.covariance[(GYRO_BIAS + i, GYRO_BIAS + i)] += noise.gyro_bias.powi(2) * dt;
        }
        self.tidy();

        self.rate_variance += (noise.angular_acceleration * dt).powi(2);
        self.stamp = to;
    }

    fn coast(&mut self, to: Time, noise: &ProcessNoise) {
        let dt = (to - self.stamp).seconds();
        if dt <= 0.0 {
            return;
        }
        let turn = UnitQuaternion::from_scaled_axis(self.rates * dt);
        let mut f = Covariance::identity();
        set(&mut f, POSITION, VELOCITY, &(Matrix3::identity() * dt));
        set(&mut f, ORIENTATION, ORIENTATION, &turn.inverse().to_rotation_matrix().into_inner());
        self.position += self.velocity * dt;
        self.orientation = normalised(self.orientation * turn);
        self.covariance = f * self.covariance * f.transpose();
        self.add_motion_noise(noise.coast_accel, noise.coast_rate, dt);
        self.tidy();
        self.rate_variance =
            (self.rate_variance + (noise.angular_acceleration * dt).powi(2)).min(LARGEST_VARIANCE);
        self.stamp = to;
    }

    /// White acceleration and white body-rate noise of the given densities over `dt`.
    fn add_motion_noise(&mut self, accel: f64, rate: f64, dt: f64) {
        let accel = accel * accel;
        for i in 0..3 {
            let (p, v) = (POSITION + i, VELOCITY + i);
            self.covariance[(p, p)] += accel * dt.powi(3) / 3.0;
            self.covariance[(p, v)] += accel * dt * dt / 2.0;
            self.covariance[(v, p)] += accel * dt * dt / 2.0;
            self.covariance[(v, v)] += accel * dt;
            self.covariance[(ORIENTATION + i, ORIENTATION + i)] += rate * rate * dt;
        }
    }

    /// Uses measured body rates; the same variance on each axis.
    pub fn measure_rates(&mut self, rates: &Vector3<f64>, variance: f64) {
        let gain = self.rate_variance / (self.rate_variance + variance).max(1e-12);
        self.rates += (rates - self.rates) * gain;
        self.rate_variance *= 1.0 - gain;
    }

    /// Squared Mahalanobis distance of an innovation (chi-squared with three degrees of freedom when all is well).
    /// `None`: its covariance is not positive definite.
    pub fn distance(&self, innovation: &Vector3<f64>, h: &Jacobian, noise: &Matrix3<f64>) -> Option<f64> {
        let s = h * self.covariance * h.transpose() + noise;
        let distance = innovation.dot(&s.cholesky()?.solve(innovation));
        distance.is_finite().then_some(distance)
    }

    /// Uses one block of three measured numbers unless it lies beyond the gate.
    pub fn measure(
        &mut self,
        innovation: &Vector3<f64>,
        h: &Jacobian,
        noise: &Matrix3<f64>,
        gate_squared: f64,
    ) -> Gate {
        match self.distance(innovation, h, noise) {
            Some(distance) if distance <= gate_squared => self.fuse(innovation, h, noise),
            _ => Gate::Rejected,
        }
    }

    /// Uses one block of three measured numbers that has passed its gate.
    pub fn fuse(&mut self, innovation: &Vector3<f64>, h: &Jacobian, noise: &Matrix3<f64>) -> Gate {
        let ph = self.covariance * h.transpose();
        let Some(s_inverse) = (h * ph + noise).try_inverse() else { return Gate::Rejected };
        let gain = ph * s_inverse;
        let error = gain * innovation;
        // Joseph's form keeps the covariance symmetric and positive whatever the rounding of the gain.
        let keep = Covariance::identity() - gain * h;
        self.covariance = keep * self.covariance * keep.transpose() + gain * noise * gain.transpose();
        self.inject(&error);
        Gate::Accepted
    }

    /// Moves the error into the nominal state.
    fn inject(&mut self, error: &SMatrix<f64, STATES, 1>) {
        let part = |at: usize| error.fixed_view::<3, 1>(at, 0).into_owned();
        let angle = part(ORIENTATION);
        self.position += part(POSITION);
        self.velocity += part(VELOCITY);
        self.orientation = normalised(self.orientation * UnitQuaternion::from_scaled_axis(angle));
        self.accel_bias += part(ACCEL_BIAS);
        self.gyro_bias += part(GYRO_BIAS);
        // The error's axes turned with the orientation (Solà, equation 287).
        let mut g = Covariance::identity();
        set(&mut g, ORIENTATION, ORIENTATION, &(Matrix3::identity() - 0.5 * angle.cross_matrix()));
        self.covariance = g * self.covariance * g.transpose();
        self.tidy();
    }

    /// Restores exact symmetry and keeps variances within what can be computed with.
    fn tidy(&mut self) {
        self.covariance = (self.covariance + self.covariance.transpose()) * 0.5;
        let largest = self.covariance.diagonal().max();
        if largest > LARGEST_VARIANCE {
            // Scaling the rows and columns that are too large keeps the matrix positive.
            let scale = SMatrix::<f64, STATES, 1>::from_fn(|i, _| {
                let variance = self.covariance[(i, i)];
                if variance > LARGEST_VARIANCE { (LARGEST_VARIANCE / variance).sqrt() } else { 1.0 }
            });
            let scale = Covariance::from_diagonal(&scale);
            self.covariance = scale * self.covariance * scale;
        }
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.position.iter().all(|x| x.is_finite())
            && self.velocity.iter().all(|x| x.is_finite())
            && self.orientation.coords.iter().all(|x| x.is_finite())
            && self.accel_bias.iter().chain(self.gyro_bias.iter()).all(|x| x.is_finite())
            && self.covariance.iter().all(|x| x.is_finite())
            && self.rates.iter().all(|x| x.is_finite())
            && self.rate_variance.is_finite()
    }
}

fn set(matrix: &mut Covariance, row: usize, column: usize, block: &Matrix3<f64>) {
    matrix.fixed_view_mut::<3, 3>(row, column).copy_from(block);
}

fn normalised(q: UnitQuaternion<f64>) -> UnitQuaternion<f64> {
    UnitQuaternion::new_normalize(q.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn at_rest() -> Estimate {
        Estimate {
            stamp: Time::ZERO,
            position: Vector3::zeros(),
            velocity: Vector3::new(0.3, -0.2, 0.1),
            orientation: UnitQuaternion::from_euler_angles(0.2, -0.3, 0.5),
            accel_bias: Vector3::new(0.1, 0.0, -0.1),
            gyro_bias: Vector3::new(0.01, -0.02, 0.0),
            covariance: Covariance::identity() * 0.01,
            rates: Vector3::zeros(),
            rate_variance: 0.01,
        }
    }

    pub(crate) const QUIET: ProcessNoise = ProcessNoise {
        accel: 0.0,
        gyro: 0.0,
        accel_bias: 0.0,
        gyro_bias: 0.0,
        coast_accel: 0.0,
        coast_rate: 0.0,
        angular_acceleration: 0.0,
        gyro_sample: 0.01,
        imu_timeout_s: 0.05,
    };

    /// The error state of `b` seen from `a`.
    fn minus(b: &Estimate, a: &Estimate) -> SMatrix<f64, STATES, 1> {
        let mut error = SMatrix::<f64, STATES, 1>::zeros();
        let mut put = |at: usize, v: Vector3<f64>| error.fixed_view_mut::<3, 1>(at, 0).copy_from(&v);
        put(POSITION, b.position - a.position);
        put(VELOCITY, b.velocity - a.velocity);
        put(ORIENTATION, (a.orientation.inverse() * b.orientation).scaled_axis());
        put(ACCEL_BIAS, b.accel_bias - a.accel_bias);
        put(GYRO_BIAS, b.gyro_bias - a.gyro_bias);
        error
    }

    #[test]
    fn covariance_follows_the_numerical_jacobian_of_the_motion() {
        let sample = ImuSample {
            stamp: Time::from_nanoseconds(4_000_000),
            acceleration: Vector3::new(0.4, -0.3, 10.2),
            rates: Vector3::new(0.8, -1.1, 0.4),
        };
        let start = at_rest();
        let mut end = start.clone();
        end.advance(sample.stamp, Some(&sample), &QUIET);
        let h = 1e-5;
        let mut f = Covariance::zeros();
        for column in 0..STATES {
            let mut moved = start.clone();
            let mut error = SMatrix::<f64, STATES, 1>::zeros();
            error[column] = h;
            moved.inject(&error);
            moved.advance(sample.stamp, Some(&sample), &QUIET);
            f.set_column(column, &(minus(&moved, &end) / h));
        }
        let expected = f * start.covariance * f.transpose();
        let difference = (end.covariance - expected).abs().max();
        assert!(difference < 2e-6, "largest difference {difference:e}");
    }

    #[test]
    fn an_update_moves_the_state_towards_the_measurement_and_shrinks_its_variance() {
        let mut estimate = at_rest();
        let mut h = Jacobian::zeros();
        h.fixed_view_mut::<3, 3>(0, POSITION).copy_from(&Matrix3::identity());
        let innovation = Vector3::new(0.1, 0.0, 0.0);
        let gate = estimate.measure(&innovation, &h, &(Matrix3::identity() * 0.01), 16.0);
        assert_eq!(gate, Gate::Accepted);
        assert!((estimate.position.x - 0.05).abs() < 1e-12);
        assert!((estimate.covariance[(0, 0)] - 0.005).abs() < 1e-12);
        let far = Vector3::new(10.0, 0.0, 0.0);
        assert_eq!(estimate.measure(&far, &h, &(Matrix3::identity() * 0.01), 16.0), Gate::Rejected);
        assert!((estimate.position.x - 0.05).abs() < 1e-12);
    }

    #[test]
    fn coasting_keeps_velocity_and_widens_the_covariance() {
        let mut estimate = at_rest();
        estimate.velocity = Vector3::new(1.0, 0.0, 0.0);
        let noise = ProcessNoise { coast_accel: 1.0, coast_rate: 1.0, ..QUIET };
        estimate.advance(Time::from_nanoseconds(100_000_000), None, &noise);
        assert!((estimate.position.x - 0.1).abs() < 1e-12);
        assert!(estimate.covariance[(3, 3)] > 0.1);
        for _ in 0..100 {
            let to = estimate.stamp + Span::from_seconds(1e6);
            estimate.advance(to, None, &noise);
        }
        assert!(estimate.is_finite());
    }
}
