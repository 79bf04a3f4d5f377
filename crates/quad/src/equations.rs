//! The equations of motion over any [`Real`]: one vehicle, or as many as a register holds.
//!
//! r = rotor state, f = c0 + c1 r + c2 r² (N, along body z; c of each rotor), T = Σ f + drag, q body to world:
//!
//! - ṗ = v,  v̇ = R(q) T / m + F/m − g,  q̇ = ½ q ⊗ (0, ω)
//! - ω̇ = J⁻¹ (τ − ω × J ω) + J⁻¹ τ_ext,  τ = Σ (y f, −x f, s k f) − d ∘ ω
//! - ṙ = (u − r) / (u ≥ r ? rising : falling)
//!
//! In the general form a rotor pushes along its axis a, f a with torque (p × a + s k a) f, J is a full matrix, rotor drag adds
//! −k_r r (v − a (a·v)) at p to the force, v being the body's velocity in its own axes, and a motor without lag is where its
//! command is from the start of the step. Vehicles of more than four rotors come as four motors ([`Vehicle::motors`]).
//!
//! [`Vehicle::motors`]: crate::Vehicle::motors
//!
//! Where precision is single, ω̇ = Σ (J⁻¹ arm) f − J⁻¹ (J_z − J_y, J_x − J_z, J_y − J_x) ∘ (ω_y ω_z, ω_z ω_x, ω_x ω_y)
//! with the constants multiplied out beforehand: at hundreds of rad/s the rounding of J and J⁻¹ by themselves is what
//! single precision suffers from most.
//!
//! Integrated by the classic Runge-Kutta method of fourth order with u held; q is not normalised at the method's stages,
//! but after the step, when rotors are clamped to their range too.

use crate::{
    lanes::{Real, array, zip},
    model::{DRAG, GENERAL, Model, PLAIN},
    state::State,
    vehicle::ROTORS,
};

/// Numbers of a state whose remainders are carried: body rates and rotors.
pub const CARRIED: usize = 3 + ROTORS;

/// The first of them in the column order of the reference data; the others follow.
pub const FIRST_CARRIED: usize = 10;

/// A state, or the derivative of one. The quaternion is (w, x, y, z).
#[derive(Clone, Copy, Debug)]
pub struct Body<R> {
    pub position: [R; 3],
    pub orientation: [R; 4],
    pub velocity: [R; 3],
    pub body_rates: [R; 3],
    pub rotors: [R; ROTORS],
}

impl<R: Copy> Body<R> {
    /// From the column order of the reference data.
    #[inline(always)]
    pub fn from_columns(c: [R; 17]) -> Self {
        Self {
            position: [c[0], c[1], c[2]],
            orientation: [c[3], c[4], c[5], c[6]],
            velocity: [c[7], c[8], c[9]],
            body_rates: [c[10], c[11], c[12]],
            rotors: [c[13], c[14], c[15], c[16]],
        }
    }

    /// In the column order of the reference data.
    #[inline(always)]
    pub fn columns(&self) -> [R; 17] {
        let (p, q, v, w, r) = (self.position, self.orientation, self.velocity, self.body_rates, self.rotors);
        [p[0], p[1], p[2], q[0], q[1], q[2], q[3], v[0], v[1], v[2], w[0], w[1], w[2], r[0], r[1], r[2], r[3]]
    }
}

impl From<&State> for Body<f64> {
    #[inline(always)]
    fn from(state: &State) -> Self {
        Self::from_columns(state.to_columns())
    }
}

impl<R: Real> Body<R> {
    /// This state moved along a derivative for a time.
    #[inline(always)]
    fn along(&self, slope: &Self, time: R) -> Self {
        Self {
            position: zip!(self.position, slope.position, |a, b| b.mul_add(time, a)),
            orientation: zip!(self.orientation, slope.orientation, |a, b| b.mul_add(time, a)),
            velocity: zip!(self.velocity, slope.velocity, |a, b| b.mul_add(time, a)),
            body_rates: zip!(self.body_rates, slope.body_rates, |a, b| b.mul_add(time, a)),
            rotors: zip!(self.rotors, slope.rotors, |a, b| b.mul_add(time, a)),
        }
    }

