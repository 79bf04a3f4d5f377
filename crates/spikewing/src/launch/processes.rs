//! The nodes of a launch as processes: started, watched, started again, and ended together.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use spikewing_runtime::{
    console,
    launch::{Launch, Process},
    node::Urgency,
    process::stop_flag,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use super::{
    Transport, Watchdog,
    monitor::{MONITOR, monitors},
    watch::Watch,
};
use crate::{Failure, registry};

/// How long the nodes get to land and end before they are asked harder.
const LANDING: Duration = Duration::from_secs(30);
const TERMINATING: Duration = Duration::from_secs(5);
/// How often the processes are looked at; a death is seen at once.
const POLL: Duration = Duration::from_millis(50);
/// A node of the control path that is silent for so long hangs, is stopped, or hears nothing.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// The same for a node that may be slow.
const PATIENCE: Duration = Duration::from_secs(15);
/// Who dies younger than this has not recovered from what it died of.
const YOUNG: Duration = Duration::from_secs(3);
/// How often a node may die young before it is made to wait, and how long it waits at most.
const EAGER: u32 = 3;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What a process is.
enum Program {
    /// A node of this suite: its kind, and its arguments.
    Node(String, Vec<String>),
    /// Anything else.
    Other(Vec<String>),
}

/// A process.
struct Running {
    /// What it is called: a node's name with its namespace.
    name: String,
    program: Program,
    process: Process,
    restarts: u32,
    child: Option<Child>,
    watch: Watch,
    patience: Duration,
    started: Instant,
    again_at: Option<Instant>,
    young_deaths: u32,
    warned: bool,
}

/// Runs until asked to stop, or a node's work is done, or nothing runs any more; then lets the vehicle land.
pub async fn run(
    plan: &Launch,
    transport: Transport,
    watchdog: Watchdog,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let mut running = Vec::new();
    let nodes = plan.nodes.iter().map(|node| {
        let name = node.full_name().trim_start_matches('/').to_owned();
        (name, Program::Node(node.exec.clone(), node.arguments()), &node.process)
    });
    let others = plan
        .programs
        .iter()
        .map(|other| (other.name.clone(), Program::Other(other.command.clone()), &other.process));
    for (number, (name, program, process)) in nodes.chain(others).enumerate() {
        let patience = match &program {
            Program::Node(kind, _)
                if registry::find(kind).is_ok_and(|kind| kind.urgency == Urgency::Control) =>
            {
                CONTROL_PATIENCE
            }
            Program::Node(..) => PATIENCE,
            // It reports nothing.
            Program::Other(_) => Duration::MAX,
        };
        let mut r = Running {
            name,
            program,
            process: process.clone(),
            restarts: 0,
            child: None,
            watch: Watch::new(number)?,
            patience,
            started: Instant::now(),
            again_at: None,
            young_deaths: 0,
            warned: false,
        };
        r.start(transport)?;
        running.push(r);
    }
    let programs = match plan.programs.len() {
        0 => String::new(),
        n => format!(" and {n} other programs"),
    };
    console::say(&format!(
        "{} nodes{programs}, one process each, over DDS; Ctrl-C lands and ends",
        plan.nodes.len()
    ));
    let watching = Arc::new(AtomicBool::new(false));
    if transport == Transport::Dds {
        if plan.nodes.iter().any(|n| n.process.environment.iter().any(|(name, _)| name == "ROS_DOMAIN_ID")) {
            console::say(
                "the launch file gives nodes a ROS_DOMAIN_ID of their own: their progress is not shown",
            );
        }
        for options in monitors(&plan.nodes) {
            let stop_watching = Arc::clone(&watching);
            std::thread::Builder::new().name("monitor".into()).spawn(move || {
                if let Err(error) = spikewing_runtime::dds::run(&MONITOR, &options, &stop_watching) {
                    tracing::warn!("no progress can be shown: {error}");
                }
            })?;
        }
    }
    let started = Instant::now();
    let mut failed: Vec<String> = Vec::new();
    loop {
        let _ = tokio::time::timeout(POLL, a_death(&mut running)).await;
        if stop.load(Ordering::Relaxed) || limit.is_some_and(|l| started.elapsed() > l) {
            break;
        }
        let mut done = false;
        for r in &mut running {
            done |= r.tend(transport, &mut failed)?;
            if watchdog == Watchdog::On {
                r.look();
            }
        }
        if done || running.iter().all(|r| r.child.is_none() && r.again_at.is_none()) {
            break;
        }
        if let Some(lost) = console::losses() {
            console::say(&format!("{lost} lines of the nodes were not shown: the terminal is too slow"));
        }
    }
    console::say("stopping: the vehicle lands first");
    end_all(&mut running, &mut failed).await;
    watching.store(true, Ordering::Relaxed);
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join("; ")).into()) }
}

