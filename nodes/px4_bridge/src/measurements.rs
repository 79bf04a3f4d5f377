//! PX4's measurements as ROS's: world ENU, body FLU. Stamps are left to the caller, who knows the clocks.

use nalgebra::{Matrix3, Vector3};
use spikewing_msgs::{geometry_msgs, nav_msgs::Odometry, px4_msgs, sensor_msgs::Imu};

use crate::frames;

/// Why a measurement cannot be used.
pub const NOT_FINITE: &str = "a number is not finite or the quaternion is none";

/// PX4's state estimate, with its covariances, at `position` (NED, of our origin). An error says why it cannot be used.
pub fn odometry(m: &px4_msgs::VehicleOdometry, position: &Vector3<f64>) -> Result<Odometry, &'static str> {
    use px4_msgs::VehicleOdometry as O;
    let (Some(velocity), Some(rates), Some(q)) =
        (frames::finite(&m.velocity), frames::finite(&m.angular_velocity), frames::quaternion_from_px4(&m.q))
    else {
        return Err(NOT_FINITE);
    };
    if m.pose_frame != O::POSE_FRAME_NED {
        return Err("the pose is not in NED (pose_frame 1)");
    }
    let orientation = frames::orientation(&q);
    let velocity_body = match m.velocity_frame {
        O::VELOCITY_FRAME_NED => orientation.inverse_transform_vector(&frames::world(&velocity)),
        O::VELOCITY_FRAME_BODY_FRD => frames::body(&velocity),
        _ => return Err("the velocity is neither in NED (1) nor body FRD (3)"),
    };
    let position = frames::world(position);
    let mut message = Odometry::default();
    message.header.frame_id = "map".into();
    message.child_frame_id = "base_link".into();
    message.pose.pose.position = geometry_msgs::Point::new(position.x, position.y, position.z);
    message.pose.pose.orientation =
        geometry_msgs::Quaternion { x: orientation.i, y: orientation.j, z: orientation.k, w: orientation.w };
    let rates = frames::body(&rates);
    message.twist.twist.linear =
        geometry_msgs::Vector3::new(velocity_body.x, velocity_body.y, velocity_body.z);
    message.twist.twist.angular = geometry_msgs::Vector3::new(rates.x, rates.y, rates.z);
    let variance = |v: &[f32; 3]| v.map(|x| if x.is_finite() && x >= 0.0 { f64::from(x) } else { 0.0 });
    let [n, e, d] = variance(&m.position_variance);
    put(&mut message.pose.covariance, 0, &diagonal([e, n, d]));
    // PX4 gives the attitude's variance about the body's axes; ROS wants it about the world's. The sign of an axis
    // does not matter to a variance, so FRD is as good as FLU.
    let turn: Matrix3<f64> = orientation.to_rotation_matrix().into_inner();
    let about_body = diagonal(variance(&m.orientation_variance));
    put(&mut message.pose.covariance, 3, &(turn * about_body * turn.transpose()));
    // The velocity's variance is in the velocity's frame; ROS wants it in the body's.
    let in_frame = variance(&m.velocity_variance);
    let in_body = match m.velocity_frame {
        O::VELOCITY_FRAME_NED => {
            let [n, e, d] = in_frame;
            turn.transpose() * diagonal([e, n, d]) * turn
        }
        _ => diagonal(in_frame),
    };
    put(&mut message.twist.covariance, 0, &in_body);
    Ok(message)
}

/// A sample of gyro and accelerometer. An error says why it cannot be used.
pub fn imu(m: &px4_msgs::SensorCombined) -> Result<Imu, &'static str> {
    let (Some(gyro), Some(force)) = (frames::finite(&m.gyro_rad), frames::finite(&m.accelerometer_m_s2))
    else {
        return Err("a number is not finite");
    };
    let (gyro, force) = (frames::body(&gyro), frames::body(&force));
    let mut message = Imu::default();
    message.header.frame_id = "base_link".into();
    // Not measured by a gyro and an accelerometer.
    message.orientation_covariance[0] = -1.0;
    message.angular_velocity = geometry_msgs::Vector3::new(gyro.x, gyro.y, gyro.z);
    message.linear_acceleration = geometry_msgs::Vector3::new(force.x, force.y, force.z);
    Ok(message)
}

fn diagonal(variances: [f64; 3]) -> Matrix3<f64> {
    Matrix3::from_diagonal(&Vector3::from(variances))
}

/// Puts a 3 × 3 block on the diagonal of a 6 × 6 covariance, which is row-major.
fn put(covariance: &mut [f64; 36], at: usize, block: &Matrix3<f64>) {
    for i in 0..3 {
        for j in 0..3 {
            covariance[6 * (at + i) + at + j] = block[(i, j)];
        }
    }
}
