//! Threads for a node's long work.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use super::{
    doorbell::Doorbell,
    priority::{self, Urgency},
};
use crate::{
    local::panic_message,
    node::{Job, JobResult},
};

/// Runs jobs on threads of their own, and collects what they leave. Who starts one does not wait: a thread that has done its
/// job is kept for the next, so that none is started, and no stack mapped, while control flies.
#[derive(Debug)]
pub struct Jobs {
    sender: mpsc::Sender<JobResult>,
    receiver: mpsc::Receiver<JobResult>,
    bell: Arc<Doorbell>,
    urgency: Urgency,
    workers: Vec<Worker>,
}

/// A thread that waits for a job, or does one.
#[derive(Debug)]
struct Worker {
    jobs: mpsc::Sender<Job>,
    busy: Arc<AtomicBool>,
}

impl Jobs {
    /// No jobs yet; finished ones ring the bell. In a thread that is [`Urgency::Control`] a first worker is started at once.
    pub fn new(bell: &Arc<Doorbell>) -> Self {
        let (sender, receiver) = mpsc::channel();
        let urgency = priority::taken();
        let mut jobs = Self { sender, receiver, bell: Arc::clone(bell), urgency, workers: Vec::new() };
        if urgency == Urgency::Control {
            // If that fails, it is tried again with the first job, and told there.
            jobs.workers.extend(jobs.hire().ok());
        }
        jobs
    }

    fn hire(&self) -> std::io::Result<Worker> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let busy = Arc::new(AtomicBool::new(false));
        let (sender, bell, working) = (self.sender.clone(), Arc::clone(&self.bell), Arc::clone(&busy));
        let urgency = self.urgency;
        let work = move || {
            match urgency {
                Urgency::Control => priority::stay_near_control(),
                Urgency::Background => priority::yield_to_all(),
            }
            for job in to_do {
                let name = job.name;
                let result =
                    catch_unwind(AssertUnwindSafe(job.work)).map_err(|panic| panic_message(panic.as_ref()));
                working.store(false, Ordering::Release);
                // The receiver is gone only when the process ends.
                let _ = sender.send(JobResult { name, result });
                bell.ring();
            }
        };
        std::thread::Builder::new().name("job".to_owned()).spawn(work)?;
        Ok(Worker { jobs, busy })
    }

    /// Starts one.
    pub fn start(&mut self, job: Job) {
        let idle = self.workers.iter().find(|w| !w.busy.load(Ordering::Acquire));
        let (job, name) = match idle {
            Some(worker) => {
                worker.busy.store(true, Ordering::Release);
                let name = job.name;
                match worker.jobs.send(job) {
                    Ok(()) => return,
                    Err(unsent) => (unsent.0, name),
                }
            }
            None => {
                let name = job.name;
                (job, name)
            }
        };
        match self.hire() {
            Ok(worker) => {
                worker.busy.store(true, Ordering::Release);
                let _ = worker.jobs.send(job);
                self.workers.push(worker);
            }
            Err(error) => {
                let result = Err(format!("cannot start a thread: {error}"));
                let _ = self.sender.send(JobResult { name, result });
            }
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
        let mut jobs = Jobs::new(&bell);
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

    #[test]
    fn a_job_of_control_is_not_idle_and_its_thread_is_kept() {
        let run = || {
            let granted = priority::take(Urgency::Control).unwrap();
            let bell = Doorbell::new();
            let mut jobs = Jobs::new(&bell);
            let mut seen = Vec::new();
            for _ in 0..3 {
                jobs.start(Job {
                    name: "policy",
                    simulated_duration: Span::ZERO,
                    work: Box::new(|| {
                        // SAFETY: no pointers.
                        Box::new((std::thread::current().id(), unsafe { libc::sched_getscheduler(0) }))
                    }),
                });
                let result = loop {
                    bell.wait_until(Instant::now() + Duration::from_secs(1));
                    if let Some(result) = jobs.finished() {
                        break result.result.unwrap();
                    }
                };
                seen.push(*result.downcast::<(std::thread::ThreadId, libc::c_int)>().unwrap());
            }
            assert!(seen.windows(2).all(|w| w[0] == w[1]), "one thread for all: {seen:?}");
            let expected = match granted {
                priority::Granted::RealTime => libc::SCHED_FIFO,
                priority::Granted::Ordinary(_) => libc::SCHED_OTHER,
            };
            assert_eq!(seen[0].1, expected);
        };
        std::thread::spawn(run).join().unwrap();
    }
}
