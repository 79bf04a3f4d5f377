//! `spikewing launch`: runs a launch file, every node a process of its own, or all in this one.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use spikewing_msgs::spikewing_msgs as sw;
use spikewing_runtime::{
    NodeKind, NodeOptions, Outbox, Received, Span, Time,
    args::{self, Setting},
    launch::{self, LaunchNode},
    local::Composition,
    node::{BuildError, Context, Node, Urgency},
    parameter::{ParameterError, Value},
    parameter_file,
    port::{Input, Interface, Qos},
    process::{self, stop_flag},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use crate::{Failure, registry};

/// How long the nodes get to land and end before they are asked harder.
const LANDING: Duration = Duration::from_secs(30);
const TERMINATING: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// All nodes in this process, in lock-step, at the pace of real time
    Local,
    /// One process per node, over DDS: on the wire a ROS 2 graph
    Dds,
    /// One process per node, inside a sourced ROS 2 (a build with the feature r2r)
    R2r,
}

/// Run a launch file (ROS 2 YAML format)
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Launch file, e.g. launch/train_sim.launch.yaml
    file: PathBuf,
    /// Arguments of the launch file: NAME:=VALUE
    arguments: Vec<String>,
    /// How the nodes are connected
    #[arg(long, value_enum, default_value = "dds")]
    transport: Transport,
    /// Print the launch file's arguments and nodes, and end
    #[arg(long)]
    show: bool,
    /// End after so many seconds (the vehicle lands first)
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
}

impl LaunchArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let mut given = Vec::new();
        for text in &self.arguments {
            let (name, value) =
                text.split_once(":=").ok_or_else(|| format!("`{text}`: expected NAME:=VALUE"))?;
            given.push((name.to_owned(), value.to_owned()));
        }
        let plan = launch::read(&self.file, &given)?;
        if self.show {
            for a in &plan.arguments {
                println!(
                    "argument {} (default {}): {}",
                    a.name,
                    a.default.as_deref().unwrap_or("none"),
                    a.description
                );
            }
            for node in &plan.nodes {
                println!("node {} ({}) in {}", node.name, node.exec, node.namespace);
            }
            return Ok(());
        }
        // All mistakes are found before anything is started.
        if self.transport == Transport::R2r && !process::HAS_R2R {
            return Err(format!("--transport r2r: {}", process::NO_R2R).into());
        }
        let mut hosted = Vec::new();
        for node in &plan.nodes {
            hosted.push(
                options(node)
                    .map_err(|e| format!("launch file {}: node {}: {e}", self.file.display(), node.name))?,
            );
        }
        known_to_somebody(&plan.nodes)?;
        let limit = self.duration.map(|s| Duration::from_secs_f64(s.max(0.0)));
        match self.transport {
            Transport::Local => local(&hosted, limit),
            Transport::Dds | Transport::R2r => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(processes(&plan.nodes, self.transport, limit))
            }
        }
    }
}

fn options(node: &LaunchNode) -> Result<(&'static NodeKind, NodeOptions), Failure> {
    let kind = registry::find(&node.exec)?;
    let mut options = NodeOptions::of(kind);
    options.name.clone_from(&node.name);
    options.namespace.clone_from(&node.namespace);
    options.remaps.clone_from(&node.remaps);
    for setting in &node.settings {
        args::apply(&mut options, setting)?;
    }
    Ok((kind, options))
}

/// A wildcard section speaks to all nodes, so that a name in it may be unknown to one of them, but not to all.
fn known_to_somebody(nodes: &[LaunchNode]) -> Result<(), Failure> {
    for node in nodes {
        for setting in &node.settings {
            let Setting::File(path) = setting else { continue };
            for assignment in parameter_file::assignments(path, &format!("{}/{}", node.namespace, node.name))?
            {
                let known = assignment.name == "use_sim_time"
                    || registry::NODES
                        .iter()
                        .any(|kind| (kind.declare)().iter().any(|d| d.name == assignment.name));
                if !known {
                    let line = assignment.line.map(|l| format!(", line {l}")).unwrap_or_default();
                    let source = ParameterError::Unknown { name: assignment.name, nearest: None };
                    return Err(format!(
                        "parameter file {}{line}: no node of this suite knows it: {source}",
                        path.display()
                    )
                    .into());
                }
            }
        }
    }
    Ok(())
}

