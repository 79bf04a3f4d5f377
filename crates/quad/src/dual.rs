//! Dual numbers: a value, and its derivatives with respect to what a step starts from.
//!
//! The equations of motion are written over any [`Real`]; over these they differentiate themselves, so that there is no
//! second set of equations that could disagree with the first. Values are those of `f64`, to the last bit; derivatives are
//! single precision, three registers of eight.

use std::ops::{Add, Mul, Neg, Sub};

use crate::lanes::Real;

/// Derivatives that a number carries: a whole number of registers.
pub const WIDTH: usize = 24;

/// A number and its derivatives.
#[derive(Clone, Copy, Debug)]
pub struct Dual {
    /// The number.
    pub value: f64,
    /// Its derivatives.
    pub slope: [f32; WIDTH],
}

impl Dual {
    /// A number that depends on nothing.
    #[inline(always)]
    pub fn constant(value: f64) -> Self {
        Self { value, slope: [0.0; WIDTH] }
    }

    /// The variable that derivative number `index` is taken with respect to.
    #[inline(always)]
    pub fn variable(value: f64, index: usize) -> Self {
        let mut slope = [0.0; WIDTH];
        slope[index] = 1.0;
        Self { value, slope }
    }

    /// f(self), where f has this value and this derivative.
    #[inline(always)]
    fn chain(self, value: f64, derivative: f64) -> Self {
        let d = derivative as f32;
        Self { value, slope: combined(self.slope, d, [0.0; WIDTH], 0.0) }
    }
}

/// a·x + b·y of derivatives a and b.
#[inline(always)]
fn combined(a: [f32; WIDTH], x: f32, b: [f32; WIDTH], y: f32) -> [f32; WIDTH] {
    let mut sum = [0.0; WIDTH];
    for i in 0..WIDTH {
        sum[i] = a[i] * x + b[i] * y;
    }
    sum
}

/// Runs `f` compiled for the vector unit that nearly every machine has, as a function of its own.
#[inline(always)]
pub fn vectorized<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, Op(f));
    }
    plain(f)
}

#[cfg(target_arch = "x86_64")]
struct Op<F>(F);

#[cfg(target_arch = "x86_64")]
impl<T, F: FnOnce() -> T> pulp::WithSimd for Op<F> {
    type Output = T;
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) -> T {
        (self.0)()
    }
}

#[inline(never)]
fn plain<T>(f: impl FnOnce() -> T) -> T {
    f()
}

impl Add for Dual {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: combined(self.slope, 1.0, other.slope, 1.0) }
    }
}

impl Sub for Dual {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, slope: combined(self.slope, 1.0, other.slope, -1.0) }
    }
}

impl Mul for Dual {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let (x, y) = (self.value as f32, other.value as f32);
        Self { value: self.value * other.value, slope: combined(self.slope, y, other.slope, x) }
    }
}

impl Neg for Dual {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.chain(-self.value, -1.0)
    }
}

impl Real for Dual {
    const FOLDED: bool = false;
    #[inline(always)]
    fn like(self, value: f64) -> Self {
        Self::constant(value)
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
        let quotient = self.value / divisor.value;
        let inverse = 1.0 / divisor.value;
        Self {
            value: quotient,
            slope: combined(self.slope, inverse as f32, divisor.slope, (-quotient * inverse) as f32),
        }
    }
    #[inline(always)]
    fn recip(self) -> Self {
        let inverse = 1.0 / self.value;
        self.chain(inverse, -inverse * inverse)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.chain(root, 0.5 / root)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.chain(self.value.abs(), if self.value < 0.0 { -1.0 } else { 1.0 })
    }
    #[inline(always)]
    fn select_ge(self, other: Self, yes: Self, no: Self) -> Self {
        if self.value >= other.value { yes } else { no }
    }
    #[inline(always)]
    fn twice_acos_one_minus(self) -> Self {
        let t = self.value.clamp(0.0, 1.0);
        // d/dt 2·acos(1 − t) = 2/√(t·(2 − t)); at 0, where it has no bound, none is claimed.
        let derivative = if t > 0.0 { 2.0 / (t * (2.0 - t)).sqrt() } else { 0.0 };
        self.chain(self.value.twice_acos_one_minus(), derivative)
    }
    #[inline(always)]
    fn apart<T>(f: impl FnOnce() -> T) -> T {
        vectorized(f)
    }
}
