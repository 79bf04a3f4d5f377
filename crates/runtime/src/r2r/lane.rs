//! Threads that write, so that control never waits inside a middleware.
//!
//! A write takes the middleware's locks, which discovery and readers hold at their own pace. Control hands a sample to a
//! lane and goes on. What a lane cannot get rid of gives way to what is newer, up to each output's depth.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Something to be written; `key` tells whose it is.
struct Work {
    key: usize,
    write: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    writing: bool,
    closed: bool,
    given_way: u64,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing runs while the lock is held that could leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that writes what it is handed, in order.
pub struct Lane(Arc<Shared>);

impl Lane {
    /// Starts the thread; it has the priority of the caller's.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&own))?;
        Ok(Self(shared))
    }

    /// Writes as soon as possible. Of one key at most `depth` wait: the oldest gives way.
    pub fn push(&self, key: usize, depth: usize, write: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.lock();
        if queue.waiting.iter().filter(|w| w.key == key).count() >= depth.max(1)
            && let Some(oldest) = queue.waiting.iter().position(|w| w.key == key)
        {
            queue.waiting.remove(oldest);
            queue.given_way += 1;
        }
        queue.waiting.push_back(Work { key, write: Box::new(write) });
        drop(queue);
        self.0.changed.notify_all();
    }

    /// How many gave way since the last call.
    pub fn given_way(&self) -> u64 {
        std::mem::take(&mut self.0.lock().given_way)
    }

    /// Waits until everything is written, but not longer than `limit`.
    pub fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut queue = self.0.lock();
        while queue.writing || !queue.waiting.is_empty() {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return;
            };
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // A thread that hangs in a write isn't waited for.
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

fn run(shared: &Shared) {
    loop {
        let work = {
            let mut queue = shared.lock();
            queue.writing = false;
            if queue.waiting.is_empty() {
                shared.changed.notify_all();
            }
            loop {
                if let Some(work) = queue.waiting.pop_front() {
                    queue.writing = true;
                    break work;
                }
                if queue.closed {
                    return;
                }
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        (work.write)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_write_that_hangs_holds_nobody_up_and_the_newest_win() {
        let lane = Lane::start("test").unwrap();
        let (release, hold) = mpsc::channel::<()>();
        let (written, seen) = mpsc::channel();
        let (started, begun) = mpsc::channel();
        lane.push(0, 1, move || {
            started.send(()).unwrap();
            let _ = hold.recv();
        });
        begun.recv().unwrap();
        for value in 0..5 {
            for (key, depth) in [(1, 1), (2, 3)] {
                let written = written.clone();
                lane.push(key, depth, move || written.send((key, value)).unwrap());
            }
        }
        assert_eq!(lane.given_way(), 4 + 2);
        lane.settle(Duration::from_millis(1));
        assert!(seen.try_recv().is_err(), "the first write still hangs");
        release.send(()).unwrap();
        lane.settle(Duration::from_secs(10));
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [(2, 2), (2, 3), (1, 4), (2, 4)]);
        assert_eq!(lane.given_way(), 0);
    }
}