fn local(hosted: &[(&'static NodeKind, NodeOptions)], limit: Option<Duration>) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let mut composition = Composition::new().paced(1.0);
    for (kind, options) in hosted {
        composition.add(kind, options)?;
    }
    let started = Instant::now();
    let flag = Arc::clone(&stop);
    let mut monitor = Monitor::default();
    composition.observe(move |now, topic, message| {
        monitor.see(now, topic.trim_start_matches('/'), message);
        if limit.is_some_and(|l| started.elapsed() > l) {
            flag.store(true, Ordering::Relaxed);
        }
    });
    eprintln!("{} nodes in this process; Ctrl-C lands and ends", hosted.len());
    composition.run(&stop, None)?;
    Ok(())
}

/// A node's process.
struct Running {
    node: LaunchNode,
    child: Option<Child>,
    again_at: Option<Instant>,
}

async fn processes(
    nodes: &[LaunchNode],
    transport: Transport,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let mut running = Vec::new();
    for node in nodes {
        running.push(Running { node: node.clone(), child: Some(start(node, transport)?), again_at: None });
    }
    eprintln!("{} nodes, one process each, over DDS; Ctrl-C lands and ends", nodes.len());
    let watching = Arc::new(AtomicBool::new(false));
    if transport == Transport::Dds {
        let stop_watching = Arc::clone(&watching);
        std::thread::Builder::new().name("monitor".into()).spawn(move || {
            if let Err(error) =
                spikewing_runtime::dds::run(&MONITOR, &NodeOptions::of(&MONITOR), &stop_watching)
            {
                tracing::warn!("no progress can be shown: {error}");
            }
        })?;
    }
    let started = Instant::now();
    let mut failed: Vec<String> = Vec::new();
    // Until asked to stop, or a node's work is done, or nothing runs any more.
    loop {
        tokio::time::sleep(POLL).await;
        if stop.load(Ordering::Relaxed) || limit.is_some_and(|l| started.elapsed() > l) {
            break;
        }
        let mut done = false;
        for r in &mut running {
            done |= tend(r, transport, &mut failed)?;
        }
        if done || running.iter().all(|r| r.child.is_none() && r.again_at.is_none()) {
            break;
        }
    }
    eprintln!("stopping: the vehicle lands first");
    end_all(&mut running, &mut failed).await;
    watching.store(true, Ordering::Relaxed);
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join("; ")).into()) }
}

/// Looks after one process. Returns whether its work is done (it ended with success by itself).
fn tend(r: &mut Running, transport: Transport, failed: &mut Vec<String>) -> Result<bool, Failure> {
    if let Some(at) = r.again_at {
        if Instant::now() >= at {
            r.again_at = None;
            r.child = Some(start(&r.node, transport)?);
            eprintln!("{}: started again", r.node.name);
        }
        return Ok(false);
    }
    let Some(child) = &mut r.child else { return Ok(false) };
    let Some(status) = child.try_wait()? else { return Ok(false) };
    r.child = None;
    if status.success() {
        eprintln!("{}: its work is done", r.node.name);
        return Ok(true);
    }
    eprintln!("{}: ended unasked, {status}; the others go on", r.node.name);
    if r.node.respawn {
        r.again_at = Some(Instant::now() + Duration::from_secs_f64(r.node.respawn_delay_s.max(0.5)));
    } else {
        failed.push(format!("{} ({status})", r.node.name));
    }
    Ok(false)
}

