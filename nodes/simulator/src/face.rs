//! What PX4 writes: its messages, their stamps, and how often they come.

use nalgebra::Vector3;
use spikewing_msgs::px4_msgs;
use spikewing_px4_bridge::{
    frames,
    px4::{self, Release},
};
use spikewing_runtime::{
    Outbox, Span, Time,
    port::{Interface, Output, Qos},
};

use crate::{
    autopilot::{self, Autopilot},
    land_detector::Landing,
    sensors::Sample,
};

const ODOMETRY: Output<px4_msgs::VehicleOdometry> = Output::new(px4::VEHICLE_ODOMETRY, Qos::px4_out(5));
const SENSORS: Output<px4_msgs::SensorCombined> = Output::new(px4::SENSOR_COMBINED, Qos::px4_out(5));
const LANDED: Output<px4_msgs::VehicleLandDetected> =
    Output::new(px4::VEHICLE_LAND_DETECTED, Qos::px4_out(5));

/// `vehicle_status` comes this often, and when it changes (`Commander.cpp`).
const STATUS_PERIOD: Span = Span::from_millis(500);
/// `vehicle_land_detected` (`LandDetector.cpp`).
const LANDED_PERIOD: Span = Span::from_millis(1000);
/// PX4's rotary wing.
const ROTARY_WING: u8 = 1;

/// PX4's clock against the node's.
#[derive(Clone, Copy, Debug)]
pub struct Px4Clock {
    /// Seconds that it gains per second; below 0 it is slow.
    pub rate_error: f64,
    /// What it shows at the node's time 0.
    pub offset: Span,
}

impl Px4Clock {
    fn microseconds(&self, now: Time) -> u64 {
        let shown = now.nanoseconds() + self.offset.nanoseconds();
        let gained = (now.nanoseconds() as f64 * self.rate_error) as i64;
        u64::try_from(shown.saturating_add(gained) / 1000).unwrap_or(0)
    }
}

/// How often something is told: each period, and when it changes, but not faster than the client's rate limit.
#[derive(Clone, Debug)]
struct Cadence<T> {
    period: Span,
    gap: Span,
    last: Option<(Time, T)>,
}

impl<T: PartialEq + Copy> Cadence<T> {
    fn new(period: Span, gap: Span) -> Self {
        Self { period, gap, last: None }
    }

    fn due(&mut self, now: Time, value: T) -> bool {
        let due = self.last.is_none_or(|(at, last)| {
            let silent = now - at;
            silent >= self.period || (last != value && silent >= self.gap)
        });
        if due {
            self.last = Some((now, value));
        }
        due
    }
}

/// What a companion must learn when it changes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reported {
    armed: bool,
    nav_state: u8,
    intended: u8,
    failsafe: bool,
    taken_over: bool,
    healthy: bool,
    reasons: (u8, u8),
}

/// The writing side of PX4.
pub struct Face {
    release: Release,
    clock: Px4Clock,
    status: Cadence<Reported>,
    landed: Cadence<Landing>,
    /// Counts the jumps of the estimate.
    reset_counter: u8,
}

impl Face {
    /// `gap`: changes are told no faster than this.
    pub fn new(release: Release, clock: Px4Clock, gap: Span) -> Self {
        Self {
            release,
            clock,
            status: Cadence::new(STATUS_PERIOD, gap),
            landed: Cadence::new(LANDED_PERIOD, gap),
            reset_counter: 0,
        }
    }

    /// Its topics.
    pub fn interface(&self, base: Interface) -> Interface {
        let base = base.output(&ODOMETRY).output(&SENSORS).output(&LANDED);
        match self.release {
            Release::V1_16 | Release::V1_17 => {
                base.output(&px4::written(&px4::STATUS_V1)).output(&px4::written(&px4::ACK))
            }
            Release::V1_17Plus => {
                base.output(&px4::written(&px4::STATUS_V2)).output(&px4::written(&px4::ACK_V1))
            }
            Release::V1_18 => base.output(&px4::written(&px4::STATUS_V4)).output(&px4::written(&px4::ACK_V1)),
        }
    }

    /// Jumps of the estimate, modulo 256.
    pub fn resets(&self) -> u8 {
        self.reset_counter
    }

    /// The estimate jumped.
    pub fn count_reset(&mut self) {
        self.reset_counter = self.reset_counter.wrapping_add(1);
    }

