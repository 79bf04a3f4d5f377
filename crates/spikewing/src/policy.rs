//! `spikewing policy`: look into a policy file, check it, sign it; take one from another program, and give one to it.

mod layers;
mod nir;
mod state_dict;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use spikewing_quad::Vehicle;
use spikewing_snn::{
    operations::Operations,
    policy::{
        Airframe, Metadata, Model, Policy, PublicKey, Requirements, SecretKey, content_sha256, differences,
    },
};

use crate::Failure;

/// Look into a policy file, check it, sign it
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what a policy is and where it came from
    Inspect {
        /// Policy file (.safetensors)
        file: PathBuf,
        /// Print JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check shapes, numbers, self-test and, with keys, the signature; exit status 1 when it is refused
    Verify {
        /// Policy file (.safetensors)
        file: PathBuf,
        /// Vehicle that it must be made for, by name and content: a built-in name or a vehicle file
        #[arg(long)]
        vehicle: Option<String>,
        /// Public key (hexadecimal) one of which must have signed it
        #[arg(long = "key")]
        keys: Vec<String>,
    },
    /// Write into a policy what its vehicle is, field by field, so that another one of the same name is told from it
    Describe {
        /// Policy file (.safetensors); rewritten. The network and its self-test stay as they are
        file: PathBuf,
        /// The vehicle that it was made for: a built-in name or a vehicle file [default: the built-in one of the policy's name]
        #[arg(long)]
        vehicle: Option<String>,
    },
    /// Make a policy of another program's network: a PyTorch state_dict with snntorch's Leaky neurons, saved as safetensors, or a
    /// NIR graph (.nir, HDF5). The last layer's outputs go through tanh to the motors
    Import {
        /// The network: .safetensors, or .nir
        file: PathBuf,
        /// Policy file to write
        #[arg(long)]
        out: PathBuf,
        /// The vehicle that it is made for: a built-in name or a vehicle file
        #[arg(long, default_value = "crazyflie")]
        vehicle: String,
        /// Control rate that it is made for, Hz
        #[arg(long, default_value_t = 100.0)]
        rate_hz: f64,
        /// Step for which a NIR graph's time constants are meant, s; snntorch's is 0.0001
        #[arg(long, default_value_t = nir::SNNTORCH_DT_S)]
        dt: f64,
        /// What neurons of a NIR graph do at a spike, where its metadata does not say
        #[arg(long, value_enum, default_value = "nir")]
        reset: nir::Reset,
    },
    /// Write a spiking policy's network as a state_dict for snntorch (.safetensors) or as a NIR graph (.nir)
    Export {
        /// Policy file
        file: PathBuf,
        /// File to write: .safetensors or .nir
        #[arg(long)]
        out: PathBuf,
        /// Step for which a NIR graph's time constants are meant, s; snntorch's is 0.0001
        #[arg(long, default_value_t = nir::SNNTORCH_DT_S)]
        dt: f64,
    },
    /// Sign a policy with an ed25519 key
    Sign {
        /// Policy file (.safetensors); rewritten
        file: PathBuf,
        /// File that holds the secret key (64 hexadecimal digits)
        #[arg(long)]
        key_file: PathBuf,
    },
}

impl PolicyArgs {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.action {
            Action::Inspect { file, json } => inspect(file, *json),
            Action::Verify { file, vehicle, keys } => {
                let trusted_keys =
                    keys.iter().map(|k| PublicKey::from_hex(k)).collect::<Result<Vec<_>, _>>()?;
                let policy = load(file)?;
                let airframes = match vehicle {
                    Some(vehicle) => airframes(&Vehicle::find(vehicle)?),
                    None => Vec::new(),
                };
                policy
                    .verify(&Requirements { airframes, trusted_keys, ..Requirements::none() })
                    .map_err(|e| format!("{}: {e}", file.display()))?;
                eprintln!(
                    "{}: sound, its self-test of {} steps passes",
                    file.display(),
                    policy.self_test().steps()
                );
                Ok(())
            }
            Action::Import { file, out, vehicle, rate_hz, dt, reset } => {
                let metadata = Metadata { control_rate_hz: *rate_hz, ..metadata_for(vehicle)? };
                import(file, out, metadata, positive(*dt)?, *reset)
            }
            Action::Export { file, out, dt } => export(file, out, positive(*dt)?),
            Action::Describe { file, vehicle } => describe(file, vehicle.as_deref()),
            Action::Sign { file, key_file } => {
                let text =
                    std::fs::read_to_string(key_file).map_err(|e| format!("{}: {e}", key_file.display()))?;
                let key = SecretKey::from_hex(text.trim())?;
                let mut policy = load(file)?;
                policy.sign(&key);
                policy.save(file)?;
                if let Some(signature) = policy.signature() {
                    eprintln!("{}: signed by {}", file.display(), signature.signer());
                }
                Ok(())
            }
        }
    }
}

fn airframes(vehicle: &Vehicle) -> Vec<Airframe> {
    vehicle.known_as().into_iter().map(Airframe::from).collect()
}

fn positive(dt_s: f64) -> Result<f64, Failure> {
    let fits = dt_s.is_finite() && dt_s > 0.0;
    if fits { Ok(dt_s) } else { Err(format!("--dt {dt_s}: it must be a time above 0").into()) }
}

fn metadata_for(vehicle: &str) -> Result<Metadata, Failure> {
    let vehicle = Vehicle::find(vehicle)?;
    Ok(Metadata { vehicle_content: Some(vehicle.content()), ..Metadata::student(vehicle.name.clone()) })
}

