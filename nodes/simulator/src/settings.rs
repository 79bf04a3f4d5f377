//! The simulator's parameters.

use nalgebra::{UnitQuaternion, Vector3};
use spikewing_px4_bridge::px4::{RELEASES, Release};
use spikewing_quad::{
    Randomisation, Vehicle,
    simulation::{RotorDistribution, StartDistribution},
};
use spikewing_runtime::{Declaration, Parameters, Span, node::BuildError};

use crate::{
    autopilot::Rules, battery::Warning, ekf::EkfErrors, face::Px4Clock, failsafe::Action,
    sensors::SensorNoise,
};

/// Slots in which PX4 writes odometry: four of each five of 0.8 of the mean period (8, 8, 8, 16 ms at 100 Hz).
const PX4_TICKS_PER_PERIOD: f64 = 2.5;
/// The client passes no change of status on faster than this (5 Hz).
const CLIENT_GAP: Span = Span::from_millis(200);

/// How close to a real PX4 data and timing are; its safety rules hold in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realism {
    /// White noise, even periods, changes told at once.
    Ideal,
    /// EKF2's errors and age, PX4's irregular periods, the client's rate limits.
    Px4,
}

/// The vehicle and its world.
pub struct World {
    pub vehicle: Vehicle,
    pub physics_rate_hz: f64,
    pub real_time_factor: f64,
    pub start: Vector3<f64>,
    pub start_heading: f64,
    pub force_std_n: f64,
    pub torque_std_n_m: f64,
    pub randomisation: Randomisation,
    /// Vehicles that a reset may draw instead of `vehicle`.
    pub others: Vec<Vehicle>,
    pub reset: StartDistribution,
}

