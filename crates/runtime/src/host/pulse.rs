//! The node's pulse: proof, to itself and to whoever started it, that its loop turns and that its wire carries.
//!
//! Ten times a second the host publishes a number on the hidden topic `~/_pulse`, and hears it come back: out through the
//! transport's threads and sockets, in again, and through the loop that serves the node. Each one that comes back is reported
//! in the way that systemd has for it (`sd_notify`: `READY=1`, then `WATCHDOG=1`, in the end `STOPPING=1`, as datagrams to
//! `NOTIFY_SOCKET`), so that `spikewing launch`, or systemd, may start a node again that hangs or is deaf. And a node that
//! no longer hears itself ends with an error, whoever started it.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use spikewing_msgs::builtin_interfaces::Time;

/// Topic and type that carry it.
pub const TOPIC: (&str, &str) = ("~/_pulse", "builtin_interfaces/msg/Time");
/// How often it beats.
const PERIOD: Duration = Duration::from_millis(100);
/// So many beats that do not come back, one after the other, are not chance: 2 s.
const DEAF_AFTER: u32 = 20;

/// See the module.
#[derive(Debug)]
pub struct Pulse {
    watcher: Option<UnixDatagram>,
    /// Tells our beats from those of a second node of this name.
    own: i32,
    next: Option<Instant>,
    sent: u32,
    unanswered: u32,
    heard_ever: bool,
}

impl Pulse {
    /// Reports to whoever the environment names.
    pub fn from_env() -> Self {
        Self::reporting(std::env::var("NOTIFY_SOCKET").ok().as_deref().and_then(connect))
    }

    fn reporting(watcher: Option<UnixDatagram>) -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        Self { watcher, own, next: None, sent: 0, unanswered: 0, heard_ever: false }
    }

    /// The loop turns. Returns what is to be published, when it is time.
    pub fn beat(&mut self, now: Instant) -> Option<Time> {
        match self.next {
            Some(next) if now < next => return None,
            Some(_) => {}
            None => self.report("READY=1"),
        }
        self.next = Some(now + PERIOD);
        self.sent = self.sent.wrapping_add(1);
        if self.heard_ever {
            self.unanswered += 1;
        } else {
            // Discovery has not matched us with ourselves yet: the loop alone is known to turn.
            self.report("WATCHDOG=1");
        }
        Some(Time { sec: self.own, nanosec: self.sent })
    }

    /// A beat came back.
    pub fn heard(&mut self, beat: &Time) {
        if beat.sec == self.own && self.sent.wrapping_sub(beat.nanosec) < DEAF_AFTER {
            self.heard_ever = true;
            self.unanswered = 0;
            self.report("WATCHDOG=1");
        }
    }

    /// The node ends on purpose.
    pub fn stopping(&self) {
        self.report("STOPPING=1");
    }

    /// Whether what this node sends no longer comes back. Counted in beats and not in seconds: a process that was stopped
    /// for an hour has missed nothing.
    pub fn deaf(&self) -> bool {
        self.unanswered > DEAF_AFTER
    }

    fn report(&self, state: &str) {
        if let Some(watcher) = &self.watcher {
            // A watcher that is slow or gone holds nobody up.
            let _ = watcher.send(state.as_bytes());
        }
    }
}

fn connect(address: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
            socket.connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return None,
        None => socket.connect(address).ok()?,
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(end: &UnixDatagram) -> Vec<String> {
        let mut reports = Vec::new();
        let mut bytes = [0; 64];
        while let Ok(length) = end.recv(&mut bytes) {
            reports.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        reports
    }

    #[test]
    fn only_what_comes_back_is_reported_and_silence_is_deafness() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut pulse = Pulse::reporting(Some(ours));
        let mut now = Instant::now();
        let first = pulse.beat(now).unwrap();
        assert!(pulse.beat(now).is_none(), "not yet");
        assert_eq!(reports(&theirs), ["READY=1", "WATCHDOG=1"]);
        pulse.heard(&Time { sec: first.sec + 1, ..first });
        assert!(reports(&theirs).is_empty(), "another process's");
        pulse.heard(&first);
        assert_eq!(reports(&theirs), ["WATCHDOG=1"]);
        for _ in 0..20 {
            now += PERIOD;
            assert!(pulse.beat(now).is_some() && !pulse.deaf());
        }
        assert!(reports(&theirs).is_empty(), "nothing came back");
        assert!(pulse.beat(now + Duration::from_secs(3600)).is_some());
        assert!(pulse.deaf());
        pulse.heard(&Time { nanosec: pulse.sent, ..first });
        assert!(!pulse.deaf());
        pulse.stopping();
        assert_eq!(reports(&theirs), ["WATCHDOG=1", "STOPPING=1"]);
    }

    #[test]
    fn who_is_not_heard_at_all_is_not_deaf() {
        let mut pulse = Pulse::reporting(None);
        let mut now = Instant::now();
        for _ in 0..100 {
            now += PERIOD;
            pulse.beat(now);
        }
        assert!(!pulse.deaf(), "discovery may be off");
    }
}
