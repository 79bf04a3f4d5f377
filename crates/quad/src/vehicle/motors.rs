//! The four motors that a policy commands, on a vehicle of four to eight rotors.
//!
//! A vehicle of four rotors is commanded rotor by rotor. With n > 4 the four motors are those of a virtual quadrotor, which a
//! mixer maps to the rotors: with F the motors' thrusts and f the rotors',
//!
//! f = M F,  M_ij = ¼ (h_i + x_j s_x X_i + y_j s_y Y_i + z_j s_z Z_i),
//!
//! where h, X, Y, Z are the least-squares thrusts (columns of the pseudo-inverse of the rotors' effect) for lift n and for
//! torques about x, y and z, each torque's largest thrust made 1; x_j, y_j, z_j are the signs of motor j's torques in
//! a quadrotor. s is the largest common factor up to 1 for which no element of M is negative: then every rotor's thrust lies
//! between the motors' least and largest times h_i, and no combination of commands saturates a rotor.
//!
//! The equations fly the four motors with the lag of a rotor. For a straight thrust curve that is exact; for a curved one
//! the rotors' lags act on √thrust, and a transient differs in second order (`tests/mixer.rs` measures it).

use nalgebra::{DMatrix, Vector3};

use super::{ROTORS, Vehicle};

/// Largest number of rotors.
pub const MAX_ROTORS: usize = 8;

/// Signs of the torques of a quadrotor's motors about x, y and z: front right, rear right, rear left, front left.
const SIGNS: [[f64; 3]; ROTORS] = [[-1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0]];

/// What a unit of thrust of one motor does to the body, about the centre of mass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motor {
    /// Force in body axes, N/N.
    pub force: [f64; 3],
    /// Torque in body axes, N m/N.
    pub torque_m: [f64; 3],
    /// Rotors that it stands for: 1 with four of them.
    pub rotors: f64,
    /// Where its force acts, m.
    pub place_m: [f64; 3],
}

/// From the commands of four motors to those of a vehicle's rotors.
#[derive(Clone, Debug)]
pub struct Mixer {
    vehicle: Vehicle,
    /// A row for each rotor.
    thrust: Vec<[f64; ROTORS]>,
}

impl Vehicle {
    /// The four motors that a policy commands. `thrust_factor`s count.
    pub fn motors(&self) -> [Motor; ROTORS] {
        let effects: Vec<Motor> = self.rotors.iter().map(|rotor| self.effect(rotor)).collect();
        if let Ok(one_to_one) = <[Motor; ROTORS]>::try_from(effects.as_slice()) {
            return one_to_one;
        }
        let mix = self.mix();
        std::array::from_fn(|motor| {
            let shares = || mix.iter().map(move |row| row[motor]).zip(&effects).zip(&self.rotors);
            let sum = |of: fn(&Motor) -> [f64; 3], thrust: bool| {
                shares().fold(Vector3::zeros(), |sum, ((share, effect), rotor)| {
                    let factor = if thrust { rotor.thrust_factor } else { 1.0 };
                    sum + Vector3::from(of(effect)) * (share * factor)
                })
            };
            let rotors: f64 = shares().map(|((share, _), _)| share).sum();
            Motor {
                force: sum(|m| m.force, true).into(),
                torque_m: sum(|m| m.torque_m, true).into(),
                rotors,
                place_m: (sum(|m| m.place_m, false) / rotors).into(),
            }
        })
    }

    /// What a rotor's thrust does, without its own factor.
    fn effect(&self, rotor: &super::Rotor) -> Motor {
        let place = self.arm_m(rotor);
        let torque = if rotor.axis == [0.0, 0.0, 1.0] {
            // Written out, so that a quadrotor's numbers are those of the reference simulators to the last bit.
            [place.y, -place.x, rotor.spin * self.torque_constant_m]
        } else {
            let axis = Vector3::from(rotor.axis);
            (place.cross(&axis) + axis * (rotor.spin * self.torque_constant_m)).into()
        };
        Motor { force: rotor.axis, torque_m: torque, rotors: 1.0, place_m: place.into() }
    }

