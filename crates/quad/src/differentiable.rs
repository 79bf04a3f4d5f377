//! Differentiable flight: a step, the Jacobian of it, and the adjoint of what a policy sees.
//!
//! With x = (p, q, v, ω, r) the state in the column order of the reference data and u the action, a step gives x′ = F(x, u)
//! together with ∂F/∂x and ∂F/∂u, exactly (by dual numbers through the simulator's own equations, the quaternion's
//! normalisation and the limits of actions and rotors included), and with respect to a force and a torque that act through
//! the step. [`Jacobian::pull`] is the adjoint: from ∂L/∂x′ to ∂L/∂x, ∂L/∂u and those. A loss over a flight is differentiated
//! by pulling from its last step to its first.
//!
//! At a limit (an action beyond [−1, 1], a rotor that is full) the derivative is that of the side on which the step was.

use nalgebra::Vector3;

use crate::{
    Disturbance, OBSERVATION, Reward, State, Vehicle,
    dual::{Dual, WIDTH, vectorized},
    equations::{self, Body, Held},
    lanes::array,
    model::{DRAG, Form, MODEL, Model, PLAIN},
    reward::{ActionScale, OrientationTerm},
    vehicle::ROTORS,
};

/// Numbers in a state.
pub const STATE: usize = 17;

/// Derivatives are taken with respect to q, v, ω, r, u, F, τ; a step depends on its position only by adding to it.
const VARIABLES: usize = TORQUE + 3;
/// The first of u, of F and of τ.
const ACTION: usize = STATE - 3;
const FORCE: usize = ACTION + ROTORS;
const TORQUE: usize = FORCE + 3;

const _: () = assert!(VARIABLES <= WIDTH);

/// ∂L/∂x of a state, in the column order of the reference data: p(3) q(w, x, y, z) v(3) ω(3) rotors(4).
pub type Adjoint = [f32; STATE];

/// A derivative of a loss with respect to what a step starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pulled {
    /// ∂L/∂x.
    pub state: Adjoint,
    /// ∂L/∂u.
    pub action: [f32; ROTORS],
    /// ∂L/∂F, F a force in world axes that acts through the step, N.
    pub force: [f32; 3],
    /// ∂L/∂τ, τ a torque in body axes that acts through the step, N m.
    pub torque: [f32; 3],
}

/// ∂x′/∂(q, v, ω, r, u, F, τ) of one step.
#[derive(Clone, Debug)]
pub struct Jacobian {
    rows: [[f32; WIDTH]; STATE],
}

impl Jacobian {
    /// From ∂L/∂x′ to ∂L/∂x, ∂L/∂u, ∂L/∂F and ∂L/∂τ.
    pub fn pull(&self, next: &Adjoint) -> Pulled {
        let mut sum = [0.0_f32; WIDTH];
        for (row, &weight) in self.rows.iter().zip(next) {
            for (sum, slope) in sum.iter_mut().zip(row) {
                *sum += weight * slope;
            }
        }
        Pulled {
            state: std::array::from_fn(|i| if i < 3 { next[i] } else { sum[i - 3] }),
            action: std::array::from_fn(|i| sum[ACTION + i]),
            force: std::array::from_fn(|i| sum[FORCE + i]),
            torque: std::array::from_fn(|i| sum[TORQUE + i]),
        }
    }

    /// ∂x′\[row\]/∂x\[column\].
    pub fn of_state(&self, row: usize, column: usize) -> f32 {
        match column.checked_sub(3) {
            Some(variable) => self.rows[row][variable],
            None => f32::from(u8::from(row == column)),
        }
    }

    /// ∂x′\[row\]/∂u\[motor\].
    pub fn of_action(&self, row: usize, motor: usize) -> f32 {
        self.rows[row][ACTION + motor]
    }

    /// ∂x′\[row\]/∂F\[axis\].
    pub fn of_force(&self, row: usize, axis: usize) -> f32 {
        self.rows[row][FORCE + axis]
    }

    /// ∂x′\[row\]/∂τ\[axis\].
    pub fn of_torque(&self, row: usize, axis: usize) -> f32 {
        self.rows[row][TORQUE + axis]
    }
}

