//! The simulator's parameters.

use nalgebra::{UnitQuaternion, Vector3};
use spikewing_px4_bridge::px4::Release;
use spikewing_quad::{
    Randomisation, Vehicle,
    simulation::{RotorDistribution, StartDistribution},
};
use spikewing_runtime::{Parameter, Parameters, Span, node::BuildError, parameters};

use crate::{
    autopilot::Rules,
    battery::Warning,
    ekf::EkfErrors,
    face::Px4Clock,
    failsafe::{Action, LowBattery},
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

/// A standard deviation of noise, or another width.
const fn noise(name: &'static str, default: f64, unit: &'static str, about: &'static str) -> Parameter<f64> {
    Parameter::float(name, default).range(0.0, 10.0).unit(unit).about(about)
}

/// How far a reset may vary a property of the vehicle.
const fn share(name: &'static str, about: &'static str) -> Parameter<f64> {
    Parameter::float(name, 0.0).range(0.0, 0.9).about(about)
}

parameters! {
    const VEHICLE: Parameter<String> = Parameter::text("vehicle", "crazyflie")
            .about("Airframe: a built-in one (crazyflie, x500, sih_quadx, l2f0, ltf, l2f2) or the path of a vehicle file.");
    const PX4_VERSION: Parameter<Release> = Parameter::choice("px4_version", "1.16", &[("1.16", Release::V1_16), ("1.17", Release::V1_17), ("1.17+", Release::V1_17Plus), ("1.18", Release::V1_18)]).about("PX4 release whose message layouts and topic names are used.");
    const SEED: Parameter<u64> = Parameter::whole("seed", 1).range(0.0, 1e15).about("Seed of noise, disturbances and resets.");
    const REAL_TIME_FACTOR: Parameter<f64> = Parameter::float("real_time_factor", 1.0)
            .range(0.01, 100.0)
            .about("Simulated seconds per second of the node's clock. Composed runs are as fast as they can be anyway.");
    const PHYSICS_RATE_HZ: Parameter<f64> = Parameter::float("physics_rate_hz", 400.0)
            .range(100.0, 10_000.0)
            .unit("Hz")
            .about("Integration steps per second.");
    const IMU_RATE_HZ: Parameter<f64> = Parameter::float("imu_rate_hz", 200.0)
            .range(50.0, 2000.0)
            .unit("Hz")
            .about("Rate of gyro and accelerometer, and of /clock.");
    const ODOMETRY_RATE_HZ: Parameter<f64> = Parameter::float("odometry_rate_hz", 100.0)
            .range(10.0, 2000.0)
            .unit("Hz")
            .about("Rate of the odometry, the control rate; the IMU rate is a multiple of it.");
    const START_POSITION: Parameter<[f64; 3]> = Parameter::vector("start_position", &[0.0, 0.0, 0.0])
            .range(-1000.0, 1000.0)
            .unit("m")
            .about("Where the vehicle stands at start; the ground is at z = 0.");
    const START_HEADING: Parameter<f64> = Parameter::float("start_heading", 0.0)
            .range(-3.15, 3.15)
            .unit("rad")
            .about("Heading at start, from east counterclockwise.");
    const PUBLISH_CLOCK: Parameter<bool> = Parameter::flag("publish_clock", true)
            .about("Whether `/clock` is written; of several simulators one does.");
    const REALISM: Parameter<Realism> = Parameter::choice("realism", "ideal", &[("ideal", Realism::Ideal), ("px4", Realism::Px4)]).about("Data and timing: `ideal` has white noise and even periods, for fast training; `px4` has EKF2's errors (`ekf.*`), odometry at 8, 8, 8, 16 ms (at 100 Hz), an IMU rate that fits it, and PX4's rate limits. The safety rules hold in either.");
    const EKF_POSITION_STD: Parameter<f64> = Parameter::float("ekf.position_std", 0.12).range(0.0, 10.0).unit("m").about("Horizontal error of the position under `realism: px4`.");
    const EKF_HEIGHT_STD: Parameter<f64> = Parameter::float("ekf.height_std", 0.4).range(0.0, 10.0).unit("m").about("Error of the height; it drifts twelve times slower.");
    const EKF_VELOCITY_STD: Parameter<f64> = Parameter::float("ekf.velocity_std", 0.03).range(0.0, 10.0).unit("m/s").about("Error of the velocity beyond that which goes with the position's.");
    const EKF_ATTITUDE_STD: Parameter<f64> = Parameter::float("ekf.attitude_std", 0.02).range(0.0, 1.0).unit("rad").about("Error of the heading; a third of it in roll and pitch.");
    const EKF_GROUND_VELOCITY_STD: Parameter<f64> = Parameter::float("ekf.ground_velocity_std", 0.1).range(0.0, 10.0).unit("m/s").about("Error of each velocity while standing with turning motors.");
    const EKF_CORRELATION_S: Parameter<f64> = Parameter::float("ekf.correlation_s", 5.0).range(0.1, 1000.0).unit("s").about("How long an error lasts.");
    const EKF_RESETS_EVERY_S: Parameter<f64> = Parameter::float("ekf.resets_every_s", 0.0).range(0.0, 1e6).unit("s").about("Mean time between jumps of the estimate, with its `reset_counter`; 0: none.");
    const EKF_SETTLING_S: Parameter<f64> = Parameter::float("ekf.settling_s", 5.0).range(0.0, 100.0).unit("s").about("Under `realism: px4` arming is denied for so long after the start.");
    const PX4_CLOCK_RATE_ERROR: Parameter<f64> = Parameter::float("px4_clock.rate_error", 0.0).range(-0.1, 0.1).about("Seconds that PX4's clock gains per second on the node's: −0.009 is an unsynchronised one.");
    const PX4_CLOCK_OFFSET_S: Parameter<f64> = Parameter::float("px4_clock.offset_s", 0.0).range(-1e6, 1e6).unit("s").about("What PX4's clock is ahead at time 0.");
    const MANUAL_CONTROL: Parameter<bool> = Parameter::flag("manual_control", true)
            .about("Whether a pilot's remote control is on, sticks centred: without it PX4 has no position or altitude mode.");
    const BATTERY_DRAIN_S: Parameter<f64> = Parameter::float("battery.drain_s", 0.0)
            .range(0.0, 1e6)
            .unit("s")
            .about("Armed time from a full battery to an empty one (PX4's SIM_BAT_DRAIN); 0: never empty.");
    const COM_LOW_BAT_ACT: Parameter<LowBattery> = Parameter::choice("com_low_bat_act", "return_or_land", LowBattery::NAMES).about("PX4's COM_LOW_BAT_ACT at a critical or empty battery; the default is that of PX4's own simulations.");
    const COM_FAIL_ACT_T: Parameter<f64> = Parameter::float("com_fail_act_t", 5.0)
            .range(0.0, 25.0)
            .unit("s")
            .about("PX4's COM_FAIL_ACT_T: time in hold before a failsafe acts that a pilot could prevent.");
    const NOISE_POSITION: Parameter<f64> = noise("noise.position", 0.002, "m", "Standard deviation of the odometry's position.");
    const NOISE_ATTITUDE: Parameter<f64> = noise("noise.attitude", 0.002, "rad", "Standard deviation of the odometry's attitude, about each axis.");
    const NOISE_VELOCITY: Parameter<f64> = noise("noise.velocity", 0.01, "m/s", "Standard deviation of the odometry's velocity.");
    const NOISE_BODY_RATES: Parameter<f64> = noise("noise.body_rates", 0.02, "rad/s", "Standard deviation of the odometry's body rates.");
    const NOISE_GYRO: Parameter<f64> = noise("noise.gyro", 0.01, "rad/s", "Standard deviation of the gyro.");
    const NOISE_ACCELEROMETER: Parameter<f64> = noise("noise.accelerometer", 0.05, "m/s²", "Standard deviation of the accelerometer.");
    const NOISE_GYRO_BIAS: Parameter<f64> = noise("noise.gyro_bias", 0.01, "rad/s", "Standard deviation of the gyro's constant bias.");
    const NOISE_ACCELEROMETER_BIAS: Parameter<f64> = noise("noise.accelerometer_bias", 0.05, "m/s²", "Standard deviation of the accelerometer's constant bias.");
    const LATENCY_S: Parameter<f64> = Parameter::float("latency_s", 0.0)
            .range(0.0, 1.0)
            .unit("s")
            .about("Age of the odometry when it is published.");
    const DISTURBANCE_FORCE: Parameter<f64> = noise("disturbance.force", 0.0, "N", "Standard deviation of a force that is constant between resets, world axes.");
    const DISTURBANCE_TORQUE: Parameter<f64> = noise("disturbance.torque", 0.0, "N m", "Standard deviation of a torque that is constant between resets, body axes.");
    const RANDOMISATION_VEHICLES: Parameter<Vec<String>> = Parameter::texts("randomisation.vehicles", &[]).about(
            "Further airframes (names or files): every reset flies one of these or `vehicle`, each as likely, with the disturbances of its file where those are larger than the parameters here.",
        );
    const RANDOMISATION_MASS: Parameter<f64> = share("randomisation.mass", "Every reset draws the mass within this share of the vehicle's: 0.1 is ± 10 %.");
    const RANDOMISATION_INERTIA: Parameter<f64> = share("randomisation.inertia", "The same for the inertia, each axis by itself.");
    const RANDOMISATION_THRUST: Parameter<f64> = share("randomisation.thrust", "The same for the thrust at any rotor state.");
    const RANDOMISATION_TORQUE_CONSTANT: Parameter<f64> = share("randomisation.torque_constant", "The same for the rotors' reaction torque per thrust.");
    const RANDOMISATION_MOTOR_TIME_CONSTANT: Parameter<f64> = share("randomisation.motor_time_constant", "The same for the motors' lag.");
    const RANDOMISATION_DRAG: Parameter<f64> = share("randomisation.drag", "The same for the vehicle's drag.");
    const RANDOMISATION_DRAG_LINEAR_MAX: Parameter<f64> = noise("randomisation.drag_linear_max", 0.0, "N/(m/s)", "Every reset adds linear drag from 0 to this, each body axis by itself.");
    const RANDOMISATION_CENTRE_OF_MASS: Parameter<f64> = Parameter::float("randomisation.centre_of_mass", 0.0)
            .range(0.0, 1.0)
            .unit("m")
            .about("Every reset shifts the centre of mass within ± this along body x and y.");
    const RANDOMISATION_ACTION_LATENCY: Parameter<f64> = Parameter::float("randomisation.action_latency", 0.0)
            .range(0.0, 1.0)
            .unit("s")
            .about("Every reset draws the time from a motor setpoint to the motors, from 0 to this.");
    const RESET_POSITION: Parameter<f64> = noise("reset.position", 0.0, "m", "Half width of the cube around the asked pose in which a reset puts the vehicle.");
    const RESET_ANGLE: Parameter<f64> = Parameter::float("reset.angle", 0.0)
            .range(0.0, 3.0)
            .unit("rad")
            .about("Largest rotation away from the asked pose at a reset; the angle is uniform.");
    const RESET_VELOCITY: Parameter<f64> = noise("reset.velocity", 0.0, "m/s", "Half width of the velocity's range at a reset.");
    const RESET_BODY_RATES: Parameter<f64> = noise("reset.body_rates", 0.0, "rad/s", "Half width of the body rates' range at a reset.");
    const RESET_ROTORS: Parameter<RotorDistribution> = Parameter::choice("reset.rotors", "hover", &[("hover", RotorDistribution::Hover), ("uniform", RotorDistribution::FullRange)]).about("Rotors at a reset: all at hover, or each anywhere in its range.");
    const COM_OF_LOSS_T: Parameter<f64> = Parameter::float("com_of_loss_t", 1.0)
            .range(0.1, 60.0)
            .unit("s")
            .about("PX4's COM_OF_LOSS_T: the failsafe acts so long after the last heartbeat.");
    const COM_OBL_RC_ACT: Parameter<Action> = Parameter::choice("com_obl_rc_act", "land", Action::LOSS).about("PX4's COM_OBL_RC_ACT: what the failsafe does when the heartbeat has stopped.");
    const COM_DISARM_LAND: Parameter<f64> = Parameter::float("com_disarm_land", 2.0)
            .range(-1.0, 60.0)
            .unit("s")
            .about("PX4's COM_DISARM_LAND: disarms so long after landing; not above 0: never.");
    const COM_DISARM_PRFLT: Parameter<f64> = Parameter::float("com_disarm_prflt", 10.0)
            .range(-1.0, 60.0)
            .unit("s")
            .about("PX4's COM_DISARM_PRFLT: disarms when no take-off follows arming within this and COM_SPOOLUP_TIME (1 s); not above 0: never.");
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let realism = p.get(&REALISM)?;
        let (imu, odometry) = (p.get(&IMU_RATE_HZ)?, p.get(&ODOMETRY_RATE_HZ)?);
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
        let real_time_factor = p.get(&REAL_TIME_FACTOR)?;
        Ok(Self {
            release: p.get(&PX4_VERSION)?,
            seed: p.get(&SEED)?,
            realism,
            world: World::read(p, real_time_factor)?,
            // The node's clock is the wall clock or simulated time; sensors keep their rate in the vehicle's time.
            tick: Span::from_rate_hz(imu * real_time_factor),
            ticks_per_odometry,
            noise: SensorNoise {
                position_m: p.get(&NOISE_POSITION)?,
                attitude_rad: p.get(&NOISE_ATTITUDE)?,
                velocity_m_s: p.get(&NOISE_VELOCITY)?,
                body_rates_rad_s: p.get(&NOISE_BODY_RATES)?,
                gyro_rad_s: p.get(&NOISE_GYRO)?,
                accelerometer_m_s2: p.get(&NOISE_ACCELEROMETER)?,
                gyro_bias_rad_s: p.get(&NOISE_GYRO_BIAS)?,
                accelerometer_bias_m_s2: p.get(&NOISE_ACCELEROMETER_BIAS)?,
                latency: Span::from_seconds(p.get(&LATENCY_S)?),
            },
            ekf: EkfErrors {
                position_m: p.get(&EKF_POSITION_STD)?,
                height_m: p.get(&EKF_HEIGHT_STD)?,
                velocity_m_s: p.get(&EKF_VELOCITY_STD)?,
                attitude_rad: p.get(&EKF_ATTITUDE_STD)?,
                ground_velocity_m_s: p.get(&EKF_GROUND_VELOCITY_STD)?,
                correlation_s: p.get(&EKF_CORRELATION_S)?,
                resets_every_s: p.get(&EKF_RESETS_EVERY_S)?,
            },
            rules: rules(p, realism)?,
            px4_clock: Px4Clock {
                rate_error: p.get(&PX4_CLOCK_RATE_ERROR)?,
                offset: Span::from_seconds(p.get(&PX4_CLOCK_OFFSET_S)?),
            },
            status_gap: if realism == Realism::Px4 { CLIENT_GAP } else { Span::ZERO },
            publish_clock: p.get(&PUBLISH_CLOCK)?,
        })
    }
}

