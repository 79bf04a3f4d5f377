//! The estimate as messages.

use nalgebra::{Matrix3, Matrix6, SMatrix};
use spikewing_msgs::{diagnostic_msgs, geometry_msgs, nav_msgs, std_msgs::Header};

use crate::estimate::{Estimate, index};

/// Frame of the pose.
pub const WORLD_FRAME: &str = "map";
/// Frame of the twist.
pub const BODY_FRAME: &str = "base_link";

/// What is known of the estimate's error beyond the filter's own covariance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beyond {
    /// What the measurements' errors have in common: position (world axes), orientation and velocity (body axes).
    pub common: [Matrix3<f64>; 3],
    /// Doubts about position (m) and velocity (m/s), standard deviations.
    pub doubt: [f64; 2],
}

/// The estimate as odometry: pose in `map`, twist in `base_link`, covariances as ROS defines them (orientation about
/// the world's fixed axes).
pub fn odometry(estimate: &Estimate, beyond: &Beyond) -> nav_msgs::Odometry {
    let rotation = estimate.orientation.to_rotation_matrix().into_inner();
    let to_body = rotation.transpose();
    let velocity = to_body * estimate.velocity;
    let q = estimate.orientation.quaternion();

    // Pose: rows of position and of orientation turned into world axes.
    let mut pose = SMatrix::<f64, 6, 15>::zeros();
    pose.fixed_view_mut::<3, 3>(0, index::POSITION).copy_from(&Matrix3::identity());
    pose.fixed_view_mut::<3, 3>(3, index::ORIENTATION).copy_from(&rotation);
    let mut pose = pose * estimate.covariance * pose.transpose();
    let [position, orientation, linear_common] = &beyond.common;
    let doubt = |std: f64| Matrix3::identity() * (std * std);
    let mut widen = |at: usize, by: Matrix3<f64>| {
        let mut block = pose.fixed_view_mut::<3, 3>(at, at);
        block += by;
    };
    widen(0, position + doubt(beyond.doubt[0]));
    widen(3, rotation * orientation * to_body);

    let mut linear = SMatrix::<f64, 3, 15>::zeros();
    linear.fixed_view_mut::<3, 3>(0, index::VELOCITY).copy_from(&to_body);
    linear.fixed_view_mut::<3, 3>(0, index::ORIENTATION).copy_from(&velocity.cross_matrix());
    let mut twist = Matrix6::zeros();
    twist.fixed_view_mut::<3, 3>(0, 0).copy_from(
        &(linear * estimate.covariance * linear.transpose() + linear_common + doubt(beyond.doubt[1])),
    );
    twist.fixed_view_mut::<3, 3>(3, 3).copy_from(&(Matrix3::identity() * estimate.rate_variance));

    nav_msgs::Odometry {
        header: Header::new(estimate.stamp.to_msg(), WORLD_FRAME),
        child_frame_id: BODY_FRAME.to_owned(),
        pose: geometry_msgs::PoseWithCovariance {
            pose: geometry_msgs::Pose {
                position: geometry_msgs::Point::new(
                    estimate.position.x,
                    estimate.position.y,
                    estimate.position.z,
                ),
                orientation: geometry_msgs::Quaternion { x: q.i, y: q.j, z: q.k, w: q.w },
            },
            covariance: row_major(&pose),
        },
        twist: geometry_msgs::TwistWithCovariance {
            twist: geometry_msgs::Twist {
                linear: geometry_msgs::Vector3::new(velocity.x, velocity.y, velocity.z),
                angular: geometry_msgs::Vector3::new(estimate.rates.x, estimate.rates.y, estimate.rates.z),
            },
            covariance: row_major(&twist),
        },
    }
}

fn row_major(matrix: &Matrix6<f64>) -> [f64; 36] {
    let mut result = [0.0; 36];
    for (at, value) in result.iter_mut().enumerate() {
        *value = matrix[(at / 6, at % 6)];
    }
    result
}

/// One entry of a diagnostic status.
pub fn entry(key: &str, value: impl std::fmt::Display) -> diagnostic_msgs::KeyValue {
    diagnostic_msgs::KeyValue { key: key.to_owned(), value: value.to_string() }
}
