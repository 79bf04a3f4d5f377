//! What arrives: odometry, the policies' commands, the autopilot's status, the setpoint.

use nalgebra::Vector3;
use spikewing_msgs::{geometry_msgs, nav_msgs::Odometry, spikewing_msgs as sw, std_msgs::Header};
use spikewing_runtime::{Outbox, Time};

use crate::{
    envelope::Vehicle,
    flight::{Supervisor, TOUCHDOWN},
    node::{GUIDE, GUIDE_SETPOINT, ODOMETRY, SETPOINT, STUDENT},
    phase::{EndKind, From, Offer, Phase},
};

/// Without odometry for so many periods nothing is commanded.
const BLIND_PERIODS: i64 = 10;

impl Supervisor {
    pub(crate) fn on_odometry(&mut self, now: Time, m: &Odometry, out: &mut Outbox) {
        let Some(vehicle) = Vehicle::from_msg(m) else {
            return self.drop_message(ODOMETRY.name, "a number is not finite or the quaternion is none");
        };
        if self.vehicle.is_some_and(|v| vehicle.stamp <= v.stamp) && self.odometry_fresh(now) {
            return self.drop_message(ODOMETRY.name, "older than the last one");
        }
        if self.pending {
            // The last one got no decision; late is better than never.
            self.decide(now, out);
        }
        self.vehicle = Some(vehicle);
        self.odometry_received = Some(now);
        self.judge(now, &vehicle, out);
        self.fly_guide(now, &vehicle, out);
        self.pending = true;
        if self.answered(now) {
            self.decide(now, out);
        }
    }

    pub(crate) fn odometry_fresh(&self, now: Time) -> bool {
        self.odometry_received.is_some_and(|at| now - at <= self.settings.period * BLIND_PERIODS)
    }

    /// Where the guide should go when it is not the setpoint.
    pub(crate) fn fly_guide(&mut self, now: Time, vehicle: &Vehicle, out: &mut Outbox) {
        let target = match self.phase {
            Phase::Hold { at } => at,
            Phase::Land { from, since, still_since } => {
                let sunk = self.settings.land_speed_mps * (now - since).seconds();
                // The setpoint runs ahead of the vehicle by no more than half a metre.
                let z = (from.z - sunk).max(vehicle.position.z - 0.5);
                let below = vehicle.position.z - z > 0.2;
                let still = below && vehicle.velocity.norm() < 0.05;
                let still_since = if still { still_since.or(Some(now)) } else { None };
                self.phase = Phase::Land { from, since, still_since };
                Vector3::new(from.x, from.y, z)
            }
            _ => return,
        };
        out.publish(&GUIDE_SETPOINT, setpoint_message(now, &target));
    }

    pub(crate) fn on_offer(&mut self, now: Time, m: &sw::MotorCommand, from: From, out: &mut Outbox) {
        let topic = match from {
            From::Guide => GUIDE.name,
            From::Student => STUDENT.name,
        };
        if m.motors.iter().any(|v| !v.is_finite() || v.abs() > 1.0) || !m.warmth.is_finite() {
            return self.drop_message(topic, "a motor command is not within [-1, 1]");
        }
        let offer = Offer { command: m.clone(), stamp: Time::from(&m.odometry_stamp), received: now };
        match from {
            From::Guide => {
                self.guide = Some(offer);
                if let Some(guide) = &mut self.guide {
                    guide.command.source = sw::MotorCommand::SOURCE_GUIDE;
                }
            }
            From::Student => {
                self.student = Some(offer);
                if let Some(student) = &mut self.student {
                    student.command.source = sw::MotorCommand::SOURCE_STUDENT;
                }
            }
        }
        if self.pending && self.answered(now) {
            self.decide(now, out);
        }
    }

    pub(crate) fn on_status(&mut self, now: Time, m: &sw::VehicleStatus, out: &mut Outbox) {
        let offboard = m.mode == sw::VehicleStatus::MODE_OFFBOARD;
        match self.phase {
            Phase::Arming if m.armed && offboard => self.enter(now, Phase::Guide, "armed", out),
            Phase::Land { .. } if m.landed && now - self.phase_since > TOUCHDOWN => {
                self.enter(now, Phase::Disarmed, "landed", out);
            }
            phase if phase.flies() && !m.armed => {
                self.end_episode(now, EndKind::Truncated, out);
                self.enter(now, Phase::Disarmed, "the autopilot disarmed", out);
            }
            phase if phase.flies() && m.connected && !offboard => {
                // The autopilot's failsafe or the pilot took the vehicle: that is not fought.
                self.end_episode(now, EndKind::Truncated, out);
                self.settings.auto_arm = false;
                self.enter(now, Phase::Disarmed, "the autopilot left offboard control", out);
            }
            _ => {}
        }
        self.status = Some(m.clone());
        self.status_received = Some(now);
    }

    pub(crate) fn on_setpoint(&mut self, m: &geometry_msgs::PoseStamped) {
        let p = &m.pose.position;
        if p.to_array().iter().all(|v| v.is_finite()) {
            self.setpoint = Vector3::new(p.x, p.y, p.z);
        } else {
            self.drop_message(SETPOINT.name, "the setpoint is not finite");
        }
    }
}

/// A setpoint in the world.
pub(crate) fn setpoint_message(now: Time, at: &Vector3<f64>) -> geometry_msgs::PoseStamped {
    let mut message =
        geometry_msgs::PoseStamped { header: Header::new(now.to_msg(), "map"), ..Default::default() };
    message.pose.position = geometry_msgs::Point::new(at.x, at.y, at.z);
    message
}
