//! Verifying a policy away from the control tick.

use std::path::PathBuf;

use spikewing_msgs::spikewing_msgs::PolicyUpdate;
use spikewing_snn::{
    Flight,
    policy::{Policy, PublicKey, Requirements},
};

/// What a new policy comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A message on `policy/update`.
    Update(Box<PolicyUpdate>),
    /// A file on this machine.
    File(PathBuf),
    /// Bytes in a service call.
    Bytes(Vec<u8>),
}

/// A policy that may fly, with its network laid out for flight.
#[derive(Debug)]
pub struct Verified {
    /// Version it gets.
    pub version: u64,
    /// Ready to fly.
    pub flight: Flight,
    /// sha256 of the file, hexadecimal.
    pub sha256: String,
    /// Where it came from, in words.
    pub origin: String,
}

/// What is demanded of a policy.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Layer widths of the network that flies.
    pub widths: Vec<usize>,
    /// Vehicle that it must be made for; empty: any.
    pub vehicle: String,
    /// Control rate, Hz.
    pub control_rate_hz: f64,
    /// Keys one of which must have signed it; empty: none is needed.
    pub trusted_keys: Vec<PublicKey>,
}

impl Demands {
    /// Verifies, reading a file if need be.
    ///
    /// # Errors
    /// Says in words why the policy is refused.
    pub fn verify(&self, origin: Origin, version: u64) -> Result<Verified, String> {
        let (bytes, announced, words) = match origin {
            Origin::Update(update) => {
                if update.format != "safetensors" {
                    return Err(format!("format `{}` is not known; expected `safetensors`", update.format));
                }
                (update.data, Some(update.sha256), format!("policy/update version {version}"))
            }
            Origin::File(path) => {
                let bytes = Policy::read(&path).map_err(|e| e.to_string())?;
                (bytes, None, path.display().to_string())
            }
            Origin::Bytes(bytes) => (bytes, None, "a service call".to_owned()),
        };
        let announced = announced.map(|text| digest(&text)).transpose()?;
        let requirements = Requirements {
            sha256: announced,
            widths: Some(self.widths.clone()),
            vehicle: (!self.vehicle.is_empty()).then(|| self.vehicle.clone()),
            control_rate_hz: Some(self.control_rate_hz),
            trusted_keys: self.trusted_keys.clone(),
            ..Requirements::student()
        };
        let policy =
            Policy::from_bytes_verified(&bytes, &requirements).map_err(|e| format!("{words}: {e}"))?;
        let network = policy.network().ok_or_else(|| format!("{words}: it is no spiking policy"))?;
        Ok(Verified { version, flight: Flight::new(network), sha256: sha256(&bytes), origin: words })
    }
}

/// sha256 of bytes, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let bad = || format!("sha256 `{text}` is not 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}
