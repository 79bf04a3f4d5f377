//! The two floating-point types a network can be made of.

use ndarray::NdFloat;
use serde::{Serialize, de::DeserializeOwned};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` (training and flight) or `f64` (checks against oracles). Sealed: the matrix kernels exist for these two only.
pub trait Real: sealed::Sealed + NdFloat + Default + Serialize + DeserializeOwned {
    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// This value as `f64`, exactly.
    fn to_f64_exact(self) -> f64;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn to_f64_exact(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn to_f64_exact(self) -> f64 {
        self
    }
}
