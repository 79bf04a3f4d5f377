//! A vehicle's constants in the form in which the equations of motion want them.

use nalgebra::Matrix3;

use crate::{
    lanes::zip,
    vehicle::{ROTORS, Vehicle},
};

/// Numbers in a [`Model`].
pub const MODEL: usize = 100;

/// A vehicle's constants, as the equations want them.
#[derive(Clone, Copy, Debug)]
pub struct Model<R> {
    /// Mass and its reciprocal.
    pub mass: [R; 2],
    pub gravity: R,
    pub inertia: [R; 3],
    pub inertia_inverse: [R; 3],
    /// Torque about x, y, z for a unit of each motor's thrust.
    pub torque_of_thrust: [[R; 3]; ROTORS],
    /// Of each motor.
    pub thrust_curve: [[R; 3]; ROTORS],
    /// Rising time constant and its reciprocal, then falling; infinite and 0 where there is no lag.
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
    // What follows only the general form reads.
    /// Elements xy, xz, yz of the inertia.
    pub inertia_off_diagonal: [R; 3],
    /// … and of its inverse.
    pub inverse_off_diagonal: [R; 3],
    /// Force along x, y, z for a unit of each motor's thrust.
    pub force_of_thrust: [[R; 3]; ROTORS],
    /// Where each motor's rotor drag acts.
    pub place: [[R; 3]; ROTORS],
    /// Rotor drag of the motors together per unit of a state: of each motor, N/(m/s).
    pub rotor_drag: R,
    /// 1 where a motor follows at once: rising, falling.
    pub at_once: [R; 2],
}

impl<R: Copy> Model<R> {
    /// Number `i` from `number(i)`, in the order of the fields.
    #[inline(always)]
    pub fn from_fn(mut number: impl FnMut(usize) -> R) -> Self {
        /// Three numbers from `at`; a macro, because what is not inlined is slow here (see `lanes::array`).
        macro_rules! three {
            ($at:expr) => {
                [number($at), number($at + 1), number($at + 2)]
            };
        }
        macro_rules! each_motor {
            ($at:expr) => {
                [three!($at), three!($at + 3), three!($at + 6), three!($at + 9)]
            };
        }
        Self {
            mass: [number(0), number(1)],
            gravity: number(2),
            inertia: three!(3),
            inertia_inverse: three!(6),
            torque_of_thrust: each_motor!(9),
            thrust_curve: each_motor!(21),
            lag: [number(33), number(34), number(35), number(36)],
            rotor: three!(37),
            drag_linear: three!(40),
            drag_quadratic: three!(43),
            drag_angular: three!(46),
            angular_of_thrust: each_motor!(49),
            gyroscopic: three!(61),
            angular_damping: three!(64),
            inertia_off_diagonal: three!(67),
            inverse_off_diagonal: three!(70),
            force_of_thrust: each_motor!(73),
            place: each_motor!(85),
            rotor_drag: number(97),
            at_once: [number(98), number(99)],
        }
    }
}

