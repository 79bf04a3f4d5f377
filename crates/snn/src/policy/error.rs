//! Why a policy was refused.

use crate::SnnError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a policy could not be read, written or accepted. The policy that runs is untouched by any of them.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file system refused.
    #[error("policy file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More bytes than allowed.
    #[error(
        "the policy has {bytes} bytes or more, {limit} are allowed: this is not a policy for this vehicle"
    )]
    TooLarge {
        /// Its size, or what was read of it.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not those announced.
    #[error(
        "the policy's sha256 is {got} but {expected} was announced: it was damaged on its way, send it again"
    )]
    Digest {
        /// Announced, in hex.
        expected: String,
        /// Computed, in hex.
        got: String,
    },
    /// Not a safetensors file.
    #[error("not a safetensors file ({reason}): it may be cut off or of another format")]
    NotSafetensors {
        /// What the reader said.
        reason: String,
    },
    /// A metadata entry is missing.
    #[error("the policy's metadata lacks `{key}`: write the file with `Policy::save` or add the entry")]
    MissingMetadata {
        /// Its key.
        key: &'static str,
    },
    /// A metadata entry cannot be understood.
    #[error("the policy's metadata has {key} = `{value}`: {reason}")]
    BadMetadata {
        /// Its key.
        key: String,
        /// Its value, shortened.
        value: String,
        /// What it should be.
        reason: &'static str,
    },
    /// A file of another format version.
    #[error(
        "the policy has format version `{got}`, this program reads version {expected}: convert it or update"
    )]
    Version {
        /// Read.
        expected: &'static str,
        /// Found.
        got: String,
    },
    /// A tensor is missing.
    #[error("the policy lacks the tensor `{tensor}` that its kind and shape ask for")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor that belongs to no layer.
    #[error(
        "the policy has a tensor `{tensor}` that its kind and shape do not ask for: remove it or mend `shape`"
    )]
    UnexpectedTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor of another number type.
    #[error("tensor `{tensor}` has type {got}; policies hold F32")]
    TensorType {
        /// Its name.
        tensor: String,
        /// Its type.
        got: String,
    },
    /// A tensor of another shape.
    #[error("tensor `{tensor}` has shape {got:?} but {expected:?} is needed")]
    TensorShape {
        /// Its name.
        tensor: String,
        /// Needed.
        expected: Vec<usize>,
        /// Found.
        got: Vec<usize>,
    },
    /// A value that is not finite, or beyond what can be computed with.
    #[error("tensor `{tensor}` entry {index} is {value}: values must be finite and within ±{limit:e}")]
    Value {
        /// Its tensor.
        tensor: String,
        /// Its place in the tensor, row-major.
        index: usize,
        /// The value.
        value: f32,
        /// Largest magnitude allowed.
        limit: f32,
    },
    /// The layers do not form a network.
    #[error("the policy's layers do not form a network: {0}")]
    Network(#[from] SnnError),
    /// The self-test came out differently here.
    #[error(
        "self-test: output {output} of step {step} is {got} here but {expected} where the policy was made: the file is \
         damaged or was written by a program that computes differently"
    )]
    SelfTest {
        /// Step of the test sequence.
        step: usize,
        /// Which output.
        output: usize,
        /// As recorded.
        expected: f32,
        /// As computed.
        got: f32,
    },
    /// A student where a guide is needed, or the reverse.
    #[error("the policy is of kind `{got}` but `{expected}` is needed here")]
    Kind {
        /// Needed.
        expected: &'static str,
        /// Found.
        got: &'static str,
    },
    /// Other layer widths than needed.
    #[error("the policy has shape {got} but {expected} is needed here")]
    Shape {
        /// Needed.
        expected: String,
        /// Found.
        got: String,
    },
    /// Made for another vehicle.
    #[error("the policy is for vehicle `{got}` but this is `{expected}`: load one trained for it")]
    Vehicle {
        /// This vehicle.
        expected: String,
        /// The policy's.
        got: String,
    },
    /// Made for a vehicle of this name that is another one.
    #[error(
        "the policy is for a vehicle `{vehicle}` that is not the one here: {differences}. Fly it with its own vehicle file, train \
         one for this vehicle, or give the vehicle a name of its own"
    )]
    Airframe {
        /// The name that both have.
        vehicle: String,
        /// What differs, field by field.
        differences: String,
    },
    /// Expects other observations than it would be given.
    #[error("the policy observes `{got}` but would be given `{expected}`: it would misread every state")]
    Observation {
        /// What it would be given.
        expected: String,
        /// What it expects.
        got: String,
    },
    /// Commands other actuators, or in another order.
    #[error("the policy commands `{got}` but the vehicle takes `{expected}`")]
    Action {
        /// What the vehicle takes.
        expected: String,
        /// What it commands.
        got: String,
    },
    /// Trained for another control rate.
    #[error(
        "the policy was trained for {got} Hz but runs at {expected} Hz: its neurons' time constants would be wrong"
    )]
    ControlRate {
        /// Rate here.
        expected: f64,
        /// The policy's.
        got: f64,
    },
    /// A signature is required.
    #[error("the policy is not signed, and trusted_keys is set: sign it with `spikewing policy sign`")]
    Unsigned,
    /// Signed by nobody trusted.
    #[error("the policy is signed by {signer}, which is not among trusted_keys: add the key if you trust it")]
    UntrustedSigner {
        /// The signer's public key in hex.
        signer: String,
    },
    /// The signature does not fit the content.
    #[error("the policy's signature by {signer} does not fit its content: it was changed after signing")]
    BadSignature {
        /// The signer's public key in hex.
        signer: String,
    },
    /// An announced sha256 that is none.
    #[error("sha256 `{text}` is not 64 lower-case hexadecimal digits")]
    DigestText {
        /// What was announced, shortened.
        text: String,
    },
    /// An update without a signature.
    #[error(
        "the update is not signed: only updates that the learner signed are taken (`updates: signed`); a file is swapped in \
         by ~/swap_policy"
    )]
    UnsignedUpdate,
    /// An update that nobody trusted has signed.
    #[error(
        "the update's signature is by none of the keys that are trusted here, or does not fit its version and sha256: it is \
         not this learner's"
    )]
    UpdateSignature,
    /// A key file that cannot be used.
    #[error("key file {}: {reason}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// Not a key.
    #[error("not a key ({reason}): a key is 64 hexadecimal digits")]
    Key {
        /// What is wrong.
        reason: &'static str,
    },
}