fn import(
    file: &Path,
    out: &Path,
    mut metadata: Metadata,
    dt_s: f64,
    reset: nir::Reset,
) -> Result<(), Failure> {
    let named = |e: String| format!("{}: {e}", file.display());
    let bytes = Policy::read(file)?;
    // HDF5 begins with its signature, whatever the file is called.
    let graph = bytes.starts_with(b"\x89HDF\r\n\x1a\n");
    let layers =
        if graph { nir::read(bytes, dt_s, reset) } else { state_dict::read(&bytes) }.map_err(named)?;
    let network = layers::network(&layers).map_err(named)?;
    let shape = network.shape();
    if (shape.inputs, shape.outputs) != (18, 4) {
        return Err(named(format!(
            "it has {} inputs and {} outputs; a student observes 18 numbers and commands 4 motors (policies/README.md)",
            shape.inputs, shape.outputs
        ))
        .into());
    }
    let source = if graph { "a NIR graph" } else { "a state_dict" };
    metadata.extra.insert("imported_from".into(), source.into());
    let policy = Policy::spiking(network, metadata).map_err(|e| named(e.to_string()))?;
    policy.save(out)?;
    eprintln!(
        "{}: {source} of shape {shape} is a policy for `{}` now, with a self-test of {} steps. Taken as said in policies/README.md: \
         the observation's order and signs, the motors' order, and tanh after the last layer",
        out.display(),
        policy.metadata.vehicle,
        policy.self_test().steps()
    );
    Ok(())
}

fn export(file: &Path, out: &Path, dt_s: f64) -> Result<(), Failure> {
    let policy = load(file)?;
    let network = policy.network().ok_or_else(|| format!("{}: no spiking policy", file.display()))?;
    let named = |e: String| format!("{}: {e}", file.display());
    let bytes = match out.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => state_dict::write(network).map_err(named)?,
        Some("nir" | "h5" | "hdf5") => nir::write(network, dt_s).map_err(named)?,
        _ => return Err(format!("--out {}: it must end with .safetensors or .nir", out.display()).into()),
    };
    spikewing_rl::checkpoint::write_atomically(out, &bytes).map_err(|e| format!("{}: {e}", out.display()))?;
    eprintln!("{}: the network of {}; tanh follows its last layer", out.display(), file.display());
    Ok(())
}

fn describe(file: &Path, vehicle: Option<&str>) -> Result<(), Failure> {
    let mut policy = load(file)?;
    if policy.signature().is_some() {
        let file = file.display();
        return Err(format!(
            "{file}: it is signed, and a signature covers what a policy says of itself: describe it first"
        )
        .into());
    }
    let vehicle = Vehicle::find(vehicle.unwrap_or(&policy.metadata.vehicle))?;
    let own = policy.metadata.vehicle.clone();
    if vehicle.name != own {
        return Err(format!("{}: it is made for `{own}`, not `{}`", file.display(), vehicle.name).into());
    }
    policy.metadata.vehicle_content = Some(vehicle.content());
    policy.verify(&Requirements { airframes: airframes(&vehicle), ..Requirements::none() })?;
    policy.save(file)?;
    eprintln!("{}: made for `{own}` with content {}", file.display(), content_sha256(&vehicle.content()));
    Ok(())
}

fn inspect(file: &Path, as_json: bool) -> Result<(), Failure> {
    let policy = load(file)?;
    let (m, model) = (&policy.metadata, policy.model());
    let widths: Vec<String> = model.widths().iter().map(ToString::to_string).collect();
    let (operations, kind) = match model {
        Model::Spiking(network) => {
            let shape = network.shape();
            // Without flight the firing rates are not known: every neuron is taken to fire.
            (Operations::spiking(&shape, &vec![1.0; shape.hidden.len()]), "spiking")
        }
        Model::Mlp(mlp) => (Operations::mlp(mlp), "mlp"),
    };
    let value = json!({
        "file": file.display().to_string(),
        "kind": kind,
        "shape": widths.join("-"),
        "vehicle": m.vehicle,
        "vehicle_sha256": m.vehicle_content.as_deref().map(content_sha256),
        "vehicle_differs": differs(m),
        "observation": m.observation,
        "action": m.action,
        "control_rate_hz": m.control_rate_hz,
        "training_run": m.training_run,
        "return_mean": m.return_mean,
        "slope": m.slope,
        "git_revision": m.git_revision,
        "self_test_steps": policy.self_test().steps(),
        "signed_by": policy.signature().map(spikewing_snn::policy::Signature::signer),
        "footprint_bytes": operations.footprint_bytes,
        "dense_synops": operations.dense_synops,
        "extra": m.extra,
    });
    if as_json {
        println!("{value}");
    } else if let Some(object) = value.as_object() {
        for (name, value) in object.iter().filter(|(_, v)| !v.is_null()) {
            println!("{name:18} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    Ok(())
}

/// What tells a policy's vehicle from the built-in one of its name.
fn differs(m: &Metadata) -> Option<String> {
    let built_in = Vehicle::built_in(&m.vehicle)?.content();
    let found = differences(m.vehicle_content.as_deref()?, &built_in);
    (!found.is_empty()).then(|| format!("from the built-in `{}`: {}", m.vehicle, found.join("; ")))
}

/// An error of a policy file names the file.
fn load(file: &Path) -> Result<Policy, Failure> {
    Policy::load(file).map_err(|e| format!("{}: {e}", file.display()).into())
}
