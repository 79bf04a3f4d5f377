//! The simulator's parameters.

use nalgebra::Vector3;
use spikewing_px4_bridge::px4::{RELEASES, Release};
use spikewing_quad::{
    Randomisation, Vehicle,
    simulation::{RotorDistribution, StartDistribution},
};
use spikewing_runtime::{Declaration, Parameters, Span, node::BuildError};

use crate::{
    autopilot::{LOSS_ACTIONS, LossAction},
    sensors::SensorNoise,
};

/// Parameters as the simulator uses them.
pub struct Settings {
    pub vehicle: Vehicle,
    pub release: Release,
    pub seed: u64,
    pub physics_rate_hz: f64,
    pub real_time_factor: f64,
    pub tick: Span,
    pub odometry_every: u64,
    pub start: Vector3<f64>,
    pub noise: SensorNoise,
    pub force_std_n: f64,
    pub torque_std_n_m: f64,
    pub randomisation: Randomisation,
    /// Vehicles that a reset may draw instead of `vehicle`.
    pub others: Vec<Vehicle>,
    pub reset: StartDistribution,
    pub loss_timeout: Span,
    pub loss_action: LossAction,
    pub disarm_landed: Span,
    pub disarm_preflight: Span,
}

/// The declared parameters.
pub fn declare() -> Vec<Declaration> {
    let noise = |name, default: f64, unit, text| {
        Declaration::float(name, default).range(0.0, 10.0).unit(unit).describe(text)
    };
    let share = |name, text| Declaration::float(name, 0.0).range(0.0, 0.9).describe(text);
    vec![
        Declaration::text("vehicle", "crazyflie")
            .describe("Airframe: a built-in one (crazyflie, x500, l2f0, ltf, l2f2) or the path of a vehicle file."),
        Declaration::choice("px4_version", "1.16", RELEASES)
            .describe("PX4 release whose message layouts and topic names are used."),
        Declaration::integer("seed", 1).range(0.0, 1e15).describe("Seed of noise, disturbances and resets."),
        Declaration::float("real_time_factor", 1.0)
            .range(0.01, 100.0)
            .describe("Simulated seconds per second of the node's clock. Composed runs are as fast as they can be anyway."),
        Declaration::float("physics_rate_hz", 400.0)
            .range(100.0, 10_000.0)
            .unit("Hz")
            .describe("Integration steps per second."),
        Declaration::float("imu_rate_hz", 200.0)
            .range(50.0, 2000.0)
            .unit("Hz")
            .describe("Rate of gyro and accelerometer, and of /clock."),
        Declaration::float("odometry_rate_hz", 100.0)
            .range(10.0, 2000.0)
            .unit("Hz")
            .describe("Rate of the odometry, the control rate; the IMU rate is a multiple of it."),
        Declaration::floats("start_position", &[0.0, 0.0, 0.0])
            .range(-1000.0, 1000.0)
            .unit("m")
            .describe("Where the vehicle stands at start; the ground is at z = 0."),
        noise("noise.position", 0.002, "m", "Standard deviation of the odometry's position."),
        noise("noise.attitude", 0.002, "rad", "Standard deviation of the odometry's attitude, about each axis."),
        noise("noise.velocity", 0.01, "m/s", "Standard deviation of the odometry's velocity."),
        noise("noise.body_rates", 0.02, "rad/s", "Standard deviation of the odometry's body rates."),
        noise("noise.gyro", 0.01, "rad/s", "Standard deviation of the gyro."),
        noise("noise.accelerometer", 0.05, "m/s²", "Standard deviation of the accelerometer."),
        noise("noise.gyro_bias", 0.01, "rad/s", "Standard deviation of the gyro's constant bias."),
        noise("noise.accelerometer_bias", 0.05, "m/s²", "Standard deviation of the accelerometer's constant bias."),
        Declaration::float("latency_s", 0.0)
            .range(0.0, 1.0)
            .unit("s")
            .describe("Age of the odometry when it is published."),
        noise("disturbance.force", 0.0, "N", "Standard deviation of a force that is constant between resets, world axes."),
        noise("disturbance.torque", 0.0, "N m", "Standard deviation of a torque that is constant between resets, body axes."),
        Declaration::texts("randomisation.vehicles", &[]).describe(
            "Further airframes (names or files): every reset flies one of these or `vehicle`, each as likely, with the disturbances of its file where those are larger than the parameters here.",
        ),
        share("randomisation.mass", "Every reset draws the mass within this share of the vehicle's: 0.1 is ± 10 %."),
        share("randomisation.inertia", "The same for the inertia, each axis by itself."),
        share("randomisation.thrust", "The same for the thrust at any rotor state."),
        share("randomisation.torque_constant", "The same for the rotors' reaction torque per thrust."),
        share("randomisation.motor_time_constant", "The same for the motors' lag."),
        share("randomisation.drag", "The same for the vehicle's drag."),
        noise("randomisation.drag_linear_max", 0.0, "N/(m/s)", "Every reset adds linear drag from 0 to this, each body axis by itself."),
        Declaration::float("randomisation.centre_of_mass", 0.0)
            .range(0.0, 1.0)
            .unit("m")
            .describe("Every reset shifts the centre of mass within ± this along body x and y."),
        Declaration::float("randomisation.action_latency", 0.0)
            .range(0.0, 1.0)
            .unit("s")
            .describe("Every reset draws the time from a motor setpoint to the motors, from 0 to this."),
        noise("reset.position", 0.0, "m", "Half width of the cube around the asked pose in which a reset puts the vehicle."),
        Declaration::float("reset.angle", 0.0)
            .range(0.0, 3.0)
            .unit("rad")
            .describe("Largest rotation away from the asked pose at a reset; the angle is uniform."),
        noise("reset.velocity", 0.0, "m/s", "Half width of the velocity's range at a reset."),
        noise("reset.body_rates", 0.0, "rad/s", "Half width of the body rates' range at a reset."),
        Declaration::choice("reset.rotors", "hover", &["hover", "uniform"])
            .describe("Rotors at a reset: all at hover, or each anywhere in its range."),
        Declaration::float("com_of_loss_t", 1.0)
            .range(0.1, 60.0)
            .unit("s")
            .describe("PX4's COM_OF_LOSS_T: the failsafe acts so long after the last heartbeat."),
        Declaration::choice("com_obl_rc_act", "land", LOSS_ACTIONS)
            .describe("PX4's COM_OBL_RC_ACT: what the failsafe does when the heartbeat has stopped."),
        Declaration::float("com_disarm_land", 2.0)
            .range(-1.0, 60.0)
            .unit("s")
            .describe("PX4's COM_DISARM_LAND: disarms so long after landing; not above 0: never."),
        Declaration::float("com_disarm_prflt", 10.0)
            .range(-1.0, 60.0)
            .unit("s")
            .describe("PX4's COM_DISARM_PRFLT: disarms when no take-off follows arming within this; not above 0: never."),
    ]
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let (imu, odometry) = (p.float("imu_rate_hz")?, p.float("odometry_rate_hz")?);
        let every = (imu / odometry).round();
        if every < 1.0 || (every * odometry - imu).abs() > 1e-6 * imu {
            let text = format!("imu_rate_hz = {imu} must be a multiple of odometry_rate_hz = {odometry}");
            return Err(text.into());
        }
        let real_time_factor = p.float("real_time_factor")?;
        let rotors = match p.text("reset.rotors")? {
            "uniform" => RotorDistribution::FullRange,
            _ => RotorDistribution::Hover,
        };
        let vehicle = Vehicle::find(p.text("vehicle")?)?;
        let randomisation = Randomisation {
            mass: p.float("randomisation.mass")?,
            inertia: p.float("randomisation.inertia")?,
            thrust: p.float("randomisation.thrust")?,
            torque_constant: p.float("randomisation.torque_constant")?,
            motor_time_constant: p.float("randomisation.motor_time_constant")?,
            drag: p.float("randomisation.drag")?,
            drag_linear_max: p.float("randomisation.drag_linear_max")?,
            centre_of_mass_m: p.float("randomisation.centre_of_mass")?,
            action_latency_s: p.float("randomisation.action_latency")?,
        };
        let others = p.texts("randomisation.vehicles")?;
        let others: Vec<Vehicle> = others.iter().map(|name| Vehicle::find(name)).collect::<Result<_, _>>()?;
        for vehicle in [&vehicle].into_iter().chain(&others) {
            randomisation.check(vehicle).map_err(|e| format!("{}: {e}", vehicle.name))?;
        }
        Ok(Self {
            vehicle,
            release: Release::from_name(p.text("px4_version")?),
            seed: p.count("seed")? as u64,
            physics_rate_hz: p.float("physics_rate_hz")?,
            real_time_factor,
            // The node's clock is the wall clock or simulated time; sensors keep their rate in the vehicle's time.
            tick: Span::from_rate_hz(imu * real_time_factor),
            odometry_every: every as u64,
            start: Vector3::from(p.array("start_position")?),
            noise: SensorNoise {
                position_m: p.float("noise.position")?,
                attitude_rad: p.float("noise.attitude")?,
                velocity_m_s: p.float("noise.velocity")?,
                body_rates_rad_s: p.float("noise.body_rates")?,
                gyro_rad_s: p.float("noise.gyro")?,
                accelerometer_m_s2: p.float("noise.accelerometer")?,
                gyro_bias_rad_s: p.float("noise.gyro_bias")?,
                accelerometer_bias_m_s2: p.float("noise.accelerometer_bias")?,
                latency: Span::from_seconds(p.float("latency_s")?),
            },
            force_std_n: p.float("disturbance.force")?,
            torque_std_n_m: p.float("disturbance.torque")?,
            randomisation,
            others,
            reset: StartDistribution {
                guidance: 0.0,
                max_position_m: p.float("reset.position")?,
                max_angle_rad: p.float("reset.angle")?,
                angle: spikewing_quad::simulation::AngleDistribution::UniformAngle,
                max_velocity_m_s: p.float("reset.velocity")?,
                max_body_rate_rad_s: p.float("reset.body_rates")?,
                rotors,
                guidance_keeps_velocity: true,
            },
            loss_timeout: Span::from_seconds(p.float("com_of_loss_t")?),
            loss_action: LossAction::from_name(p.text("com_obl_rc_act")?),
            disarm_landed: Span::from_seconds(p.float("com_disarm_land")?),
            disarm_preflight: Span::from_seconds(p.float("com_disarm_prflt")?),
        })
    }
}
