//! The student's parameters.

use std::path::PathBuf;

use nalgebra::Vector3;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_runtime::{Declaration, Parameters, Span, node::BuildError};
use spikewing_snn::{
    Network, Shape,
    policy::{Policy, PublicKey, Requirements},
};

use crate::verify::{Demands, sha256};

/// Parameters as the student uses them.
pub struct Settings {
    pub period: Span,
    pub setpoint: Vector3<f64>,
    pub warmup_steps: u32,
    pub exploration_noise: f32,
    pub seed: u64,
    pub rollback_after: u32,
    pub rollback_window: Span,
    pub policy_dir: Option<PathBuf>,
    pub demands: Demands,
    /// The network that flies first, and the hash of its file (empty: random weights).
    pub first: (Network<f32>, String),
}

/// The declared parameters.
pub fn declare() -> Vec<Declaration> {
    vec![
        Declaration::text("policy_file", "")
            .describe("Policy that flies first (.safetensors). Empty: random weights from `seed`."),
        Declaration::text("policy_dir", "").describe("Folder whose policies ~/list_policies names."),
        Declaration::text("vehicle", "crazyflie")
            .describe("Vehicle that a policy must be made for; empty: any."),
        Declaration::float("control_rate_hz", 100.0)
            .range(10.0, 1000.0)
            .unit("Hz")
            .describe("Control rate: that of the odometry, and the one a policy must be made for."),
        Declaration::floats("setpoint", &[0.0, 0.0, 1.0])
            .range(-1000.0, 1000.0)
            .unit("m")
            .describe("Setpoint until one arrives on the topic."),
        Declaration::integer("warmup_steps", 50).range(0.0, 10_000.0).unit("steps").describe(
            "Steps that a policy runs in shadow, and after the start of an episode, before it counts as warm.",
        ),
        Declaration::float("exploration_noise", 0.0)
            .range(0.0, 1.0)
            .dynamic()
            .describe("Standard deviation of noise on the student's action while it flies; for training."),
        Declaration::integer("seed", 1).range(0.0, 1e15).describe("Seed of random weights and exploration noise."),
        Declaration::integer("rollback_after", 5).range(0.0, 1000.0).describe(
            "Roll back when a policy has lost authority so often within the window; 0: never (training).",
        ),
        Declaration::float("rollback_window_s", 60.0)
            .range(0.1, 3600.0)
            .unit("s")
            .describe("Window in which losses of authority count."),
        Declaration::texts("trusted_keys", &[])
            .describe("Public ed25519 keys (hexadecimal); if any, only policies that one of them signed are taken."),
    ]
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let seed = p.count("seed")? as u64;
        let trusted_keys =
            p.texts("trusted_keys")?.iter().map(|k| PublicKey::from_hex(k)).collect::<Result<Vec<_>, _>>()?;
        let mut demands = Demands {
            widths: Shape::paper().widths(),
            vehicle: p.text("vehicle")?.to_owned(),
            control_rate_hz: p.float("control_rate_hz")?,
            trusted_keys,
        };
        let first = match p.text("policy_file")? {
            "" => {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                (Network::random(&Shape::paper(), &mut rng)?, String::new())
            }
            path => {
                let bytes = Policy::read(path.as_ref())?;
                let requirements = Requirements {
                    vehicle: (!demands.vehicle.is_empty()).then(|| demands.vehicle.clone()),
                    control_rate_hz: Some(demands.control_rate_hz),
                    trusted_keys: demands.trusted_keys.clone(),
                    ..Requirements::student()
                };
                let policy = Policy::from_bytes_verified(&bytes, &requirements)
                    .map_err(|e| format!("policy_file {path}: {e}"))?;
                let network =
                    policy.network().ok_or_else(|| format!("policy_file {path}: no spiking policy"))?;
                (network.clone(), sha256(&bytes))
            }
        };
        demands.widths = first.0.shape().widths();
        let count = |name: &str| p.count(name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Ok(Self {
            period: Span::from_rate_hz(demands.control_rate_hz),
            setpoint: Vector3::from(p.array("setpoint")?),
            warmup_steps: count("warmup_steps")?,
            exploration_noise: p.float("exploration_noise")? as f32,
            seed,
            rollback_after: count("rollback_after")?,
            rollback_window: Span::from_seconds(p.float("rollback_window_s")?),
            policy_dir: Some(p.text("policy_dir")?).filter(|d| !d.is_empty()).map(PathBuf::from),
            demands,
            first,
        })
    }
}
