//! Between ROS (world ENU, body FLU) and PX4 (world NED, body FRD). The only place where PX4's frames are known.

use nalgebra::{Quaternion, UnitQuaternion, Vector3};

/// A vector between world ENU and world NED; its own inverse.
pub fn world(v: &Vector3<f64>) -> Vector3<f64> {
    Vector3::new(v.y, v.x, -v.z)
}

/// A vector between body FLU and body FRD; its own inverse.
pub fn body(v: &Vector3<f64>) -> Vector3<f64> {
    Vector3::new(v.x, -v.y, -v.z)
}

/// An orientation between (FLU to ENU) and (FRD to NED); its own inverse up to sign.
pub fn orientation(q: &UnitQuaternion<f64>) -> UnitQuaternion<f64> {
    // Half a turn about (1, 1, 0)/√2 takes ENU to NED; half a turn about x takes FLU to FRD.
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let world = UnitQuaternion::new_unchecked(Quaternion::new(0.0, half, half, 0.0));
    let body = UnitQuaternion::new_unchecked(Quaternion::new(0.0, 1.0, 0.0, 0.0));
    world * q * body
}

/// Place in PX4's motor order of each of our motors (front right, rear right, rear left, front left). PX4's x500: front
/// right, rear left, front left, rear right.
pub const PX4_MOTOR: [usize; 4] = [0, 3, 1, 2];

/// Motor commands [−1, 1] in our order to PX4's controls [0, 1] in PX4's order; NaN beyond the fourth.
pub fn motors_to_px4(motors: &[f32; 4]) -> [f32; 12] {
    let mut control = [f32::NAN; 12];
    for (ours, theirs) in PX4_MOTOR.into_iter().enumerate() {
        control[theirs] = ((motors[ours] + 1.0) / 2.0).clamp(0.0, 1.0);
    }
    control
}

/// Collective throttle [0, 1] of PX4's controls: their mean over the motors that there are.
pub fn throttle(control: &[f32; 12]) -> f32 {
    let (sum, count) =
        control.iter().filter(|u| u.is_finite()).fold((0.0, 0.0), |(sum, count), u| (sum + u, count + 1.0));
    if count > 0.0 { (sum / count).clamp(0.0, 1.0) } else { 0.0 }
}

/// PX4's controls to our motor commands. A control that is NaN or negative stops its motor, as PX4 does: idle.
pub fn motors_from_px4(control: &[f32; 12]) -> [f32; 4] {
    PX4_MOTOR.map(|theirs| {
        let u = control[theirs];
        if u.is_finite() && u >= 0.0 { (2.0 * u - 1.0).min(1.0) } else { -1.0 }
    })
}

/// A unit quaternion from PX4's (w, x, y, z); `None` when it is none.
pub fn quaternion_from_px4(q: &[f32; 4]) -> Option<UnitQuaternion<f64>> {
    let [w, x, y, z] = q.map(f64::from);
    let q = Quaternion::new(w, x, y, z);
    let norm = q.norm();
    (norm.is_finite() && (norm - 1.0).abs() < 0.1).then(|| UnitQuaternion::new_normalize(q))
}

/// PX4's (w, x, y, z).
pub fn quaternion_to_px4(q: &UnitQuaternion<f64>) -> [f32; 4] {
    [q.w as f32, q.i as f32, q.j as f32, q.k as f32]
}

/// Three numbers as f64, if all are finite.
pub fn finite(v: &[f32; 3]) -> Option<Vector3<f64>> {
    v.iter().all(|x| x.is_finite()).then(|| Vector3::from(v.map(f64::from)))
}

/// As f32 for the wire.
pub fn to_f32(v: &Vector3<f64>) -> [f32; 3] {
    [v.x as f32, v.y as f32, v.z as f32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_attitudes() {
        // Level, nose to the north: ENU yaw 90°, NED identity.
        let north = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
        assert!(orientation(&north).angle_to(&UnitQuaternion::identity()) < 1e-12);
        // Level, nose to the east: ENU identity, NED yaw 90°.
        let east = orientation(&UnitQuaternion::identity());
        let yaw = UnitQuaternion::from_euler_angles(0.0, 0.0, std::f64::consts::FRAC_PI_2);
        assert!(east.angle_to(&yaw) < 1e-12);
        // Nose up is a positive pitch in FRD, a negative one in FLU.
        let up = north * UnitQuaternion::from_euler_angles(0.0, -0.3, 0.0);
        let (roll, pitch, _) = orientation(&up).euler_angles();
        assert!(roll.abs() < 1e-12 && (pitch - 0.3).abs() < 1e-12);
    }

    #[test]
    fn motors_land_in_px4s_order() {
        let control = motors_to_px4(&[-1.0, -0.5, 0.0, 1.0]);
        // front right, rear left, front left, rear right
        assert_eq!(control[..4], [0.0, 0.5, 1.0, 0.25]);
        assert!(control[4..].iter().all(|u| u.is_nan()));
        assert_eq!(motors_from_px4(&[f32::NAN; 12]), [-1.0; 4]);
        assert_eq!(motors_from_px4(&[-0.5; 12]), [-1.0; 4]);
    }

    fn unit() -> impl Strategy<Value = UnitQuaternion<f64>> {
        prop::array::uniform3(-3.0_f64..3.0).prop_map(|v| UnitQuaternion::from_scaled_axis(v.into()))
    }

    proptest! {
        #[test]
        fn there_and_back(v in prop::array::uniform3(-9.0_f64..9.0), q in unit(), m in prop::array::uniform4(-1.0_f32..1.0)) {
            let v = Vector3::from(v);
            prop_assert!((world(&world(&v)) - v).norm() < 1e-12);
            prop_assert!((body(&body(&v)) - v).norm() < 1e-12);
            prop_assert!(orientation(&orientation(&q)).angle_to(&q) < 1e-9);
            let back = motors_from_px4(&motors_to_px4(&m));
            for i in 0..4 {
                prop_assert!((back[i] - m[i]).abs() < 1e-6);
            }
        }

        /// Rotating in one world and converting is converting and rotating in the other.
        #[test]
        fn conversions_commute_with_rotation(v in prop::array::uniform3(-9.0_f64..9.0), q in unit()) {
            let v = Vector3::from(v);
            let one = world(&(q * v));
            let other = orientation(&q) * body(&v);
            prop_assert!((one - other).norm() < 1e-9);
        }
    }
}
