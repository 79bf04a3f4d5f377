//! The flight envelope, and what a policy sees of the vehicle.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::nav_msgs::Odometry;
use spikewing_quad::{Observation, Setpoint};
use spikewing_runtime::Time;

/// The vehicle's state in the world, from odometry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vehicle {
    /// When it held.
    pub stamp: Time,
    /// m
    pub position: Vector3<f64>,
    /// Body to world.
    pub orientation: UnitQuaternion<f64>,
    /// World, m/s.
    pub velocity: Vector3<f64>,
    /// Body, rad/s.
    pub body_rates: Vector3<f64>,
}

impl Vehicle {
    /// From a message; `None` when a number is not finite or the quaternion is none.
    pub fn from_msg(m: &Odometry) -> Option<Self> {
        let p = &m.pose.pose.position;
        let q = &m.pose.pose.orientation;
        let (v, w) = (&m.twist.twist.linear, &m.twist.twist.angular);
        let all = [p.x, p.y, p.z, q.x, q.y, q.z, q.w, v.x, v.y, v.z, w.x, w.y, w.z];
        let q = Quaternion::new(q.w, q.x, q.y, q.z);
        if !all.iter().all(|x| x.is_finite()) || (q.norm() - 1.0).abs() > 0.1 {
            return None;
        }
        let orientation = UnitQuaternion::new_normalize(q);
        Some(Self {
            stamp: Time::from(&m.header.stamp),
            position: Vector3::new(p.x, p.y, p.z),
            orientation,
            velocity: orientation * Vector3::new(v.x, v.y, v.z),
            body_rates: Vector3::new(w.x, w.y, w.z),
        })
    }

    /// Angular acceleration since an earlier state, rad/s², body axes; zero where they are too far apart to tell.
    pub fn turn_growth_since(&self, before: &Self) -> Vector3<f64> {
        let dt_s = (self.stamp - before.stamp).seconds();
        if dt_s > 0.0 && dt_s <= LONGEST_STEP_S {
            (self.body_rates - before.body_rates) / dt_s
        } else {
            Vector3::zeros()
        }
    }

    /// What a policy sees of it.
    pub fn observation(&self, setpoint: &Setpoint) -> Observation {
        setpoint.observation(&self.position, &self.orientation, &self.velocity, &self.body_rates)
    }
}

/// Two states further apart than this, s, say nothing of how a turn grows.
const LONGEST_STEP_S: f64 = 0.05;
/// Body rates change within hundredths of a second, velocities do not: a turn is looked ahead for by this share of the time.
/// At a third, a student's ordinary corrections still look like a fall.
const TURNING_SHARE: f64 = 0.2;

/// Where the student may fly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Envelope {
    /// Half width of the box around the setpoint, m.
    pub position_m: f64,
    /// Angle of the body's z axis from the world's, rad.
    pub tilt_rad: f64,
    /// m/s
    pub speed_mps: f64,
    /// Of the fastest axis, rad/s.
    pub body_rate_radps: f64,
    /// The student loses the vehicle this long before it would leave the box, s.
    pub lookahead_s: f64,
    /// Deceleration that the guide can count on to stop a fall, m/s².
    pub brake_mps2: f64,
}

impl Envelope {
    /// What is violated, in words; `None` inside.
    pub fn violation(&self, vehicle: &Vehicle, setpoint: &Vector3<f64>) -> Option<&'static str> {
        let error = vehicle.position - setpoint;
        let tilt = (vehicle.orientation * Vector3::z()).z.clamp(-1.0, 1.0).acos();
        if error.amax() > self.position_m {
            Some("left the position envelope")
        } else if tilt > self.tilt_rad {
            Some("tilted beyond the envelope")
        } else if vehicle.velocity.norm() > self.speed_mps {
            Some("faster than the envelope allows")
        } else if vehicle.body_rates.amax() > self.body_rate_radps {
            Some("turns faster than the envelope allows")
        } else {
            None
        }
    }

    /// What is about to be violated, in words: box, tilt or body rate within `lookahead_s`, or the ground, which a vehicle that
    /// sinks at w reaches in spite of the guide when its height is less than w t + w² / 2a (t the lookahead, a the brake).
    ///
    /// How fast a turn grows tells a fall from a correction: motors lag, so that a turn that grows goes on growing for a while
    /// under whoever takes over. `before` is the state that preceded this one.
    pub fn foresee(
        &self,
        vehicle: &Vehicle,
        before: Option<&Vehicle>,
        setpoint: &Vector3<f64>,
        ground_z_m: Option<f64>,
    ) -> Option<&'static str> {
        if self.lookahead_s <= 0.0 {
            return None;
        }
        let ahead = vehicle.position - setpoint + vehicle.velocity * self.lookahead_s;
        let turning_s = self.lookahead_s * TURNING_SHARE;
        let growth = before.map_or_else(Vector3::zeros, |b| vehicle.turn_growth_since(b));
        let turns = (vehicle.body_rates + growth * turning_s).amax() > self.body_rate_radps;
        let turned = vehicle.orientation * UnitQuaternion::new(vehicle.body_rates * turning_s);
        let tilt = (turned * Vector3::z()).z.clamp(-1.0, 1.0).acos();
        let sinks = -vehicle.velocity.z;
        let needed = sinks * self.lookahead_s + sinks * sinks / (2.0 * self.brake_mps2);
        if ground_z_m.is_some_and(|ground| sinks > 0.0 && vehicle.position.z - ground < needed) {
            Some("is about to hit the ground")
        } else if turns {
            Some("is about to turn faster than the envelope allows")
        } else if tilt > self.tilt_rad {
            Some("is about to tilt beyond the envelope")
        } else if ahead.amax() > self.position_m {
            Some("is about to leave the position envelope")
        } else {
            None
        }
    }
}