    /// k1 + 2 (k2 + k3) + k4.
    #[inline(always)]
    fn weighted(k1: &Self, k2: &Self, k3: &Self, k4: &Self) -> Self {
        #[inline(always)]
        fn sum<R: Real, const N: usize>(k1: [R; N], k2: [R; N], k3: [R; N], k4: [R; N]) -> [R; N] {
            array!(|i| {
                let middle = k2[i] + k3[i];
                k1[i] + (middle + middle) + k4[i]
            })
        }
        Self {
            position: sum(k1.position, k2.position, k3.position, k4.position),
            orientation: sum(k1.orientation, k2.orientation, k3.orientation, k4.orientation),
            velocity: sum(k1.velocity, k2.velocity, k3.velocity, k4.velocity),
            body_rates: sum(k1.body_rates, k2.body_rates, k3.body_rates, k4.body_rates),
            rotors: sum(k1.rotors, k2.rotors, k3.rotors, k4.rotors),
        }
    }
}

/// What stays the same through a step.
#[derive(Clone, Copy)]
pub struct Held<R> {
    /// Commanded rotor states.
    command: [R; ROTORS],
    /// F/m, m/s².
    acceleration: [R; 3],
    /// J⁻¹ τ_ext, rad/s².
    angular_acceleration: [R; 3],
}

impl<R: Real> Held<R> {
    /// From an action (clamped to [−1, 1]), a force in N (world) and a torque in N m (body).
    #[inline(always)]
    pub fn of(model: &Model<R>, action: [R; ROTORS], force: [R; 3], torque: [R; 3]) -> Self {
        let (one, half) = (model.gravity.like(1.0), model.gravity.like(0.5));
        Self {
            command: array!(|i| {
                let share = (action[i].clamp(-one, one) + one) * half;
                share.mul_add(model.rotor[2], model.rotor[0])
            }),
            acceleration: array!(|i| force[i].over(model.mass[0], model.mass[1])),
            angular_acceleration: zip!(model.inertia_inverse, torque, |a, b| a * b),
        }
    }

    /// The same for the general form: where the inertia is a full matrix.
    #[inline(always)]
    pub fn general(model: &Model<R>, action: [R; ROTORS], force: [R; 3], torque: [R; 3]) -> Self {
        let angular_acceleration = symmetric(model.inertia_inverse, model.inverse_off_diagonal, torque);
        Self { angular_acceleration, ..Self::of(model, action, force, torque) }
    }
}

/// One step of `dt_s` (in every lane). `FORM` says how much of the physics is computed; `carried` is what rounding cut off
/// body rates and rotors so far, and changes nothing in double precision.
#[inline(always)]
pub fn step<R: Real, const FORM: u8>(
    model: &Model<R>,
    state: &Body<R>,
    carried: &mut [R; CARRIED],
    held: &Held<R>,
    dt_s: f64,
) -> Body<R> {
    let alike = model.gravity;
    let followed;
    let state = if FORM == GENERAL {
        followed = Body { rotors: at_once(model, state.rotors, held.command), ..*state };
        &followed
    } else {
        state
    };
    let half = alike.like(dt_s / 2.0);
    let k1 = slope::<R, FORM>(model, state, held);
    let k2 = slope::<R, FORM>(model, &state.along(&k1, half), held);
    let k3 = slope::<R, FORM>(model, &state.along(&k2, half), held);
    let k4 = slope::<R, FORM>(model, &state.along(&k3, alike.like(dt_s)), held);
    let (sum, sixth) = (Body::weighted(&k1, &k2, &k3, &k4), alike.like(dt_s / 6.0));
    let mut next = state.along(&sum, sixth);
    if R::FOLDED {
        carry(state, &sum, sixth, carried, &mut next);
    }
    let [w, x, y, z] = next.orientation;
    let norm = ((x * x + z * z) + (y * y + w * w)).sqrt();
    next.orientation = R::divide_all(next.orientation, norm);
    let [low, high, _] = model.rotor;
    if R::FOLDED {
        // A rotor at its limit is there exactly.
        let zero = low.like(0.0);
        let mut i = 0;
        while i < ROTORS {
            let (r, rest) = (next.rotors[i], carried[3 + i]);
            carried[3 + i] = low.select_ge(r, zero, r.select_ge(high, zero, rest));
            i += 1;
        }
    }
    next.rotors = array!(|i| next.rotors[i].clamp(low, high));
    next
}

/// Adds the step to body rates and rotors with what the last steps' rounding left, and keeps what this one's leaves
/// (compensated summation).
#[inline(always)]
fn carry<R: Real>(state: &Body<R>, sum: &Body<R>, sixth: R, carried: &mut [R; CARRIED], next: &mut Body<R>) {
    let mut i = 0;
    while i < CARRIED {
        let (from, slope, to) = if i < 3 {
            (state.body_rates[i], sum.body_rates[i], &mut next.body_rates[i])
        } else {
            (state.rotors[i - 3], sum.rotors[i - 3], &mut next.rotors[i - 3])
        };
        let moved = slope.mul_add(sixth, carried[i]);
        *to = from + moved;
        carried[i] = moved - (*to - from);
        i += 1;
    }
}

