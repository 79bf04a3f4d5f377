//! Who gets the processor first: control before everything else, learning last.
//!
//! A control tick that waits until a learner, a compiler or a browser has used up its turn is a missed tick. On Linux a
//! process that is [`Urgency::Control`] therefore asks for the real-time policy `SCHED_FIFO` for all its threads (those
//! of the transport inherit it), at a priority below that of the kernel's own threads. The system grants it to root, to
//! whoever has `CAP_SYS_NICE` or an `rtprio` limit (`/etc/security/limits.d`), and refuses it to others; then, or with
//! `SPIKEWING_REALTIME=off`, the process runs as any other.
//!
//! Jobs of a background process run as `SCHED_IDLE`: they take what nobody else wants, and give it back at once. **Jobs of a
//! control process must not**: they share locks with control (the process's memory map, taken by page faults, `mmap` and
//! `munmap`; the allocator's arenas), and while an idle thread holds one, any busy loop on the machine keeps it off the
//! processor, and control waits for the busy loop. Such a job runs right below control instead ([`stay_near_control`]): the
//! lowest real-time priority where real time was granted, the ordinary one where it was not. It must be bounded in time.

use std::cell::Cell;

/// What is lost when a node comes late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// A control tick.
    Control,
    /// Nothing that cannot wait.
    #[default]
    Background,
}

/// What a process got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// Real-time scheduling.
    RealTime,
    /// The ordinary one, and why.
    Ordinary(String),
}

thread_local!(static TAKEN: Cell<Urgency> = const { Cell::new(Urgency::Background) });

/// Real-time priority of control's jobs: below control itself, above every ordinary process.
const JOB_PRIORITY: libc::c_int = 1;
/// Real-time priority of control: above every ordinary process, below the kernel's threads, which have 50.
const FIFO_PRIORITY: libc::c_int = 10;
const VARIABLE: &str = "SPIKEWING_REALTIME";

/// Gives the calling thread, and all that it starts from now on, what `urgency` calls for.
///
/// # Errors
/// When the environment variable is neither `auto` nor `off`.
pub fn take(urgency: Urgency) -> Result<Granted, String> {
    TAKEN.set(urgency);
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    match (wanted.as_str(), urgency) {
        ("" | "auto" | "off", Urgency::Background) => Ok(Granted::Ordinary("it is not urgent".into())),
        ("" | "auto", Urgency::Control) => Ok(real_time()),
        ("off", Urgency::Control) => Ok(Granted::Ordinary(format!("{VARIABLE}=off"))),
        _ => Err(format!("{VARIABLE}={wanted}: expected auto or off")),
    }
}

#[cfg(target_os = "linux")]
fn real_time() -> Granted {
    match set(libc::SCHED_FIFO, FIFO_PRIORITY) {
        Ok(()) => Granted::RealTime,
        Err(error) => Granted::Ordinary(error.to_string()),
    }
}

#[cfg(not(target_os = "linux"))]
fn real_time() -> Granted {
    Granted::Ordinary("only on Linux".into())
}

/// What the calling thread took.
pub fn taken() -> Urgency {
    TAKEN.get()
}

/// Puts the calling thread, which inherited control's scheduling, right below control.
#[cfg(target_os = "linux")]
pub fn stay_near_control() {
    // SAFETY: no pointers.
    let real_time = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_FIFO;
    if real_time && let Err(error) = set(libc::SCHED_FIFO, JOB_PRIORITY) {
        tracing::debug!("cannot put a job below control: {error}");
    }
}

/// Elsewhere than on Linux, priorities belong to processes.
#[cfg(not(target_os = "linux"))]
pub fn stay_near_control() {}

/// Makes the calling thread, and all that it starts from now on, take only what nobody else wants.
#[cfg(target_os = "linux")]
pub fn yield_to_all() {
    if let Err(error) = set(libc::SCHED_IDLE, 0) {
        tracing::debug!("cannot lower a job's priority: {error}");
    }
}

/// Elsewhere than on Linux, priorities belong to processes.
#[cfg(not(target_os = "linux"))]
pub fn yield_to_all() {}

#[cfg(target_os = "linux")]
fn set(policy: libc::c_int, priority: libc::c_int) -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: thread 0 is the caller, and the parameters outlive the call.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Policy of the calling thread.
    fn policy() -> libc::c_int {
        // SAFETY: no pointers.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn control_is_real_time_where_the_system_allows_it_and_its_jobs_are_not() {
        std::thread::spawn(|| {
            let granted = take(Urgency::Control).unwrap();
            assert_eq!(granted == Granted::RealTime, policy() == libc::SCHED_FIFO, "{granted:?}");
            let inherited = policy();
            std::thread::spawn(move || {
                assert_eq!(policy(), inherited);
                yield_to_all();
                assert_eq!(policy(), libc::SCHED_IDLE);
                std::thread::spawn(|| assert_eq!(policy(), libc::SCHED_IDLE)).join().unwrap();
            })
            .join()
            .unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_can_wait_is_left_as_it_is() {
        std::thread::spawn(|| {
            let before = policy();
            assert!(matches!(take(Urgency::Background), Ok(Granted::Ordinary(_))));
            assert_eq!(policy(), before);
        })
        .join()
        .unwrap();
    }
}
