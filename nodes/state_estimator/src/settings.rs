//! The node's parameters.

use spikewing_runtime::{Parameter, Parameters, Span, parameter::ParameterError, parameters};

use crate::{
    estimate::ProcessNoise,
    filter::Options,
    measurement::{CovarianceFrom, Deviations},
};

/// At which time the estimate is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStamp {
    /// The measurement's.
    Measurement,
    /// The newest IMU sample's, where that is later.
    Latest,
}

/// The node's parameters, resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Rate at which the estimate is carried on while no measurement comes.
    pub control_period: Span,
    /// Of `vehicle/odometry`, where it carries no covariance.
    pub odometry: Deviations,
    /// Of `mocap/pose`.
    pub mocap: Deviations,
    /// Whether the messages' covariances are believed.
    pub covariance_from: CovarianceFrom,
    /// Of the filter.
    pub filter: Options,
    /// Stamp of the output.
    pub output_stamp: OutputStamp,
}

/// A standard deviation.
const fn deviation(
    name: &'static str,
    default: f64,
    unit: &'static str,
    about: &'static str,
) -> Parameter<f64> {
    Parameter::float(name, default).range(1e-6, 100.0).unit(unit).about(about)
}

/// The density of a noise.
const fn density(
    name: &'static str,
    default: f64,
    unit: &'static str,
    about: &'static str,
) -> Parameter<f64> {
    Parameter::float(name, default).range(0.0, 100.0).unit(unit).about(about)
}

parameters! {
    const CONTROL_RATE_HZ: Parameter<f64> = Parameter::float("control_rate_hz", 100.0)
        .range(1.0, 2000.0)
        .unit("Hz")
        .about("Rate at which `odometry` is carried on by prediction while no measurement comes.");
    const OUTPUT_STAMP: Parameter<OutputStamp> = Parameter::choice("output_stamp", "latest", &[("measurement", OutputStamp::Measurement), ("latest", OutputStamp::Latest)])
        .about("Time of the published estimate: the measurement's, or the newest IMU sample's where that is later.");
    const COVARIANCE_FROM: Parameter<CovarianceFrom> = Parameter::choice("covariance_from", "message", &[("message", CovarianceFrom::Message), ("parameters", CovarianceFrom::Parameters)])
        .about("Whether the covariance in `vehicle/odometry` is believed where it carries one; of errors that last from sample to sample only what is new counts.");
    const ODOMETRY_POSITION_STD: Parameter<f64> = deviation("odometry.position_std", 0.01, "m", "Position in `vehicle/odometry`, standard deviation.");
    const ODOMETRY_ORIENTATION_STD: Parameter<f64> = deviation("odometry.orientation_std", 0.01, "rad", "Orientation in `vehicle/odometry`, standard deviation.");
    const ODOMETRY_VELOCITY_STD: Parameter<f64> = deviation("odometry.velocity_std", 0.05, "m/s", "Velocity in `vehicle/odometry`, standard deviation.");
    const ODOMETRY_RATES_STD: Parameter<f64> = deviation("odometry.rates_std", 0.05, "rad/s", "Body rates in `vehicle/odometry`, standard deviation.");
    const MOCAP_POSITION_STD: Parameter<f64> = deviation("mocap.position_std", 0.002, "m", "Position in `mocap/pose`, standard deviation.");
    const MOCAP_ORIENTATION_STD: Parameter<f64> = deviation("mocap.orientation_std", 0.01, "rad", "Orientation in `mocap/pose`, standard deviation.");
    const IMU_ACCEL_NOISE: Parameter<f64> = density("imu.accel_noise", 0.05, "m/s²/√Hz", "Accelerometer noise density, vibration included.");
    const IMU_GYRO_NOISE: Parameter<f64> = density("imu.gyro_noise", 0.005, "rad/s/√Hz", "Gyroscope noise density, vibration included.");
    const IMU_ACCEL_BIAS_WALK: Parameter<f64> = density("imu.accel_bias_walk", 0.005, "m/s²/√s", "Random walk of the accelerometer bias.");
    const IMU_GYRO_BIAS_WALK: Parameter<f64> = density("imu.gyro_bias_walk", 0.0005, "rad/s/√s", "Random walk of the gyroscope bias.");
    const IMU_ACCEL_BIAS_STD: Parameter<f64> = deviation("imu.accel_bias_std", 0.3, "m/s²", "Accelerometer bias at the start, standard deviation.");
    const IMU_GYRO_BIAS_STD: Parameter<f64> = deviation("imu.gyro_bias_std", 0.05, "rad/s", "Gyroscope bias at the start, standard deviation.");
    const IMU_GYRO_SAMPLE_STD: Parameter<f64> = deviation("imu.gyro_sample_std", 0.02, "rad/s", "One gyroscope sample, standard deviation: smooths the body rates.");
    const IMU_TIMEOUT_S: Parameter<f64> = Parameter::float("imu.timeout_s", 0.05)
        .range(0.001, 1.0)
        .unit("s")
        .about("Time for which an IMU sample stands for its neighbourhood; beyond it the motion is assumed uniform.");
    const COAST_ACCEL_NOISE: Parameter<f64> = density("coast.accel_noise", 1.0, "m/s²/√Hz", "Acceleration assumed of the vehicle while no IMU is heard.");
    const COAST_RATE_NOISE: Parameter<f64> = density("coast.rate_noise", 0.1, "rad/s/√Hz", "Error assumed of the body rates while no IMU is heard.");
    const ANGULAR_ACCELERATION_STD: Parameter<f64> = Parameter::float("angular_acceleration_std", 30.0)
        .range(0.0, 10_000.0)
        .unit("rad/s²")
        .about("How fast the vehicle changes its body rates; smaller smooths them more and makes them later.");
    const GATE_CHI_SQUARED: Parameter<f64> = Parameter::float("gate.chi_squared", 21.1)
        .range(1.0, 1e6)
        .about("Squared Mahalanobis distance of a block of three beyond which it is not used (21.1: 1 in 10 000).");
    const GATE_REJECTIONS_BEFORE_RESET: Parameter<u32> = Parameter::whole("gate.rejections_before_reset", 5)
        .range(1.0, 1e6)
        .about("Rejected measurements in a row after which the filter starts over from the next.");
    const RESET_ON_JUMP: Parameter<bool> = Parameter::flag("reset_on_jump", false)
        .about("Start over at once when the measured position jumps by `jump_m`: for simulators that put the vehicle back.");
    const JUMP_M: Parameter<f64> = Parameter::float("jump_m", 0.25)
        .range(0.001, 1e4)
        .unit("m")
        .about("Distance from the expected position that counts as a jump.");
    const HISTORY_S: Parameter<f64> = Parameter::float("history_s", 0.5)
        .range(0.01, 5.0)
        .unit("s")
        .about("How late a message may come and still be used where it belongs.");
    const MAX_DEAD_RECKONING_S: Parameter<f64> = Parameter::float("max_dead_reckoning_s", 1.2)
        .range(0.0, 60.0)
        .unit("s")
        .about("Time without a measurement (or with frozen ones) after which `odometry` stops; the next measurement starts anew.");
}

