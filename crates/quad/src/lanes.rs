//! What the equations are written over: one number, or a register of numbers with one vehicle in each lane.
//!
//! [`Real`] is what they calculate with, [`Scalar`] what is stored. The single simulator uses `f64` itself, the batch
//! [`F64s`] and [`F32s`] of whatever instruction set the machine has. Double precision is never contracted to fused
//! operations and divides where the equations divide, so that one vehicle and a batch of them agree to the last bit;
//! single precision fuses, multiplies by reciprocals, folds constants before it rounds them, and carries what rounding
//! cuts off body rates and rotors to the next step.

use std::ops::{Add, Mul, Neg, Sub};

use pulp::Simd;

/// Vehicles in a block: one AVX-512 register of single precision, two of AVX2, one cache line.
pub const LANES: usize = 16;

/// One number of each vehicle in a block.
pub type Pack<T> = [T; LANES];

/// What [`array!`](array) becomes.
#[inline(always)]
pub fn array_of<R: Copy, const N: usize>(mut at: impl FnMut(usize) -> R) -> [R; N] {
    let mut all = [at(0); N];
    let mut i = 1;
    while i < N {
        all[i] = at(i);
        i += 1;
    }
    all
}

/// `array!(|i| …)`: `std::array::from_fn`, but inlined wherever it stands.
///
/// Registers only stay registers in functions that were compiled for the instruction set, and what is not inlined into
/// one of those is not: a `from_fn`, a `map` or a closure left to itself makes the batch thirty times slower.
macro_rules! array {
    (|$i:pat_param| $element:expr) => {
        $crate::lanes::array_of(
            #[inline(always)]
            |$i| $element,
        )
    };
}

/// `zip!(a, b, |x, y| …)`: of every pair, inlined as [`array!`](array) is.
macro_rules! zip {
    ($a:expr, $b:expr, |$x:pat_param, $y:pat_param| $element:expr) => {{
        let (a, b) = ($a, $b);
        $crate::lanes::array!(|i| {
            let ($x, $y) = (a[i], b[i]);
            $element
        })
    }};
}

pub(crate) use {array, zip};

/// Arithmetic of the equations of motion.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    /// Whether constants are folded and remainders carried: the arithmetic of single precision.
    const FOLDED: bool;
    /// A constant in every lane.
    fn like(self, value: f64) -> Self;
    /// self · factor + addend; fused in single precision.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// addend − self · factor; fused in single precision.
    fn negate_mul_add(self, factor: Self, addend: Self) -> Self;
    /// self / divisor, of which the reciprocal is known; single precision uses it.
    fn over(self, divisor: Self, reciprocal: Self) -> Self;
    /// 1 / self.
    fn recip(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// `yes` where self ≥ other, else `no`; so also where either is not a number.
    fn select_ge(self, other: Self, yes: Self, no: Self) -> Self;
    /// 2·acos(1 − self) of a number in [0, 1]: the orientation term of the published reward.
    fn twice_acos_one_minus(self) -> Self;

    /// Runs `f`; numbers so wide that a copy of it at every call would only make the program larger keep it apart.
    #[inline(always)]
    fn apart<T>(f: impl FnOnce() -> T) -> T {
        f()
    }

    /// self clamped; what is no number stays none, as in `f64::clamp`.
    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        let raised = low.select_ge(self, low, self);
        raised.select_ge(high, high, raised)
    }

    /// Division of a vector by a length; single precision multiplies by one reciprocal.
    #[inline(always)]
    fn divide_all<const N: usize>(all: [Self; N], divisor: Self) -> [Self; N] {
        let reciprocal = divisor.recip();
        array!(|i| all[i].over(divisor, reciprocal))
    }
}

impl Real for f64 {
    const FOLDED: bool = false;
    #[inline(always)]
    fn like(self, value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }
    #[inline(always)]
    fn negate_mul_add(self, factor: Self, addend: Self) -> Self {
        addend - self * factor
    }
    #[inline(always)]
    fn over(self, divisor: Self, _reciprocal: Self) -> Self {
        self / divisor
    }
    #[inline(always)]
    fn recip(self) -> Self {
        1.0 / self
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn select_ge(self, other: Self, yes: Self, no: Self) -> Self {
        if self >= other { yes } else { no }
    }
    #[inline(always)]
    fn twice_acos_one_minus(self) -> Self {
        2.0 * f64::clamp(1.0 - self, -1.0, 1.0).acos()
    }
}

/// What a batch stores.
pub trait Scalar: Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// A register of it.
    type Lanes<S: Simd>: Real;
    /// Numbers in a register.
    fn width<S: Simd>() -> usize;
    /// Register number `at` of a pack.
    fn load<S: Simd>(simd: S, from: &Pack<Self>, at: usize) -> Self::Lanes<S>;
    /// Writes register number `at` of a pack.
    fn store<S: Simd>(lanes: Self::Lanes<S>, to: &mut Pack<Self>, at: usize);
    /// A constant in every lane.
    fn splat<S: Simd>(simd: S, value: f64) -> Self::Lanes<S>;
    /// Rounds.
    fn of(value: f64) -> Self;
    /// Widens.
    fn wide(self) -> f64;
    /// As policies see it.
    fn narrow(self) -> f32;
}

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $scalar:ident, $register:ident, $as_simd:ident, $as_mut_simd:ident, $splat:ident,
     $add:ident, $sub:ident, $mul:ident, $neg:ident, $ge:ident, $select:ident, $abs:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<S: Simd> {
            simd: S,
            lanes: S::$register,
        }

        impl<S: Simd> $name<S> {
            #[inline(always)]
            fn with(self, lanes: S::$register) -> Self {
                Self { lanes, ..self }
            }
            #[inline(always)]
            fn ge_else(self, other: Self, yes: Self, no: Self) -> Self {
                let mask = self.simd.$ge(self.lanes, other.lanes);
                self.with(self.simd.$select(mask, yes.lanes, no.lanes))
            }
            #[inline(always)]
            fn magnitude(self) -> Self {
                self.with(self.simd.$abs(self.lanes))
            }
        }

        impl<S: Simd> Add for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.with(self.simd.$add(self.lanes, other.lanes))
            }
        }

        impl<S: Simd> Sub for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.with(self.simd.$sub(self.lanes, other.lanes))
            }
        }

        impl<S: Simd> Mul for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.with(self.simd.$mul(self.lanes, other.lanes))
            }
        }

        impl<S: Simd> Neg for $name<S> {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                self.with(self.simd.$neg(self.lanes))
            }
        }

        impl Scalar for $scalar {
            type Lanes<S: Simd> = $name<S>;
            #[inline(always)]
            fn width<S: Simd>() -> usize {
                size_of::<S::$register>() / size_of::<$scalar>()
            }
            #[inline(always)]
            fn load<S: Simd>(simd: S, from: &Pack<Self>, at: usize) -> $name<S> {
                $name { simd, lanes: S::$as_simd(from).0[at] }
            }
            #[inline(always)]
            fn store<S: Simd>(lanes: $name<S>, to: &mut Pack<Self>, at: usize) {
                S::$as_mut_simd(to).0[at] = lanes.lanes;
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: f64) -> $name<S> {
                $name { simd, lanes: simd.$splat(value as $scalar) }
            }
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $scalar
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn narrow(self) -> f32 {
                self as f32
            }
        }
    };
}