    /// The estimate; variances of position, orientation and velocity, world axes.
    pub fn odometry(&self, now: Time, sample: &Sample, variances: &[Vector3<f64>; 3], out: &mut Outbox) {
        let seen = &sample.seen;
        let [position, orientation, velocity] = variances.map(|v| [v.y as f32, v.x as f32, v.z as f32]);
        out.publish(
            &ODOMETRY,
            px4_msgs::VehicleOdometry {
                timestamp: self.clock.microseconds(now),
                timestamp_sample: self.clock.microseconds(sample.held),
                pose_frame: px4_msgs::VehicleOdometry::POSE_FRAME_NED,
                position: frames::to_f32(&frames::world(&seen.position)),
                q: frames::quaternion_to_px4(&frames::orientation(&seen.orientation)),
                velocity_frame: px4_msgs::VehicleOdometry::VELOCITY_FRAME_NED,
                velocity: frames::to_f32(&frames::world(&seen.velocity)),
                angular_velocity: frames::to_f32(&frames::body(&seen.body_rates)),
                position_variance: position,
                orientation_variance: orientation,
                velocity_variance: velocity,
                reset_counter: sample.resets,
                quality: 100,
            },
        );
    }

    /// Gyro (rad/s) and accelerometer (m/s²), body FLU.
    pub fn imu(&self, now: Time, gyro: &Vector3<f64>, force: &Vector3<f64>, period: Span, out: &mut Outbox) {
        let dt_us = u32::try_from(period.nanoseconds() / 1000).unwrap_or(0);
        out.publish(
            &SENSORS,
            px4_msgs::SensorCombined {
                timestamp: self.clock.microseconds(now),
                gyro_rad: frames::to_f32(&frames::body(gyro)),
                gyro_integral_dt: dt_us,
                accelerometer_m_s2: frames::to_f32(&frames::body(force)),
                accelerometer_integral_dt: dt_us,
                ..Default::default()
            },
        );
    }

    /// Arming, mode and health, when due.
    pub fn status(&mut self, now: Time, autopilot: &Autopilot, out: &mut Outbox) {
        let (armed_by, disarmed_by) = autopilot.reasons();
        let reported = Reported {
            armed: autopilot.armed(),
            nav_state: autopilot.mode().nav_state(),
            intended: autopilot.intended().nav_state(),
            failsafe: autopilot.failsafe().active(),
            taken_over: autopilot.failsafe().taken_over(),
            healthy: autopilot.preflight(now).is_ok(),
            reasons: (armed_by as u8, disarmed_by as u8),
        };
        if !self.status.due(now, reported) {
            return;
        }
        let arming_state = if reported.armed {
            px4_msgs::VehicleStatus::ARMING_STATE_ARMED
        } else {
            px4_msgs::VehicleStatus::ARMING_STATE_DISARMED
        };
        let timestamp = self.clock.microseconds(now);
        macro_rules! status {
            ($message:ident) => {
                px4_msgs::$message {
                    timestamp,
                    arming_state,
                    latest_arming_reason: reported.reasons.0,
                    latest_disarming_reason: reported.reasons.1,
                    nav_state_user_intention: reported.intended,
                    nav_state: reported.nav_state,
                    failsafe: reported.failsafe,
                    failsafe_and_user_took_over: reported.taken_over,
                    pre_flight_checks_pass: reported.healthy,
                    system_id: autopilot::SYSTEM,
                    component_id: autopilot::COMPONENT,
                    vehicle_type: ROTARY_WING,
                    ..Default::default()
                }
            };
        }
        match self.release {
            Release::V1_16 | Release::V1_17 => {
                out.publish(&px4::written(&px4::STATUS_V1), status!(VehicleStatus));
            }
            Release::V1_17Plus => out.publish(&px4::written(&px4::STATUS_V2), status!(VehicleStatusV2)),
            Release::V1_18 => out.publish(&px4::written(&px4::STATUS_V4), status!(VehicleStatusV4)),
        }
    }

    /// The land detector's word, when due.
    pub fn landing(&mut self, now: Time, landing: &Landing, out: &mut Outbox) {
        if !self.landed.due(now, *landing) {
            return;
        }
        out.publish(
            &LANDED,
            px4_msgs::VehicleLandDetected {
                timestamp: self.clock.microseconds(now),
                freefall: landing.freefall,
                ground_contact: landing.ground_contact,
                maybe_landed: landing.maybe_landed,
                landed: landing.landed,
                in_descend: landing.in_descend,
                has_low_throttle: landing.has_low_throttle,
                vertical_movement: landing.vertical_movement,
                horizontal_movement: landing.horizontal_movement,
                rotational_movement: landing.rotational_movement,
                // Without a range finder the check is skipped.
                close_to_ground_or_skipped_check: true,
                ..Default::default()
            },
        );
    }

    /// The answer to a command.
    pub fn acknowledge(&self, now: Time, command: &px4_msgs::VehicleCommand, result: u8, out: &mut Outbox) {
        let ack = px4_msgs::VehicleCommandAck {
            timestamp: self.clock.microseconds(now),
            command: command.command,
            result,
            target_system: command.source_system,
            target_component: command.source_component,
            from_external: false,
            ..Default::default()
        };
        let port = match self.release {
            Release::V1_16 | Release::V1_17 => px4::written(&px4::ACK),
            Release::V1_17Plus | Release::V1_18 => px4::written(&px4::ACK_V1),
        };
        out.publish(&port, ack);
    }
}
