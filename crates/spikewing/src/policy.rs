//! `spikewing policy`: look into a policy file, check it, sign it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use spikewing_snn::{
    operations::Operations,
    policy::{Model, Policy, PublicKey, Requirements, SecretKey},
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
        /// Vehicle that it must be made for
        #[arg(long)]
        vehicle: Option<String>,
        /// Public key (hexadecimal) one of which must have signed it
        #[arg(long = "key")]
        keys: Vec<String>,
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
                policy
                    .verify(&Requirements { vehicle: vehicle.clone(), trusted_keys, ..Requirements::none() })
                    .map_err(|e| format!("{}: {e}", file.display()))?;
                eprintln!(
                    "{}: sound, its self-test of {} steps passes",
                    file.display(),
                    policy.self_test().steps()
                );
                Ok(())
            }
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

/// An error of a policy file names the file.
fn load(file: &Path) -> Result<Policy, Failure> {
    Policy::load(file).map_err(|e| format!("{}: {e}", file.display()).into())
}
