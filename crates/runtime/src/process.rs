//! One node as a process: arguments, logs, signals, transport.

use std::{
    io::IsTerminal,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    NodeKind, NodeOptions,
    args::{self, Parsed},
    console,
    host::priority::{self, Granted},
    local::{StopFlag, chain},
    node::Finish,
};

/// Starts logging to standard error, which nobody waits for ([`console`]), and to `/rosout` where a transport carries it. `level` is a level or a filter as
/// `RUST_LOG` has it; `RUST_LOG` wins.
pub fn start_log(level: Option<&str>) {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .or_else(|| level.map(level_name))
        .map_or_else(|| EnvFilter::new(level_name("info")), EnvFilter::new);
    let console = tracing_subscriber::fmt::layer()
        .with_writer(console::writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start, in a test for example, keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(console).with(crate::rosout::layer()).try_init();
}

/// ROS has names for levels that `tracing` has not.
fn level_name(level: &str) -> String {
    let level = match level {
        "fatal" => "error",
        "warning" => "warn",
        "unset" => "info",
        other => other,
    };
    // RustDDS tells of every peer that comes and goes, and of multicast groups that a plain loopback does not have; r2r
    // takes the end of a peer for a failure.
    // What is asked for by name comes last, and holds.
    format!("rustdds=error,rustdds::network=off,cdr_encoding=warn,r2r::subscribers=off,{level}")
}

/// A flag that SIGINT and SIGTERM set, and SIGHUP, a terminal that was closed, unless it is ignored (`nohup`). A second
/// signal sets it again: a landing is never cut short by impatience.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop_flag() -> std::io::Result<StopFlag> {
    let flag: StopFlag = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        if signal != libc::SIGHUP || !is_ignored(signal) {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
    }
    Ok(flag)
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: an all-zero sigaction is a valid one, and it is only written to.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// The `main` of a node's executable.
pub fn main(kind: &NodeKind) -> ExitCode {
    let arguments: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    match arguments {
        Ok(arguments) => run(kind, &arguments),
        Err(argument) => {
            eprintln!("{}: argument `{}` is not UTF-8", kind.name, argument.to_string_lossy());
            ExitCode::from(2)
        }
    }
}

/// Runs a node with the arguments behind its name.
pub fn run(kind: &NodeKind, arguments: &[String]) -> ExitCode {
    let options = match args::parse(kind, arguments) {
        Ok(Parsed::Help(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Run(options)) => options,
        Err(error) => {
            eprintln!("{}: {}", kind.name, chain(&error));
            return ExitCode::from(2);
        }
    };
    // Before the log and its thread are there.
    #[cfg(feature = "r2r")]
    if let Err(error) = crate::r2r::environment::prepare() {
        // It flies without them, if less calmly.
        eprintln!("{}: Fast DDS goes without our profiles: {error}", kind.name);
    }
    start_log(options.log_level.as_deref());
    for remark in &options.remarks {
        tracing::warn!(node = options.full_name(), "{remark}");
    }
    let code = match carried(kind, &options) {
        Ok(Finish::Success) => ExitCode::SUCCESS,
        Ok(Finish::Failure(reason)) => {
            tracing::error!(node = options.full_name(), "{reason}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(node = options.full_name(), "{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    };
    console::close();
    code
}

/// Whether this build can speak through a sourced ROS 2.
pub const HAS_R2R: bool = cfg!(feature = "r2r");

/// What to tell who asks for r2r in a build without it.
pub const NO_R2R: &str = "this build has no r2r transport: build with `--features r2r` in a sourced ROS 2, or use the transport dds";

/// Over r2r where that is built in and wanted (`SPIKEWING_TRANSPORT=r2r`, the default of a build with the feature),
/// else over DDS.
fn carried(kind: &NodeKind, options: &NodeOptions) -> Result<Finish, crate::node::BuildError> {
    let stop = stop_flag()?;
    match priority::take(kind.urgency)? {
        Granted::RealTime => tracing::debug!(node = options.full_name(), "scheduled in real time"),
        Granted::Ordinary(why) => {
            tracing::debug!(node = options.full_name(), "not scheduled in real time: {why}")
        }
    }
    // Whoever asks for r2r by name must not get another transport without a word.
    if !HAS_R2R && std::env::var("SPIKEWING_TRANSPORT").is_ok_and(|t| t == "r2r") {
        return Err(NO_R2R.into());
    }
    #[cfg(feature = "r2r")]
    if std::env::var("SPIKEWING_TRANSPORT").map_or(true, |t| t == "r2r") {
        return Ok(crate::r2r::run(kind, options, &stop)?);
    }
    Ok(crate::dds::run(kind, options, &stop)?)
}