/// A vehicle whose flight can be differentiated.
#[derive(Clone, Debug)]
pub struct Plant {
    model: Model<Dual>,
    form: Form,
    vehicle: Vehicle,
}

impl Plant {
    /// Of a vehicle.
    pub fn new(vehicle: &Vehicle) -> Self {
        let numbers: [f64; MODEL] = Model::of(vehicle).numbers();
        Self {
            model: Model::from_fn(|i| Dual::constant(numbers[i])),
            form: Form::of(vehicle),
            vehicle: vehicle.clone(),
        }
    }

    /// [`crate::step`], and its Jacobian. The state is that of [`crate::step`] to the last bit.
    pub fn step(
        &self,
        state: &State,
        action: &[f64; ROTORS],
        disturbance: &Disturbance,
        dt_s: f64,
    ) -> (State, Jacobian) {
        if self.form == Form::General {
            return self.differences(state, action, disturbance, dt_s);
        }
        let columns = state.to_columns();
        let next = vectorized(
            #[inline(always)]
            || self.dual_step(columns, action, disturbance, dt_s),
        )
        .columns();
        (State::from_columns(&next.map(|d| d.value)), Jacobian { rows: next.map(|d| d.slope) })
    }

    /// The general form's Jacobian by central differences of [`crate::step`]: its dual numbers would be a tenth of this crate's
    /// code, for vehicles that few have. Error below 1e-6 of a slope.
    fn differences(
        &self,
        state: &State,
        action: &[f64; ROTORS],
        disturbance: &Disturbance,
        dt_s: f64,
    ) -> (State, Jacobian) {
        let (columns, [low, high]) = (state.to_columns(), self.vehicle.rotor_range);
        let mut rows = [[0.0; WIDTH]; STATE];
        let (weight, inertia) =
            (self.vehicle.mass_kg * self.vehicle.gravity_m_s2, self.vehicle.inertia_kg_m2);
        for variable in 0..VARIABLES {
            // Rotor states may be thousands of revolutions per minute; forces and torques are as small as the vehicle.
            let size = match variable {
                TORQUE.. => 100.0 * inertia[variable - TORQUE],
                FORCE.. => weight,
                ACTION.. => 1.0,
                _ if variable >= ACTION - ROTORS => high - low,
                _ => 1.0,
            };
            let width = 1e-5 * size;
            let at = |sign: f64| {
                let (mut columns, mut action, mut disturbance) = (columns, *action, *disturbance);
                let change = sign * width;
                match variable {
                    TORQUE.. => disturbance.torque_n_m[variable - TORQUE] += change,
                    FORCE.. => disturbance.force_n[variable - FORCE] += change,
                    ACTION.. => action[variable - ACTION] += change,
                    _ => columns[3 + variable] += change,
                }
                crate::step(&self.vehicle, &State::from_columns(&columns), &action, &disturbance, dt_s)
                    .to_columns()
            };
            let (ahead, behind) = (at(1.0), at(-1.0));
            for (row, (a, b)) in rows.iter_mut().zip(ahead.iter().zip(behind)) {
                row[variable] = ((a - b) / (2.0 * width)) as f32;
            }
        }
        (crate::step(&self.vehicle, state, action, disturbance, dt_s), Jacobian { rows })
    }

    #[inline(always)]
    fn dual_step(
        &self,
        columns: [f64; STATE],
        action: &[f64; ROTORS],
        disturbance: &Disturbance,
        dt_s: f64,
    ) -> Body<Dual> {
        let body = Body::from_columns(array!(|i| match i.checked_sub(3) {
            Some(variable) => Dual::variable(columns[i], variable),
            None => Dual::constant(columns[i]),
        }));
        let action = array!(|i| Dual::variable(action[i], ACTION + i));
        let force: [f64; 3] = disturbance.force_n.into();
        let torque: [f64; 3] = disturbance.torque_n_m.into();
        let force = array!(|i| Dual::variable(force[i], FORCE + i));
        let torque = array!(|i| Dual::variable(torque[i], TORQUE + i));
        let held = Held::of(&self.model, action, force, torque);
        let mut carried = [Dual::constant(0.0); equations::CARRIED];
        let parts = self.vehicle.parts_of_step(dt_s);
        let part_s = dt_s / f64::from(parts);
        let mut next = body;
        for _ in 0..parts {
            next = match self.form {
                Form::Plain => {
                    equations::step::<Dual, PLAIN>(&self.model, &next, &mut carried, &held, part_s)
                }
                Form::Drag | Form::General => {
                    equations::step::<Dual, DRAG>(&self.model, &next, &mut carried, &held, part_s)
                }
            };
        }
        next
    }
}

