//! Verifying policies away from the control tick.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use spikewing_msgs::spikewing_msgs::PolicyUpdate;
use spikewing_runtime::Time;
use spikewing_snn::{
    Flight,
    policy::{Airframe, Announcement, Policy, PublicKey, Requirements, sha256_of_hex},
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

/// A policy that somebody proposes.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What it comes from.
    pub origin: Origin,
    /// The version it claims, or was given.
    pub version: u64,
    /// When it arrived.
    pub arrived: Time,
}

impl Proposal {
    fn words(&self) -> String {
        match &self.origin {
            Origin::Update(_) => format!("policy/update version {}", self.version),
            Origin::File(path) => path.display().to_string(),
            Origin::Bytes(_) => "a service call".to_owned(),
        }
    }
}

/// A policy that may fly, with its network laid out for flight.
#[derive(Debug)]
pub struct Verified {
    /// Version it gets.
    pub version: u64,
    /// Ready to fly.
    pub flight: Flight,
    /// sha256 of the file.
    pub sha256: [u8; 32],
    /// Digest of the learned numbers.
    pub content: [u8; 32],
    /// Where it came from, in words.
    pub origin: String,
    /// When it arrived.
    pub arrived: Time,
}

/// What became of a batch of proposals.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The newest that may fly.
    pub verified: Option<Verified>,
    /// Why others were refused. A sound one that is older than `verified` is not among them: it is only overtaken.
    pub refusals: Vec<String>,
    /// A network's storage that was not needed.
    pub spare: Option<Flight>,
}

/// Whose updates on `policy/update` are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Those that the learner, or another trusted key, signed.
    Signed,
    /// Anybody's.
    Any,
    /// Nobody's.
    None,
}

/// What is demanded of a policy.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Layer widths of the network that flies.
    pub widths: Vec<usize>,
    /// The vehicle that it must be made for, under every name that fits; empty: any.
    pub airframes: Vec<Airframe>,
    /// Control rate, Hz.
    pub control_rate_hz: f64,
    /// Whose updates are taken.
    pub updates: Updates,
    /// File with the learner's public key.
    pub learner_key_file: Option<PathBuf>,
    /// Keys one of which must have signed a file; empty: whoever calls the service is trusted. Updates that they signed are
    /// taken, too.
    pub trusted_keys: Vec<PublicKey>,
}

impl Demands {
    /// Verifies all proposals, the newest first, until one may fly. `spare` is storage for its network.
    pub fn verify(&self, batch: Vec<Proposal>, spare: Option<Flight>) -> Verdict {
        let mut verdict = Verdict { spare, ..Verdict::default() };
        let mut admitted = Vec::with_capacity(batch.len());
        for proposal in batch {
            match self.admit(&proposal) {
                Ok(()) => admitted.push(proposal),
                Err(reason) => verdict.refusals.push(format!("{}: {reason}", proposal.words())),
            }
        }
        // A stable sort: of two with one version the one that came first.
        admitted.sort_by_key(|p| std::cmp::Reverse(p.version));
        for proposal in admitted {
            let words = proposal.words();
            match self.inspect(proposal, &mut verdict.spare) {
                Ok(verified) => {
                    verdict.verified = Some(verified);
                    break;
                }
                Err(reason) => verdict.refusals.push(format!("{words}: {reason}")),
            }
        }
        verdict
    }

    /// Whether it comes from somebody who may propose. Cheap: a flood of strangers' updates costs little.
    fn admit(&self, proposal: &Proposal) -> Result<(), String> {
        let Origin::Update(update) = &proposal.origin else { return Ok(()) };
        if update.format != "safetensors" {
            return Err(format!("format `{}` is not known; expected `safetensors`", update.format));
        }
        let sha256 = sha256_of_hex(&update.sha256).map_err(|e| e.to_string())?;
        if self.updates == Updates::Any {
            return Ok(());
        }
        let mut keys = self.trusted_keys.clone();
        let mut missing = None;
        if let Some(path) = &self.learner_key_file {
            match PublicKey::load(path) {
                Ok(key) => keys.push(key),
                Err(error) => missing = Some(error.to_string()),
            }
        }
        if keys.is_empty() {
            return Err(match missing {
                Some(error) => format!("the learner's key is not there: {error}"),
                None => {
                    "no key is trusted: set learner_key_file to the learner's learner.pub, or swap a file by \
                         ~/swap_policy"
                        .to_owned()
                }
            });
        }
        let announcement =
            Announcement { version: update.version, parent_version: update.parent_version, sha256 };
        announcement.verify(&update.signature, &keys).map(drop).map_err(|e| e.to_string())
    }

    /// Whether it may fly; its network is laid out in the spare storage, if there is some.
    fn inspect(&self, proposal: Proposal, spare: &mut Option<Flight>) -> Result<Verified, String> {
        let words = proposal.words();
        let mut requirements = Requirements {
            widths: Some(self.widths.clone()),
            airframes: self.airframes.clone(),
            control_rate_hz: Some(self.control_rate_hz),
            trusted_keys: self.trusted_keys.clone(),
            ..Requirements::student()
        };
        let bytes = match proposal.origin {
            Origin::Update(update) => {
                requirements.sha256 = Some(sha256_of_hex(&update.sha256).map_err(|e| e.to_string())?);
                // The announcement's signature covers the file's sha256: the file needs none of its own.
                requirements.trusted_keys.clear();
                update.data
            }
            Origin::File(path) => Policy::read(&path).map_err(|e| e.to_string())?,
            Origin::Bytes(bytes) => bytes,
        };
        let policy = Policy::from_bytes_verified(&bytes, &requirements).map_err(|e| e.to_string())?;
        let network = policy.network().ok_or("it is no spiking policy")?;
        let flight = match spare.take() {
            Some(mut flight) => match flight.load(network) {
                Ok(()) => {
                    flight.reset();
                    flight.clear_counters();
                    flight
                }
                Err(_) => Flight::new(network),
            },
            None => Flight::new(network),
        };
        Ok(Verified {
            version: proposal.version,
            flight,
            sha256: Sha256::digest(&bytes).into(),
            content: policy.content(),
            origin: words,
            arrived: proposal.arrived,
        })
    }
}
