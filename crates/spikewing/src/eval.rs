//! `spikewing eval`: flies a policy through a protocol and prints the figures.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use spikewing_guide_policy::{MlpPilot, geometric::Geometric};
use spikewing_quad::{
    Observation, Reward, State, Vehicle,
    protocol::{Evaluation, Pilot, Protocol, Summary, Task, WarmStart},
};
use spikewing_rl::evaluate::{Report, SpikingPilot};
use spikewing_snn::{
    operations::Operations,
    policy::{Model, Policy, PolicyError, Requirements, differences},
};

use crate::{Failure, train::shipped_guide};

/// The guide that ships.
pub const SHIPPED: &str = "shipped";
/// Control rate of the evaluations, Hz.
const CONTROL_RATE_HZ: f64 = 100.0;
/// Steps that the guide flies before the student takes over.
pub const WARMUP_STEPS: usize = 50;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolName {
    /// At rest at the setpoint, rotors at hover: the paper's figures
    Paper,
    /// From the simulator's whole start distribution: up to 90° of tilt
    Recovery,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SimulatorName {
    /// l2f 0.0.3, most likely the paper's
    L2f0,
    /// learning-to-fly
    Ltf,
    /// l2f 2.0.18
    L2f2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StageName {
    /// Reward with the curriculum's first coefficients
    Start,
    /// … with its last
    End,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskName {
    Hover,
    Circle,
    Figure8,
    Square,
}

/// Fly a policy through a protocol and print its figures
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Policy file (.safetensors), or `geometric` for the classical guide
    policy: String,
    /// Episodes to fly
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of starts, noise and disturbances; the same seed prints the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where episodes start
    #[arg(long, value_enum, default_value = "paper")]
    protocol: ProtocolName,
    /// Dynamics, noise and starts
    #[arg(long, value_enum, default_value = "l2f0")]
    simulator: SimulatorName,
    /// Coefficients of the reward
    #[arg(long, value_enum, default_value = "start")]
    stage: StageName,
    /// Where the setpoint goes
    #[arg(long, value_enum, default_value = "hover")]
    task: TaskName,
    /// Heading to hold, degrees counter-clockwise from east; every episode starts facing east
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = heading)]
    heading: f64,
    /// Fly another vehicle instead: a built-in name or a vehicle file
    #[arg(long, conflicts_with = "simulator")]
    vehicle: Option<String>,
    /// Who flies the first 50 steps of a spiking policy: `shipped`, the learned guide that ships for the vehicle (the geometric
    /// one where none does), `geometric`, or a guide's file (.safetensors)
    #[arg(long, default_value = SHIPPED)]
    guide: String,
    /// Without observation noise
    #[arg(long)]
    no_noise: bool,
    /// Print JSON on standard output
    #[arg(long)]
    json: bool,
}

/// An angle that is one.
fn heading(text: &str) -> Result<f64, String> {
    let degrees: Option<f64> = text.parse().ok();
    degrees
        .filter(|d| (-360.0..=360.0).contains(d))
        .ok_or_else(|| "expected an angle from -360 to 360 degrees".to_owned())
}

impl EvalArgs {
    fn evaluation(&self) -> Result<Evaluation, Failure> {
        let simulator = match self.simulator {
            SimulatorName::L2f0 => "l2f0",
            SimulatorName::Ltf => "ltf",
            SimulatorName::L2f2 => "l2f2",
        };
        let mut vehicle = Vehicle::find(self.vehicle.as_deref().unwrap_or(simulator))?;
        if self.no_noise {
            let start = vehicle.simulation.start.clone();
            let (force_std_n, torque_std_n_m) =
                (vehicle.simulation.force_std_n, vehicle.simulation.torque_std_n_m);
            vehicle.simulation = spikewing_quad::simulation::Simulation {
                start,
                force_std_n,
                torque_std_n_m,
                ..Default::default()
            };
        }
        let task = match self.task {
            TaskName::Hover => Task::Hover,
            TaskName::Circle => Task::Circle,
            TaskName::Figure8 => Task::Figure8,
            TaskName::Square => Task::Square,
        };
        Ok(Evaluation {
            vehicle,
            protocol: match self.protocol {
                ProtocolName::Paper => Protocol::Paper,
                ProtocolName::Recovery => Protocol::Recovery,
            },
            task,
            heading_rad: self.heading.to_radians(),
            reward: match self.stage {
                StageName::Start => Reward::start(),
                StageName::End => Reward::end(),
            },
            // A path is flown for twenty seconds, so that it is closed.
            steps: if matches!(task, Task::Hover) { 500 } else { 2000 },
            ..Evaluation::paper(self.episodes as usize, self.seed)?
        })
    }

    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        let evaluation = self.evaluation()?;
        let report = evaluate(&self.policy, &self.guide, &evaluation)?;
        print(&report, self.json)
    }
}

/// A guide: the geometric controller, or a learned one.
#[derive(Clone, Debug)]
pub enum Guide {
    /// The controller of a vehicle.
    Geometric(Box<Geometric>),
    /// A network on the privileged observation.
    Learned(Box<MlpPilot>),
}