/// Adds to `adjoint` (∂L/∂x) what comes from ∂L/∂o, o the observation of that state: position error, R(q) row-major,
/// velocity, body rates.
pub fn pull_observation(state: &State, observation: &[f32; OBSERVATION], adjoint: &mut Adjoint) {
    let q = state.orientation;
    let (w, x, y, z) = (q.w as f32, q.i as f32, q.j as f32, q.k as f32);
    for i in 0..3 {
        adjoint[i] += observation[i];
        adjoint[7 + i] += observation[12 + i];
        adjoint[10 + i] += observation[15 + i];
    }
    let d: &[f32] = &observation[3..12];
    // R of a unit quaternion: 1 − 2(y² + z²), 2(xy − wz), 2(xz + wy); 2(xy + wz), 1 − 2(x² + z²), 2(yz − wx);
    // 2(xz − wy), 2(yz + wx), 1 − 2(x² + y²).
    adjoint[3] += 2.0 * (-z * d[1] + y * d[2] + z * d[3] - x * d[5] - y * d[6] + x * d[7]);
    adjoint[4] += 2.0
        * (y * d[1] + z * d[2] + y * d[3] - 2.0 * x * d[4] - w * d[5] + z * d[6] + w * d[7] - 2.0 * x * d[8]);
    adjoint[5] += 2.0
        * (-2.0 * y * d[0] + x * d[1] + w * d[2] + x * d[3] + z * d[5] - w * d[6] + z * d[7]
            - 2.0 * y * d[8]);
    adjoint[6] += 2.0
        * (-2.0 * z * d[0] - w * d[1] + x * d[2] + w * d[3] - 2.0 * z * d[4]
            + y * d[5]
            + x * d[6]
            + y * d[7]);
}

