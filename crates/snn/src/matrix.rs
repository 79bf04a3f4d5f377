//! Dense products and loops for the machine's vector unit, for every network of the suite.

use gemm::Parallelism;

use crate::Real;

/// Runs `f` compiled for the widest vector unit this machine has.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Op(f))
}

/// A strided matrix for [`product`].
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    /// Elements.
    pub data: &'a [T],
    /// From a row to the next, in elements.
    pub row_stride: usize,
    /// From a column to the next, in elements.
    pub column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after another.
    pub fn row_major(data: &'a [T], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }
    /// Rows and columns exchanged; nothing is copied.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }
    fn last(&self, rows: usize, columns: usize) -> usize {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride
    }
}

/// Whether a product is added to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// It is.
    Yes,
    /// It takes its place.
    No,
}

/// `out (+)= lhs·rhs`, `out` row-major `[rows, columns]`, on the calling thread, in an order that depends
/// on nothing but the shapes: the same bits on one machine whatever else runs.
///
/// # Panics
/// When a factor or the destination is too short for the shapes.
pub fn product<T: Real>(
    rows: usize,
    columns: usize,
    depth: usize,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    out: &mut [T],
    accumulate: Accumulate,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(out.len() >= rows * columns, "the product does not fit its destination");
    if depth == 0 {
        if accumulate == Accumulate::No {
            out[..rows * columns].fill(T::zero());
        }
        return;
    }
    assert!(lhs.last(rows, depth) < lhs.data.len(), "left factor too short");
    assert!(rhs.last(depth, columns) < rhs.data.len(), "right factor too short");
    // SAFETY: the assertions above keep every address the product touches inside its slice; strides of live slices fit
    // isize; `out` is borrowed exclusively, so it does not overlap the factors.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            accumulate == Accumulate::Yes,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
