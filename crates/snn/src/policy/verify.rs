//! Is this policy fit to fly here?

use super::signature::hex;
use super::{
    ACTION, Airframe, Kind, MAX_BYTES, OBSERVATION_GUIDE, OBSERVATION_STUDENT, Policy, PolicyError,
    PublicKey, differences,
};
use sha2::{Digest, Sha256};

/// How far a self-test output may be from its recording. Membranes and spikes are the same to the bit on every machine;
/// only the last tanh may round differently.
pub const TOLERANCE: f32 = 1e-5;

/// What a policy must be. `None` and an empty list of keys ask for nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Requirements {
    /// sha256 of the file's bytes, as announced.
    pub sha256: Option<[u8; 32]>,
    /// Largest file accepted, in bytes.
    pub max_bytes: usize,
    /// Student or guide.
    pub kind: Option<Kind>,
    /// Layer widths from the inputs to the outputs.
    pub widths: Option<Vec<usize>>,
    /// What it will be given.
    pub observation: Option<String>,
    /// What the vehicle takes.
    pub action: Option<String>,
    /// This vehicle's name.
    pub vehicle: Option<String>,
    /// This vehicle under every name for which what is made fits; empty: any. A policy that says what its airframe is must
    /// have one of these contents.
    pub airframes: Vec<Airframe>,
    /// Rate it will run at, in Hz; compared to 0.1 %.
    pub control_rate_hz: Option<f64>,
    /// Keys one of which must have signed it.
    pub trusted_keys: Vec<PublicKey>,
}

impl Requirements {
    /// Nothing but a sound file whose self-test passes.
    pub fn none() -> Self {
        Self {
            sha256: None,
            max_bytes: MAX_BYTES,
            kind: None,
            widths: None,
            observation: None,
            action: None,
            vehicle: None,
            airframes: Vec::new(),
            control_rate_hz: None,
            trusted_keys: Vec::new(),
        }
    }

    /// A spiking policy on the student's observation, for the four motors.
    pub fn student() -> Self {
        Self {
            kind: Some(Kind::Spiking),
            observation: Some(OBSERVATION_STUDENT.to_owned()),
            action: Some(ACTION.to_owned()),
            ..Self::none()
        }
    }

    /// A feed-forward policy on the guide's observation, for the four motors.
    pub fn guide() -> Self {
        Self { kind: Some(Kind::Mlp), observation: Some(OBSERVATION_GUIDE.to_owned()), ..Self::student() }
    }
}

impl Policy {
    /// Reads a policy and checks everything: size, sha256, format, shapes, values ([`Policy::from_bytes`]) and
    /// [`Policy::verify`].
    ///
    /// # Errors
    /// [`PolicyError`], one variant per failure; never panics, whatever the bytes.
    pub fn from_bytes_verified(bytes: &[u8], requirements: &Requirements) -> Result<Self, PolicyError> {
        if bytes.len() > requirements.max_bytes {
            return Err(PolicyError::TooLarge { bytes: bytes.len(), limit: requirements.max_bytes });
        }
        if let Some(expected) = requirements.sha256 {
            let got: [u8; 32] = Sha256::digest(bytes).into();
            if got != expected {
                return Err(PolicyError::Digest { expected: hex(&expected), got: hex(&got) });
            }
        }
        let policy = Self::from_bytes(bytes)?;
        policy.verify(requirements)?;
        Ok(policy)
    }

    /// Checks signature, kind, shape, observation, action, vehicle, rate, and runs the self-test. What concerns the
    /// file's bytes (`sha256`, `max_bytes`) is checked by [`Policy::from_bytes_verified`].
    ///
    /// # Errors
    /// [`PolicyError`], one variant per failure.
    pub fn verify(&self, requirements: &Requirements) -> Result<(), PolicyError> {
        if !requirements.trusted_keys.is_empty() {
            self.verify_signature(&requirements.trusted_keys)?;
        }
        let kind = self.model.kind();
        if let Some(expected) = requirements.kind.filter(|k| *k != kind) {
            return Err(PolicyError::Kind { expected: expected.name(), got: kind.name() });
        }
        self.verify_specification(requirements)?;
        self.self_test.check(&self.model, TOLERANCE)
    }

    fn verify_specification(&self, requirements: &Requirements) -> Result<(), PolicyError> {
        let (metadata, widths) = (&self.metadata, self.model.widths());
        if let Some(expected) = requirements.widths.as_ref().filter(|w| **w != widths) {
            return Err(PolicyError::Shape { expected: joined(expected), got: joined(&widths) });
        }
        // The length of the known observations belongs to their meaning.
        let inputs = match metadata.observation.as_str() {
            OBSERVATION_STUDENT => Some(18),
            OBSERVATION_GUIDE => Some(146),
            _ => None,
        };
        let outputs = (metadata.action == ACTION).then_some(4);
        let wrong = |expected: Option<usize>, got: Option<&usize>| expected.is_some_and(|n| got != Some(&n));
        if wrong(inputs, widths.first()) || wrong(outputs, widths.last()) {
            let end = |n: Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
            let expected = format!("{}-…-{}", end(inputs), end(outputs));
            return Err(PolicyError::Shape { expected, got: joined(&widths) });
        }
        if let Some(expected) = differs(&requirements.observation, &metadata.observation) {
            return Err(PolicyError::Observation { expected, got: metadata.observation.clone() });
        }
        if let Some(expected) = differs(&requirements.action, &metadata.action) {
            return Err(PolicyError::Action { expected, got: metadata.action.clone() });
        }
        if let Some(expected) = differs(&requirements.vehicle, &metadata.vehicle) {
            return Err(PolicyError::Vehicle { expected, got: metadata.vehicle.clone() });
        }
        self.verify_airframe(&requirements.airframes)?;
        let got = metadata.control_rate_hz;
        let Some(expected) = requirements.control_rate_hz else { return Ok(()) };
        let off = (got - expected).abs();
        if off.is_nan() || off > 1e-3 * expected.abs() {
            return Err(PolicyError::ControlRate { expected, got });
        }
        Ok(())
    }
}

impl Policy {
    /// Whether it was made for one of these airframes, by name and content.
    fn verify_airframe(&self, fitting: &[Airframe]) -> Result<(), PolicyError> {
        let Some(first) = fitting.first() else { return Ok(()) };
        let (name, content) = (&self.metadata.vehicle, self.metadata.vehicle_content.as_deref());
        let named: Vec<&Airframe> = fitting.iter().filter(|a| a.name == *name).collect();
        let Some(here) = named.first() else {
            return Err(PolicyError::Vehicle { expected: first.name.clone(), got: name.clone() });
        };
        match content {
            Some(there) if named.iter().all(|a| a.content != there) => Err(PolicyError::Airframe {
                vehicle: name.clone(),
                differences: differences(there, &here.content).join("; "),
            }),
            _ => Ok(()),
        }
    }
}

fn differs(expected: &Option<String>, got: &str) -> Option<String> {
    expected.clone().filter(|e| e != got)
}

fn joined(widths: &[usize]) -> String {
    widths.iter().map(ToString::to_string).collect::<Vec<_>>().join("-")
}
