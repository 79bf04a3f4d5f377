//! The passes over blocks that run in registers: a step, its reward and end, and the observation.

use pulp::{Simd, WithSimd};

use super::block::{Block, Episodes};
use crate::{
    equations::{self, Body, CARRIED, Held},
    lanes::{LANES, Pack, Real, Scalar, array},
    model::{DRAG, Form, GENERAL, Model, PLAIN},
    reward::{ActionScale, OrientationTerm, Reward, Termination},
    state::Observation,
    vehicle::ROTORS,
};

/// Commands of sixteen vehicles, one after the other.
pub type Commands<T> = [[T; ROTORS]; LANES];

/// Where a judged step writes.
pub struct Judged<'a, T> {
    pub reward: &'a Reward,
    pub termination: &'a Termination,
    pub rewards: &'a mut [Pack<T>],
    /// 1 where a limit was crossed, 0 elsewhere.
    pub finished: &'a mut [Pack<T>],
}

/// A step of some blocks.
pub struct Step<'a, T> {
    pub blocks: &'a mut [Block<T>],
    pub episodes: &'a mut [Episodes<T>],
    /// Four commands for each vehicle; the last block may lack some.
    pub actions: &'a [[T; ROTORS]],
    /// The nominal vehicle.
    pub model: &'a Model<f64>,
    pub idle: [T; ROTORS],
    pub form: Form,
    /// Parts of a step, and the length of each.
    pub parts: u32,
    pub part_s: f64,
    /// Steps that the batch has flown.
    pub now: usize,
    pub judged: Option<Judged<'a, T>>,
}

impl<T: Scalar> WithSimd for Step<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.form {
            Form::Plain => self.fly::<S, PLAIN>(simd),
            Form::Drag => self.fly::<S, DRAG>(simd),
            Form::General => self.fly::<S, GENERAL>(simd),
        }
    }
}

impl<T: Scalar> Step<'_, T> {
    #[inline(always)]
    fn fly<S: Simd, const FORM: u8>(mut self, simd: S) {
        let numbers = self.model.numbers();
        let nominal = Model::from_fn(
            #[inline(always)]
            |i| T::splat(simd, numbers[i]),
        );
        for at in 0..self.blocks.len() {
            let (block, episodes) = (&mut self.blocks[at], &mut self.episodes[at]);
            let given = commands(self.actions, at, self.idle);
            let arriving = episodes.arriving(self.now, &given);
            let given = transposed(&given);
            let arriving = arriving.map_or(
                given,
                #[inline(always)]
                |late| transposed(&late),
            );
            for part in 0..LANES / T::width::<S>() {
                let own;
                let model = match &episodes.models {
                    Some(models) => {
                        own = Model::from_fn(
                            #[inline(always)]
                            |i| T::load(simd, &models[i], part),
                        );
                        &own
                    }
                    None => &nominal,
                };
                let outside: [_; 6] = array!(|i| T::load(simd, &block.outside[i], part));
                let [fx, fy, fz, tx, ty, tz] = outside;
                let mut motors = array!(|i| T::load(simd, &arriving[i], part));
                if self.judged.is_some() {
                    motors = array!(|i| carried_out(motors[i]));
                }
                let held = if FORM == GENERAL {
                    Held::general(model, motors, [fx, fy, fz], [tx, ty, tz])
                } else {
                    Held::of(model, motors, [fx, fy, fz], [tx, ty, tz])
                };
                let columns: [_; 17] = array!(|i| T::load(simd, &block.columns[i], part));
                let state = Body::from_columns(columns);
                let mut carried = array!(|i| T::load(simd, &block.carried[i], part));
                let mut next = equations::step::<_, FORM>(model, &state, &mut carried, &held, self.part_s);
                let mut part_of_step = 1;
                while part_of_step < self.parts {
                    next = equations::step::<_, FORM>(model, &next, &mut carried, &held, self.part_s);
                    part_of_step += 1;
                }
                if <T::Lanes<S> as Real>::FOLDED {
                    let mut i = 0;
                    while i < CARRIED {
                        T::store::<S>(carried[i], &mut block.carried[i], part);
                        i += 1;
                    }
                }
                let columns = next.columns();
                let mut i = 0;
                while i < columns.len() {
                    T::store::<S>(columns[i], &mut block.columns[i], part);
                    i += 1;
                }
                if let Some(judged) = &mut self.judged {
                    let action = array!(|i| carried_out(T::load(simd, &given[i], part)));
                    let sound = soundness(&next);
                    let zero = sound.like(0.0);
                    let reward = total(judged.reward, &next, &action);
                    // What has left the finite numbers earns nothing, as in an evaluation.
                    T::store::<S>(sound.select_ge(zero, reward, zero), &mut judged.rewards[at], part);
                    T::store::<S>(beyond(judged.termination, &next, sound), &mut judged.finished[at], part);
                }
            }
        }
    }
}

/// Commands of block `at`; lanes without a vehicle get `idle`.
#[inline(always)]
fn commands<T: Scalar>(actions: &[[T; ROTORS]], at: usize, idle: [T; ROTORS]) -> Commands<T> {
    let rest = &actions[(at * LANES).min(actions.len())..];
    match rest.first_chunk::<LANES>() {
        Some(full) => *full,
        None => array!(|lane| rest.get(lane).copied().unwrap_or(idle)),
    }
}

#[inline(always)]
fn transposed<T: Scalar>(commands: &Commands<T>) -> [Pack<T>; ROTORS] {
    array!(|motor| { array!(|lane| commands[lane][motor]) })
}