/// [`derivative`], as a function of its own where numbers are wide.
#[inline(always)]
fn slope<R: Real, const FORM: u8>(model: &Model<R>, state: &Body<R>, held: &Held<R>) -> Body<R> {
    R::apart(
        #[inline(always)]
        || derivative::<R, FORM>(model, state, held),
    )
}

#[inline(always)]
fn derivative<R: Real, const FORM: u8>(model: &Model<R>, state: &Body<R>, held: &Held<R>) -> Body<R> {
    let f = array!(|i| {
        let ([c0, c1, c2], r) = (model.thrust_curve[i], state.rotors[i]);
        (c2 * r).mul_add(r, c1.mul_add(r, c0))
    });

    let [qw, qx, qy, qz] = state.orientation;
    let (force, angular_acceleration) = if FORM == GENERAL {
        general(model, state, f, held)
    } else {
        let thrust = f[0] + f[1] + f[2] + f[3];
        (
            rotated_thrust::<R, FORM>(model, state, thrust),
            angular_acceleration::<R, FORM>(model, state.body_rates, f, held),
        )
    };
    let [mass, mass_reciprocal] = model.mass;
    let lift: [R; 3] = array!(|i| force[i].over(mass, mass_reciprocal) + held.acceleration[i]);

    let [wx, wy, wz] = state.body_rates;
    let half = model.gravity.like(0.5);
    Body {
        position: state.velocity,
        orientation: [
            qz.negate_mul_add(wz, qy.negate_mul_add(wy, -(qx * wx))) * half,
            qz.negate_mul_add(wy, qy.mul_add(wz, qw * wx)) * half,
            qz.mul_add(wx, qx.negate_mul_add(wz, qw * wy)) * half,
            qy.negate_mul_add(wx, qx.mul_add(wy, qw * wz)) * half,
        ],
        velocity: [lift[0], lift[1], lift[2] - model.gravity],
        body_rates: angular_acceleration,
        rotors: zip!(held.command, state.rotors, |command, r| {
            let error = command - r;
            let [rising, rising_reciprocal, falling, falling_reciprocal] = model.lag;
            error.over(
                command.select_ge(r, rising, falling),
                command.select_ge(r, rising_reciprocal, falling_reciprocal),
            )
        }),
    }
}

/// ω̇, rad/s².
#[inline(always)]
fn angular_acceleration<R: Real, const FORM: u8>(
    model: &Model<R>,
    w: [R; 3],
    f: [R; ROTORS],
    held: &Held<R>,
) -> [R; 3] {
    if R::FOLDED {
        let products = [w[1] * w[2], w[2] * w[0], w[0] * w[1]];
        return array!(|axis| {
            let [a, b, c, d] = model.angular_of_thrust;
            let two = b[axis].mul_add(f[1], a[axis].mul_add(f[0], held.angular_acceleration[axis]));
            let thrust = d[axis].mul_add(f[3], c[axis].mul_add(f[2], two));
            let turning = model.gyroscopic[axis].negate_mul_add(products[axis], thrust);
            if FORM != PLAIN { model.angular_damping[axis].negate_mul_add(w[axis], turning) } else { turning }
        });
    }
    let momentum = zip!(model.inertia, w, |j, w| j * w);
    let gyroscopic = cross(w, momentum);
    array!(|axis| {
        let [a, b, c, d] = model.torque_of_thrust;
        let torque = a[axis] * f[0] + b[axis] * f[1] + c[axis] * f[2] + d[axis] * f[3];
        let torque = if FORM != PLAIN { torque - model.drag_angular[axis] * w[axis] } else { torque };
        model.inertia_inverse[axis].mul_add(torque - gyroscopic[axis], held.angular_acceleration[axis])
    })
}

/// R(q) T in world axes, without normalising q: what the method's stages call for.
#[inline(always)]
fn rotated_thrust<R: Real, const FORM: u8>(model: &Model<R>, state: &Body<R>, thrust: R) -> [R; 3] {
    if FORM == DRAG {
        let [dx, dy, dz] = drag(model, air_speed(state));
        return rotated(state, [dx, dy, thrust + dz]);
    }
    let [qw, qx, qy, qz] = state.orientation;
    let twice_w = qw + qw;
    // The same with the zeros of (0, 0, T) left out.
    let (tx, ty) = (qy * thrust, -(qx * thrust));
    let (cx, cy) = (-(qz * ty), qz * tx);
    let cz = qy.negate_mul_add(tx, qx * ty);
    [tx.mul_add(twice_w, cx + cx), ty.mul_add(twice_w, cy + cy), thrust + (cz + cz)]
}

