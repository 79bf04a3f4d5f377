//! What this machine can do at most: the bounds that benches/README.md holds the network's times against.
//!
//!     cargo run --release -p spikewing-snn --example machine_limits
//!
//! Best of many short runs, so that what else the machine does costs little.

use gemm::Parallelism;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let threads = rayon::current_num_threads();
    println!("{threads} threads; each figure is of all together");
    println!("multiply-adds in registers   {:7.1} GFLOP/s", threads as f64 * best(40, registers));
    println!(
        "matrix product 800x128x256   {:7.1} GFLOP/s (the backward pass's)",
        threads as f64 * best(40, matrix_product)
    );
    for (name, floats) in [("L1", 2_000), ("L2", 40_000), ("memory", 16_000_000)] {
        println!("a[i] = b[i] + s*c[i], {name:6} {:7.1} GB/s", triad(floats, threads));
    }
}

/// The largest rate of several runs.
fn best(runs: usize, mut rate: impl FnMut() -> f64) -> f64 {
    (0..runs).map(|_| rate()).fold(0.0, f64::max)
}

/// Twelve independent chains of fused multiply-adds, wide enough for any vector unit.
fn registers() -> f64 {
    struct Chains;
    impl pulp::WithSimd for Chains {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> f64 {
            let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(1e-3)));
            let mut sums = [simd.splat_f32s(1.0); 12];
            let rounds = 20_000;
            let start = Instant::now();
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(*sum, a, b);
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            black_box(sums.map(|s| simd.reduce_sum_f32s(s)));
            (2 * rounds * sums.len() * S::F32_LANES) as f64 / seconds / 1e9
        }
    }
    pulp::Arch::new().dispatch(Chains)
}

fn matrix_product() -> f64 {
    let (m, k, n) = (800, 128, 256);
    let (lhs, rhs, mut out) = (vec![0.5f32; m * k], vec![0.25f32; k * n], vec![0.0f32; m * n]);
    let start = Instant::now();
    // SAFETY: the three buffers have m·k, k·n and m·n entries, and the strides are those of row-major matrices of that size.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            lhs.as_ptr(),
            1,
            k as isize,
            rhs.as_ptr(),
            1,
            n as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    let seconds = start.elapsed().as_secs_f64();
    black_box(&out);
    (2 * m * k * n) as f64 / seconds / 1e9
}

/// Bytes read and written per second by a triad over three arrays, `floats` entries in all, per thread.
fn triad(floats: usize, threads: usize) -> f64 {
    let n = floats / 3;
    let rounds = (3_000_000 / n).max(1);
    let rates: Vec<f64> = (0..threads)
        .into_par_iter()
        .map(|_| {
            let (mut a, b, c) = (vec![0.0f32; n], vec![1.0f32; n], vec![2.0f32; n]);
            best(20, || {
                let start = Instant::now();
                for _ in 0..rounds {
                    let s = black_box(0.5f32);
                    a.iter_mut().zip(&b).zip(&c).for_each(|((a, b), c)| *a = b + s * c);
                    black_box(&mut a);
                }
                (12 * n * rounds) as f64 / start.elapsed().as_secs_f64() / 1e9
            })
        })
        .collect();
    rates.iter().sum()
}