    /// Lift and torques about x, y and z (rows) of a unit of each rotor's thrust.
    pub(super) fn effectiveness(&self) -> DMatrix<f64> {
        DMatrix::from_fn(4, self.rotors.len(), |row, rotor| {
            let effect = self.effect(&self.rotors[rotor]);
            if row == 0 { effect.force[2] } else { effect.torque_m[row - 1] }
        })
    }

    /// Thrusts of the rotors for a lift of their number and no torque, then for a torque about x, y and z of which the rotor
    /// that does most gives 1.
    pub(super) fn allocation(&self) -> Option<DMatrix<f64>> {
        let mut columns = self.effectiveness().pseudo_inverse(1e-9).ok()?;
        let lift = self.rotors.len() as f64;
        columns.column_mut(0).scale_mut(lift);
        for mut torque in columns.column_iter_mut().skip(1) {
            let most = torque.amax();
            if most > 0.0 {
                torque.scale_mut(1.0 / most);
            }
        }
        Some(columns)
    }

    fn mix(&self) -> Vec<[f64; ROTORS]> {
        let count = self.rotors.len();
        let Some(columns) = self.allocation() else { return vec![[0.25; ROTORS]; count] };
        let turn = |rotor: usize, motor: usize| -> f64 {
            (0..3).map(|axis| SIGNS[motor][axis] * columns[(rotor, 1 + axis)]).sum()
        };
        let pairs = || (0..count).flat_map(|rotor| (0..ROTORS).map(move |motor| (rotor, motor)));
        let scale = pairs().fold(1.0_f64, |scale, (rotor, motor)| {
            let turn = turn(rotor, motor);
            if turn < 0.0 { scale.min((columns[(rotor, 0)] / -turn).max(0.0)) } else { scale }
        });
        (0..count)
            .map(|rotor| {
                std::array::from_fn(|motor| 0.25 * (columns[(rotor, 0)] + scale * turn(rotor, motor)))
            })
            .collect()
    }
}

impl Mixer {
    /// The mixer of a vehicle: for four rotors each motor is its rotor.
    pub fn of(vehicle: &Vehicle) -> Self {
        let one_to_one = vehicle.rotors.len() == ROTORS;
        let identity = |rotor: usize| std::array::from_fn(|motor| f64::from(u8::from(rotor == motor)));
        let thrust = if one_to_one { (0..ROTORS).map(identity).collect() } else { vehicle.mix() };
        Self { vehicle: vehicle.clone(), thrust }
    }

    /// Rotors that are commanded.
    pub fn rotors(&self) -> usize {
        self.thrust.len()
    }

    /// Thrust of each rotor (rows) for a unit of each motor's.
    pub fn thrust(&self) -> &[[f64; ROTORS]] {
        &self.thrust
    }

    /// Commands of the rotors in [−1, 1], in the file's order, for commands of the motors; beyond the vehicle's number of
    /// rotors they are idle. Allocates nothing.
    pub fn commands(&self, motors: &[f64; ROTORS]) -> [f64; MAX_ROTORS] {
        let mut all = [-1.0; MAX_ROTORS];
        if self.thrust.len() == ROTORS {
            all[..ROTORS].copy_from_slice(&motors.map(|m| m.clamp(-1.0, 1.0)));
            return all;
        }
        let v = &self.vehicle;
        let thrusts = motors.map(|m| v.thrust_n(v.rotor_of_action(m)));
        for (command, row) in all.iter_mut().zip(&self.thrust) {
            let thrust: f64 = row.iter().zip(thrusts).map(|(share, thrust)| share * thrust).sum();
            *command = v.action_of_rotor(v.rotor_for_thrust(thrust));
        }
        all
    }
}
