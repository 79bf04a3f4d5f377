//! What one core of this machine can do at most: fused multiply-adds in single precision and bytes copied per second.
//! `benches/README.md` holds the simulator's figures against these.

use std::{hint::black_box, time::Instant};

use pulp::{Arch, Simd, WithSimd};

/// Twelve independent chains of fused multiply-adds: enough to hide their latency.
struct Chains {
    rounds: usize,
}

impl WithSimd for Chains {
    /// Operations done; a fused multiply-add is two.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (factor, addend) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut sums = [simd.splat_f32s(black_box(1.0)); 12];
        for _ in 0..self.rounds {
            let mut i = 0;
            while i < sums.len() {
                sums[i] = simd.mul_add_e_f32s(sums[i], factor, addend);
                i += 1;
            }
        }
        let mut i = 0;
        while i < sums.len() {
            black_box(simd.reduce_sum_f32s(sums[i]));
            i += 1;
        }
        2.0 * (self.rounds * sums.len() * S::F32_LANES) as f64
    }
}

/// The best of many short slices: whatever else runs on the machine only makes a slice slower.
fn best(mut slice: impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    let mut best = 0.0_f64;
    while start.elapsed().as_millis() < 2000 {
        let begun = Instant::now();
        let done = slice();
        best = best.max(done / begun.elapsed().as_secs_f64());
    }
    best
}

fn copied(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1_u8; bytes + 64], vec![0_u8; bytes + 64]);
    // Both from a cache line's beginning: copies between others are slow on some machines.
    let (from, at) = (&from[from.as_ptr().align_offset(64)..][..bytes], to.as_ptr().align_offset(64));
    let to = &mut to[at..][..bytes];
    let rounds = (8 << 20) / bytes.min(8 << 20);
    best(|| {
        for _ in 0..rounds {
            to.copy_from_slice(black_box(from));
            black_box(&mut *to);
        }
        // Read and written.
        2.0 * (rounds * bytes) as f64
    })
}

fn main() {
    let operations = best(|| Arch::new().dispatch(Chains { rounds: 100_000 }));
    println!("fused multiply-adds, f32, one core: {:.1} GFLOP/s", operations / 1e9);
    for kibibytes in [96, 1024, 256 * 1024] {
        let rate = copied(kibibytes << 10);
        println!("copy of {kibibytes} KiB, one core: {:.1} GB/s read and written", rate / 1e9);
    }
}