impl Settings {
    /// From resolved parameters.
    pub fn from_parameters(p: &Parameters) -> Result<Self, ParameterError> {
        let noise = ProcessNoise {
            accel: p.get(&IMU_ACCEL_NOISE)?,
            gyro: p.get(&IMU_GYRO_NOISE)?,
            accel_bias: p.get(&IMU_ACCEL_BIAS_WALK)?,
            gyro_bias: p.get(&IMU_GYRO_BIAS_WALK)?,
            coast_accel: p.get(&COAST_ACCEL_NOISE)?,
            coast_rate: p.get(&COAST_RATE_NOISE)?,
            angular_acceleration: p.get(&ANGULAR_ACCELERATION_STD)?,
            gyro_sample: p.get(&IMU_GYRO_SAMPLE_STD)?,
            imu_timeout_s: p.get(&IMU_TIMEOUT_S)?,
        };
        let odometry = Deviations {
            position: p.get(&ODOMETRY_POSITION_STD)?,
            orientation: p.get(&ODOMETRY_ORIENTATION_STD)?,
            velocity: p.get(&ODOMETRY_VELOCITY_STD)?,
            rates: p.get(&ODOMETRY_RATES_STD)?,
        };
        Ok(Self {
            control_period: Span::from_rate_hz(p.get(&CONTROL_RATE_HZ)?),
            odometry,
            mocap: Deviations {
                position: p.get(&MOCAP_POSITION_STD)?,
                orientation: p.get(&MOCAP_ORIENTATION_STD)?,
                ..odometry
            },
            covariance_from: p.get(&COVARIANCE_FROM)?,
            filter: Options {
                noise,
                gate_squared: p.get(&GATE_CHI_SQUARED)?,
                rejections_before_reset: p.get(&GATE_REJECTIONS_BEFORE_RESET)?,
                jump_m: if p.get(&RESET_ON_JUMP)? { Some(p.get(&JUMP_M)?) } else { None },
                history: Span::from_seconds(p.get(&HISTORY_S)?),
                max_dead_reckoning: Span::from_seconds(p.get(&MAX_DEAD_RECKONING_S)?),
                bias_deviations: [p.get(&IMU_ACCEL_BIAS_STD)?, p.get(&IMU_GYRO_BIAS_STD)?],
                start_velocity_deviation: 1.0,
            },
            output_stamp: p.get(&OUTPUT_STAMP)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_resolve() {
        let settings = Settings::from_parameters(&Parameters::defaults(declare())).unwrap();
        assert_eq!(settings.filter.jump_m, None);
        assert_eq!(settings.control_period, Span::from_millis(10));
    }

    #[test]
    fn every_parameter_is_described() {
        for declaration in declare() {
            assert!(!declaration.description.is_empty(), "{}", declaration.name);
            assert_eq!(declaration.check(declaration.default.clone()).unwrap(), declaration.default);
        }
    }
}
