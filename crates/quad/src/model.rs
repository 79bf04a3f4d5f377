//! A vehicle's constants in the form in which the equations of motion want them.

use crate::{
    lanes::zip,
    vehicle::{ROTORS, Vehicle},
};

/// Numbers in a [`Model`].
pub const MODEL: usize = 67;

/// A vehicle's constants, as the equations want them.
#[derive(Clone, Copy, Debug)]
pub struct Model<R> {
    /// Mass and its reciprocal.
    pub mass: [R; 2],
    pub gravity: R,
    pub inertia: [R; 3],
    pub inertia_inverse: [R; 3],
    /// Torque about x, y, z for a unit of each rotor's thrust.
    pub torque_of_thrust: [[R; 3]; ROTORS],
    /// Of each rotor.
    pub thrust_curve: [[R; 3]; ROTORS],
    /// Rising time constant and its reciprocal, then falling.
    pub lag: [R; 4],
    /// Rotor state at action −1, at action 1, and the difference.
    pub rotor: [R; 3],
    pub drag_linear: [R; 3],
    pub drag_quadratic: [R; 3],
    pub drag_angular: [R; 3],
    /// J⁻¹ times `torque_of_thrust`.
    pub angular_of_thrust: [[R; 3]; ROTORS],
    /// J⁻¹ (J_z − J_y, J_x − J_z, J_y − J_x).
    pub gyroscopic: [R; 3],
    /// J⁻¹ times `drag_angular`.
    pub angular_damping: [R; 3],
}

impl<R: Copy> Model<R> {
    /// Number `i` from `number(i)`, in the order of the fields.
    #[inline(always)]
    pub fn from_fn(mut number: impl FnMut(usize) -> R) -> Self {
        Self {
            mass: [number(0), number(1)],
            gravity: number(2),
            inertia: [number(3), number(4), number(5)],
            inertia_inverse: [number(6), number(7), number(8)],
            torque_of_thrust: [
                [number(9), number(10), number(11)],
                [number(12), number(13), number(14)],
                [number(15), number(16), number(17)],
                [number(18), number(19), number(20)],
            ],
            thrust_curve: [
                [number(21), number(22), number(23)],
                [number(24), number(25), number(26)],
                [number(27), number(28), number(29)],
                [number(30), number(31), number(32)],
            ],
            lag: [number(33), number(34), number(35), number(36)],
            rotor: [number(37), number(38), number(39)],
            drag_linear: [number(40), number(41), number(42)],
            drag_quadratic: [number(43), number(44), number(45)],
            drag_angular: [number(46), number(47), number(48)],
            angular_of_thrust: [
                [number(49), number(50), number(51)],
                [number(52), number(53), number(54)],
                [number(55), number(56), number(57)],
                [number(58), number(59), number(60)],
            ],
            gyroscopic: [number(61), number(62), number(63)],
            angular_damping: [number(64), number(65), number(66)],
        }
    }
}

impl Model<f64> {
    /// The constants of a vehicle.
    #[inline(always)]
    pub fn of(vehicle: &Vehicle) -> Self {
        let lag = vehicle.motor_time_constant_s;
        let [low, high] = vehicle.rotor_range;
        let ([jx, jy, jz], inverse) = (vehicle.inertia_kg_m2, vehicle.inverse_inertia());
        let torque_of_thrust = vehicle.rotors.map(|rotor| {
            let [x, y, _] = rotor.position_m;
            [y, -x, rotor.spin * vehicle.torque_constant_m]
        });
        Self {
            mass: [vehicle.mass_kg, 1.0 / vehicle.mass_kg],
            gravity: vehicle.gravity_m_s2,
            inertia: vehicle.inertia_kg_m2,
            inertia_inverse: inverse,
            torque_of_thrust,
            thrust_curve: vehicle.rotors.map(|rotor| vehicle.thrust_curve.map(|c| c * rotor.thrust_factor)),
            lag: [lag.rising, 1.0 / lag.rising, lag.falling, 1.0 / lag.falling],
            rotor: [low, high, high - low],
            drag_linear: vehicle.drag_linear,
            drag_quadratic: vehicle.drag_quadratic,
            drag_angular: vehicle.drag_angular,
            angular_of_thrust: torque_of_thrust.map(|arm| zip!(inverse, arm, |a, b| a * b)),
            gyroscopic: zip!(inverse, [jz - jy, jx - jz, jy - jx], |a, b| a * b),
            angular_damping: zip!(inverse, vehicle.drag_angular, |a, b| a * b),
        }
    }

    /// All numbers, in the order of the fields.
    pub fn numbers(&self) -> [f64; MODEL] {
        let mut all = [0.0; MODEL];
        let fields: [&[f64]; 14] = [
            &self.mass,
            &[self.gravity],
            &self.inertia,
            &self.inertia_inverse,
            self.torque_of_thrust.as_flattened(),
            self.thrust_curve.as_flattened(),
            &self.lag,
            &self.rotor,
            &self.drag_linear,
            &self.drag_quadratic,
            &self.drag_angular,
            self.angular_of_thrust.as_flattened(),
            &self.gyroscopic,
            &self.angular_damping,
        ];
        all.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        all
    }
}

/// Whether air resists.
pub fn has_drag(vehicle: &Vehicle) -> bool {
    [vehicle.drag_linear, vehicle.drag_quadratic, vehicle.drag_angular] != [[0.0; 3]; 3]
}