/// Parameters as the simulator uses them.
pub struct Settings {
    pub release: Release,
    pub seed: u64,
    pub realism: Realism,
    pub world: World,
    pub tick: Span,
    /// Ticks per odometry, of the mean.
    pub ticks_per_odometry: f64,
    pub noise: SensorNoise,
    pub ekf: EkfErrors,
    pub rules: Rules,
    pub px4_clock: Px4Clock,
    pub status_gap: Span,
    pub publish_clock: bool,
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
        Declaration::float("start_heading", 0.0)
            .range(-3.15, 3.15)
            .unit("rad")
            .describe("Heading at start, from east counterclockwise; resets without an orientation (all zeros) have it, too."),
        Declaration::boolean("publish_clock", true)
            .describe("Whether `/clock` is written; of several simulators one does."),
        Declaration::choice("realism", "ideal", &["ideal", "px4"])
            .describe("Data and timing: `ideal` has white noise and even periods, for fast training; `px4` has EKF2's errors (`ekf.*`), odometry at 8, 8, 8, 16 ms (at 100 Hz), an IMU rate that fits it, and PX4's rate limits. The safety rules hold in either."),
        Declaration::float("ekf.position_std", 0.12).range(0.0, 10.0).unit("m").describe("Horizontal error of the position under `realism: px4`."),
        Declaration::float("ekf.height_std", 0.4).range(0.0, 10.0).unit("m").describe("Error of the height; it drifts twelve times slower."),
        Declaration::float("ekf.velocity_std", 0.03).range(0.0, 10.0).unit("m/s").describe("Error of the velocity beyond that which goes with the position's."),
        Declaration::float("ekf.attitude_std", 0.02).range(0.0, 1.0).unit("rad").describe("Error of the heading; a third of it in roll and pitch."),
        Declaration::float("ekf.ground_velocity_std", 0.1).range(0.0, 10.0).unit("m/s").describe("Error of each velocity while standing with turning motors."),
        Declaration::float("ekf.correlation_s", 5.0).range(0.1, 1000.0).unit("s").describe("How long an error lasts."),
        Declaration::float("ekf.resets_every_s", 0.0).range(0.0, 1e6).unit("s").describe("Mean time between jumps of the estimate, with its `reset_counter`; 0: none."),
        Declaration::float("ekf.settling_s", 5.0).range(0.0, 100.0).unit("s").describe("Under `realism: px4` arming is denied for so long after the start."),
        Declaration::float("px4_clock.rate_error", 0.0).range(-0.1, 0.1).describe("Seconds that PX4's clock gains per second on the node's: −0.009 is an unsynchronised one."),
        Declaration::float("px4_clock.offset_s", 0.0).range(-1e6, 1e6).unit("s").describe("What PX4's clock is ahead at time 0."),
        Declaration::boolean("manual_control", true)
            .describe("Whether a pilot's remote control is on, sticks centred: without it PX4 has no position or altitude mode."),
        Declaration::float("battery.drain_s", 0.0)
            .range(0.0, 1e6)
            .unit("s")
            .describe("Armed time from a full battery to an empty one (PX4's SIM_BAT_DRAIN); 0: never empty."),
        Declaration::choice("com_low_bat_act", "return_or_land", Action::LOW_BATTERY)
            .describe("PX4's COM_LOW_BAT_ACT at a critical or empty battery; the default is that of PX4's own simulations."),
        Declaration::float("com_fail_act_t", 5.0)
            .range(0.0, 25.0)
            .unit("s")
            .describe("PX4's COM_FAIL_ACT_T: time in hold before a failsafe acts that a pilot could prevent."),
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
        Declaration::choice("com_obl_rc_act", "land", Action::LOSS)
            .describe("PX4's COM_OBL_RC_ACT: what the failsafe does when the heartbeat has stopped."),
        Declaration::float("com_disarm_land", 2.0)
            .range(-1.0, 60.0)
            .unit("s")
            .describe("PX4's COM_DISARM_LAND: disarms so long after landing; not above 0: never."),
        Declaration::float("com_disarm_prflt", 10.0)
            .range(-1.0, 60.0)
            .unit("s")
            .describe("PX4's COM_DISARM_PRFLT: disarms when no take-off follows arming within this and COM_SPOOLUP_TIME (1 s); not above 0: never."),
    ]
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let realism = match p.text("realism")? {
            "px4" => Realism::Px4,
            _ => Realism::Ideal,
        };
        let (imu, odometry) = (p.float("imu_rate_hz")?, p.float("odometry_rate_hz")?);
        let (imu, ticks_per_odometry) = match realism {
            Realism::Ideal => {
                let every = (imu / odometry).round();
                if every < 1.0 || (every * odometry - imu).abs() > 1e-6 * imu {
                    let text =
                        format!("imu_rate_hz = {imu} must be a multiple of odometry_rate_hz = {odometry}");
                    return Err(text.into());
                }
                (imu, every)
            }
            // PX4's IMU and its estimator run from one clock, 250 and 125 Hz.
            Realism::Px4 => {
                let ticks = (imu / odometry / PX4_TICKS_PER_PERIOD).ceil().max(1.0) * PX4_TICKS_PER_PERIOD;
                (odometry * ticks, ticks)
            }
        };
        let real_time_factor = p.float("real_time_factor")?;
        Ok(Self {
            release: Release::from_name(p.text("px4_version")?),
            seed: p.count("seed")? as u64,
            realism,
            world: World::read(p, real_time_factor)?,
            // The node's clock is the wall clock or simulated time; sensors keep their rate in the vehicle's time.
            tick: Span::from_rate_hz(imu * real_time_factor),
            ticks_per_odometry,
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
            ekf: EkfErrors {
                position_m: p.float("ekf.position_std")?,
                height_m: p.float("ekf.height_std")?,
                velocity_m_s: p.float("ekf.velocity_std")?,
                attitude_rad: p.float("ekf.attitude_std")?,
                ground_velocity_m_s: p.float("ekf.ground_velocity_std")?,
                correlation_s: p.float("ekf.correlation_s")?,
                resets_every_s: p.float("ekf.resets_every_s")?,
            },
            rules: rules(p, realism)?,
            px4_clock: Px4Clock {
                rate_error: p.float("px4_clock.rate_error")?,
                offset: Span::from_seconds(p.float("px4_clock.offset_s")?),
            },
            status_gap: if realism == Realism::Px4 { CLIENT_GAP } else { Span::ZERO },
            publish_clock: p.boolean("publish_clock")?,
        })
    }
}

fn rules(p: &Parameters, realism: Realism) -> Result<Rules, BuildError> {
    let low_battery = p.text("com_low_bat_act")?;
    let seconds = |name| p.float(name).map(Span::from_seconds);
    Ok(Rules {
        loss_timeout: seconds("com_of_loss_t")?,
        loss_action: Action::on_loss(p.text("com_obl_rc_act")?),
        disarm_landed: seconds("com_disarm_land")?,
        disarm_preflight: seconds("com_disarm_prflt")?,
        battery_actions: [Warning::Low, Warning::Critical, Warning::Emergency]
            .map(|warning| Action::on_battery(low_battery, warning)),
        action_delay: seconds("com_fail_act_t")?,
        manual_control: p.boolean("manual_control")?,
        settling: if realism == Realism::Px4 { seconds("ekf.settling_s")? } else { Span::ZERO },
        drain_s: p.float("battery.drain_s")?,
    })
}

impl World {
    /// Level, with the heading of the start.
    pub fn heading(&self) -> UnitQuaternion<f64> {
        UnitQuaternion::from_axis_angle(&Vector3::z_axis(), self.start_heading)
    }

    fn read(p: &Parameters, real_time_factor: f64) -> Result<Self, BuildError> {
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
            physics_rate_hz: p.float("physics_rate_hz")?,
            real_time_factor,
            start: Vector3::from(p.array("start_position")?),
            start_heading: p.float("start_heading")?,
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
        })
    }
}
