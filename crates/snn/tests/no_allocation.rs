//! The control tick does not allocate. Alone in its file: it counts the whole process's allocations per thread.

use spikewing_snn::{Flight, Mlp, Network, Shape};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as required of the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as required of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    f();
    COUNT.with(Cell::get) - before
}

#[test]
fn flying_and_swapping_do_not_allocate() {
    use rand::SeedableRng;
    let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(1);
    let network = Network::random(&Shape::paper(), &mut rng).unwrap();
    let other = Network::random(&Shape::paper(), &mut rng).unwrap();
    let mut flight = Flight::new(&network);
    let mut guide = Mlp::random(&[146, 64, 64, 4], &mut rng).unwrap();
    let (observation, privileged, mut action) = ([0.3; 18], [0.3; 146], [0.0; 4]);
    let mut state = vec![0.0; flight.membrane_len()];
    guide.forward(&privileged, &mut action).unwrap();
    let count = allocations(|| {
        for _ in 0..100 {
            flight.step(&observation, &mut action).unwrap();
            guide.forward(&privileged, &mut action).unwrap();
        }
        flight.freeze_into(&mut state).unwrap();
        flight.load(&other).unwrap();
        flight.thaw(&state).unwrap();
        flight.reset();
        flight.step(&observation, &mut action).unwrap();
    });
    assert_eq!(count, 0);
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0, "the counter counts");
}
