//! The policy file: one safetensors file that says what it is, for which vehicle, and how to check that it computes
//! what its author's machine computed.
//!
//! | content | where |
//! |---|---|
//! | learned tensors, `f32` | `fc{i}.weight` `[out, in]`, `fc{i}.bias`; spiking: `lif{i}.beta`, `lif{i}.threshold` |
//! | self-test | `selftest.input` `[steps, inputs]`, `selftest.output` `[steps, outputs]`, from zero membranes |
//! | [`Metadata`] | string metadata: `format_version`, `kind`, `shape`, `vehicle`, `observation`, `action`, … |
//! | signature (optional) | string metadata `signer`, `signature`: Ed25519 over [`Policy::digest`] |
//!
//! Reading accepts any bytes and either returns a policy whose every value is in range or says what is wrong.
//! [`Policy::verify`] then checks it against what the vehicle needs. Neither changes anything anywhere else.

mod airframe;
mod announcement;
mod codec;
mod error;
mod keys;
mod metadata;
mod selftest;
mod signature;
mod verify;

pub use airframe::{Airframe, content_sha256, differences};
pub use announcement::{Announcement, LAST_VERSION};
pub use error::PolicyError;
pub use keys::public_path;
pub use metadata::{ACTION, Kind, Metadata, OBSERVATION_GUIDE, OBSERVATION_STUDENT};
pub use selftest::SelfTest;
pub use signature::{PublicKey, SecretKey, Signature, hex, sha256, sha256_of_hex};
pub use verify::{Requirements, TOLERANCE};

use crate::{Mlp, Network};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Version of the file format this crate writes and the only one it reads.
pub const FORMAT_VERSION: &str = "1";

/// Larger files are not read. The published network takes 0.16 MB.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Largest magnitude a learned value may have; keeps every sum finite for observations within
/// [`INPUT_LIMIT`](crate::INPUT_LIMIT).
pub const PARAMETER_LIMIT: f32 = 1e6;

/// What a policy computes with.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// A spiking network (the student).
    Spiking(Network<f32>),
    /// A feed-forward network (the guide).
    Mlp(Mlp),
}

impl Model {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Spiking(_) => Kind::Spiking,
            Self::Mlp(_) => Kind::Mlp,
        }
    }

    /// Layer widths from the inputs to the outputs.
    pub fn widths(&self) -> Vec<usize> {
        match self {
            Self::Spiking(network) => network.shape().widths(),
            Self::Mlp(mlp) => mlp.widths(),
        }
    }

    /// Every learned tensor: name, shape, row-major values; in file order of the layers.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        match self {
            Self::Spiking(network) => {
                let widths = self.widths();
                let shape = |name: &crate::ParameterName| match *name {
                    crate::ParameterName::Weight(i) => vec![widths[i], widths[i - 1]],
                    crate::ParameterName::Bias(i)
                    | crate::ParameterName::Beta(i)
                    | crate::ParameterName::Threshold(i) => vec![widths[i]],
                };
                network
                    .parameters()
                    .into_iter()
                    .map(|(name, values)| (name.to_string(), shape(&name), values))
                    .collect()
            }
            Self::Mlp(mlp) => {
                let mut list = Vec::new();
                for (i, layer) in mlp.layers().iter().enumerate() {
                    let n = i + 1;
                    list.push((
                        format!("fc{n}.weight"),
                        vec![layer.outputs, layer.inputs],
                        layer.weight.as_slice(),
                    ));
                    list.push((format!("fc{n}.bias"), vec![layer.outputs], layer.bias.as_slice()));
                }
                list
            }
        }
    }
}

/// A policy with all that travels in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Where it came from and what it is for.
    pub metadata: Metadata,
    model: Model,
    self_test: SelfTest,
    signature: Option<Signature>,
}

impl Policy {
    /// A policy around a spiking network, with a fresh self-test and no signature.
    ///
    /// # Errors
    /// [`PolicyError`] when a parameter is not finite or too large.
    pub fn spiking(network: Network<f32>, metadata: Metadata) -> Result<Self, PolicyError> {
        Self::new(Model::Spiking(network), metadata)
    }

    /// A policy around a feed-forward network, with a fresh self-test and no signature.
    ///
    /// # Errors
    /// [`PolicyError`] when a parameter is not finite or too large.
    pub fn mlp(mlp: Mlp, metadata: Metadata) -> Result<Self, PolicyError> {
        Self::new(Model::Mlp(mlp), metadata)
    }

    /// A policy around `model`, with a fresh self-test and no signature.
    ///
    /// # Errors
    /// [`PolicyError`] when a parameter is not finite or too large.
    pub fn new(model: Model, metadata: Metadata) -> Result<Self, PolicyError> {
        for (name, _, values) in model.tensors() {
            codec::check_values(&name, values)?;
        }
        let self_test = SelfTest::record(&model)?;
        Ok(Self { metadata, model, self_test, signature: None })
    }

    /// What it computes with.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The spiking network, if it is one.
    pub fn network(&self) -> Option<&Network<f32>> {
        match &self.model {
            Model::Spiking(network) => Some(network),
            Model::Mlp(_) => None,
        }
    }

    /// The inputs and outputs that prove a machine computes this policy right.
    pub fn self_test(&self) -> &SelfTest {
        &self.self_test
    }

    /// The signature, valid or not: see [`Policy::verify_signature`].
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// Writes the file so that a reader finds either the old one or the whole new one, also after a power cut.
    ///
    /// # Errors
    /// [`PolicyError::Io`], or what [`Policy::from_bytes`] finds wrong; the old file is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), PolicyError> {
        let io = |source| PolicyError::Io { path: path.to_owned(), source };
        let bytes = self.to_bytes();
        // What could not be read back (a control rate of zero, say) must not replace a good file.
        Self::from_bytes(&bytes)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".policy-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is its owner's alone by default; a policy is for every node. The umask still applies.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        #[cfg(unix)]
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(())
    }

    /// Reads and checks a file ([`Policy::from_bytes`]).
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        Self::from_bytes(&Self::read(path)?)
    }

    /// Reads a file's bytes, refusing what is larger than [`MAX_BYTES`].
    ///
    /// # Errors
    /// [`PolicyError::Io`] or [`PolicyError::TooLarge`].
    pub fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
        let io = |source| PolicyError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: bytes.len(), limit: MAX_BYTES });
        }
        Ok(bytes)
    }
}
