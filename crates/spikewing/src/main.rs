//! The `spikewing` command line.

mod call;
mod check;
mod doctor;
mod eval;
mod launch;
mod policy;
mod progress;
mod record;
mod study;
mod topics;
mod train;
mod vehicle;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use spikewing::registry;

/// Any error, for a person to read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Trains a spiking neural network to fly a drone while it flies.
///
/// Try `spikewing train`: everything runs in this process, nothing else has to be installed.
#[derive(Debug, Parser)]
#[command(version, name = "spikewing")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log level: error, warn, info, debug, trace
    #[arg(long, global = true, default_value = "info")]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Launch(launch::LaunchArgs),
    Policy(policy::PolicyArgs),
    Vehicle(vehicle::VehicleArgs),
    Study(study::StudyArgs),
    Doctor(doctor::DoctorArgs),
    Call(call::CallArgs),
    Check(check::CheckArgs),
    Topics(topics::TopicsArgs),
    Record(record::RecordArgs),
    Node(NodeArgs),
}

/// Run one node as a process over DDS
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct NodeArgs {
    /// simulator, px4_bridge, state_estimator, guide_policy, snn_policy, supervisor, online_learner or recorder
    name: String,
    /// Standard arguments: --ros-args -r FROM:=TO -p NAME:=VALUE --params-file FILE …, --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Node(node) = &cli.command {
        return match registry::find(&node.name) {
            Ok(kind) => spikewing_runtime::process::run(kind, &node.arguments),
            Err(error) => fail(&error),
        };
    }
    if let Command::Record(record) = &cli.command
        && record.is_live()
    {
        return spikewing_runtime::process::run(&spikewing_recorder::NODE, &record.arguments(&cli.log_level));
    }
    let level = match &cli.command {
        // Resets throw the estimator out of its track hundreds of times, on purpose.
        Command::Train(_) if cli.log_level == "info" => "warn,spikewing_state_estimator=error",
        // A call says what came of it, and nothing else.
        Command::Call(_) | Command::Check(_) if cli.log_level == "info" => "warn",
        _ => &cli.log_level,
    };
    spikewing_runtime::process::start_log(Some(level));
    let result = match cli.command {
        Command::Train(args) => args.run(),
        Command::Eval(args) => args.run(),
        Command::Launch(args) => args.run(),
        Command::Policy(args) => args.run(),
        Command::Vehicle(args) => args.run(),
        Command::Study(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Call(args) => return args.run(),
        Command::Check(args) => return args.run(),
        Command::Topics(args) => args.run(),
        Command::Record(args) => args.mend(),
        Command::Node(_) => Ok(()),
    };
    spikewing_runtime::console::close();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&spikewing_runtime::local::chain(error.as_ref())),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("spikewing: {text}");
    ExitCode::FAILURE
}