async fn end_all(running: &mut [Running], failed: &mut Vec<String>) {
    let steps = [(libc::SIGINT, LANDING), (libc::SIGTERM, TERMINATING), (libc::SIGKILL, TERMINATING)];
    for (signal, patience) in steps {
        for child in running.iter().filter_map(|r| r.child.as_ref()) {
            if let Some(id) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) {
                // SAFETY: sends a signal to a child of ours that was not waited for yet, so that its id is its own.
                unsafe { libc::kill(id, signal) };
            }
        }
        let until = Instant::now() + patience;
        while Instant::now() < until && running.iter().any(|r| r.child.is_some()) {
            for r in running.iter_mut() {
                let Some(child) = &mut r.child else { continue };
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        if !status.success() {
                            failed.push(format!("{} ({status})", r.node.name));
                        }
                        r.child = None;
                    }
                    Err(error) => {
                        failed.push(format!("{} ({error})", r.node.name));
                        r.child = None;
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn start(node: &LaunchNode, transport: Transport) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("node").arg(&node.exec).arg("--ros-args");
    command.args(["-r", &format!("__ns:={}", node.namespace), "-r", &format!("__node:={}", node.name)]);
    for (from, to) in &node.remaps {
        command.args(["-r", &format!("{from}:={to}")]);
    }
    for setting in &node.settings {
        match setting {
            Setting::File(path) => command.arg("--params-file").arg(path),
            Setting::Value(name, value) => command.args(["-p", &format!("{name}:={}", yaml(value))]),
        };
    }
    command.env("SPIKEWING_TRANSPORT", if transport == Transport::R2r { "r2r" } else { "dds" });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C comes to this process alone, which then asks all nodes at once.
    command.process_group(0);
    let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", node.name))?;
    if let Some(pipe) = child.stdout.take() {
        tokio::spawn(pass_on(pipe, node.name.clone()));
    }
    if let Some(pipe) = child.stderr.take() {
        tokio::spawn(pass_on(pipe, node.name.clone()));
    }
    Ok(child)
}

fn yaml(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// Passes a node's lines on, with its name before them.
async fn pass_on(pipe: impl AsyncRead + Unpin, name: String) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("[{name}] {line}");
    }
}

const LEARNER: Input<sw::LearnerStatus> = Input::new("learner/status", Qos::reliable(10));
const POLICY: Input<sw::PolicyStatus> = Input::new("policy/status", Qos::latched());
const AUTHORITY: Input<sw::Authority> = Input::new("authority", Qos::latched());

/// Listens to the nodes and prints a line of progress now and then.
#[derive(Default)]
struct Monitor {
    learner: Option<sw::LearnerStatus>,
    policy: Option<sw::PolicyStatus>,
    authority: Option<sw::Authority>,
    printed: Option<Time>,
}

const MONITOR: NodeKind = NodeKind {
    name: "launch_monitor",
    about: "Shows the progress of a launch",
    urgency: Urgency::Background,
    declare: Vec::new,
    build: |_: &Context<'_>| -> Result<Box<dyn Node>, BuildError> { Ok(Box::new(Monitor::default())) },
};

impl Monitor {
    fn see(&mut self, now: Time, topic: &str, message: &spikewing_msgs::AnyMessage) {
        let received = Received { port: topic, message };
        self.on_message(now, &received, &mut Outbox::new());
        if self.printed.is_none_or(|at| now - at >= Span::from_millis(5000)) {
            self.print(now);
        }
    }

    fn print(&mut self, now: Time) {
        self.printed = Some(now);
        let mut line = String::new();
        if let Some(a) = &self.authority {
            let name = ["disarmed", "arming", "guide", "student", "recover", "land", "hold"]
                .get(usize::from(a.state));
            line += &format!(
                "{} flies, episode {}, takeovers {}",
                name.unwrap_or(&"?"),
                a.episode_id,
                a.takeovers
            );
        }
        if let Some(p) = &self.policy {
            line += &format!(
                "; policy {} ({} swaps), {} ticks, {} missed, p99 {:.0} µs",
                p.active_version,
                p.swaps,
                p.ticks,
                p.missed_ticks,
                1e6 * p.latency_p99
            );
        }
        if let Some(l) = &self.learner {
            line += &format!(
                "; return {:.1} (flown {:.1}), k {:.1}, λ_BC {:.3}, guide {:.0} %, {} updates ({:.0}/s)",
                l.evaluation_return,
                l.return_mean,
                l.surrogate_slope,
                l.lambda_bc,
                100.0 * l.guide_share,
                l.updates,
                l.updates_per_second
            );
        }
        if !line.is_empty() {
            eprintln!("{line}");
        }
    }
}

impl Node for Monitor {
    fn interface(&self) -> Interface {
        Interface::new()
            .input(&LEARNER)
            .input(&POLICY)
            .input(&AUTHORITY)
            .timer("print", Span::from_millis(5000))
    }

    fn on_message(&mut self, _now: Time, message: &Received<'_>, _out: &mut Outbox) {
        if let Some(m) = message.on(&LEARNER) {
            self.learner = Some(m.clone());
        } else if let Some(m) = message.on(&POLICY) {
            self.policy = Some(m.clone());
        } else if let Some(m) = message.on(&AUTHORITY) {
            self.authority = Some(m.clone());
        }
    }

    fn on_timer(&mut self, now: Time, _timer: &'static str, _out: &mut Outbox) {
        self.print(now);
    }
}
