//! Updates that were tampered with: signed ones, spoilt in every way that a wire, a disk or a stranger may.

use rand::{Rng, RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use spikewing_msgs::{Message, spikewing_msgs::PolicyUpdate};
use spikewing_runtime::{Time, codec::codec_named};
use spikewing_snn::{
    Network, Shape,
    policy::{Airframe, Announcement, Metadata, Policy, SecretKey, sha256, sha256_of_hex},
};
use spikewing_snn_policy::{Demands, Origin, Proposal, Updates};

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// No message at all any more.
    pub undecodable: u64,
    /// Refused by the verification.
    pub refused: u64,
    /// Taken.
    pub accepted: u64,
}

/// A small network's signed update, and who checks it.
pub struct Victim {
    update: PolicyUpdate,
    demands: Demands,
    stranger: SecretKey,
    rng: Xoshiro256PlusPlus,
}

impl Victim {
    /// `run_dir` gets the learner's public key.
    pub fn new(run_dir: &std::path::Path, seed: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let learner = SecretKey::load_or_create(&run_dir.join("learner.key"))?;
        let shape = Shape { inputs: 18, hidden: vec![12, 7], outputs: 4 };
        let data =
            Policy::spiking(Network::random(&shape, &mut rng)?, Metadata::student("crazyflie"))?.to_bytes();
        let sha256 = sha256(&data);
        let announcement = Announcement { version: 7, parent_version: 6, sha256: sha256_of_hex(&sha256)? };
        let update = PolicyUpdate {
            version: 7,
            parent_version: 6,
            format: "safetensors".into(),
            sha256,
            data,
            signature: announcement.sign(&learner).to_vec(),
            ..PolicyUpdate::default()
        };
        let demands = Demands {
            widths: shape.widths(),
            airframes: vec![Airframe { name: "crazyflie".into(), content: String::new() }],
            control_rate_hz: 100.0,
            updates: Updates::Signed,
            learner_key_file: Some(run_dir.join("learner.pub")),
            trusted_keys: Vec::new(),
        };
        Ok(Self { update, demands, stranger: SecretKey::generate(&mut rand::rng()), rng })
    }

    /// Whether this one may fly.
    pub fn accepts(&self, update: PolicyUpdate) -> bool {
        let version = update.version;
        let proposal = Proposal { origin: Origin::Update(Box::new(update)), version, arrived: Time::ZERO };
        self.demands.verify(vec![proposal], None).verified.is_some()
    }

    /// The update as the learner sent it.
    pub fn genuine(&self) -> PolicyUpdate {
        self.update.clone()
    }

    /// Spoils one, and says what became of it.
    pub fn attack(&mut self, tally: &mut Tally) {
        match self.spoilt() {
            None => tally.undecodable += 1,
            // A mutation that changes nothing is no attack.
            Some(update) if update == self.update => tally.refused += 1,
            Some(update) => match self.accepts(update) {
                true => tally.accepted += 1,
                false => tally.refused += 1,
            },
        }
    }

    fn spoilt(&mut self) -> Option<PolicyUpdate> {
        let mut update = self.update.clone();
        let rng = &mut self.rng;
        match rng.random_range(0..8) {
            0 => spoil(&mut update.data, rng),
            1 => spoil(&mut update.signature, rng),
            2 => update.version = rng.random(),
            3 => update.parent_version = rng.random(),
            // Damaged, and announced as if it were whole.
            4 | 5 => {
                spoil(&mut update.data, rng);
                update.sha256 = sha256(&update.data);
                if rng.random() {
                    let (version, parent_version) = (update.version, update.parent_version);
                    let sha256 = sha256_of_hex(&update.sha256).unwrap_or_default();
                    let forged = Announcement { version, parent_version, sha256 };
                    update.signature = forged.sign(&self.stranger).to_vec();
                }
            }
            6 => {
                let mut text = update.sha256.into_bytes();
                spoil(&mut text, rng);
                update.sha256 = String::from_utf8_lossy(&text).into_owned();
            }
            // On the wire.
            _ => {
                let mut bytes = update.wrap().encode().ok()?;
                spoil(&mut bytes, rng);
                let decode = codec_named("spikewing_msgs/msg/PolicyUpdate")?.decode;
                let message = decode(&bytes).ok()?;
                let decoded = PolicyUpdate::peel(&message)?.clone();
                // Fields that say nothing about who may fly what are not protected.
                let harmless = PolicyUpdate {
                    header: self.update.header.clone(),
                    return_estimate: self.update.return_estimate,
                    ..decoded.clone()
                };
                return Some(if harmless == self.update { self.update.clone() } else { decoded });
            }
        }
        Some(update)
    }
}

/// Bits flipped, bytes overwritten, cut, doubled or put in.
fn spoil(bytes: &mut Vec<u8>, rng: &mut impl Rng) {
    for _ in 0..rng.random_range(1..6) {
        if bytes.is_empty() {
            bytes.push(rng.random());
            continue;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, rng.random()),
            _ => {
                let part = bytes[at..bytes.len().min(at + 64)].to_vec();
                bytes.extend(part);
            }
        }
    }
}