/// R(q) F.
#[inline(always)]
fn rotated<R: Real>(state: &Body<R>, force: [R; 3]) -> [R; 3] {
    let [qw, qx, qy, qz] = state.orientation;
    let twice_w = qw + qw;
    let t = cross([qx, qy, qz], force);
    let c = cross([qx, qy, qz], t);
    array!(|i| t[i].mul_add(twice_w, force[i]) + (c[i] + c[i]))
}

/// Force on the body in world axes, N, and ω̇, rad/s², in the general form.
#[inline(always)]
fn general<R: Real>(model: &Model<R>, state: &Body<R>, f: [R; ROTORS], held: &Held<R>) -> ([R; 3], [R; 3]) {
    let (speed, w) = (air_speed(state), state.body_rates);
    let mut force = drag(model, speed);
    let mut torque: [R; 3] = array!(|i| -(model.drag_angular[i] * w[i]));
    let mut motor = 0;
    while motor < ROTORS {
        let (along, arm) = (model.force_of_thrust[motor], model.torque_of_thrust[motor]);
        let forward = along[0] * speed[0] + along[1] * speed[1] + along[2] * speed[2];
        let blocked = -(model.rotor_drag * state.rotors[motor]);
        let across: [R; 3] = array!(|i| blocked * (speed[i] - along[i] * forward));
        let turned = cross(model.place[motor], across);
        force = array!(|i| along[i].mul_add(f[motor], force[i]) + across[i]);
        torque = array!(|i| arm[i].mul_add(f[motor], torque[i]) + turned[i]);
        motor += 1;
    }
    let momentum = symmetric(model.inertia, model.inertia_off_diagonal, w);
    let gyroscopic = cross(w, momentum);
    let net: [R; 3] = array!(|i| torque[i] - gyroscopic[i]);
    let turning = symmetric(model.inertia_inverse, model.inverse_off_diagonal, net);
    (rotated(state, force), array!(|i| turning[i] + held.angular_acceleration[i]))
}

/// A symmetric matrix of a diagonal and elements xy, xz, yz, times a vector.
#[inline(always)]
fn symmetric<R: Real>(diagonal: [R; 3], [xy, xz, yz]: [R; 3], [x, y, z]: [R; 3]) -> [R; 3] {
    [diagonal[0] * x + xy * y + xz * z, xy * x + diagonal[1] * y + yz * z, xz * x + yz * y + diagonal[2] * z]
}

/// Rotors whose motors have no lag are where they are commanded.
#[inline(always)]
fn at_once<R: Real>(model: &Model<R>, rotors: [R; ROTORS], command: [R; ROTORS]) -> [R; ROTORS] {
    let half = model.gravity.like(0.5);
    let [rising, falling] = model.at_once;
    array!(|i| {
        let (to, from) = (command[i], rotors[i]);
        let (up, down) = (rising.select_ge(half, to, from), falling.select_ge(half, to, from));
        to.select_ge(from, up, down)
    })
}

/// The body's velocity through the air in its own axes, m/s.
#[inline(always)]
fn air_speed<R: Real>(state: &Body<R>) -> [R; 3] {
    let [qw, qx, qy, qz] = state.orientation;
    let inverse = [-qx, -qy, -qz];
    let once = cross(inverse, state.velocity);
    let t: [R; 3] = array!(|i| once[i] + once[i]);
    let c = cross(inverse, t);
    array!(|i| t[i].mul_add(qw, c[i]) + state.velocity[i])
}

/// The air's force on the body at a speed, both in its axes, N.
#[inline(always)]
fn drag<R: Real>(model: &Model<R>, speed: [R; 3]) -> [R; 3] {
    array!(|i| {
        let v = speed[i];
        -(v * model.drag_quadratic[i].mul_add(v.abs(), model.drag_linear[i]))
    })
}

#[inline(always)]
fn cross<R: Real>([ax, ay, az]: [R; 3], [bx, by, bz]: [R; 3]) -> [R; 3] {
    [az.negate_mul_add(by, ay * bz), ax.negate_mul_add(bz, az * bx), ay.negate_mul_add(bx, ax * by)]
}
