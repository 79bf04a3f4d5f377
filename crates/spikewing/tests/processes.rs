//! Nodes as processes: one that hangs is started again, one whose log nobody reads goes on.
//!
//! Takes half a minute and wants a network of its own: `.ci/loopback cargo test -p spikewing --test processes -- --ignored`

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::{
    io::{BufRead, BufReader},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A process of ours; asked to end, and made to, when the test ends.
struct Process(Child);

impl Process {
    fn start(domain: u16, arguments: &[&str], with: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spikewing"));
        command.args(arguments).current_dir(root()).env("ROS_DOMAIN_ID", domain.to_string());
        Self(with(command.stdin(Stdio::null())).spawn().unwrap())
    }

    fn signal(&self, signal: libc::c_int) {
        signal_to(self.0.id(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGINT);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(40) {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal_to(process: u32, signal: libc::c_int) {
    // SAFETY: sends a signal to our own child or one of its children.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), signal) }, 0);
}

/// The child of `parent` that is the node of this name.
fn process_of(parent: u32, node: &str) -> Option<u32> {
    let of_parent = format!("PPid:\t{parent}\n");
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter_map(|name| name.parse::<u32>().ok()).find(|process| {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        read("status").contains(&of_parent) && read("cmdline").split('\0').any(|argument| argument == node)
    })
}

fn lines_of(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            println!("{line}");
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits for a line with these words. Returns how long it took.
fn until(lines: &Receiver<String>, words: &str) -> Duration {
    let begin = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(begin.elapsed());
        let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("waited in vain for: {words}"));
        if line.contains(words) {
            return begin.elapsed();
        }
    }
}

#[test]
#[ignore = "takes half a minute, and a network of its own"]
fn a_node_that_hangs_is_started_again_and_one_that_rested_for_a_moment_is_not() {
    let mut launch =
        Process::start(121, &["launch", "launch/hover_sim.launch.yaml"], |c| c.stderr(Stdio::piped()));
    let lines = lines_of(launch.0.stderr.take().unwrap());
    until(&lines, "flies");
    let first = process_of(launch.0.id(), "guide_policy").unwrap();
    signal_to(first, libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(300));
    signal_to(first, libc::SIGCONT);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(process_of(launch.0.id(), "guide_policy"), Some(first), "0.3 s are no reason to end it");
    signal_to(first, libc::SIGSTOP);
    let noticed = until(&lines, "guide_policy: silent");
    until(&lines, "guide_policy: ended unasked");
    println!("a node that was stopped is ended after {noticed:.2?}");
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    let second = process_of(launch.0.id(), "guide_policy");
    assert!(second.is_some_and(|process| process != first), "{second:?}");
}

#[test]
#[ignore = "needs a network of its own"]
fn a_node_whose_log_nobody_reads_goes_on() {
    let name = format!("spikewing-test-{}", std::process::id());
    let watcher = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    watcher.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The pipe holds 64 KiB; at this level a node says that much within a second, its transport not being spared.
    let node = Process::start(122, &["node", "guide_policy"], |c| {
        c.stderr(Stdio::piped()).env("RUST_LOG", "trace").env("NOTIFY_SOCKET", format!("@{name}"))
    });
    let begin = Instant::now();
    let mut reports = 0;
    while begin.elapsed() < Duration::from_secs(8) {
        let mut bytes = [0; 64];
        watcher.recv(&mut bytes).expect("the node's loop stands still");
        reports += u32::from(begin.elapsed() > Duration::from_secs(4));
    }
    println!("{reports} reports in 4 s with a full pipe");
    assert!(reports > 8, "{reports}");
    drop(node);
}

#[test]
#[ignore = "needs a network of its own"]
fn a_launcher_whose_terminal_is_held_goes_on_and_says_what_was_lost() {
    let mut launch = Process::start(123, &["launch", "launch/hover_sim.launch.yaml"], |c| {
        c.stderr(Stdio::piped()).env("RUST_LOG", "debug,rustdds=trace")
    });
    std::thread::sleep(Duration::from_secs(4));
    let first = process_of(launch.0.id(), "guide_policy").unwrap();
    signal_to(first, libc::SIGKILL);
    let begin = Instant::now();
    while process_of(launch.0.id(), "guide_policy").is_none_or(|process| process == first) {
        assert!(begin.elapsed() < Duration::from_secs(5), "nobody starts it again");
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("started again after {:.0?} with a full pipe", begin.elapsed());
    let lines = lines_of(launch.0.stderr.take().unwrap());
    until(&lines, "were not shown");
}
