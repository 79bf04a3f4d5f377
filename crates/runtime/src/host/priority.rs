//! Who gets the processor first: control before everything else, learning last.
//!
//! A control tick that waits until a learner, a compiler or a browser has used up its turn is a missed tick. On Linux a
//! process that is [`Urgency::Control`] therefore asks for the real-time policy `SCHED_FIFO` for all its threads (those
//! of the transport inherit it), at a priority below that of the kernel's own threads. The system grants it to root, to
//! whoever has `CAP_SYS_NICE` or an `rtprio` limit (`/etc/security/limits.d`), and refuses it to others; then, or with
//! `SPIKEWING_REALTIME=off`, the process runs as any other. Jobs run as `SCHED_IDLE` on every system: they take what
//! nobody else wants, and give it back at once.

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

/// Real-time priority of control: above every ordinary process, below the kernel's threads, which have 50.
const FIFO_PRIORITY: libc::c_int = 10;
const VARIABLE: &str = "SPIKEWING_REALTIME";

/// Gives the calling thread, and all that it starts from now on, what `urgency` calls for.
///
/// # Errors
/// When the environment variable is neither `auto` nor `off`.
pub fn take(urgency: Urgency) -> Result<Granted, String> {
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