lanes!(
    /// A register of double precision: exactly the arithmetic of `f64`.
    F64s, f64, f64s, as_simd_f64s, as_mut_simd_f64s, splat_f64s, add_f64s, sub_f64s, mul_f64s, neg_f64s,
    greater_than_or_equal_f64s, select_f64s, abs_f64s
);
lanes!(
    /// A register of single precision.
    F32s, f32, f32s, as_simd_f32s, as_mut_simd_f32s, splat_f32s, add_f32s, sub_f32s, mul_f32s, neg_f32s,
    greater_than_or_equal_f32s, select_f32s, abs_f32s
);

impl<S: Simd> Real for F64s<S> {
    const FOLDED: bool = false;
    #[inline(always)]
    fn like(self, value: f64) -> Self {
        self.with(self.simd.splat_f64s(value))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }
    #[inline(always)]
    fn negate_mul_add(self, factor: Self, addend: Self) -> Self {
        addend - self * factor
    }
    #[inline(always)]
    fn over(self, divisor: Self, _reciprocal: Self) -> Self {
        self.with(self.simd.div_f64s(self.lanes, divisor.lanes))
    }
    #[inline(always)]
    fn recip(self) -> Self {
        self.like(1.0).over(self, self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.with(self.simd.sqrt_f64s(self.lanes))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.magnitude()
    }
    #[inline(always)]
    fn select_ge(self, other: Self, yes: Self, no: Self) -> Self {
        self.ge_else(other, yes, no)
    }
    #[inline(always)]
    fn twice_acos_one_minus(self) -> Self {
        // Lane by lane, so that it is the single simulator's to the last bit.
        let mut numbers = [0.0; LANES];
        f64::store(self, &mut numbers, 0);
        numbers[..f64::width::<S>()].iter_mut().for_each(|v| *v = v.twice_acos_one_minus());
        f64::load(self.simd, &numbers, 0)
    }
}

/// asin(√t)/√t on [0, 1/2] by powers of t: a Chebyshev fit, error below 3e-9.
const ASIN: [f64; 9] = [
    1.00000000162,
    0.166666142378,
    0.0750275731635,
    0.0440916167337,
    0.0358142392841,
    -0.00702057915277,
    0.107400021303,
    -0.135916271241,
    0.123913494906,
];

impl<S: Simd> Real for F32s<S> {
    const FOLDED: bool = true;
    #[inline(always)]
    fn like(self, value: f64) -> Self {
        self.with(self.simd.splat_f32s(value as f32))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.with(self.simd.mul_add_e_f32s(self.lanes, factor.lanes, addend.lanes))
    }
    #[inline(always)]
    fn negate_mul_add(self, factor: Self, addend: Self) -> Self {
        self.with(self.simd.negate_mul_add_e_f32s(self.lanes, factor.lanes, addend.lanes))
    }
    #[inline(always)]
    fn over(self, _divisor: Self, reciprocal: Self) -> Self {
        self * reciprocal
    }
    #[inline(always)]
    fn recip(self) -> Self {
        self.with(self.simd.div_f32s(self.like(1.0).lanes, self.lanes))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.with(self.simd.sqrt_f32s(self.lanes))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.magnitude()
    }
    #[inline(always)]
    fn select_ge(self, other: Self, yes: Self, no: Self) -> Self {
        self.ge_else(other, yes, no)
    }
    #[inline(always)]
    fn twice_acos_one_minus(self) -> Self {
        // acos(1 − 2t) = 2 asin √t: unlike the left side, the right one keeps its digits near 0.
        let (zero, one) = (self.like(0.0), self.like(1.0));
        let t = self.clamp(zero, one) * self.like(0.5);
        let mut sum = self.like(ASIN[ASIN.len() - 1]);
        let mut power = ASIN.len() - 1;
        while power > 0 {
            power -= 1;
            sum = sum.mul_add(t, self.like(ASIN[power]));
        }
        sum * t.sqrt() * self.like(4.0)
    }
}
