//! `spikewing vehicle`: explain a vehicle, make one from other programs' files, fit one to a flight.

mod check;
mod draft;
mod px4;
mod xml;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use spikewing_quad::Vehicle;

use crate::Failure;
use draft::{Draft, Known};

/// Explain a vehicle, make one from another program's file, fit one to a flight
#[derive(Debug, Args)]
pub struct VehicleArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Explain a vehicle: hover, thrust, time constants, what a guide can do with it; exit status 1 when it is refused
    Check {
        /// A built-in name or a vehicle file
        vehicle: String,
        /// Print JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Make a vehicle file from an SDF or URDF (Gazebo's multicopter motor plugin, gym-pybullet-drones) or a PX4 parameter file
    Import(Box<ImportArgs>),
}

/// What is imported, and what its file does not say.
#[derive(Debug, Args)]
struct ImportArgs {
    /// .sdf, .urdf or .xml; anything else is read as PX4 parameters (QGroundControl's .params, or `param set` lines)
    file: PathBuf,
    /// The vehicle file to write [default: NAME.yaml]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Name of the vehicle [default: the model's, or the file's]
    #[arg(long)]
    name: Option<String>,
    /// Mass, where the file has none, kg
    #[arg(long)]
    mass_kg: Option<f64>,
    /// Diagonal of the inertia about the centre of mass, where the file has none, kg m²
    #[arg(long, value_name = "X,Y,Z", value_parser = numbers::<3>)]
    inertia_kg_m2: Option<[f64; 3]>,
    /// Largest thrust of one rotor, where the file has none, N
    #[arg(long)]
    max_thrust_n: Option<f64>,
    /// The motors' time constant, where the file has none, s; 0 for none
    #[arg(long)]
    motor_lag_s: Option<f64>,
    /// Rotor states at no and at full command, where the file's are not those, in its unit
    #[arg(long, value_name = "LOW,HIGH", value_parser = numbers::<2>)]
    rotor_range: Option<[f64; 2]>,
}

impl VehicleArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::Check { vehicle, json } => check::run(vehicle, *json),
            Action::Import(args) => args.run(),
        }
    }
}

impl ImportArgs {
    fn run(&self) -> Result<(), Failure> {
        let draft = self.draft().map_err(|e| format!("{}: {e}", self.file.display()))?;
        let text = draft.yaml();
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.yaml", draft.name)));
        let shown = out.display().to_string();
        // What would be refused is shown, not written.
        Vehicle::from_yaml(&text, &shown).map_err(|e| format!("{e}\nimported:\n{text}"))?;
        spikewing_rl::checkpoint::write_atomically(&out, text.as_bytes())
            .map_err(|e| format!("{shown}: {e}"))?;
        for note in &draft.notes {
            eprintln!("{note}");
        }
        eprintln!("wrote {shown}\n  look at it:  spikewing vehicle check {shown}");
        Ok(())
    }

    fn draft(&self) -> Result<Draft, String> {
        let text = std::fs::read_to_string(&self.file).map_err(|e| e.to_string())?;
        let known = Known {
            name: self.name.clone(),
            mass_kg: self.mass_kg,
            inertia_kg_m2: self.inertia_kg_m2,
            max_thrust_n: self.max_thrust_n,
            motor_lag_s: self.motor_lag_s,
            rotor_range: self.rotor_range,
        };
        let extension =
            self.file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let markup = text.trim_start_matches('\u{feff}').trim_start().starts_with('<');
        let draft = match extension.as_str() {
            "sdf" | "urdf" | "xml" | "world" => xml::read(&text, &self.file, &known)?,
            "xacro" => {
                return Err(
                    "xacro is a program's source: run `xacro FILE > robot.urdf` and import that".into()
                );
            }
            _ if markup => xml::read(&text, &self.file, &known)?,
            _ => px4::read(&text, stem(&self.file), &known)?,
        };
        Ok(draft)
    }
}

/// Numbers with commas between them.
fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let all: Option<Vec<f64>> =
        text.split(',').map(|n| n.trim().parse().ok().filter(|v: &f64| v.is_finite())).collect();
    all.and_then(|v| v.try_into().ok())
        .ok_or_else(|| format!("expected {N} numbers with commas between them"))
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|s| s.to_str()).unwrap_or("vehicle")
}

/// A number to at most seven digits: what an import computes is not known better.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}
