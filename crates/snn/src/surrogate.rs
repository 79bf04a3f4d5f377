//! Stand-ins for the derivative of a spike, which is zero almost everywhere.

use crate::Real;
use serde::{Deserialize, Serialize};

/// Which curve replaces ∂s/∂x, with x = U − U_thr and slope k. All are normalised to 1 at x = 0, so that k narrows the
/// curve without scaling its peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surrogate {
    /// 1 / (1 + k·|x|)², the paper's.
    #[default]
    FastSigmoid,
    /// 1 / (1 + (π/2·k·x)²).
    ArcTan,
    /// 4·σ(k·x)·(1 − σ(k·x)), σ the logistic function.
    Sigmoid,
    /// max(0, 1 − k·|x|).
    Triangular,
}

impl Surrogate {
    /// The stand-in derivative at `x` for slope `k`.
    pub fn derivative<T: Real>(self, x: T, k: T) -> T {
        match self {
            Self::FastSigmoid => fast_sigmoid(x, k),
            Self::ArcTan => arc_tan(x, k),
            Self::Sigmoid => sigmoid(x, k),
            Self::Triangular => triangular(x, k),
        }
    }
}

#[inline(always)]
pub(crate) fn fast_sigmoid<T: Real>(x: T, k: T) -> T {
    let d = T::one() + k * x.abs();
    T::one() / (d * d)
}

#[inline(always)]
pub(crate) fn arc_tan<T: Real>(x: T, k: T) -> T {
    let y = T::of(std::f64::consts::FRAC_PI_2) * k * x;
    T::one() / (T::one() + y * y)
}

#[inline(always)]
pub(crate) fn sigmoid<T: Real>(x: T, k: T) -> T {
    // Written with exp(−|kx|) so that a large argument cannot overflow.
    let e = (-(k * x).abs()).exp();
    let d = T::one() + e;
    T::of(4.0) * e / (d * d)
}

#[inline(always)]
pub(crate) fn triangular<T: Real>(x: T, k: T) -> T {
    let y = T::one() - k * x.abs();
    if y > T::zero() { y } else { T::zero() }
}
