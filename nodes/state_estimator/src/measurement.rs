//! Messages turned into measurements, block by block, with what makes no sense left out and counted.

use nalgebra::{Matrix3, Quaternion, UnitQuaternion, Vector3};
use spikewing_msgs::{geometry_msgs, nav_msgs, sensor_msgs};
use spikewing_runtime::Time;

use crate::estimate::ImuSample;

/// Bounds beyond which a number cannot come from a small flying vehicle.
mod plausible {
    /// m.
    pub const POSITION: f64 = 1e4;
    /// m/s.
    pub const VELOCITY: f64 = 100.0;
    /// rad/s.
    pub const RATES: f64 = 150.0;
    /// m/s².
    pub const ACCELERATION: f64 = 500.0;
    /// Deviation of a quaternion's norm from one.
    pub const NORM: f64 = 0.1;
}

/// Why something in a message was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// NaN or infinite.
    #[error("not finite")]
    NotFinite,
    /// Beyond what is physically sensible.
    #[error("beyond what is physically sensible")]
    Implausible,
}

/// Standard deviations used where a message carries no covariance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviations {
    /// m.
    pub position: f64,
    /// rad.
    pub orientation: f64,
    /// m/s.
    pub velocity: f64,
    /// rad/s.
    pub rates: f64,
}

/// Who measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `vehicle/odometry`.
    Odometry,
    /// `mocap/pose`.
    Mocap,
}

/// One block of three numbers and its covariance, in the axes in which the filter uses it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<T> {
    /// The value.
    pub value: T,
    /// Covariance by which it is weighed: position in world axes, the others in body axes.
    pub covariance: Matrix3<f64>,
    /// What a gate allows beyond that.
    pub allowed: Matrix3<f64>,
}

impl<T> Block<T> {
    /// A value of which nothing is said beyond its covariance.
    pub fn new(value: T, covariance: Matrix3<f64>) -> Self {
        Self { value, covariance, allowed: Matrix3::zeros() }
    }
}

/// A pose, and what else was measured with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// When it was taken.
    pub stamp: Time,
    /// By whom.
    pub source: Source,
    /// World, m.
    pub position: Block<Vector3<f64>>,
    /// Body to world.
    pub orientation: Block<UnitQuaternion<f64>>,
    /// Body axes, m/s.
    pub velocity: Option<Block<Vector3<f64>>>,
    /// Body axes, rad/s; one variance.
    pub rates: Option<(Vector3<f64>, f64)>,
}

/// Whether a message's own covariance is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CovarianceFrom {
    /// From the message where it has one, else from the parameters.
    Message,
    /// From the parameters.
    Parameters,
}

impl Measurement {
    /// Covariances of position, orientation and velocity; zero where not measured.
    pub fn covariances(&self) -> [Matrix3<f64>; 3] {
        let velocity = self.velocity.map_or_else(Matrix3::zeros, |block| block.covariance);
        [self.position.covariance, self.orientation.covariance, velocity]
    }

    /// Others.
    pub fn set_covariances(&mut self, [position, orientation, velocity]: &[Matrix3<f64>; 3]) {
        self.position.covariance = *position;
        self.orientation.covariance = *orientation;
        if let Some(block) = &mut self.velocity {
            block.covariance = *velocity;
        }
    }

    /// What gates allow beyond the covariances.
    pub fn allow(&mut self, [position, orientation, velocity]: &[Matrix3<f64>; 3]) {
        self.position.allowed = *position;
        self.orientation.allowed = *orientation;
        if let Some(block) = &mut self.velocity {
            block.allowed = *velocity;
        }
    }

    /// From odometry whose twist is in the body frame (REP 105). A twist with a number that makes no sense is left
    /// out (second result), a pose with one refuses the message.
    pub fn from_odometry(
        message: &nav_msgs::Odometry,
        deviations: &Deviations,
        from: CovarianceFrom,
    ) -> Result<(Self, Option<Unusable>), Unusable> {
        let pose = &message.pose.covariance;
        let twist = &message.twist.covariance;
        let block = |all: &[f64; 36], at: usize, deviation: f64| match from {
            CovarianceFrom::Message => covariance(all, at, deviation),
            CovarianceFrom::Parameters => Matrix3::identity() * deviation * deviation,
        };
        let orientation = quaternion(&message.pose.pose.orientation)?;
        // ROS states the covariance of an orientation about the world's fixed axes.
        let rotation = orientation.to_rotation_matrix().into_inner();
        let angular = rotation.transpose() * block(pose, 3, deviations.orientation) * rotation;
        let mut left_out = None;
        let mut optional = |v: &geometry_msgs::Vector3, bound: f64| match vector(&v.to_array(), bound) {
            Ok(v) => Some(v),
            Err(reason) => {
                left_out = Some(reason);
                None
            }
        };
        let velocity = optional(&message.twist.twist.linear, plausible::VELOCITY)
            .map(|value| Block::new(value, block(twist, 0, deviations.velocity)));
        let rates = optional(&message.twist.twist.angular, plausible::RATES)
            .map(|value| (value, block(twist, 3, deviations.rates).trace() / 3.0));
        let measurement = Self {
            stamp: Time::from(&message.header.stamp),
            source: Source::Odometry,
            position: Block::new(
                vector(&message.pose.pose.position.to_array(), plausible::POSITION)?,
                block(pose, 0, deviations.position),
            ),
            orientation: Block::new(orientation, angular),
            velocity,
            rates,
        };
        Ok((measurement, left_out))
    }

