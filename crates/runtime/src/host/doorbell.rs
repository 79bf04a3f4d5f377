//! What the control thread sleeps on.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
    time::Instant,
};

/// Anyone who has something for the control thread rings; the thread sleeps until someone has, or a deadline passes.
/// A ring while it is awake is remembered, so none is lost.
#[derive(Debug, Default)]
pub struct Doorbell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Doorbell {
    /// A silent one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A flag is valid whatever happened to a thread that held it.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the control thread.
    pub fn ring(&self) {
        let mut rung = self.lock();
        if !*rung {
            *rung = true;
            self.bell.notify_one();
        }
    }

    /// Sleeps until rung or until `deadline`.
    pub fn wait_until(&self, deadline: Instant) {
        let mut rung = self.lock();
        while !*rung {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return;
            };
            rung = self.bell.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
    }
}

/// A push button of one source: it rings the bell and remembers that it was this one.
#[derive(Debug)]
pub struct Button {
    pressed: AtomicBool,
    bell: Arc<Doorbell>,
}

impl Button {
    /// A button that counts as pressed at first, so that the source is looked at once.
    pub fn new(bell: &Arc<Doorbell>) -> Arc<Self> {
        Arc::new(Self { pressed: AtomicBool::new(true), bell: Arc::clone(bell) })
    }

    /// Whether it was pressed since the last call.
    pub fn take(&self) -> bool {
        self.pressed.swap(false, Ordering::AcqRel)
    }

    /// Presses it.
    pub fn press(&self) {
        self.pressed.store(true, Ordering::Release);
        self.bell.ring();
    }
}

impl Wake for Button {
    fn wake(self: Arc<Self>) {
        self.press();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.press();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Doorbell::new();
        let button = Button::new(&bell);
        assert!(button.take());
        assert!(!button.take());
        button.press();
        let start = Instant::now();
        bell.wait_until(start + Duration::from_secs(5));
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(button.take());
        let start = Instant::now();
        bell.wait_until(start + Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
