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
    args::{self, Setting},
    console,
    launch::{self, LaunchNode},
    local::Composition,
    parameter::ParameterError,
    parameter_file,
    process::{self, stop_flag},
};

use crate::{Failure, registry};
use monitor::Monitor;

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
                runtime.block_on(processes::run(&plan.nodes, self.transport, self.watchdog, limit))
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
    console::say(&format!("{} nodes in this process; Ctrl-C lands and ends", hosted.len()));
    composition.run(&stop, None)?;
    Ok(())
}
