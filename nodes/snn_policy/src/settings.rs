//! The student's parameters.

use std::path::PathBuf;

use nalgebra::Vector3;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};
use spikewing_quad::{Setpoint, Vehicle};
use spikewing_runtime::{Parameters, Span, node::BuildError, parameters};
use spikewing_snn::{
    Network, Shape,
    policy::{Airframe, Policy, PublicKey, Requirements},
};

use crate::{
    roster::Rules,
    verify::{Demands, Updates},
};

parameters! {
    const POLICY_FILE: Parameter<Option<PathBuf>> = Parameter::path("policy_file")
        .about("Policy that flies first (.safetensors). Empty: random weights from `seed`.");
    const POLICY_DIR: Parameter<Option<PathBuf>> = Parameter::path("policy_dir")
        .about("Folder whose policies ~/list_policies names.");
    const VEHICLE: Parameter<String> = Parameter::text("vehicle", "crazyflie")
        .about("Vehicle that a policy must be made for, by name and content: a built-in one or the path of a vehicle file; empty: any.");
    const CONTROL_RATE: Parameter<f64> = Parameter::float("control_rate_hz", 100.0)
        .range(10.0, 1000.0)
        .unit("Hz")
        .about("Control rate: that of the odometry, and the one a policy must be made for.");
    const SETPOINT: Parameter<[f64; 3]> = Parameter::vector("setpoint", &[0.0, 0.0, 1.0])
        .range(-1000.0, 1000.0)
        .unit("m")
        .about("Setpoint until one arrives on the topic.");
    const WARMUP_STEPS: Parameter<u32> = Parameter::whole("warmup_steps", 50)
        .range(0.0, 10_000.0)
        .unit("steps")
        .about("Steps that a policy runs in shadow, and after the start of an episode, before it counts as warm.");
    pub(crate) const EXPLORATION_NOISE: Parameter<f64> = Parameter::float("exploration_noise", 0.0)
        .range(0.0, 1.0)
        .dynamic()
        .about("Standard deviation of noise on the student's action while it flies; for training.");
    const SEED: Parameter<u64> = Parameter::whole("seed", 1)
        .range(0.0, 1e15)
        .about("Seed of random weights and exploration noise.");
    const ROLLBACK_AFTER: Parameter<u32> = Parameter::whole("rollback_after", 5)
        .range(0.0, 1000.0)
        .about("When a policy has lost authority so often within the window it is not tried again, and the last one that proved itself comes back; 0: never (training).");
    const ROLLBACK_WINDOW: Parameter<f64> = Parameter::float("rollback_window_s", 60.0)
        .range(0.1, 3600.0)
        .unit("s")
        .about("Window in which losses of authority count.");
    const PROVE_STEPS: Parameter<u32> = Parameter::whole("prove_steps", 500)
        .range(1.0, 1e9)
        .unit("steps")
        .about("A policy has proved itself when it flew so many steps without losing authority; the last one that did is what ~/rollback goes back to.");
    const UPDATES: Parameter<Updates> = Parameter::choice(
        "updates",
        "signed",
        &[("signed", Updates::Signed), ("any", Updates::Any), ("none", Updates::None)],
    )
    .about("Whose updates on policy/update are taken: those that the learner (learner_key_file) or one of trusted_keys signed; anybody's, where nobody else can publish; or none.");
    const LEARNER_KEY_FILE: Parameter<Option<PathBuf>> = Parameter::path("learner_key_file")
        .about("The learner's public key, learner.pub in its run folder; read anew for every update.");
    const TRUSTED_KEYS: Parameter<Vec<String>> = Parameter::texts("trusted_keys", &[])
        .about("Public ed25519 keys (hexadecimal). If any, every file (policy_file, ~/swap_policy) must be signed by one of them, and updates that they signed are taken. If none, whoever calls ~/swap_policy is trusted.");
}

/// Parameters as the student uses them.
pub struct Settings {
    pub period: Span,
    pub setpoint: Setpoint,
    pub exploration_noise: f32,
    pub seed: u64,
    pub rules: Rules,
    pub policy_dir: Option<PathBuf>,
    pub demands: Demands,
    /// Updates with more bytes cannot be of the shape that flies.
    pub update_bytes: usize,
    /// The network that flies first, and the hash of its file (none: random weights).
    pub first: (Network<f32>, Option<[u8; 32]>),
}

/// What a policy may be made for; nothing for a vehicle that is not named: any.
fn airframes(vehicle: &str) -> Result<Vec<Airframe>, BuildError> {
    if vehicle.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Vehicle::find(vehicle)?.known_as().into_iter().map(Airframe::from).collect())
}

impl Settings {
    pub fn read(p: &Parameters) -> Result<Self, BuildError> {
        let seed = p.get(&SEED)?;
        let trusted_keys =
            p.get(&TRUSTED_KEYS)?.iter().map(|k| PublicKey::from_hex(k)).collect::<Result<Vec<_>, _>>()?;
        let mut demands = Demands {
            widths: Shape::paper().widths(),
            airframes: airframes(&p.get(&VEHICLE)?)?,
            control_rate_hz: p.get(&CONTROL_RATE)?,
            updates: p.get(&UPDATES)?,
            learner_key_file: p.get(&LEARNER_KEY_FILE)?,
            trusted_keys,
        };
        let first = match p.get(&POLICY_FILE)? {
            None => {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                (Network::random(&Shape::paper(), &mut rng)?, None)
            }
            Some(path) => {
                let bytes = Policy::read(&path)?;
                let requirements = Requirements {
                    airframes: demands.airframes.clone(),
                    control_rate_hz: Some(demands.control_rate_hz),
                    trusted_keys: demands.trusted_keys.clone(),
                    ..Requirements::student()
                };
                let path = path.display();
                let policy = Policy::from_bytes_verified(&bytes, &requirements)
                    .map_err(|e| format!("policy_file {path}: {e}"))?;
                let network =
                    policy.network().ok_or_else(|| format!("policy_file {path}: no spiking policy"))?;
                (network.clone(), Some(Sha256::digest(&bytes).into()))
            }
        };
        demands.widths = first.0.shape().widths();
        Ok(Self {
            period: Span::from_rate_hz(demands.control_rate_hz),
            setpoint: Setpoint::at(Vector3::from(p.get(&SETPOINT)?)),
            exploration_noise: p.get(&EXPLORATION_NOISE)? as f32,
            seed,
            rules: Rules {
                warmup_steps: p.get(&WARMUP_STEPS)?,
                prove_steps: p.get(&PROVE_STEPS)?,
                bar_after: p.get(&ROLLBACK_AFTER)?,
                window: Span::from_seconds(p.get(&ROLLBACK_WINDOW)?),
            },
            policy_dir: p.get(&POLICY_DIR)?,
            // Weights, and generously metadata and self-test.
            update_bytes: (1 << 20) + 8 * demands.widths.windows(2).map(|w| (w[0] + 3) * w[1]).sum::<usize>(),
            demands,
            first,
        })
    }
}
