//! Threads for a node's long work.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
};

use super::{doorbell::Doorbell, priority};
use crate::{
    local::panic_message,
    node::{Job, JobResult},
};

/// Runs jobs, each on its own thread that gives way to everything else, and collects what they leave.
#[derive(Debug)]
pub struct Jobs {
    sender: mpsc::Sender<JobResult>,
    receiver: mpsc::Receiver<JobResult>,
    bell: Arc<Doorbell>,
}

impl Jobs {
    /// No jobs yet; finished ones ring the bell.
    pub fn new(bell: &Arc<Doorbell>) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver, bell: Arc::clone(bell) }
    }

    /// Starts one.
    pub fn start(&self, job: Job) {
        let name = job.name;
        let (sender, bell) = (self.sender.clone(), Arc::clone(&self.bell));
        let work = move || {
            priority::yield_to_all();
            let result =
                catch_unwind(AssertUnwindSafe(job.work)).map_err(|panic| panic_message(panic.as_ref()));
            // The receiver is gone only when the process ends.
            let _ = sender.send(JobResult { name, result });
            bell.ring();
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            let result = Err(format!("cannot start a thread: {error}"));
            let _ = self.sender.send(JobResult { name, result });
        }
    }

    /// A finished one.
    pub fn finished(&self) -> Option<JobResult> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::time::Span;

    #[test]
    fn a_job_gives_way_and_a_panic_is_a_result() {
        let bell = Doorbell::new();
        let jobs = Jobs::new(&bell);
        let job = |name, work| Job { name, simulated_duration: Span::ZERO, work };
        jobs.start(job(
            "policy",
            Box::new(|| {
                // SAFETY: no pointers.
                Box::new(unsafe { libc::sched_getscheduler(0) })
            }),
        ));
        jobs.start(job("panics", Box::new(|| panic!("on purpose"))));
        let mut left = 2;
        // Idle threads wait long on a busy machine.
        let deadline = Instant::now() + Duration::from_secs(120);
        while left > 0 && Instant::now() < deadline {
            bell.wait_until(deadline);
            while let Some(result) = jobs.finished() {
                left -= 1;
                match result.name {
                    "policy" => {
                        let policy: Option<&libc::c_int> = result.result.as_ref().unwrap().downcast_ref();
                        assert_eq!(policy, Some(&libc::SCHED_IDLE));
                    }
                    _ => assert_eq!(result.result.unwrap_err(), "on purpose"),
                }
            }
        }
        assert_eq!(left, 0);
    }
}