    /// From a motion capture pose.
    pub fn from_pose(
        message: &geometry_msgs::PoseStamped,
        deviations: &Deviations,
    ) -> Result<Self, Unusable> {
        let diagonal = |deviation: f64| Matrix3::identity() * deviation * deviation;
        Ok(Self {
            stamp: Time::from(&message.header.stamp),
            source: Source::Mocap,
            position: Block::new(
                vector(&message.pose.position.to_array(), plausible::POSITION)?,
                diagonal(deviations.position),
            ),
            orientation: Block::new(quaternion(&message.pose.orientation)?, diagonal(deviations.orientation)),
            velocity: None,
            rates: None,
        })
    }
}

/// A sample of the inertial sensors.
pub fn imu(message: &sensor_msgs::Imu) -> Result<ImuSample, Unusable> {
    Ok(ImuSample {
        stamp: Time::from(&message.header.stamp),
        acceleration: vector(&message.linear_acceleration.to_array(), plausible::ACCELERATION)?,
        rates: vector(&message.angular_velocity.to_array(), plausible::RATES)?,
    })
}

fn vector(values: &[f64; 3], bound: f64) -> Result<Vector3<f64>, Unusable> {
    if values.iter().any(|v| !v.is_finite()) {
        Err(Unusable::NotFinite)
    } else if values.iter().any(|v| v.abs() > bound) {
        Err(Unusable::Implausible)
    } else {
        Ok(Vector3::from(*values))
    }
}

fn quaternion(q: &geometry_msgs::Quaternion) -> Result<UnitQuaternion<f64>, Unusable> {
    let raw = Quaternion::new(q.w, q.x, q.y, q.z);
    let norm = raw.norm();
    if !norm.is_finite() {
        Err(Unusable::NotFinite)
    } else if (norm - 1.0).abs() > plausible::NORM {
        Err(Unusable::Implausible)
    } else {
        Ok(UnitQuaternion::new_normalize(raw))
    }
}

/// The 3 × 3 block of a message's 6 × 6 covariance at `at`, or the default where the message has none that is usable.
/// Deviations below a millimetre (or milliradian) are taken as such: no sensor is better, and a filter that believes
/// one is, no longer listens to its neighbours.
fn covariance(all: &[f64; 36], at: usize, deviation: f64) -> Matrix3<f64> {
    const FLOOR: f64 = 1e-6;
    let block = Matrix3::from_fn(|r, c| {
        let (upper, lower) = (all[(at + r) * 6 + at + c], all[(at + c) * 6 + at + r]);
        0.5 * (upper + lower)
    });
    let sensible = block.iter().all(|v| v.is_finite() && v.abs() < 1e6)
        && (0..3).all(|i| block[(i, i)] > 0.0)
        && block.cholesky().is_some();
    if sensible { block + Matrix3::identity() * FLOOR } else { Matrix3::identity() * deviation * deviation }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVIATIONS: Deviations = Deviations { position: 0.1, orientation: 0.2, velocity: 0.3, rates: 0.4 };

    fn message() -> nav_msgs::Odometry {
        let mut message = nav_msgs::Odometry::default();
        message.pose.pose.orientation.w = 1.0;
        message
    }

    #[test]
    fn a_message_without_covariance_gets_the_default() {
        let (m, left_out) =
            Measurement::from_odometry(&message(), &DEVIATIONS, CovarianceFrom::Message).unwrap();
        assert_eq!(left_out, None);
        assert!((m.position.covariance[(0, 0)] - 0.01).abs() < 1e-12);
        assert!((m.rates.unwrap().1 - 0.16).abs() < 1e-12);
    }

    #[test]
    fn orientation_covariance_is_turned_into_body_axes() {
        let mut message = message();
        // Yaw by 90°: the world's x is the body's -y.
        let half = std::f64::consts::FRAC_1_SQRT_2;
        message.pose.pose.orientation = geometry_msgs::Quaternion { w: half, x: 0.0, y: 0.0, z: half };
        for (i, variance) in [1.0, 1.0, 1.0, 0.04, 0.01, 0.09].into_iter().enumerate() {
            message.pose.covariance[i * 7] = variance;
        }
        let (m, _) = Measurement::from_odometry(&message, &DEVIATIONS, CovarianceFrom::Message).unwrap();
        let diagonal = m.orientation.covariance.diagonal();
        assert!((diagonal - Vector3::new(0.01, 0.04, 0.09)).norm() < 1e-5, "{diagonal}");
    }

    #[test]
    fn a_bad_twist_is_left_out_and_a_bad_pose_refuses_the_message() {
        let mut bad = message();
        bad.twist.twist.linear.x = f64::NAN;
        let (m, left_out) = Measurement::from_odometry(&bad, &DEVIATIONS, CovarianceFrom::Message).unwrap();
        assert_eq!((m.velocity, left_out), (None, Some(Unusable::NotFinite)));
        bad.pose.pose.position.y = 1e9;
        let refused = Measurement::from_odometry(&bad, &DEVIATIONS, CovarianceFrom::Message);
        assert_eq!(refused.unwrap_err(), Unusable::Implausible);
        bad.pose.pose.orientation.w = 0.0;
        let refused = Measurement::from_odometry(&bad, &DEVIATIONS, CovarianceFrom::Message);
        assert_eq!(refused.unwrap_err(), Unusable::Implausible);
    }
}