/// The command that motors can carry out: clamped, and idle where it is no finite number.
#[inline(always)]
fn carried_out<R: Real>(action: R) -> R {
    let one = action.like(1.0);
    // The largest single number: infinity in either precision is above.
    let largest = action.like(f64::from(f32::MAX));
    largest.select_ge(action.abs(), action, -one).clamp(-one, one)
}

/// 0 where every number of a state is finite, not a number elsewhere.
#[inline(always)]
fn soundness<R: Real>(state: &Body<R>) -> R {
    let columns = state.columns();
    let zero = columns[0].like(0.0);
    let mut sum = zero;
    let mut i = 0;
    while i < columns.len() {
        sum = columns[i].mul_add(zero, sum);
        i += 1;
    }
    sum
}

/// 1 where a limit is crossed or the state unsound, else 0.
#[inline(always)]
fn beyond<R: Real>(termination: &Termination, state: &Body<R>, sound: R) -> R {
    let (zero, one) = (sound.like(0.0), sound.like(1.0));
    let inside = within(state.position, termination.position_m, one);
    let inside = within(state.velocity, termination.velocity_m_s, inside);
    let inside = within(state.body_rates, termination.body_rate_rad_s, inside);
    one - sound.select_ge(zero, inside, zero)
}

/// `inside` where no element is beyond a limit, else 0.
#[inline(always)]
fn within<R: Real>([x, y, z]: [R; 3], limit: f64, inside: R) -> R {
    let (limit, zero) = (inside.like(limit), inside.like(0.0));
    let inside = limit.select_ge(x.abs(), inside, zero);
    let inside = limit.select_ge(y.abs(), inside, zero);
    limit.select_ge(z.abs(), inside, zero)
}

#[inline(always)]
fn squared<R: Real>([x, y, z]: [R; 3]) -> R {
    x * x + y * y + z * z
}

/// [`Reward::of_state`] with the setpoint at the origin.
#[inline(always)]
fn total<R: Real>(reward: &Reward, state: &Body<R>, action: &[R; ROTORS]) -> R {
    let c = &reward.coefficients;
    let [w, .., z] = state.orientation;
    let alike = w;
    let one = alike.like(1.0);
    let orientation = match reward.orientation {
        OrientationTerm::Yaw => (z * z).twice_acos_one_minus(),
        OrientationTerm::Full => one - w * w,
    };
    let baseline = alike.like(c.action_baseline);
    let effort: [R; ROTORS] = array!(|i| {
        let u = match reward.scale {
            ActionScale::UnitInterval => (action[i] + one) * alike.like(0.5),
            ActionScale::Symmetric => action[i],
        };
        (u - baseline) * (u - baseline)
    });
    let effort = effort[0] + effort[1] + effort[2] + effort[3];
    alike.like(c.survival)
        - alike.like(c.position) * squared(state.position)
        - alike.like(c.velocity) * squared(state.velocity)
        - alike.like(c.orientation) * orientation
        - alike.like(c.action) * effort
        - alike.like(c.body_rates) * squared(state.body_rates)
}

/// The observation of some blocks, without noise.
pub struct Observe<'a, T> {
    pub blocks: &'a [Block<T>],
    /// One for each vehicle; the last block may lack some.
    pub observations: &'a mut [Observation],
}

impl<T: Scalar> WithSimd for Observe<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (block, seen) in self.blocks.iter().zip(self.observations.chunks_mut(LANES)) {
            let mut rotation = [[T::default(); LANES]; 9];
            for part in 0..LANES / T::width::<S>() {
                let q: [_; 4] = array!(|i| T::load(simd, &block.columns[3 + i], part));
                let elements = matrix(q);
                let mut i = 0;
                while i < elements.len() {
                    T::store::<S>(elements[i], &mut rotation[i], part);
                    i += 1;
                }
            }
            let columns: [&Pack<T>; 18] = array!(|i| match i {
                0..3 => &block.columns[i],
                3..12 => &rotation[i - 3],
                // Velocity and body rates lie behind the quaternion.
                _ => &block.columns[i - 5],
            });
            if let Ok(seen) = <&mut [Observation; LANES]>::try_from(&mut *seen) {
                scatter(&columns, seen);
            } else {
                for (lane, observation) in seen.iter_mut().enumerate() {
                    *observation = columns.map(|pack| pack[lane].narrow());
                }
            }
        }
    }
}

#[inline(always)]
fn scatter<T: Scalar>(columns: &[&Pack<T>; 18], seen: &mut [Observation; LANES]) {
    for (lane, observation) in seen.iter_mut().enumerate() {
        for (to, from) in observation.iter_mut().zip(columns) {
            *to = from[lane].narrow();
        }
    }
}

#[inline(always)]
fn twice<R: Real>(a: R, b: R) -> R {
    let product = a * b;
    product + product
}

/// Rotation matrix of a quaternion (w, x, y, z), row-major.
#[inline(always)]
fn matrix<R: Real>([w, x, y, z]: [R; 4]) -> [R; 9] {
    let (ww, xx, yy, zz) = (w * w, x * x, y * y, z * z);
    let (xy, wz, wy) = (twice(x, y), twice(w, z), twice(w, y));
    let (xz, yz, wx) = (twice(x, z), twice(y, z), twice(w, x));
    [
        ww + xx - yy - zz,
        xy - wz,
        wy + xz,
        wz + xy,
        ww - xx + yy - zz,
        yz - wx,
        xz - wy,
        wx + yz,
        ww - xx - yy + zz,
    ]
}
