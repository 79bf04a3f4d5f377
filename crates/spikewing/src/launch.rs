//! `spikewing launch`: runs a launch file, every node a process of its own, or all in this one.

mod monitor;
mod processes;
mod watch;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use spikewing_runtime::{
    NodeKind, NodeOptions,
    args::{self, Parsed, Setting},
    console,
    launch::{self, Launch, LaunchNode},
    local::Composition,
    parameter_file,
    process::{self, stop_flag},
};

use crate::{Failure, registry};
use monitor::{Monitor, monitors};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// All nodes in this process, in lock-step, at the pace of real time
    Local,
    /// One process per node, over DDS: on the wire a ROS 2 graph
    Dds,
    /// One process per node, inside a sourced ROS 2 (a build with the feature r2r)
    R2r,
}

/// Whether nodes that are silent are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Watchdog {
    /// A node that hangs or hears nothing is ended and started again
    On,
    /// It is left alone, in a debugger for example
    Off,
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
    /// What happens to nodes that no longer report
    #[arg(long, value_enum, default_value = "on")]
    watchdog: Watchdog,
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
            for program in &plan.programs {
                println!("program {}: {}", program.name, program.command.join(" "));
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
        for remark in plan.remarks.iter().chain(&known_to_nobody(&plan.nodes)?) {
            console::say(remark);
        }
        let limit = self.duration.map(|s| Duration::from_secs_f64(s.max(0.0)));
        match self.transport {
            Transport::Local => {
                fits_into_one_process(&plan)?;
                local(&plan, &hosted, limit)
            }
            Transport::Dds | Transport::R2r => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                runtime.block_on(processes::run(&plan, self.transport, self.watchdog, limit))
            }
        }
    }
}

/// What the node's process will make of its command line: it is judged here as it is there.
fn options(node: &LaunchNode) -> Result<(&'static NodeKind, NodeOptions), Failure> {
    let kind = registry::find(&node.exec)?;
    match args::parse(kind, &node.arguments())? {
        Parsed::Run(options) => Ok((kind, *options)),
        Parsed::Help(_) => Err("`args` asks for help".into()),
    }
}

/// A section for all nodes may be for others, too; what no node of this suite knows may be a slip of the pen.
fn known_to_nobody(nodes: &[LaunchNode]) -> Result<Vec<String>, Failure> {
    let mut unknown = Vec::new();
    for node in nodes {
        for setting in &node.settings {
            let Setting::File(path) = setting else { continue };
            for assignment in parameter_file::assignments(path, &node.full_name())? {
                let name = assignment.name.as_str();
                let known = matches!(name, "use_sim_time" | "start_type_description_service")
                    || name.starts_with("qos_overrides.")
                    || registry::all().any(|kind| (kind.declare)().iter().any(|d| d.name == name));
                if !known {
                    let line = assignment.line.map(|l| format!(", line {l}")).unwrap_or_default();
                    let remark = format!(
                        "parameter file {}{line}: no node of this suite knows `{name}`",
                        path.display()
                    );
                    if !unknown.contains(&remark) {
                        unknown.push(remark);
                    }
                }
            }
        }
    }
    Ok(unknown)
}

/// What only a process can have.
fn fits_into_one_process(plan: &Launch) -> Result<(), Failure> {
    if let Some(program) = plan.programs.first() {
        return Err(format!(
            "--transport local runs this suite's nodes in one process, and {} is another program: use --transport dds",
            program.name
        )
        .into());
    }
    for node in &plan.nodes {
        let process = &node.process;
        if !process.environment.is_empty() || process.folder.is_some() || !process.prefix.is_empty() {
            return Err(format!(
                "--transport local runs all nodes in one process, and {} wants an environment, a folder or a prefix of its own: use --transport dds",
                node.full_name()
            )
            .into());
        }
    }
    Ok(())
}

fn local(
    plan: &Launch,
    hosted: &[(&'static NodeKind, NodeOptions)],
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let mut composition = Composition::new().paced(1.0);
    for (kind, options) in hosted {
        composition.add(kind, options)?;
    }
    let started = Instant::now();
    let flag = Arc::clone(&stop);
    let mut monitors: Vec<(Monitor, NodeOptions)> =
        monitors(&plan.nodes).into_iter().map(|o| (Monitor::of(&o.namespace), o)).collect();
    composition.observe(move |now, topic, message| {
        for (monitor, options) in &mut monitors {
            monitor.see(options, now, topic, message);
        }
        if limit.is_some_and(|l| started.elapsed() > l) {
            flag.store(true, Ordering::Relaxed);
        }
    });
    console::say(&format!("{} nodes in this process; Ctrl-C lands and ends", hosted.len()));
    composition.run(&stop, None)?;
    Ok(())
}
