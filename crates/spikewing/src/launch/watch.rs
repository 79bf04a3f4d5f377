//! Whether a node's process still does its work, as the node itself reports it: systemd's `sd_notify`, spoken by every node
//! (see `host/pulse.rs` of the runtime for what a report proves).

use std::{
    io,
    process::Command,
    time::{Duration, Instant},
};

use std::os::unix::net::UnixDatagram;
#[cfg(target_os = "linux")]
use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not said yet that it is ready.
    Starting,
    /// It reports; so long nothing has come.
    Working { silent: Duration },
    /// It ends on purpose.
    Ending,
}

/// Listens to the reports of one node, over all its restarts.
#[derive(Debug)]
pub struct Watch {
    socket: UnixDatagram,
    address: String,
    state: State,
    looked: Instant,
    /// Whether any of its processes was ever ready.
    pub was_ready: bool,
}

impl Watch {
    /// Listens for the node with this number.
    ///
    /// # Errors
    /// When the system has no such sockets.
    #[cfg(target_os = "linux")]
    pub fn new(number: usize) -> io::Result<Self> {
        let name = format!("spikewing-{}-{number}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        Self::on(socket, format!("@{name}"))
    }

    /// Listens for the node with this number.
    ///
    /// # Errors
    /// When the system has no such sockets.
    #[cfg(not(target_os = "linux"))]
    pub fn new(number: usize) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("spikewing-{}-{number}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self::on(UnixDatagram::bind(&path)?, path.display().to_string())
    }

    fn on(socket: UnixDatagram, address: String) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, state: State::Starting, looked: Instant::now(), was_ready: false })
    }

    /// A process of the node is about to be started by this command.
    pub fn begin(&mut self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.address);
        self.read();
        self.state = State::Starting;
    }

    /// How long the process has been silent although it was ready and nobody asked it to end.
    ///
    /// Silence is counted in looks of at most `step`: when this process was stopped, or the whole machine, nobody was silent.
    pub fn silence(&mut self, now: Instant, step: Duration) -> Duration {
        let since = now.duration_since(self.looked).min(step);
        self.looked = now;
        let heard = self.read();
        match &mut self.state {
            State::Working { silent } => {
                *silent = if heard { Duration::ZERO } else { *silent + since };
                *silent
            }
            State::Starting | State::Ending => Duration::ZERO,
        }
    }

    /// Takes all reports. Returns whether there were any.
    fn read(&mut self) -> bool {
        let mut heard = false;
        let mut bytes = [0; 512];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            heard = true;
            for line in String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).lines() {
                match line {
                    "READY=1" => {
                        self.was_ready = true;
                        self.state = State::Working { silent: Duration::ZERO };
                    }
                    "STOPPING=1" => self.state = State::Ending,
                    _ => {}
                }
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_between_ready_and_the_end_and_not_while_nobody_looked() {
        let (socket, node) = UnixDatagram::pair().unwrap();
        let mut watch = Watch::on(socket, String::new()).unwrap();
        let (step, begin) = (Duration::from_millis(100), Instant::now());
        let at = |tenths: u32| begin + step * tenths;
        assert_eq!(watch.silence(at(50), step), Duration::ZERO, "it may start as slowly as it likes");
        node.send(b"READY=1\nSTATUS=up").unwrap();
        assert_eq!(watch.silence(at(51), step), Duration::ZERO);
        assert!(watch.was_ready);
        assert_eq!(watch.silence(at(52), step), step);
        assert_eq!(watch.silence(at(53), step), 2 * step);
        node.send(b"WATCHDOG=1").unwrap();
        assert_eq!(watch.silence(at(54), step), Duration::ZERO);
        assert_eq!(watch.silence(at(9000), step), step, "this process was stopped, too");
        watch.begin(&mut Command::new("true"));
        assert_eq!(watch.silence(at(9010), step), Duration::ZERO, "a new process starts");
        node.send(b"READY=1").unwrap();
        node.send(b"STOPPING=1").unwrap();
        assert_eq!(watch.silence(at(9020), step), Duration::ZERO);
        assert_eq!(watch.silence(at(9021), step), Duration::ZERO, "who ends may be silent");
    }
}