impl Guide {
    /// `shipped`, `geometric`, or a guide's file.
    pub fn find(name: &str, vehicle: &Vehicle) -> Result<Self, Failure> {
        let policy = match (name, shipped_guide(vehicle)) {
            ("geometric", _) | (SHIPPED, None) => {
                return Ok(Self::Geometric(Box::new(Geometric::for_vehicle(vehicle))));
            }
            (SHIPPED, Some(bytes)) => Policy::from_bytes(bytes)?,
            _ => load(name, vehicle).map_err(|e| format!("--guide {e}"))?,
        };
        match policy.model() {
            Model::Mlp(mlp) => Ok(Self::Learned(Box::new(MlpPilot::new(mlp.clone())))),
            Model::Spiking(_) => Err(format!("--guide {name}: a spiking policy cannot guide").into()),
        }
    }
}

impl Pilot for Guide {
    fn reset(&mut self, vehicle: &Vehicle, state: &State) {
        match self {
            Self::Geometric(pilot) => pilot.reset(vehicle, state),
            Self::Learned(pilot) => pilot.reset(vehicle, state),
        }
    }

    fn act(&mut self, observation: &Observation, step: usize) -> [f32; 4] {
        match self {
            Self::Geometric(pilot) => pilot.act(observation, step),
            Self::Learned(pilot) => pilot.act(observation, step),
        }
    }
}

/// Loads a policy as a node would, but for the vehicle: says so when it was made for another one, and what differs.
pub fn load(policy: &str, vehicle: &Vehicle) -> Result<Policy, Failure> {
    let named = |e: PolicyError| format!("{policy}: {e}");
    let loaded = Policy::load(&PathBuf::from(policy)).map_err(named)?;
    // What the nodes would refuse is not flown here either: its figures would mean nothing.
    let wanted = match loaded.model() {
        Model::Spiking(_) => Requirements::student(),
        Model::Mlp(_) => Requirements::guide(),
    };
    loaded.verify(&Requirements { control_rate_hz: Some(CONTROL_RATE_HZ), ..wanted }).map_err(named)?;
    if let Some(other) = other_vehicle(&loaded, vehicle) {
        tracing::warn!("{policy} {other}");
    }
    Ok(loaded)
}

/// What tells the vehicle of a policy from this one, in words; nothing where it is the same.
pub fn other_vehicle(policy: &Policy, vehicle: &Vehicle) -> Option<String> {
    let (made_for, content) = (&policy.metadata.vehicle, policy.metadata.vehicle_content.as_deref());
    let known = vehicle.known_as();
    let fits = |(name, here): &(String, String)| name == made_for && content.is_none_or(|c| c == here);
    if known.iter().any(fits) {
        return None;
    }
    let differs = content.map_or_else(String::new, |there| match differences(there, &vehicle.content()) {
        none if none.is_empty() => " of the same physics".to_owned(),
        some => format!(": {}", some.join("; ")),
    });
    Some(format!("was made for `{made_for}` and flies another vehicle, `{}`{differs}", vehicle.name))
}

/// Evaluates a policy file, or the geometric guide. `guide` flies the first half second of a spiking policy.
pub fn evaluate(policy: &str, guide: &str, evaluation: &Evaluation) -> Result<Report, Failure> {
    evaluate_after(policy, guide, WARMUP_STEPS, evaluation)
}

/// The same with another number of steps for the guide: 0, and a spiking policy flies from the first step on.
pub fn evaluate_after(
    policy: &str,
    guide: &str,
    guide_steps: usize,
    evaluation: &Evaluation,
) -> Result<Report, Failure> {
    let guide = Guide::find(guide, &evaluation.vehicle)?;
    if policy == "geometric" {
        return Ok(Report::new(fly(evaluation, &mut Geometric::for_vehicle(&evaluation.vehicle)), None));
    }
    let loaded = load(policy, &evaluation.vehicle)?;
    Ok(match loaded.model() {
        Model::Spiking(network) => {
            let mut pilot = WarmStart { guide, student: SpikingPilot::new(network), steps: guide_steps };
            let summary = fly(evaluation, &mut pilot);
            Report::new(summary, Some(pilot.student.operations()))
        }
        Model::Mlp(mlp) => {
            let operations = Operations::mlp(mlp);
            Report::new(fly(evaluation, &mut MlpPilot::new(mlp.clone())), Some(operations))
        }
    })
}

fn fly(evaluation: &Evaluation, pilot: &mut impl Pilot) -> Summary {
    let bar = ProgressBar::new(evaluation.episodes as u64);
    if let Ok(style) = ProgressStyle::with_template("flying {bar:30} {pos}/{len} episodes, {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let episodes = evaluation.run_noting(pilot, || bar.inc(1));
    bar.finish_and_clear();
    Summary::of(&episodes)
}

/// Prints a report as JSON or as a table.
pub fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let value = serde_json::to_value(report)?;
    if json {
        println!("{value}");
        return Ok(());
    }
    let unit = |name: &str| match name {
        "xy_error_m" | "tracking_error_m" => "m",
        "length_mean" => "steps",
        "footprint_bytes" => "bytes",
        "energy_mj" => "mJ",
        _ => "",
    };
    if let Some(object) = value.as_object() {
        for (name, value) in object.iter().filter(|(_, v)| !v.is_null()) {
            let shown = value.as_f64().map_or_else(|| value.to_string(), |v| format!("{v:.6}"));
            println!("{name:24} {shown:>16} {}", unit(name));
        }
    }
    Ok(())
}
