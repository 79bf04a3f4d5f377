//! The node's parameters.

use spikewing_runtime::{Declaration, Parameters, Span, parameter::ParameterError};

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

/// Declares the parameters.
pub fn declare() -> Vec<Declaration> {
    let std = |name, default, unit, text| {
        Declaration::float(name, default).range(1e-6, 100.0).unit(unit).describe(text)
    };
    let density = |name, default, unit, text| {
        Declaration::float(name, default).range(0.0, 100.0).unit(unit).describe(text)
    };
    vec![
        Declaration::float("control_rate_hz", 100.0)
            .range(1.0, 2000.0)
            .unit("Hz")
            .describe("Rate at which `odometry` is carried on by prediction while no measurement comes."),
        Declaration::choice("output_stamp", "measurement", &["measurement", "latest"])
            .describe("Time of the published estimate: the measurement's, or the newest IMU sample's where that is later."),
        Declaration::choice("covariance_from", "message", &["message", "parameters"])
            .describe("Whether the covariance in `vehicle/odometry` is believed where it carries one."),
        std("odometry.position_std", 0.01, "m", "Position in `vehicle/odometry`, standard deviation."),
        std("odometry.orientation_std", 0.01, "rad", "Orientation in `vehicle/odometry`, standard deviation."),
        std("odometry.velocity_std", 0.05, "m/s", "Velocity in `vehicle/odometry`, standard deviation."),
        std("odometry.rates_std", 0.05, "rad/s", "Body rates in `vehicle/odometry`, standard deviation."),
        std("mocap.position_std", 0.002, "m", "Position in `mocap/pose`, standard deviation."),
        std("mocap.orientation_std", 0.01, "rad", "Orientation in `mocap/pose`, standard deviation."),
        density("imu.accel_noise", 0.05, "m/s²/√Hz", "Accelerometer noise density, vibration included."),
        density("imu.gyro_noise", 0.005, "rad/s/√Hz", "Gyroscope noise density, vibration included."),
        density("imu.accel_bias_walk", 0.005, "m/s²/√s", "Random walk of the accelerometer bias."),
        density("imu.gyro_bias_walk", 0.0005, "rad/s/√s", "Random walk of the gyroscope bias."),
        std("imu.accel_bias_std", 0.3, "m/s²", "Accelerometer bias at the start, standard deviation."),
        std("imu.gyro_bias_std", 0.05, "rad/s", "Gyroscope bias at the start, standard deviation."),
        std("imu.gyro_sample_std", 0.02, "rad/s", "One gyroscope sample, standard deviation: smooths the body rates."),
        Declaration::float("imu.timeout_s", 0.05)
            .range(0.001, 1.0)
            .unit("s")
            .describe("Time for which an IMU sample stands for its neighbourhood; beyond it the motion is assumed uniform."),
        density("coast.accel_noise", 1.0, "m/s²/√Hz", "Acceleration assumed of the vehicle while no IMU is heard."),
        density("coast.rate_noise", 0.1, "rad/s/√Hz", "Error assumed of the body rates while no IMU is heard."),
        Declaration::float("angular_acceleration_std", 30.0)
            .range(0.0, 10_000.0)
            .unit("rad/s²")
            .describe("How fast the vehicle changes its body rates; smaller smooths them more and makes them later."),
        Declaration::float("gate.chi_squared", 21.1)
            .range(1.0, 1e6)
            .describe("Squared Mahalanobis distance of a block of three beyond which it is not used (21.1: 1 in 10 000)."),
        Declaration::integer("gate.rejections_before_reset", 5)
            .range(1.0, 1e6)
            .describe("Rejected measurements in a row after which the filter starts over from the next."),
        Declaration::boolean("reset_on_jump", false)
            .describe("Start over at once when the measured position jumps by `jump_m`: for simulators that put the vehicle back."),
        Declaration::float("jump_m", 0.25)
            .range(0.001, 1e4)
            .unit("m")
            .describe("Distance from the expected position that counts as a jump."),
        Declaration::float("history_s", 0.5)
            .range(0.01, 5.0)
            .unit("s")
            .describe("How late a message may come and still be used where it belongs."),
        Declaration::float("max_dead_reckoning_s", 0.5)
            .range(0.0, 60.0)
            .unit("s")
            .describe("Time without a measurement after which `odometry` stops; the next measurement starts anew."),
    ]
}

impl Settings {
    /// From resolved parameters.
    pub fn from_parameters(p: &Parameters) -> Result<Self, ParameterError> {
        let noise = ProcessNoise {
            accel: p.float("imu.accel_noise")?,
            gyro: p.float("imu.gyro_noise")?,
            accel_bias: p.float("imu.accel_bias_walk")?,
            gyro_bias: p.float("imu.gyro_bias_walk")?,
            coast_accel: p.float("coast.accel_noise")?,
            coast_rate: p.float("coast.rate_noise")?,
            angular_acceleration: p.float("angular_acceleration_std")?,
            gyro_sample: p.float("imu.gyro_sample_std")?,
            imu_timeout_s: p.float("imu.timeout_s")?,
        };
        let odometry = Deviations {
            position: p.float("odometry.position_std")?,
            orientation: p.float("odometry.orientation_std")?,
            velocity: p.float("odometry.velocity_std")?,
            rates: p.float("odometry.rates_std")?,
        };
        Ok(Self {
            control_period: Span::from_rate_hz(p.float("control_rate_hz")?),
            odometry,
            mocap: Deviations {
                position: p.float("mocap.position_std")?,
                orientation: p.float("mocap.orientation_std")?,
                ..odometry
            },
            covariance_from: match p.text("covariance_from")? {
                "parameters" => CovarianceFrom::Parameters,
                _ => CovarianceFrom::Message,
            },
            filter: Options {
                noise,
                gate_squared: p.float("gate.chi_squared")?,
                rejections_before_reset: u32::try_from(p.count("gate.rejections_before_reset")?)
                    .unwrap_or(u32::MAX),
                jump_m: if p.boolean("reset_on_jump")? { Some(p.float("jump_m")?) } else { None },
                history: Span::from_seconds(p.float("history_s")?),
                max_dead_reckoning: Span::from_seconds(p.float("max_dead_reckoning_s")?),
                bias_deviations: [p.float("imu.accel_bias_std")?, p.float("imu.gyro_bias_std")?],
                start_velocity_deviation: 1.0,
            },
            output_stamp: match p.text("output_stamp")? {
                "latest" => OutputStamp::Latest,
                _ => OutputStamp::Measurement,
            },
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
