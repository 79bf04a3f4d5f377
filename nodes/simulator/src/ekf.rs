//! Errors as EKF2's: correlated over seconds, drifting, larger on the ground. With their own random numbers, so that a run
//! without them is the same run.

use nalgebra::{UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_quad::State;
use spikewing_runtime::Span;

use crate::sensors::normal;

/// The height's error changes this much slower than the others (barometer, thermals), and the heading's.
const SLOW: f64 = 12.0;
/// Correlation time of the velocity on the ground, where vibration and the ground's push disturb it, s.
const GROUND_CORRELATION_S: f64 = 0.4;
/// Mean of the time that a message waits on its way beyond the fixed age, and the most, s.
const WAIT: [f64; 2] = [0.002, 0.016];

/// How wrong the estimate is: standard deviations and correlation times.
#[derive(Clone, Copy, Debug)]
pub struct EkfErrors {
    /// Horizontal position, m.
    pub position_m: f64,
    /// Height, m.
    pub height_m: f64,
    /// Velocity beyond what goes with the position's error, m/s.
    pub velocity_m_s: f64,
    /// Heading; a third of it for roll and pitch, rad.
    pub attitude_rad: f64,
    /// Velocity while standing with turning motors, m/s each axis.
    pub ground_velocity_m_s: f64,
    /// How long an error lasts, s.
    pub correlation_s: f64,
    /// Mean time between resets of the estimate, s; not above 0: none.
    pub resets_every_s: f64,
}

/// Error of one number and its rate: a second-order Gauss-Markov process, ë + 2ωė + ω²e = w, whose rate is the velocity
/// error that belongs to a position error.
#[derive(Clone, Copy, Debug, Default)]
struct Smooth {
    error: f64,
    rate: f64,
}

impl Smooth {
    fn step(&mut self, std: f64, correlation_s: f64, dt_s: f64, w: f64) {
        let omega = 1.0 / correlation_s;
        // Stationary variance q/(4ω³).
        let q = 4.0 * omega.powi(3) * std * std;
        self.rate += (-2.0 * omega * self.rate - omega * omega * self.error) * dt_s + (q * dt_s).sqrt() * w;
        self.error += self.rate * dt_s;
    }
}

/// First-order Gauss-Markov process.
fn decay(error: &mut Vector3<f64>, std: f64, correlation_s: f64, dt_s: f64, w: &Vector3<f64>) {
    let keep = (-dt_s / correlation_s).exp();
    *error = *error * keep + w * (std * (1.0 - keep * keep).sqrt());
}

/// The estimate's errors over time.
#[derive(Clone, Debug)]
pub struct Ekf {
    errors: EkfErrors,
    rng: Xoshiro256PlusPlus,
    position: [Smooth; 3],
    velocity: Vector3<f64>,
    attitude: Vector3<f64>,
}

impl Ekf {
    /// Without an error at the start: that is where the estimate's origin lies.
    pub fn new(errors: EkfErrors, seed: u64) -> Self {
        Self {
            errors,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(17) ^ 0x0ec0_f2ed),
            position: [Smooth::default(); 3],
            velocity: Vector3::zeros(),
            attitude: Vector3::zeros(),
        }
    }

    /// `dt_s` passes. Returns whether the estimate was reset: it jumps, and its reset counter goes on.
    pub fn update(&mut self, dt_s: f64, shaken_on_ground: bool) -> bool {
        let e = self.errors;
        let (w, v, a) = (normal(&mut self.rng), normal(&mut self.rng), normal(&mut self.rng));
        for (i, axis) in self.position.iter_mut().enumerate() {
            let (std, time) = match i {
                2 => (e.height_m, e.correlation_s * SLOW),
                _ => (e.position_m, e.correlation_s),
            };
            axis.step(std, time, dt_s, w[i]);
        }
        let (std, time) = if shaken_on_ground {
            (e.ground_velocity_m_s, GROUND_CORRELATION_S)
        } else {
            (e.velocity_m_s, e.correlation_s / 5.0)
        };
        decay(&mut self.velocity, std, time, dt_s, &v);
        decay(&mut self.attitude, e.attitude_rad, e.correlation_s * SLOW / 2.0, dt_s, &a);
        let resets = e.resets_every_s > 0.0 && self.rng.random_range(0.0..1.0) < dt_s / e.resets_every_s;
        if resets {
            for (i, axis) in self.position.iter_mut().enumerate() {
                let std = if i == 2 { e.height_m } else { e.position_m };
                axis.error = std * self.rng.sample::<f64, _>(StandardNormal);
            }
        }
        resets
    }

    /// What the estimate says where this is the truth.
    pub fn seen(&self, truth: &State) -> State {
        let [x, y, z] = self.position;
        let mut seen = *truth;
        seen.position += Vector3::new(x.error, y.error, z.error);
        seen.velocity += Vector3::new(x.rate, y.rate, z.rate) + self.velocity;
        let [roll, pitch, yaw] = self.attitude.into();
        seen.orientation =
            UnitQuaternion::from_scaled_axis(Vector3::new(roll / 3.0, pitch / 3.0, yaw)) * truth.orientation;
        seen
    }

    /// How long the next message waits on its way.
    pub fn wait(&mut self) -> Span {
        let [mean, most] = WAIT;
        let u: f64 = self.rng.random_range(f64::EPSILON..1.0);
        Span::from_seconds((-mean * u.ln()).min(most))
    }

    /// Variances as the estimate itself believes them: position (m²), orientation (rad²), velocity (m²/s²), world axes.
    pub fn variances(&self) -> [Vector3<f64>; 3] {
        let e = &self.errors;
        let tilt = e.attitude_rad / 3.0;
        [
            Vector3::new(e.position_m, e.position_m, e.height_m),
            Vector3::new(tilt, tilt, e.attitude_rad),
            Vector3::from_element(e.velocity_m_s),
        ]
        .map(|std| std.map(|s| (s * s).max(1e-8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: EkfErrors = EkfErrors {
        position_m: 0.12,
        height_m: 0.4,
        velocity_m_s: 0.03,
        attitude_rad: 0.02,
        ground_velocity_m_s: 0.1,
        correlation_s: 5.0,
        resets_every_s: 0.0,
    };

    fn truth() -> State {
        State::rest(&spikewing_quad::Vehicle::find("crazyflie").unwrap(), Vector3::zeros())
    }

    #[test]
    fn errors_have_their_size_and_last_for_seconds() {
        let mut ekf = Ekf::new(ERRORS, 3);
        let truth = truth();
        let xs: Vec<f64> = (0..50 * 600)
            .map(|_| {
                ekf.update(0.02, false);
                ekf.seen(&truth).position.x
            })
            .collect();
        let square = |lag: usize| -> f64 {
            xs.windows(lag + 1).map(|w| w[0] * w[lag]).sum::<f64>() / (xs.len() - lag) as f64
        };
        let std = square(0).sqrt();
        assert!((0.08..0.16).contains(&std), "{std}");
        assert!(square(50) / square(0) > 0.9, "after a second it is still nearly the same error");
        assert!(square(50 * 30) / square(0) < 0.3, "after half a minute another one");
    }

    #[test]
    fn the_velocity_that_is_seen_fits_the_position_that_is_seen() {
        let mut ekf = Ekf::new(EkfErrors { velocity_m_s: 0.0, ..ERRORS }, 5);
        let truth = truth();
        let mut integrated = Vector3::zeros();
        for _ in 0..1000 {
            ekf.update(0.004, false);
            integrated += ekf.seen(&truth).velocity * 0.004;
        }
        assert!((integrated - ekf.seen(&truth).position).norm() < 1e-9);
    }

    #[test]
    fn height_drifts_by_up_to_about_a_metre_over_a_flight() {
        let worst: Vec<f64> = (0..20)
            .map(|seed| {
                let mut ekf = Ekf::new(ERRORS, seed);
                (0..3000)
                    .map(|_| {
                        ekf.update(0.1, false);
                        ekf.position[2].error.abs()
                    })
                    .fold(0.0, f64::max)
            })
            .collect();
        let mean = worst.iter().sum::<f64>() / 20.0;
        assert!((0.3..1.3).contains(&mean), "{worst:?}");
    }
}