impl Reward {
    /// ∂r/∂x and ∂r/∂u of [`Reward::of_state`], velocities relative to those of the setpoint.
    ///
    /// The published orientation term has no bound on its derivative at q_z = 0; none is claimed there.
    pub fn gradient(
        &self,
        state: &State,
        setpoint: &Vector3<f64>,
        setpoint_velocity: &Vector3<f64>,
        action: &[f32; ROTORS],
    ) -> (Adjoint, [f32; ROTORS]) {
        let c = &self.coefficients;
        let (p, v) = (state.position - setpoint, state.velocity - setpoint_velocity);
        let mut adjoint = [0.0; STATE];
        for i in 0..3 {
            adjoint[i] = (-2.0 * c.position * p[i]) as f32;
            adjoint[7 + i] = (-2.0 * c.velocity * v[i]) as f32;
            adjoint[10 + i] = (-2.0 * c.body_rates * state.body_rates[i]) as f32;
        }
        let q = state.orientation;
        match self.orientation {
            OrientationTerm::Full => adjoint[3] = (2.0 * c.orientation * q.w) as f32,
            OrientationTerm::Yaw => {
                // d/dz 2·acos(1 − z²) = 4z/√(1 − (1 − z²)²) = 4 sign(z)/√(2 − z²)
                let slope = if q.k == 0.0 { 0.0 } else { 4.0 * q.k.signum() / (2.0 - q.k * q.k).sqrt() };
                adjoint[6] = (-c.orientation * slope) as f32;
            }
        }
        let of_action = action.map(|a| {
            let (u, inner) = match self.scale {
                ActionScale::UnitInterval => ((f64::from(a) + 1.0) / 2.0, 0.5),
                ActionScale::Symmetric => (f64::from(a), 1.0),
            };
            (-2.0 * c.action * (u - c.action_baseline) * inner) as f32
        });
        (adjoint, of_action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vehicles() -> Vec<Vehicle> {
        let drag = Vehicle {
            drag_linear: [0.02, 0.03, 0.01],
            drag_quadratic: [0.005, 0.004, 0.01],
            ..Vehicle::find("crazyflie").unwrap()
        };
        ["crazyflie", "x500", "l2f0", "ltf", "l2f2"]
            .iter()
            .map(|n| Vehicle::find(n).unwrap())
            .chain([drag])
            .collect()
    }

    /// A state of any attitude, with rotors strictly inside their range.
    fn any_state() -> impl Strategy<Value = [f64; STATE]> {
        let near = prop::array::uniform17(-1.0..1.0_f64);
        near.prop_filter_map("a quaternion has a length", |mut c| {
            let norm = c[3..7].iter().map(|v| v * v).sum::<f64>().sqrt();
            c[3..7].iter_mut().for_each(|v| *v /= norm);
            c[7..10].iter_mut().for_each(|v| *v *= 3.0);
            c[10..13].iter_mut().for_each(|v| *v *= 10.0);
            (norm > 0.1).then_some(c)
        })
    }

    fn with_rotors(vehicle: &Vehicle, mut c: [f64; STATE]) -> [f64; STATE] {
        let [low, high] = vehicle.rotor_range;
        c[13..].iter_mut().for_each(|r| *r = low + (high - low) * (0.5 + 0.4 * *r));
        c
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_jacobian_is_that_of_finite_differences(
            columns in any_state(), action in prop::array::uniform4(-0.9..0.9_f64), which in 0..6_usize,
        ) {
            let vehicle = &vehicles()[which];
            let columns = with_rotors(vehicle, columns);
            let disturbance = Disturbance { force_n: Vector3::new(0.01, -0.02, 0.03), torque_n_m: Vector3::new(1e-5, 2e-5, -1e-5) };
            let with = |c: &[f64; STATE], u: &[f64; ROTORS], d: &Disturbance| crate::step(vehicle, &State::from_columns(c), u, d, 0.01).to_columns();
            let fly = |c: &[f64; STATE], u: &[f64; ROTORS]| with(c, u, &disturbance);
            let (next, jacobian) = Plant::new(vehicle).step(&State::from_columns(&columns), &action, &disturbance, 0.01);
            prop_assert_eq!(next.to_columns(), fly(&columns, &action));

            let range = vehicle.rotor_range[1] - vehicle.rotor_range[0];
            let scale = |i: usize| if i < 13 { 1.0 } else { range };
            for column in 0..STATE + ROTORS {
                let h = 1e-6 * if column < STATE { scale(column) } else { 1.0 };
                let at = |d: f64| {
                    let (mut c, mut u) = (columns, action);
                    if column < STATE { c[column] += d } else { u[column - STATE] += d }
                    fly(&c, &u)
                };
                // A motor whose command crosses its state within the difference has two lags, and two derivatives.
                if (column >= 13) && (0..ROTORS).any(|m| {
                    let command = vehicle.rotor_of_action(action[m]);
                    (command - columns[13 + m]).abs() < 1e-3 * range
                }) { continue; }
                let (up, down) = (at(h), at(-h));
                for row in 0..STATE {
                    let difference = (up[row] - down[row]) / (2.0 * h);
                    let exact = if column < STATE { jacobian.of_state(row, column) } else { jacobian.of_action(row, column - STATE) };
                    let size = scale(row) / if column < STATE { scale(column) } else { 1.0 };
                    prop_assert!((difference - f64::from(exact)).abs() < 2e-4 * size + 1e-4 * difference.abs(),
                        "{} ∂x'[{row}]/∂[{column}]: {difference} by differences, {exact}", vehicle.name);
                }
            }
            for column in 0..6_usize {
                let size = if column < 3 { vehicle.mass_kg } else { vehicle.inertia_kg_m2[column - 3] };
                let at = |sign: f64| {
                    let mut d = disturbance;
                    if column < 3 { d.force_n[column] += sign * 1e-3 * size } else { d.torque_n_m[column - 3] += sign * 1e-3 * size }
                    with(&columns, &action, &d)
                };
                let (up, down) = (at(1.0), at(-1.0));
                for row in 0..STATE {
                    let difference = (up[row] - down[row]) / (2e-3 * size);
                    let exact = if column < 3 { jacobian.of_force(row, column) } else { jacobian.of_torque(row, column - 3) };
                    prop_assert!((difference - f64::from(exact)).abs() < 1e-5 / size + 1e-4 * difference.abs(),
                        "{} ∂x'[{row}]/∂disturbance[{column}]: {difference} by differences, {exact}", vehicle.name);
                }
            }
        }

        #[test]
        fn the_observation_is_pulled_as_finite_differences_say(columns in any_state(), weights in prop::array::uniform18(-1.0..1.0_f32)) {
            let loss = |c: &[f64; STATE]| {
                // R(q) as a polynomial in q: the adjoint is that of the formula, which does not normalise.
                let [w, x, y, z] = [c[3], c[4], c[5], c[6]];
                let r = [
                    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
                    2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
                    2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
                ];
                let o = [&c[..3], &r[..], &c[7..13]].concat();
                o.iter().zip(weights).map(|(o, w)| o * f64::from(w)).sum::<f64>()
            };
            let mut adjoint = [0.0; STATE];
            pull_observation(&State::from_columns(&columns), &weights, &mut adjoint);
            for (i, exact) in adjoint.iter().enumerate() {
                let at = |d: f64| { let mut c = columns; c[i] += d; loss(&c) };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                prop_assert!((difference - f64::from(*exact)).abs() < 1e-4, "{i}: {difference} {exact}");
            }
        }
    }

    #[test]
    fn the_reward_is_differentiated_as_finite_differences_say() {
        let columns: [f64; STATE] = std::array::from_fn(|i| (i as f64 * 1.3).sin());
        let (setpoint, action) = (Vector3::new(0.1, -0.2, 0.3), [0.1, -0.3, 0.5, 0.9_f32]);
        let yaw = Reward::end();
        let rewards = [yaw, yaw.with_orientation(OrientationTerm::Full), Reward::authors_code()];
        for reward in rewards {
            let of = |c: &[f64; STATE], a: &[f64; 4]| reward.of_state(&State::from_columns(c), &setpoint, a);
            let state = State::from_columns(&columns);
            let (by_state, by_action) = reward.gradient(&state, &setpoint, &Vector3::zeros(), &action);
            let wide = action.map(f64::from);
            for (i, exact) in by_state.iter().chain(&by_action).enumerate() {
                let at = |d: f64| {
                    let (mut c, mut a) = (columns, wide);
                    if i < STATE {
                        c[i] += d
                    } else {
                        a[i - STATE] += d
                    }
                    of(&c, &a)
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!(
                    (difference - f64::from(*exact)).abs() < 1e-4,
                    "{reward:?} {i}: {difference} {exact}"
                );
            }
        }
    }

    /// The adjoint is the transpose: ⟨λ, J·δ⟩ = ⟨pull(λ), δ⟩.
    #[test]
    fn pulling_is_the_transpose_of_pushing() {
        let vehicle = Vehicle::find("crazyflie").unwrap();
        let state = State::hover(&vehicle, Vector3::new(0.1, 0.2, 0.3));
        let (_, jacobian) =
            Plant::new(&vehicle).step(&state, &[0.1, 0.2, 0.3, 0.4], &Disturbance::default(), 0.01);
        let lambda: Adjoint = std::array::from_fn(|i| (i as f32 * 0.7).sin());
        let pulled = jacobian.pull(&lambda);
        let pushed =
            |entry: &dyn Fn(usize) -> f32| lambda.iter().enumerate().map(|(r, l)| l * entry(r)).sum::<f32>();
        let check = |pulled: &[f32], entry: &dyn Fn(usize, usize) -> f32| {
            for (column, pulled) in pulled.iter().enumerate() {
                let pushed = pushed(&|row| entry(row, column));
                assert!((pushed - pulled).abs() < 1e-4 * (1.0 + pushed.abs()), "{column}");
            }
        };
        check(&pulled.state, &|row, column| jacobian.of_state(row, column));
        check(&pulled.action, &|row, motor| jacobian.of_action(row, motor));
        check(&pulled.force, &|row, axis| jacobian.of_force(row, axis));
        check(&pulled.torque, &|row, axis| jacobian.of_torque(row, axis));
    }
}