impl Model<f64> {
    /// The constants of a vehicle.
    pub fn of(vehicle: &Vehicle) -> Self {
        let lag = vehicle.motor_time_constant_s;
        let or_never = |lag: f64| if lag > 0.0 { lag } else { f64::INFINITY };
        let at_once = [lag.rising, lag.falling].map(|lag| if lag > 0.0 { 0.0 } else { 1.0 });
        let (rising, falling) = (or_never(lag.rising), or_never(lag.falling));
        let [low, high] = vehicle.rotor_range;
        let [jx, jy, jz] = vehicle.inertia_kg_m2;
        let (mut inverse, mut inverse_off_diagonal) = (vehicle.inverse_inertia(), [0.0; 3]);
        if vehicle.inertia_off_diagonal_kg_m2 != [0.0; 3] {
            let m = vehicle.inertia_matrix().try_inverse().unwrap_or_else(Matrix3::zeros);
            inverse = [m[(0, 0)], m[(1, 1)], m[(2, 2)]];
            inverse_off_diagonal = [m[(0, 1)], m[(0, 2)], m[(1, 2)]];
        }
        let motors = vehicle.motors();
        // A motor of four is a rotor, with its own factor; one that stands for several lifts with all of them.
        let four = vehicle.rotors.len() == ROTORS;
        let gain: [f64; ROTORS] = std::array::from_fn(|i| match vehicle.rotors.get(i) {
            Some(rotor) if four => rotor.thrust_factor,
            _ => motors[i].force[2].max(f64::MIN_POSITIVE),
        });
        let per_gain = |i: usize, effect: [f64; 3]| if four { effect } else { effect.map(|e| e / gain[i]) };
        let torque_of_thrust: [[f64; 3]; ROTORS] = std::array::from_fn(|i| per_gain(i, motors[i].torque_m));
        Self {
            mass: [vehicle.mass_kg, 1.0 / vehicle.mass_kg],
            gravity: vehicle.gravity_m_s2,
            inertia: vehicle.inertia_kg_m2,
            inertia_inverse: inverse,
            torque_of_thrust,
            thrust_curve: gain.map(|gain| vehicle.thrust_curve.map(|c| c * gain)),
            lag: [rising, 1.0 / rising, falling, 1.0 / falling],
            rotor: [low, high, high - low],
            drag_linear: vehicle.drag_linear,
            drag_quadratic: vehicle.drag_quadratic,
            drag_angular: vehicle.drag_angular,
            angular_of_thrust: torque_of_thrust.map(|arm| zip!(inverse, arm, |a, b| a * b)),
            gyroscopic: zip!(inverse, [jz - jy, jx - jz, jy - jx], |a, b| a * b),
            angular_damping: zip!(inverse, vehicle.drag_angular, |a, b| a * b),
            inertia_off_diagonal: vehicle.inertia_off_diagonal_kg_m2,
            inverse_off_diagonal,
            force_of_thrust: std::array::from_fn(|i| per_gain(i, motors[i].force)),
            place: motors.map(|motor| motor.place_m),
            rotor_drag: vehicle.rotor_drag_n_s_m * vehicle.rotors.len() as f64 / ROTORS as f64,
            at_once,
        }
    }

    /// All numbers, in the order of the fields.
    pub fn numbers(&self) -> [f64; MODEL] {
        let mut all = [0.0; MODEL];
        let fields: [&[f64]; 20] = [
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
            &self.inertia_off_diagonal,
            &self.inverse_off_diagonal,
            self.force_of_thrust.as_flattened(),
            self.place.as_flattened(),
            &[self.rotor_drag],
            &self.at_once,
        ];
        all.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        all
    }
}

/// How much of the physics a vehicle needs; the equations are compiled once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Upright rotors, a diagonal inertia, no air.
    Plain,
    /// Drag of the body as well.
    Drag,
    /// Everything: tilted rotors, a full inertia, rotor drag, motors without lag.
    General,
}

/// [`Form`]s as constants of the equations.
pub const PLAIN: u8 = 0;
pub const DRAG: u8 = 1;
pub const GENERAL: u8 = 2;

impl Form {
    /// What a vehicle needs.
    pub fn of(vehicle: &Vehicle) -> Self {
        let lag = vehicle.motor_time_constant_s;
        let upright = vehicle.rotors.iter().all(|rotor| rotor.axis == [0.0, 0.0, 1.0]);
        let diagonal = vehicle.inertia_off_diagonal_kg_m2 == [0.0; 3];
        if !upright || !diagonal || vehicle.rotor_drag_n_s_m != 0.0 || lag.rising.min(lag.falling) <= 0.0 {
            return Self::General;
        }
        let air = [vehicle.drag_linear, vehicle.drag_quadratic, vehicle.drag_angular] != [[0.0; 3]; 3];
        if air { Self::Drag } else { Self::Plain }
    }
}