fn rules(p: &Parameters, realism: Realism) -> Result<Rules, BuildError> {
    let low_battery = p.get(&COM_LOW_BAT_ACT)?;
    let seconds = |parameter| p.get(parameter).map(Span::from_seconds);
    Ok(Rules {
        loss_timeout: seconds(&COM_OF_LOSS_T)?,
        loss_action: p.get(&COM_OBL_RC_ACT)?,
        disarm_landed: seconds(&COM_DISARM_LAND)?,
        disarm_preflight: seconds(&COM_DISARM_PRFLT)?,
        battery_actions: [Warning::Low, Warning::Critical, Warning::Emergency]
            .map(|warning| low_battery.action(warning)),
        action_delay: seconds(&COM_FAIL_ACT_T)?,
        manual_control: p.get(&MANUAL_CONTROL)?,
        settling: if realism == Realism::Px4 { seconds(&EKF_SETTLING_S)? } else { Span::ZERO },
        drain_s: p.get(&BATTERY_DRAIN_S)?,
    })
}

impl World {
    /// Level, with the heading of the start.
    pub fn heading(&self) -> UnitQuaternion<f64> {
        UnitQuaternion::from_axis_angle(&Vector3::z_axis(), self.start_heading)
    }

    fn read(p: &Parameters, real_time_factor: f64) -> Result<Self, BuildError> {
        let vehicle = Vehicle::find(&p.get(&VEHICLE)?)?;
        let randomisation = Randomisation {
            mass: p.get(&RANDOMISATION_MASS)?,
            inertia: p.get(&RANDOMISATION_INERTIA)?,
            thrust: p.get(&RANDOMISATION_THRUST)?,
            torque_constant: p.get(&RANDOMISATION_TORQUE_CONSTANT)?,
            motor_time_constant: p.get(&RANDOMISATION_MOTOR_TIME_CONSTANT)?,
            drag: p.get(&RANDOMISATION_DRAG)?,
            drag_linear_max: p.get(&RANDOMISATION_DRAG_LINEAR_MAX)?,
            centre_of_mass_m: p.get(&RANDOMISATION_CENTRE_OF_MASS)?,
            action_latency_s: p.get(&RANDOMISATION_ACTION_LATENCY)?,
        };
        let others = p.get(&RANDOMISATION_VEHICLES)?;
        let others: Vec<Vehicle> = others.iter().map(|name| Vehicle::find(name)).collect::<Result<_, _>>()?;
        for vehicle in [&vehicle].into_iter().chain(&others) {
            randomisation.check(vehicle).map_err(|e| format!("{}: {e}", vehicle.name))?;
        }
        Ok(Self {
            vehicle,
            physics_rate_hz: p.get(&PHYSICS_RATE_HZ)?,
            real_time_factor,
            start: Vector3::from(p.get(&START_POSITION)?),
            start_heading: p.get(&START_HEADING)?,
            force_std_n: p.get(&DISTURBANCE_FORCE)?,
            torque_std_n_m: p.get(&DISTURBANCE_TORQUE)?,
            randomisation,
            others,
            reset: StartDistribution {
                guidance: 0.0,
                max_position_m: p.get(&RESET_POSITION)?,
                max_angle_rad: p.get(&RESET_ANGLE)?,
                angle: spikewing_quad::simulation::AngleDistribution::UniformAngle,
                max_velocity_m_s: p.get(&RESET_VELOCITY)?,
                max_body_rate_rad_s: p.get(&RESET_BODY_RATES)?,
                rotors: p.get(&RESET_ROTORS)?,
                guidance_keeps_velocity: true,
            },
        })
    }
}