/// Until one of the processes has ended.
async fn a_death(running: &mut [Running]) {
    poll_fn(|context| {
        for child in running.iter_mut().filter_map(|r| r.child.as_mut()) {
            if pin!(child.wait()).poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

impl Running {
    fn start(&mut self, transport: Transport) -> Result<(), Failure> {
        self.child = Some(self.spawn(transport)?);
        self.started = Instant::now();
        self.again_at = None;
        self.warned = false;
        Ok(())
    }

    /// Looks after the process. Returns whether its work is done (it ended with success by itself).
    fn tend(&mut self, transport: Transport, failed: &mut Vec<String>) -> Result<bool, Failure> {
        if self.again_at.is_some_and(|at| Instant::now() >= at) {
            self.start(transport)?;
            console::say(&format!("{}: started again", self.name));
        }
        let Some(child) = &mut self.child else { return Ok(false) };
        let Some(status) = child.try_wait()? else { return Ok(false) };
        self.child = None;
        // Its last reports.
        self.watch.silence(Instant::now(), POLL);
        let name = &self.name;
        if self.process.ends_launch {
            console::say(&format!("{name}: ended, {status}, and with it all (on_exit: shutdown)"));
            if !status.success() {
                failed.push(format!("{name} ({status})"));
            }
            return Ok(true);
        }
        let ours = matches!(self.program, Program::Node(..));
        if status.success() && ours {
            console::say(&format!("{name}: its work is done"));
            return Ok(true);
        }
        let could_not_start = ours && !self.watch.was_ready;
        let tired = self.process.respawn_max_retries.is_some_and(|most| self.restarts >= most);
        if !self.process.respawn || could_not_start || tired {
            let what = match () {
                () if could_not_start => "could not start",
                () if tired => "ended too often",
                () => "ended unasked",
            };
            console::say(&format!("{name}: {what}, {status}; the others go on"));
            if !status.success() {
                failed.push(format!("{name} ({status})"));
            }
            return Ok(false);
        }
        self.restarts += 1;
        self.young_deaths = if self.started.elapsed() < YOUNG { self.young_deaths + 1 } else { 0 };
        let delay = Duration::from_secs_f64(self.process.respawn_delay_s).max(penalty(self.young_deaths));
        if delay.is_zero() {
            self.start(transport)?;
            console::say(&format!("{}: ended unasked, {status}; started again", self.name));
        } else {
            self.again_at = Some(Instant::now() + delay);
            let seconds = delay.as_secs_f64();
            console::say(&format!("{name}: ended unasked, {status}; starts again in {seconds:.1} s"));
        }
        Ok(false)
    }

    /// Ends a process that no longer does its work, so that it is started again.
    fn look(&mut self) {
        let silence = self.watch.silence(Instant::now(), 2 * POLL);
        if self.child.is_none() || silence < self.patience {
            return;
        }
        let (name, seconds) = (&self.name, silence.as_secs_f64());
        if self.process.respawn {
            console::say(&format!(
                "{name}: silent for {seconds:.1} s (it hangs, was stopped, or hears nothing); it is ended"
            ));
            self.signal(libc::SIGKILL);
        } else if !self.warned {
            self.warned = true;
            console::say(&format!(
                "{name}: silent for {seconds:.1} s (it hangs, was stopped, or hears nothing)"
            ));
        }
    }

    fn spawn(&mut self, transport: Transport) -> Result<Child, Failure> {
        let mut words = self.process.prefix.clone();
        match &self.program {
            Program::Node(kind, arguments) => {
                words.push(std::env::current_exe()?.to_string_lossy().into_owned());
                words.extend(["node".to_owned(), kind.clone()]);
                words.extend(arguments.iter().cloned());
            }
            Program::Other(own) => words.extend(own.iter().cloned()),
        }
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(format!("{}: there is nothing to start", self.name).into());
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Program::Node(..) = self.program {
            command.env("SPIKEWING_TRANSPORT", if transport == Transport::R2r { "r2r" } else { "dds" });
            self.watch.begin(command.as_std_mut());
        }
        for (name, value) in &self.process.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.process.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C comes to this process alone, which then asks all nodes at once.
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|e| format!("cannot start {} ({program}): {e}", self.name))?;
        if let Some(pipe) = child.stdout.take() {
            tokio::spawn(pass_on(pipe, self.name.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            tokio::spawn(pass_on(pipe, self.name.clone()));
        }
        Ok(child)
    }

    fn signal(&self, signal: libc::c_int) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| libc::pid_t::try_from(id).ok());
        if let Some(id) = id {
            // SAFETY: sends a signal to a child of ours that was not waited for yet, so that its id is its own.
            unsafe { libc::kill(id, signal) };
        }
    }
}

/// How long a node waits that has died young so often, one time after the other.
fn penalty(young_deaths: u32) -> Duration {
    match young_deaths.checked_sub(EAGER) {
        None => Duration::ZERO,
        Some(more) => Duration::from_millis(500).saturating_mul(1 << more.min(8)).min(LONGEST_WAIT),
    }
}

async fn end_all(running: &mut [Running], failed: &mut Vec<String>) {
    // The most patient process is waited for.
    let longest = |own: fn(&Process) -> Option<f64>, usual: Duration| {
        let seconds = running
            .iter()
            .filter_map(|r| own(&r.process))
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        seconds.map_or(usual, Duration::from_secs_f64)
    };
    let landing = longest(|p| p.sigterm_timeout_s, LANDING);
    let terminating = longest(|p| p.sigkill_timeout_s, TERMINATING);
    let steps = [(libc::SIGINT, landing), (libc::SIGTERM, terminating), (libc::SIGKILL, TERMINATING)];
    for (signal, patience) in steps {
        running.iter().for_each(|r| r.signal(signal));
        let until = Instant::now() + patience;
        while Instant::now() < until && running.iter().any(|r| r.child.is_some()) {
            for r in running.iter_mut() {
                let Some(child) = &mut r.child else { continue };
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        if !status.success() {
                            failed.push(format!("{} ({status})", r.name));
                        }
                        r.child = None;
                    }
                    Err(error) => {
                        failed.push(format!("{} ({error})", r.name));
                        r.child = None;
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Passes a node's lines on, with its name before them.
async fn pass_on(pipe: impl AsyncRead + Unpin, name: String) {
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        console::say(&format!("[{name}] {}", String::from_utf8_lossy(&line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dies_again_and_again_has_to_wait() {
        assert_eq!(penalty(0), Duration::ZERO);
        assert_eq!(penalty(EAGER - 1), Duration::ZERO);
        assert_eq!(penalty(EAGER), Duration::from_millis(500));
        assert_eq!(penalty(EAGER + 2), Duration::from_secs(2));
        assert_eq!(penalty(u32::MAX), LONGEST_WAIT);
    }
}
